//! Which broker is tried next, and after what pause. Pure: chance comes in as an argument.
//!
//! The list is in the order of preference. A connection that was of use is made again with the same broker; one that was
//! not goes to the next in the list, after a moment only, for the broker that is gone is not the one that is asked then.
//! When all were tried in vain there is a pause, which grows, and the list begins anew. While an alternative is connected
//! the preferred one is probed now and then.

use std::time::Duration;

use super::backoff::Backoff;

/// Most doublings of the time between two probes.
const MOST_DOUBLINGS: u32 = 4;

/// The brokers of a site by their place in the list, 0 being the preferred one.
#[derive(Clone, Debug)]
pub(super) struct Brokers {
    count: usize,
    current: usize,
    /// How many were tried in vain since the last pause.
    tried: usize,
    moment: Duration,
    backoff: Backoff,
    fail_back: Duration,
    /// The present try is a return to the preferred broker, which answered a probe.
    returning: bool,
    /// How often in a row such a return was in vain.
    vain_returns: u32,
}

impl Brokers {
    /// Starts with the preferred one of `count`; `retry` is the first and the longest pause.
    pub(super) fn new(count: usize, retry: (Duration, Duration), fail_back: Duration) -> Self {
        Self {
            count: count.max(1),
            current: 0,
            tried: 0,
            moment: retry.0,
            backoff: Backoff::new(retry),
            fail_back,
            returning: false,
            vain_returns: 0,
        }
    }

    /// Returns the place of the broker to connect with.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Notes that a connection was lost, or never made, and returns the pause before the next try; `useful` says whether it
    /// delivered anything, `chance` is 0.0..1.0.
    pub(super) fn lost(&mut self, useful: bool, chance: f64) -> Duration {
        let returning = std::mem::take(&mut self.returning);
        if useful {
            self.tried = 0;
            self.vain_returns = if self.current == 0 { 0 } else { self.vain_returns };
            self.backoff.reset();
            return self.backoff.pause(chance);
        }
        if returning {
            self.vain_returns = (self.vain_returns + 1).min(MOST_DOUBLINGS);
        }
        self.tried += 1;
        if self.tried < self.count {
            self.current = (self.current + 1) % self.count;
            return self.moment.mul_f64(chance.clamp(0.0, 1.0));
        }
        self.tried = 0;
        self.current = 0;
        self.backoff.pause(chance)
    }

    /// Returns how long the present connection stands before the preferred broker is probed, and again; `None` when it is
    /// the one connected. A return in vain doubles the time: a broker may answer and yet accept nobody.
    pub(super) fn probe_pause(&self, chance: f64) -> Option<Duration> {
        let spread = 0.75 + chance.clamp(0.0, 1.0) / 2.0;
        (self.current > 0).then(|| (self.fail_back * (1 << self.vain_returns)).mul_f64(spread))
    }

    /// Notes that the preferred broker answered a probe: it is the next to connect with.
    pub(super) fn go_back(&mut self) {
        self.current = 0;
        self.tried = 0;
        self.returning = true;
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PROBE: Duration = Duration::from_secs(600);

    fn three() -> Brokers {
        Brokers::new(3, (SECOND, 60 * SECOND), PROBE)
    }

    /// Loses connections that were of no use; returns broker and pause in seconds before each next try.
    fn in_vain(brokers: &mut Brokers, times: usize) -> Vec<(usize, u64)> {
        let lost = |brokers: &mut Brokers| brokers.lost(false, 1.0).as_secs();
        (0..times).map(|_| (lost(brokers), brokers.current())).map(|(pause, next)| (next, pause)).collect()
    }

    #[test]
    fn a_broker_that_cannot_be_reached_is_followed_by_the_next_and_only_a_whole_round_by_a_growing_pause() {
        let tries = in_vain(&mut three(), 9);
        assert_eq!(tries, [(1, 1), (2, 1), (0, 16), (1, 1), (2, 1), (0, 32), (1, 1), (2, 1), (0, 60)]);
    }

    #[test]
    fn within_a_round_the_pause_is_anything_up_to_the_first_so_that_a_city_does_not_move_in_one_second() {
        assert_eq!(three().lost(false, 0.0), Duration::ZERO);
        assert_eq!(three().lost(false, 0.5), SECOND / 2);
    }

    #[test]
    fn one_broker_alone_has_the_pauses_of_the_back_off() {
        let mut brokers = Brokers::new(1, (SECOND, 50 * SECOND), PROBE);
        assert_eq!(in_vain(&mut brokers, 4), [(0, 16), (0, 32), (0, 50), (0, 50)]);
    }

    #[test]
    fn a_connection_that_was_of_use_is_made_again_with_the_same_broker_first() {
        let mut brokers = three();
        in_vain(&mut brokers, 4);
        assert_eq!(brokers.current(), 1);
        assert_eq!((brokers.lost(true, 1.0), brokers.current()), (16 * SECOND, 1));
        assert_eq!(in_vain(&mut brokers, 3), [(2, 1), (0, 1), (0, 32)], "then the others, then the preferred one");
    }

    #[test]
    fn the_preferred_broker_is_probed_while_another_is_connected_and_not_at_the_same_second_everywhere() {
        let mut brokers = three();
        assert_eq!(brokers.probe_pause(0.5), None);
        brokers.lost(false, 0.0);
        let pauses = [0.0, 0.5, 1.0].map(|chance| brokers.probe_pause(chance).map(|pause| pause.as_secs()));
        assert_eq!(pauses, [Some(450), Some(600), Some(750)]);
        brokers.go_back();
        assert_eq!((brokers.current(), brokers.probe_pause(0.5)), (0, None));
    }

    #[test]
    fn a_preferred_broker_that_answers_probes_and_accepts_nobody_is_probed_more_rarely() {
        let mut brokers = three();
        brokers.lost(false, 0.0);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            brokers.go_back();
            brokers.lost(false, 0.0);
            pauses.push(brokers.probe_pause(0.5).map_or(0, |pause| pause.as_secs() / 600));
        }
        assert_eq!(pauses, [2, 4, 8, 16, 16, 16]);
        brokers.go_back();
        brokers.lost(true, 0.0);
        brokers.lost(false, 0.0);
        assert_eq!(brokers.probe_pause(0.5), Some(PROBE), "it was of use in between");
    }
}

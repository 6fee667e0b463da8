//! When a unit that does not answer is asked again.
//!
//! A dead unit costs a timeout each time it is asked. So after a few failures in a row it is left alone for a pause, then
//! asked once: a probe. A probe that fails doubles the pause; one that is answered ends the affair, and everything about
//! it is forgotten. The pause is never shorter than what keeps the probes within a share of the bus time, however long it
//! gets by that.

use core::time::Duration;

use crate::nanos;

/// How much a dead unit may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The share of the bus time that the probes of this unit may take, 1..=100; 0 is taken as 1. With 100 the unit is
    /// asked always.
    pub share_percent: u8,
    /// After so many failures in a row the unit is left alone; 0 is taken as 1.
    pub trip_after: u8,
    /// The pause is doubled up to this. A longer one that `share_percent` asks for is kept.
    pub longest_pause: Duration,
}

/// The breaker of one unit. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct Breaker {
    policy: Policy,
    state: State,
    /// The last pause, before it was spread.
    pause: Duration,
    seed: Option<u32>,
    /// How many units have the share together.
    units: u32,
}

/// What is known of the unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is asked as usual.
    Closed {
        /// Failures in a row until now.
        failures: u8,
    },
    /// It is left alone but for probes.
    Open {
        /// When this began.
        since: Duration,
        /// When the next probe may be sent.
        until: Duration,
        /// Failed askings since it began.
        probes: u32,
    },
}

/// Whether the unit may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Permit {
    /// As usual.
    Ask,
    /// Once: until its outcome is told, asking for a permit again gives another.
    Probe,
    /// Not before this time.
    NotBefore(Duration),
}

impl Breaker {
    /// Makes the breaker of a unit that is asked as usual.
    #[must_use]
    pub const fn new(policy: Policy) -> Self {
        Self { policy, state: State::Closed { failures: 0 }, pause: Duration::ZERO, seed: None, units: 1 }
    }

    /// Shortens its pauses by up to an eighth, never below the share, each time by another part that `seed` decides: units
    /// with different seeds that died together are not probed together.
    #[must_use]
    pub const fn spread_by(mut self, seed: u32) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Divides the share equally among so many dead units of the bus, from the next failure on; 0 is taken as 1.
    pub const fn share_among(&mut self, units: u32) {
        self.units = units;
    }

    /// The unit answered. Returns whether it had been left alone until then.
    pub fn answered(&mut self) -> bool {
        let recovered = matches!(self.state, State::Open { .. });
        self.state = State::Closed { failures: 0 };
        recovered
    }

    /// The unit failed at `now`, the end of an asking that took `cost` of the bus time, retries and silences included.
    /// Returns whether it is left alone from now on.
    pub fn failed(&mut self, now: Duration, cost: Duration) -> bool {
        let least = self.least_pause(cost);
        match self.state {
            State::Closed { failures } => {
                let failures = failures.saturating_add(1);
                self.state = State::Closed { failures };
                if failures < self.policy.trip_after || self.policy.share_percent >= 100 {
                    return false;
                }
                self.pause = least;
                self.state = State::Open { since: now, until: now.saturating_add(self.spread(least, 0)), probes: 0 };
                true
            }
            State::Open { since, until, probes } => {
                let probes = probes.saturating_add(1);
                let pause = if now < until {
                    // Asked without a permit: its failure says nothing new, but is paid for.
                    least
                } else {
                    self.pause = self.pause.saturating_mul(2).min(self.policy.longest_pause).max(least);
                    self.spread(least, probes)
                };
                let paid = now.max(until.saturating_add(cost));
                self.state = State::Open { since, until: paid.saturating_add(pause), probes };
                false
            }
        }
    }

    /// What kept it from answering may be over: the next probe need not wait.
    pub fn probe_at_once(&mut self, now: Duration) {
        if let State::Open { until, .. } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    /// Tells whether the unit may be asked at `now`.
    #[must_use]
    pub fn permit(&self, now: Duration) -> Permit {
        match self.state {
            State::Closed { .. } => Permit::Ask,
            State::Open { until, .. } if now < until => Permit::NotBefore(until),
            State::Open { .. } => Permit::Probe,
        }
    }

    /// Tells whether the unit is left alone but for probes.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Returns what is known of the unit.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The pause after which an asking of that cost has taken no more than the share.
    fn least_pause(&self, cost: Duration) -> Duration {
        let share = u128::from(self.policy.share_percent.clamp(1, 100));
        let rest = u128::from(self.units.max(1)).saturating_mul(100).saturating_sub(share);
        let nanos = cost.as_nanos().saturating_mul(rest).div_ceil(share);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// The pause, shortened by a part that no other unit shortens it by.
    fn spread(&self, least: Duration, probes: u32) -> Duration {
        let Some(seed) = self.seed else { return self.pause };
        let part = mix(u64::from(seed) << 32 | u64::from(probes)) % 1024;
        let less = (nanos(self.pause) >> 13).saturating_mul(part);
        self.pause.saturating_sub(Duration::from_nanos(less)).max(least)
    }
}

/// Scatters numbers: the finalizer of SplitMix64.
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

    use super::*;
    use proptest::prelude::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    const POLICY: Policy = Policy { share_percent: 5, trip_after: 3, longest_pause: s(300) };

    fn open(policy: Policy) -> Breaker {
        let mut breaker = Breaker::new(Policy { trip_after: 1, ..policy });
        assert!(breaker.failed(s(0), s(1)));
        breaker
    }

    #[test]
    fn a_unit_is_asked_as_usual_until_it_failed_so_often_in_a_row() {
        let mut breaker = Breaker::new(POLICY);
        assert!(!breaker.failed(s(1), s(1)));
        assert!(!breaker.failed(s(2), s(1)));
        assert!(!breaker.answered());
        assert!(!breaker.failed(s(3), s(1)));
        assert!(!breaker.failed(s(4), s(1)));
        assert_eq!((breaker.permit(s(4)), breaker.state()), (Permit::Ask, State::Closed { failures: 2 }));
        assert!(breaker.failed(s(5), s(1)));
        assert_eq!(breaker.permit(s(5)), Permit::NotBefore(s(24)), "nineteen times the second it cost");
        assert_eq!(breaker.state(), State::Open { since: s(5), until: s(24), probes: 0 });
    }

    #[test]
    fn each_failed_probe_doubles_the_pause_up_to_the_longest() {
        let mut breaker = open(POLICY);
        let mut now = s(0);
        for pause in [19, 38, 76, 152, 300, 300] {
            let until = now + s(pause);
            assert_eq!(breaker.permit(until - s(1)), Permit::NotBefore(until));
            assert_eq!(breaker.permit(until), Permit::Probe);
            now = until + s(1);
            assert!(!breaker.failed(now, s(1)), "it tripped long ago");
        }
        assert_eq!(breaker.state(), State::Open { since: s(0), until: now + s(300), probes: 6 });
    }

    #[test]
    fn a_pause_can_be_ended_and_a_unit_that_is_asked_as_usual_has_none() {
        let mut breaker = Breaker::new(POLICY);
        breaker.probe_at_once(s(1));
        assert_eq!(breaker.permit(s(1)), Permit::Ask);
        let mut breaker = open(POLICY);
        assert_eq!(breaker.permit(s(3)), Permit::NotBefore(s(19)));
        breaker.probe_at_once(s(3));
        assert_eq!(breaker.permit(s(3)), Permit::Probe);
        breaker.failed(s(4), s(1));
        assert_eq!(breaker.permit(s(4)), Permit::NotBefore(s(42)), "it goes on as after any other probe");
    }

    #[test]
    fn the_first_answered_probe_closes_it_and_everything_is_forgotten() {
        let mut breaker = Breaker::new(POLICY);
        for round in 0..3 {
            let start = s(10_000 * round);
            assert!(!breaker.failed(start, s(1)));
            assert!(!breaker.failed(start, s(1)));
            assert!(breaker.failed(start, s(1)));
            assert!(!breaker.failed(start + s(20), s(1)));
            assert_eq!(breaker.permit(start + s(20)), Permit::NotBefore(start + s(58)));
            assert!(breaker.answered());
            assert_eq!((breaker.permit(start + s(20)), breaker.state()), (Permit::Ask, State::Closed { failures: 0 }));
        }
    }

    #[test]
    fn a_dear_probe_is_followed_by_a_pause_longer_than_the_longest() {
        let mut breaker = open(POLICY);
        breaker.failed(s(100), s(60));
        assert_eq!(breaker.permit(s(100)), Permit::NotBefore(s(100 + 19 * 60)));
        breaker.failed(s(2000), s(1));
        assert_eq!(breaker.permit(s(2000)), Permit::NotBefore(s(2300)), "and that one is not doubled");
    }

    #[test]
    fn several_dead_units_have_the_share_together() {
        let mut breaker = open(POLICY);
        breaker.share_among(4);
        breaker.failed(s(100), s(1));
        assert_eq!(breaker.permit(s(100)), Permit::NotBefore(s(179)), "one second in eighty");
    }

    #[test]
    fn asking_without_a_permit_is_paid_for_and_does_not_double_the_pause() {
        let mut breaker = open(POLICY);
        assert!(!breaker.failed(s(10), s(1)));
        assert_eq!(breaker.permit(s(10)), Permit::NotBefore(s(19 + 1 + 19)));
        breaker.failed(s(40), s(1));
        assert_eq!(breaker.permit(s(40)), Permit::NotBefore(s(40 + 38)));
    }

    #[test]
    fn with_the_whole_bus_as_its_share_a_unit_is_asked_always() {
        let mut breaker = Breaker::new(Policy { share_percent: 100, ..POLICY });
        for round in 0..1000 {
            assert!(!breaker.failed(s(round), s(1)));
            assert_eq!(breaker.permit(s(round)), Permit::Ask);
        }
        assert!(!breaker.answered());
    }

    #[test]
    fn units_that_died_together_are_not_probed_together() {
        let permits = [1, 2, 3, 4].map(|seed| {
            let mut breaker = open(POLICY).spread_by(seed);
            (0..5).for_each(|round| assert!(!breaker.failed(s(1000 * round), s(1))));
            breaker.permit(s(4000))
        });
        for (place, permit) in permits.iter().enumerate() {
            let Permit::NotBefore(until) = permit else { panic!("{permit:?}") };
            assert!((s(4262)..=s(4300)).contains(until), "{permits:?}");
            assert!(!permits[..place].contains(permit), "{permits:?}");
        }
    }

    proptest! {
        #[test]
        fn a_dead_unit_takes_no_more_than_its_share_and_one_probe(
            share_percent in 0_u8..120,
            trip_after in 0_u8..10,
            longest_pause in 0_u64..600,
            seed in prop::option::of(any::<u32>()),
            units in 0_u32..30,
            askings in prop::collection::vec((1_u64..5_000, 0_u64..100_000, prop::bool::weighted(0.1)), 1..100),
        ) {
            let policy = Policy { share_percent, trip_after, longest_pause: s(longest_pause) };
            let mut breaker = Breaker::new(policy);
            if let Some(seed) = seed {
                breaker = breaker.spread_by(seed);
            }
            breaker.share_among(units);
            let (mut now, mut tripped) = (s(0), None);
            let mut spent = s(0);
            for (cost, late, uncalled) in askings {
                let cost = Duration::from_millis(cost);
                if let Permit::NotBefore(until) = breaker.permit(now) {
                    prop_assert!(until > now);
                    // Someone may ask at a time of his own, once; what it costs is paid for as well.
                    now = if uncalled { now } else { until + Duration::from_millis(late) };
                }
                let probe = tripped.is_some();
                now += cost;
                if breaker.failed(now, cost) {
                    prop_assert!(tripped.is_none() && share_percent < 100);
                    tripped = Some(now);
                }
                if probe {
                    spent += cost;
                }
                if let (Some(tripped), Permit::NotBefore(until)) = (tripped, breaker.permit(now)) {
                    let share = u32::from(share_percent.clamp(1, 100));
                    prop_assert!(spent * 100 * units.max(1) <= (until - tripped) * share, "{:?} of {:?}", spent, until - tripped);
                }
            }
            prop_assert_eq!(breaker.answered(), tripped.is_some());
            prop_assert_eq!(breaker.permit(now), Permit::Ask);
        }

        #[test]
        fn no_time_and_no_policy_panics(
            share_percent: u8, trip_after: u8, longest_pause: Duration, now: Duration, cost: Duration, seed: u32,
        ) {
            let mut breaker = Breaker::new(Policy { share_percent, trip_after, longest_pause }).spread_by(seed);
            for _ in 0..300 {
                breaker.failed(now, cost);
                breaker.failed(Duration::MAX, Duration::MAX);
            }
            prop_assert_eq!(breaker.permit(Duration::ZERO) == Permit::Ask, share_percent >= 100);
        }
    }
}

//! How long a verdict holds.

use core::time::Duration;

/// How long a verdict holds the first time.
const FIRST: Duration = Duration::from_secs(10 * 60);
/// How long it holds at most, and how long it is remembered after that.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// After so many confirmations it holds for [`LONGEST`].
const MOST_CONFIRMATIONS: u8 = 8;

/// The term of one verdict: it runs, then it is tried again, and when it is confirmed it runs twice as long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Term {
    until: Duration,
    confirmations: u8,
    running: bool,
}

impl Term {
    pub(super) fn begin(now: Duration) -> Self {
        Self { until: Duration::ZERO, confirmations: 0, running: true }.renewed(now)
    }

    /// Returns what was stored: `left` is zero for a verdict that is to be tried again.
    pub(super) fn restored(now: Duration, left: Duration, confirmations: u8) -> Self {
        let left = left.min(LONGEST);
        let confirmations = confirmations.min(MOST_CONFIRMATIONS);
        Self { until: now.saturating_add(left), confirmations, running: left > Duration::ZERO }
    }

    /// The same verdict again after it lapsed.
    pub(super) fn confirmed(self, now: Duration) -> Self {
        let confirmations = self.confirmations.saturating_add(1).min(MOST_CONFIRMATIONS);
        Self { confirmations, running: true, ..self }.renewed(now)
    }

    /// The same term from its begin.
    pub(super) fn renewed(self, now: Duration) -> Self {
        let doubled = FIRST.saturating_mul(1_u32.checked_shl(self.confirmations.into()).unwrap_or(u32::MAX));
        Self { until: now.saturating_add(doubled.min(LONGEST)), ..self }
    }

    pub(super) fn suspend(&mut self) {
        self.running = false;
    }

    /// Ends the term if its time is over, and says whether it ended now.
    pub(super) fn lapse(&mut self, now: Duration) -> bool {
        let lapses = self.running && now >= self.until;
        self.running &= !lapses;
        lapses
    }

    pub(super) fn is_running(self) -> bool {
        self.running
    }

    pub(super) fn is_running_at(self, now: Duration) -> bool {
        self.running && now < self.until
    }

    /// Says whether it is to lapse or to be forgotten.
    pub(super) fn is_over(self, now: Duration) -> bool {
        if self.running { now >= self.until } else { self.is_forgotten(now) }
    }

    /// Says whether even the confirmations are to be forgotten.
    pub(super) fn is_forgotten(self, now: Duration) -> bool {
        !self.running && now >= self.until.saturating_add(LONGEST)
    }

    pub(super) fn left(self, now: Duration) -> Duration {
        if self.running { self.until.saturating_sub(now) } else { Duration::ZERO }
    }

    pub(super) fn confirmations(self) -> u8 {
        self.confirmations
    }

    /// What gives way first has the lowest rank: a lapsed term before a running one, then the one that ends first.
    pub(super) fn rank(self) -> (bool, Duration) {
        (self.running, self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_doubles_with_each_confirmation_up_to_a_day() {
        let mut now = Duration::ZERO;
        let mut term = Term::begin(now);
        let mut minutes = [0; 10];
        for length in &mut minutes {
            *length = term.left(now).as_secs() / 60;
            now += term.left(now);
            assert!(!term.is_running_at(now) && term.lapse(now) && !term.lapse(now));
            term = term.confirmed(now);
        }
        assert_eq!(minutes, [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]);
    }

    #[test]
    fn a_lapsed_term_is_remembered_for_a_day() {
        let mut term = Term::begin(Duration::ZERO);
        assert!(term.lapse(FIRST));
        assert!(!term.is_forgotten(LONGEST) && term.is_forgotten(LONGEST + FIRST));
    }
}

//! Which observations a stretch held that cannot be read: those whose numbers are missing behind it. Pure.

use std::collections::HashMap;

use ganglion_protocols::{Cri, Gap, LossCause, Timestamp};

/// What one reader of a log knows of the numbers, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Missing {
    /// The last number of each resource that is accounted for, and when it was measured.
    last: HashMap<Cri, (u64, Timestamp)>,
    /// Resources of which a hole may have held something, until their next number is seen, and why there is a hole.
    suspects: HashMap<Cri, LossCause>,
    /// Latest time of measurement seen.
    latest: Timestamp,
    found: Vec<Gap>,
}

impl Missing {
    /// Notes an observation.
    pub(super) fn observed(&mut self, resource: Cri, seq: u64, t: Timestamp) {
        self.latest = self.latest.max(t);
        if !self.suspects.is_empty()
            && let Some(cause) = self.suspects.remove(&resource)
        {
            self.compare(resource, seq.saturating_sub(1), t, cause);
        }
        self.last.insert(resource, (seq, t));
    }

    /// Notes what a segment carries over: numbers up to this one were given before it.
    pub(super) fn carried(&mut self, resource: Cri, seq: u64) {
        if let Some(cause) = self.suspects.remove(&resource) {
            self.compare(resource, seq, self.latest, cause);
        }
        let known = self.last.entry(resource).or_insert((0, self.latest));
        known.0 = known.0.max(seq);
    }

    /// Notes a loss that is declared already.
    pub(super) fn declared(&mut self, gap: &Gap) {
        let resource = gap.resource();
        if let Some(cause) = self.suspects.get(&resource).copied() {
            self.compare(resource, gap.first().saturating_sub(1), gap.span().0, cause);
        }
        let known = self.last.entry(resource).or_insert((0, gap.span().1));
        known.0 = known.0.max(gap.last());
    }

    /// Notes a stretch that cannot be read; what it held is lost for this cause.
    pub(super) fn hole(&mut self, cause: LossCause) {
        for resource in self.last.keys() {
            let own = self.suspects.entry(*resource).or_insert(cause);
            *own = (*own).min(cause);
        }
    }

    /// Says whether a hole may still have held something unaccounted for.
    pub(super) fn suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Says that the reader goes on elsewhere: numbers between here and there are others' business.
    pub(super) fn leave(&mut self) {
        self.suspects.clear();
        self.last.clear();
    }

    /// Takes what was found missing.
    pub(super) fn take(&mut self) -> Vec<Gap> {
        std::mem::take(&mut self.found)
    }

    /// Declares the numbers behind the last accounted one up to `up_to`.
    fn compare(&mut self, resource: Cri, up_to: u64, until: Timestamp, cause: LossCause) {
        let Some((last, t)) = self.last.get(&resource).copied() else { return };
        if last < up_to {
            self.found.extend(Gap::whole(resource, (last + 1, up_to), (t, until), cause));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::tests::resource;

    fn t(second: i64) -> Timestamp {
        Timestamp::from_unix_nanos(second * 1_000_000_000)
    }

    fn numbers(missing: &mut Missing) -> Vec<(Cri, u64, u64)> {
        missing.take().iter().map(|gap| (gap.resource(), gap.first(), gap.last())).collect()
    }

    #[test]
    fn numbers_missing_behind_a_damaged_stretch_are_found_once_with_their_times() {
        let (a, b) = (resource(1), resource(2));
        let mut missing = Missing::default();
        missing.observed(a, 4, t(4));
        missing.observed(b, 9, t(4));
        missing.hole(LossCause::Damaged);
        missing.observed(a, 7, t(9));
        let gaps = missing.take();
        assert_eq!(gaps, [Gap::whole(a, (5, 6), (t(4), t(9)), LossCause::Damaged).unwrap()]);
        missing.observed(b, 10, t(9));
        missing.observed(a, 8, t(10));
        assert!(missing.take().is_empty() && !missing.suspects());
    }

    #[test]
    fn a_number_left_out_without_damage_is_somebody_elses_to_declare() {
        let mut missing = Missing::default();
        missing.observed(resource(1), 4, t(4));
        missing.observed(resource(1), 9, t(9));
        assert!(missing.take().is_empty());
    }

    #[test]
    fn what_the_next_segment_carries_over_answers_for_resources_that_are_silent() {
        let (a, b) = (resource(1), resource(2));
        let mut missing = Missing::default();
        missing.carried(a, 3);
        missing.carried(b, 5);
        missing.hole(LossCause::Damaged);
        missing.carried(a, 3);
        missing.carried(b, 6);
        assert_eq!(numbers(&mut missing), [(b, 6, 6)]);
    }

    #[test]
    fn what_is_declared_already_is_not_declared_again() {
        let a = resource(1);
        let mut missing = Missing::default();
        missing.observed(a, 3, t(3));
        missing.hole(LossCause::Damaged);
        missing.declared(&Gap::whole(a, (6, 8), (t(6), t(8)), LossCause::DiskFull).unwrap());
        missing.observed(a, 10, t(10));
        assert_eq!(numbers(&mut missing), [(a, 4, 5), (a, 9, 9)]);
    }

    #[test]
    fn a_reader_that_goes_on_elsewhere_finds_nothing_missing_between() {
        let mut missing = Missing::default();
        missing.observed(resource(1), 3, t(3));
        missing.hole(LossCause::Damaged);
        missing.leave();
        missing.observed(resource(1), 10, t(10));
        assert!(missing.take().is_empty());
    }
}

//! Answers that may still come to requests nobody waits for any more.
//!
//! An RTU frame carries no transaction number (MODBUS over Serial Line V1.02 §2.5.1), so a late answer can only be told
//! from the answer to another request by its unit, function and length. A request that was given up makes just that
//! signature suspect. A suspicion ends when the answer is heard or when its time is over, never because there is no room:
//! then everything of the unit, at last everything, is suspect.

use core::time::Duration;

use super::expect::{Answer, Expect};

/// Suspicions held one by one.
const ROOM: usize = 16;

/// By what the answer to a request can be told from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Signature {
    pub(super) unit: u8,
    pub(super) function: u8,
    pub(super) answer: Answer,
}

impl Signature {
    pub(super) const fn of(unit: u8, expect: &Expect) -> Self {
        Self { unit, function: expect.function(), answer: expect.answer() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Suspicion {
    unit: u8,
    /// `None`: everything of the unit.
    what: Option<(u8, Answer)>,
    /// Answers that may come.
    due: u8,
    until: Duration,
}

impl Suspicion {
    fn covers(&self, signature: &Signature) -> bool {
        self.unit == signature.unit
            && self
                .what
                .is_none_or(|(function, answer)| function == signature.function && answer.confusable(signature.answer))
    }

    fn covers_function(&self, unit: u8, function: u8) -> bool {
        self.unit == unit && self.what.is_none_or(|(suspect, _)| suspect == function)
    }
}

/// All suspicions of one line.
#[derive(Clone, Debug)]
pub(super) struct Suspects {
    all_until: Duration,
    table: [Option<Suspicion>; ROOM],
}

impl Suspects {
    /// Everything is suspect until `all_until`.
    pub(super) const fn new(all_until: Duration) -> Self {
        Self { all_until, table: [None; ROOM] }
    }

    /// One more answer with this signature may come before `until`.
    pub(super) fn suspect(&mut self, now: Duration, signature: Signature, until: Duration) {
        let what = Some((signature.function, signature.answer));
        for slot in &mut self.table {
            if slot.is_some_and(|held| held.until <= now) {
                *slot = None;
            }
        }
        if let Some(held) =
            self.table.iter_mut().flatten().find(|held| held.unit == signature.unit && held.what == what)
        {
            held.due = held.due.saturating_add(1);
            held.until = held.until.max(until);
        } else if let Some(free) = self.table.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(Suspicion { unit: signature.unit, what, due: 1, until });
        } else {
            self.widen(signature.unit, until);
        }
    }

    /// Makes room by suspecting more than needed.
    fn widen(&mut self, unit: u8, until: Duration) {
        let mut latest = None;
        for slot in &mut self.table {
            if let Some(held) = slot.take_if(|held| held.unit == unit) {
                latest = latest.max(Some(held.until));
            }
        }
        match (latest, self.table.iter_mut().find(|slot| slot.is_none())) {
            (Some(latest), Some(free)) => {
                *free = Some(Suspicion { unit, what: None, due: u8::MAX, until: until.max(latest) });
            }
            _ => self.all_until = self.all_until.max(until),
        }
    }

    /// Returns when nothing with this signature is suspect any more; zero if nothing is.
    pub(super) fn clear_at(&self, signature: &Signature) -> Duration {
        let latest = self.table.iter().flatten().filter(|held| held.covers(signature)).map(|held| held.until).max();
        self.all_until.max(latest.unwrap_or_default())
    }

    /// Says whether an answer of this unit and function, of whatever length, may still come.
    pub(super) fn of_function(&self, now: Duration, unit: u8, function: u8) -> bool {
        now < self.all_until || self.alive(now).any(|held| held.covers_function(unit, function))
    }

    /// Says whether anything of this unit may still come.
    pub(super) fn of_unit(&self, now: Duration, unit: u8) -> bool {
        now < self.all_until || self.alive(now).any(|held| held.unit == unit)
    }

    /// An answer was heard. Returns whether one like it was due; it is not any more once `echo` is over, for a unit or an
    /// adapter may say it twice, and the reader of the port see a pause of that length between.
    pub(super) fn settle(&mut self, now: Duration, heard: &Signature, echo: Duration) -> bool {
        let Some(slot) =
            self.table.iter_mut().find(|slot| slot.is_some_and(|held| held.until > now && held.covers(heard)))
        else {
            return now < self.all_until;
        };
        let kept = slot.filter(|held| held.due == 1 && !echo.is_zero());
        Self::one_less(slot);
        if let Some(held) = kept {
            *slot = Some(Suspicion { until: held.until.min(now.saturating_add(echo)), ..held });
        }
        true
    }

    /// An exception answer was heard, of which the request is unknown. Returns whether any could have been due; if it can
    /// only have been one, it is not any more.
    pub(super) fn settle_exception(&mut self, now: Duration, unit: u8, function: u8) -> bool {
        let mut due = self
            .table
            .iter_mut()
            .filter(|slot| slot.is_some_and(|held| held.until > now && held.covers_function(unit, function)));
        let (first, second) = (due.next(), due.next());
        match (first, second) {
            (Some(slot), None) if slot.is_some_and(|held| held.due == 1) => {
                *slot = None;
                true
            }
            (first, _) => first.is_some() || now < self.all_until,
        }
    }

    fn one_less(slot: &mut Option<Suspicion>) {
        if let Some(held) = slot
            && held.due < u8::MAX
        {
            held.due = held.due.saturating_sub(1);
            if held.due == 0 {
                *slot = None;
            }
        }
    }

    fn alive(&self, now: Duration) -> impl Iterator<Item = &Suspicion> {
        self.table.iter().flatten().filter(move |held| held.until > now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const fn read(unit: u8, bytes: u8) -> Signature {
        Signature { unit, function: 3, answer: Answer::Bytes(bytes) }
    }

    #[test]
    fn only_the_same_unit_function_and_length_are_suspect() {
        let mut suspects = Suspects::new(ms(0));
        suspects.suspect(ms(0), read(1, 4), ms(300));
        assert_eq!(suspects.clear_at(&read(1, 4)), ms(300));
        assert_eq!(suspects.clear_at(&read(1, 6)), ms(0));
        assert_eq!(suspects.clear_at(&read(2, 4)), ms(0));
        assert_eq!(suspects.clear_at(&Signature { function: 4, ..read(1, 4) }), ms(0));
    }

    #[test]
    fn as_many_answers_settle_as_were_due() {
        let mut suspects = Suspects::new(ms(0));
        suspects.suspect(ms(0), read(1, 4), ms(300));
        suspects.suspect(ms(0), read(1, 4), ms(200));
        assert!(suspects.settle(ms(1), &read(1, 4), Duration::ZERO));
        assert_eq!(suspects.clear_at(&read(1, 4)), ms(300));
        assert!(suspects.settle(ms(2), &read(1, 4), Duration::ZERO));
        assert_eq!(suspects.clear_at(&read(1, 4)), ms(0));
        assert!(!suspects.settle(ms(3), &read(1, 4), Duration::ZERO));
    }

    #[test]
    fn what_was_heard_late_is_suspect_a_little_longer_and_never_longer_than_before() {
        let mut suspects = Suspects::new(ms(0));
        suspects.suspect(ms(0), read(1, 4), ms(300));
        assert!(suspects.settle(ms(100), &read(1, 4), ms(50)));
        assert_eq!(suspects.clear_at(&read(1, 4)), ms(150));
        assert!(suspects.settle(ms(120), &read(1, 4), ms(50)), "the second copy");
        assert_eq!(suspects.clear_at(&read(1, 4)), ms(150));
        suspects.suspect(ms(200), read(1, 6), ms(300));
        assert!(suspects.settle(ms(290), &read(1, 6), ms(50)));
        assert_eq!(suspects.clear_at(&read(1, 6)), ms(300));
    }

    #[test]
    fn an_exception_settles_only_what_it_must_have_answered() {
        let mut suspects = Suspects::new(ms(0));
        suspects.suspect(ms(0), read(1, 4), ms(300));
        suspects.suspect(ms(0), read(1, 6), ms(300));
        assert!(suspects.settle_exception(ms(1), 1, 3));
        assert_eq!(suspects.clear_at(&read(1, 4)), ms(300));
        assert_eq!(suspects.clear_at(&read(1, 6)), ms(300));
        assert!(suspects.settle(ms(1), &read(1, 6), Duration::ZERO));
        assert!(suspects.settle_exception(ms(1), 1, 3));
        assert_eq!(suspects.clear_at(&read(1, 4)), ms(0));
    }

    #[test]
    fn a_full_table_suspects_more_and_forgets_nothing() {
        let mut suspects = Suspects::new(ms(0));
        for place in 0_u8..16 {
            suspects.suspect(ms(0), read(1 + place / 8, 2 + place * 2), ms(300 + u64::from(place)));
        }
        suspects.suspect(ms(0), read(2, 200), ms(100));
        assert_eq!(suspects.clear_at(&read(2, 250)), ms(315), "everything of unit 2");
        assert_eq!(suspects.clear_at(&read(1, 250)), ms(0));
        for unit in 3..=9 {
            suspects.suspect(ms(0), read(unit, 2), ms(200));
        }
        assert_eq!(suspects.clear_at(&read(99, 2)), ms(0));
        suspects.suspect(ms(0), read(10, 2), ms(400));
        assert_eq!(suspects.clear_at(&read(99, 2)), ms(400), "everything");
    }

    #[test]
    fn what_is_over_makes_room() {
        let mut suspects = Suspects::new(ms(0));
        for unit in 0..16 {
            suspects.suspect(ms(0), read(unit, 2), ms(300));
        }
        suspects.suspect(ms(300), read(77, 2), ms(600));
        assert_eq!(suspects.clear_at(&read(78, 2)), ms(0));
        assert_eq!(suspects.clear_at(&read(77, 2)), ms(600));
    }
}

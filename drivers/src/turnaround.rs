//! How long to wait for the answer of one unit.
//!
//! A fixed timeout is either too long, and a lost answer costs a second of the line, or too short for the one unit that
//! thinks longer. So the patience with a unit is learnt from its answers, as TCP learns when to send again (RFC 6298): the
//! smoothed mean and four deviations. Three things differ:
//!
//! - A unit that is quick as a rule and slow now and then, say while it writes to its flash, is waited for as long as it
//!   takes when it is slow: the longest answer is remembered, and forgotten slowly.
//! - An answer that was given up teaches nothing, since nobody knows when it would have come. So after a lone miss the
//!   patience reaches out, twice as far each time, until an answer comes that needed it. If even the longest patience
//!   brings none, the answers are lost and not late, and reaching out rests for a while.
//! - After a miss the next patience is doubled, and the next answer ends that.

use core::time::Duration;

use crate::nanos;

/// Added to what was learnt: a USB adapter hands over what it heard in lumps of 16 ms.
const MARGIN: u64 = 20_000_000;

/// After this many answers the memory of the longest has faded to a third of what it exceeds the mean by; and so long does
/// reaching out last, or rest.
const MEMORY: u16 = 1 << FADING;
const FADING: u32 = 10;

/// A unit that missed more answers than these in a row was away; that says nothing about its pace.
const LONE_MISSES: u8 = 3;

/// The pace of one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turnaround {
    longest: u64,
    floor: u64,
    pace: Option<Pace>,
    search: Search,
    /// Requests without an answer since the last answer.
    misses: u8,
}

/// What its answers taught, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pace {
    mean: u64,
    deviation: u64,
    /// The longest answer, fading.
    peak: u64,
}

/// Whether slower answers than the known ones are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Search {
    Off,
    /// The patience is `to` at least, for so many more answers.
    Reaching {
        to: u64,
        left: u16,
    },
    /// Missing answers are taken for lost, for so many more answers.
    Resting {
        left: u16,
    },
}

impl Turnaround {
    /// Knows nothing: waits for `longest`, the configured timeout, which is never exceeded. Once something is known, waits
    /// for `floor` at least, unless `longest` is shorter.
    #[must_use]
    pub fn new(longest: Duration, floor: Duration) -> Self {
        let (longest, floor) = (nanos(longest), nanos(floor));
        Self { longest, floor: floor.min(longest), pace: None, search: Search::Off, misses: 0 }
    }

    /// Learns from an answer the time from the end of the request to its first byte. An answer to a request that was given
    /// up teaches as much, if its time is known.
    pub fn answered(&mut self, took: Duration) {
        let took = nanos(took).min(self.longest);
        let usual = self.usual();
        self.search = self.search.answered();
        if took > usual {
            self.search = Search::Off;
        } else if (1..=LONE_MISSES).contains(&self.misses) {
            self.search = self.search.missed(usual, self.longest);
        }
        self.misses = 0;
        let first = Pace { mean: took, deviation: took / 2, peak: took };
        self.pace = Some(self.pace.map_or(first, |pace| pace.with(took)));
    }

    /// The unit did not answer in time.
    pub fn missed(&mut self) {
        self.misses = self.misses.saturating_add(1);
    }

    /// Returns how long to wait from the end of the next request to the first byte of its answer.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let reach = match self.search {
            Search::Reaching { to, .. } => to,
            Search::Off | Search::Resting { .. } => 0,
        };
        let doubled = 1_u64.checked_shl(u32::from(self.misses)).unwrap_or(u64::MAX);
        Duration::from_nanos(self.usual().max(reach).saturating_mul(doubled).min(self.longest))
    }

    /// Returns how long the unit takes on average, for reckoning what its answers cost. Before the first answer that is
    /// the floor.
    #[must_use]
    pub fn typical(&self) -> Duration {
        Duration::from_nanos(self.pace.map_or(self.floor, |pace| pace.mean))
    }

    /// The patience that the answers so far ask for.
    fn usual(&self) -> u64 {
        self.pace.map_or(self.longest, |pace| pace.patience().clamp(self.floor, self.longest))
    }
}

impl Pace {
    fn with(self, took: u64) -> Self {
        let peak = self.peak.saturating_sub(self.peak.saturating_sub(self.mean) >> FADING);
        Self {
            mean: towards(self.mean, took, 8),
            deviation: towards(self.deviation, took.abs_diff(self.mean), 4),
            peak: peak.max(took),
        }
    }

    fn patience(self) -> u64 {
        let spread = self.mean.saturating_add(self.deviation.saturating_mul(4));
        let slowest = self.peak.saturating_add(self.peak / 4);
        spread.max(slowest).saturating_add(MARGIN)
    }
}

impl Search {
    fn answered(self) -> Self {
        match self {
            Self::Off | Self::Reaching { left: 0, .. } | Self::Resting { left: 0 } => Self::Off,
            Self::Reaching { to, left } => Self::Reaching { to, left: left.saturating_sub(1) },
            Self::Resting { left } => Self::Resting { left: left.saturating_sub(1) },
        }
    }

    fn missed(self, usual: u64, longest: u64) -> Self {
        let reach = match self {
            Self::Off => usual,
            Self::Reaching { to, .. } => to.max(usual),
            Self::Resting { .. } => return self,
        };
        if reach >= longest {
            return Self::Resting { left: MEMORY };
        }
        Self::Reaching { to: reach.saturating_mul(2).min(longest), left: MEMORY }
    }
}

/// Moves `from` by one part of `parts` of its way to `to`.
const fn towards(from: u64, to: u64, parts: u64) -> u64 {
    let step = match to.abs_diff(from).checked_div(parts) {
        Some(step) => step,
        None => 0,
    };
    if to > from { from.saturating_add(step) } else { from.saturating_sub(step) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn unit() -> Turnaround {
        Turnaround::new(ms(1000), ms(50))
    }

    fn steady(took: Duration) -> Turnaround {
        let mut unit = unit();
        (0..200).for_each(|_| unit.answered(took));
        unit
    }

    /// A unit behind a line, and what came of asking it.
    #[derive(Default, Debug)]
    struct Tally {
        slow: u32,
        slow_given_up: u32,
        given_up: u32,
        waited_in_vain: Duration,
    }

    /// Asks `count` times; `dice` gives the time of each answer from a number without a pattern, `None` for never.
    fn ask(unit: &mut Turnaround, count: u32, seed: &mut u32, dice: impl Fn(u32) -> Option<Duration>) -> Tally {
        let mut tally = Tally::default();
        for _ in 0..count {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let took = dice(*seed >> 8);
            let patience = unit.patience();
            let slow = took.is_none_or(|took| took >= ms(300));
            tally.slow += u32::from(slow);
            match took {
                Some(took) if took <= patience => unit.answered(took),
                _ => {
                    unit.missed();
                    tally.given_up += 1;
                    tally.slow_given_up += u32::from(slow);
                    tally.waited_in_vain += patience;
                }
            }
        }
        tally
    }

    #[test]
    fn before_the_first_answer_the_configured_timeout_counts() {
        let mut unit = unit();
        assert_eq!((unit.patience(), unit.typical()), (ms(1000), ms(50)));
        unit.missed();
        assert_eq!(unit.patience(), ms(1000));
    }

    #[test]
    fn the_patience_comes_down_to_the_pace_of_the_unit_and_not_below_the_floor() {
        let mut unit = unit();
        unit.answered(ms(100));
        assert_eq!(unit.patience(), ms(320), "mean 100, deviation 50, margin 20");
        let mut last = unit.patience();
        for _ in 0..20 {
            unit.answered(ms(100));
            assert!(unit.patience() <= last);
            last = unit.patience();
        }
        assert_eq!(
            (unit.patience(), unit.typical()),
            (ms(145), ms(100)),
            "a quarter more than the longest, and the margin"
        );
        assert_eq!(steady(ms(3)).patience(), ms(50));
        assert_eq!(steady(ms(3)).typical(), ms(3));
    }

    #[test]
    fn each_miss_doubles_the_patience_up_to_the_longest_and_the_next_answer_brings_it_back() {
        let mut unit = steady(ms(20));
        for patience in [50, 100, 200, 400, 800, 1000, 1000] {
            assert_eq!(unit.patience(), ms(patience));
            unit.missed();
        }
        (0..300).for_each(|_| unit.missed());
        assert_eq!(unit.patience(), ms(1000));
        unit.answered(ms(20));
        assert_eq!(unit.patience(), ms(50), "it was away; that says nothing about its pace");
    }

    #[test]
    fn after_a_lone_miss_the_patience_reaches_out_until_the_slow_answer_is_known() {
        let mut unit = steady(ms(20));
        for patience in [50, 100, 200] {
            assert_eq!(unit.patience(), ms(patience));
            unit.missed();
            unit.answered(ms(20));
        }
        assert_eq!(unit.patience(), ms(400));
        unit.answered(ms(300));
        (0..20).for_each(|_| unit.answered(ms(20)));
        assert!((ms(380)..ms(400)).contains(&unit.patience()), "{:?}", unit.patience());
    }

    #[test]
    fn where_no_patience_brings_an_answer_the_answers_are_lost_and_reaching_out_rests() {
        let mut unit = steady(ms(20));
        for patience in [50, 100, 200, 400, 800, 1000, 50, 50, 50] {
            assert_eq!(unit.patience(), ms(patience));
            unit.missed();
            unit.answered(ms(20));
        }
        (0..MEMORY).for_each(|_| unit.answered(ms(20)));
        unit.missed();
        unit.answered(ms(20));
        assert_eq!(unit.patience(), ms(100), "it is tried again");
    }

    #[test]
    fn of_a_unit_that_is_slow_once_in_fifty_fewer_than_one_in_fifty_slow_answers_are_given_up() {
        let dice =
            |number: u32| Some(if number.is_multiple_of(50) { ms(300) } else { ms(15 + u64::from(number % 11)) });
        let (mut unit, mut seed) = (unit(), 1);
        ask(&mut unit, 1_000, &mut seed, dice);
        let tally = ask(&mut unit, 50_000, &mut seed, dice);
        assert!(tally.slow > 800 && tally.slow_given_up * 50 < tally.slow, "{tally:?}");
        assert_eq!(tally.given_up, tally.slow_given_up, "{tally:?}");
        assert!(unit.typical() < ms(60));
    }

    #[test]
    fn a_line_that_loses_one_answer_in_a_hundred_does_not_wait_the_longest_time_for_them() {
        let dice = |number: u32| (!number.is_multiple_of(100)).then(|| ms(15 + u64::from(number % 11)));
        let (mut unit, mut seed) = (unit(), 1);
        let tally = ask(&mut unit, 50_000, &mut seed, dice);
        assert!(tally.given_up > 400 && tally.given_up == tally.slow, "{tally:?}");
        assert!(tally.waited_in_vain / tally.given_up < ms(300), "{tally:?}");
    }

    #[test]
    fn a_unit_that_becomes_slower_for_good_is_followed() {
        let mut unit = steady(ms(20));
        let tally = ask(&mut unit, 100, &mut 1, |_| Some(ms(700)));
        assert!(tally.given_up <= 6, "{tally:?}");
        assert!(unit.patience() > ms(700));
    }

    #[test]
    fn one_slow_answer_is_forgotten_in_the_end() {
        let mut unit = steady(ms(20));
        unit.answered(ms(900));
        assert_eq!(unit.patience(), ms(1000));
        (0..8 * MEMORY).for_each(|_| unit.answered(ms(20)));
        assert_eq!(unit.patience(), ms(50));
    }

    proptest! {
        #[test]
        fn the_patience_stays_between_the_floor_and_the_longest_and_never_falls_by_a_miss(
            longest in 0_u64..5_000,
            floor in 0_u64..500,
            answers in prop::collection::vec(prop::option::of(0_u64..6_000), 0..200),
        ) {
            let mut unit = Turnaround::new(ms(longest), ms(floor));
            for answer in answers {
                let before = unit.patience();
                match answer {
                    Some(took) => unit.answered(ms(took)),
                    None => {
                        unit.missed();
                        prop_assert!(unit.patience() >= before);
                    }
                }
                prop_assert!(unit.patience() <= ms(longest));
                prop_assert!(unit.patience() >= ms(floor.min(longest)));
                prop_assert!(unit.typical() <= ms(longest));
            }
        }

        #[test]
        fn no_time_panics(longest: Duration, floor: Duration, took: Duration) {
            let mut unit = Turnaround::new(longest, floor);
            for took in [took, Duration::MAX, Duration::ZERO, took] {
                unit.answered(took);
                unit.missed();
            }
            prop_assert!(unit.patience() <= longest);
        }
    }
}

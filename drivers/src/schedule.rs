//! When which device of a bus is polled.
//!
//! Every device has a grid of slots, one an interval. Of the slots that are due the one with the earliest deadline comes
//! first; its deadline is the beginning of the next slot. Grids are shifted against each other so that the devices of a
//! bus do not burst. A slot whose successor has begun before its turn came is missed, and never made up for.
//!
//! A device that waits keeps its deadline, and a device that was served gets one after the end of its poll; so no device
//! starves, however little of what is asked the bus can carry.

use core::time::Duration;

/// The schedule of one bus. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct Schedule<S> {
    slots: S,
    polling: Option<usize>,
}

/// The next slot of one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    interval: u64,
    due: u64,
    missed: u64,
}

/// What the owner of the bus does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Poll the device.
    Poll {
        /// Its place among the slots.
        place: usize,
        /// Slots of this device that passed unserved since its last turn.
        missed: u64,
    },
    /// Nothing is due before this time.
    Wait {
        /// When the next slot begins.
        until: Duration,
    },
    /// There is no device.
    Nothing,
}

impl Slot {
    /// Takes the time from one poll to the next; less than a millisecond is taken as a millisecond.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self { interval: nanos(interval.max(Duration::from_millis(1))), due: 0, missed: 0 }
    }

    const fn deadline(&self) -> u64 {
        self.due.saturating_add(self.interval)
    }

    /// Skips the slots whose successor has begun.
    fn catch_up(&mut self, now: u64) {
        let passed = now.saturating_sub(self.due).checked_div(self.interval).unwrap_or(0);
        self.due = self.due.saturating_add(self.interval.saturating_mul(passed));
        self.missed = self.missed.saturating_add(passed);
    }

    /// Serves the slot that contains `now` and moves to its successor. Returns how many slots were skipped since the last.
    fn serve(&mut self, now: u64) -> u64 {
        self.catch_up(now);
        self.due = self.deadline();
        core::mem::take(&mut self.missed)
    }
}

impl<S: AsMut<[Slot]>> Schedule<S> {
    /// Spreads the first slots: of `n` devices the one at place `i` begins `i/n` of its interval after `start`. Schedules
    /// that start apart, such as those of several buses, are spread against each other by their starts.
    #[must_use]
    pub fn new(mut slots: S, start: Duration) -> Self {
        let start = nanos(start);
        let count = u64::try_from(slots.as_mut().len()).unwrap_or(u64::MAX);
        for (place, slot) in (0_u64..).zip(slots.as_mut()) {
            let phase = slot.interval.checked_div(count).unwrap_or(0).saturating_mul(place);
            slot.due = start.saturating_add(phase);
        }
        Self { slots, polling: None }
    }

    /// Says what to do at `now`, which is also when the poll asked for before ended.
    pub fn next(&mut self, now: Duration) -> Turn {
        let now = nanos(now);
        let slots = self.slots.as_mut();
        if let Some(polled) = self.polling.take().and_then(|place| slots.get_mut(place)) {
            polled.catch_up(now);
        }
        let due = slots.iter_mut().enumerate().filter(|(_, slot)| slot.due <= now);
        if let Some((place, slot)) = due.min_by_key(|(_, slot)| slot.deadline()) {
            self.polling = Some(place);
            return Turn::Poll { place, missed: slot.serve(now) };
        }
        match slots.iter().map(|slot| slot.due).min() {
            Some(until) => Turn::Wait { until: Duration::from_nanos(until) },
            None => Turn::Nothing,
        }
    }
}

/// 64 bits of nanoseconds last for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

    extern crate std;

    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn poll(place: usize) -> Turn {
        Turn::Poll { place, missed: 0 }
    }

    #[test]
    fn devices_of_one_interval_are_spread_over_it() {
        let mut schedule = Schedule::new([Slot::every(ms(100)); 4], ms(1000));
        for round in 0..3 {
            for place in 0..4 {
                let begin = ms(1000 + 100 * round + 25 * place);
                assert_eq!(schedule.next(begin - ms(1)), Turn::Wait { until: begin });
                assert_eq!(schedule.next(begin), poll(usize::try_from(place).unwrap()));
            }
        }
    }

    #[test]
    fn of_two_due_devices_the_one_with_the_earlier_deadline_is_polled_first() {
        let mut schedule = Schedule::new([Slot::every(ms(1000)), Slot::every(ms(100))], ms(0));
        assert_eq!(schedule.next(ms(60)), poll(1), "due since 50, deadline 150");
        assert_eq!(schedule.next(ms(60)), poll(0), "due since 0, deadline 1000");
        assert_eq!(schedule.next(ms(60)), Turn::Wait { until: ms(150) });
    }

    #[test]
    fn slots_missed_during_an_overrun_are_skipped_and_the_grid_is_kept() {
        let mut schedule = Schedule::new([Slot::every(ms(100))], ms(0));
        assert_eq!(schedule.next(ms(0)), poll(0));
        assert_eq!(schedule.next(ms(350)), Turn::Poll { place: 0, missed: 2 });
        assert_eq!(schedule.next(ms(350)), Turn::Wait { until: ms(400) });
    }

    #[test]
    fn a_poll_longer_than_its_interval_is_followed_at_once_by_one_for_the_slot_that_has_begun() {
        let mut schedule = Schedule::new([Slot::every(ms(100))], ms(0));
        assert_eq!(schedule.next(ms(0)), poll(0));
        assert_eq!(schedule.next(ms(150)), poll(0));
        assert_eq!(schedule.next(ms(150)), Turn::Wait { until: ms(200) });
    }

    #[test]
    fn a_slow_device_does_not_starve_the_others_of_its_bus() {
        let mut schedule = Schedule::new([Slot::every(ms(100)); 4], ms(0));
        let (mut now, mut polls) = (ms(0), [0_u32; 4]);
        while now < ms(60_000) {
            match schedule.next(now) {
                Turn::Poll { place, .. } => {
                    polls[place] += 1;
                    now += if place == 0 { ms(2000) } else { ms(5) };
                }
                Turn::Wait { until } => now = until,
                Turn::Nothing => panic!("there are four devices"),
            }
        }
        assert!(polls.iter().all(|&count| count >= 25), "{polls:?}");
    }

    #[test]
    fn a_bus_without_devices_has_nothing_to_do() {
        assert_eq!(Schedule::new([], ms(0)).next(ms(5)), Turn::Nothing);
    }

    proptest! {
        #[test]
        fn every_slot_is_served_or_missed_once_and_never_early(
            intervals in prop::collection::vec(0_u64..5_000, 1..8),
            costs in prop::collection::vec(0_u64..3_000, 1..60),
        ) {
            let count = intervals.len();
            let slots: std::vec::Vec<Slot> = intervals.iter().map(|&interval| Slot::every(ms(interval))).collect();
            let mut schedule = Schedule::new(slots.clone(), ms(0));
            let mut begun = std::vec![0_u64; count];
            let mut now = ms(0);
            for cost in costs {
                match schedule.next(now) {
                    Turn::Poll { place, missed } => {
                        begun[place] += missed + 1;
                        let interval = slots[place].interval;
                        let phase = interval / count as u64 * place as u64;
                        // All slots up to the one that contains `now` are accounted for, and none after it.
                        let last = phase + (begun[place] - 1) * interval;
                        prop_assert!(last <= nanos(now) && nanos(now) < last + interval);
                        now += ms(cost);
                    }
                    Turn::Wait { until } => {
                        prop_assert!(until > now);
                        now = until;
                    }
                    Turn::Nothing => prop_assert!(false),
                }
            }
        }

        #[test]
        fn no_time_and_no_interval_panics(interval: Duration, start: Duration, now: Duration) {
            let mut schedule = Schedule::new([Slot::every(interval), Slot::every(now)], start);
            schedule.next(now);
            schedule.next(Duration::MAX);
            schedule.next(Duration::ZERO);
        }
    }
}

//! When which task of a bus is served.
//!
//! A task is what is read of one device with one period. Each has a grid of slots, one an interval; of the slots that are
//! due the one with the earliest deadline comes first. A slot whose successor has begun before its turn came is missed,
//! counted, and never made up for.
//!
//! **Start.** The tasks of one interval are spread evenly over it, so that a bus does not burst. A task with a long
//! interval is read once within the first seconds too, and keeps to its place in the grid from then on: nobody who stands
//! in front of a cabinet waits an hour for the first value.
//!
//! **Overload.** What a bus cannot carry is stretched, see [`stretch_floor`]: deadlines then count from the longer of
//! interval and floor, the *effective* interval. A stretched task is entitled to one turn an effective interval; it still
//! becomes due on the grid it asked for, and is served before it is entitled to it whenever the bus would be idle
//! otherwise.
//!
//! **Bound.** Turns cannot be interrupted. If the shares of the effective intervals that the turns take add up to at most
//! 1, every turn ends at most one longest turn after its deadline (the first turns after the start apart, which come
//! closer together), and two turns of a task end at most two effective intervals and one longest turn apart. Beyond that
//! load everything comes later, but a task that waits keeps its deadline and a task that was served gets a later one, so
//! nothing starves.

mod stretch;
#[cfg(test)]
mod tests;

use core::time::Duration;

pub use self::stretch::stretch_floor;
use crate::nanos;

/// Within this time after the start of the schedule every task becomes due, however long its interval.
pub const FIRST_ROUND: Duration = Duration::from_secs(5);

/// The shortest interval there is.
const SHORTEST: Duration = Duration::from_millis(1);

/// The schedule of one bus. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct Schedule<S> {
    slots: S,
    floor: u64,
}

/// The next slot of one task. Times in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    interval: u64,
    /// When it is due.
    begin: u64,
    /// When the slot after it begins: on the grid.
    successor: u64,
    /// From when it is entitled to its turn: `begin`, or later if it is stretched.
    entitled: u64,
    missed: u64,
    /// Since when it is called for out of turn.
    called: Option<u64>,
    /// Deadline of the slot that is being served.
    serving: Option<u64>,
    /// Whether it was never served.
    first: bool,
}

/// A slot whose turn it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// The place of its task among the slots.
    pub place: usize,
    /// When its turn should have ended.
    pub deadline: Duration,
}

impl Slot {
    /// Takes the time from one turn to the next; less than a millisecond is taken as a millisecond.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        let interval = nanos(interval.max(SHORTEST));
        Self {
            interval,
            begin: u64::MAX,
            successor: u64::MAX,
            entitled: u64::MAX,
            missed: 0,
            called: None,
            serving: None,
            first: true,
        }
    }

    /// Places the grid at `phase` after `start`, and the first slot within the first `round`.
    fn begin_at(&mut self, start: u64, phase: u64, round: u64) {
        let first = muldiv(phase, round.min(self.interval), self.interval);
        // The second turn comes where the grid says, but no sooner than a round after the first.
        let apart = phase.saturating_sub(first);
        let second = if apart >= round { phase } else { phase.saturating_add(self.interval) };
        *self = Self {
            begin: start.saturating_add(first),
            successor: start.saturating_add(second),
            entitled: start.saturating_add(first),
            ..Self::every(Duration::from_nanos(self.interval))
        };
    }

    fn due(&self, now: u64) -> bool {
        self.serving.is_none() && self.next() <= now
    }

    /// Returns when it is or was due.
    fn next(&self) -> u64 {
        self.called.map_or(self.begin, |called| called.min(self.begin))
    }

    fn deadline(&self, floor: u64) -> u64 {
        let interval = if self.first { self.interval.min(nanos(FIRST_ROUND)) } else { self.interval };
        self.entitled.saturating_add(interval.max(floor))
    }

    /// Skips the slots whose successor has begun.
    fn catch_up(&mut self, now: u64) {
        let Some(beyond) = now.checked_sub(self.successor) else { return };
        let more = beyond.checked_div(self.interval).unwrap_or(0);
        self.missed = self.missed.saturating_add(more).saturating_add(1);
        self.begin = self.successor.saturating_add(self.interval.saturating_mul(more));
        self.successor = self.begin.saturating_add(self.interval);
    }

    /// Serves the slot that contains `now` and moves to its successor. Returns how many slots were skipped since the last.
    fn serve(&mut self, now: u64, floor: u64) -> u64 {
        self.serving = Some(self.deadline(floor));
        // Served before it was entitled to it, because the bus was idle: a gift, which is not held against it.
        let entitled = self.entitled.min(now);
        self.catch_up(now);
        // A turn out of turn leaves the coming slot as it is.
        if self.called.take().is_none() || self.begin <= now {
            self.begin = self.successor;
            self.successor = self.begin.saturating_add(self.interval);
        }
        self.entitled = self.begin.max(entitled.saturating_add(floor));
        self.first = false;
        core::mem::take(&mut self.missed)
    }

    fn finish(&mut self, now: u64) {
        self.serving = None;
        self.catch_up(now);
        self.entitled = self.entitled.max(self.begin);
    }
}

impl<S: AsRef<[Slot]> + AsMut<[Slot]>> Schedule<S> {
    /// Spreads the tasks: of the `n` with one interval the one at place `i` among them has its grid `i/n` of the interval
    /// after `start`, and tasks of different intervals are shifted against each other. An interval longer than
    /// [`FIRST_ROUND`] begins with one slot within that time.
    ///
    /// Schedules that start apart, such as those of several buses, are spread against each other by their starts.
    #[must_use]
    pub fn new(mut slots: S, start: Duration) -> Self {
        let (start, round) = (nanos(start), nanos(FIRST_ROUND));
        let all = slots.as_mut();
        let count = length(&*all);
        for slot in all.iter_mut() {
            *slot = Slot::every(Duration::from_nanos(slot.interval));
        }
        let mut rest = all;
        let mut before = 0_u64;
        while let Some(first) = rest.first() {
            let (interval, placed) = (first.interval, first.begin != u64::MAX);
            if !placed {
                let alike = length(rest.iter().filter(|slot| slot.interval == interval));
                let step = interval.checked_div(alike).unwrap_or(0);
                let shift = muldiv(step, before, count);
                for (rank, slot) in (0_u64..).zip(rest.iter_mut().filter(|slot| slot.interval == interval)) {
                    slot.begin_at(start, muldiv(interval, rank, alike).saturating_add(shift), round);
                }
            }
            rest = rest.get_mut(1..).unwrap_or_default();
            before = before.saturating_add(1);
        }
        Self { slots, floor: 0 }
    }

    /// Returns whose turn it is among the due tasks that `may` takes: the one with the earliest deadline, those first that
    /// are entitled to a turn. `may` is asked for due tasks only, and not for all of them.
    pub fn first(&self, now: Duration, mut may: impl FnMut(usize) -> bool) -> Option<Due> {
        let now = nanos(now);
        let mut best: Option<((bool, u64), usize)> = None;
        for (place, slot) in self.slots.as_ref().iter().enumerate() {
            let key = (slot.entitled > now, slot.deadline(self.floor));
            if slot.due(now) && best.is_none_or(|(least, _)| key < least) && may(place) {
                best = Some((key, place));
            }
        }
        best.map(|((_, deadline), place)| Due { place, deadline: Duration::from_nanos(deadline) })
    }

    /// Returns until when the turn of the task should end: the turn it has, else the next one. Never for a place without a
    /// task.
    #[must_use]
    pub fn deadline(&self, place: usize) -> Duration {
        let slot = self.slots.as_ref().get(place);
        slot.map_or(Duration::MAX, |slot| Duration::from_nanos(slot.serving.unwrap_or(slot.deadline(self.floor))))
    }

    /// Tells whether the task waits for its turn. A task that is being served is not due.
    #[must_use]
    pub fn due(&self, place: usize, now: Duration) -> bool {
        self.slots.as_ref().get(place).is_some_and(|slot| slot.due(nanos(now)))
    }

    /// Begins to serve the task, and returns how many of its slots passed unserved since its last turn. A task taken before
    /// it is due uses up the coming slot.
    pub fn take(&mut self, place: usize, now: Duration) -> u64 {
        let slot = self.slots.as_mut().get_mut(place);
        slot.map_or(0, |slot| slot.serve(nanos(now), self.floor))
    }

    /// Ends the turn of the task. Slots that passed meanwhile are missed.
    pub fn finish(&mut self, place: usize, now: Duration) {
        if let Some(slot) = self.slots.as_mut().get_mut(place) {
            slot.finish(nanos(now));
        }
    }

    /// Makes a waiting task due at `now`, out of turn; its grid stays.
    pub fn call(&mut self, place: usize, now: Duration) {
        let now = nanos(now);
        if let Some(slot) = self.slots.as_mut().get_mut(place).filter(|slot| slot.serving.is_none()) {
            slot.called = Some(slot.next().min(now));
            slot.entitled = slot.entitled.min(now);
        }
    }

    /// Returns the earliest begin of the next slots of the tasks that are not being served; it is past if one is due.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        self.begins().min().map(Duration::from_nanos)
    }

    /// As [`wake`](Self::wake), but of the slots that begin after `now` only: when to look again if nothing that is due may
    /// be served.
    #[must_use]
    pub fn wake_after(&self, now: Duration) -> Option<Duration> {
        let now = nanos(now);
        self.begins().filter(|&begin| begin > now).min().map(Duration::from_nanos)
    }

    fn begins(&self) -> impl Iterator<Item = u64> {
        self.slots.as_ref().iter().filter(|slot| slot.serving.is_none()).map(Slot::next)
    }

    /// Stretches the intervals shorter than `floor` to it, or none. Turns become due as before; what changes is which are
    /// preferred when not all can be served.
    pub fn stretch(&mut self, floor: Option<Duration>) {
        let floor = floor.map_or(0, nanos);
        let less = self.floor.saturating_sub(floor);
        for slot in self.slots.as_mut() {
            slot.entitled = slot.entitled.saturating_sub(less).max(slot.next());
        }
        self.floor = floor;
    }

    /// Returns the time from one turn of the task to the next that the schedule works towards: the longer of its interval
    /// and the floor. Never for a place without a task.
    #[must_use]
    pub fn effective(&self, place: usize) -> Duration {
        let slot = self.slots.as_ref().get(place);
        slot.map_or(Duration::MAX, |slot| Duration::from_nanos(slot.interval.max(self.floor)))
    }
}

fn length<T>(items: impl IntoIterator<Item = T>) -> u64 {
    u64::try_from(items.into_iter().count()).unwrap_or(u64::MAX)
}

/// Returns `a * b / c`, 0 if `c` is 0.
fn muldiv(a: u64, b: u64, c: u64) -> u64 {
    let product = u128::from(a).saturating_mul(u128::from(b));
    u64::try_from(product.checked_div(u128::from(c)).unwrap_or(0)).unwrap_or(u64::MAX)
}

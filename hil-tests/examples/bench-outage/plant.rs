//! What is measured: which observation has which number, and what must be in it. The consumer judges by the same rules.

use std::time::Duration;

/// Resources, observed in turn.
pub(crate) const RESOURCES: u64 = 100;
/// Observations a second, of all resources together.
pub(crate) const A_SECOND: u64 = 1000;
/// Time from one observation to the next.
pub(crate) const STEP: Duration = Duration::from_millis(1000 / A_SECOND);

/// One observation by its place among all, from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Nth(pub(crate) u64);

impl Nth {
    /// Finds the observation that a resource has under a number.
    pub(crate) fn of(resource: u64, seq: u64) -> Option<Self> {
        (resource < RESOURCES).then_some(Self(seq.checked_sub(1)?.checked_mul(RESOURCES)?.checked_add(resource)?))
    }

    /// Returns the resource, from 0.
    pub(crate) fn resource(self) -> u64 {
        self.0 % RESOURCES
    }

    /// Returns its number among those of its resource, from 1.
    pub(crate) fn seq(self) -> u64 {
        self.0 / RESOURCES + 1
    }

    /// Returns its pressure, in hundredths: noise, as of a real gauge.
    pub(crate) fn pressure(self) -> u16 {
        let noise = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        u16::try_from(4000 + noise % 64).unwrap_or(0)
    }

    /// Says whether it has a second reading, a counter that shows its number.
    pub(crate) fn has_counter(self) -> bool {
        self.resource() % 2 == 1
    }
}

/// The stretch of the outage that is replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Replay {
    /// Its first observation.
    pub(crate) first: u64,
    /// The one behind its last.
    pub(crate) end: u64,
    /// Time of the first, in milliseconds of Unix time.
    pub(crate) from_ms: i64,
}

impl Replay {
    /// Returns the time of one of its observations, in milliseconds; none for another.
    pub(crate) fn time_of(&self, nth: Nth) -> Option<i64> {
        let place = nth.0.checked_sub(self.first).filter(|_| nth.0 < self.end)?;
        Some(self.from_ms + i64::try_from(place * 1000 / A_SECOND).ok()?)
    }
}

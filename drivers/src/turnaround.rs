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

/// 64 bits of nanoseconds last for 584 years.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

//! What a bus of nodes is made of, and what time it is.

use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Origin;

use crate::breaker::Policy;

/// What a bus is made of.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Time of one character on the line.
    pub character: Duration,
    /// Silence between two frames: what a node needs to see where one ends.
    pub gap: Duration,
    /// How long a node may take from the end of a question to the first byte of its answer.
    pub response_timeout: Duration,
    /// Shortest wait for it, however quick the node was until now.
    pub shortest_wait: Duration,
    /// How far the bytes of one answer may fall behind the speed of the line.
    pub answer_slack: Duration,
    /// How often a question without a good answer is asked again before the node is left until its next period.
    pub retries: u8,
    /// How much a node that does not answer may cost.
    pub breaker: Policy,
    /// Time between two questions to nodes that nobody has configured; `None` never asks by itself.
    pub discover_every: Option<Duration>,
    /// Makes the random numbers of this run; from a source that does not repeat itself, for stores are named by them.
    pub seed: u64,
    /// The configured nodes.
    pub nodes: Vec<UnitSettings>,
}

/// One configured node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitSettings {
    /// Its address, 1..=247.
    pub unit: u8,
    /// What it must say that it measures, [`Cri::to_bits`](ganglion_protocols::Cri::to_bits).
    pub cri: u64,
    /// Time from one question for samples to the next, as long as none waits.
    pub period: Duration,
    /// Up to where its samples are durable already.
    pub taken: Option<Taken>,
}

/// Up to where the samples of a node are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// The last one.
    pub origin: Origin,
    /// Its time, in milliseconds since 1970, if that is known.
    pub utc_ms: Option<u64>,
}

/// What time it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Since any one start, the same for every call; never goes back.
    pub now: Duration,
    /// UTC in milliseconds since 1970, by the owner's clock; may jump.
    pub utc_ms: u64,
    /// The clock is good enough to set a node's by it.
    pub sure: bool,
}

impl Moment {
    /// Returns the UTC of an earlier or later time of the same clock.
    #[must_use]
    pub fn utc_of(self, time: Duration) -> u64 {
        let later = super::millis(time.saturating_sub(self.now));
        let earlier = super::millis(self.now.saturating_sub(time));
        self.utc_ms.saturating_add(later).saturating_sub(earlier)
    }
}

//! What a process that uses the buffer knows of its promises.

use crate::buffer::Ledgers;
use crate::promises::{Promise, Promises, RESOURCES};

/// What was true when the store was last opened, and what came since.
pub(crate) struct Known {
    pub(crate) ledgers: Ledgers,
    /// What was true when the store was last opened.
    pub(crate) before: Promises,
    pub(crate) acknowledged: [u64; 3],
    /// How many the quota had taken of what comes before the acknowledged.
    pub(crate) passed: [u64; 3],
}

impl Known {
    /// Begins with a store of which this was promised.
    pub(crate) fn new(before: Promises) -> Self {
        let acknowledged = before.0.map(|promise| promise.acknowledged);
        Self { ledgers: Ledgers::new(), before, acknowledged, passed: [0; 3] }
    }

    /// Returns how many the quota has taken.
    pub(crate) fn taken(&self) -> [u64; 3] {
        let counts = self.ledgers.counts();
        RESOURCES.map(|resource| self.before.0[resource].evicted + counts[resource].dropped)
    }

    /// Returns what is promised now.
    pub(crate) fn promises(&self) -> Promises {
        let (counts, taken) = (self.ledgers.counts(), self.taken());
        Promises(RESOURCES.map(|resource| {
            let (before, counts) = (self.before.0[resource], counts[resource]);
            Promise {
                accepted: before.accepted + counts.accepted,
                durable: before.durable + counts.durable,
                acknowledged: self.acknowledged[resource],
                kept: before.kept,
                evicted: taken[resource] - self.passed[resource],
            }
        }))
    }

    /// Notes that the store is open and says itself behind which numbers it goes on.
    pub(crate) fn opened(&mut self) {
        for (promise, counts) in self.before.0.iter_mut().zip(self.ledgers.counts()) {
            assert!(counts.last >= promise.accepted, "numbering goes on behind {} after {promise:?}", counts.last);
            (promise.accepted, promise.durable) = (counts.last, counts.last);
        }
    }

    /// Notes that the store was closed, and so everything acknowledged written down.
    pub(crate) fn closed(&mut self) {
        for (promise, acknowledged) in self.before.0.iter_mut().zip(self.acknowledged) {
            promise.kept = acknowledged;
        }
    }
}

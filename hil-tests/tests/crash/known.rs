//! What a process that uses the buffer knows of its promises.

use crate::buffer::{Declared, Ledgers, Log, Read};
use crate::promises::{Numbers, Promise, Promises, RESOURCES};

/// What was true when the store was last opened, and what came since.
pub(crate) struct Known {
    pub(crate) ledgers: Ledgers,
    /// What was true when the store was last opened.
    before: Promises,
    acknowledged: [Numbers; 3],
    lost: [Numbers; 3],
}

impl Known {
    /// Begins with a store of which this was promised.
    pub(crate) fn new(log: Log, before: Promises) -> Self {
        let acknowledged = before.0.clone().map(|promise| promise.acknowledged);
        let lost = before.0.clone().map(|promise| promise.lost);
        Self { ledgers: Ledgers::new(log), before, acknowledged, lost }
    }

    /// Returns what is promised now.
    pub(crate) fn promises(&self) -> Promises {
        let counts = self.ledgers.counts();
        Promises(RESOURCES.map(|resource| {
            let (before, counts) = (&self.before.0[resource], counts[resource]);
            Promise {
                accepted: before.accepted + counts.accepted,
                durable: before.durable + counts.durable,
                acknowledged: self.acknowledged[resource].clone(),
                kept: before.kept.clone(),
                lost: self.lost[resource].clone(),
            }
        }))
    }

    /// Returns how many the quota has taken since the store was opened.
    pub(crate) fn evicted(&self) -> u64 {
        self.ledgers.counts().iter().map(|counts| counts.dropped).sum()
    }

    /// Notes that the store is open and says itself behind which numbers it goes on.
    pub(crate) fn opened(&mut self) {
        for (promise, counts) in self.before.0.iter_mut().zip(self.ledgers.counts()) {
            assert!(counts.last >= promise.accepted, "numbering goes on behind {} after {promise:?}", counts.last);
            (promise.accepted, promise.durable) = (counts.last, counts.last);
        }
    }

    /// Notes what is about to be acknowledged: what perhaps was need not be there any more.
    pub(crate) fn acknowledging(&mut self, read: &Read) {
        for Declared { resource, first, last } in &read.declared {
            self.lost[*resource].0.extend(*first..=*last);
        }
        for seen in &read.seen {
            assert_eq!(seen.mark.number, seen.number, "{seen:?}");
            self.acknowledged[seen.resource].0.insert(seen.number);
        }
    }

    /// Notes that the store was closed, and so everything acknowledged written down.
    pub(crate) fn closed(&mut self) {
        for (promise, acknowledged) in self.before.0.iter_mut().zip(&self.acknowledged) {
            promise.kept = acknowledged.clone();
        }
    }
}

//! What is read from the log on its way to the wire, and what became of it on its way back.

use std::collections::HashMap;
use std::future;
use std::sync::Arc;

use ganglion_protocols::Cri;

use super::Source;
use super::message::{Batch, Encoder, Limits, Message};
use super::window::Outcome;
use crate::monitor::Monitor;

/// One chunk at a time from the source, message by message.
#[derive(Debug)]
pub(super) struct Feed<'a, S: Source> {
    source: S,
    encoder: Encoder,
    monitor: &'a Monitor,
    batch: Option<Batch<S::Mark>>,
    ended: bool,
    /// Highest settled `seq` by resource, for the oldest chunk that is not acknowledged as a whole: after a rewind these
    /// are neither sent nor counted again.
    ahead: HashMap<Cri, u64>,
    settled: u64,
}

/// What a message in flight stands for.
#[derive(Clone, Debug)]
pub(super) struct Cargo<M> {
    /// Where it was sent.
    pub(super) topic: Arc<str>,
    /// The observations in it; `None` for a status message.
    pub(super) observations: Option<Span>,
    /// Set on the last message of a chunk: where the log goes on after the chunk.
    pub(super) end: Option<M>,
}

/// Consecutive observations of one resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// The resource.
    pub(super) resource: Cri,
    /// How many.
    pub(super) count: u64,
    /// Number of the last.
    pub(super) last_seq: u64,
}

impl<'a, S: Source> Feed<'a, S> {
    /// Starts at the source's present place.
    pub(super) fn new(source: S, encoder: Encoder, monitor: &'a Monitor) -> Self {
        Self { source, encoder, monitor, batch: None, ended: false, ahead: HashMap::new(), settled: 0 }
    }

    /// Reads a chunk; waits for ever while the last one is not taken, and after the end. Cancel-safe.
    pub(super) async fn read(&mut self) {
        if self.batch.is_some() || self.ended {
            future::pending::<()>().await;
        }
        match self.source.next().await {
            Some((end, observations)) => {
                let ahead = &self.ahead;
                let is_settled = |resource, seq| ahead.get(&resource).is_some_and(|&last| seq <= last);
                self.batch = Some(Batch::new(end, observations, is_settled));
            }
            None => self.ended = true,
        }
    }

    /// Takes the next message with its cargo. There is none in a chunk of which everything was settled before: its cargo
    /// comes alone.
    pub(super) fn take(&mut self, limits: Limits) -> Option<(Option<Message>, Cargo<S::Mark>)> {
        let batch = self.batch.as_mut()?;
        let message = batch.next(&mut self.encoder, limits);
        let end = batch.is_empty().then_some(batch.end);
        if end.is_some() {
            self.batch = None;
        }
        let cargo = match &message {
            Some(Message { topic, resource, count, last_seq, .. }) => Cargo {
                topic: Arc::clone(topic),
                observations: Some(Span { resource: *resource, count: *count, last_seq: *last_seq }),
                end,
            },
            None => Cargo { topic: Arc::from(""), observations: None, end },
        };
        Some((message, cargo))
    }

    /// Notes what became of a message, once all before it are settled.
    pub(super) fn settle(&mut self, cargo: &Cargo<S::Mark>, outcome: Outcome) {
        if let Some(Span { resource, count, last_seq }) = cargo.observations {
            self.monitor.count(resource, |ledger| match outcome {
                Outcome::Delivered => ledger.delivered += count,
                Outcome::Dropped => ledger.dropped += count,
            });
            self.ahead.insert(resource, last_seq);
            self.settled += 1;
        }
        if let Some(end) = cargo.end {
            self.source.acknowledge(end);
            self.ahead.clear();
        }
    }

    /// Goes back to the first unacknowledged observation.
    pub(super) fn restart(&mut self) {
        self.batch = None;
        self.ended = false;
        self.source.rewind();
    }

    /// Returns how many messages with observations were settled so far.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Returns whether the source has ended and everything read from it is taken.
    pub(super) fn is_drained(&self) -> bool {
        self.ended && self.batch.is_none()
    }
}

//! What one lane reads from its log on its way to the wire, and what became of it on its way back.

use std::collections::HashMap;
use std::future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ganglion_protocols::Cri;

use super::Source;
use super::message::{Batch, Encoder, Limits, Message, Span};
use super::share::Lane;
use super::window::Outcome;
use crate::monitor::{LogName, Monitor};

/// One chunk at a time from a source, message by message.
pub(super) struct Feed<'a, S: Source> {
    lane: Lane,
    /// None where there is no such lane.
    source: Option<S>,
    encoder: Encoder,
    monitor: &'a Monitor,
    batch: Option<Batch<S::Mark>>,
    ended: bool,
    ahead: Ahead,
    settled: u64,
}

/// What a message in flight stands for.
#[derive(Clone, Debug)]
pub(super) struct Cargo<M> {
    /// The lane; none for a status message.
    pub(super) lane: Option<Lane>,
    /// Where it was sent.
    pub(super) topic: Arc<str>,
    /// The observations in it.
    pub(super) spans: Vec<Span>,
    /// Set on the last message of a chunk.
    pub(super) end: Option<ChunkEnd<M>>,
    /// The payload, until it is known that nobody refused it.
    pub(super) payload: Vec<u8>,
    /// When it was handed to the client.
    pub(super) sent: Instant,
}

/// What becomes known when a chunk is settled.
#[derive(Clone, Debug)]
pub(super) struct ChunkEnd<M> {
    mark: M,
    numbers: Vec<Span>,
}

/// Numbers that are settled though their chunk is not acknowledged as a whole: after a new connection, whichever lane of
/// the log reads them then, they are neither sent nor counted again.
#[derive(Clone, Debug, Default)]
pub(super) struct Ahead(Arc<Mutex<Numbers>>);

/// Ranges of numbers, first and last, by resource.
type Numbers = HashMap<Cri, Vec<(u64, u64)>>;

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, Numbers> {
        // Each change leaves a list that is true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, span: &Span) {
        let mut ahead = self.lock();
        let ranges = ahead.entry(span.resource).or_default();
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == span.first => *last = span.last,
            _ => ranges.push((span.first, span.last)),
        }
    }

    /// Forgets the numbers of a chunk that is acknowledged.
    fn forget(&self, numbers: &[Span]) {
        let mut ahead = self.lock();
        if ahead.is_empty() {
            return;
        }
        for span in numbers {
            let Some(ranges) = ahead.remove(&span.resource) else { continue };
            let before = |(first, last): &(u64, u64)| (*first, (*last).min(span.first - 1));
            let behind = |(first, last): &(u64, u64)| ((*first).max(span.last + 1), *last);
            let rest = ranges.iter().flat_map(|range| [before(range), behind(range)]);
            let rest: Vec<(u64, u64)> = rest.filter(|(first, last)| first <= last).collect();
            if !rest.is_empty() {
                ahead.insert(span.resource, rest);
            }
        }
    }

    fn holds(&self) -> impl Fn(Cri, u64) -> bool {
        let ahead = self.lock();
        move |resource, seq| {
            ahead
                .get(&resource)
                .is_some_and(|ranges| ranges.iter().any(|(first, last)| (*first..=*last).contains(&seq)))
        }
    }
}

impl<'a, S: Source> Feed<'a, S> {
    /// Starts at the source's present place; lanes of one log share what is `ahead`.
    pub(super) fn new(lane: Lane, source: Option<S>, encoder: Encoder, ahead: Ahead, monitor: &'a Monitor) -> Self {
        let ended = source.is_none();
        Self { lane, source, encoder, monitor, batch: None, ended, ahead, settled: 0 }
    }

    /// Reads a chunk; waits for ever while the last one is not taken, and after the end. Cancel-safe.
    pub(super) async fn read(&mut self) {
        let Some(source) = self.source.as_mut().filter(|_| self.batch.is_none() && !self.ended) else {
            return future::pending().await;
        };
        match source.next().await {
            Some((mark, content)) => self.batch = Some(Batch::new(mark, content, self.lane, self.ahead.holds())),
            None => self.ended = true,
        }
    }

    /// Says whether there is something to take.
    pub(super) fn is_ready(&self) -> bool {
        self.batch.is_some()
    }

    /// Takes the next message with its cargo. There is none in a chunk of which everything was settled before: its cargo
    /// comes alone.
    pub(super) fn take(&mut self, limits: Limits) -> Option<(Option<Message>, Cargo<S::Mark>)> {
        let batch = self.batch.as_mut()?;
        let message = batch.next(&mut self.encoder, limits);
        let end = if batch.is_empty() {
            self.batch.take().map(|batch| ChunkEnd { mark: batch.mark, numbers: batch.numbers })
        } else {
            None
        };
        let (topic, spans) = match &message {
            Some(Message { topic, spans, .. }) => (Arc::clone(topic), spans.clone()),
            None => (Arc::from(""), Vec::new()),
        };
        let cargo = Cargo { lane: Some(self.lane), topic, spans, end, payload: Vec::new(), sent: Instant::now() };
        Some((message, cargo))
    }

    /// Notes what became of a message, once all before it are settled.
    pub(super) fn settle(&mut self, cargo: &Cargo<S::Mark>, outcome: Outcome) {
        let log = if self.lane == Lane::Event { LogName::Events } else { LogName::Telemetry };
        for span in &cargo.spans {
            self.monitor.count_in(log, span.resource, |ledger| match outcome {
                Outcome::Delivered => ledger.delivered += span.count,
                Outcome::Dropped(_) => ledger.dropped += span.count,
            });
            if cargo.end.is_none() {
                self.ahead.add(span);
            }
        }
        self.settled += u64::from(!cargo.spans.is_empty());
        let Some(source) = &self.source else { return };
        if let Outcome::Dropped(cause) = outcome {
            source.declare_lost(cargo.spans.iter().filter_map(|span| span.lost(cause)).collect());
        }
        if let Some(ChunkEnd { mark, numbers }) = &cargo.end {
            source.acknowledge(*mark);
            self.ahead.forget(numbers);
        }
    }

    /// Begins a connection at the first unacknowledged observation of the lane.
    pub(super) fn restart(&mut self) {
        self.batch = None;
        self.ended = self.source.is_none();
        if let Some(source) = &mut self.source {
            source.rewind();
        }
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

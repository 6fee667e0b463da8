//! From durable observations to messages: which observations share a message, its topic, its payload.
//!
//! On `obs` and `event` one message holds consecutive observations of one resource, and messages of one resource follow each
//! other in the order of `seq`; on `backfill` it holds observations of all resources in the order of the log, compressed. Either
//! way they have one state of the clock and one directory edition, and are as many as the payload limit takes. Losses go to
//! `gap`. Pure: no I/O, no clock.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use ganglion_protocols::envelope::{Envelope, GapEnvelope};
use ganglion_protocols::topic::{GatewaySubject, GatewayTopic, ResourceSubject, ResourceTopic};
use ganglion_protocols::{Cri, Gap, LossCause, Timestamp};

use super::compress::Compressor;
use super::share::Lane;
use super::skeleton::Skeletons;
use crate::buffer::Stored;

/// A chunk on its way out: what is left of it.
#[derive(Debug)]
pub(super) struct Batch<M> {
    /// The chunk, to acknowledge it.
    pub(super) mark: M,
    /// Numbers of all that it holds, settled before or not.
    pub(super) numbers: Vec<Span>,
    gaps: VecDeque<Gap>,
    observations: Vec<Stored>,
    runs: VecDeque<Vec<usize>>,
}

/// One message, or what should have been one.
#[derive(Debug)]
pub(super) struct Message {
    /// Where to.
    pub(super) topic: Arc<str>,
    /// The observations in it, one entry for each resource; none in a message of losses.
    pub(super) spans: Vec<Span>,
    /// The payload.
    pub(super) payload: Result<Payload, Undeliverable>,
}

/// What is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Payload {
    /// JSON text, or such a text compressed.
    pub(super) bytes: Vec<u8>,
    /// Whether it is compressed (zstd).
    pub(super) compressed: bool,
}

/// Observations of one resource in a message or a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// The resource.
    pub(super) resource: Cri,
    /// How many.
    pub(super) count: u64,
    /// Number of the first.
    pub(super) first: u64,
    /// Number of the last.
    pub(super) last: u64,
    /// Time of measurement of the first.
    pub(super) from: Timestamp,
    /// Time of measurement of the last.
    pub(super) to: Timestamp,
}

impl Span {
    fn of(stored: &Stored) -> Self {
        let (resource, seq, t) = (stored.shape.resource, stored.seq, stored.t);
        Self { resource, count: 1, first: seq, last: seq, from: t, to: t }
    }

    /// Says that these observations are lost.
    pub(super) fn lost(&self, cause: LossCause) -> Option<Gap> {
        Gap::new(self.resource, (self.first, self.last), self.count, (self.from, self.to), cause)
    }
}

/// Counts observations by resource, in the order of their first ones.
fn spans<'a>(observations: impl Iterator<Item = &'a Stored>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut places: HashMap<Cri, usize> = HashMap::new();
    for stored in observations {
        let place = *places.entry(stored.shape.resource).or_insert(spans.len());
        match spans.get_mut(place) {
            Some(span) => {
                span.count += 1;
                span.last = stored.seq;
                (span.from, span.to) = (span.from.min(stored.t), span.to.max(stored.t));
            }
            None => spans.push(Span::of(stored)),
        }
    }
    spans
}

/// Why an observation can never be sent to this broker.
#[derive(Debug)]
pub(super) enum Undeliverable {
    /// One observation alone is larger than the broker's maximum packet size allows.
    TooLarge {
        /// Its payload.
        payload: Vec<u8>,
        /// Most bytes that would have been allowed.
        limit: usize,
    },
    /// The domain holds a character that is not allowed in a topic.
    Topic {
        /// The payload.
        payload: Vec<u8>,
    },
    /// It has no JSON form.
    Encoding(serde_json::Error),
}

impl Undeliverable {
    /// Returns the cause to declare.
    pub(super) const fn cause(&self) -> LossCause {
        match self {
            Self::TooLarge { .. } => LossCause::PacketTooLarge,
            Self::Topic { .. } => LossCause::TopicInvalid,
            Self::Encoding(_) => LossCause::PayloadInvalid,
        }
    }

    /// Returns the payload, if there is one.
    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Self::TooLarge { payload, .. } | Self::Topic { payload } => payload,
            Self::Encoding(_) => &[],
        }
    }
}

/// How large a message may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// Payload above which no further observation joins a message, in bytes.
    pub(super) payload: usize,
    /// Largest packet that a single observation may make, in bytes.
    pub(super) packet: usize,
}

impl<M> Batch<M> {
    /// Sorts what a chunk holds into runs for a lane; observations that `is_settled` names by resource and `seq` are left
    /// out.
    pub(super) fn new(
        mark: M,
        (observations, gaps): (Vec<Stored>, Vec<Gap>),
        lane: Lane,
        is_settled: impl Fn(Cri, u64) -> bool,
    ) -> Self {
        let numbers = spans(observations.iter());
        let mut runs: VecDeque<Vec<usize>> = VecDeque::new();
        let mut open: HashMap<Option<Cri>, usize> = HashMap::new();
        for (place, stored) in observations.iter().enumerate() {
            let resource = stored.shape.resource;
            if is_settled(resource, stored.seq) {
                continue;
            }
            let key = (lane != Lane::Backfill).then_some(resource);
            let run = open.get(&key).and_then(|&run| runs.get_mut(run)).filter(|run| {
                let last = run.last().and_then(|&last| observations.get(last));
                last.is_some_and(|last| share_a_message(last, stored, lane))
            });
            match run {
                Some(run) => run.push(place),
                None => {
                    open.insert(key, runs.len());
                    runs.push_back(vec![place]);
                }
            }
        }
        Self { mark, numbers, gaps: gaps.into(), observations, runs }
    }

    /// Returns whether everything was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.gaps.is_empty()
    }

    /// Takes the next message.
    pub(super) fn next(&mut self, encoder: &mut Encoder, limits: Limits) -> Option<Message> {
        if !self.gaps.is_empty() {
            return Some(encoder.losses(&mut self.gaps, limits));
        }
        let run = self.runs.front_mut()?;
        let (taken, message) = encoder.encode(&self.observations, run, limits)?;
        run.drain(..taken);
        if run.is_empty() {
            self.runs.pop_front();
        }
        Some(message)
    }
}

fn share_a_message(a: &Stored, b: &Stored, lane: Lane) -> bool {
    a.clock == b.clock
        && if lane == Lane::Backfill {
            a.shape.directory == b.shape.directory
        } else {
            Arc::ptr_eq(&a.shape, &b.shape) || a.shape == b.shape
        }
}

/// Writes messages; keeps its buffer and the topics.
#[derive(Debug)]
pub(super) struct Encoder {
    gateway: Cri,
    epoch: u64,
    lane: Lane,
    /// Bytes of a PUBLISH besides topic and payload, at most.
    overhead: usize,
    buffer: Vec<u8>,
    skeletons: Skeletons,
    compressor: Compressor,
    topics: HashMap<Cri, Topic>,
    backfill: Arc<str>,
    gap: Arc<str>,
}

#[derive(Debug)]
struct Topic {
    domain: String,
    text: Arc<str>,
    allowed: bool,
}

/// What follows the last observation in an envelope.
const TAIL: &[u8] = b"]}";
/// Losses in one message, at most.
const LOSSES: usize = 256;

impl Encoder {
    /// Prepares one lane of a gateway; `epoch` is that of the log it reads.
    pub(super) fn new(gateway: Cri, epoch: u64, lane: Lane) -> Self {
        let own = |about| Arc::from(GatewayTopic { gateway, about }.to_string());
        // MQTT 5.0 §3.3: fixed header up to 5, topic length 2, packet identifier 2, property length up to 4.
        Self {
            gateway,
            epoch,
            lane,
            overhead: 13,
            buffer: Vec::new(),
            skeletons: Skeletons::default(),
            compressor: Compressor::default(),
            topics: HashMap::new(),
            backfill: own(GatewaySubject::Backfill),
            gap: own(GatewaySubject::Gap),
        }
    }

    /// Writes one message from the front of a run of places; returns how many observations it took, at least one.
    fn encode(&mut self, all: &[Stored], run: &[usize], limits: Limits) -> Option<(usize, Message)> {
        let first = all.get(*run.first()?)?;
        let (topic, allowed) = match self.lane {
            Lane::Backfill => (Arc::clone(&self.backfill), true),
            Lane::Event | Lane::Live => self.topic(first),
        };
        let largest = limits.packet.saturating_sub(self.overhead + topic.len());
        let limit = limits.payload.min(largest);
        let stored = || run.iter().filter_map(|&place| all.get(place));
        let (taken, outcome) = match self.payload(stored, limit) {
            Ok((taken, payload)) => (taken, Ok(payload)),
            Err(error) => (1, Err(Undeliverable::Encoding(error))),
        };
        let payload = outcome.and_then(|payload| match payload.bytes.len() {
            _ if !allowed => Err(Undeliverable::Topic { payload: payload.bytes }),
            bytes if bytes > largest => Err(Undeliverable::TooLarge { payload: payload.bytes, limit: largest }),
            _ => Ok(payload),
        });
        Some((taken, Message { topic, spans: spans(stored().take(taken)), payload }))
    }

    /// Writes as many observations as the limit takes, compressed in the backfill lane.
    fn payload<'a, I: Iterator<Item = &'a Stored>>(
        &mut self,
        run: impl Fn() -> I,
        limit: usize,
    ) -> Result<(usize, Payload), serde_json::Error> {
        if self.lane != Lane::Backfill {
            let taken = self.write(run(), limit)?;
            return Ok((taken, Payload { bytes: self.buffer.as_slice().to_vec(), compressed: false }));
        }
        loop {
            let taken = self.write(run(), self.compressor.worth_trying(limit))?;
            let payload = self.compressor.compress(&self.buffer);
            if payload.bytes.len() <= limit || taken == 1 {
                return Ok((taken, payload));
            }
            self.compressor.was_too_long(payload.bytes.len(), limit);
        }
    }

    /// Writes one message of losses.
    fn losses(&mut self, gaps: &mut VecDeque<Gap>, limits: Limits) -> Message {
        let topic = Arc::clone(&self.gap);
        let largest = limits.packet.saturating_sub(self.overhead + topic.len());
        let mut count = gaps.len().min(LOSSES);
        loop {
            let some = gaps.make_contiguous().get(..count).unwrap_or_default();
            let envelope = GapEnvelope { gateway: self.gateway, epoch: self.epoch, gaps: some };
            let payload = match serde_json::to_vec(&envelope) {
                Ok(bytes) if bytes.len() > limits.payload.min(largest) && count > 1 => {
                    count /= 2;
                    continue;
                }
                Ok(bytes) if bytes.len() > largest => Err(Undeliverable::TooLarge { payload: bytes, limit: largest }),
                Ok(bytes) => Ok(Payload { bytes, compressed: false }),
                Err(error) => Err(Undeliverable::Encoding(error)),
            };
            gaps.drain(..count);
            return Message { topic, spans: Vec::new(), payload };
        }
    }

    /// Writes an envelope into the buffer and returns how many observations are in it.
    ///
    /// The observations are written one by one between the head and the tail of an empty envelope, so that the limit cuts
    /// exactly and each is written once.
    fn write<'a>(&mut self, run: impl Iterator<Item = &'a Stored>, limit: usize) -> Result<usize, serde_json::Error> {
        self.buffer.clear();
        let mut run = run.peekable();
        let Some(first) = run.peek() else { return Ok(0) };
        let shape = &first.shape;
        let envelope = Envelope {
            gateway: self.gateway,
            epoch: self.epoch,
            directory: &shape.directory,
            clock: first.clock,
            observations: &[],
        };
        serde_json::to_writer(&mut self.buffer, &envelope)?;
        self.buffer.truncate(self.buffer.len().saturating_sub(TAIL.len()));
        let mut taken = 0;
        for stored in run {
            let before = self.buffer.len();
            if taken > 0 {
                self.buffer.push(b',');
            }
            self.skeletons.write(&mut self.buffer, stored)?;
            if taken > 0 && self.buffer.len() + TAIL.len() > limit {
                self.buffer.truncate(before);
                break;
            }
            taken += 1;
        }
        self.buffer.extend_from_slice(TAIL);
        Ok(taken)
    }

    /// Returns the topic of an observation and whether a broker would take it.
    fn topic(&mut self, stored: &Stored) -> (Arc<str>, bool) {
        let (resource, domain) = (stored.shape.resource, stored.shape.domain.as_str());
        if let Some(topic) = self.topics.get(&resource).filter(|topic| topic.domain == domain) {
            return (Arc::clone(&topic.text), topic.allowed);
        }
        let about = if self.lane == Lane::Event { ResourceSubject::Events } else { ResourceSubject::Observations };
        let text: Arc<str> = ResourceTopic { resource, domain, about }.to_string().into();
        // MQTT 5.0 §4.7.1, §4.7.3: no wildcard and no null character in a topic name.
        let allowed = !text.contains(['+', '#', '\0']);
        self.topics.insert(resource, Topic { domain: domain.to_owned(), text: Arc::clone(&text), allowed });
        (text, allowed)
    }
}

impl fmt::Display for Undeliverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { payload, limit } => {
                write!(f, "{} bytes in one observation, the broker takes {limit}", payload.len())
            }
            Self::Topic { .. } => f.write_str("its topic holds a character that MQTT forbids"),
            Self::Encoding(error) => write!(f, "no JSON form: {error}"),
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;

//! From durable observations to messages: which observations share a message, its topic, its JSON.
//!
//! One message holds consecutive observations of one resource with one state of the clock and one directory edition, as
//! many as the payload limit takes. Messages of one resource follow each other in the order of `seq`. Pure: no I/O, no
//! clock.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use ganglion_protocols::Cri;
use ganglion_protocols::envelope::Envelope;
use ganglion_protocols::topic::{ResourceSubject, ResourceTopic};

use super::skeleton::Skeletons;
use crate::buffer::Stored;

/// A chunk on its way out: what is left of it.
#[derive(Debug)]
pub(super) struct Batch<M> {
    /// Where the log goes on after it.
    pub(super) end: M,
    observations: Vec<Stored>,
    runs: VecDeque<Vec<usize>>,
}

/// One message, or what should have been one.
#[derive(Debug)]
pub(super) struct Message {
    /// Where to.
    pub(super) topic: Arc<str>,
    /// The resource observed.
    pub(super) resource: Cri,
    /// Number of observations, at least 1.
    pub(super) count: u64,
    /// `seq` of the last of them.
    pub(super) last_seq: u64,
    /// The JSON text.
    pub(super) payload: Result<Vec<u8>, Undeliverable>,
}

/// Why an observation can never be sent to this broker.
#[derive(Debug)]
pub(super) enum Undeliverable {
    /// One observation alone is larger than the broker's maximum packet size allows.
    TooLarge {
        /// Bytes of its payload.
        bytes: usize,
        /// Most bytes that would have been allowed.
        limit: usize,
    },
    /// The domain holds a character that is not allowed in a topic.
    Topic,
    /// It has no JSON form.
    Encoding(serde_json::Error),
}

/// How large a message may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// Payload above which no further observation joins a message, in bytes.
    pub(super) payload: usize,
    /// The broker's maximum packet size, in bytes.
    pub(super) packet: usize,
}

impl<M> Batch<M> {
    /// Sorts the observations of a chunk into runs; those that `is_settled` names by resource and `seq` are left out.
    pub(super) fn new(end: M, observations: Vec<Stored>, is_settled: impl Fn(Cri, u64) -> bool) -> Self {
        let mut runs: VecDeque<Vec<usize>> = VecDeque::new();
        let mut open: HashMap<Cri, usize> = HashMap::new();
        for (place, stored) in observations.iter().enumerate() {
            let resource = stored.shape.resource;
            if is_settled(resource, stored.seq) {
                continue;
            }
            let run = open.get(&resource).and_then(|&run| runs.get_mut(run)).filter(|run| {
                let last = run.last().and_then(|&last| observations.get(last));
                last.is_some_and(|last| share_a_message(last, stored))
            });
            match run {
                Some(run) => run.push(place),
                None => {
                    open.insert(resource, runs.len());
                    runs.push_back(vec![place]);
                }
            }
        }
        Self { end, observations, runs }
    }

    /// Returns whether everything was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Takes the next message.
    pub(super) fn next(&mut self, encoder: &mut Encoder, limits: Limits) -> Option<Message> {
        let run = self.runs.front_mut()?;
        let stored: Vec<&Stored> = run.iter().filter_map(|&place| self.observations.get(place)).collect();
        let (taken, message) = encoder.encode(&stored, limits)?;
        run.drain(..taken);
        if run.is_empty() {
            self.runs.pop_front();
        }
        Some(message)
    }
}

fn share_a_message(a: &Stored, b: &Stored) -> bool {
    a.clock == b.clock && (Arc::ptr_eq(&a.shape, &b.shape) || a.shape == b.shape)
}

/// Writes messages; keeps its buffer and the topics.
#[derive(Debug)]
pub(super) struct Encoder {
    gateway: Cri,
    epoch: u64,
    /// Bytes of a PUBLISH besides topic and payload, at most.
    overhead: usize,
    buffer: Vec<u8>,
    skeletons: Skeletons,
    topics: HashMap<Cri, Topic>,
}

#[derive(Debug)]
struct Topic {
    domain: String,
    text: Arc<str>,
    allowed: bool,
}

/// What follows the last observation in an envelope.
const TAIL: &[u8] = b"]}";

impl Encoder {
    /// Prepares for one gateway; `properties` is the size of the publish properties in bytes.
    pub(super) fn new(gateway: Cri, epoch: u64, properties: usize) -> Self {
        // MQTT 5.0 §3.3: fixed header up to 5, topic length 2, packet identifier 2, property length up to 4.
        Self {
            gateway,
            epoch,
            overhead: 13 + properties,
            buffer: Vec::new(),
            skeletons: Skeletons::default(),
            topics: HashMap::new(),
        }
    }

    /// Writes one message from the front of a run; returns how many observations it took, at least one.
    fn encode(&mut self, run: &[&Stored], limits: Limits) -> Option<(usize, Message)> {
        let first = run.first()?;
        let (topic, allowed) = self.topic(first);
        let largest = limits.packet.saturating_sub(self.overhead + topic.len());
        let (taken, outcome) = match self.write(run, limits.payload.min(largest)) {
            Ok(taken) => (taken, Ok(())),
            Err(error) => (1, Err(Undeliverable::Encoding(error))),
        };
        let payload = outcome.and_then(|()| match self.buffer.len() {
            _ if !allowed => Err(Undeliverable::Topic),
            bytes if bytes > largest => Err(Undeliverable::TooLarge { bytes, limit: largest }),
            _ => Ok(self.buffer.as_slice().to_vec()),
        });
        let last = run.get(taken.checked_sub(1)?)?;
        let message =
            Message { topic, resource: last.shape.resource, count: taken as u64, last_seq: last.seq, payload };
        Some((taken, message))
    }

    /// Writes an envelope into the buffer and returns how many observations are in it.
    ///
    /// The observations are written one by one between the head and the tail of an empty envelope, so that the limit cuts
    /// exactly and each is written once.
    fn write(&mut self, run: &[&Stored], limit: usize) -> Result<usize, serde_json::Error> {
        self.buffer.clear();
        let Some(first) = run.first() else { return Ok(0) };
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
        let text: Arc<str> =
            ResourceTopic { resource, domain, about: ResourceSubject::Observations }.to_string().into();
        // MQTT 5.0 §4.7.1, §4.7.3: no wildcard and no null character in a topic name.
        let allowed = !text.contains(['+', '#', '\0']);
        self.topics.insert(resource, Topic { domain: domain.to_owned(), text: Arc::clone(&text), allowed });
        (text, allowed)
    }
}

impl fmt::Display for Undeliverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, limit } => {
                write!(f, "{bytes} bytes in one observation, the broker takes {limit}")
            }
            Self::Topic => f.write_str("its topic holds a character that MQTT forbids"),
            Self::Encoding(error) => write!(f, "no JSON form: {error}"),
        }
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;

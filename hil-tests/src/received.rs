//! What a consumer can prove about the messages it got: which numbers came, which came twice, which are missing.
//!
//! This is the consumer's view of contract v1: it knows the payload from its description only and shares no code with the
//! gateway.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::SystemTime;

use serde::Deserialize;

/// Which observations stay in memory after they were counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The newest of each resource.
    Latest,
    /// All of them; only then can two observations of one number be compared.
    All,
}

/// Everything received, by resource.
#[derive(Clone, Debug)]
pub struct Received {
    keep: Keep,
    resources: BTreeMap<String, Resource>,
    events: BTreeMap<String, Resource>,
    others: BTreeMap<String, Vec<u8>>,
    violations: Vec<Violation>,
}

/// What was received of one resource.
#[derive(Clone, Debug, Default)]
pub struct Resource {
    epoch: String,
    seen: Ranges,
    declared: Ranges,
    gaps: Vec<Gap>,
    /// Highest number by lane.
    highest: BTreeMap<Lane, u64>,
    received: u64,
    duplicates: u64,
    reordered: u64,
    conflicting: BTreeSet<u64>,
    latest: Option<Observation>,
    kept: BTreeMap<u64, Observation>,
}

/// A way on which observations of one numbering come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// On `obs` or `event`, as they happen.
    Live,
    /// On `backfill`, what could not be sent then.
    Backfill,
}

/// One observation as a consumer understands it.
#[derive(Clone, PartialEq, Debug)]
pub struct Observation {
    /// Its number.
    pub seq: u64,
    /// Time of measurement, RFC 3339 in UTC.
    pub t: String,
    /// The readings, by property.
    pub readings: BTreeMap<String, Reading>,
    /// When it came.
    pub arrival: SystemTime,
}

/// One property's value.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub struct Reading {
    /// The value, `null` when there is none.
    #[serde(rename = "v")]
    pub value: serde_json::Value,
    /// UCUM unit.
    #[serde(rename = "u")]
    pub unit: String,
    /// `good`, `uncertain` or `bad`.
    #[serde(rename = "q")]
    pub quality: String,
    /// Why the quality is not good.
    #[serde(rename = "r")]
    pub reason: Option<String>,
}

/// A message that breaks the contract.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// The payload is no envelope.
    NotAnEnvelope {
        /// Its topic.
        topic: String,
        /// What is wrong with it.
        why: String,
    },
    /// The payload is of another contract.
    Version {
        /// Its topic.
        topic: String,
        /// The version it names.
        got: u64,
    },
    /// The observation does not belong to its topic.
    ForeignTopic {
        /// The topic.
        topic: String,
        /// The resource the observation names.
        id: String,
    },
    /// The numbering of a resource began anew.
    EpochChanged {
        /// The resource.
        id: String,
        /// The epoch before.
        before: String,
        /// The epoch now.
        now: String,
    },
    /// A number below 1.
    NoNumber {
        /// The resource.
        id: String,
    },
}

#[derive(Deserialize)]
struct Envelope {
    v: u64,
    epoch: String,
    #[serde(default)]
    obs: Vec<Wire>,
    #[serde(default)]
    gap: Vec<Gap>,
}

/// A loss that was declared.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Gap {
    id: String,
    /// The first number that is lost.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many of them are lost.
    pub n: u64,
    /// From when on they were measured, RFC 3339 in UTC.
    pub from: String,
    /// Until when.
    pub to: String,
    /// Why.
    #[serde(rename = "r")]
    pub cause: String,
}

/// How a payload that is compressed begins. Source: RFC 8878 §3.1.1.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Longest text in one message.
const LONGEST_TEXT: usize = 16 * 1024 * 1024;

/// Returns the text of a payload, which may be compressed.
///
/// # Errors
/// When it begins as if it was compressed and is not.
pub fn text(payload: &[u8]) -> std::io::Result<Cow<'_, [u8]>> {
    if payload.starts_with(&ZSTD) {
        zstd::bulk::decompress(payload, LONGEST_TEXT).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(payload))
    }
}

#[derive(Deserialize)]
struct Wire {
    id: String,
    seq: u64,
    t: String,
    p: BTreeMap<String, Reading>,
}

impl Received {
    /// Starts with nothing.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        Self {
            keep,
            resources: BTreeMap::new(),
            events: BTreeMap::new(),
            others: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// Takes one message. What carries neither observations nor losses, such as a status, is kept by its topic.
    pub fn message(&mut self, topic: &str, payload: &[u8], arrival: SystemTime) {
        let leaf = topic.rsplit('/').next().unwrap_or_default();
        if !["obs", "event", "backfill", "gap"].contains(&leaf) {
            self.others.insert(topic.to_owned(), payload.to_vec());
            return;
        }
        let parsed = text(payload).map_err(|error| error.to_string());
        let envelope = parsed.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        let envelope: Envelope = match envelope {
            Ok(envelope) => envelope,
            Err(why) => {
                let topic = topic.to_owned();
                return self.violations.push(Violation::NotAnEnvelope { topic, why });
            }
        };
        if envelope.v != 1 {
            return self.violations.push(Violation::Version { topic: topic.to_owned(), got: envelope.v });
        }
        for wire in envelope.obs {
            if leaf != "backfill" && !belongs(topic, &wire.id) {
                self.violations.push(Violation::ForeignTopic { topic: topic.to_owned(), id: wire.id });
            } else if wire.seq == 0 {
                self.violations.push(Violation::NoNumber { id: wire.id });
            } else {
                self.observation(&envelope.epoch, wire, leaf, arrival);
            }
        }
        for gap in envelope.gap {
            let resource = self.resources.entry(gap.id.clone()).or_default();
            // Of other numbers between them, that not all are lost, one cannot say which are.
            if gap.n == gap.last - gap.first + 1 {
                for seq in gap.first..=gap.last {
                    resource.declared.insert(seq);
                }
            }
            if !resource.gaps.contains(&gap) {
                resource.gaps.push(gap);
            }
        }
    }

    fn observation(&mut self, epoch: &str, wire: Wire, leaf: &str, arrival: SystemTime) {
        let Wire { id, seq, t, p: readings } = wire;
        let resources = if leaf == "event" { &mut self.events } else { &mut self.resources };
        let resource = resources.entry(id.clone()).or_default();
        if resource.epoch != epoch {
            if !resource.epoch.is_empty() {
                let before = std::mem::take(&mut resource.epoch);
                self.violations.push(Violation::EpochChanged { id, before, now: epoch.to_owned() });
                *resource = Resource::default();
            }
            epoch.clone_into(&mut resource.epoch);
        }
        let lane = if leaf == "backfill" { Lane::Backfill } else { Lane::Live };
        resource.observation(Observation { seq, t, readings, arrival }, lane, self.keep);
    }

    /// Returns the events, by identifier.
    #[must_use]
    pub fn events(&self) -> &BTreeMap<String, Resource> {
        &self.events
    }

    /// Returns the resources, by identifier.
    #[must_use]
    pub fn resources(&self) -> &BTreeMap<String, Resource> {
        &self.resources
    }

    /// Returns one resource, if anything of it came.
    #[must_use]
    pub fn resource(&self, id: &str) -> Option<&Resource> {
        self.resources.get(id)
    }

    /// Returns the newest payload of each topic that carries no observations.
    #[must_use]
    pub fn others(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.others
    }

    /// Returns the messages that broke the contract, oldest first.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Returns how many different observations came.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.resources.values().map(Resource::received).sum()
    }
}

impl Resource {
    fn observation(&mut self, observation: Observation, lane: Lane, keep: Keep) {
        let seq = observation.seq;
        let highest = self.highest();
        if self.seen.insert(seq) {
            self.received += 1;
            let in_lane = self.highest.entry(lane).or_default();
            self.reordered += u64::from(seq < *in_lane);
            *in_lane = seq.max(*in_lane);
        } else {
            self.duplicates += 1;
            let first = self.kept.get(&seq);
            if first.is_some_and(|first| (&first.t, &first.readings) != (&observation.t, &observation.readings)) {
                self.conflicting.insert(seq);
            }
            return;
        }
        if keep == Keep::All {
            self.kept.insert(seq, observation.clone());
        }
        if seq > highest {
            self.latest = Some(observation);
        }
    }

    /// Returns the identity of the store that numbered them.
    #[must_use]
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Returns how many different observations came.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Returns how many came again.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Returns the numbers that were declared lost and did not come, of `1..=last`.
    #[must_use]
    pub fn declared(&self, last: u64) -> u64 {
        self.missing(last).into_iter().flatten().filter(|seq| self.declared.holds(*seq)).count() as u64
    }

    /// Returns the losses that were declared, each once, as they came.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Returns how many came for the first time after one with a higher number in the same lane.
    #[must_use]
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Returns the numbers that came again with other content; needs [`Keep::All`].
    #[must_use]
    pub fn conflicting(&self) -> &BTreeSet<u64> {
        &self.conflicting
    }

    /// Returns the highest number, 0 before the first.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.seen.highest()
    }

    /// Returns the numbers of `1..=last` that never came, as ranges in order.
    #[must_use]
    pub fn missing(&self, last: u64) -> Vec<RangeInclusive<u64>> {
        self.seen.gaps(last)
    }

    /// Returns how many numbers of `1..=last` never came.
    #[must_use]
    pub fn lost(&self, last: u64) -> u64 {
        self.missing(last).iter().map(|gap| gap.end() - gap.start() + 1).sum()
    }

    /// Returns the observation with the highest number.
    #[must_use]
    pub fn latest(&self) -> Option<&Observation> {
        self.latest.as_ref()
    }

    /// Returns the observations kept, by number; needs [`Keep::All`].
    #[must_use]
    pub fn observations(&self) -> &BTreeMap<u64, Observation> {
        &self.kept
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnEnvelope { topic, why } => write!(f, "{topic}: no envelope: {why}"),
            Self::Version { topic, got } => write!(f, "{topic}: contract {got}, 1 is known"),
            Self::ForeignTopic { topic, id } => write!(f, "{topic}: carries an observation of {id}"),
            Self::EpochChanged { id, before, now } => write!(f, "{id}: epoch {before} became {now}"),
            Self::NoNumber { id } => write!(f, "{id}: number 0, they begin with 1"),
        }
    }
}

/// Says whether `city/v1/{division}/{domain}/{class}/{serial}/obs` or `…/event` is the topic of `{division}-{class}-{serial}-{check}`.
fn belongs(topic: &str, id: &str) -> bool {
    let levels: Vec<&str> = topic.split('/').collect();
    let parts: Vec<&str> = id.split('-').collect();
    match (levels.as_slice(), parts.as_slice()) {
        (["city", "v1", division, _, class, serial, "obs" | "event"], parts) => {
            parts.len() == 4 && parts.starts_with(&[division, class, serial])
        }
        _ => false,
    }
}

/// A set of numbers, kept as ranges: start to end, apart from each other by at least one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Says whether the number is new.
    fn insert(&mut self, number: u64) -> bool {
        let below = self.0.range(..=number).next_back().map(|(&start, &end)| (start, end));
        if below.is_some_and(|(_, end)| number <= end) {
            return false;
        }
        let start = below.filter(|(_, end)| end.checked_add(1) == Some(number)).map_or(number, |(start, _)| start);
        let above = number.checked_add(1).and_then(|next| self.0.remove(&next));
        self.0.insert(start, above.unwrap_or(number));
        true
    }

    fn holds(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, &end)| number <= end)
    }

    fn highest(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, &end)| end)
    }

    /// Returns what is not in the set, of `1..=last`.
    fn gaps(&self, last: u64) -> Vec<RangeInclusive<u64>> {
        let mut gaps = Vec::new();
        let mut next = 1;
        for (&start, &end) in self.0.range(..=last) {
            if next < start {
                gaps.push(next..=start - 1);
            }
            next = end.saturating_add(1);
        }
        if next <= last {
            gaps.push(next..=last);
        }
        gaps
    }
}

#[cfg(test)]
mod tests;

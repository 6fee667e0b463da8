//! What a consumer makes of the messages: which numbers came in which lane, which came again, which are declared lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ganglion_hil::peers::mosquitto::Subscriber;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// A lane, known by its topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Lane {
    Live,
    Backfill,
    Event,
}

/// Whose numbers: the log by its epoch, and the resource.
pub(crate) type Series = (String, String);

/// One message, read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) lane: Option<Lane>,
    pub(crate) compressed: bool,
    pub(crate) observations: Vec<(Series, u64)>,
    pub(crate) gaps: Vec<(Series, Declared)>,
}

/// A loss as it is declared.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct Declared {
    pub(crate) first: u64,
    pub(crate) last: u64,
    #[serde(rename = "n")]
    pub(crate) count: u64,
    #[serde(rename = "r")]
    pub(crate) cause: String,
}

#[derive(Deserialize)]
struct Envelope {
    epoch: String,
    #[serde(default)]
    obs: Vec<Observation>,
    #[serde(default)]
    gap: Vec<Gap>,
}

#[derive(Deserialize)]
struct Observation {
    id: String,
    seq: u64,
    #[serde(rename = "p")]
    _readings: IgnoredAny,
}

#[derive(Deserialize)]
struct Gap {
    id: String,
    #[serde(flatten)]
    declared: Declared,
}

impl Content {
    /// Reads a message as `docs/contract.md` says.
    pub(crate) fn read(topic: &str, payload: &[u8]) -> Self {
        // Source: RFC 8878 §3.1.1.
        let compressed = payload.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        let text = if compressed { zstd::decode_all(payload).unwrap() } else { payload.to_vec() };
        let Envelope { epoch, obs, gap } = serde_json::from_slice(&text).unwrap();
        let lane = match topic.rsplit('/').next() {
            Some("obs") => Some(Lane::Live),
            Some("backfill") => Some(Lane::Backfill),
            Some("event") => Some(Lane::Event),
            _ => None,
        };
        assert_eq!((lane.is_some(), topic.ends_with("/gap")), (!obs.is_empty(), !gap.is_empty()), "{topic}");
        assert!(!compressed || lane == Some(Lane::Backfill), "{topic} is compressed");
        let observations = obs.into_iter().map(|own| ((epoch.clone(), own.id), own.seq)).collect();
        let gaps = gap.into_iter().map(|own| ((epoch.clone(), own.id), own.declared)).collect();
        Self { lane, compressed, observations, gaps }
    }
}

/// Everything that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived {
    /// Messages with observations or losses.
    pub(crate) messages: u64,
    /// Messages in which everything had come before.
    pub(crate) repeated: u64,
    /// Observations, each time they came.
    pub(crate) observations: u64,
    /// Observations that had come before.
    pub(crate) duplicates: u64,
    /// Observations that came first behind a higher number of their lane.
    pub(crate) reordered: Vec<(Lane, Series, u64)>,
    /// Messages by lane.
    pub(crate) by_lane: BTreeMap<Lane, u64>,
    seen: HashMap<Series, BTreeSet<u64>>,
    taken: HashMap<Series, BTreeSet<u64>>,
    highest: HashMap<(Lane, Series), u64>,
    declared: HashMap<Series, Vec<Declared>>,
    accounted: u64,
}

impl Arrived {
    /// Reads everything that a subscriber got so far.
    pub(crate) fn of(subscriber: &Subscriber) -> Self {
        let mut arrived = Self::default();
        for message in subscriber.received().unwrap() {
            let content = Content::read(&message.topic, &message.bytes);
            arrived.came(&content);
            arrived.taken(&content);
        }
        arrived
    }

    /// Notes a message that came, whatever it is answered.
    pub(crate) fn came(&mut self, content: &Content) {
        let Some(lane) = content.lane else { return };
        self.messages += 1;
        *self.by_lane.entry(lane).or_default() += 1;
        let before = self.duplicates;
        for (series, seq) in &content.observations {
            self.observations += 1;
            if !self.seen.entry(series.clone()).or_default().insert(*seq) {
                self.duplicates += 1;
                continue;
            }
            let highest = self.highest.entry((lane, series.clone())).or_default();
            if seq < highest {
                self.reordered.push((lane, series.clone(), *seq));
            }
            *highest = (*highest).max(*seq);
        }
        self.repeated += u64::from(self.duplicates - before == content.observations.len() as u64);
    }

    /// Notes a message that was acknowledged, or was handed on by a broker that acknowledges all.
    pub(crate) fn taken(&mut self, content: &Content) {
        for (series, seq) in &content.observations {
            self.accounted += u64::from(self.taken.entry(series.clone()).or_default().insert(*seq));
        }
        for (series, gap) in &content.gaps {
            let declared = self.declared.entry(series.clone()).or_default();
            if !declared.contains(gap) {
                self.accounted += gap.count;
                declared.push(gap.clone());
            }
        }
    }

    /// Observations taken, and observations declared lost.
    pub(crate) fn accounted(&self) -> u64 {
        self.accounted
    }

    /// The numbers of a series that were taken.
    pub(crate) fn numbers(&self, series: &Series) -> BTreeSet<u64> {
        self.taken.get(series).cloned().unwrap_or_default()
    }

    /// The losses of a series, in the order of their first declaration.
    pub(crate) fn gaps(&self, series: &Series) -> &[Declared] {
        self.declared.get(series).map_or(&[], Vec::as_slice)
    }

    /// Every loss with its series.
    pub(crate) fn all_gaps(&self) -> impl Iterator<Item = (&Series, &Declared)> {
        self.declared.iter().flat_map(|(series, gaps)| gaps.iter().map(move |gap| (series, gap)))
    }

    /// How many are declared lost.
    pub(crate) fn declared_count(&self) -> u64 {
        self.all_gaps().map(|(_, gap)| gap.count).sum()
    }

    /// The numbers of `1..=last` that were neither taken nor declared lost.
    pub(crate) fn missing(&self, series: &Series, last: u64) -> Vec<u64> {
        let taken = self.taken.get(series);
        let declared = self.gaps(series);
        let accounted = |seq: u64| {
            taken.is_some_and(|taken| taken.contains(&seq))
                || declared.iter().any(|gap| (gap.first..=gap.last).contains(&seq))
        };
        (1..=last).filter(|&seq| !accounted(seq)).collect()
    }
}

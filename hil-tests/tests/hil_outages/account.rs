//! What a node says it took, held against what a subscriber got and what was declared lost.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use ganglion_hil::node::{Sample, Truth};
use ganglion_hil::received::{Gap, Observation, Resource};

/// How a channel of a node is told: its property, and the power of ten of its numbers.
pub(crate) type Channels = &'static [(&'static str, i32)];

/// A sample, and the life of the node it is of: from one start to the next.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) sample: Sample,
    life: usize,
    place: usize,
}

/// Where each sample of a node is.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Delivered, with the time it was delivered with.
    pub(crate) delivered: Vec<(Taken, SystemTime)>,
    /// Declared lost, and why.
    pub(crate) declared: Vec<(Taken, String)>,
    /// Neither: lost in silence, or still under way.
    pub(crate) open: Vec<Taken>,
    /// By how much a sample was delivered before the time it says, at most: it has not its own.
    pub(crate) early: Duration,
    /// The earliest time delivered.
    pub(crate) first: Option<SystemTime>,
    /// Delivered, and no sample of the node: made up, or delivered twice.
    pub(crate) strange: Vec<Observation>,
}

impl Taken {
    /// Its place among all that the node took.
    pub(crate) fn place(&self) -> usize {
        self.place
    }
}

impl Account {
    /// Holds a node's truth against what came of its resource. Both are in order, and what came is a part of what was taken;
    /// values tell one sample from the next.
    pub(crate) fn of(truth: &Truth, resource: Option<&Resource>, channels: Channels) -> Self {
        let mut account = Self::default();
        let none = BTreeMap::new();
        let mut came = resource.map_or(&none, Resource::observations).values().peekable();
        let mut missing = Vec::new();
        for taken in lives(truth) {
            match came.peek() {
                Some(observation) if is_of(observation, &taken.sample, channels) => {
                    let t = time(&observation.t);
                    account.early = account.early.max(t.duration_since(observation.arrival).unwrap_or_default());
                    account.first = Some(account.first.map_or(t, |first| first.min(t)));
                    account.delivered.push((taken, t));
                    came.next();
                }
                _ => missing.push(taken),
            }
        }
        account.strange = came.cloned().collect();
        let gaps = resource.map_or(&[][..], Resource::gaps);
        for taken in missing {
            match account.gap_of(&taken, gaps) {
                Some(gap) => account.declared.push((taken, gap.cause.clone())),
                None => account.open.push(taken),
            }
        }
        account
    }

    /// Finds the declared loss in which a sample lies by its time, reckoned from its neighbour in the same life that was
    /// delivered, the one before it if there is one. Where nothing of its life was delivered, the loss lies between the last
    /// one delivered before it and the first behind it.
    fn gap_of<'g>(&self, taken: &Taken, gaps: &'g [Gap]) -> Option<&'g Gap> {
        let before = self.delivered.iter().rev().find(|(other, _)| other.place < taken.place);
        let behind = self.delivered.iter().find(|(other, _)| other.place > taken.place);
        if let Some((other, t)) = [before, behind].into_iter().flatten().find(|(other, _)| other.life == taken.life) {
            let t = shifted(*t, other.sample.uptime_ms, taken.sample.uptime_ms);
            return gaps.iter().find(|gap| time(&gap.from) <= t + SLACK && t <= time(&gap.to) + SLACK);
        }
        let (_, behind) = behind?;
        let between = |gap: &&Gap| {
            before.is_none_or(|(_, before)| *before <= time(&gap.from) + SLACK) && time(&gap.to) <= *behind + SLACK
        };
        gaps.iter().find(between)
    }

    /// Returns each step between two samples that is not what the node's uptime says: its clock was set between them.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for pair in self.delivered.windows(2) {
            let [(one, t), (next, next_t)] = pair else { continue };
            if one.life != next.life {
                continue;
            }
            let expected = shifted(*t, one.sample.uptime_ms, next.sample.uptime_ms);
            let (forward, by) =
                next_t.duration_since(expected).map_or_else(|error| (false, error.duration()), |by| (true, by));
            if by > SLACK {
                steps.push(Step { forward, by });
            }
        }
        steps
    }
}

/// A node's clock was set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) forward: bool,
    pub(crate) by: Duration,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut causes: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, cause) in &self.declared {
            *causes.entry(cause).or_default() += 1;
        }
        let Self { delivered, declared, open, strange, .. } = self;
        write!(f, "delivered {}, declared lost {} {causes:?}", delivered.len(), declared.len())?;
        write!(f, ", open {}, strange {}", open.len(), strange.len())
    }
}

/// Times of a gap are to the millisecond, and a node's clock is to a tick.
const SLACK: Duration = Duration::from_millis(5);

/// Tells the lives of a node apart: with each its uptime begins anew.
fn lives(truth: &Truth) -> Vec<Taken> {
    let (mut life, mut last_ms) = (0, 0);
    let number = |(place, sample): (usize, &Sample)| {
        life += usize::from(sample.uptime_ms <= last_ms);
        last_ms = sample.uptime_ms;
        Taken { sample: sample.clone(), life, place }
    };
    truth.samples.iter().enumerate().map(number).collect()
}

fn shifted(t: SystemTime, from_ms: u64, to_ms: u64) -> SystemTime {
    if to_ms >= from_ms {
        t + Duration::from_millis(to_ms - from_ms)
    } else {
        t - Duration::from_millis(from_ms - to_ms)
    }
}

/// Says whether an observation tells exactly what the sample does.
fn is_of(observation: &Observation, sample: &Sample, channels: Channels) -> bool {
    channels.iter().zip(&sample.values).all(|((property, exponent), value)| {
        let told = observation.readings.get(*property).and_then(|reading| reading.value.as_f64());
        match (told, value) {
            (None, None) => true,
            (Some(told), Some(value)) => (told - f64::from(*value) * 10_f64.powi(*exponent)).abs() < 1e-9,
            _ => false,
        }
    })
}

pub(crate) fn time(text: &str) -> SystemTime {
    let instant: jiff::Timestamp = text.parse().expect("RFC 3339");
    instant.into()
}

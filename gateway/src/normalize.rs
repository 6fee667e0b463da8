//! Registers to readings: type, scale, unit, physical range, quality, whose they are, and whether they tell anything new;
//! and which of them are events ([`events`]).

pub mod events;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_drivers::report::{Deadband, Reporter};
use ganglion_protocols::modbus::ValueType;
use ganglion_protocols::{Quality, Reading, Reason, Value};
use tokio::sync::mpsc;

use self::events::Events;
use crate::monitor::Monitor;
use crate::pipeline::{Acquired, LostAtSource, LostOfStream, Offered, Sample, Unnumbered};
use crate::site::{Group, Point, Role, Scale, Site};

/// Turns samples into observations and events until acquire is done; waits where the buffer is full.
pub async fn run(
    site: Arc<Site>,
    monitor: Arc<Monitor>,
    mut samples: mpsc::Receiver<Acquired>,
    observations: mpsc::Sender<Offered>,
    events: mpsc::Sender<Offered>,
) {
    let start = Instant::now();
    let mut reports = Reports::new(&site);
    let mut alarms = Events::new(&site);
    while let Some(acquired) = samples.recv().await {
        let sample = match acquired {
            Acquired::Sample(sample) => sample,
            Acquired::Lost(lost) => {
                for loss in losses(&site, &lost) {
                    if observations.send(Offered::Lost(loss)).await.is_err() {
                        return;
                    }
                }
                continue;
            }
        };
        let now = start.elapsed();
        let observed = observe(&site, &sample);
        for event in alarms.observe(&site, now, &sample, &observed) {
            monitor.event(&site, &event);
            if events.send(event.into()).await.is_err() {
                return;
            }
        }
        for observation in observed {
            if !reports.worth(now, &observation) {
                continue;
            }
            if let Some(stream) = site.streams.get(observation.stream.0) {
                monitor.count(stream.resource, |ledger| ledger.sampled += 1);
            }
            if observations.send(observation.into()).await.is_err() {
                return;
            }
        }
    }
}

/// Which observations are worth a report: all of a stream, or those of one that reports on change that tell something new.
/// One that is not is as if it had not been made: it gets no number.
#[derive(Clone, Debug)]
pub struct Reports {
    /// One for each of the site's streams; `None` where everything is reported.
    streams: Vec<Option<OnChange>>,
}

#[derive(Clone, Debug)]
struct OnChange {
    reporter: Reporter,
    /// The readings last reported.
    last: Vec<Option<Reading>>,
    deadbands: Vec<Deadband>,
}

impl Reports {
    /// Starts with nothing reported.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        let mut streams = vec![None; site.streams.len()];
        for group in site.devices.iter().flat_map(|device| &device.groups) {
            let Some(heartbeat) = group.heartbeat else { continue };
            for (part, stream) in group.streams.iter().enumerate() {
                let width = site.streams.get(stream.0).map_or(0, |stream| stream.properties.len());
                let mut deadbands = vec![Deadband::default(); width];
                for point in group.points.iter().filter(|point| point.part == part) {
                    if let (Some(slot), Some(deadband)) = (deadbands.get_mut(point.place), point.deadband) {
                        *slot = deadband;
                    }
                }
                if let Some(slot) = streams.get_mut(stream.0) {
                    *slot = Some(OnChange { reporter: Reporter::new(heartbeat), last: vec![None; width], deadbands });
                }
            }
        }
        Self { streams }
    }

    /// Says whether the observation, made at `now`, is to be reported, and then remembers it as reported. `now` is counted
    /// from any one start, the same for every call.
    pub fn worth(&mut self, now: Duration, observation: &Unnumbered) -> bool {
        let Some(Some(OnChange { reporter, last, deadbands })) = self.streams.get_mut(observation.stream.0) else {
            return true;
        };
        let deadband = |place: usize| deadbands.get(place).copied().unwrap_or_default();
        reporter.decide(now, &observation.readings, deadband, last).is_some()
    }
}

/// Returns one observation for each stream of the sample's group; a group that is not the site's has none.
#[must_use]
pub fn observe(site: &Site, sample: &Sample) -> Vec<Unnumbered> {
    let group = site.devices.get(sample.device.0).and_then(|device| device.groups.get(sample.group));
    let Some(group) = group else { return Vec::new() };
    let mut observations: Vec<Unnumbered> = group
        .streams
        .iter()
        .map(|&stream| {
            let width = site.streams.get(stream.0).map_or(0, |stream| stream.properties.len());
            Unnumbered {
                stream,
                t: sample.t,
                clock: sample.clock,
                readings: vec![NOT_READ; width],
                origin: sample.origin,
            }
        })
        .collect();
    for point in group.points.iter() {
        let observation = observations.get_mut(point.part);
        if let Some(slot) = observation.and_then(|observation| observation.readings.get_mut(point.place)) {
            *slot = read(group, point, sample);
        }
    }
    observations
}

/// Returns one loss for each resource of the group whose samples are lost.
fn losses(site: &Site, lost: &LostAtSource) -> Vec<LostOfStream> {
    let LostAtSource { device, group, count, from, to, cause, origin } = *lost;
    let group = site.devices.get(device.0).and_then(|device| device.groups.get(group));
    let streams = group.map_or(&[][..], |group| &group.streams);
    streams.iter().map(|&stream| LostOfStream { stream, count, from, to, cause, origin }).collect()
}

/// What a property shows when no point of this device fills it.
const NOT_READ: Reading = Reading { value: None, quality: Quality::Bad(Reason::Missing) };

/// Returns the reading of one point of a sample's group.
pub(crate) fn read(group: &Group, point: &Point, sample: &Sample) -> Reading {
    match value(group, point, sample) {
        Ok(value) if within(point.range, value) => Reading { value: Some(value), quality: Quality::Good },
        Ok(value) => Reading { value: Some(value), quality: Quality::Bad(Reason::OutOfRange) },
        Err(reason) => Reading { value: None, quality: Quality::Bad(reason) },
    }
}

fn value(group: &Group, point: &Point, sample: &Sample) -> Result<Value, Reason> {
    let registers = registers(group, sample, point.want, point.first, point.value_type)?;
    let bits = point.value_type.bits(registers, point.word_order).map_err(|_| Reason::WrongLength)?;
    if point.missing == Some(bits) {
        return Err(Reason::Missing);
    }
    let raw = point.value_type.decode(registers, point.word_order).map_err(|_| Reason::NotAValue)?;
    if point.terms.is_empty() {
        return match point.scale {
            Some(scale) => scale.apply(raw.value).ok_or(Reason::NotAValue),
            None => Ok(raw.value),
        };
    }
    let mut made = Made::of(raw.value).ok_or(Reason::NotAValue)?;
    for term in &point.terms {
        let registers = self::registers(group, sample, term.want, term.first, term.value_type)?;
        let number = term.value_type.decode(registers, term.word_order).map_err(|_| Reason::NotAValue)?;
        made.term(term.role, number.value).ok_or(Reason::NotAValue)?;
    }
    made.scaled(point.scale).ok_or(Reason::NotAValue)
}

/// Returns the registers of a value among the items of its want.
fn registers<'a>(
    group: &Group,
    sample: &'a Sample,
    want: usize,
    first: usize,
    value_type: ValueType,
) -> Result<&'a [u16], Reason> {
    let (Some(state), Some(asked)) = (sample.states.get(want), group.wants.get(want)) else {
        return Err(Reason::WrongLength);
    };
    if let Some(reason) = state {
        return Err(*reason);
    }
    let end = first + usize::from(value_type.registers());
    let within = end <= usize::from(asked.read.count);
    let registers = sample.words.get(asked.offset + first..asked.offset + end).filter(|_| within);
    registers.ok_or(Reason::WrongLength)
}

/// A number while it is made of several registers: one exact ratio as long as the registers are, so that a decimal
/// exponent gives the digits a person expects.
struct Made {
    number: f64,
    multiply: f64,
    divide: f64,
}

/// Largest power of ten that is exact in an `f64`; no device counts further.
const MAX_EXPONENT: i32 = 22;

impl Made {
    fn of(value: Value) -> Option<Self> {
        Some(Self { number: as_f64(value)?, multiply: 1.0, divide: 1.0 })
    }

    /// Takes a term; parts come before factors whatever their order. `None` when no number can come of it.
    fn term(&mut self, role: Role, value: Value) -> Option<()> {
        let number = as_f64(value)?;
        match role {
            Role::Part => self.number += number,
            Role::Factor => self.multiply *= number,
            Role::Exponent | Role::Decimals => {
                let limit = f64::from(MAX_EXPONENT);
                if number.fract() != 0.0 || !(-limit..=limit).contains(&number) {
                    return None;
                }
                #[allow(clippy::cast_possible_truncation, reason = "a whole number of at most 22")]
                let power = 10_f64.powi((number as i32).abs());
                if (number < 0.0) == (role == Role::Exponent) {
                    self.divide *= power;
                } else {
                    self.multiply *= power;
                }
            }
        }
        Some(())
    }

    fn scaled(self, scale: Option<Scale>) -> Option<Value> {
        let scale = scale.unwrap_or(Scale { multiply: 1.0, divide: 1.0, offset: 0.0 });
        let (multiply, divide) = (scale.multiply * self.multiply, scale.divide * self.divide);
        Scale { multiply, divide, offset: scale.offset }.apply(Value::Double(self.number))
    }
}

fn within(range: Option<(f64, f64)>, value: Value) -> bool {
    match (range, as_f64(value)) {
        (Some((low, high)), Some(number)) => low <= number && number <= high,
        _ => true,
    }
}

/// Returns the number, rounded to binary64; a state is no number.
#[allow(clippy::cast_precision_loss, reason = "a limit or a scale needs no more than 53 bits")]
fn as_f64(value: Value) -> Option<f64> {
    match value {
        Value::Bool(_) => None,
        Value::Int(value) => Some(value as f64),
        Value::Uint(value) => Some(value as f64),
        Value::Single(value) => Some(f64::from(value)),
        Value::Double(value) => Some(value),
    }
}

impl Scale {
    /// Returns the value in the property's unit, or `None` when it is a state or leaves the numbers.
    #[must_use]
    pub fn apply(self, value: Value) -> Option<Value> {
        let scaled = as_f64(value)? * self.multiply / self.divide + self.offset;
        scaled.is_finite().then_some(Value::Double(scaled))
    }
}

#[cfg(test)]
mod tests;

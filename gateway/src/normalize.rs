//! Registers to readings: type, scale, unit, physical range, quality, and whose they are.

use std::sync::Arc;

use ganglion_protocols::{Quality, Reading, Reason, Value};
use tokio::sync::mpsc;

use crate::monitor::Monitor;
use crate::pipeline::{Sample, Unnumbered};
use crate::site::{Point, Scale, Site};

/// Turns samples into observations until acquire is done; waits where the buffer is full.
pub async fn run(
    site: Arc<Site>,
    monitor: Arc<Monitor>,
    mut samples: mpsc::Receiver<Sample>,
    observations: mpsc::Sender<Unnumbered>,
) {
    while let Some(sample) = samples.recv().await {
        for observation in observe(&site, &sample) {
            if let Some(stream) = site.streams.get(observation.stream.0) {
                monitor.count(stream.resource, |ledger| ledger.sampled += 1);
            }
            if observations.send(observation).await.is_err() {
                return;
            }
        }
    }
}

/// Returns one observation for each stream of the sample's device; a device that is not the site's has none.
#[must_use]
pub fn observe(site: &Site, sample: &Sample) -> Vec<Unnumbered> {
    let Some(device) = site.devices.get(sample.device.0) else { return Vec::new() };
    let mut observations: Vec<Unnumbered> = device
        .streams
        .iter()
        .map(|&stream| {
            let width = site.streams.get(stream.0).map_or(0, |stream| stream.properties.len());
            Unnumbered { stream, t: sample.t, clock: sample.clock, readings: vec![NOT_READ; width] }
        })
        .collect();
    for point in device.points.iter() {
        let observation = observations.get_mut(point.part);
        if let Some(slot) = observation.and_then(|observation| observation.readings.get_mut(point.place)) {
            *slot = read(point, sample);
        }
    }
    observations
}

/// What a property shows when no point of this device fills it.
const NOT_READ: Reading = Reading { value: None, quality: Quality::Bad(Reason::Missing) };

fn read(point: &Point, sample: &Sample) -> Reading {
    match value(point, sample) {
        Ok(value) if within(point.range, value) => Reading { value: Some(value), quality: Quality::Good },
        Ok(value) => Reading { value: Some(value), quality: Quality::Bad(Reason::OutOfRange) },
        Err(reason) => Reading { value: None, quality: Quality::Bad(reason) },
    }
}

fn value(point: &Point, sample: &Sample) -> Result<Value, Reason> {
    let answer = sample.answers.get(point.request).ok_or(Reason::WrongLength)?;
    let items = answer.as_ref().map_err(|&reason| reason)?;
    let end = point.offset + usize::from(point.value_type.registers());
    let registers = items.get(point.offset..end).ok_or(Reason::WrongLength)?;
    let bits = point.value_type.bits(registers, point.word_order).map_err(|_| Reason::WrongLength)?;
    if point.missing == Some(bits) {
        return Err(Reason::Missing);
    }
    let raw = point.value_type.decode(registers, point.word_order).map_err(|_| Reason::NotAValue)?;
    match point.scale {
        Some(scale) => scale.apply(raw.value).ok_or(Reason::NotAValue),
        None => Ok(raw.value),
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

//! Which observations of a stream are worth reporting.
//!
//! A stream that reports on change passes an observation on if any of its readings differs from the last one *reported*,
//! not from the last one read: so a slow drift is reported as soon as it has come far enough. A reading differs if its value
//! moved by more than its [`Deadband`], if its quality or the reason for it changed, or if the value appeared or went. An
//! observation is whole: one reading that differs reports all of them.
//!
//! A stream that does not change is reported once a heartbeat, so that silence means trouble.

use core::time::Duration;

use ganglion_protocols::{Reading, Value};

/// How far a number may move from the one last reported without being reported: the larger of both limits. With both 0
/// every change is reported. A state, on or off, has no deadband.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Deadband {
    /// In the unit of the value, 0 or more.
    pub absolute: f64,
    /// In percent of the magnitude of the value last reported, 0 or more.
    pub percent: f64,
}

/// Why an observation is reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It is the first of the stream.
    First,
    /// A quality changed, or the reason for it.
    Quality,
    /// A value appeared or went.
    Presence,
    /// A value moved by more than its deadband.
    Moved,
    /// Nothing was reported for a heartbeat.
    Heartbeat,
}

/// Decides for one stream of observations. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct Reporter {
    heartbeat: Duration,
    /// When the next heartbeat is due.
    due: Duration,
}

impl Reporter {
    /// Takes the longest time without a report; 0 reports every observation.
    #[must_use]
    pub const fn new(heartbeat: Duration) -> Self {
        Self { heartbeat, due: Duration::ZERO }
    }

    /// Decides whether the observation made at `now` is reported, and why; if it is, keeps it in `last`.
    ///
    /// `last` belongs to the stream: one place for each reading, all `None` at first. `deadband` returns the deadband of the
    /// reading at a place.
    ///
    /// The heartbeat is counted from the last report. One that finds its observation late does not put off those after it:
    /// of a stream that never changes the observation reported for the `n`th heartbeat is the first one made after `n`
    /// heartbeats.
    pub fn decide(
        &mut self,
        now: Duration,
        readings: &[Reading],
        deadband: impl Fn(usize) -> Deadband,
        last: &mut [Option<Reading>],
    ) -> Option<Cause> {
        let changed = || {
            let places = readings.iter().enumerate();
            let mut causes = places.map(|(place, reading)| difference(last.get(place), reading, || deadband(place)));
            causes.find_map(|cause| cause)
        };
        let cause = changed().or_else(|| (now >= self.due).then_some(Cause::Heartbeat))?;
        let planned = self.due.saturating_add(self.heartbeat);
        let on_time = cause == Cause::Heartbeat && planned > now;
        self.due = if on_time { planned } else { now.saturating_add(self.heartbeat) };
        for (last, reading) in last.iter_mut().zip(readings) {
            *last = Some(*reading);
        }
        Some(cause)
    }
}

/// Returns how the reading differs from the one last reported.
fn difference(last: Option<&Option<Reading>>, reading: &Reading, deadband: impl FnOnce() -> Deadband) -> Option<Cause> {
    let Some(Some(last)) = last else { return Some(Cause::First) };
    if last.quality != reading.quality {
        return Some(Cause::Quality);
    }
    match (last.value, reading.value) {
        (None, None) => None,
        (Some(last), Some(value)) => moved(last, value, deadband()).then_some(Cause::Moved),
        _ => Some(Cause::Presence),
    }
}

fn moved(last: Value, value: Value, deadband: Deadband) -> bool {
    match (last, value) {
        (Value::Bool(last), Value::Bool(value)) => last != value,
        (Value::Int(last), Value::Int(value)) => beyond(last.abs_diff(value), last.unsigned_abs(), deadband),
        (Value::Uint(last), Value::Uint(value)) => beyond(last.abs_diff(value), last, deadband),
        (Value::Single(last), Value::Single(value)) => {
            drifted(f64::from(last), f64::from(value), f64::from(f32::EPSILON), deadband)
        }
        (Value::Double(last), Value::Double(value)) => drifted(last, value, f64::EPSILON, deadband),
        // A stream whose values changed their type is another one.
        _ => true,
    }
}

/// Whole numbers: exact over all 64 bits. A distance exceeds a limit if it exceeds its whole part.
#[allow(clippy::cast_possible_truncation, reason = "the whole part is what is wanted, and a cast saturates")]
fn beyond(distance: u64, magnitude: u64, deadband: Deadband) -> bool {
    distance > deadband.limit(magnitude as f64) as u64
}

/// Floating point numbers of that precision.
fn drifted(last: f64, value: f64, epsilon: f64, deadband: Deadband) -> bool {
    if value.to_bits() == last.to_bits() {
        return false;
    }
    let limit = deadband.limit(last.abs());
    if limit == 0.0 {
        return value != last;
    }
    // 221.5 is not more than 0.1 from 221.4, though their nearest binary neighbours are.
    let rounding = epsilon * last.abs().max(value.abs());
    let distance = (value - last).abs();
    distance > limit + rounding || distance.is_nan()
}

impl Deadband {
    fn limit(self, magnitude: f64) -> f64 {
        self.absolute.max(magnitude * self.percent / 100.0).max(0.0)
    }
}

#[cfg(test)]
mod tests;

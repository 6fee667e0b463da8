//! From what was observed to events: alarms raised and cleared, devices that can and cannot be reached.
//!
//! An event is an observation of a stream of its own, one for each alarm, so that it shows what changed and nothing else.
//! Nothing is told of a state that is normal at the start; an alarm that holds then is raised.

use std::time::Duration;

use ganglion_drivers::alarm::{Alarm, Change};
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::{Quality, Reading, Reason, Value};

use crate::pipeline::{Sample, Unnumbered};
use crate::site::{Device, Site};

/// After so many polls in a row without an answer a device cannot be reached …
const POLLS: u32 = 3;

/// … if they lasted for so long: a connection may take a moment.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of the alarms of a site.
#[derive(Clone, Debug)]
pub struct Events {
    /// One for each of the site's devices.
    devices: Vec<Watched>,
    /// For each of the site's streams of events, if it tells whether a resource can be reached: how many of the devices
    /// that read it cannot.
    away: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Watched {
    /// For each group, one for each of its alarms.
    groups: Vec<Vec<Alarm>>,
    unanswered: Option<Unanswered>,
    away: bool,
}

/// Polls in a row without an answer.
#[derive(Clone, Copy, Debug)]
struct Unanswered {
    since: Duration,
    polls: u32,
}

impl Events {
    /// Starts with everything in order.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        let watched = |device: &Device| Watched {
            groups: device
                .groups
                .iter()
                .map(|group| group.alarms.iter().map(|alarm| Alarm::new(alarm.condition, alarm.hold)).collect())
                .collect(),
            unanswered: None,
            away: false,
        };
        Self { devices: site.devices.iter().map(watched).collect(), away: vec![0; site.event_streams.len()] }
    }

    /// Returns the events of a sample taken at `now`, which is counted from any one start, the same for every call;
    /// `observations` is what [`observe`](super::observe) made of it.
    pub fn observe(
        &mut self,
        site: &Site,
        now: Duration,
        sample: &Sample,
        observations: &[Unnumbered],
    ) -> Vec<Unnumbered> {
        let (Some(device), Some(watched)) = (site.devices.get(sample.device.0), self.devices.get_mut(sample.device.0))
        else {
            return Vec::new();
        };
        let mut events = reachable(device, watched, &mut self.away, now, sample);
        let (Some(group), Some(alarms)) = (device.groups.get(sample.group), watched.groups.get_mut(sample.group))
        else {
            return events;
        };
        for (own, alarm) in group.alarms.iter().zip(alarms) {
            let reading = group.points.get(own.point).and_then(|point| {
                let observation = observations.get(point.part)?;
                observation.readings.get(point.place)
            });
            let Some(&reading) = reading else { continue };
            let Some(change) = alarm.observe(now, &reading) else { continue };
            let state = state(change == Change::Raised, Quality::Good);
            let value = site.event_streams.get(own.stream.0).filter(|stream| stream.properties.len() > 1);
            let readings = value.map(|_| reading).into_iter().chain([state]).collect();
            events.push(Unnumbered { stream: own.stream, t: sample.t, clock: sample.clock, readings, origin: None });
        }
        events
    }
}

/// Returns the events of a device that can no longer be reached, or again: one for each of its resources for which that
/// is new.
fn reachable(
    device: &Device,
    watched: &mut Watched,
    away: &mut [usize],
    now: Duration,
    sample: &Sample,
) -> Vec<Unnumbered> {
    let was = watched.away;
    let quality = match unanswered(sample) {
        None => {
            watched.unanswered = None;
            watched.away = false;
            Quality::Good
        }
        Some(reason) => {
            let before = watched.unanswered.unwrap_or(Unanswered { since: now, polls: 0 });
            let row = Unanswered { polls: before.polls.saturating_add(1), ..before };
            watched.unanswered = Some(row);
            watched.away |= row.polls >= POLLS && now.saturating_sub(row.since) >= PATIENCE;
            Quality::Uncertain(reason)
        }
    };
    if watched.away == was {
        return Vec::new();
    }
    let mut events = Vec::new();
    for &stream in &device.reachable {
        let Some(count) = away.get_mut(stream.0) else { continue };
        let before = *count;
        *count = if watched.away { before.saturating_add(1) } else { before.saturating_sub(1) };
        // Of several devices the first that is away and the last that is back make the difference.
        if (before == 0) != (*count == 0) {
            let readings = vec![state(!watched.away, quality)];
            events.push(Unnumbered { stream, t: sample.t, clock: sample.clock, readings, origin: None });
        }
    }
    events
}

/// Returns why a poll had no answer of the device at all; an exception is one, unless a gateway in between speaks for a
/// device that it cannot reach.
fn unanswered(sample: &Sample) -> Option<Reason> {
    let answers = |state: &Option<Reason>| match state {
        None => true,
        Some(Reason::Exception(code)) => {
            *code != ExceptionCode::GATEWAY_PATH_UNAVAILABLE
                && *code != ExceptionCode::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND
        }
        Some(_) => false,
    };
    if sample.states.iter().any(answers) {
        return None;
    }
    sample.states.iter().rev().find_map(|state| *state)
}

const fn state(on: bool, quality: Quality) -> Reading {
    Reading { value: Some(Value::Bool(on)), quality }
}

#[cfg(test)]
mod tests;

//! What is measured of one bus, next to what its plan predicts.

use std::time::Duration;

use ganglion_drivers::breaker::State;
use ganglion_drivers::bus::{Overview, TaskView, UnitView};
use ganglion_drivers::client::Counts;
use ganglion_drivers::plan::ReadRequest;

use super::settings::Polled;
use crate::monitor::{BusState, PlannedRequest, TaskState, UnitState, WireCounts};
use crate::site::{Bus, Device};

/// Time between two looks at the bus.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// Measurements of one bus.
pub(super) struct Observed {
    pub(super) connected: bool,
    units: Vec<String>,
    tasks: Vec<Task>,
    next: Duration,
    /// Time and line use at the last look.
    last: (Duration, Duration),
}

struct Task {
    device: String,
    group: usize,
    last: Option<Duration>,
    /// Smoothed time between two samples.
    interval: Option<Duration>,
    polls: u64,
    missed: u64,
}

impl Observed {
    pub(super) fn new(bus: &Bus, devices: &[Device], polled: &[Polled]) -> Self {
        let name = |polled: &Polled| {
            let unit = bus.devices.iter().position(|id| *id == polled.device);
            unit.and_then(|unit| devices.get(unit)).map_or_else(String::new, |device| device.name.clone())
        };
        let task = |polled: &Polled| Task {
            device: name(polled),
            group: polled.group,
            last: None,
            interval: None,
            polls: 0,
            missed: 0,
        };
        Self {
            connected: false,
            units: devices.iter().map(|device| device.name.clone()).collect(),
            tasks: polled.iter().map(task).collect(),
            next: Duration::ZERO,
            last: (Duration::ZERO, Duration::ZERO),
        }
    }

    /// Notes a sample of a task.
    pub(super) fn sampled(&mut self, task: usize, at: Duration, missed: u64) {
        let Some(task) = self.tasks.get_mut(task) else { return };
        // The first poll goes when the wire opens; from the second on they have their places in time.
        if let Some(last) = task.last.filter(|_| task.polls > 1) {
            let took = at.saturating_sub(last);
            task.interval = Some(task.interval.map_or(took, |mean| (mean * 7 + took) / 8));
        }
        task.last = Some(at);
        task.polls += 1;
        task.missed += missed;
    }

    /// Says whether it is time for the next look.
    pub(super) fn due(&self, now: Duration) -> bool {
        now >= self.next
    }

    /// Returns what is to be shown now.
    pub(super) fn state(&mut self, now: Duration, overview: &Overview, counts: Counts) -> BusState {
        self.next = now.saturating_add(EVERY);
        let busy: Duration = overview.units.iter().map(|unit| unit.counts.bus_time).sum();
        let (then, was) = std::mem::replace(&mut self.last, (now, busy));
        let window = now.saturating_sub(then);
        let line_use = busy.saturating_sub(was).as_secs_f64() / window.as_secs_f64().max(f64::EPSILON);
        BusState {
            connected: self.connected,
            load_percent: overview.load_permille as f64 / 10.0,
            line_use_percent: (line_use * 1000.0).round() / 10.0,
            stretched_to_ms: overview.floor.map(millis),
            wire: WireCounts {
                echoes: counts.echoes,
                foreign_frames: counts.foreign_requests.saturating_add(counts.unasked_answers),
                late_answers: counts.late_answers,
                noise_bytes: counts.noise_bytes,
                crc_errors: counts.crc_errors,
            },
            units: self.units.iter().zip(&overview.units).map(|(device, unit)| unit_state(device, unit)).collect(),
            tasks: self.tasks.iter().zip(&overview.tasks).map(|(task, view)| task.state(view)).collect(),
        }
    }
}

impl Task {
    fn state(&self, view: &TaskView) -> TaskState {
        TaskState {
            device: self.device.clone(),
            group: self.group,
            interval_ms: millis(view.interval),
            planned_ms: millis(view.effective),
            measured_ms: self.interval.map(millis),
            polls: self.polls,
            missed: self.missed,
            bus_time_ms: millis(view.cost),
            requests: view.requests.iter().map(planned).collect(),
            unreadable: view.unreadable.iter().map(planned).collect(),
        }
    }
}

fn unit_state(device: &str, unit: &UnitView) -> UnitState {
    UnitState {
        device: device.to_owned(),
        unit: unit.unit.0,
        silent: matches!(unit.state, State::Open { .. }),
        wrong_device: unit.wrong_device,
        patience_ms: millis(unit.patience),
        turnaround_ms: millis(unit.turnaround),
        max_registers: unit.max_registers,
        max_bits: unit.max_bits,
        requests: unit.counts.requests,
        answered: unit.counts.answered,
        timeouts: unit.counts.timeouts,
        unusable: unit.counts.unusable,
        exceptions: unit.counts.exceptions,
        bus_time_ms: millis(unit.counts.bus_time),
    }
}

fn planned(request: &ReadRequest) -> PlannedRequest {
    PlannedRequest { table: request.table.as_str(), address: request.address, count: request.count }
}

/// Milliseconds with one decimal.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

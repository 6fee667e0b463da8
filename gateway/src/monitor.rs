//! What the gateway knows about itself, for the status message, the status socket and the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ganglion_protocols::{Cri, Reason};
use serde::Serialize;

use crate::site::Site;

/// Counters and states that the stages report to; cheap to share, never awaited on.
#[derive(Debug)]
pub struct Monitor {
    state: Mutex<Snapshot>,
}

/// Everything the gateway knows about itself at one instant.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Snapshot {
    /// The gateway.
    pub gateway: Cri,
    /// Identity of the store, sixteen hex digits; empty until it is open.
    pub epoch: String,
    /// The wire to the broker.
    pub uplink: Uplink,
    /// The buffer.
    pub store: Store,
    /// The buses, by name; empty until each has run for a moment.
    pub buses: BTreeMap<String, BusState>,
    /// The devices, by name.
    pub devices: BTreeMap<String, DeviceState>,
    /// The observations, by resource.
    pub resources: BTreeMap<Cri, Ledger>,
}

/// What became of the observations of one resource since the daemon started; each state counts those that reached it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Ledger {
    /// Made by normalize.
    pub sampled: u64,
    /// Written by the buffer, safe from a crash of the process.
    pub accepted: u64,
    /// Fsynced, safe from a power cut.
    pub durable: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// Given up: refused or evicted by the buffer, or never acceptable to the broker; each with an ERROR in the log.
    pub dropped: u64,
    /// Number of the last accepted observation, over all starts of the store.
    pub last_seq: u64,
}

/// State of the wire to the broker.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Uplink {
    /// Whether the broker accepted the connection and it stands.
    pub connected: bool,
    /// How often it was accepted.
    pub connections: u64,
    /// Why the last connection ended or was refused.
    pub last_error: Option<String>,
    /// Pause before the next try, in milliseconds.
    pub retry_in_ms: Option<u64>,
}

/// State of the buffer.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Store {
    /// Why nothing can be written at present: `disk full`, `read-only`, …; acquisition goes on.
    pub trouble: Option<String>,
    /// Bytes held by segments.
    pub bytes: u64,
    /// Segments that hold something undelivered.
    pub segments: u64,
    /// Bytes skipped because they were durable and no longer verify; each stretch with an ERROR in the log.
    pub damaged_bytes: u64,
    /// Bytes appended a second, smoothed over some minutes; unknown for the first one.
    pub append_bytes_per_s: Option<f64>,
    /// Bytes of the quota held by what is not delivered.
    pub held_bytes: u64,
    /// Most bytes that segments may take; 0 until the first commit.
    pub quota_bytes: u64,
    /// Bytes that can be appended before something undelivered must go: what the quota leaves, or the file system where
    /// that is less. Unknown until the first commit.
    pub free_bytes: Option<u64>,
    /// Hours of outage that these bytes cover at the present rate.
    pub covers_hours: Option<f64>,
}

/// State of one bus: what its plan predicts, and what is measured.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct BusState {
    /// Whether its wire is open.
    pub connected: bool,
    /// Share of the line's time that the poll intervals ask for by the plan; above 100 the bus cannot carry it.
    pub load_percent: f64,
    /// Share of the last second that requests and their answers, or the wait for them, took.
    pub line_use_percent: f64,
    /// Poll intervals below this are stretched to it.
    pub stretched_to_ms: Option<f64>,
    /// What was heard beside the answers.
    pub wire: WireCounts,
    /// The units, in the order of the site file.
    pub units: Vec<UnitState>,
    /// What is polled, in the order of the site file: a device has one entry for each of its periods.
    pub tasks: Vec<TaskState>,
}

/// What was heard on a wire since it was opened, beside the answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct WireCounts {
    /// Requests that came back, as from an adapter that hears itself.
    pub echoes: u64,
    /// Frames of other clients, or of units that were not asked.
    pub foreign_frames: u64,
    /// Answers that came after their request was given up.
    pub late_answers: u64,
    /// Bytes that belong to no frame.
    pub noise_bytes: u64,
    /// Frames with a wrong check.
    pub crc_errors: u64,
}

/// One unit of a bus.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct UnitState {
    /// Name of the device.
    pub device: String,
    /// Its unit id.
    pub unit: u8,
    /// It does not answer and is asked now and then only.
    pub silent: bool,
    /// Its identity register says that it is another device.
    pub wrong_device: bool,
    /// How long the next request to it is waited for.
    pub patience_ms: f64,
    /// How long it usually takes to begin its answer.
    pub turnaround_ms: f64,
    /// Most registers of one request, as documented and learnt.
    pub max_registers: u16,
    /// Most bits of one request, as documented and learnt.
    pub max_bits: u16,
    /// Requests sent.
    pub requests: u64,
    /// Requests answered as asked.
    pub answered: u64,
    /// Requests without an answer in time.
    pub timeouts: u64,
    /// Answers that could not be believed.
    pub unusable: u64,
    /// Exception answers.
    pub exceptions: u64,
    /// Time of the line that requests to it took.
    pub bus_time_ms: f64,
}

/// What is read of one device at one period.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TaskState {
    /// Name of the device.
    pub device: String,
    /// Place among the device's periods, the shortest first.
    pub group: usize,
    /// Period asked for.
    pub interval_ms: f64,
    /// Period it gets by the plan.
    pub planned_ms: f64,
    /// Time between two samples, smoothed over some eight.
    pub measured_ms: Option<f64>,
    /// Polls made.
    pub polls: u64,
    /// Polls the bus had no time for.
    pub missed: u64,
    /// Time of the line that one poll takes by the plan.
    pub bus_time_ms: f64,
    /// The requests of one poll.
    pub requests: Vec<PlannedRequest>,
    /// What is not asked for: always refused, or longer than the unit answers.
    pub unreadable: Vec<PlannedRequest>,
}

/// One request of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct PlannedRequest {
    /// `coil`, `discrete`, `input` or `holding`.
    pub table: &'static str,
    /// First item, from 0.
    pub address: u16,
    /// Items.
    pub count: u16,
}

/// State of one device.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct DeviceState {
    /// Polls made.
    pub polls: u64,
    /// Polls of which at least one request had no usable answer.
    pub failed_polls: u64,
    /// Why the last request without a usable answer had none.
    pub last_reason: Option<String>,
    /// Whether the last poll of each of its periods was answered in full.
    pub healthy: bool,
    /// The periods whose last poll was not.
    #[serde(skip)]
    unanswered: BTreeSet<usize>,
}

impl Monitor {
    /// Starts with every device and resource of the site at nothing.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        let names = || site.devices.iter().map(|device| device.name.clone());
        Self {
            state: Mutex::new(Snapshot {
                gateway: site.gateway,
                epoch: String::new(),
                uplink: Uplink::default(),
                store: Store::default(),
                buses: BTreeMap::new(),
                devices: names().map(|name| (name, DeviceState::default())).collect(),
                resources: site.streams.iter().map(|stream| (stream.resource, Ledger::default())).collect(),
            }),
        }
    }

    /// Returns a copy of everything.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Reports one poll of a device at one of its periods: `Err` with the reason of the last point without an answer.
    /// Returns whether the device's health changed, which is worth a line in the log.
    pub fn polled(&self, device: &str, group: usize, outcome: Result<(), Reason>) -> bool {
        let mut state = self.lock();
        let Some(entry) = state.devices.get_mut(device) else { return false };
        let first = entry.polls == 0;
        entry.polls += 1;
        match outcome {
            Ok(()) => {
                entry.unanswered.remove(&group);
            }
            Err(reason) => {
                entry.unanswered.insert(group);
                entry.failed_polls += 1;
                entry.last_reason = Some(reason.to_string());
            }
        }
        let was = std::mem::replace(&mut entry.healthy, entry.unanswered.is_empty());
        first || was != entry.healthy
    }

    /// Sets the state of one bus.
    pub fn bus(&self, name: &str, bus: BusState) {
        self.lock().buses.insert(name.to_owned(), bus);
    }

    /// Changes the counters of one resource.
    pub fn count(&self, resource: Cri, change: impl FnOnce(&mut Ledger)) {
        change(self.lock().resources.entry(resource).or_default());
    }

    /// Changes the state of the wire.
    pub fn uplink(&self, change: impl FnOnce(&mut Uplink)) {
        change(&mut self.lock().uplink);
    }

    /// Changes the state of the buffer.
    pub fn store(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.lock().store);
    }

    /// Sets the identity of the store.
    pub fn opened(&self, epoch: u64) {
        self.lock().epoch = format!("{epoch:016x}");
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // Counters stay true whatever a panicking holder did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

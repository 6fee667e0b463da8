//! What the gateway knows about itself, for the status message, the status socket and the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ganglion_protocols::{Cri, Origin, Reason, Timestamp, Value};
use serde::Serialize;

use crate::pipeline::Unnumbered;
use crate::site::{REACHABLE, RUNNING, Site, Stream};

/// Counters and states that the stages report to; cheap to share, never awaited on.
#[derive(Debug)]
pub struct Monitor {
    state: Mutex<Snapshot>,
    /// Up to where the samples of each source are durable, and when the last of them was measured.
    origins: Mutex<BTreeMap<Cri, (Origin, Timestamp)>>,
}

/// Everything the gateway knows about itself at one instant.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Snapshot {
    /// The gateway.
    pub gateway: Cri,
    /// The wire to the broker.
    pub uplink: Uplink,
    /// The buffer of telemetry.
    pub store: Store,
    /// The buffer of events.
    pub event_store: Store,
    /// The buses, by name; empty until each has run for a moment.
    pub buses: BTreeMap<String, BusState>,
    /// The devices, by name.
    pub devices: BTreeMap<String, DeviceState>,
    /// The observations, by resource.
    pub resources: BTreeMap<Cri, Ledger>,
    /// The events, by resource, numbered on their own.
    pub event_resources: BTreeMap<Cri, Ledger>,
    /// The alarms that stand, by resource and state, and since when.
    pub standing: BTreeMap<Cri, BTreeMap<String, Timestamp>>,
}

/// The two logs of the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogName {
    /// What is measured.
    Telemetry,
    /// Alarms and changes of state.
    Events,
}

/// What the gateway's own events are made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vitals {
    /// Whether the disk does not take observations.
    pub disk_refuses: bool,
    /// Observations and events given up since the start.
    pub dropped: u64,
    /// Messages that the broker refused since the start.
    pub refused: u64,
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
    /// Sent again by their source after they were taken, and not taken twice.
    pub repeated: u64,
    /// Number of the last accepted observation, over all starts of the store.
    pub last_seq: u64,
}

/// State of the wire to the broker.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Uplink {
    /// Whether the broker accepted the connection and it stands.
    pub connected: bool,
    /// The broker that is connected, or else is tried next.
    pub broker: Option<String>,
    /// How often one accepted.
    pub connections: u64,
    /// Why the last connection ended or was refused.
    pub last_error: Option<String>,
    /// The broker of that connection.
    pub last_error_broker: Option<String>,
    /// Pause before the next try, in milliseconds.
    pub retry_in_ms: Option<u64>,
    /// When the next try begins.
    pub retry_at: Option<Timestamp>,
    /// Messages that the broker refused, for now or for good.
    pub refused: u64,
    /// Payload bytes sent and not acknowledged.
    pub in_flight: InFlight,
    /// Messages that the broker will never take, kept for a person; unknown until the first one since the start.
    pub dead_letters: Option<DeadLetters>,
}

/// Payload bytes sent and not acknowledged, by lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct InFlight {
    /// Of events.
    pub event: usize,
    /// Of telemetry of now.
    pub live: usize,
    /// Of telemetry of the past.
    pub backfill: usize,
}

/// Messages kept for a person, and those that are not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct DeadLetters {
    /// Letters on disk.
    pub letters: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// Letters that made room for younger ones, since the start.
    pub evicted: u64,
    /// Letters that could not be kept, since the start.
    pub refused: u64,
    /// Topic of the last letter, kept or not, since the start.
    pub last_topic: Option<String>,
    /// Its reason.
    pub last_reason: Option<String>,
}

/// State of one log of the buffer.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Store {
    /// Its identity, sixteen hex digits; empty until it is open. A new one means that numbering began anew.
    pub epoch: String,
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
                uplink: Uplink::default(),
                store: Store::default(),
                event_store: Store::default(),
                buses: BTreeMap::new(),
                devices: names().map(|name| (name, DeviceState::default())).collect(),
                resources: ledgers(&site.streams),
                event_resources: ledgers(&site.event_streams),
                standing: BTreeMap::new(),
            }),
            origins: Mutex::default(),
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

    /// Says up to where the samples of a resource's source are durable here.
    pub fn set_durable_origin(&self, resource: Cri, origin: Origin, t: Timestamp) {
        self.lock_origins().insert(resource, (origin, t));
    }

    /// Returns up to where the samples of a resource's source are durable, which its source may be told, and when the
    /// last of them was measured.
    #[must_use]
    pub fn durable_origin(&self, resource: Cri) -> Option<(Origin, Timestamp)> {
        self.lock_origins().get(&resource).copied()
    }

    /// Changes the counters of one resource's observations.
    pub fn count(&self, resource: Cri, change: impl FnOnce(&mut Ledger)) {
        self.count_in(LogName::Telemetry, resource, change);
    }

    /// Changes the counters of one resource in one log.
    pub fn count_in(&self, log: LogName, resource: Cri, change: impl FnOnce(&mut Ledger)) {
        let mut state = self.lock();
        let ledgers = match log {
            LogName::Telemetry => &mut state.resources,
            LogName::Events => &mut state.event_resources,
        };
        change(ledgers.entry(resource).or_default());
    }

    /// Reports an event that was made: counts it, and keeps which alarms stand.
    pub fn event(&self, site: &Site, event: &Unnumbered) {
        let Some(stream) = site.event_streams.get(event.stream.0) else { return };
        let (Some(state), Some(reading)) = (stream.properties.last(), event.readings.last()) else { return };
        self.count_in(LogName::Events, stream.resource, |ledger| ledger.sampled += 1);
        let normal = Value::Bool([REACHABLE, RUNNING].contains(&state.name.as_str()));
        let standing = &mut self.lock().standing;
        if reading.value == Some(normal) {
            if let Some(states) = standing.get_mut(&stream.resource) {
                states.remove(&state.name);
            }
            standing.retain(|_, states| !states.is_empty());
        } else {
            standing.entry(stream.resource).or_default().insert(state.name.clone(), event.t);
        }
    }

    /// Returns what the gateway's own events are made from.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        let state = self.lock();
        let ledgers = state.resources.values().chain(state.event_resources.values());
        Vitals {
            disk_refuses: state.store.trouble.is_some(),
            dropped: ledgers.map(|ledger| ledger.dropped).sum(),
            refused: state.uplink.refused,
        }
    }

    /// Changes the state of the wire.
    pub fn uplink(&self, change: impl FnOnce(&mut Uplink)) {
        change(&mut self.lock().uplink);
    }

    /// Changes the state of one log.
    pub fn store_of<T>(&self, log: LogName, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut state = self.lock();
        change(match log {
            LogName::Telemetry => &mut state.store,
            LogName::Events => &mut state.event_store,
        })
    }

    fn lock_origins(&self) -> MutexGuard<'_, BTreeMap<Cri, (Origin, Timestamp)>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // Counters stay true whatever a panicking holder did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ledgers(streams: &[Stream]) -> BTreeMap<Cri, Ledger> {
    streams.iter().map(|stream| (stream.resource, Ledger::default())).collect()
}

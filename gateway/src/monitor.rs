//! What the gateway knows about itself, for the status message, the status socket and the tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ganglion_protocols::{Cri, Reason};
use serde::Serialize;

use crate::site::{DeviceId, Site};

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
    /// The devices, by name.
    pub devices: BTreeMap<String, DeviceState>,
    /// The observations, by resource.
    pub resources: BTreeMap<Cri, Ledger>,
    #[serde(skip)]
    device_names: Vec<String>,
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
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Store {
    /// Why nothing can be written at present: `disk full`, `read-only`, …; acquisition goes on.
    pub trouble: Option<String>,
    /// Bytes held by segments.
    pub bytes: u64,
    /// Segments that hold something undelivered.
    pub segments: u64,
    /// Bytes skipped because they were durable and no longer verify; each stretch with an ERROR in the log.
    pub damaged_bytes: u64,
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
    /// Whether the last poll was answered in full.
    pub healthy: bool,
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
                devices: names().map(|name| (name, DeviceState::default())).collect(),
                resources: site.streams.iter().map(|stream| (stream.resource, Ledger::default())).collect(),
                device_names: names().collect(),
            }),
        }
    }

    /// Returns a copy of everything.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Reports one poll: `Err` with the reason of the last request without a usable answer. Returns whether the device's
    /// health changed, which is worth a line in the log.
    pub fn polled(&self, device: DeviceId, outcome: Result<(), Reason>) -> bool {
        let mut state = self.lock();
        let Some(name) = state.device_names.get(device.0).cloned() else { return false };
        let entry = state.devices.entry(name).or_default();
        let first = entry.polls == 0;
        let was = entry.healthy;
        entry.polls += 1;
        entry.healthy = outcome.is_ok();
        if let Err(reason) = outcome {
            entry.failed_polls += 1;
            entry.last_reason = Some(reason.to_string());
        }
        first || was != entry.healthy
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

//! What one log tells the monitor.

use std::sync::Arc;

use ganglion_protocols::{Cri, Origin, Timestamp};

use crate::monitor::{Ledger, LogName, Monitor, Store};

/// The monitor's pages of one log.
#[derive(Clone, Debug)]
pub(super) struct Account {
    monitor: Arc<Monitor>,
    log: LogName,
}

impl Account {
    pub(super) fn new(monitor: Arc<Monitor>, log: LogName) -> Self {
        Self { monitor, log }
    }

    /// Changes the ledger of a resource.
    pub(super) fn count(&self, resource: Cri, change: impl FnOnce(&mut Ledger)) {
        self.monitor.count_in(self.log, resource, change);
    }

    /// Says up to where the samples of a resource's source are durable.
    pub(super) fn durable_origin(&self, resource: Cri, origin: Origin, t: Timestamp) {
        self.monitor.set_durable_origin(resource, origin, t);
    }

    /// Changes the state of the log.
    pub(super) fn store<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        self.monitor.store_of(self.log, change)
    }
}

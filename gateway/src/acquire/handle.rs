//! Reads and writes on demand: the way into the bus tasks for commands and for `ganglion read` and `ganglion write`.

use std::collections::BTreeMap;
use std::fmt;

use ganglion_drivers::bus::order::{Deed, Done, OrderError};
use ganglion_protocols::modbus::UnitId;
use tokio::sync::{mpsc, oneshot};

/// Orders that may wait for one bus, and as many that it has taken up.
pub(super) const ORDERS: usize = 16;

/// Something asked of one bus, and who waits for the answer.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) unit: UnitId,
    pub(super) deed: Deed,
    pub(super) answer: oneshot::Sender<Result<Done, OrderError>>,
}

/// The way to the buses of a running gateway; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    buses: BTreeMap<String, mpsc::Sender<Call>>,
}

/// Why an order has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallError {
    /// No bus has this name.
    NoBus(String),
    /// The bus has more orders waiting than it takes.
    Full(String),
    /// The bus is being stopped or started anew.
    Stopped(String),
    /// The bus has asked, or could not.
    Order(OrderError),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBus(bus) => write!(f, "no bus is called {bus:?}"),
            Self::Full(bus) => write!(f, "bus {bus:?} has {ORDERS} orders waiting already"),
            Self::Stopped(bus) => write!(f, "bus {bus:?} is being stopped"),
            Self::Order(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for CallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Order(error) => Some(error),
            _ => None,
        }
    }
}

impl Handle {
    /// Adds a bus; returns where its orders arrive.
    pub(super) fn add(&mut self, bus: &str) -> mpsc::Receiver<Call> {
        let (sender, receiver) = mpsc::channel(ORDERS);
        self.buses.insert(bus.to_owned(), sender);
        receiver
    }

    /// Has something done by a unit of a bus, before anything that is polled, and waits for the answer.
    ///
    /// # Errors
    /// Every variant of [`CallError`]. An order whose waiting is given up is carried out all the same.
    pub async fn call(&self, bus: &str, unit: UnitId, deed: Deed) -> Result<Done, CallError> {
        let (answer, answered) = oneshot::channel();
        let orders = self.buses.get(bus).ok_or_else(|| CallError::NoBus(bus.to_owned()))?;
        orders.try_send(Call { unit, deed, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::Full(bus.to_owned()),
            mpsc::error::TrySendError::Closed(_) => CallError::Stopped(bus.to_owned()),
        })?;
        answered.await.map_err(|_| CallError::Stopped(bus.to_owned()))?.map_err(CallError::Order)
    }
}

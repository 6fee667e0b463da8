//! A wire of one's own: the daemon's engine without anything to poll, driven for one order at a time.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use ganglion_drivers::bus::order::{Deed, Done, Order, OrderError, OrderId};
use ganglion_drivers::bus::{Bus as Engine, Event};
use ganglion_protocols::modbus::UnitId;
use tokio::time::timeout;

use crate::acquire::settings::settings;
use crate::acquire::trace::{Moment, Trace};
use crate::acquire::wire::{Listener, PreciseTimer, Wire};
use crate::site::{Bus, Endpoint, Link, Site};

/// How long a serial server that calls the gateway is waited for.
const CALL_PATIENCE: Duration = Duration::from_secs(120);

/// An open wire and its engine.
pub struct Line {
    bus: String,
    wire: Wire,
    engine: Engine,
    timer: PreciseTimer,
    trace: Trace,
    start: Instant,
    orders: u64,
}

/// Why an order was not carried out on a wire of one's own.
#[derive(Debug)]
pub enum LineError {
    /// The wire was lost.
    Lost(io::Error),
    /// The order itself.
    Order(OrderError),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "the wire was lost: {error}"),
            Self::Order(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for LineError {}

impl From<io::Error> for LineError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// Opens the wire of a link; waits for a serial server that calls.
///
/// # Errors
/// Why there is none: who holds the port, if somebody does.
pub async fn open(link: &Link) -> io::Result<Wire> {
    match link {
        Link::Serial(link) => Wire::open(link).await,
        Link::Tcp { host, port } | Link::RtuOverTcp { endpoint: Endpoint::Connect { host, port }, .. } => {
            Wire::call(host, *port).await
        }
        Link::RtuOverTcp { endpoint: Endpoint::Listen { address }, .. } => {
            let listener = Listener::new(*address);
            eprintln!("waiting for a serial server to call {}", listener.open()?);
            match timeout(CALL_PATIENCE, listener.accept()).await {
                Ok(called) => called.map(|(wire, _)| wire),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{address}: nobody called within {} s", CALL_PATIENCE.as_secs()),
                )),
            }
        }
    }
}

impl Line {
    /// Opens the wire of a bus of the site.
    ///
    /// # Errors
    /// As [`open`].
    pub async fn open(site: &Site, bus: &Bus, trace: Trace) -> io::Result<Self> {
        let (mut settings, _) = settings(site, bus);
        settings.tasks.clear();
        let wire = open(&bus.link).await?;
        trace.record(&bus.name, Moment::Opened);
        let mut engine = Engine::new(Duration::ZERO, settings);
        engine.connected(Duration::ZERO);
        let (timer, start) = (PreciseTimer::new(), Instant::now());
        Ok(Self { bus: bus.name.clone(), wire, engine, timer, trace, start, orders: 0 })
    }

    /// Has something done and waits for its end.
    ///
    /// # Errors
    /// See [`LineError`].
    pub async fn call(&mut self, unit: UnitId, deed: Deed) -> Result<Done, LineError> {
        self.orders += 1;
        let id = OrderId(self.orders);
        self.engine.order(Order { id, unit, deed });
        let mut buffer = [0; 512];
        loop {
            while let Some(event) = self.engine.poll_event() {
                match event {
                    Event::Ordered { id: ended, result } if ended == id => return result.map_err(LineError::Order),
                    Event::Replace { reason } => {
                        return Err(LineError::Lost(io::Error::other(format!("nothing can be understood: {reason}"))));
                    }
                    _ => {}
                }
            }
            if let Some(frame) = self.engine.poll_transmit(self.start.elapsed()) {
                self.trace.record(&self.bus, Moment::Sent(frame));
                self.wire.write(frame).await?;
                continue;
            }
            // Without anything to wait for there is an event.
            let wake = self.engine.poll_timeout().unwrap_or_else(|| self.start.elapsed());
            tokio::select! {
                biased;
                read = self.wire.read(&mut buffer) => {
                    let bytes = buffer.get(..read?).unwrap_or_default();
                    self.trace.record(&self.bus, Moment::Received(bytes));
                    self.engine.handle_bytes(self.start.elapsed(), bytes);
                }
                () = self.timer.until(self.start + wake) => self.engine.handle_timeout(self.start.elapsed()),
            }
        }
    }
}

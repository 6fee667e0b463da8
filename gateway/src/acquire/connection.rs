//! A connection that comes and goes: opened when it is needed, reopened with a growing pause while that fails.
//!
//! The first attempt after a loss is made at once and a request waits for it, so that one lost connection costs at most
//! one request. While attempts fail, requests are refused without delay and the next attempt is made beside the polling,
//! in [`Connection::tend`]. A connection that the peer ends before it carried an answer counts as a failed attempt, of
//! which the first is forgiven: some devices hang up on a request they dislike. One that was given up because of a bad
//! answer does not count: there the response timeout sets the pace.

use std::future::{Future, pending};
use std::io;
use std::pin::Pin;
use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::UnitId;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::exchange::Fault;

/// Pause after the first failed attempt, half of it at random; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a request waits for the first attempt to open.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection that stood this long was no failed attempt even if it carried nothing.
const STOOD: Duration = Duration::from_secs(5);

/// One open wire: a TCP connection or a serial port.
pub(super) trait Transport: Send + 'static {
    /// Asks one request. Returns as many items as were asked for.
    fn ask(&mut self, unit: UnitId, request: &ReadRequest) -> impl Future<Output = Result<Vec<u16>, Fault>> + Send;
}

/// An attempt to open a transport.
pub(super) type Attempt<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// The wire of one bus.
pub(super) struct Connection<T> {
    bus: String,
    open: Box<dyn Fn() -> Attempt<T> + Send>,
    state: State<T>,
    failures: u32,
    told: Option<String>,
}

enum State<T> {
    Closed,
    Opening { attempt: Attempt<T>, awaited: bool },
    Pausing { until: Instant },
    Open { transport: T, since: Instant, answered: bool },
}

impl<T: Transport> Connection<T> {
    /// Nothing is opened before the first request.
    pub(super) fn new(bus: &str, open: impl Fn() -> Attempt<T> + Send + 'static) -> Self {
        Self { bus: bus.to_owned(), open: Box::new(open), state: State::Closed, failures: 0, told: None }
    }

    /// Asks one request over the connection, which is opened if need be.
    ///
    /// # Errors
    /// Why there is no answer; `Disconnected` at once while the connection cannot be opened.
    pub(super) async fn ask(&mut self, unit: UnitId, request: &ReadRequest) -> Result<Vec<u16>, Reason> {
        // Twice: a connection that its peer closed while it lay idle is replaced before the request is sent.
        for _ in 0..2 {
            self.make_ready().await;
            let State::Open { transport, .. } = &mut self.state else { break };
            match transport.ask(unit, request).await {
                Ok(items) => {
                    self.answered();
                    return Ok(items);
                }
                Err(Fault::Exception(code)) => {
                    self.answered();
                    return Err(Reason::Exception(code));
                }
                Err(Fault::Unusable(reason)) => return Err(reason),
                Err(Fault::Spoiled(reason)) => {
                    self.state = State::Closed;
                    return Err(reason);
                }
                Err(Fault::Gone(error)) => self.lost(&error),
                Err(Fault::Lost(error)) => {
                    self.lost(&error);
                    break;
                }
            }
        }
        Err(Reason::Disconnected)
    }

    /// Goes on with opening while nothing is asked. Returns when something changed, never if the connection stands; may
    /// be dropped at any time.
    pub(super) async fn tend(&mut self) {
        match &mut self.state {
            State::Open { .. } => pending().await,
            State::Closed => self.state = State::Opening { attempt: (self.open)(), awaited: true },
            State::Pausing { until } => {
                sleep_until(*until).await;
                self.state = State::Opening { attempt: (self.open)(), awaited: false };
            }
            State::Opening { attempt, .. } => match attempt.await {
                Ok(transport) => {
                    self.state = State::Open { transport, since: Instant::now(), answered: false };
                }
                Err(error) => self.failed(&error),
            },
        }
    }

    async fn make_ready(&mut self) {
        if matches!(self.state, State::Closed) {
            self.tend().await;
        }
        if matches!(self.state, State::Opening { awaited: true, .. })
            && timeout(PATIENCE, self.tend()).await.is_err()
            && let State::Opening { awaited, .. } = &mut self.state
        {
            *awaited = false;
        }
    }

    fn answered(&mut self) {
        if let State::Open { answered, .. } = &mut self.state {
            *answered = true;
        }
        self.failures = 0;
        if self.told.take().is_some() {
            info!(bus = self.bus, "the connection is back");
        }
    }

    fn lost(&mut self, error: &io::Error) {
        debug!(bus = self.bus, %error, "the connection ended");
        if matches!(&self.state, State::Open { since, answered, .. } if *answered || since.elapsed() >= STOOD) {
            self.failures = 0;
            self.state = State::Closed;
        } else if self.failures == 0 {
            self.failures = 1;
            self.state = State::Closed;
        } else {
            self.failed(error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Pausing { until: Instant::now() + pause.mul_f64(0.5 + 0.5 * fastrand::f64()) };
        self.tell(error);
    }

    /// Logs a cause of disconnection once, until it changes or the connection is back.
    fn tell(&mut self, error: &io::Error) {
        let error = error.to_string();
        if self.told.as_ref() != Some(&error) {
            warn!(bus = self.bus, error, "no connection");
            self.told = Some(error);
        }
    }
}

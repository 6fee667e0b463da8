//! A wire that comes and goes, for an event loop.
//!
//! ```text
//! loop {
//!     select! {
//!         biased;
//!         stop                          => return,
//!         event = connection.next(buf)  => Opened: a new engine for a fresh line; Received(n): hand buf[..n] on;
//!                                          Lost: what is under way is lost, more may wait; Down: refuse what is asked
//!         command                       => …
//!         timer.until(deadline)         => …
//!     }
//!     if there is something to send and connection.standing() is
//!         Open => connection.write(frame).await, Soon => wait for the next event, Down => it has no answer
//! }
//! ```
//!
//! Reading comes before sending in that loop, so that a connection which its peer closed while it lay idle is replaced
//! before a request is wasted on it.
//!
//! Nothing is opened before the first [`Connection::next`]. The first attempt after a loss is made at once and requests
//! may wait for it, so that one lost connection costs at most one request. While attempts fail, the next one is made
//! beside the polling, after a pause that grows. A connection that the peer ends before it carried an answer counts as a
//! failed attempt, of which the first is forgiven: some devices hang up on a request they dislike. One that its user gives
//! up ([`Connection::renew`]) does not count.
//!
//! Where peers call ([`Listener`]) a new peer takes the place of the old one at any time: a serial server calls again
//! when its network forgot the connection, and the old socket looks alive for long.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::{Listener, Outcome, PortFacts, Wire};
use crate::site::{Endpoint, Link};

/// Pause after the first failed attempt, half of it at random; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long requests wait for the first attempt after a loss.
const PATIENCE: Duration = Duration::from_secs(1);

/// A connection that stood this long was no failed attempt even if it carried nothing.
const STOOD: Duration = Duration::from_secs(5);

/// Pause after a peer could not be let in while another one is served.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// An attempt to open a wire.
pub type Attempt = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

/// The wire of one bus.
pub struct Connection {
    bus: String,
    way: Way,
    state: State,
    failures: u32,
    told: Told,
}

/// An attempt by either way, and who called.
type Opening = Pin<Box<dyn Future<Output = io::Result<(Wire, Option<IpAddr>)>> + Send>>;

/// How the wire is opened.
enum Way {
    Open(Box<dyn Fn() -> Attempt + Send>),
    Listen(Arc<Listener>),
}

enum State {
    Closed,
    /// Requests wait until `awaited`, if there is such a time.
    Opening {
        attempt: Opening,
        awaited: Option<Instant>,
    },
    Pausing {
        until: Instant,
    },
    Open {
        wire: Wire,
        since: Instant,
        answered: bool,
    },
}

/// What the log knows already.
#[derive(Default)]
struct Told {
    cause: Option<String>,
    facts: Option<PortFacts>,
    peer: Option<IpAddr>,
}

/// What happened to a [`Connection`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A fresh wire stands; if one stood before, a new peer has taken its place and the old one's answers never come.
    Opened,
    /// So many bytes came, at least 1.
    Received(usize),
    /// The wire is gone, and the first attempt for a new one is under way.
    Lost,
    /// There is no wire, and there will be none soon.
    Down,
}

/// What to do with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Send it.
    Open,
    /// Keep it for a moment: an [`Event`] follows within a second.
    Soon,
    /// Refuse it.
    Down,
}

impl Connection {
    /// The connection of a bus.
    #[must_use]
    pub fn new(bus: &str, link: &Link) -> Self {
        match link {
            Link::Serial(link) => {
                let link = link.clone();
                Self::opened_by(bus, move || {
                    let link = link.clone();
                    Box::pin(async move { Wire::open(&link).await })
                })
            }
            Link::Tcp { host, port } | Link::RtuOverTcp { endpoint: Endpoint::Connect { host, port }, .. } => {
                let (host, port) = (host.clone(), *port);
                Self::opened_by(bus, move || {
                    let host = host.clone();
                    Box::pin(async move { Wire::call(&host, port).await })
                })
            }
            Link::RtuOverTcp { endpoint: Endpoint::Listen { address }, .. } => {
                Self::waiting_at(bus, Arc::new(Listener::new(*address)))
            }
        }
    }

    /// A connection that `open` opens.
    pub fn opened_by(bus: &str, open: impl Fn() -> Attempt + Send + 'static) -> Self {
        Self::by(bus, Way::Open(Box::new(open)))
    }

    /// A connection that a peer opens by calling.
    #[must_use]
    pub fn waiting_at(bus: &str, listener: Arc<Listener>) -> Self {
        Self::by(bus, Way::Listen(listener))
    }

    fn by(bus: &str, way: Way) -> Self {
        Self { bus: bus.to_owned(), way, state: State::Closed, failures: 0, told: Told::default() }
    }

    /// Returns what to do with a request now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.state {
            State::Open { .. } => Standing::Open,
            State::Closed | State::Opening { awaited: Some(_), .. } => Standing::Soon,
            State::Opening { awaited: None, .. } | State::Pausing { .. } => Standing::Down,
        }
    }

    /// Returns the wire, if one stands.
    pub fn wire(&mut self) -> Option<&mut Wire> {
        match &mut self.state {
            State::Open { wire, .. } => Some(wire),
            _ => None,
        }
    }

    /// Waits for bytes, and goes on with opening while there is no wire. Returns what happened; `Lost` and `Down` once
    /// for each change. May be dropped at any time without losing a byte or an event.
    pub async fn next(&mut self, buf: &mut [u8]) -> Event {
        loop {
            match &mut self.state {
                State::Closed => self.begin(Some(Instant::now() + PATIENCE)),
                State::Pausing { until } => {
                    sleep_until(*until).await;
                    self.begin(None);
                }
                State::Opening { attempt, awaited: Some(until) } => match timeout_at(*until, attempt).await {
                    Ok(result) => return self.attempted(result),
                    Err(_) => return self.not_soon(),
                },
                State::Opening { attempt, awaited: None } => {
                    let result = attempt.await;
                    if self.attempted(result) == Event::Opened {
                        return Event::Opened;
                    }
                }
                State::Open { wire, .. } => {
                    let happened = match &self.way {
                        Way::Open(_) => Ok(wire.read(buf).await),
                        Way::Listen(listener) => tokio::select! {
                            biased;
                            newcomer = newcomer(listener) => Err(newcomer),
                            read = wire.read(buf) => Ok(read),
                        },
                    };
                    match happened {
                        Ok(Ok(read)) => return Event::Received(read),
                        Ok(Err(error)) => {
                            self.lost(&error);
                            return if self.standing() == Standing::Soon { Event::Lost } else { Event::Down };
                        }
                        Err((wire, peer)) => return self.opened(wire, Some(peer)),
                    }
                }
            }
        }
    }

    /// Sends bytes, see [`Wire::write`]. An error has been dealt with as by [`Connection::lost`]; no event tells of it.
    ///
    /// # Errors
    /// `NotConnected`, or why the wire was lost.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let State::Open { wire, .. } = &mut self.state else { return Err(ErrorKind::NotConnected.into()) };
        let result = wire.write(bytes).await;
        if let Err(error) = &result {
            self.lost(error);
        }
        result
    }

    /// Says that the peer answered something: the connection works.
    pub fn answered(&mut self) {
        if let State::Open { answered, .. } = &mut self.state {
            *answered = true;
        }
        self.failures = 0;
        if self.told.cause.take().is_some() {
            info!(bus = self.bus, "the connection is back");
        }
    }

    /// Closes the wire: it failed. Does nothing if none stands.
    pub fn lost(&mut self, error: &io::Error) {
        let State::Open { since, answered, .. } = &self.state else { return };
        debug!(bus = self.bus, %error, "the connection ended");
        if *answered || since.elapsed() >= STOOD {
            self.failures = 0;
            self.state = State::Closed;
        } else if self.failures == 0 {
            self.failures = 1;
            self.state = State::Closed;
        } else {
            self.failed(error);
        }
    }

    /// Closes the wire, whose bytes are not to be believed any more, for a new one. Does nothing if none stands.
    pub fn renew(&mut self) {
        if let State::Open { .. } = self.state {
            self.state = State::Closed;
        }
    }

    fn begin(&mut self, awaited: Option<Instant>) {
        let attempt: Opening = match &self.way {
            Way::Open(open) => {
                let attempt = open();
                Box::pin(async move { Ok((attempt.await?, None)) })
            }
            Way::Listen(listener) => {
                let listener = Arc::clone(listener);
                Box::pin(async move { listener.accept().await.map(|(wire, peer)| (wire, Some(peer))) })
            }
        };
        self.state = State::Opening { attempt, awaited };
    }

    fn attempted(&mut self, result: io::Result<(Wire, Option<IpAddr>)>) -> Event {
        match result {
            Ok((wire, peer)) => self.opened(wire, peer),
            Err(error) => {
                self.failed(&error);
                Event::Down
            }
        }
    }

    fn opened(&mut self, wire: Wire, peer: Option<IpAddr>) -> Event {
        self.tell_opened(&wire, peer);
        self.state = State::Open { wire, since: Instant::now(), answered: false };
        Event::Opened
    }

    fn not_soon(&mut self) -> Event {
        if let State::Opening { awaited, .. } = &mut self.state {
            *awaited = None;
        }
        // Waiting for a call never fails.
        if let Way::Listen(listener) = &self.way {
            let cause = format!("{}: nobody has called yet", listener.address());
            self.tell(cause);
        }
        Event::Down
    }

    fn failed(&mut self, error: &io::Error) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Pausing { until: Instant::now() + pause.mul_f64(0.5 + 0.5 * fastrand::f64()) };
        self.tell(error.to_string());
    }

    /// Logs a cause of disconnection once, until it changes or the connection is back.
    fn tell(&mut self, cause: String) {
        if self.told.cause.as_ref() != Some(&cause) {
            warn!(bus = self.bus, error = cause, "no connection");
            self.told.cause = Some(cause);
        }
    }

    /// Logs who called and what a port does, each time it differs from the last.
    fn tell_opened(&mut self, wire: &Wire, peer: Option<IpAddr>) {
        if peer.is_some() && self.told.peer != peer {
            info!(bus = self.bus, peer = wire.describe(), "a peer called");
            self.told.peer = peer;
        } else {
            debug!(bus = self.bus, wire = wire.describe(), "the connection is open");
        }
        if wire.port_facts() == self.told.facts.as_ref() {
            return;
        }
        self.told.facts = wire.port_facts().cloned();
        let Some(facts) = &self.told.facts else { return };
        info!(bus = self.bus, port = wire.describe(), %facts, "the port is open");
        for (name, outcome) in [("line", &facts.line), ("rs485", &facts.rs485)] {
            if let Outcome::Ignored(difference) | Outcome::Unsupported(difference) = outcome {
                warn!(bus = self.bus, port = wire.describe(), "{name} is not as asked: {difference}");
            }
        }
    }
}

/// Waits until a peer calls and could be let in.
async fn newcomer(listener: &Listener) -> (Wire, IpAddr) {
    loop {
        match listener.accept().await {
            Ok(newcomer) => return newcomer,
            Err(error) => {
                debug!(%error, "a peer could not be let in");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

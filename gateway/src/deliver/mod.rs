//! Publishes durable observations to the city brain's broker, and acknowledges them to the buffer once the broker has.
//!
//! **Owns** the connection: MQTT 5 or 3.1.1, QoS 1, over mutual TLS with the host name always checked, to the preferred
//! broker or one of its alternatives. **Refuses** to keep anything: the log on disk is the only session state. A connection
//! starts clean, lives exactly as long as its TCP connection, and nothing inside its client is trusted afterwards; the next
//! one starts with the first observation whose chunk is not acknowledged.
//!
//! **Invariants**
//! - Observations of one resource are sent in the order of `seq` in each of the lanes event, live and backfill.
//! - A position is acknowledged only when every message of every chunk before it is delivered, or was given up with an
//!   ERROR and counted as dropped.
//! - Each observation is counted as delivered exactly once, however often it was sent.
//! - Trouble with certificates, names, the network or the broker ends a connection and never this stage.
//!
//! The parts without I/O: `window`, `valve` (of `pace`, `share` and `packet_limit`), `message` and `skeleton`, `brokers` and
//! `backoff`, `reason`, `status`. What is read and what became of it: `lanes`, each a `feed`. One connection: `wire`. What is given up, for a person:
//! `letters`, `dead_letter`.

pub mod backoff;
mod brokers;
mod cap;
mod compress;
#[cfg(test)]
mod contract_tests;
pub(crate) mod dead_letter;
mod feed;
mod lanes;
#[cfg(test)]
mod lanes_tests;
mod letters;
mod message;
mod pace;
mod packet_limit;
mod probe;
mod reason;
mod renewal;
mod share;
mod skeleton;
mod status;
mod tls;
mod valve;
#[cfg(test)]
mod virtual_link;
mod window;
mod wire;

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use ganglion_protocols::{Cri, Gap};
use tokio::sync::watch;
use tokio::time;
use tracing::{debug, info, warn};

use crate::buffer::{Outlet, Span, Stored};
use crate::clock;
use crate::monitor::{InFlight, Monitor};
use crate::site::{Address, BrokerSettings};
use brokers::Brokers;
use cap::Cap;
use lanes::Lanes;
use letters::LetterBox;
use packet_limit::PacketLimit;
use renewal::Credentials;
use wire::{End, Uplink};

pub use tls::{TlsError, tls_config};

/// Where durable observations come from: the buffer's [`Outlet`], or a list in a test.
pub trait Source: Send {
    /// Place in the log.
    type Mark: Copy + Send;

    /// Waits for what is durable behind what was already read: observations and declared losses, and the mark that
    /// acknowledges them. `None` when the writer has ended and everything is read. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<(Self::Mark, Content)>> + Send;

    /// Says that what came with a mark is delivered.
    fn acknowledge(&self, mark: Self::Mark);

    /// Says that observations can never be delivered, before their mark is acknowledged.
    fn declare_lost(&self, gaps: Vec<Gap>);

    /// Goes back to the first unacknowledged observation, for a new connection.
    fn rewind(&mut self);
}

/// What a stretch of a log holds.
pub type Content = (Vec<Stored>, Vec<Gap>);

impl Source for Outlet {
    type Mark = Span;

    async fn next(&mut self) -> Option<(Span, Content)> {
        Outlet::next(self).await.map(|chunk| (chunk.span, (chunk.observations, chunk.gaps)))
    }

    fn acknowledge(&self, span: Span) {
        Outlet::acknowledge(self, span);
    }

    fn declare_lost(&self, gaps: Vec<Gap>) {
        Outlet::declare_lost(self, gaps);
    }

    fn rewind(&mut self) {
        Outlet::rewind(self);
    }
}

/// What is to be delivered, lane by lane (decision 0005).
#[derive(Debug)]
pub struct Sources<S> {
    /// Events, first out.
    pub event: Option<S>,
    /// Telemetry of now.
    pub live: S,
    /// Telemetry that an outage left behind.
    pub backfill: Option<S>,
    /// Identities of the logs.
    pub epochs: Epochs,
}

/// Identities of the two logs: who numbers the observations, and who the events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epochs {
    /// Of the log of telemetry.
    pub telemetry: u64,
    /// Of the log of events.
    pub events: u64,
}

/// Delivers what the sources give, by the latest `settings` that can be used. Returns when the sources have ended and
/// everything is acknowledged; until then it tries for ever, so the caller puts a deadline on it. What the broker will
/// never take is kept under `letters`, a data directory, if there is one.
pub async fn run<S: Source>(
    mut settings: watch::Receiver<Arc<BrokerSettings>>,
    gateway: Cri,
    sources: Sources<S>,
    letters: Option<PathBuf>,
    monitor: Arc<Monitor>,
) {
    let epochs = sources.epochs;
    let letters = LetterBox::new(letters, Arc::clone(&monitor));
    let mut lanes = Lanes::new(sources, gateway, &monitor);
    let mut present = Some(Arc::clone(&settings.borrow_and_update()));
    while let Some(current) = present {
        let uplink = Uplink::new(&current, gateway, epochs, &monitor, &letters);
        present = deliver(&uplink, &current, &mut settings, &mut lanes).await;
        if present.is_some() {
            info!("new broker settings");
        }
    }
    monitor.uplink(|state| {
        state.connected = false;
        (state.retry_in_ms, state.retry_at) = (None, None);
    });
    info!("everything delivered, uplink ended");
}

/// Why a connection that works is left.
enum Leave {
    Preferred,
    Settings(Arc<BrokerSettings>),
    Certificates,
}

/// Makes one connection after the other; returns the new settings when there are some, `None` when everything is delivered.
async fn deliver<S: Source>(
    uplink: &Uplink<'_>,
    settings: &BrokerSettings,
    news: &mut watch::Receiver<Arc<BrokerSettings>>,
    lanes: &mut Lanes<'_, S>,
) -> Option<Arc<BrokerSettings>> {
    let addresses = settings.brokers();
    let preferred = addresses.first()?;
    let mut brokers = Brokers::new(addresses.len(), settings.retry, settings.fail_back);
    let mut credentials = Credentials::default();
    let mut complaints = vec![Complaint::default(); addresses.len()];
    let mut history = Cap::new(settings.backfill_max_per_s, std::time::Instant::now());
    let mut packet_limits = vec![PacketLimit::default(); addresses.len()];
    loop {
        let place = brokers.current();
        let broker = addresses.get(place)?;
        let packets = packet_limits.get_mut(place)?;
        uplink.monitor.uplink(|state| {
            state.broker = Some(broker.to_string());
            (state.retry_in_ms, state.retry_at) = (None, None);
        });
        let settled = lanes.settled();
        let mut why = None;
        let end = match credentials.read(settings) {
            Ok(tls) => {
                let leave = async {
                    why = Some(tokio::select! {
                        () = probe::preferred_answers(preferred, &tls, &brokers) => Leave::Preferred,
                        new = renewal::new_settings(news, settings, &credentials) => Leave::Settings(new),
                        () = credentials.renewed(settings) => Leave::Certificates,
                    });
                };
                wire::serve(uplink, broker, tls.clone(), (packets, &mut history), lanes, leave).await
            }
            Err(error) => End::Lost(error.to_string()),
        };
        uplink.monitor.uplink(|state| (state.connected, state.in_flight) = (false, InFlight::default()));
        if end == End::Finished {
            return None;
        }
        lanes.restart();
        let cause = match (end, why) {
            (_, Some(Leave::Settings(new))) => return Some(new),
            (End::Lost(cause), _) => cause,
            (_, Some(Leave::Preferred)) => {
                info!(%broker, %preferred, "uplink left, the preferred broker answers again");
                brokers.go_back();
                continue;
            }
            (_, _) => {
                info!(%broker, "uplink left, for new certificates");
                continue;
            }
        };
        let useful = lanes.settled() > settled;
        let pause = brokers.lost(useful, fastrand::f64());
        let next = addresses.get(brokers.current());
        if let Some(complaint) = complaints.get_mut(place) {
            complaint.tell(broker, &cause, useful, pause);
        }
        uplink.monitor.uplink(|state| {
            state.broker = next.map(ToString::to_string);
            state.last_error = Some(cause);
            state.last_error_broker = Some(broker.to_string());
            state.retry_in_ms = u64::try_from(pause.as_millis()).ok();
            state.retry_at = Some(clock::after(pause));
        });
        tokio::select! {
            drained = drained_within(pause, lanes) => if drained { return None },
            new = renewal::new_settings(news, settings, &credentials) => return Some(new),
        }
    }
}

/// What was last wrong with a broker, and how often in a row.
#[derive(Clone, Debug, Default)]
struct Complaint {
    cause: String,
    times: u64,
}

impl Complaint {
    /// Writes the cause to the log, unless it was there often enough; `news` says that all went well in between.
    fn tell(&mut self, broker: &Address, cause: &str, news: bool, pause: time::Duration) {
        let retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.times = if cause == self.cause && !news { self.times.saturating_add(1) } else { 1 };
        cause.clone_into(&mut self.cause);
        let times = self.times;
        if worth_telling(times) {
            warn!(%broker, retry_in_ms, times, "uplink down: {cause}");
        } else {
            debug!(%broker, retry_in_ms, times, "uplink down: {cause}");
        }
    }
}

/// Says whether the same cause is a warning for so many times in a row: the first ones, then ever more rarely, for a broker
/// that is away for a night says nothing new each minute.
const fn worth_telling(times: u64) -> bool {
    times <= 8 || times.is_power_of_two()
}

/// Waits between two connections; returns early, with true, when nothing is left to deliver.
async fn drained_within<S: Source>(pause: time::Duration, lanes: &mut Lanes<'_, S>) -> bool {
    let mut pause = pin!(time::sleep(pause));
    loop {
        if lanes.is_drained() {
            return true;
        }
        tokio::select! {
            () = &mut pause => return false,
            () = lanes.read() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_times_are_told_and_a_night_of_the_same_is_few_lines() {
        assert!((1..=8).all(super::worth_telling));
        let told = (1..=1000).filter(|&times| super::worth_telling(times)).count();
        assert!((10..20).contains(&told), "{told} lines");
    }
}

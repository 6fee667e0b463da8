//! Publishes durable observations to the city brain's broker, and acknowledges them to the buffer once the broker has.
//!
//! **Owns** the connection: MQTT 5, QoS 1, over mutual TLS with the host name always checked. **Refuses** to keep anything:
//! the log on disk is the only session state. A connection starts clean, lives exactly as long as its TCP connection, and
//! nothing inside its client is trusted afterwards; the next one starts with the first observation whose chunk is not
//! acknowledged.
//!
//! **Invariants**
//! - Observations of one resource are sent in the order of `seq`.
//! - A position is acknowledged only when every message of every chunk before it is delivered, or was given up with an
//!   ERROR and counted as dropped.
//! - Each observation is counted as delivered exactly once, however often it was sent.
//! - Trouble with certificates, names, the network or the broker ends a connection and never this stage.
//!
//! The parts without I/O: `window`, `message` and `skeleton`, `backoff`, `reason`, `status`. What is read and what became of it: `feed`.
//! One connection: `wire`.

pub mod backoff;
mod feed;
mod message;
mod reason;
mod skeleton;
mod status;
mod tls;
mod window;
mod wire;

use std::pin::pin;
use std::sync::Arc;

use ganglion_protocols::Cri;
use tokio::time;
use tracing::{debug, info, warn};

use crate::buffer::{Outlet, Position, Stored};
use crate::monitor::Monitor;
use crate::site::BrokerSettings;
use backoff::Backoff;
use feed::Feed;
use wire::{End, Uplink};

pub use tls::{TlsError, tls_config};

/// Where durable observations come from: the buffer's [`Outlet`], or a list in a test.
pub trait Source: Send {
    /// Place in the log.
    type Mark: Copy + Send;

    /// Waits for durable observations after those already read; the mark is where the log goes on after them. `None` when
    /// the writer has ended and everything is read. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<(Self::Mark, Vec<Stored>)>> + Send;

    /// Says that everything before `up_to` is delivered.
    fn acknowledge(&self, up_to: Self::Mark);

    /// Goes back to the first unacknowledged observation.
    fn rewind(&mut self);
}

impl Source for Outlet {
    type Mark = Position;

    async fn next(&mut self) -> Option<(Position, Vec<Stored>)> {
        Outlet::next(self).await.map(|chunk| (chunk.end, chunk.observations))
    }

    fn acknowledge(&self, up_to: Position) {
        Outlet::acknowledge(self, up_to);
    }

    fn rewind(&mut self) {
        Outlet::rewind(self);
    }
}

/// Delivers what the outlet gives. Returns when the outlet has ended and everything is acknowledged; until then it tries
/// for ever, so the caller puts a deadline on it.
pub async fn run(settings: &BrokerSettings, gateway: Cri, epoch: u64, outlet: Outlet, monitor: Arc<Monitor>) {
    run_from(settings, gateway, epoch, outlet, monitor).await;
}

/// Does what [`run`] does, from any [`Source`].
pub async fn run_from<S: Source>(
    settings: &BrokerSettings,
    gateway: Cri,
    epoch: u64,
    source: S,
    monitor: Arc<Monitor>,
) {
    let uplink = Uplink::new(settings, gateway, epoch, &monitor);
    let mut feed = Feed::new(source, uplink.encoder(), &monitor);
    let mut backoff = Backoff::new(settings.retry);
    let broker = format!("{}:{}", settings.host, settings.port);
    let (mut last_cause, mut times) = (String::new(), 0_u64);
    loop {
        monitor.uplink(|state| state.retry_in_ms = None);
        let settled = feed.settled();
        let cause = match wire::serve(&uplink, &mut feed).await {
            End::Finished => break,
            End::Lost(cause) => cause,
        };
        feed.restart();
        if feed.settled() > settled {
            backoff.reset();
            last_cause.clear();
        }
        let pause = backoff.pause(fastrand::f64());
        let retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        times = if cause == last_cause { times.saturating_add(1) } else { 1 };
        last_cause.clone_from(&cause);
        if worth_telling(times) {
            warn!(%broker, retry_in_ms, times, "uplink down: {cause}");
        } else {
            debug!(%broker, retry_in_ms, times, "uplink down: {cause}");
        }
        monitor.uplink(|state| {
            state.connected = false;
            state.last_error = Some(cause);
            state.retry_in_ms = Some(retry_in_ms);
        });
        if drained_within(pause, &mut feed).await {
            break;
        }
    }
    monitor.uplink(|state| {
        state.connected = false;
        state.retry_in_ms = None;
    });
    info!(%broker, "everything delivered, uplink ended");
}

/// Says whether the same cause is a warning for so many times in a row: the first ones, then ever more rarely, for a broker
/// that is away for a night says nothing new each minute.
const fn worth_telling(times: u64) -> bool {
    times <= 8 || times.is_power_of_two()
}

/// Waits between two connections; returns early, with true, when nothing is left to deliver.
async fn drained_within<S: Source>(pause: time::Duration, feed: &mut Feed<'_, S>) -> bool {
    let mut pause = pin!(time::sleep(pause));
    loop {
        if feed.is_drained() {
            return true;
        }
        tokio::select! {
            () = &mut pause => return false,
            () = feed.read() => {}
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

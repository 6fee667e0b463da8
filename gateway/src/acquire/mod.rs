//! Polls devices. One task owns each bus, and nobody else touches its wire.
//!
//! What is asked when, and what an answer means, is decided in [`ganglion_drivers::bus`], which has no clock and does no
//! I/O. A bus task carries bytes and time to it and samples from it: a device that does not answer makes samples too,
//! holding the reason. While the wire is down the devices keep their pace and the wire is reopened beside it.
//!
//! | file | what it owns |
//! |---|---|
//! | `bus.rs` | the task: bytes, time, events |
//! | `node/` | the task of a bus of sensor nodes |
//! | `settings.rs` | from the site to the engine's settings |
//! | `wire/` | ports and sockets, opened and opened again; the precise timer |
//! | `handle.rs` | reads and writes on demand |
//! | `learned.rs`, `fact.rs` | what was learnt, kept over restarts |
//! | `observed.rs` | what is measured, next to the plan |
//! | `trace.rs` | the raw bytes, for people and for replay |
//!
//! - A full channel makes the task wait; slots that pass meanwhile are skipped, never queued up.
//! - A task that panics is logged and started anew; it ends only by `stop` or when nobody takes samples any more.

mod bus;
mod fact;
mod handle;
pub mod learned;
mod node;
pub(crate) mod observed;
pub(crate) mod settings;
pub mod trace;
pub mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

use self::bus::BusTask;
pub use self::handle::{CallError, Handle};
use self::learned::Learned;
use self::node::NodeTask;
use self::trace::Trace;
use crate::monitor::Monitor;
use crate::pipeline::Acquired;
use crate::site::{Protocol, Site};

/// Pause before a task that panicked is started anew.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// What the buses share with the rest of the gateway.
pub struct Surroundings {
    /// Where states are shown.
    pub monitor: Arc<Monitor>,
    /// What was learnt about the devices.
    pub learned: Learned,
    /// Where raw bytes are written down.
    pub trace: Trace,
    /// Where samples go.
    pub out: mpsc::Sender<Acquired>,
    /// Turns true when it is time to end.
    pub stop: watch::Receiver<bool>,
}

/// Starts one task for each bus; they end soon after `stop` turns true (a request under way is abandoned, a finished
/// sample still sent) and drop `out`. The handle gives orders to them.
pub fn spawn(site: &Arc<Site>, surroundings: &Surroundings) -> (JoinSet<()>, Handle) {
    let mut tasks = JoinSet::new();
    let mut handle = Handle::default();
    for (place, bus) in site.buses.iter().enumerate() {
        if bus.protocol == Protocol::NodeLink {
            let task = NodeTask {
                bus: Arc::new(bus.clone()),
                site: Arc::clone(site),
                monitor: Arc::clone(&surroundings.monitor),
                trace: surroundings.trace.clone(),
                out: surroundings.out.clone(),
                stop: surroundings.stop.clone(),
            };
            tasks.spawn(supervise(bus.name.clone(), surroundings.stop.clone(), move || task.clone().run()));
            continue;
        }
        let task = BusTask {
            bus: Arc::new(bus.clone()),
            phase: phase(site, place),
            site: Arc::clone(site),
            monitor: Arc::clone(&surroundings.monitor),
            learned: surroundings.learned.clone(),
            trace: surroundings.trace.clone(),
            out: surroundings.out.clone(),
            calls: Arc::new(Mutex::new(handle.add(&bus.name))),
            stop: surroundings.stop.clone(),
        };
        tasks.spawn(supervise(bus.name.clone(), surroundings.stop.clone(), move || task.clone().run()));
    }
    (tasks, handle)
}

/// Spreads the buses over the time between two polls of one of them, so that they do not burst together: of `n` buses the
/// one at place `i` starts `i/n` of that time later.
pub(crate) fn phase(site: &Site, place: usize) -> Duration {
    let Some(bus) = site.buses.get(place) else { return Duration::ZERO };
    let intervals = bus
        .devices
        .iter()
        .filter_map(|id| site.devices.get(id.0))
        .flat_map(|device| &device.groups)
        .map(|group| group.interval);
    let between = intervals.min().unwrap_or_default() / u32::try_from(bus.devices.len().max(1)).unwrap_or(u32::MAX);
    let share = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    between.saturating_mul(share(place)) / share(site.buses.len().max(1))
}

/// Runs what `start` makes until it ends by itself; after a panic, again.
async fn supervise<F>(name: String, mut stop: watch::Receiver<bool>, start: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // A set, so that the task within ends when this one is dropped.
        let mut task = JoinSet::new();
        task.spawn(start());
        match task.join_next().await {
            Some(Err(end)) if end.is_panic() => error!(bus = name, "the bus task panicked, it is started anew: {end}"),
            _ => return,
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = sleep(RESTART_PAUSE) => {}
        }
    }
}

/// Waits until `stop` is true or its sender gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone: nobody could stop this task any more.
    drop(stop.wait_for(|&stop| stop).await);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_anew_until_it_ends_by_itself() {
        let starts = Arc::new(AtomicU32::new(0));
        let (_keep, stop) = watch::channel(false);
        let counted = Arc::clone(&starts);
        supervise("line".to_owned(), stop, move || {
            let start = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert!(start == 2, "start {start} fails") }
        })
        .await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panicked_is_not_started_anew_after_stop() {
        let (stop, stopping) = watch::channel(false);
        let task = tokio::spawn(supervise("line".to_owned(), stopping, || async { panic!("always") }));
        sleep(10 * RESTART_PAUSE).await;
        assert!(!task.is_finished());
        stop.send_replace(true);
        task.await.unwrap();
    }
}

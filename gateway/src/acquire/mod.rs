//! Polls devices. One task owns each bus, and nobody else touches its wire.
//!
//! What is asked when, and what an answer means, is decided in [`ganglion_drivers::bus`], which has no clock and does no
//! I/O. A bus task carries bytes and time to it and samples from it: a device that does not answer makes samples too,
//! holding the reason. While the wire is down the devices keep their pace and the wire is reopened beside it.
//!
//! | file | what it owns |
//! |---|---|
//! | `bus.rs` | the task: bytes, time, events |
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
mod observed;
mod settings;
pub mod trace;
pub mod wire;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ganglion_drivers::schedule::{Due, Schedule, Slot};
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::UnitId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::error;

use self::bus::BusTask;
pub use self::handle::{CallError, Handle};
use self::learned::Learned;
use self::trace::Trace;
use crate::monitor::Monitor;
use crate::pipeline::Sample;
use crate::site::Site;

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
    pub out: mpsc::Sender<Sample>,
    /// Turns true when it is time to end.
    pub stop: watch::Receiver<bool>,
}

/// Starts one task for each bus; they end soon after `stop` turns true (a request under way is abandoned, a finished
/// sample still sent) and drop `out`. The handle gives orders to them.
pub fn spawn(site: &Arc<Site>, surroundings: &Surroundings) -> (JoinSet<()>, Handle) {
    let mut tasks = JoinSet::new();
    let mut handle = Handle::default();
    for (place, bus) in site.buses.iter().enumerate() {
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
fn phase(site: &Site, place: usize) -> Duration {
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

#[derive(Clone)]
struct BusTask {
    bus: Arc<Bus>,
    /// How long after the start its first slot begins.
    phase: Duration,
    site: Arc<Site>,
    monitor: Arc<Monitor>,
    out: mpsc::Sender<Sample>,
    stop: watch::Receiver<bool>,
}

impl BusTask {
    async fn run(self) {
        match &self.bus.link {
            Link::Tcp { host, port } => {
                let connection = tcp::connection(&self.bus, host, *port);
                self.serve(connection).await;
            }
            Link::Serial(link) => {
                let connection = serial::connection(&self.bus, link);
                self.serve(connection).await;
            }
            Link::RtuOverTcp { .. } => {
                error!(bus = self.bus.name, "this build has no wire for RTU over TCP, the bus is not polled");
                let mut stop = self.stop.clone();
                stopped(&mut stop).await;
            }
        }
    }

    async fn serve<T: Transport>(mut self, mut connection: Connection<T>) {
        let site = Arc::clone(&self.site);
        let devices = self.bus.devices.iter().filter_map(|&id| Some((id, site.devices.get(id.0)?)));
        let groups: Vec<(DeviceId, &Device, usize, &Group)> = devices
            .flat_map(|(id, device)| device.groups.iter().enumerate().map(move |(n, group)| (id, device, n, group)))
            .collect();
        let slots: Vec<Slot> = groups.iter().map(|(.., group)| Slot::every(group.interval)).collect();
        let start = Instant::now();
        let mut schedule = Schedule::new(slots, self.phase);
        let mut overruns = Overruns::default();
        loop {
            let now = start.elapsed();
            if let Some(Due { place, .. }) = schedule.first(now, |_| true) {
                let Some(&(id, device, n, group)) = groups.get(place) else { return };
                overruns.count(&self.bus.name, schedule.take(place, now));
                let sample = tokio::select! {
                    biased;
                    () = stopped(&mut self.stop) => return,
                    sample = poll(&mut connection, (id, n), device.unit, group) => sample,
                };
                schedule.finish(place, start.elapsed());
                self.report(device, &sample);
                if self.out.send(sample).await.is_err() {
                    return;
                }
                continue;
            }
            let Some(wake) = schedule.wake() else { return stopped(&mut self.stop).await };
            let wake = start.checked_add(wake).unwrap_or_else(|| start + OVERRUN_REPORT);
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return,
                () = connection.tend() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Counts the poll, and logs the first one and each change of the device's health.
    fn report(&self, device: &Device, sample: &Sample) {
        let outcome = sample.states.iter().rev().find_map(|state| *state);
        let changed = self.monitor.polled(sample.device, outcome.map_or(Ok(()), Err));
        match outcome {
            _ if !changed => {}
            None => info!(bus = self.bus.name, device = device.name, unit = %device.unit, "the device answers"),
            Some(reason) => {
                warn!(bus = self.bus.name, device = device.name, unit = %device.unit, %reason, "the device has no good answer");
            }
        }
    }
}

/// Asks everything that one poll of the group asks, a request for each want.
async fn poll<T: Transport>(
    connection: &mut Connection<T>,
    (device, n): (DeviceId, usize),
    unit: UnitId,
    group: &Group,
) -> Sample {
    let mut words = Vec::new();
    let mut states = Vec::with_capacity(group.wants.len());
    let mut arrived = None;
    let mut silent = false;
    for want in group.wants.iter() {
        words.resize(want.offset, 0);
        if silent {
            // A silent unit costs one timeout, not one for each request.
            states.push(Some(Reason::Timeout));
            continue;
        }
        let answer = connection.ask(unit, &want.read).await;
        match answer {
            Ok(_) | Err(Reason::Exception(_)) => arrived = Some(clock::now()),
            Err(Reason::Timeout) => silent = true,
            Err(_) => {}
        }
        states.push(answer.as_ref().err().copied());
        words.extend(answer.unwrap_or_default());
    }
    words.resize(group.wants.last().map_or(0, |want| want.offset + usize::from(want.read.count)), 0);
    let t = arrived.unwrap_or_else(clock::now);
    Sample { device, group: n, t, clock: clock::state(), words, states }
}

/// Polls that a bus had no time for.
#[derive(Default)]
struct Overruns {
    missed: u64,
    reported: Option<Instant>,
}

impl Overruns {
    fn count(&mut self, bus: &str, missed: u64) {
        self.missed = self.missed.saturating_add(missed);
        if self.missed > 0 && self.reported.is_none_or(|last| last.elapsed() >= OVERRUN_REPORT) {
            warn!(bus, missed = self.missed, "the bus does not keep up with its poll intervals, polls were skipped");
            *self = Self { missed: 0, reported: Some(Instant::now()) };
        }
    }
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

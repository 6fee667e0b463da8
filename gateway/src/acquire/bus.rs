//! The task of one bus: carries bytes and time between its wire and its engine ([`ganglion_drivers::bus`]), and what the
//! engine says to the stages, the log, the monitor and whoever gave an order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_drivers::bus::order::{Order, OrderId};
use ganglion_drivers::bus::{Bus as Engine, Event as Happened, Sampled};
use ganglion_drivers::client::Counts;
use ganglion_protocols::Reason;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, watch};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::handle::{Call, ORDERS};
use super::learned::{KEEP_EVERY, Learned};
use super::observed::Observed;
use super::settings::{Polled, settings};
use super::trace::{Moment, Trace};
use super::wire::{Connection, Event, PreciseTimer, Standing};
use crate::clock;
use crate::monitor::Monitor;
use crate::pipeline::{Acquired, Sample};
use crate::site::{Bus, Device, Site};

/// Longest wait without anything to do, so that what is shown of the bus stays fresh.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Reads in a row, without a pause in which a deadline came, after which the task looks up from the wire.
const FLOOD: u32 = 16;

/// Received bytes of one read; an RTU frame has 256.
const LUMP: usize = 512;

/// What a bus task needs; kept so that it can be started anew.
#[derive(Clone)]
pub(super) struct BusTask {
    pub(super) bus: Arc<Bus>,
    /// How long after the start its first slot begins.
    pub(super) phase: Duration,
    pub(super) site: Arc<Site>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) learned: Learned,
    pub(super) trace: Trace,
    pub(super) out: mpsc::Sender<Acquired>,
    pub(super) calls: Arc<Mutex<mpsc::Receiver<Call>>>,
    pub(super) stop: watch::Receiver<bool>,
}

impl BusTask {
    /// Runs until stopped, or until nobody takes samples any more.
    pub(super) async fn run(self) {
        let calls = Arc::clone(&self.calls).lock_owned().await;
        let (settings, polled) = settings(&self.site, &self.bus);
        let devices: Vec<Device> =
            self.bus.devices.iter().filter_map(|id| self.site.devices.get(id.0)).cloned().collect();
        let mut engine = Engine::new(self.phase, settings);
        for (unit, device) in devices.iter().enumerate() {
            engine.restore(self.phase, unit, self.learned.of(device).into_iter());
        }
        let observed = Observed::new(&self.bus, &devices, &polled);
        let connection = Connection::new(&self.bus.name, &self.bus.link);
        let timer = PreciseTimer::new();
        let running = Running {
            task: self,
            start: Instant::now(),
            engine,
            connection,
            timer,
            devices,
            polled,
            observed,
            calls,
            waiting: BTreeMap::new(),
            orders: 0,
            to_keep: None,
            kept: None,
        };
        running.note(Duration::ZERO, Moment::Started);
        running.run().await;
    }
}

struct Running {
    task: BusTask,
    start: Instant,
    engine: Engine,
    connection: Connection,
    timer: PreciseTimer,
    devices: Vec<Device>,
    polled: Vec<Polled>,
    observed: Observed,
    calls: OwnedMutexGuard<mpsc::Receiver<Call>>,
    /// Who waits for which order.
    waiting: BTreeMap<u64, Call>,
    orders: u64,
    /// When what was learnt since the last write is to be written.
    to_keep: Option<Duration>,
    /// When it was written last.
    kept: Option<Duration>,
}

/// Returns how many requests were answered, if only by an exception: the peer does not hang up on everything.
fn answers(counts: Counts) -> u64 {
    counts.answers.saturating_add(counts.refusals)
}

/// The task has nothing more to do.
struct Ended;

impl Running {
    async fn run(mut self) {
        let mut stop = self.task.stop.clone();
        let ended = tokio::select! {
            biased;
            () = super::stopped(&mut stop) => Ok(()),
            Ended = self.serve() => Err(Ended),
        };
        if ended.is_ok() && self.to_keep.is_some() {
            self.keep().await;
        }
    }

    async fn serve(&mut self) -> Ended {
        let mut buffer = [0; LUMP];
        let mut heard = 0_u32;
        loop {
            if self.tell().await.is_err() {
                return Ended;
            }
            if self.transmit(&mut buffer).await {
                continue;
            }
            if self.tell().await.is_err() {
                return Ended;
            }
            let now = self.now();
            let wake = self.engine.poll_timeout().unwrap_or(Duration::MAX).min(now.saturating_add(LONGEST_WAIT));
            let deadline = self.start + wake;
            tokio::select! {
                biased;
                event = self.connection.next(&mut buffer) => {
                    heard += 1;
                    self.happened(event, &buffer);
                }
                Some(call) = self.calls.recv(), if self.waiting.len() < ORDERS => self.take(call),
                () = self.timer.until(deadline) => {
                    heard = 0;
                    let now = self.now();
                    self.note(now, Moment::Woken);
                    self.engine.handle_timeout(now);
                }
            }
            if heard >= FLOOD {
                heard = 0;
                self.look_up().await;
            }
            if self.to_keep.is_some_and(|at| at <= self.now()) {
                self.keep().await;
            }
        }
    }

    /// Looks at the time, the orders and the rest of the gateway, to which a peer that sends without end would never let
    /// this task come.
    async fn look_up(&mut self) {
        tokio::task::yield_now().await;
        let now = self.now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.note(now, Moment::Woken);
            self.engine.handle_timeout(now);
        }
        while self.waiting.len() < ORDERS
            && let Ok(call) = self.calls.try_recv()
        {
            self.take(call);
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Writes down what the engine is told, and when.
    fn note(&self, now: Duration, moment: Moment<'_>) {
        self.task.trace.record_at(self.start + now, &self.task.bus.name, moment);
    }

    /// Sends the next frame. Returns false when there is nothing to send.
    async fn transmit(&mut self, buffer: &mut [u8; LUMP]) -> bool {
        if self.connection.standing() == Standing::Open {
            // What has come since the last look was said before this frame, and must not pass for its answer.
            let come = tokio::select! {
                biased;
                event = self.connection.next(buffer) => Some(event),
                () = std::future::ready(()) => None,
            };
            if let Some(event) = come {
                self.happened(event, buffer);
            }
        }
        let now = self.now();
        let Some(frame) = self.engine.poll_transmit(now) else { return false };
        self.task.trace.record_at(self.start + now, &self.task.bus.name, Moment::Sent(frame));
        if self.connection.write(frame).await.is_err() {
            self.lost();
        }
        true
    }

    fn happened(&mut self, event: Event, buffer: &[u8]) {
        let now = self.now();
        match event {
            Event::Opened => {
                self.note(now, Moment::Opened);
                self.observed.connected = true;
                self.engine.connected(now);
            }
            Event::Received(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                self.note(now, Moment::Received(bytes));
                let before = answers(self.engine.counts());
                self.engine.handle_bytes(now, bytes);
                if answers(self.engine.counts()) > before {
                    self.connection.answered();
                }
            }
            Event::Lost => self.lost(),
            Event::Down => {
                self.note(now, Moment::Down);
                self.observed.connected = false;
                self.engine.disconnected(now);
            }
        }
    }

    fn lost(&mut self) {
        let now = self.now();
        self.note(now, Moment::Lost);
        self.observed.connected = false;
        self.engine.lost(now);
    }

    /// Passes an order on.
    fn take(&mut self, call: Call) {
        self.orders += 1;
        self.engine.order(Order { id: OrderId(self.orders), unit: call.unit, deed: call.deed.clone() });
        self.waiting.insert(self.orders, call);
    }

    /// Tells everybody what has happened.
    async fn tell(&mut self) -> Result<(), Ended> {
        let now = self.now();
        if self.observed.due(now) {
            let (overview, counts) = (self.engine.overview(now), self.engine.counts());
            self.task.monitor.bus(&self.task.bus.name, self.observed.state(now, &overview, counts));
        }
        while let Some(event) = self.engine.poll_event() {
            match event {
                Happened::Sampled(sampled) => self.sampled(sampled).await?,
                Happened::Ordered { id, result } => {
                    if let Some(call) = self.waiting.remove(&id.0) {
                        // Whoever asked may have left.
                        drop(call.answer.send(result));
                    }
                }
                Happened::Learnt { .. } => {
                    let now = self.now();
                    let earliest = self.kept.map_or(now, |kept| kept.saturating_add(KEEP_EVERY));
                    self.to_keep.get_or_insert(earliest.max(now.saturating_add(LONGEST_WAIT)));
                }
                Happened::Replace { reason } => {
                    warn!(bus = self.task.bus.name, %reason, "nothing can be understood on this connection, it is replaced");
                    self.connection.renew();
                    self.lost();
                }
                Happened::Stretched(floor) => self.stretched(floor),
                other => self.log(&other),
            }
        }
        Ok(())
    }

    async fn sampled(&mut self, sampled: Sampled) -> Result<(), Ended> {
        let Sampled { task, at, missed, words, states } = sampled;
        let Some(&Polled { device, group }) = self.polled.get(task) else { return Ok(()) };
        let age = self.now().saturating_sub(at);
        self.observed.sampled(task, at, missed);
        let outcome = states.iter().rev().find_map(|state| *state);
        self.report(device.0, group, outcome);
        let (t, clock) = (clock::before(age), clock::state());
        let sample = Sample { device, group, t, clock, words, states, origin: None };
        self.task.out.send(Acquired::Sample(sample)).await.map_err(|_| Ended)
    }

    /// Counts the poll, and logs the first one and each change of the device's health.
    fn report(&self, device: usize, group: usize, outcome: Option<Reason>) {
        let Some(device) = self.task.site.devices.get(device) else { return };
        let (bus, name, unit) = (&self.task.bus.name, &device.name, device.unit);
        if !self.task.monitor.polled(name, group, outcome.map_or(Ok(()), Err)) {
            return;
        }
        match outcome {
            None => info!(bus, device = name, %unit, "the device answers"),
            Some(reason) => warn!(bus, device = name, %unit, %reason, "the device has no good answer"),
        }
    }

    fn stretched(&self, floor: Option<Duration>) {
        let bus = &self.task.bus.name;
        match floor {
            None => info!(bus, "the bus keeps up with its poll intervals"),
            Some(floor) => {
                let slower = |polled: &&Polled| {
                    let device = self.task.site.devices.get(polled.device.0);
                    device
                        .and_then(|device| device.groups.get(polled.group))
                        .is_some_and(|group| group.interval < floor)
                };
                let groups = self.polled.iter().filter(slower).count();
                warn!(
                    bus,
                    stretched = groups,
                    to_ms = u64::try_from(floor.as_millis()).unwrap_or(u64::MAX),
                    "the bus cannot carry what is asked, the shortest poll intervals are stretched; see `ganglion plan`"
                );
            }
        }
    }

    fn log(&self, event: &Happened) {
        let bus = &self.task.bus.name;
        let device = |unit: &usize| self.devices.get(*unit).map_or("", |device| device.name.as_str());
        match event {
            Happened::Silent { unit } => {
                warn!(bus, device = device(unit), "the device gives no usable answer and is asked now and then only");
            }
            Happened::Back { unit } => info!(bus, device = device(unit), "the device answers again"),
            Happened::WrongDevice { unit, found } => {
                let value = |bits: u64| format!("{bits} ({bits:#x})");
                let expected = self.devices.get(*unit).and_then(|device| device.identity.as_ref());
                error!(
                    bus,
                    device = device(unit),
                    expected = expected.map_or_else(String::new, |identity| value(identity.equals)),
                    found = found.map_or("nothing".to_owned(), value),
                    "another device answers: its identity register does not match its template; no value is taken"
                );
            }
            Happened::RightDevice { unit } => info!(bus, device = device(unit), "the right device answers again"),
            Happened::Sampled(_)
            | Happened::Ordered { .. }
            | Happened::Learnt { .. }
            | Happened::Replace { .. }
            | Happened::Stretched(_) => {}
        }
    }

    /// Writes down what was learnt.
    async fn keep(&mut self) {
        let now = self.now();
        self.to_keep = None;
        self.kept = Some(now);
        let known: Vec<_> = self
            .devices
            .iter()
            .enumerate()
            .map(|(unit, device)| (device.clone(), self.engine.facts(now, unit).collect()))
            .collect();
        let learned = self.task.learned.clone();
        let written = spawn_blocking(move || learned.keep(known)).await;
        if let Ok(Err(error)) = written {
            warn!(bus = self.task.bus.name, %error, "what was learnt could not be written, it is learnt anew after a restart");
        }
    }
}

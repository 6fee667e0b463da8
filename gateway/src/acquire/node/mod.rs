//! The task of one bus of sensor nodes: carries bytes and time between its wire and its engine
//! ([`ganglion_drivers::node`]), and samples and losses from it to the stages.
//!
//! A node is told that its samples are taken only when they are durable here: what the buffer's
//! marks say is passed on, and nothing else.
//!
//! | file | what it owns |
//! |---|---|
//! | `mod.rs` | the task |
//! | `samples.rs` | from the channels of a node to the words of its device's points |

mod samples;

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ganglion_drivers::breaker::Policy;
use ganglion_drivers::node::{
    Event as Happened, Lost, LostCause, Moment, NodeBus, Sample, Settings, Taken, UnitSettings,
};
use ganglion_protocols::{Cri, LossCause, Origin, Reason, Timestamp};
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use self::samples::Layout;
use super::settings::{LONGEST_PAUSE, SERIAL_SLACK, SHORTEST_WAIT};
use super::trace::{Moment as Traced, Trace};
use super::wire::{Connection, Event, PreciseTimer, Standing};
use crate::clock;
use crate::monitor::Monitor;
use crate::pipeline::{Acquired, LostAtSource, Sample as Sampled};
use crate::site::{Bus, Device, DeviceId, LineSpeed, Link, Site};

/// Longest wait without anything to do.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// How often it is looked whether samples have become durable, while some have not.
const DURABLE_EVERY: Duration = Duration::from_millis(20);
/// Time between two questions to nodes that nobody configured.
const DISCOVER_EVERY: Duration = Duration::from_secs(60);
/// A clock that says less has not been set: 2024-01-01.
const PLAUSIBLE_MS: u64 = 1_704_067_200_000;
const LUMP: usize = 512;

/// What the task needs; kept so that it can be started anew.
#[derive(Clone)]
pub(super) struct NodeTask {
    pub(super) bus: Arc<Bus>,
    pub(super) site: Arc<Site>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) trace: Trace,
    pub(super) out: mpsc::Sender<Acquired>,
    pub(super) stop: watch::Receiver<bool>,
}

/// The task has nothing more to do.
struct Ended;

struct Running {
    task: NodeTask,
    start: Instant,
    engine: NodeBus,
    connection: Connection,
    timer: PreciseTimer,
    nodes: Vec<Node>,
}

/// One configured node.
struct Node {
    id: DeviceId,
    device: Device,
    /// What it observes, each resource once.
    resources: Vec<Cri>,
    layout: Option<Layout>,
    /// What was passed on last.
    durable: Option<(Origin, Timestamp)>,
}

impl NodeTask {
    /// Runs until stopped, or until nobody takes samples any more.
    pub(super) async fn run(self) {
        let nodes: Vec<Node> = self.bus.devices.iter().filter_map(|id| self.node(*id)).collect();
        let engine = NodeBus::new(Duration::ZERO, self.settings(&nodes));
        let connection = Connection::new(&self.bus.name, &self.bus.link);
        let timer = PreciseTimer::new();
        let mut stop = self.stop.clone();
        let mut running = Running { task: self, start: Instant::now(), engine, connection, timer, nodes };
        running.note(Traced::Started);
        tokio::select! {
            biased;
            () = super::stopped(&mut stop) => {}
            Ended = running.serve() => {}
        }
    }

    fn node(&self, id: DeviceId) -> Option<Node> {
        let device = self.site.devices.get(id.0)?.clone();
        let streams = device.groups.iter().flat_map(|group| &group.streams);
        let mut resources: Vec<Cri> =
            streams.filter_map(|stream| self.site.streams.get(stream.0)).map(|stream| stream.resource).collect();
        resources.sort_unstable();
        resources.dedup();
        let durable = durable(&self.monitor, &resources);
        Some(Node { id, device, resources, layout: None, durable })
    }

    fn settings(&self, nodes: &[Node]) -> Settings {
        let speed = match &self.bus.link {
            Link::Serial(link) => Some(link.speed),
            Link::RtuOverTcp { speed, .. } => Some(*speed),
            Link::Tcp { .. } => None,
        };
        let (baud, bits) = speed.map_or((9600, 10), |speed: LineSpeed| (speed.baud, speed.bits_per_character()));
        let unit = |node: &Node| UnitSettings {
            unit: node.device.unit.0,
            cri: node.resources.first().map_or(0, |cri| cri.to_bits()),
            period: node.device.groups.first().map_or(LONGEST_WAIT, |group| group.interval),
            taken: node
                .durable
                .map(|(origin, t)| Taken { origin, utc_ms: u64::try_from(t.unix_nanos() / 1_000_000).ok() }),
        };
        Settings {
            character: ganglion_drivers::client::character_time(baud, bits),
            gap: ganglion_drivers::client::frame_gap(baud, bits),
            response_timeout: self.bus.response_timeout,
            shortest_wait: SHORTEST_WAIT,
            answer_slack: SERIAL_SLACK,
            retries: self.bus.retries,
            breaker: Policy {
                share_percent: self.bus.dead_unit_share_percent,
                trip_after: self.bus.retries.saturating_add(1).saturating_mul(2),
                longest_pause: LONGEST_PAUSE,
            },
            discover_every: Some(DISCOVER_EVERY),
            seed: RandomState::new().hash_one(SystemTime::now()),
            nodes: nodes.iter().map(unit).collect(),
        }
    }
}

impl Running {
    async fn serve(&mut self) -> Ended {
        let mut buffer = [0; LUMP];
        loop {
            if self.tell().await.is_err() {
                return Ended;
            }
            if self.transmit().await {
                continue;
            }
            if self.tell().await.is_err() {
                return Ended;
            }
            let now = self.now();
            let longest = if self.waits_for_disk() { DURABLE_EVERY } else { LONGEST_WAIT };
            let wake = self.engine.poll_timeout().unwrap_or(Duration::MAX).min(now.saturating_add(longest));
            let deadline = self.start + wake;
            tokio::select! {
                biased;
                event = self.connection.next(&mut buffer) => self.happened(event, &buffer),
                () = self.timer.until(deadline) => {
                    self.pass_on_what_is_durable();
                    self.engine.handle_timeout(self.moment());
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn moment(&self) -> Moment {
        let now = self.now();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let utc_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // A node's time is as good as the gateway's own observations have it; `clock` says how good.
        Moment { now, utc_ms, sure: utc_ms >= PLAUSIBLE_MS }
    }

    fn note(&self, moment: Traced<'_>) {
        self.task.trace.record_at(self.start + self.now(), &self.task.bus.name, moment);
    }

    async fn transmit(&mut self) -> bool {
        if self.connection.standing() != Standing::Open {
            return false;
        }
        let moment = self.moment();
        let Some(frame) = self.engine.poll_transmit(moment) else { return false };
        self.task.trace.record_at(self.start + moment.now, &self.task.bus.name, Traced::Sent(frame));
        if self.connection.write(frame).await.is_err() {
            self.note(Traced::Lost);
            self.engine.lost(self.now());
        }
        true
    }

    fn happened(&mut self, event: Event, buffer: &[u8]) {
        let now = self.now();
        match event {
            Event::Opened => {
                self.note(Traced::Opened);
                self.engine.connected(now);
            }
            Event::Received(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                self.note(Traced::Received(bytes));
                self.connection.answered();
                self.engine.handle_bytes(self.moment(), bytes);
            }
            Event::Lost => {
                self.note(Traced::Lost);
                self.engine.lost(now);
            }
            Event::Down => {
                self.note(Traced::Down);
                self.engine.disconnected(now);
            }
        }
    }

    /// Says whether samples are on their way to the disk.
    fn waits_for_disk(&self) -> bool {
        let waits = |(place, node): (usize, &Node)| {
            self.engine.taken(place).map(|taken| taken.origin) != node.durable.map(|(origin, _)| origin)
        };
        self.nodes.iter().enumerate().any(waits)
    }

    fn pass_on_what_is_durable(&mut self) {
        let now = self.now();
        for (place, node) in self.nodes.iter_mut().enumerate() {
            let durable = durable(&self.task.monitor, &node.resources);
            if let Some((origin, _)) = durable.filter(|_| durable != node.durable) {
                node.durable = durable;
                self.engine.durable(now, place, origin);
            }
        }
    }

    /// Tells everybody what has happened.
    async fn tell(&mut self) -> Result<(), Ended> {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Happened::Sample(sample) => self.sampled(sample).await?,
                Happened::Lost(lost) => self.lost(lost).await?,
                Happened::Failed { node, reason } => self.failed(node, reason).await?,
                Happened::Answered { node } => self.report(node, Ok(())),
                Happened::Described { node } => self.described(node),
                other => self.log(&other),
            }
        }
        Ok(())
    }

    async fn sampled(&mut self, sample: Sample) -> Result<(), Ended> {
        let Some(node) = self.nodes.get(sample.node) else { return Ok(()) };
        // A node whose channels fit nothing has been told of.
        let Some((words, states)) = node.layout.as_ref().map(|layout| layout.fill(&sample.readings)) else {
            return Ok(());
        };
        let sampled = Sampled {
            device: node.id,
            group: 0,
            t: timestamp(sample.utc_ms),
            clock: clock::state(),
            words,
            states,
            origin: Some(sample.origin),
        };
        self.task.out.send(Acquired::Sample(sampled)).await.map_err(|_| Ended)
    }

    async fn lost(&mut self, lost: Lost) -> Result<(), Ended> {
        let (Some(node), Some(count)) = (self.nodes.get(lost.node), NonZeroU64::new(lost.count.into())) else {
            return Ok(());
        };
        let cause = match lost.cause {
            LostCause::Full => LossCause::NodeFull,
            LostCause::Damaged => LossCause::NodeDamaged,
            LostCause::Undated => LossCause::Undated,
            LostCause::Restart => LossCause::NodeRestart,
        };
        let (from, to) = lost.span_ms;
        warn!(
            bus = self.task.bus.name,
            device = node.device.name,
            count,
            %cause,
            "samples of the node are lost, which is declared"
        );
        let lost = LostAtSource {
            device: node.id,
            group: 0,
            count,
            from: timestamp(from),
            to: timestamp(to),
            cause,
            origin: Some(lost.origin),
        };
        self.task.out.send(Acquired::Lost(lost)).await.map_err(|_| Ended)
    }

    /// A node that does not answer makes no sample: its own will come, each with its time.
    async fn failed(&mut self, node: usize, reason: Reason) -> Result<(), Ended> {
        self.report(node, Err(reason));
        Ok(())
    }

    /// Counts the question, and logs the first one and each change of the node's health.
    fn report(&self, node: usize, outcome: Result<(), Reason>) {
        let Some(Node { device, .. }) = self.nodes.get(node) else { return };
        let (bus, name, unit) = (&self.task.bus.name, &device.name, device.unit);
        if !self.task.monitor.polled(name, 0, outcome) {
            return;
        }
        match outcome {
            Ok(()) => info!(bus, device = name, %unit, "the node answers"),
            Err(reason) => warn!(bus, device = name, %unit, %reason, "the node has no good answer"),
        }
    }

    fn described(&mut self, place: usize) {
        let Some((info, channels)) = self.engine.node(place) else { return };
        let Some(node) = self.nodes.get_mut(place) else { return };
        let Some(group) = node.device.groups.first() else { return };
        let (bus, name) = (&self.task.bus.name, &node.device.name);
        let layout = Layout::new(&group.wants, channels);
        for address in layout.unfilled() {
            error!(
                bus,
                device = name,
                template = node.device.template,
                board = info.board,
                register = address,
                "no channel of the node is at this register: the template is of another kind of node"
            );
        }
        info!(
            bus,
            device = name,
            serial = format_args!("{:016x}", info.serial),
            board = info.board,
            firmware = %info.firmware,
            channels = channels.len(),
            boot = info.boot,
            "the node has described itself"
        );
        node.layout = Some(layout);
    }

    fn log(&self, event: &Happened) {
        let bus = &self.task.bus.name;
        let device = |node: &usize| self.nodes.get(*node).map_or("", |node| node.device.name.as_str());
        match event {
            Happened::Silent { node } => {
                warn!(bus, device = device(node), "the node gives no usable answer and is asked now and then only");
            }
            Happened::Back { node } => info!(bus, device = device(node), "the node answers again"),
            Happened::Restarted { node, boot, reset } => {
                warn!(bus, device = device(node), boot, ?reset, "the node has started anew");
            }
            Happened::WrongCri { node, found } => {
                let found = Cri::from_bits(*found).map_or_else(|_| "nothing".to_owned(), |cri| cri.to_string());
                error!(
                    bus,
                    device = device(node),
                    found,
                    "the node measures another resource than the one configured; its samples are not taken"
                );
            }
            Happened::RightCri { node } => info!(bus, device = device(node), "the node measures the right resource"),
            Happened::Unsupported { unit, lowest, highest } => {
                error!(bus, unit, lowest, highest, "the node speaks other versions of the link only");
            }
            Happened::Undescribed { node } => {
                error!(bus, device = device(node), "what the node says of its channels does not fit their hash");
            }
            Happened::Found(info) => {
                let resource = Cri::from_bits(info.cri).map_or_else(|_| "none yet".to_owned(), |cri| cri.to_string());
                warn!(
                    bus,
                    unit = info.unit,
                    resource,
                    board = info.board,
                    serial = format_args!("{:016x}", info.serial),
                    "a node that nobody configured: `ganglion node list` writes its entry"
                );
            }
            Happened::SameUnit { unit, serials: [one, other] } => {
                error!(
                    bus,
                    unit,
                    serials = format_args!("{one:016x} {other:016x}"),
                    "two nodes have one address: neither can be read until one has another"
                );
            }
            Happened::Sample(_)
            | Happened::Lost(_)
            | Happened::Failed { .. }
            | Happened::Answered { .. }
            | Happened::Described { .. }
            | Happened::Scanned
            | Happened::Ordered { .. } => {}
        }
    }
}

/// Returns up to where the samples of a node are durable for all that it observes.
fn durable(monitor: &Monitor, resources: &[Cri]) -> Option<(Origin, Timestamp)> {
    let mut origins = resources.iter().map(|resource| monitor.durable_origin(*resource));
    let first = origins.next()??;
    origins.try_fold(first, |least, durable| {
        let durable = durable.filter(|(origin, _)| origin.epoch == least.0.epoch)?;
        Some(if durable.0.seq < least.0.seq { durable } else { least })
    })
}

fn timestamp(utc_ms: u64) -> Timestamp {
    Timestamp::from_unix_nanos(i64::try_from(utc_ms).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}

//! The buffer as these tests use it. No other file here names its types, so that a change of its interface is made once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ganglion::buffer::{self, Chunk, OpenError, Outlet, Span};
use ganglion::monitor::Monitor;
use ganglion::pipeline::{Offered, Unnumbered};
use ganglion::site::{BrokerSettings, BufferSettings, MqttVersion, NamedProperty, Site, Stream, StreamId, WhenFull};
use ganglion_protocols::{Clock, ClockSource, Cri, Quality, Reading, Timestamp, Value};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// One of the two logs of a store; the other stays empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Log {
    /// Handed out in one lane.
    Events,
    /// Handed out in two lanes: what is new, and what an earlier start left.
    Telemetry,
}

impl Log {
    /// Returns its folder in the data directory.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Telemetry => "buffer",
        }
    }

    /// Finds the log of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Events, Self::Telemetry].into_iter().find(|log| format!("{log:?}") == name)
    }
}

/// Place of a resource in these tests, from 0.
pub(crate) type Resource = usize;

/// Observed once, at the beginning: its number outlives the segment that held it.
pub(crate) const RARE: Resource = 0;
/// Observed with few readings.
pub(crate) const NARROW: Resource = 1;
/// Observed with many readings, so that few observations fill a segment.
pub(crate) const WIDE: Resource = 2;

const READINGS: [u16; 3] = [2, 2, 90];

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Limits of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) segment_bytes: u32,
    pub(crate) segments: u64,
    pub(crate) commit_interval: Duration,
    pub(crate) commit_bytes: u32,
}

/// An observation as the outlet handed it out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Seen {
    /// Which lane it came in, from 0.
    pub(crate) lane: usize,
    pub(crate) resource: Resource,
    /// Its `seq`.
    pub(crate) number: u64,
    /// What it was made with.
    pub(crate) mark: Mark,
}

/// Numbers that the buffer declared lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Declared {
    pub(crate) resource: Resource,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// What was read at once.
#[derive(Default, Debug)]
pub(crate) struct Read {
    pub(crate) seen: Vec<Seen>,
    pub(crate) declared: Vec<Declared>,
}

/// What tells an observation from every other: the process that made it, and the number it is expected to get.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Mark {
    pub(crate) maker: u64,
    pub(crate) number: u64,
}

/// What the ledgers say of one resource.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) durable: u64,
    pub(crate) dropped: u64,
    /// The last number, over all starts of the store.
    pub(crate) last: u64,
}

/// The ledgers of a log that is open or being opened.
#[derive(Clone)]
pub(crate) struct Ledgers(Log, Arc<Monitor>);

impl Ledgers {
    pub(crate) fn new(log: Log) -> Self {
        Self(log, Arc::new(Monitor::new(&site(Path::new(""), log, &NO_LIMITS))))
    }

    pub(crate) fn counts(&self) -> [Counts; READINGS.len()] {
        let snapshot = self.1.snapshot();
        let (store, ledgers) = match self.0 {
            Log::Events => (snapshot.event_store, snapshot.event_resources),
            Log::Telemetry => (snapshot.store, snapshot.resources),
        };
        assert_eq!(store.trouble, None, "the disk takes everything");
        let ledger = |resource| ledgers.get(&identifier(resource)).copied().unwrap_or_default();
        [RARE, NARROW, WIDE].map(ledger).map(|ledger| Counts {
            accepted: ledger.accepted,
            durable: ledger.durable,
            dropped: ledger.dropped,
            last: ledger.last_seq,
        })
    }

    /// Returns the bytes that were skipped as damaged.
    pub(crate) fn damaged_bytes(&self) -> u64 {
        let snapshot = self.1.snapshot();
        snapshot.store.damaged_bytes + snapshot.event_store.damaged_bytes
    }
}

/// An open log.
pub(crate) struct Store {
    epoch: u64,
    intake: mpsc::Sender<Offered>,
    lanes: Vec<Lane>,
    /// Keeps the other log open.
    other: (mpsc::Sender<Offered>, Vec<Outlet>),
    writer: JoinHandle<()>,
    runtime: Runtime,
    /// What was read last, and in which lane.
    read: Option<(usize, Span)>,
}

struct Lane {
    outlet: Outlet,
    /// There will be nothing more in it.
    ended: bool,
}

impl Store {
    pub(crate) fn open(data_dir: &Path, limits: &Limits, ledgers: &Ledgers) -> Result<Self, String> {
        let Ledgers(log, monitor) = ledgers;
        let site = Arc::new(site(data_dir, *log, limits));
        let deadline = Instant::now() + PATIENCE;
        let opened = loop {
            match buffer::open(&site, monitor) {
                Ok(opened) => break opened,
                // A child of this process, from its fork to its exec, holds the lock of a store just closed.
                Err(OpenError::Locked { .. }) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(format!("not opened: {error:?}")),
            }
        };
        let (telemetry, events) = (opened.telemetry, opened.events);
        let (observed, raised) = (vec![telemetry.live, telemetry.backfill], vec![events.outlet]);
        let (epoch, intake, outlets, other) = match log {
            Log::Events => (events.epoch, events.intake, raised, (telemetry.intake, observed)),
            Log::Telemetry => (telemetry.epoch, telemetry.intake, observed, (events.intake, raised)),
        };
        let lanes = outlets.into_iter().map(|outlet| Lane { outlet, ended: false }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Ok(Self { epoch, intake, lanes, other, writer: opened.writer, runtime, read: None })
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Hands an observation to the buffer.
    pub(crate) fn append(&self, resource: Resource, mark: Mark) {
        self.intake.blocking_send(observation(resource, mark).into()).expect("the buffer's thread runs");
    }

    /// Waits for a chunk in the first `lanes` lanes; `None` when there will be none, after [`Store::no_more`].
    pub(crate) fn read(&mut self, lanes: usize) -> Option<Read> {
        let lanes = lanes.min(self.lanes.len());
        let (lane, chunk) = loop {
            let next = async { tokio::time::timeout(PATIENCE, next(&mut self.lanes[..lanes])).await };
            match self.runtime.block_on(next).expect("durable in time")? {
                (lane, Some(chunk)) => break (lane, chunk),
                (lane, None) => self.lanes[lane].ended = true,
            }
        };
        self.read = Some((lane, chunk.span));
        let place = |id| [RARE, NARROW, WIDE].into_iter().find(|own| identifier(*own) == id).expect("of the site");
        let seen = chunk.observations.iter().map(|stored| {
            let resource = place(stored.shape.resource);
            let Some(Value::Uint(word)) = stored.readings[0].value else { panic!("{stored:?}") };
            let mark = Mark { maker: word / MAKER, number: word % MAKER };
            let made = observation(resource, mark);
            assert_eq!((made.t, made.clock, &made.readings), (stored.t, stored.clock, &stored.readings));
            Seen { lane, resource, number: stored.seq, mark }
        });
        let declared = chunk.gaps.iter().map(|gap| {
            let resource = place(gap.resource());
            Declared { resource, first: gap.first(), last: gap.last() }
        });
        Some(Read { seen: seen.collect(), declared: declared.collect() })
    }

    /// Acknowledges what was read last.
    pub(crate) fn acknowledge(&mut self) {
        if let Some((lane, span)) = self.read.take() {
            self.lanes[lane].outlet.acknowledge(span);
        }
    }

    /// Says whether everything durable is acknowledged.
    pub(crate) fn is_all_delivered(&self) -> bool {
        self.lanes.iter().all(|lane| lane.outlet.is_all_delivered())
    }

    /// Closes the intakes: what is left is committed, and reading ends behind it.
    pub(crate) fn no_more(&mut self) {
        self.intake = mpsc::channel(1).0;
        self.other.0 = mpsc::channel(1).0;
    }

    /// Closes the store and waits for its thread.
    pub(crate) fn close(mut self) {
        self.no_more();
        drop((self.lanes, self.other));
        self.writer.join().expect("the buffer's thread ends well");
    }
}

/// Waits for the next chunk in any lane that has not ended; `None` in the place of a chunk when that one ends.
async fn next(lanes: &mut [Lane]) -> Option<(usize, Option<Chunk>)> {
    let mut open = lanes.iter_mut().enumerate().filter(|(_, lane)| !lane.ended);
    match (open.next(), open.next()) {
        (Some((first, one)), Some((second, other))) => tokio::select! {
            biased;
            chunk = one.outlet.next() => Some((first, chunk)),
            chunk = other.outlet.next() => Some((second, chunk)),
        },
        (Some((first, one)), None) => Some((first, one.outlet.next().await)),
        _ => None,
    }
}

/// Makers of marks are told apart by this.
const MAKER: u64 = 1_000_000_000;

fn identifier(resource: Resource) -> Cri {
    Cri::from_bits(6_206_029_101_000_001 + resource as u64).expect("an identifier")
}

/// Of a log that stays empty, and of one that is not opened.
const NO_LIMITS: Limits =
    Limits { segment_bytes: 4096, segments: 3, commit_interval: Duration::from_secs(3600), commit_bytes: 4096 };

fn site(data_dir: &Path, log: Log, limits: &Limits) -> Site {
    let property = |n| NamedProperty { name: format!("pressure.{n}"), unit: "kPa".to_owned() };
    let stream = |resource: Resource| Stream {
        resource: identifier(resource),
        domain: "water".to_owned(),
        properties: (0..READINGS[resource]).map(property).collect(),
    };
    let settings = |of: Log| {
        let limits = if of == log { limits } else { &NO_LIMITS };
        BufferSettings {
            max_bytes: u64::from(limits.segment_bytes) * limits.segments,
            segment_bytes: limits.segment_bytes,
            commit_interval: limits.commit_interval,
            commit_bytes: limits.commit_bytes,
            when_full: WhenFull::EvictOldest,
        }
    };
    Site {
        gateway: identifier(100),
        directory: "2026-11".to_owned(),
        data_dir: data_dir.to_owned(),
        buses: Vec::new(),
        devices: Vec::new(),
        streams: [RARE, NARROW, WIDE].map(stream).to_vec(),
        event_streams: [RARE, NARROW, WIDE].map(stream).to_vec(),
        buffer: settings(Log::Telemetry),
        event_buffer: settings(Log::Events),
        broker: BrokerSettings {
            host: "localhost".to_owned(),
            port: 8883,
            alternatives: Vec::new(),
            fail_back: Duration::from_secs(1),
            mqtt: MqttVersion::V5,
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            certificate_check: Duration::from_secs(1),
            client_id: "crash".to_owned(),
            keep_alive: Duration::from_secs(5),
            retry: (Duration::from_secs(1), Duration::from_secs(1)),
            max_payload: 65536,
            backfill_percent: 50,
            backfill_max_per_s: 0,
            user_properties: BTreeMap::new(),
        },
    }
}

/// Makes an observation whose every reading depends on its mark.
fn observation(resource: Resource, mark: Mark) -> Unnumbered {
    let word = mark.maker * MAKER + mark.number;
    let reading = |n: u16| {
        let value = if n == 0 { Value::Uint(word) } else { Value::Uint(word.wrapping_mul(u64::from(n) | 1)) };
        Reading { value: Some(value), quality: Quality::Good }
    };
    let nanos = 1_795_000_000_000_000_000 + i64::try_from(word).expect("small") * 1_000_000;
    Unnumbered {
        stream: StreamId(resource),
        t: Timestamp::from_unix_nanos(nanos),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        readings: (0..READINGS[resource]).map(reading).collect(),
        origin: None,
    }
}

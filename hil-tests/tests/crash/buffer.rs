//! The buffer as these tests use it. No other file here names its types, so that a change of its interface is made once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ganglion::buffer::{self, OpenError, Opened, Position};
use ganglion::monitor::Monitor;
use ganglion::pipeline::Unnumbered;
use ganglion::site::{BrokerSettings, BufferSettings, NamedProperty, Site, Stream, StreamId};
use ganglion_protocols::{Clock, ClockSource, Cri, Quality, Reading, Timestamp, Value};
use tokio::runtime::Runtime;

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

impl Limits {
    /// Returns the most observations that one segment can hold: their readings alone take two bytes each.
    pub(crate) fn most_in_a_segment(&self) -> u64 {
        u64::from(self.segment_bytes) / 16
    }
}

/// An observation as the outlet handed it out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Seen {
    pub(crate) resource: Resource,
    /// Its `seq`.
    pub(crate) number: u64,
    /// What it was made with.
    pub(crate) mark: Mark,
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

/// The ledgers of a store that is open or being opened.
#[derive(Clone)]
pub(crate) struct Ledgers(Arc<Monitor>);

impl Ledgers {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Monitor::new(&site(Path::new(""), None))))
    }

    pub(crate) fn counts(&self) -> [Counts; READINGS.len()] {
        let snapshot = self.0.snapshot();
        assert_eq!(snapshot.store.trouble, None, "the disk takes everything");
        let ledger = |resource| snapshot.resources.get(&identifier(resource)).copied().unwrap_or_default();
        [RARE, NARROW, WIDE].map(ledger).map(|ledger| Counts {
            accepted: ledger.accepted,
            durable: ledger.durable,
            dropped: ledger.dropped,
            last: ledger.last_seq,
        })
    }

    /// Returns the bytes that were skipped as damaged.
    pub(crate) fn damaged_bytes(&self) -> u64 {
        self.0.snapshot().store.damaged_bytes
    }
}

/// An open store.
pub(crate) struct Store {
    opened: Opened,
    runtime: Runtime,
    /// Behind the last chunk read.
    read_to: Option<Position>,
}

impl Store {
    pub(crate) fn open(data_dir: &Path, limits: &Limits, ledgers: &Ledgers) -> Result<Self, String> {
        let site = Arc::new(site(data_dir, Some(limits)));
        let deadline = Instant::now() + PATIENCE;
        let opened = loop {
            match buffer::open(&site, Arc::clone(&ledgers.0)) {
                Ok(opened) => break opened,
                // A child of this process, from its fork to its exec, holds the lock of a store just closed.
                Err(OpenError::Locked { .. }) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(format!("not opened: {error:?}")),
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Ok(Self { opened, runtime, read_to: None })
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.opened.epoch
    }

    /// Hands an observation to the buffer.
    pub(crate) fn append(&self, resource: Resource, mark: Mark) {
        let observation = observation(resource, mark);
        self.opened.intake.blocking_send(observation).expect("the buffer's thread runs");
    }

    /// Waits for a chunk; `None` when there will be none, after [`Store::no_more`].
    pub(crate) fn read(&mut self) -> Option<Vec<Seen>> {
        let next = async { tokio::time::timeout(PATIENCE, self.opened.outlet.next()).await };
        let chunk = self.runtime.block_on(next).expect("durable in time")?;
        self.read_to = Some(chunk.end);
        let seen = chunk.observations.iter().map(|stored| {
            let resource = [RARE, NARROW, WIDE].into_iter().find(|own| identifier(*own) == stored.shape.resource);
            let resource = resource.expect("a resource of the site");
            let Some(Value::Uint(word)) = stored.readings[0].value else { panic!("{stored:?}") };
            let mark = Mark { maker: word / MAKER, number: word % MAKER };
            let made = observation(resource, mark);
            assert_eq!((made.t, made.clock, &made.readings), (stored.t, stored.clock, &stored.readings));
            Seen { resource, number: stored.seq, mark }
        });
        Some(seen.collect())
    }

    /// Acknowledges everything read.
    pub(crate) fn acknowledge(&self) {
        if let Some(read_to) = self.read_to {
            self.opened.outlet.acknowledge(read_to);
        }
    }

    /// Closes the intake: what is left is committed, and reading ends behind it.
    pub(crate) fn no_more(&mut self) {
        self.opened.intake = tokio::sync::mpsc::channel(1).0;
    }

    /// Closes the store and waits for its thread.
    pub(crate) fn close(mut self) {
        self.no_more();
        drop(self.opened.outlet);
        self.opened.writer.join().expect("the buffer's thread ends well");
    }
}

/// Makers of marks are told apart by this.
const MAKER: u64 = 1_000_000_000;

fn identifier(resource: Resource) -> Cri {
    Cri::from_bits(6_206_029_101_000_001 + resource as u64).expect("an identifier")
}

fn site(data_dir: &Path, limits: Option<&Limits>) -> Site {
    let property = |n| NamedProperty { name: format!("pressure.{n}"), unit: "kPa".to_owned() };
    let stream = |resource: Resource| Stream {
        resource: identifier(resource),
        domain: "water".to_owned(),
        properties: (0..READINGS[resource]).map(property).collect(),
    };
    let limits = limits.copied().unwrap_or(Limits {
        segment_bytes: 0,
        segments: 0,
        commit_interval: Duration::ZERO,
        commit_bytes: 0,
    });
    Site {
        gateway: identifier(100),
        directory: "2026-11".to_owned(),
        data_dir: data_dir.to_owned(),
        buses: Vec::new(),
        devices: Vec::new(),
        streams: [RARE, NARROW, WIDE].map(stream).to_vec(),
        buffer: BufferSettings {
            max_bytes: u64::from(limits.segment_bytes) * limits.segments,
            segment_bytes: limits.segment_bytes,
            commit_interval: limits.commit_interval,
            commit_bytes: limits.commit_bytes,
        },
        broker: BrokerSettings {
            host: "localhost".to_owned(),
            port: 8883,
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            client_id: "crash".to_owned(),
            keep_alive: Duration::from_secs(5),
            retry: (Duration::from_secs(1), Duration::from_secs(1)),
            max_payload: 65536,
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
    }
}

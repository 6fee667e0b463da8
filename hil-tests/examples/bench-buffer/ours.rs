//! The buffer, through the library as the daemon uses it: the intake, the thread, the outlets, the real disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion::buffer::{self, Chunk, Opened};
use ganglion::monitor::Monitor;
use ganglion::site::{BrokerSettings, BufferSettings, MqttVersion, Site, WhenFull};
use ganglion_hil::site_file::resource;

use crate::load::Size;
use crate::part::Store;

/// The daemon's default.
const SEGMENT: u32 = 4 << 20;
/// Observations handed over together.
const GROUP: usize = 256;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open buffer.
pub(crate) struct Ours {
    runtime: tokio::runtime::Runtime,
    monitor: Arc<Monitor>,
    size: Size,
    store: Opened,
    appended: u64,
}

/// When a commit is made.
#[derive(Clone, Copy)]
pub(crate) enum Commit {
    /// As the daemon does by default: after 200 ms or 64 KiB.
    Default,
    /// Soon after the first observation of a group, so that a group is one commit.
    Group,
}

impl Ours {
    /// Opens the buffer in a folder.
    pub(crate) fn open(folder: &Path, size: Size, commit: Commit) -> Result<Self, String> {
        let (commit_interval, commit_bytes) = match commit {
            Commit::Default => (Duration::from_millis(200), 64 * 1024),
            Commit::Group => (Duration::from_millis(5), u32::MAX),
        };
        let settings = |max_bytes| BufferSettings {
            max_bytes,
            segment_bytes: SEGMENT,
            commit_interval,
            commit_bytes,
            when_full: WhenFull::EvictOldest,
        };
        let site = Arc::new(Site {
            gateway: resource(620_602, 9101, 1).parse().expect("the identifier has its check digits"),
            directory: "2026-11".to_owned(),
            data_dir: folder.to_owned(),
            buses: Vec::new(),
            devices: Vec::new(),
            streams: size.streams(),
            event_streams: Vec::new(),
            buffer: settings(1 << 40),
            event_buffer: settings(64 << 20),
            broker: nobody(),
        });
        let monitor = Arc::new(Monitor::new(&site));
        let store = buffer::open(&site, &monitor).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Ok(Self { runtime: runtime.map_err(|error| error.to_string())?, monitor, size, store, appended: 0 })
    }

    fn hand_over(&mut self, count: u64) {
        let (size, intake, from) = (self.size, &self.store.telemetry.intake, self.appended);
        self.runtime.block_on(async {
            let mut numbers = from..from + count;
            while !numbers.is_empty() {
                let group = usize::try_from(numbers.end - numbers.start).unwrap_or(GROUP).min(GROUP);
                let Ok(permits) = intake.reserve_many(group).await else { return };
                for (permit, number) in permits.zip(numbers.by_ref()) {
                    permit.send(size.observation(number).into());
                }
            }
        });
        self.appended += count;
    }

    /// Returns the next chunk of whichever lane has one.
    fn next(&mut self) -> Result<Chunk, String> {
        let telemetry = &mut self.store.telemetry;
        let chunk = self.runtime.block_on(async {
            tokio::select! {
                biased;
                chunk = telemetry.live.next() => chunk.ok_or("the buffer ended"),
                chunk = telemetry.backfill.next() => chunk.ok_or("the buffer ended"),
                () = tokio::time::sleep(PATIENCE) => Err("the buffer hands out nothing more"),
            }
        });
        chunk.map_err(str::to_owned)
    }

    fn durable(&self) -> u64 {
        self.monitor.snapshot().resources.values().map(|ledger| ledger.durable).sum()
    }
}

impl Store for Ours {
    fn append(&mut self, count: u64) -> Result<(), String> {
        self.hand_over(count);
        let deadline = Instant::now() + PATIENCE;
        while self.durable() < self.appended {
            if Instant::now() > deadline {
                return Err(format!("{} of {} are durable after a minute", self.durable(), self.appended));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn pass_through(&mut self, count: u64) -> Result<(), String> {
        // What comes out of the outlet is durable.
        self.hand_over(count);
        self.drain(count)
    }

    fn drain(&mut self, count: u64) -> Result<(), String> {
        let mut left = count;
        while left > 0 {
            let chunk = self.next()?;
            left = left.saturating_sub(chunk.observations.len() as u64);
            self.store.telemetry.live.acknowledge(chunk.span);
        }
        Ok(())
    }

    fn first(&mut self) -> Result<(), String> {
        self.next().map(drop)
    }

    fn close(self: Box<Self>) -> Result<(), String> {
        let Opened { telemetry, events, writer } = self.store;
        drop((telemetry, events));
        writer.join().map_err(|_| "the buffer's thread panicked".to_owned())
    }
}

/// The settings of a broker that is never called.
fn nobody() -> BrokerSettings {
    BrokerSettings {
        host: String::new(),
        port: 0,
        alternatives: Vec::new(),
        fail_back: Duration::MAX,
        mqtt: MqttVersion::V5,
        ca: "".into(),
        certificate: "".into(),
        key: "".into(),
        certificate_check: Duration::MAX,
        client_id: String::new(),
        keep_alive: Duration::from_secs(5),
        retry: (Duration::MAX, Duration::MAX),
        max_payload: 0,
        backfill_percent: 50,
        backfill_max_per_s: 0,
        user_properties: BTreeMap::new(),
    }
}

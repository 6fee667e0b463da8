//! Tests of the buffer as a whole.

mod ahead;
mod cases;
mod disk;
mod evicted;
mod examine;
mod golden;
mod model;
mod sim_disk;
mod sources;
mod window;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_protocols::{Clock, ClockSource, Cri, Quality, Reading, Reason, Timestamp, Value};

use super::log::Log;
use super::shared::Lane;
use super::{Kind, OpenError, Outlet, Shelf, open_on};
use crate::monitor::Monitor;
use crate::pipeline::Unnumbered;
use crate::site::{BrokerSettings, BufferSettings, MqttVersion, NamedProperty, Site, Stream, StreamId, WhenFull};
use sim_disk::SimDisk;

pub(super) const SEGMENT: u32 = 4 * 1024;

pub(super) fn resource(serial: u32) -> Cri {
    Cri::from_bits(6_206_029_101_000_000 + u64::from(serial)).unwrap()
}

/// A site of four streams over three resources, so that two streams share one numbering.
pub(super) fn site(data_dir: &Path, segments: u64) -> Site {
    let stream = |serial: u32, properties: usize| Stream {
        resource: resource(serial),
        domain: "water".to_owned(),
        properties: (0..properties)
            .map(|n| NamedProperty { name: format!("pressure.{n}"), unit: "kPa".to_owned() })
            .collect(),
    };
    Site {
        gateway: resource(0),
        directory: "2026-11".to_owned(),
        data_dir: data_dir.to_owned(),
        buses: Vec::new(),
        devices: Vec::new(),
        streams: vec![stream(1, 2), stream(2, 2), stream(3, 10), stream(1, 3)],
        event_streams: vec![stream(1, 2)],
        buffer: settings(segments, Duration::from_millis(20)),
        event_buffer: settings(4, Duration::ZERO),
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
            client_id: "test".to_owned(),
            keep_alive: Duration::from_secs(5),
            retry: (Duration::from_secs(1), Duration::from_secs(1)),
            max_payload: 65536,
            backfill_percent: 50,
            backfill_max_per_s: 0,
            user_properties: BTreeMap::new(),
        },
    }
}

fn settings(segments: u64, commit_interval: Duration) -> BufferSettings {
    BufferSettings {
        max_bytes: u64::from(SEGMENT) * segments,
        segment_bytes: SEGMENT,
        commit_interval,
        commit_bytes: 2048,
        when_full: WhenFull::EvictOldest,
    }
}

/// Opens the telemetry of a site on a simulated disk.
fn open_log(
    disk: &SimDisk,
    site: &Site,
    monitor: &Arc<Monitor>,
    seed: u64,
    now: Instant,
) -> Result<(Log, Shelf), OpenError> {
    let opened = (Timestamp::from_unix_nanos(OPENED), now);
    open_on(disk.clone(), Kind::telemetry(site), monitor, fastrand::Rng::with_seed(seed), opened)
}

/// Opens it with one outlet for all of it.
fn open_whole(disk: &SimDisk, site: &Site, monitor: &Arc<Monitor>, seed: u64) -> Result<(Log, Outlet), OpenError> {
    open_log(disk, site, monitor, seed, Instant::now()).map(|(log, shelf)| (log, shelf.outlet(Lane::Whole)))
}

/// When the log is opened, of the day that observations are made on.
const OPENED: i64 = 1_795_000_000_000_000_000;

/// An observation that can be told from every other by its first reading.
pub(super) fn observation(site: &Site, stream: usize, mark: u64) -> Unnumbered {
    let others = site.streams[stream].properties.len() - 1;
    let other = |n: usize| match n % 3 {
        0 => Reading { value: Some(Value::Single(221.4)), quality: Quality::Good },
        1 => Reading { value: None, quality: Quality::Bad(Reason::Timeout) },
        _ => Reading { value: Some(Value::Int(-40)), quality: Quality::Uncertain(Reason::OutOfRange) },
    };
    let mut readings = vec![Reading { value: Some(Value::Uint(mark)), quality: Quality::Good }];
    readings.extend((0..others).map(other));
    Unnumbered {
        stream: StreamId(stream),
        t: Timestamp::from_unix_nanos(1_795_000_000_000_000_000 + i64::try_from(mark).unwrap() * 1_000_000),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        readings,
        origin: None,
    }
}

//! The buffer on disk between a plant that is made up and deliver: both logs, all three lanes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ganglion::buffer::{self, OpenError, Outlet};
use ganglion::deliver::{self, Epochs, Sources};
use ganglion::monitor::{Monitor, Snapshot};
use ganglion::pipeline::{Offered, Unnumbered};
use ganglion::site::{BrokerSettings, BufferSettings, NamedProperty, Site, Stream, StreamId, WhenFull};
use ganglion_protocols::{Clock, ClockSource, Cri, Quality, Reading, Timestamp, Value};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::arrived::{Arrived, Series};
use crate::bench::{GATEWAY, PATIENCE, id};

/// A resource of these tests, from 1.
pub(crate) fn resource(serial: u64) -> Cri {
    Cri::from_bits(6_206_029_601_000_000 + serial).unwrap()
}

/// A stream of observations with so many numbers and a state.
pub(crate) fn stream(serial: u64, numbers: usize) -> Stream {
    let number = |n| NamedProperty { name: format!("pressure.{}", n + 1), unit: "MPa".to_owned() };
    let state = NamedProperty { name: "cover_open".to_owned(), unit: "1".to_owned() };
    let properties = (0..numbers).map(number).chain([state]).collect();
    Stream { resource: resource(serial), domain: "water".to_owned(), properties }
}

/// A log of so many segments of this size.
pub(crate) fn buffer_of(segments: u64, segment_bytes: u32) -> BufferSettings {
    BufferSettings {
        max_bytes: segments * u64::from(segment_bytes),
        segment_bytes,
        commit_interval: Duration::from_millis(20),
        commit_bytes: 65_536,
        when_full: WhenFull::EvictOldest,
    }
}

/// What is observed and how much of it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) streams: Vec<Stream>,
    pub(crate) event_streams: Vec<Stream>,
    pub(crate) buffer: BufferSettings,
    pub(crate) event_buffer: BufferSettings,
}

/// The store and deliver behind it.
pub(crate) struct Station {
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) epochs: Epochs,
    site: Arc<Site>,
    intakes: Option<[mpsc::Sender<Offered>; 2]>,
    sources: Option<Sources<Outlet>>,
    writer: std::thread::JoinHandle<()>,
    deliver: Option<JoinHandle<()>>,
    /// The number each series will have got last.
    pub(crate) pushed: BTreeMap<Series, u64>,
}

impl Station {
    /// Opens the store in a data directory; deliver does not run yet.
    pub(crate) fn open(data_dir: &Path, plan: &Plan, broker: &BrokerSettings) -> Self {
        let site = Arc::new(Site {
            gateway: id(GATEWAY),
            directory: "2026-11".to_owned(),
            data_dir: data_dir.to_owned(),
            buses: Vec::new(),
            devices: Vec::new(),
            streams: plan.streams.clone(),
            event_streams: plan.event_streams.clone(),
            buffer: plan.buffer.clone(),
            event_buffer: plan.event_buffer.clone(),
            broker: broker.clone(),
        });
        let monitor = Arc::new(Monitor::new(&site));
        let deadline = Instant::now() + PATIENCE;
        let opened = loop {
            match buffer::open(&site, &monitor) {
                // A child of this process, from its fork to its exec, holds the lock of a store just closed.
                Err(OpenError::Locked { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => break opened.unwrap(),
            }
        };
        let (telemetry, events) = (opened.telemetry, opened.events);
        let epochs = Epochs { telemetry: telemetry.epoch, events: events.epoch };
        let sources =
            Sources { event: Some(events.outlet), live: telemetry.live, backfill: Some(telemetry.backfill), epochs };
        let intakes = Some([telemetry.intake, events.intake]);
        let snapshot = monitor.snapshot();
        let of = |epoch: u64, ledgers: &BTreeMap<Cri, ganglion::monitor::Ledger>| -> Vec<(Series, u64)> {
            ledgers.iter().map(|(id, ledger)| (series(epoch, *id), ledger.last_seq)).collect()
        };
        let pushed = of(epochs.telemetry, &snapshot.resources)
            .into_iter()
            .chain(of(epochs.events, &snapshot.event_resources))
            .collect();
        Self { monitor, epochs, site, intakes, sources: Some(sources), writer: opened.writer, deliver: None, pushed }
    }

    /// Starts deliver with these settings.
    pub(crate) fn start_deliver(&mut self, settings: &BrokerSettings) {
        let (sources, monitor) = (self.sources.take().unwrap(), Arc::clone(&self.monitor));
        let (letters, settings) = (Some(self.site.data_dir.clone()), Arc::new(settings.clone()));
        self.deliver = Some(tokio::spawn(async move {
            // Its other end must live: settings that can never change end nothing.
            let (_reload, settings) = watch::channel(settings);
            deliver::run(settings, id(GATEWAY), sources, letters, monitor).await;
        }));
    }

    /// Hands an observation of a stream to the buffer.
    pub(crate) async fn observe(&mut self, stream: usize, value: f64) {
        let Stream { resource, properties, .. } = &self.site.streams[stream];
        let number = |n: usize| Value::Double(value + n as f64 / 1_000.0);
        let readings = (0..properties.len() - 1).map(number).chain([Value::Bool(value > 1.0)]);
        let observation = unnumbered(stream, readings);
        *self.pushed.entry(series(self.epochs.telemetry, *resource)).or_default() += 1;
        self.intakes.as_ref().unwrap()[0].send(observation.into()).await.unwrap();
    }

    /// Hands an event of an event stream to the buffer.
    pub(crate) async fn raise(&mut self, stream: usize, is: bool) {
        let Stream { resource, properties, .. } = &self.site.event_streams[stream];
        let readings = (1..properties.len()).map(|_| Value::Double(1.25)).chain([Value::Bool(is)]);
        let event = unnumbered(stream, readings);
        *self.pushed.entry(series(self.epochs.events, *resource)).or_default() += 1;
        self.intakes.as_ref().unwrap()[1].send(event.into()).await.unwrap();
    }

    pub(crate) fn telemetry(&self, serial: u64) -> Series {
        series(self.epochs.telemetry, resource(serial))
    }

    pub(crate) fn events(&self, serial: u64) -> Series {
        series(self.epochs.events, resource(serial))
    }

    /// How much was pushed, over all starts.
    pub(crate) fn total(&self) -> u64 {
        self.pushed.values().sum()
    }

    /// What is neither taken nor declared lost.
    pub(crate) fn missing(&self, arrived: &Arrived) -> Vec<(Series, Vec<u64>)> {
        let missing = self.pushed.iter().map(|(series, last)| (series.clone(), arrived.missing(series, *last)));
        missing.filter(|(_, numbers)| !numbers.is_empty()).collect()
    }

    /// Ends the plant, waits until deliver returns, and closes the store.
    pub(crate) async fn finish(mut self) -> Snapshot {
        self.intakes = None;
        if let Some(deliver) = self.deliver.take() {
            let ended = tokio::time::timeout(PATIENCE, deliver).await;
            ended.unwrap_or_else(|_| panic!("deliver returns: {:?}", self.monitor.snapshot().uplink)).unwrap();
        }
        drop(self.sources);
        tokio::task::spawn_blocking(|| self.writer.join()).await.unwrap().unwrap();
        self.monitor.snapshot()
    }
}

fn series(epoch: u64, id: Cri) -> Series {
    (format!("{epoch:016x}"), id.to_string())
}

fn unnumbered(stream: usize, readings: impl Iterator<Item = Value>) -> Unnumbered {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Unnumbered {
        stream: StreamId(stream),
        t: Timestamp::from_unix_nanos(i64::try_from(now.as_nanos()).unwrap()),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        readings: readings.map(|value| Reading { value: Some(value), quality: Quality::Good }).collect(),
        origin: None,
    }
}

//! The gateway under test: buffer and delivery of the library as the daemon runs them, and a plant that feeds them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ganglion::buffer;
use ganglion::deliver::{self, Epochs, Sources};
use ganglion::monitor::Monitor;
use ganglion::pipeline::{Offered, Unnumbered};
use ganglion::site::{BrokerSettings, BufferSettings, MqttVersion, NamedProperty, Site, Stream, StreamId, WhenFull};
use ganglion_hil::site_file::resource;
use ganglion_protocols::{Clock, ClockSource, Quality, Reading, Timestamp, Value};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;

use crate::plant::{A_SECOND, Nth, RESOURCES, Replay, STEP};

/// Live observations that are handed over together.
const TOGETHER: u64 = 10;
/// Replayed observations that are handed over together.
const GROUP: usize = 256;

/// A file of this name in the folder makes the outage be replayed.
pub(crate) const REPLAY: &str = "replay";
/// A file of this name in the folder ends the plant; then everything is delivered.
pub(crate) const END: &str = "end";

/// Runs until told to end; prints a line when something has happened.
pub(crate) fn run(folder: &Path, port: u16, hours: f64) -> Result<(), String> {
    let site = Arc::new(site(folder, port));
    let monitor = Arc::new(Monitor::new(&site));
    let store = buffer::open(&site, &monitor).map_err(|error| error.to_string())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let intake = store.telemetry.intake;
    let (of_plant, folder) = (Arc::clone(&monitor), folder.to_owned());
    let plant = thread::spawn(move || feed(&intake, &of_plant, &folder, hours));
    let sources = Sources {
        event: Some(store.events.outlet),
        live: store.telemetry.live,
        backfill: Some(store.telemetry.backfill),
        epochs: Epochs { telemetry: store.telemetry.epoch, events: store.events.epoch },
    };
    drop(store.events.intake);
    let (_same, broker) = watch::channel(Arc::new(site.broker.clone()));
    let (gateway, of_deliver) = (site.gateway, Arc::clone(&monitor));
    runtime.block_on(async move { deliver::run(broker, gateway, sources, None, of_deliver).await });
    let all = plant.join().map_err(|_| "the plant panicked")??;
    store.writer.join().map_err(|_| "the buffer's thread panicked")?;
    println!("ended {all} {}", sum(&monitor, |ledger| ledger.delivered));
    Ok(())
}

fn sum(monitor: &Monitor, of: impl Fn(&ganglion::monitor::Ledger) -> u64) -> u64 {
    monitor.snapshot().resources.values().map(of).sum()
}

/// Feeds the buffer until told to end; returns how many observations there were.
fn feed(intake: &Sender<Offered>, monitor: &Monitor, folder: &Path, hours: f64) -> Result<u64, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let ended = || "the buffer ended".to_owned();
    let mut next = 0;
    let mut replayed = false;
    let mut due = Instant::now();
    loop {
        if folder.join(END).exists() {
            return Ok(next);
        }
        if !replayed && folder.join(REPLAY).exists() {
            replayed = true;
            let count = whole(hours * 3600.0) * A_SECOND;
            let span = i64::try_from(count * 1000 / A_SECOND).map_err(|error| error.to_string())?;
            let replay = Replay { first: next, end: next + count, from_ms: now_ms() - span };
            println!("replaying {} {} {}", replay.first, replay.end, replay.from_ms);
            let began = Instant::now();
            let mut numbers = replay.first..replay.end;
            while !numbers.is_empty() {
                let group = usize::try_from(numbers.end - numbers.start).unwrap_or(GROUP).min(GROUP);
                let permits = runtime.block_on(intake.reserve_many(group)).map_err(|_| ended())?;
                for (permit, number) in permits.zip(numbers.by_ref()) {
                    let nth = Nth(number);
                    permit.send(observation(nth, replay.time_of(nth).unwrap_or(0)).into());
                }
            }
            next = replay.end;
            while sum(monitor, |ledger| ledger.durable) < next {
                thread::sleep(Duration::from_millis(5));
            }
            println!("replayed {}", began.elapsed().as_secs_f64());
            due = Instant::now();
        }
        let permits = runtime.block_on(intake.reserve_many(usize::try_from(TOGETHER).unwrap_or(1)));
        let t = now_ms();
        for (permit, number) in permits.map_err(|_| ended())?.zip(next..) {
            permit.send(observation(Nth(number), t).into());
        }
        next += TOGETHER;
        due += STEP * u32::try_from(TOGETHER).unwrap_or(1);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

fn now_ms() -> i64 {
    ganglion::clock::now().unix_nanos() / 1_000_000
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of some hours")]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

fn observation(nth: Nth, t_ms: i64) -> Unnumbered {
    let good = |value| Reading { value: Some(value), quality: Quality::Good };
    let mut readings = vec![good(Value::Double(f64::from(nth.pressure()) / 100.0))];
    if nth.has_counter() {
        readings.push(good(Value::Uint(nth.seq())));
    }
    Unnumbered {
        stream: StreamId(usize::try_from(nth.resource()).unwrap_or(usize::MAX)),
        t: Timestamp::from_unix_nanos(t_ms * 1_000_000),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        readings,
        origin: None,
    }
}

fn site(folder: &Path, port: u16) -> Site {
    let property = |name: &str, unit: &str| NamedProperty { name: name.to_owned(), unit: unit.to_owned() };
    let lists: [Arc<[NamedProperty]>; 2] =
        [[property("pressure", "MPa")].into(), [property("pressure", "MPa"), property("vehicle_count", "1")].into()];
    let stream = |place: u64| Stream {
        resource: identifier(9601, u32::try_from(place + 1).unwrap_or(u32::MAX)),
        domain: "water".to_owned(),
        properties: Arc::clone(&lists[usize::from(Nth(place).has_counter())]),
    };
    let settings = |max_bytes, commit_interval, when_full| BufferSettings {
        max_bytes,
        segment_bytes: 4 << 20,
        commit_interval,
        commit_bytes: 64 * 1024,
        when_full,
    };
    Site {
        gateway: identifier(9101, 1),
        directory: "2026-11".to_owned(),
        data_dir: folder.join("data"),
        buses: Vec::new(),
        devices: Vec::new(),
        streams: (0..RESOURCES).map(stream).collect(),
        event_streams: Vec::new(),
        buffer: settings(1 << 40, Duration::from_millis(200), WhenFull::EvictOldest),
        event_buffer: settings(64 << 20, Duration::ZERO, WhenFull::RefuseNewest),
        broker: BrokerSettings {
            host: "localhost".to_owned(),
            port,
            alternatives: Vec::new(),
            fail_back: Duration::from_secs(60),
            mqtt: MqttVersion::V5,
            ca: folder.join("ca.pem"),
            certificate: folder.join("gateway.pem"),
            key: folder.join("gateway.key"),
            certificate_check: Duration::from_secs(60),
            client_id: "gateway".to_owned(),
            keep_alive: Duration::from_secs(30),
            retry: (Duration::from_secs(1), Duration::from_secs(2)),
            // The site file's defaults.
            max_payload: 65_536,
            backfill_percent: 50,
            backfill_max_per_s: 0,
            user_properties: BTreeMap::new(),
        },
    }
}

fn identifier(class: u16, serial: u32) -> ganglion_protocols::Cri {
    resource(620_602, class, serial).parse().expect("the identifier has its check digits")
}

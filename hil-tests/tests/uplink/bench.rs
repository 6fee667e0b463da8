//! A broker, a subscriber and deliver between a log in memory and the wire.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ganglion::buffer::{Stored, StoredShape};
use ganglion::deliver::{self, Content, Epochs, Source, Sources};
use ganglion::monitor::{Ledger, Monitor, Snapshot};
use ganglion::site::{BrokerSettings, BufferSettings, MqttVersion, NamedProperty, Site, WhenFull};
use ganglion_hil::peers::mosquitto::{Mosquitto, Subscriber};
use ganglion_hil::peers::require;
use ganglion_hil::pki::{Pair, Pki};
use ganglion_protocols::{Clock, ClockSource, Cri, Gap, Quality, Reading, Timestamp, Value};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

pub(crate) const GATEWAY: &str = "620602-9101-000001-23";
pub(crate) const PUMP: &str = "620602-9601-000007-51";
pub(crate) const VALVE: &str = "330502-0103-000123-33";
/// Longer than any retry, connect timeout or watchdog of deliver.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Everything around deliver.
pub(crate) struct Bench {
    folder: TempDir,
    pub(crate) pki: Pki,
    pub(crate) broker: Mosquitto,
    pub(crate) log: Log,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) settings: BrokerSettings,
    deliver: Option<JoinHandle<()>>,
    reload: Option<watch::Sender<Arc<BrokerSettings>>>,
}

impl Bench {
    /// A broker that runs; deliver does not yet. `None` when the broker is not installed.
    pub(crate) fn new() -> Option<Self> {
        Self::with_options(&[])
    }

    /// The same, and deliver will speak this version.
    pub(crate) fn speaking(version: MqttVersion) -> Option<Self> {
        let mut bench = Self::new()?;
        bench.settings.mqtt = version;
        Some(bench)
    }

    pub(crate) fn with_options(options: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::create(folder.path()).unwrap();
        let broker = require(Mosquitto::start(folder.path(), &pki.ca, &pki.broker, options))?;
        let file = |name: &str| folder.path().join(format!("own-{name}"));
        let settings = BrokerSettings {
            host: "localhost".to_owned(),
            port: broker.port(),
            alternatives: Vec::new(),
            fail_back: Duration::from_secs(1),
            mqtt: MqttVersion::V5,
            ca: file("ca.pem"),
            certificate: file("gateway.pem"),
            key: file("gateway.key"),
            certificate_check: Duration::from_secs(1),
            client_id: "gateway".to_owned(),
            keep_alive: Duration::from_secs(5),
            retry: (Duration::from_millis(50), Duration::from_millis(200)),
            max_payload: 2_000,
            backfill_percent: 50,
            backfill_max_per_s: 0,
            user_properties: BTreeMap::from([("tenant".to_owned(), "water works".to_owned())]),
        };
        let monitor = Arc::new(Monitor::new(&empty_site(&settings)));
        let bench = Self { folder, pki, broker, log: Log::default(), monitor, settings, deliver: None, reload: None };
        bench.give_gateway(&bench.pki.ca, &bench.pki.gateway);
        Some(bench)
    }

    /// Puts other files in the place of the gateway's.
    pub(crate) fn give_gateway(&self, ca: &Path, pair: &Pair) {
        fs::copy(ca, &self.settings.ca).unwrap();
        fs::copy(&pair.certificate, &self.settings.certificate).unwrap();
        fs::copy(&pair.key, &self.settings.key).unwrap();
    }

    /// Another authority with its own certificates.
    pub(crate) fn stranger(&self) -> Pki {
        let folder = self.folder.path().join("stranger");
        fs::create_dir_all(&folder).unwrap();
        Pki::create(&folder).unwrap()
    }

    /// A place in the bench's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn subscribe(&self, id: &str) -> Subscriber {
        self.subscribe_to(&self.broker, id)
    }

    /// Another broker with the same certificates.
    pub(crate) fn another_broker(&self, name: &str) -> Mosquitto {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        Mosquitto::start(&folder, &self.pki.ca, &self.pki.broker, &[]).unwrap()
    }

    pub(crate) fn subscribe_to(&self, broker: &Mosquitto, id: &str) -> Subscriber {
        Subscriber::start(broker, id, "city/v1/#", &self.pki.ca, &self.pki.subscriber).unwrap()
    }

    pub(crate) fn start_deliver(&mut self) {
        let (log, monitor) = (self.log.clone(), Arc::clone(&self.monitor));
        let (reload, settings) = watch::channel(Arc::new(self.settings.clone()));
        self.reload = Some(reload);
        self.deliver = Some(tokio::spawn(async move {
            let epochs = Epochs { telemetry: 7, events: 8 };
            let sources = Sources { event: None, live: log, backfill: None, epochs };
            deliver::run(settings, id(GATEWAY), sources, None, monitor).await;
        }));
    }

    /// Gives the running deliver the present settings.
    pub(crate) fn reload(&self) {
        self.reload.as_ref().unwrap().send_replace(Arc::new(self.settings.clone()));
    }

    /// Ends the log and waits until deliver returns.
    pub(crate) async fn finish(&mut self) {
        self.log.end();
        let task = self.deliver.take().unwrap();
        let ended = tokio::time::timeout(PATIENCE, task).await;
        ended.unwrap_or_else(|_| panic!("deliver returns: {:?} {}", self.seen(), self.broker.log())).unwrap();
    }

    pub(crate) fn seen(&self) -> Snapshot {
        self.monitor.snapshot()
    }

    pub(crate) fn ledger(&self, resource: &str) -> Ledger {
        self.seen().resources.get(&id(resource)).copied().unwrap_or_default()
    }

    pub(crate) async fn expect_cause(&self, cause: &str) {
        let seen = || self.seen().uplink.last_error.unwrap_or_default();
        within(|| seen().contains(cause), || format!("{cause:?} is told, last was {:?}", seen())).await;
        assert!(!self.seen().uplink.connected);
    }

    pub(crate) async fn expect_delivered(&self, resource: &str, count: u64) {
        within(
            || self.ledger(resource).delivered == count,
            || format!("{count} of {resource} delivered: {:?}, {:?}", self.ledger(resource), self.seen().uplink),
        )
        .await;
    }
}

/// Waits until a condition holds.
pub(crate) async fn within(condition: impl Fn() -> bool, what: impl Fn() -> String) {
    within_of(PATIENCE, condition, what).await;
}

/// Waits until a condition holds, with another patience.
pub(crate) async fn within_of(patience: Duration, condition: impl Fn() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + patience;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {}", what());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `seq` of every observation of a resource that the subscriber got, in the order of arrival.
pub(crate) fn arrivals(subscriber: &Subscriber, resource: &str) -> Vec<u64> {
    let mut out = Vec::new();
    for message in subscriber.received().unwrap() {
        let payload: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
        for observation in payload["obs"].as_array().into_iter().flatten() {
            if observation["id"] == resource {
                out.push(observation["seq"].as_u64().unwrap());
            }
        }
    }
    out
}

/// The same without what arrived again.
pub(crate) fn first_arrivals(subscriber: &Subscriber, resource: &str) -> Vec<u64> {
    first(arrivals(subscriber, resource))
}

/// Leaves out what came before.
pub(crate) fn first(arrivals: Vec<u64>) -> Vec<u64> {
    let mut seen = HashSet::new();
    arrivals.into_iter().filter(|&seq| seen.insert(seq)).collect()
}

pub(crate) fn id(text: &str) -> Cri {
    text.parse().unwrap()
}

pub(crate) fn observation(resource: &str, seq: u64) -> Stored {
    let property = |name: &str, unit: &str| NamedProperty { name: name.to_owned(), unit: unit.to_owned() };
    let shape = StoredShape {
        resource: id(resource),
        domain: "water".to_owned(),
        directory: "2026-11".to_owned(),
        properties: [property("pressure", "MPa"), property("cover_open", "1")].into(),
    };
    Stored {
        shape: Arc::new(shape),
        seq,
        t: Timestamp::from_unix_nanos(1_795_330_435_123_000_000),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        readings: vec![
            Reading { value: Some(Value::Double(0.412)), quality: Quality::Good },
            Reading { value: Some(Value::Bool(true)), quality: Quality::Good },
        ],
    }
}

/// An observation of at least so many bytes.
pub(crate) fn observation_of(resource: &str, seq: u64, bytes: usize) -> Stored {
    let mut large = observation(resource, seq);
    let mut shape = (*large.shape).clone();
    let mut properties = shape.properties.to_vec();
    properties[0].name = "p".repeat(bytes);
    shape.properties = properties.into();
    large.shape = shape.into();
    large
}

/// A log in memory; its mark counts chunks.
#[derive(Clone, Default)]
pub(crate) struct Log {
    state: Arc<Mutex<LogState>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct LogState {
    chunks: Vec<Vec<Stored>>,
    next: usize,
    acknowledged: usize,
    ended: bool,
    lost: Vec<Gap>,
}

impl Log {
    pub(crate) fn push(&self, chunk: Vec<Stored>) {
        self.state.lock().unwrap().chunks.push(chunk);
        self.changed.notify_one();
    }

    /// Pushes one chunk for each number, with one observation of the pump in it.
    pub(crate) fn push_pump(&self, seqs: impl Iterator<Item = u64>) {
        for seq in seqs {
            self.push(vec![observation(PUMP, seq)]);
        }
    }

    pub(crate) fn end(&self) {
        self.state.lock().unwrap().ended = true;
        self.changed.notify_one();
    }

    /// Chunks read and not acknowledged.
    pub(crate) fn outstanding(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.next - state.acknowledged
    }

    pub(crate) fn pushed(&self) -> usize {
        self.state.lock().unwrap().chunks.len()
    }

    /// Losses declared by deliver.
    pub(crate) fn lost(&self) -> Vec<Gap> {
        self.state.lock().unwrap().lost.clone()
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.state.lock().unwrap().acknowledged
    }

    fn read(&self) -> Option<Option<(usize, Vec<Stored>)>> {
        let mut state = self.state.lock().unwrap();
        match state.chunks.get(state.next).cloned() {
            Some(chunk) => {
                state.next += 1;
                Some(Some((state.next, chunk)))
            }
            None if state.ended => Some(None),
            None => None,
        }
    }
}

impl Source for Log {
    type Mark = usize;

    async fn next(&mut self) -> Option<(usize, Content)> {
        loop {
            if let Some(chunk) = self.read() {
                return chunk.map(|(mark, observations)| (mark, (observations, Vec::new())));
            }
            self.changed.notified().await;
        }
    }

    fn acknowledge(&self, up_to: usize) {
        let mut state = self.state.lock().unwrap();
        assert!(up_to > state.acknowledged && up_to <= state.next, "{up_to} after {}", state.acknowledged);
        state.acknowledged = up_to;
    }

    fn declare_lost(&self, gaps: Vec<Gap>) {
        self.state.lock().unwrap().lost.extend(gaps);
    }

    fn rewind(&mut self) {
        let mut state = self.state.lock().unwrap();
        state.next = state.acknowledged;
    }
}

fn empty_site(broker: &BrokerSettings) -> Site {
    Site {
        gateway: id(GATEWAY),
        directory: "2026-11".to_owned(),
        data_dir: PathBuf::new(),
        buses: Vec::new(),
        devices: Vec::new(),
        streams: Vec::new(),
        event_streams: Vec::new(),
        buffer: NO_BUFFER,
        event_buffer: NO_BUFFER,
        broker: broker.clone(),
    }
}

const NO_BUFFER: BufferSettings = BufferSettings {
    max_bytes: 0,
    segment_bytes: 0,
    commit_interval: Duration::from_millis(200),
    commit_bytes: 0,
    when_full: WhenFull::EvictOldest,
};

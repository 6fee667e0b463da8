//! The bench of these tests: broker, subscriber and lines of units whose registers name themselves, around the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ganglion_hil::broker::Broker;
use ganglion_hil::peers::process::Process;
use ganglion_hil::peers::{daemon, require};
use ganglion_hil::pki::Pki;
use ganglion_hil::received::{Keep, Observation, Resource};
use ganglion_hil::site::{Line, LineSettings, Model, Parity, Tick, Unit, named_age};
use ganglion_hil::site_file::{BusEntry, DeviceEntry, LinkEntry, SiteFile, named_address, named_template, resource};
use ganglion_hil::subscriber::{Subscriber, Subscription};
use tempfile::TempDir;

/// What every unit is.
pub(crate) const MODEL: Model = Model::Named { registers: 100 };

/// Longest wait for what should come at once; generous, for the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Most ticks that a value may be older than its observation: the requests of one poll, each with its retries.
const OLDEST: u16 = 60;

/// How long the daemon waits for an answer, in milliseconds.
pub(crate) const RESPONSE_TIMEOUT_MS: u32 = 500;

/// For how long an answer may come late, in milliseconds.
pub(crate) const LATE_REPLY_MS: u32 = 1000;

/// Everything but the daemon.
pub(crate) struct Rig {
    pub(crate) subscriber: Subscriber,
    pub(crate) file: SiteFile,
    // The subscriber and the daemon talk to it as long as they live.
    _broker: Broker,
    folder: TempDir,
}

/// A unit's observations.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Stream {
    pub(crate) id: String,
    pub(crate) unit: u8,
}

impl Rig {
    /// Every unit is asked for these registers.
    pub(crate) fn new(addresses: impl IntoIterator<Item = u16>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let pki = Pki::create(folder.path()).expect("certificates");
        let broker = Broker::start(&pki.ca, &pki.broker).expect("a broker");
        let subscription = Subscription {
            port: broker.port(),
            ca: &pki.ca,
            own: &pki.subscriber,
            client_id: "city",
            filter: "city/v1/#",
        };
        let received = ganglion_hil::received::Received::new(Keep::All);
        let subscriber = Subscriber::start(&subscription, received).expect("a subscriber");
        assert!(subscriber.wait_until_subscribed(SOON), "{:?}", subscriber.look(|view| view.last_error.clone()));
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut file = SiteFile::new(&configs, &folder.path().join("data"), broker.port(), &pki);
        file.templates = folder.path().join("templates");
        fs::create_dir(&file.templates).expect("a folder");
        let template = named_template(MODEL, addresses, &[]);
        fs::write(file.templates.join(format!("{MODEL}.toml")), template).expect("the template");
        Self { subscriber, file, _broker: broker, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns settings of a line at `<name>` in the rig's folder, 8N1.
    pub(crate) fn settings(&self, name: &str, baud: u32) -> LineSettings {
        LineSettings::new(&self.folder().join(name), baud, Parity::None, 1)
    }

    /// Adds a serial line, with all of these units polled.
    pub(crate) fn add_line(
        &mut self,
        settings: &LineSettings,
        units: &[Arc<Unit>],
        poll_interval_ms: u32,
    ) -> (Line, Vec<Stream>) {
        let line = Line::start(settings.clone(), units.to_vec()).expect("a line");
        let link = LinkEntry::Serial { line: settings.clone(), late_reply_ms: LATE_REPLY_MS };
        (line, self.add_bus(link, units.iter().map(|unit| unit.id), poll_interval_ms))
    }

    /// Adds a bus with these unit ids.
    pub(crate) fn add_bus(
        &mut self,
        link: LinkEntry,
        units: impl IntoIterator<Item = u8>,
        poll_interval_ms: u32,
    ) -> Vec<Stream> {
        let bus = u32::try_from(self.file.buses.len()).expect("few buses");
        let stream = |unit: u8| Stream { id: resource(330_502, 9401, bus * 1000 + u32::from(unit)), unit };
        let streams: Vec<Stream> = units.into_iter().map(stream).collect();
        let device = |stream: &Stream| DeviceEntry {
            name: format!("bus-{bus}-unit-{}", stream.unit),
            unit: stream.unit,
            model: MODEL,
            resources: vec![(String::new(), stream.id.clone())],
            poll_interval_ms,
        };
        self.file.buses.push(BusEntry {
            name: format!("bus-{bus}"),
            link,
            response_timeout_ms: RESPONSE_TIMEOUT_MS,
            settings: Vec::new(),
            devices: streams.iter().map(device).collect(),
        });
        streams
    }

    /// Starts the daemon and waits until it runs; `None` when it is not built.
    pub(crate) fn start(&self) -> Option<Running> {
        let site = self.folder().join("site.toml");
        fs::write(&site, self.file.to_toml()).expect("the site file");
        let mut command = Command::new(require(daemon::program())?);
        command.args(["run", "--config"]).arg(site).stdin(Stdio::null());
        let log = self.folder().join("daemon.log");
        let mut daemon = Process::start("ganglion", &mut command, &log).expect("the daemon starts");
        daemon.wait_for_line("running", SOON).unwrap_or_else(|error| panic!("{error}"));
        Some(Running { daemon, data_dir: self.file.data_dir.clone() })
    }

    /// Returns how many observations of a stream came with every value good.
    pub(crate) fn good(&self, stream: &Stream) -> usize {
        self.look(stream, |observations| observations.filter(|observation| is_good(observation)).count())
    }

    /// Looks at the observations of a stream, oldest first.
    pub(crate) fn look<T>(&self, stream: &Stream, look: impl FnOnce(&mut dyn Iterator<Item = &Observation>) -> T) -> T {
        self.subscriber.look(|view| {
            let resource = view.received.resource(&stream.id);
            look(&mut resource.into_iter().flat_map(|resource| resource.observations().values()))
        })
    }

    /// Waits until every one of these streams has this many more good observations.
    #[track_caller]
    pub(crate) fn expect_good(&self, streams: &[Stream], more: usize) {
        let wanted: Vec<usize> = streams.iter().map(|stream| self.good(stream) + more).collect();
        self.expect("good observations", |rig| {
            streams.iter().zip(&wanted).all(|(stream, &wanted)| rig.good(stream) >= wanted)
        });
    }

    /// Waits until a condition of what came holds.
    #[track_caller]
    pub(crate) fn expect(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let deadline = SystemTime::now() + SOON;
        while !wanted(self) {
            assert!(SystemTime::now() < deadline, "not within {SOON:?}: {what}\n{}", self.log_end());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Returns the last lines of the daemon's log.
    fn log_end(&self) -> String {
        const LINES: usize = 20;
        let log = fs::read_to_string(self.folder().join("daemon.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Waits for everything that was numbered, and checks that it came in order and that no good value is false.
    #[track_caller]
    pub(crate) fn expect_everything_and_nothing_false(&self, streams: &[Stream], last_seq: &BTreeMap<String, u64>) {
        self.expect("everything that was numbered", |rig| {
            rig.subscriber.look(|view| {
                let lost = |(id, &last): (&String, &u64)| view.received.resource(id).map_or(last, |it| it.lost(last));
                last_seq.iter().all(|numbered| lost(numbered) == 0)
            })
        });
        self.subscriber.look(|view| {
            assert_eq!(view.received.violations(), [], "every message keeps the contract");
            for stream in streams {
                let resource = view.received.resource(&stream.id).expect("observations");
                assert_eq!(resource.reordered(), 0, "{}", stream.id);
                assert_eq!(false_values(resource, stream.unit), BTreeSet::new(), "{}", stream.id);
            }
        });
    }

    /// Returns the seconds in which a stream had a good observation.
    pub(crate) fn seconds(&self, stream: &Stream) -> BTreeSet<u64> {
        self.look(stream, |observations| {
            let good = observations.filter(|observation| is_good(observation));
            good.map(|observation| second(time(observation))).collect()
        })
    }

    /// Returns the reasons of values that were not good.
    pub(crate) fn reasons(&self, stream: &Stream) -> BTreeSet<String> {
        self.look(stream, |observations| {
            let readings = observations.flat_map(|observation| observation.readings.values());
            readings.filter_map(|reading| reading.reason.clone()).collect()
        })
    }
}

pub(crate) fn is_good(observation: &Observation) -> bool {
    observation.readings.values().all(|reading| reading.quality == "good")
}

pub(crate) fn time(observation: &Observation) -> SystemTime {
    observation.t.parse::<jiff::Timestamp>().expect("RFC 3339").into()
}

/// Returns the second of a time, since 1970.
pub(crate) fn second(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Returns the good values that are not those of their register, unit and time.
fn false_values(resource: &Resource, unit: u8) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for observation in resource.observations().values() {
        let tick = Tick::at(time(observation));
        for (property, reading) in observation.readings.iter().filter(|(_, reading)| reading.quality == "good") {
            let value = reading.value.as_u64().and_then(|value| u16::try_from(value).ok());
            let age = named_address(property).zip(value).map(|(at, value)| named_age(unit, at, value, tick));
            if age.is_none_or(|age| age > OLDEST) {
                wrong.insert(format!("{property} {} at {}", reading.value, observation.t));
            }
        }
    }
    wrong
}

/// The daemon, started.
pub(crate) struct Running {
    daemon: Process,
    data_dir: PathBuf,
}

impl Running {
    /// Stops the daemon in order; returns the last number of every resource.
    #[track_caller]
    pub(crate) fn stop(mut self) -> BTreeMap<String, u64> {
        let status = self.daemon.terminate(SOON).unwrap_or_else(|error| panic!("{error}"));
        assert!(status.success(), "{status}: {:?}", self.daemon.printed());
        let text = fs::read(self.data_dir.join("last-status.json")).expect("the last status");
        let status: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let resources = status["resources"].as_object().expect("the resources");
        let last = |ledger: &serde_json::Value| ledger["last_seq"].as_u64().expect("a number");
        resources.iter().map(|(id, ledger)| (id.clone(), last(ledger))).collect()
    }
}

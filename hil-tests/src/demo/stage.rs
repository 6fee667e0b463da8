//! What the demo is played on: certificates, broker, simulated site, site file, subscriber.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::daemon::Snapshot;
use crate::broker::Broker;
use crate::pki::Pki;
use crate::received::{Keep, Observation, Received};
use crate::site::{Endpoint, Host, Line, LineSettings, Model, Parity, Tick, Unit};
use crate::site_file::{BusEntry, DeviceEntry, LinkEntry, SiteFile, resource};
use crate::subscriber::{Subscriber, Subscription, View};

/// How long before an observation's time its value may have been true: the request, the answer and a retry.
const WINDOW: Duration = Duration::from_secs(5);

/// Everything but the daemon. Dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct Stage {
    /// The subscriber; it ends before its broker.
    pub subscriber: Subscriber,
    /// The broker.
    pub broker: Broker,
    /// The resources and their devices, in the order of the table.
    pub devices: Vec<Simulated>,
    /// The daemon's site file.
    pub site_file: PathBuf,
    /// The daemon's data directory.
    pub data_dir: PathBuf,
    /// Where the daemon's output goes.
    pub log: PathBuf,
    _line: Line,
    _endpoint: Endpoint,
    _host: Host,
    _folder: TempDir,
}

/// One resource and the simulated device that observes it.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Its name in the site file.
    pub name: String,
    /// Which of the device's resources, empty when it has only one.
    pub part: String,
    /// The resource.
    pub resource: String,
    /// The device itself.
    pub unit: Arc<Unit>,
}

impl Stage {
    /// Sets the stage in a temporary folder; returns when the subscriber is there.
    ///
    /// # Errors
    /// When something cannot be started.
    pub fn set(configs: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ganglion-demo-").tempdir()?;
        let within = |name: &str| folder.path().join(name);
        let (pki_dir, data_dir) = (within("pki"), within("data"));
        fs::create_dir(&pki_dir)?;
        fs::create_dir(&data_dir)?;
        let pki = Pki::create(&pki_dir)?;
        let broker = Broker::start(&pki.ca, &pki.broker)?;
        let unit = |id, model, seed| Unit::new(id, model, seed);
        let on_line = [
            unit(1, Model::PressureTransmitter, 41),
            unit(2, Model::FlowMeter, 12),
            unit(3, Model::WaterLevelGauge, 7),
        ];
        let loops = unit(1, Model::LoopDetector, 118);
        let lanes = (1..=4).map(|lane| (format!("lane{lane}"), resource(330_502, 9401, 210 + lane)));
        let one = |resource: String| vec![(String::new(), resource)];
        let entries = [
            entry("main-pressure", &on_line[0], one(resource(330_502, 9601, 41))),
            entry("main-flow", &on_line[1], one(resource(330_502, 9305, 12))),
            entry("creek-level", &on_line[2], one(resource(330_502, 9505, 7))),
            entry("crossing-loops", &loops, lanes.collect()),
        ];
        let devices = entries.iter().zip(on_line.iter().chain([&loops])).flat_map(|(entry, unit)| {
            entry.resources.iter().map(|(part, resource)| Simulated {
                name: entry.name.clone(),
                part: part.clone(),
                resource: resource.clone(),
                unit: Arc::clone(unit),
            })
        });
        let devices = devices.collect();
        let settings = LineSettings::new(&within("rs485"), 9600, Parity::Even, 1);
        let line = Line::start(settings.clone(), on_line.to_vec())?;
        let host = Host::start()?;
        let endpoint = host.listen(0, vec![loops])?;

        let mut file = SiteFile::new(&fs::canonicalize(configs)?, &data_dir, broker.port(), &pki);
        let [pressure, flow, level, loops] = entries;
        file.buses = vec![
            BusEntry {
                name: "pump-house".to_owned(),
                link: LinkEntry::Serial { line: settings, late_reply_ms: 500 },
                response_timeout_ms: 500,
                settings: Vec::new(),
                devices: vec![pressure, flow, level],
            },
            BusEntry {
                name: "crossing".to_owned(),
                link: LinkEntry::Tcp { port: endpoint.port() },
                response_timeout_ms: 500,
                settings: Vec::new(),
                devices: vec![loops],
            },
        ];
        let site_file = within("site.toml");
        fs::write(&site_file, file.to_toml())?;

        let subscriber = Subscriber::start(
            &Subscription {
                port: broker.port(),
                ca: &pki.ca,
                own: &pki.subscriber,
                client_id: "city-brain",
                filter: "city/v1/#",
            },
            Received::new(Keep::All),
        )?;
        if !subscriber.wait_until_subscribed(Duration::from_secs(10)) {
            let why = subscriber.look(|view| view.last_error.clone());
            return Err(io::Error::other(format!("the subscriber cannot connect: {}", why.unwrap_or_default())));
        }
        Ok(Self {
            subscriber,
            broker,
            devices,
            site_file,
            data_dir,
            log: within("daemon.log"),
            _line: line,
            _endpoint: endpoint,
            _host: host,
            _folder: folder,
        })
    }

    /// Waits until the subscriber has every number that the daemon gave, at most `within`.
    pub fn wait_for_the_rest(&self, last: Option<&Snapshot>, within: Duration) {
        let complete = |view: &View| {
            let mut resources = last.iter().flat_map(|last| &last.resources);
            resources.all(|(id, counts)| {
                let seen = view.received.resource(id);
                seen.map_or(counts.last_seq, |seen| seen.lost(counts.last_seq)) == 0
            })
        };
        if !self.subscriber.wait_until(within, complete) {
            tracing::debug!("the subscriber never got everything");
        }
    }

    /// Prints the last lines of the daemon's output to standard error.
    pub fn print_log_end(&self) {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in lines.get(lines.len().saturating_sub(30)..).unwrap_or_default() {
            eprintln!("daemon: {line}");
        }
    }
}

impl Simulated {
    /// Returns how many good readings of an observation the device never showed.
    #[must_use]
    pub fn wrong_readings(&self, observation: &Observation) -> u64 {
        let good = observation.readings.iter().filter(|(_, reading)| reading.quality == "good");
        let Ok(t) = observation.t.parse::<jiff::Timestamp>() else { return good.count() as u64 };
        let t = SystemTime::from(t);
        let (since, until) = (Tick::at(t - WINDOW), Tick::at(t));
        let never = |(name, reading): &(&String, &crate::received::Reading)| {
            let state = reading.value.as_bool().map(|state| f64::from(u8::from(state)));
            let value = reading.value.as_f64().or(state).unwrap_or(f64::NAN);
            let name = (self.part.as_str(), name.as_str());
            self.unit.model.ever_had(self.unit.seed, name, value, since, until) == Some(false)
        };
        good.filter(never).count() as u64
    }
}

fn entry(name: &str, unit: &Unit, resources: Vec<(String, String)>) -> DeviceEntry {
    DeviceEntry { name: name.to_owned(), unit: unit.id, model: unit.model, resources, poll_interval_ms: 1000 }
}

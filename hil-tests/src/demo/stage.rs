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
use crate::received::{Keep, Observation};
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
    /// The devices, in the order of the table.
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

/// One simulated device and what it observes.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Its name in the site file.
    pub name: &'static str,
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
        let device = |name, id, model, class, serial| Simulated {
            name,
            resource: resource(330_502, class, serial),
            unit: Unit::new(id, model, u64::from(serial)),
        };
        let on_line = [
            device("main-pressure", 1, Model::PressureTransmitter, 9601, 41),
            device("main-flow", 2, Model::FlowMeter, 9305, 12),
            device("creek-level", 3, Model::WaterLevelGauge, 9505, 7),
        ];
        let on_tcp = [device("crossing-loops", 1, Model::LoopDetector, 9401, 118)];
        let units = |devices: &[Simulated]| devices.iter().map(|device| Arc::clone(&device.unit)).collect();
        let settings = LineSettings::new(&within("rs485"), 9600, Parity::Even, 1);
        let line = Line::start(settings.clone(), units(&on_line))?;
        let host = Host::start()?;
        let endpoint = host.listen(0, units(&on_tcp))?;

        let mut file = SiteFile::new(&fs::canonicalize(configs)?, &data_dir, broker.port(), &pki);
        file.buses = vec![
            BusEntry {
                name: "pump-house".to_owned(),
                link: LinkEntry::Serial { line: settings, late_reply_ms: 500 },
                response_timeout_ms: 500,
                devices: on_line.iter().map(entry).collect(),
            },
            BusEntry {
                name: "crossing".to_owned(),
                link: LinkEntry::Tcp { port: endpoint.port() },
                response_timeout_ms: 500,
                devices: on_tcp.iter().map(entry).collect(),
            },
        ];
        let site_file = within("site.toml");
        fs::write(&site_file, file.to_toml())?;

        let subscriber = Subscriber::start(&Subscription {
            port: broker.port(),
            ca: &pki.ca,
            own: &pki.subscriber,
            client_id: "city-brain",
            filter: "city/v1/#",
            keep: Keep::All,
        })?;
        if !subscriber.wait_until_subscribed(Duration::from_secs(10)) {
            let why = subscriber.look(|view| view.last_error.clone());
            return Err(io::Error::other(format!("the subscriber cannot connect: {}", why.unwrap_or_default())));
        }
        Ok(Self {
            subscriber,
            broker,
            devices: on_line.into_iter().chain(on_tcp).collect(),
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
            let value = reading.value.as_f64().unwrap_or(f64::NAN);
            self.unit.model.ever_had(self.unit.seed, name, value, since, until) == Some(false)
        };
        good.filter(never).count() as u64
    }
}

fn entry(device: &Simulated) -> DeviceEntry {
    DeviceEntry {
        name: device.name.to_owned(),
        unit: device.unit.id,
        model: device.unit.model,
        resource: device.resource.clone(),
        poll_interval_ms: 1000,
    }
}

//! The line, the broker, the subscriber and the files of one case.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::layout::{Layout, line_optimum};
use super::tally::Tally;
use super::{Case, Options, PATIENCE, UNITS, reference};
use crate::broker::Broker;
use crate::peers::PeerError;
use crate::peers::process::Process;
use crate::pki::Pki;
use crate::site::{Line, LineSettings, Model, Parity, Unit};
use crate::site_file::{BusEntry, DeviceEntry, LinkEntry, SiteFile, named_template, resource};
use crate::subscriber::{Subscriber, Subscription};

/// What a unit of this bench is: more registers than any layout needs, so that a gap can be read along.
const MODEL: Model = Model::Named { registers: 200 };

/// Between two polls of a unit: less than any line needs.
const POLL_INTERVAL_MS: u32 = 10;

/// Longest time that starting, draining or the last messages may take.
const SOON: Duration = Duration::from_secs(30);

/// What the daemon did.
pub(super) struct Seen {
    pub(super) tally: Tally,
    /// Observations that were numbered and never came.
    pub(super) lost: u64,
    /// Requests that did not wait for the silence.
    pub(super) hasty: u64,
}

/// Everything but the daemon.
pub(super) struct Stand {
    pub(super) line_settings: LineSettings,
    line: Line,
    layout: Layout,
    /// Unit ids; those that answer first.
    units: Vec<u8>,
    broker: Broker,
    pki: Pki,
    config: PathBuf,
    folder: TempDir,
}

impl Stand {
    pub(super) fn new(options: &Options, baud: u32, layout: Layout, case: Case) -> Result<Self, PeerError> {
        let set = || -> io::Result<Self> {
            let folder = tempfile::tempdir()?;
            let pki = Pki::create(folder.path())?;
            let broker = Broker::start(&pki.ca, &pki.broker)?;
            let line_settings = LineSettings::new(&folder.path().join("line"), baud, Parity::None, 1);
            let units: Vec<u8> = (1..=UNITS + case.dead()).collect();
            let simulated: Vec<_> = units.iter().map(|&id| Unit::new(id, MODEL, 1)).collect();
            for dead in simulated.iter().skip(usize::from(UNITS)) {
                dead.defects.set_dead(true);
            }
            let line = Line::start(line_settings.clone(), simulated)?;
            line.noise().set(case.bit_errors());
            let templates = folder.path().join("templates");
            fs::create_dir(&templates)?;
            fs::write(templates.join(format!("{MODEL}.toml")), named_template(MODEL, layout.addresses(), &[]))?;
            let mut file = SiteFile::new(&options.configs, &folder.path().join("data"), broker.port(), &pki);
            file.templates = templates;
            file.buses.push(bus(&line_settings, &units));
            let config = folder.path().join("site.toml");
            fs::write(&config, file.to_toml())?;
            Ok(Self { line_settings, line, layout, units, broker, pki, config, folder })
        };
        set().map_err(io_error)
    }

    /// Returns the resources of the units that answer.
    pub(super) fn live(&self) -> Vec<String> {
        self.units.iter().take(usize::from(UNITS)).map(|&unit| resource_of(unit)).collect()
    }

    /// Lets the daemon run for the warm-up and the window.
    pub(super) fn run_daemon(&self, options: &Options, slot: Duration) -> Result<Seen, PeerError> {
        let subscription = Subscription {
            port: self.broker.port(),
            ca: &self.pki.ca,
            own: &self.pki.subscriber,
            client_id: "bench",
            filter: "city/v1/#",
        };
        let units = self.units.iter().map(|&unit| (resource_of(unit), unit));
        let tally = Tally::new(units, self.layout.addresses().len(), slot);
        let subscriber = Subscriber::start(&subscription, tally).map_err(io_error)?;
        if !subscriber.wait_until_subscribed(SOON) {
            let why = subscriber.look(|view| view.last_error.clone()).unwrap_or_default();
            return Err(io_error(io::Error::other(format!("the subscriber cannot connect: {why}"))));
        }
        let mut command = Command::new(&options.daemon);
        command.args(["run", "--config"]).arg(&self.config).stdin(Stdio::null());
        let mut daemon = Process::start("ganglion", &mut command, &self.folder.path().join("ganglion.log"))?;
        daemon.wait_for_line("running", SOON)?;
        let from = SystemTime::now() + options.warm_up;
        subscriber.change(|tally| tally.window = Some((from, from + options.window)));
        // And until the scans that the window's end falls into are over.
        thread::sleep(options.warm_up + options.window + slot);
        if let Some(status) = daemon.status()? {
            return Err(PeerError::Ended { peer: "ganglion", status, printed: daemon.printed()? });
        }
        daemon.terminate(SOON)?;
        let last = self.last_numbers().map_err(io_error)?;
        let lost = |tally: &Tally| last.iter().map(|(id, last)| tally.lost(id, *last)).sum::<u64>();
        // What is not there by now is what the figure says.
        let _complete = subscriber.wait_until(SOON, |view| lost(&view.received) == 0);
        let tally = subscriber.look(|view| view.received.clone());
        Ok(Seen { lost: lost(&tally), tally, hasty: self.line.counts().hasty })
    }

    /// Lets the reference poll for the window; returns how many units that answer it read completely, and in what time.
    pub(super) fn run_reference(&self, options: &Options) -> Result<(u64, Duration), PeerError> {
        let plan = line_optimum(&self.layout.addresses(), &self.line_settings);
        // A port of its own: the daemon may have locked the one it had.
        let fresh = || self.line.unplug().and_then(|()| self.line.plug());
        let (scans, took) = fresh()
            .and_then(|()| reference::run(&self.line_settings, &plan, &self.units, PATIENCE, options.window))
            .map_err(io_error)?;
        Ok((scans.iter().take(usize::from(UNITS)).sum(), took))
    }

    fn last_numbers(&self) -> io::Result<BTreeMap<String, u64>> {
        let status = fs::read(self.folder.path().join("data/last-status.json"))?;
        let status: serde_json::Value = serde_json::from_slice(&status)?;
        let resources =
            status["resources"].as_object().ok_or_else(|| io::Error::other("no resources in the status"))?;
        Ok(resources.iter().map(|(id, ledger)| (id.clone(), ledger["last_seq"].as_u64().unwrap_or(0))).collect())
    }
}

fn bus(line: &LineSettings, units: &[u8]) -> BusEntry {
    let device = |&unit: &u8| DeviceEntry {
        name: format!("unit-{unit}"),
        unit,
        model: MODEL,
        resources: vec![(String::new(), resource_of(unit))],
        poll_interval_ms: POLL_INTERVAL_MS,
    };
    BusEntry {
        name: "line".to_owned(),
        link: LinkEntry::Serial { line: line.clone(), late_reply_ms: 1000 },
        response_timeout_ms: u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX),
        settings: Vec::new(),
        devices: units.iter().map(device).collect(),
    }
}

fn resource_of(unit: u8) -> String {
    resource(330_502, 9401, u32::from(unit))
}

fn io_error(error: io::Error) -> PeerError {
    PeerError::Io { peer: "bench", error }
}

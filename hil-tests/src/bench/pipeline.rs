//! From the register to the subscriber: CPU and memory a value, latency, and whether every value came, once and right.
//!
//! Simulated TCP devices of 1,000 registers each, polled every second, to Mosquitto over mutual TLS; then the
//! [reference](super::reference) on the same devices and broker.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::process::Cost;
use super::tally::Tally;
use crate::peers::PeerError;
use crate::peers::mosquitto::Mosquitto;
use crate::peers::process::Process;
use crate::pki::Pki;
use crate::site::{Endpoint, Host, Model, Unit};
use crate::site_file::{BusEntry, DeviceEntry, LinkEntry, SiteFile, resource};
use crate::subscriber::{Subscriber, Subscription};

/// Registers of one device.
pub const REGISTERS: u16 = 1000;

/// Polls before the measured window begins: connections, first segments, caches.
const WARM_UP: Duration = Duration::from_secs(5);

/// Longest time that starting, draining or the last messages may take.
const SOON: Duration = Duration::from_secs(30);

/// The daemon's commit window, its default: what is durable first is that much later at most.
const COMMIT_WINDOW: Duration = Duration::from_millis(200);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon's binary.
    pub daemon: PathBuf,
    /// This program, which is also the reference.
    pub reference: PathBuf,
    /// Folder with the code directory.
    pub configs: PathBuf,
    /// Devices of each measurement.
    pub devices: Vec<u16>,
    /// Length of the measured window.
    pub window: Duration,
}

/// What was measured with one number of devices.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Devices, each of [`REGISTERS`] registers a second.
    pub devices: u16,
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Values of the window that came.
    pub values: u64,
    /// The daemon's CPU seconds per million values.
    pub cpu_per_million: f64,
    /// The reference's CPU seconds per million values.
    pub reference_cpu_per_million: f64,
    /// The daemon's peak resident memory in bytes.
    pub peak_bytes: u64,
    /// The reference's peak resident memory in bytes.
    pub reference_peak_bytes: u64,
    /// Median time from the last Modbus answer to the subscriber, in milliseconds.
    pub p50_ms: f64,
    /// The time that 99 of 100 observations kept, in milliseconds.
    pub p99_ms: f64,
    /// Values whose observation never came.
    pub lost: u64,
    /// Observations that came again.
    pub repeated: u64,
    /// Values of another second than their observation's, or not good, and payloads that could not be read.
    pub wrong: u64,
}

/// Measures with each number of devices in turn.
///
/// # Errors
/// When a part cannot be started or ends by itself.
pub fn run(options: &Options, mut report: impl FnMut(&Measured)) -> Result<(), PeerError> {
    for &devices in &options.devices {
        report(&measure(options, devices)?);
    }
    Ok(())
}

fn measure(options: &Options, devices: u16) -> Result<Measured, PeerError> {
    let folder = tempfile::tempdir().map_err(io_error)?;
    let folder = folder.path();
    let pki = Pki::create(folder).map_err(io_error)?;
    let broker = Mosquitto::start(folder, &pki.ca, &pki.broker, &["log_type error"])?;
    let host = Host::start().map_err(io_error)?;
    let endpoints = (0..devices)
        .map(|_| host.listen(0, vec![Unit::new(1, Model::Bench { registers: REGISTERS }, 0)]))
        .collect::<io::Result<Vec<Endpoint>>>()
        .map_err(io_error)?;
    let config = write_site(folder, &options.configs, &endpoints, &broker, &pki).map_err(io_error)?;

    let subscription = Subscription {
        port: broker.port(),
        ca: &pki.ca,
        own: &pki.subscriber,
        client_id: "bench",
        filter: "city/v1/#",
    };
    let subscriber = Subscriber::start(&subscription, Tally::default()).map_err(io_error)?;
    if !subscriber.wait_until_subscribed(SOON) {
        let why = subscriber.look(|view| view.last_error.clone()).unwrap_or_default();
        return Err(io_error(io::Error::other(format!("the subscriber cannot connect: {why}"))));
    }

    let mut command = Command::new(&options.daemon);
    command.args(["run", "--config"]).arg(&config).stdin(Stdio::null());
    let mut daemon = Process::start("ganglion", &mut command, &folder.join("ganglion.log"))?;
    daemon.wait_for_line("running", SOON)?;
    let from = SystemTime::now() + WARM_UP;
    subscriber.change(|tally| tally.window = Some((from, from + options.window)));
    let own = over_window(daemon.pid(), options.window).map_err(io_error)?;
    daemon.terminate(SOON)?;
    let last_seq = last_numbers(&folder.join("data/last-status.json")).map_err(io_error)?;
    let lost = |tally: &Tally| last_seq.iter().map(|(id, last)| tally.lost(id, *last)).sum::<u64>();
    // What is not there by now is what the figure says.
    let _complete = subscriber.wait_until(SOON, |view| lost(&view.received) == 0);
    let tally = subscriber.look(|view| view.received.clone());
    drop(subscriber);

    let reference = measure_reference(options, folder, &endpoints, &broker, &pki)?;
    let million = |cost: &Window, values: f64| cost.cpu.as_secs_f64() * 1e6 / values;
    let reference_values = f64::from(devices) * f64::from(REGISTERS) * options.window.as_secs_f64();
    Ok(Measured {
        devices,
        seconds: options.window.as_secs_f64(),
        values: tally.values,
        cpu_per_million: million(&own, as_f64(tally.values)),
        reference_cpu_per_million: million(&reference, reference_values),
        peak_bytes: own.peak,
        reference_peak_bytes: reference.peak,
        p50_ms: tally.latency(0.50).as_secs_f64() * 1e3,
        p99_ms: tally.latency(0.99).as_secs_f64() * 1e3,
        lost: lost(&tally) * u64::from(REGISTERS),
        repeated: tally.repeated,
        wrong: tally.wrong + tally.unreadable,
    })
}

/// What a process cost over the window.
struct Window {
    cpu: Duration,
    peak: u64,
}

/// Lets a process warm up, then looks at it at both ends of the window.
fn over_window(pid: u32, window: Duration) -> io::Result<Window> {
    let start = Instant::now() + WARM_UP;
    thread::sleep(start.saturating_duration_since(Instant::now()));
    let before = Cost::of(pid)?;
    thread::sleep((start + window).saturating_duration_since(Instant::now()));
    let after = Cost::of(pid)?;
    Ok(Window { cpu: after.cpu.saturating_sub(before.cpu), peak: after.peak })
}

fn measure_reference(
    options: &Options,
    folder: &Path,
    endpoints: &[Endpoint],
    broker: &Mosquitto,
    pki: &Pki,
) -> Result<Window, PeerError> {
    let rounds = (WARM_UP + options.window + Duration::from_secs(2)).as_secs();
    let mut command = Command::new(&options.reference);
    command.args(["reference", "--rounds", &rounds.to_string(), "--broker", &broker.port().to_string()]);
    command.arg("--ca").arg(&pki.ca).arg("--certificate").arg(&pki.gateway.certificate);
    command.arg("--key").arg(&pki.gateway.key).arg("--spool").arg(folder.join("reference.spool"));
    command.args(endpoints.iter().map(|endpoint| endpoint.port().to_string())).stdin(Stdio::null());
    let mut reference = Process::start("reference", &mut command, &folder.join("reference.log"))?;
    let cost = over_window(reference.pid(), options.window).map_err(io_error)?;
    let status = reference.wait_for_end(SOON)?;
    if status.success() {
        Ok(cost)
    } else {
        Err(PeerError::Ended { peer: "reference", status, printed: reference.printed()? })
    }
}

fn write_site(
    folder: &Path,
    configs: &Path,
    endpoints: &[Endpoint],
    broker: &Mosquitto,
    pki: &Pki,
) -> io::Result<PathBuf> {
    let model = Model::Bench { registers: REGISTERS };
    let templates = folder.join("templates");
    fs::create_dir(&templates)?;
    fs::write(
        templates.join(format!("{model}.toml")),
        format!(
            "[template]\nname = \"{model}\"\nmaker = \"bench\"\ndocument = \"hil-tests/src/site/unit.rs\"\n\n[[point]]\n\
             property = \"vehicle_count\"\ntable = \"holding\"\naddress = 0\ntype = \"u16\"\nunit = \"1\"\n\
             channels = {REGISTERS}\nstep = 1\n"
        ),
    )?;
    let mut file = SiteFile::new(configs, &folder.join("data"), broker.port(), pki);
    file.templates = templates;
    for (number, endpoint) in (1..).zip(endpoints) {
        file.buses.push(BusEntry {
            name: format!("bus-{number}"),
            link: LinkEntry::Tcp { port: endpoint.port() },
            response_timeout_ms: 1000,
            settings: Vec::new(),
            devices: vec![DeviceEntry {
                name: format!("device-{number}"),
                unit: 1,
                model,
                resources: vec![(String::new(), resource(330_502, 9401, number))],
                poll_interval_ms: 1000,
            }],
        });
    }
    let path = folder.join("site.toml");
    fs::write(&path, file.to_toml())?;
    Ok(path)
}

fn last_numbers(status: &Path) -> io::Result<Vec<(String, u64)>> {
    let status: serde_json::Value = serde_json::from_slice(&fs::read(status)?)?;
    let resources = status["resources"].as_object().ok_or_else(|| io::Error::other("no resources in the status"))?;
    Ok(resources.iter().map(|(id, ledger)| (id.clone(), ledger["last_seq"].as_u64().unwrap_or(0))).collect())
}

fn io_error(error: io::Error) -> PeerError {
    PeerError::Io { peer: "bench", error }
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

impl Measured {
    /// Says whether every value came, once and right.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        (self.lost, self.repeated, self.wrong) == (0, 0, 0)
    }

    /// Most memory: 12 MB up to 10,000 values a second, 24 MB at 100,000.
    fn memory_target_mb(&self) -> f64 {
        if self.devices <= 10 { 12.0 } else { 24.0 }
    }
}

/// One line of the report: a figure, the reference's, what is to be reached.
struct Row {
    name: &'static str,
    own: f64,
    reference: Option<f64>,
    target: f64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, own, reference, target } = self;
        let reference = reference.map_or("-".to_owned(), |reference| format!("{reference:.3}"));
        let verdict = if own <= target { "met" } else { "MISSED" };
        let distance = own / target;
        writeln!(f, "  {name:<32} {own:>9.3} {reference:>10} {target:>10.3} {distance:>9.2}  {verdict}")
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { devices, seconds, values, lost, repeated, wrong, .. } = self;
        writeln!(f, "{devices} devices x {REGISTERS} registers every second, over mutual TLS, for {seconds:.0} s")?;
        writeln!(f, "  {:<32} {:>9} {:>10} {:>10} {:>9}", "", "ganglion", "reference", "target", "of it")?;
        let latency = (COMMIT_WINDOW + Duration::from_millis(5)).as_secs_f64() * 1e3;
        let rows = [
            Row {
                name: "CPU-seconds per million values",
                own: self.cpu_per_million,
                reference: Some(self.reference_cpu_per_million),
                target: 1.5 * self.reference_cpu_per_million,
            },
            Row {
                name: "peak RSS, MB",
                own: as_f64(self.peak_bytes) / 1e6,
                reference: Some(as_f64(self.reference_peak_bytes) / 1e6),
                target: self.memory_target_mb(),
            },
            Row { name: "last answer -> subscriber p50, ms", own: self.p50_ms, reference: None, target: latency },
            Row { name: "last answer -> subscriber p99, ms", own: self.p99_ms, reference: None, target: latency },
        ];
        rows.iter().try_for_each(|row| row.fmt(f))?;
        let expected = f64::from(*devices) * f64::from(REGISTERS) * seconds;
        writeln!(f, "  values {values} of {expected:.0}: lost {lost}, repeated {repeated}, wrong {wrong}")
    }
}

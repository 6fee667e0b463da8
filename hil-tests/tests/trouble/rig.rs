//! The bench of these tests: certificates, broker, subscriber and simulated units around the daemon's program.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_hil::broker::Broker;
use ganglion_hil::peers::process::Process;
use ganglion_hil::peers::{daemon, require};
use ganglion_hil::pki::Pki;
use ganglion_hil::received::{Keep, Received};
use ganglion_hil::site::{Endpoint, Host, Line, LineSettings, Model, Parity, Unit};
use ganglion_hil::site_file::{BusEntry, DeviceEntry, LinkEntry, SiteFile, resource};
use ganglion_hil::subscriber::{Subscriber, Subscription};
use serde::Deserialize;
use tempfile::TempDir;

/// Longest wait for what should come at once; generous, for the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Everything but the daemon.
pub(crate) struct Rig {
    pub(crate) subscriber: Subscriber,
    pub(crate) broker: Broker,
    pub(crate) pki: Pki,
    pub(crate) file: SiteFile,
    host: Host,
    folder: TempDir,
    starts: u32,
}

/// What the daemon says on its status socket.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) uplink: Uplink,
    pub(crate) store: Store,
    pub(crate) devices: BTreeMap<String, Device>,
    pub(crate) resources: BTreeMap<String, Ledger>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Uplink {
    pub(crate) connected: bool,
    pub(crate) last_error: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Store {
    pub(crate) trouble: Option<String>,
    pub(crate) segments: u64,
    pub(crate) damaged_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Device {
    pub(crate) polls: u64,
    pub(crate) failed_polls: u64,
    pub(crate) healthy: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) accepted: u64,
    pub(crate) durable: u64,
    pub(crate) dropped: u64,
    pub(crate) last_seq: u64,
}

impl Status {
    pub(crate) fn durable(&self) -> u64 {
        self.resources.values().map(|ledger| ledger.durable).sum()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.resources.values().map(|ledger| ledger.dropped).sum()
    }

    pub(crate) fn polls(&self) -> u64 {
        self.devices.values().map(|device| device.polls).sum()
    }

    /// Returns the last number of each resource.
    pub(crate) fn last_seq(&self) -> BTreeMap<String, u64> {
        self.resources.iter().map(|(id, ledger)| (id.clone(), ledger.last_seq)).collect()
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let pki = Pki::create(folder.path()).expect("certificates");
        let broker = Broker::start(&pki.ca, &pki.broker).expect("a broker");
        let subscriber = subscribe(&broker, &pki, "city");
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let mut file = SiteFile::new(&configs, &folder.path().join("data"), broker.port(), &pki);
        file.templates = folder.path().join("templates");
        copy_files(&configs.join("templates"), &file.templates);
        Self { subscriber, broker, pki, file, host: Host::start().expect("a thread"), folder, starts: 0 }
    }

    /// With one TCP bus of this many bench units.
    pub(crate) fn with_bench(units: u8, registers: u16, poll_interval_ms: u32) -> (Self, Endpoint) {
        let mut rig = Self::new();
        let units = (1..=units).map(|id| Unit::new(id, Model::Bench { registers }, 1)).collect();
        let endpoint = rig.add_tcp("bench", units, poll_interval_ms);
        (rig, endpoint)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Adds a TCP bus; each unit gets a resource of its own, see [`Rig::resource_of`].
    pub(crate) fn add_tcp(&mut self, name: &str, units: Vec<Arc<Unit>>, poll_interval_ms: u32) -> Endpoint {
        let endpoint = self.host.listen(0, units.clone()).expect("a free port");
        self.add_bus(name, LinkEntry::Tcp { port: endpoint.port() }, &units, poll_interval_ms);
        endpoint
    }

    /// Adds a serial line at `<name>` in the rig's folder.
    pub(crate) fn add_line(&mut self, name: &str, units: Vec<Arc<Unit>>, poll_interval_ms: u32) -> Line {
        let settings = LineSettings::new(&self.path(name), 115_200, Parity::Even, 1);
        let link = LinkEntry::Serial { line: settings.clone(), late_reply_ms: 1000 };
        self.add_bus(name, link, &units, poll_interval_ms);
        Line::start(settings, units).expect("a pty")
    }

    pub(crate) fn add_bus(&mut self, name: &str, link: LinkEntry, units: &[Arc<Unit>], poll_interval_ms: u32) {
        let bus = u32::try_from(self.file.buses.len()).expect("few buses");
        let devices = units.iter().map(|unit| {
            self.write_bench_template(unit.model);
            DeviceEntry {
                name: device_name(name, unit.id),
                unit: unit.id,
                model: unit.model,
                resources: vec![(String::new(), self.resource_at(bus, unit))],
                poll_interval_ms,
            }
        });
        let devices = devices.collect();
        let settings = Vec::new();
        self.file.buses.push(BusEntry { name: name.to_owned(), link, response_timeout_ms: 250, settings, devices });
    }

    /// Returns the resource of a unit on a bus.
    pub(crate) fn resource_of(&self, bus: &str, unit: &Unit) -> String {
        let place = self.file.buses.iter().position(|entry| entry.name == bus).expect("a bus of the rig");
        self.resource_at(u32::try_from(place).expect("few buses"), unit)
    }

    fn resource_at(&self, bus: u32, unit: &Unit) -> String {
        let class = match unit.model {
            Model::FlowMeter => 9305,
            Model::PressureTransmitter => 9601,
            Model::WaterLevelGauge => 9505,
            Model::LoopDetector | Model::Bench { .. } | Model::Named { .. } => 9401,
        };
        resource(330_502, class, bus * 1000 + u32::from(unit.id))
    }

    fn write_bench_template(&self, model: Model) {
        let Model::Bench { registers } = model else { return };
        let text = format!(
            "[template]\nname = \"{model}\"\nmaker = \"simulated\"\ndocument = \"hil-tests/src/site/unit.rs\"\n\n\
             [[point]]\nproperty = \"vehicle_count\"\ntable = \"holding\"\naddress = 0\ntype = \"u16\"\nunit = \"1\"\n\
             channels = {registers}\nstep = 1\n"
        );
        fs::write(self.file.templates.join(format!("{model}.toml")), text).expect("the template");
    }

    /// Writes the site file as it is now and returns its path.
    pub(crate) fn write_site(&self) -> PathBuf {
        let path = self.path("site.toml");
        let text = self.file.to_toml().replace("[broker]\n", "[broker]\nretry_min_ms = 50\nretry_max_ms = 500\n");
        fs::write(&path, text).expect("the site file");
        path
    }

    /// Starts the daemon and does not wait for it; `None` when it is not built.
    pub(crate) fn launch(&mut self) -> Option<Running> {
        self.launch_with(&[])
    }

    /// As [`Rig::launch`], with these environment variables.
    pub(crate) fn launch_with(&mut self, environment: &[(&str, &str)]) -> Option<Running> {
        self.starts += 1;
        let log = self.path(&format!("daemon-{}.log", self.starts));
        let site = self.write_site();
        let mut command = Command::new(require(daemon::program())?);
        command.args(["run", "--config"]).arg(site).envs(environment.iter().copied()).stdin(Stdio::null());
        let daemon = Process::start("ganglion", &mut command, &log).expect("the daemon starts");
        Some(Running { daemon, data_dir: self.file.data_dir.clone() })
    }

    /// Starts the daemon and waits until it runs; `None` when it is not built.
    pub(crate) fn start(&mut self) -> Option<Running> {
        let mut running = self.launch()?;
        running.daemon.wait_for_line("running", SOON).expect("the daemon runs");
        Some(running)
    }

    /// Waits until the subscriber has every number up to the last ones, and checks that they came in order and once in
    /// content.
    pub(crate) fn expect_everything(&self, last_seq: &BTreeMap<String, u64>) {
        self.expect_all_but(last_seq, 0);
    }

    /// As [`Rig::expect_everything`], but for exactly `lost` numbers of all resources together.
    pub(crate) fn expect_all_but(&self, last_seq: &BTreeMap<String, u64>, lost: u64) {
        let came = self.subscriber.wait_until(SOON, |view| missing(&view.received, last_seq) <= lost);
        self.subscriber.look(|view| {
            let received = &view.received;
            let gaps = last_seq
                .iter()
                .map(|(id, &last)| (id, last, received.resource(id).map(|resource| resource.missing(last))));
            assert!(came, "lost {}: {:?}", missing(received, last_seq), gaps.collect::<Vec<_>>());
            assert_eq!(missing(received, last_seq), lost, "lost as many as were counted");
            self.expect_order(received);
        });
    }

    pub(crate) fn expect_order(&self, received: &Received) {
        assert_eq!(received.violations(), [], "every message keeps the contract");
        for (id, resource) in received.resources() {
            assert_eq!(resource.reordered(), 0, "{id}: reordered");
            assert!(resource.conflicting().is_empty(), "{id}: two contents for {:?}", resource.conflicting());
        }
    }
}

/// Returns how many numbers up to the last ones never came.
pub(crate) fn missing(received: &Received, last_seq: &BTreeMap<String, u64>) -> u64 {
    last_seq.iter().map(|(id, &last)| received.resource(id).map_or(last, |resource| resource.lost(last))).sum()
}

pub(crate) fn device_name(bus: &str, unit: u8) -> String {
    format!("{bus}-{unit}")
}

/// Subscribes to everything, with a session that the broker keeps.
fn subscribe(broker: &Broker, pki: &Pki, client_id: &str) -> Subscriber {
    let subscription =
        Subscription { port: broker.port(), ca: &pki.ca, own: &pki.subscriber, client_id, filter: "city/v1/#" };
    let subscriber = Subscriber::start(&subscription, Received::new(Keep::All)).expect("a subscriber");
    assert!(subscriber.wait_until_subscribed(SOON), "{:?}", subscriber.look(|view| view.last_error.clone()));
    subscriber
}

/// The daemon, started.
pub(crate) struct Running {
    pub(crate) daemon: Process,
    data_dir: PathBuf,
}

impl Running {
    /// Asks the status socket once.
    pub(crate) fn ask(&self) -> io::Result<Status> {
        let mut stream = UnixStream::connect(self.data_dir.join("status.sock"))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut json = Vec::new();
        stream.read_to_end(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }

    pub(crate) fn status(&self) -> Status {
        self.ask().expect("the daemon answers on its status socket")
    }

    /// Waits until the status socket shows what is wanted, and returns it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + SOON;
        loop {
            assert_eq!(self.daemon.status().expect("its state"), None, "it ended: {}", self.log());
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "no {what}: {status:?}\n{}", self.log());
            std::thread::sleep(GLANCE);
        }
    }

    /// Waits until this many more observations are durable than now.
    #[track_caller]
    pub(crate) fn wait_until_durable(&mut self, more: u64) -> Status {
        let wanted = self.status().durable() + more;
        self.wait_for("progress", |status| status.durable() >= wanted)
    }

    pub(crate) fn log(&self) -> String {
        self.daemon.printed().expect("its log")
    }

    #[track_caller]
    pub(crate) fn expect_line(&mut self, text: &str) -> String {
        self.daemon.wait_for_line(text, SOON).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Stops the daemon in order; returns the last number of every resource.
    #[track_caller]
    pub(crate) fn stop(mut self) -> BTreeMap<String, u64> {
        let status = self.daemon.terminate(SOON).expect("it drains and ends");
        assert!(status.success(), "{status}: {}", self.log());
        self.left().last_seq()
    }

    /// Returns the status that the daemon left when it ended.
    pub(crate) fn left(&self) -> Status {
        let text = fs::read(self.data_dir.join("last-status.json")).expect("the last status");
        serde_json::from_slice(&text).expect("JSON")
    }
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("copied");
    }
}

//! The whole way under fire: a Modbus server, the daemon, the broker and the subscriber are four programs, three of them
//! by people who never heard of us.
//! Needs: pymodbus, mosquitto, mosquitto_sub (`cargo xtask setup`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use ganglion_hil::peers::daemon::Daemon;
use ganglion_hil::peers::mosquitto::{Mosquitto, Subscriber};
use ganglion_hil::peers::pymodbus::{Pymodbus, Registers, Served, tick_of};
use ganglion_hil::peers::require;
use ganglion_hil::pki::Pki;
use ganglion_hil::received::{Keep, Observation, Received, Resource};

const UNITS: u8 = 10;
const REGISTERS: u16 = 100;
/// One tick of the served values.
const TICK: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_secs(20);

/// One thousand points a second for a minute, while the broker is killed twice and the daemon three times, once during an
/// outage of the broker.
#[test]
fn nothing_is_lost_or_reordered_while_broker_and_daemon_are_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let served = Served { units: UNITS, registers: REGISTERS };
    let Some(site) = require(Pymodbus::start(served, &folder.join("pymodbus.log"))) else { return };
    let pki = Pki::create(folder).expect("certificates");
    let mut broker = Mosquitto::start(folder, &pki.ca, &pki.broker, &["autosave_interval 1"]).expect("a broker");
    let subscriber = Subscriber::start(&broker, "city", "city/v1/#", &pki.ca, &pki.subscriber).expect("a subscriber");
    let config = write_site(folder, site.address().port(), broker.port(), &pki);

    let mut run = Run { folder, config: &config, starts: 0, kills: Vec::new(), daemon: None };
    let start = Instant::now();
    let until = |second: u64| {
        std::thread::sleep((start + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
    };
    run.start_daemon();
    until(8);
    run.kill_daemon();
    until(16);
    broker.kill().expect("the broker is killed");
    until(21);
    broker.run().expect("the broker is back");
    until(29);
    run.kill_daemon();
    until(37);
    broker.kill().expect("the broker is killed again");
    until(40);
    run.kill_daemon();
    until(44);
    broker.run().expect("the broker is back again");
    until(60);
    let last_seq = run.stop_daemon();
    let received = settled(&subscriber, &last_seq);

    assert_eq!(received.violations(), [], "every message keeps the contract");
    assert_eq!(last_seq.len(), usize::from(UNITS), "every unit is a resource: {last_seq:?}");
    let mut duplicates = 0;
    for (id, last) in &last_seq {
        let resource = received.resource(id).unwrap_or_else(|| panic!("nothing of {id}"));
        assert!(*last >= 50, "{id}: a minute at one poll a second, three restarts: {last} observations");
        assert_eq!(resource.missing(*last), [], "{id}: lost, of {last}");
        assert_eq!(resource.reordered(), 0, "{id}: reordered");
        assert!(resource.conflicting().is_empty(), "{id}: two contents for {:?}", resource.conflicting());
        duplicates += resource.duplicates();
        values_are_of_their_time(id, resource);
        run.no_second_is_missing(id, resource);
    }
    println!("{} observations, lost 0, reordered 0, duplicates {duplicates}", last_seq.values().sum::<u64>());
}

/// The daemon over its lives.
struct Run<'a> {
    folder: &'a Path,
    config: &'a Path,
    starts: u32,
    kills: Vec<SystemTime>,
    daemon: Option<Daemon>,
}

impl Run<'_> {
    fn start_daemon(&mut self) {
        self.starts += 1;
        let log = self.folder.join(format!("ganglion-{}.log", self.starts));
        let arguments = ["run".as_ref(), "--config".as_ref(), self.config.as_os_str()];
        let mut daemon = Daemon::start(arguments, &log).expect("the daemon starts");
        daemon.wait_for_line("running", SOON).expect("the daemon runs");
        self.daemon = Some(daemon);
    }

    /// Kills the daemon as nothing can be caught, and starts it again.
    fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        assert_eq!(daemon.status().expect("its state"), None, "it ran until now");
        daemon.kill().expect("killed");
        self.kills.push(SystemTime::now());
        self.start_daemon();
    }

    /// Stops the daemon in order; returns the last number of every resource.
    fn stop_daemon(&mut self) -> BTreeMap<String, u64> {
        let mut daemon = self.daemon.take().expect("it runs");
        let status = daemon.terminate(SOON).expect("it drains and ends");
        assert!(status.success(), "{status}: {}", daemon.printed().expect("its log"));
        let text = fs::read(self.folder.join("data/last-status.json")).expect("the last status");
        let status: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let resources = status["resources"].as_object().expect("resources");
        let last = |ledger: &serde_json::Value| ledger["last_seq"].as_u64().expect("a number");
        resources.iter().map(|(id, ledger)| (id.clone(), last(ledger))).collect()
    }

    /// By the times alone, without a look at any number of ours: one poll a second, but for the seconds around a kill.
    fn no_second_is_missing(&self, id: &str, resource: &Resource) {
        let times: Vec<SystemTime> = resource.observations().values().map(time).collect();
        for pair in times.windows(2) {
            let gap = pair[1].duration_since(pair[0]).expect("times rise with the numbers");
            let restarted = self.kills.iter().any(|kill| pair[0] <= *kill && *kill <= pair[1]);
            let most = if restarted { Duration::from_secs(4) } else { Duration::from_millis(1_900) };
            assert!(gap <= most, "{id}: nothing from {:?} for {gap:?}, killed {:?}", pair[0], self.kills);
        }
    }
}

/// Every register of an observation names one and the same tick, and it is the tick of the observation's time.
fn values_are_of_their_time(id: &str, resource: &Resource) {
    let unit: u8 = id[12..18].parse().expect("the serial is the unit");
    for observation in resource.observations().values() {
        let at = time(observation).duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        for register in 0..REGISTERS {
            let name = format!("vehicle_count.{}", register + 1);
            let reading = observation.readings.get(&name).unwrap_or_else(|| panic!("{id}: no {name}"));
            assert_eq!(reading.quality, "good", "{id} {name} {observation:?}");
            let value = reading.value.as_u64().and_then(|value| u16::try_from(value).ok()).expect("16 bits");
            let age = tick(at).wrapping_sub(tick_of(Registers::Holding, unit, register, value));
            assert!(age <= 10, "{id} {name}: value of {age} ticks before {}", observation.t);
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a tick is the low sixteen bits")]
fn tick(since_1970: Duration) -> u16 {
    (since_1970.as_millis() / TICK.as_millis()) as u16
}

fn time(observation: &Observation) -> SystemTime {
    observation.t.parse::<jiff::Timestamp>().expect("RFC 3339").into()
}

/// Waits until everything up to the last numbers has arrived, or long enough to call it lost.
fn settled(subscriber: &Subscriber, last_seq: &BTreeMap<String, u64>) -> Received {
    let deadline = Instant::now() + SOON;
    loop {
        let mut received = Received::new(Keep::All);
        for message in subscriber.received().expect("its output") {
            received.message(&message.topic, message.payload.as_bytes(), SystemTime::now());
        }
        let complete = last_seq.iter().all(|(id, &last)| received.resource(id).is_some_and(|r| r.lost(last) == 0));
        if complete || Instant::now() >= deadline {
            return received;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn write_site(folder: &Path, modbus: u16, broker: u16, pki: &Pki) -> std::path::PathBuf {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let templates = folder.join("templates");
    fs::create_dir(&templates).expect("a folder");
    fs::write(
        templates.join("counters.toml"),
        format!(
            "[template]\nname = \"counters\"\nmaker = \"pymodbus\"\ndocument = \"hil-tests/python/pymodbus_site.py\"\n\n\
             [[point]]\nproperty = \"vehicle_count\"\ntable = \"holding\"\naddress = 0\ntype = \"u16\"\nunit = \"1\"\n\
             channels = {REGISTERS}\nstep = 1\n"
        ),
    )
    .expect("the template");
    let mut site = format!(
        "directory = {directory:?}\ntemplates = {templates:?}\ndata_dir = {data:?}\n\n\
         [gateway]\nid = \"{gateway}\"\n\n\
         [broker]\nhost = \"localhost\"\nport = {broker}\nca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n\
         retry_min_ms = 100\nretry_max_ms = 1000\n\n\
         [[bus]]\nname = \"pymodbus\"\nkind = \"tcp\"\nhost = \"127.0.0.1\"\nport = {modbus}\n",
        directory = configs.join("directory"),
        data = folder.join("data"),
        gateway = cri(9101, 1),
        ca = pki.ca,
        certificate = pki.gateway.certificate,
        key = pki.gateway.key,
    );
    for unit in 1..=UNITS {
        site.push_str(&format!(
            "\n[[bus.device]]\nname = \"loop-{unit}\"\nunit = {unit}\ntemplate = \"counters\"\nresource = \"{}\"\npoll_interval_ms = 1000\n",
            cri(9401, u32::from(unit)),
        ));
    }
    let path = folder.join("site.toml");
    fs::write(&path, site).expect("the site file");
    path
}

/// Writes an identifier of Wuxing District with its check digits, ISO/IEC 7064 MOD 97-10.
fn cri(class: u64, serial: u32) -> String {
    let code = 330_502 * 10_000_000_000 + class * 1_000_000 + u64::from(serial);
    let check = 98 - code % 97 * 100 % 97;
    format!("330502-{class:04}-{serial:06}-{check:02}")
}

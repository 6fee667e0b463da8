//! A serial line to the city: a Modbus RTU server, the daemon, the broker and the subscriber are four programs, three of
//! them by people who never heard of us; a null-modem cable joins the first two.
//! Needs: pymodbus, mosquitto, mosquitto_sub (`cargo xtask setup`).

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ganglion_hil::peers::cable::Cable;
use ganglion_hil::peers::daemon::Daemon;
use ganglion_hil::peers::mosquitto::{Mosquitto, Subscriber};
use ganglion_hil::peers::pymodbus::{PymodbusRtu, Registers, Served, tick_of};
use ganglion_hil::peers::require;
use ganglion_hil::pki::Pki;
use ganglion_hil::received::{Keep, Observation, Received, Resource};
use ganglion_hil::site::{LineSettings, Parity};
use ganglion_hil::site_file::{SiteFile, resource};

const PRESENT: u8 = 1;
/// Absent for a while.
const ABSENT: u8 = 2;
const UNITS: [u8; 2] = [PRESENT, ABSENT];
const BAUD: u32 = 19_200;
/// Long for a busy machine.
const RESPONSE_TIMEOUT_MS: u16 = 1000;
/// Registers of each table.
const REGISTERS: u16 = 20;
/// Each unit is two resources: one of its holding registers and one of its input registers.
const TABLES: [(Registers, &str); 2] = [(Registers::Holding, "holding"), (Registers::Input, "input")];
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_serial_line_by_others_is_read_right_and_an_absent_unit_costs_its_neighbour_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let [near, far] = ["near", "far"].map(|name| folder.join(name));
    let line = LineSettings::new(&near, BAUD, Parity::None, 1);
    let cable = Cable::start(&line, &far).expect("a cable");
    let served = Served { units: 2, registers: REGISTERS };
    let server = PymodbusRtu::start(served, &far, BAUD, &folder.join("pymodbus.log"));
    let Some(_server) = require(server) else { return };
    let pki = Pki::create(folder).expect("certificates");
    let Some(broker) = require(Mosquitto::start(folder, &pki.ca, &pki.broker, &[])) else { return };
    let city = Subscriber::start(&broker, "city", "city/v1/#", &pki.ca, &pki.subscriber).expect("a subscriber");
    let config = write_site(folder, &line, broker.port(), &pki);
    let arguments = ["run".as_ref(), "--config".as_ref(), config.as_os_str()];
    let mut daemon = Daemon::start(arguments, &folder.join("ganglion.log")).expect("the daemon starts");

    let good = |unit| count(&city, unit, is_good);
    wait("five good observations of each unit", || UNITS.iter().all(|&unit| good(unit) >= 5));
    cable.set_absent(Some(ABSENT));
    wait("three timeouts", || count(&city, ABSENT, is_timeout) >= 3);
    let before = UNITS.map(good);
    wait("five good observations more of the neighbour", || good(PRESENT) >= before[0] + 5);
    assert_eq!(good(ABSENT), before[1], "nobody speaks for the absent unit");
    cable.set_absent(None);
    wait("five good observations more of the unit that is back", || good(ABSENT) >= before[1] + 5);

    let status = daemon.terminate(SOON).expect("it drains and ends");
    assert!(status.success(), "{status}: {}", daemon.printed().expect("its log"));
    let text = fs::read(folder.join("data/last-status.json")).expect("the last status");
    let status: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let streams = UNITS.iter().flat_map(|&unit| TABLES.map(|(table, _)| (unit, table)));
    for (unit, table) in streams {
        let id = id(unit, table);
        let last = status["resources"][&id]["last_seq"].as_u64().expect("its last number");
        wait("everything that was numbered", || received(&city).resource(&id).is_some_and(|it| it.lost(last) == 0));
        let received = received(&city);
        assert_eq!(received.violations(), [], "every message keeps the contract");
        let resource = received.resource(&id).expect("it was there a moment ago");
        assert_eq!((resource.highest(), resource.duplicates(), resource.reordered()), (last, 0, 0), "{id}");
        for observation in resource.observations().values() {
            if is_good(observation) {
                values_are_of_their_time(unit, table, observation);
            } else {
                assert!(unit == ABSENT && is_timeout(observation), "{id}: {observation:?}");
            }
        }
    }
}

/// All registers of an answer name one and the same tick, and it is the tick of the observation's time.
fn values_are_of_their_time(unit: u8, table: Registers, observation: &Observation) {
    let at: SystemTime = observation.t.parse::<jiff::Timestamp>().expect("RFC 3339").into();
    let since_1970 = at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let tick = u16::try_from(since_1970.as_millis() / 100 % 65_536).expect("16 bits");
    let named = |register| {
        let value = &observation.readings[&format!("vehicle_count.{}", register + 1)].value;
        let value = value.as_u64().and_then(|value| u16::try_from(value).ok()).expect("16 bits");
        tick_of(table, unit, register, value)
    };
    let ticks: Vec<u16> = (0..REGISTERS).map(named).collect();
    assert!(ticks.iter().all(|tick| *tick == ticks[0]), "unit {unit}, {table:?}: one answer, one tick: {ticks:?}");
    let age = tick.wrapping_sub(ticks[0]);
    // The time is that of the last answer, two requests after the first value; a tick is 100 ms.
    assert!(
        age <= 2 * RESPONSE_TIMEOUT_MS / 100,
        "unit {unit}, {table:?}: values {age} ticks older than {}",
        observation.t
    );
}

fn is_good(observation: &Observation) -> bool {
    observation.readings.values().all(|reading| reading.quality == "good")
}

fn is_timeout(observation: &Observation) -> bool {
    let timeout = |reason: &Option<String>| reason.as_deref() == Some("timeout");
    observation.readings.values().all(|reading| reading.value.is_null() && timeout(&reading.reason))
}

fn id(unit: u8, table: Registers) -> String {
    let place = match table {
        Registers::Holding => 1,
        Registers::Input => 2,
    };
    resource(330_502, 9401, u32::from(unit) * 10 + place)
}

/// How many such observations there are of both tables of a unit: of the one that has fewer.
fn count(city: &Subscriber, unit: u8, which: fn(&Observation) -> bool) -> usize {
    let received = received(city);
    let of = |of: &Resource| of.observations().values().filter(|&observation| which(observation)).count();
    let counts = TABLES.map(|(table, _)| received.resource(&id(unit, table)).map_or(0, of));
    counts.into_iter().min().unwrap_or(0)
}

fn received(city: &Subscriber) -> Received {
    let mut received = Received::new(Keep::All);
    for message in city.received().expect("its output") {
        received.message(&message.topic, message.payload.as_bytes(), SystemTime::now());
    }
    received
}

/// Waits until a condition holds.
#[track_caller]
fn wait(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn write_site(folder: &Path, line: &LineSettings, broker: u16, pki: &Pki) -> std::path::PathBuf {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut file = SiteFile::new(&configs, &folder.join("data"), broker, pki);
    file.templates = folder.join("templates");
    fs::create_dir(&file.templates).expect("a folder");
    let mut template = "[template]\nname = \"counters\"\nmaker = \"pymodbus\"\n\
                        document = \"hil-tests/python/pymodbus_site.py\"\n"
        .to_owned();
    for (_, table) in TABLES {
        template += &format!(
            "\n[[point]]\nproperty = \"vehicle_count\"\nresource = \"{table}\"\ntable = \"{table}\"\naddress = 0\n\
             type = \"u16\"\nunit = \"1\"\nchannels = {REGISTERS}\nstep = 1\n"
        );
    }
    fs::write(file.templates.join("counters.toml"), template).expect("the template");
    let mut site = file.to_toml();
    site += &format!(
        "\n[[bus]]\nname = \"line\"\nkind = \"serial\"\nport = {:?}\nbaud = {BAUD}\nparity = \"none\"\n\
         response_timeout_ms = {RESPONSE_TIMEOUT_MS}\nlate_reply_ms = 250\n",
        line.path,
    );
    for unit in UNITS {
        site += &format!(
            "\n[[bus.device]]\nname = \"counters-{unit}\"\nunit = {unit}\ntemplate = \"counters\"\n\
             poll_interval_ms = 400\n\n[bus.device.resources]\n",
        );
        for (table, name) in TABLES {
            site += &format!("{name} = \"{}\"\n", id(unit, table));
        }
    }
    let path = folder.join("site.toml");
    fs::write(&path, site).expect("the site file");
    path
}

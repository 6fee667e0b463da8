//! The bench of these tests: a line of simulated units, Mosquitto, a subscriber and the gateway.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ganglion_hil::gateway::{DATA, Gateway, Host, PORT, SITE_FILE};
use ganglion_hil::node::Traces;
use ganglion_hil::peers::mosquitto::Mosquitto;
use ganglion_hil::peers::{PeerError, require};
use ganglion_hil::pki::{Pair, Pki, Validity};
use ganglion_hil::received::{Keep, Observation, Received, Resource};
use ganglion_hil::site::{Line, LineSettings, Model, Parity, Tick, Unit, named_age};
use ganglion_hil::site_file::{BusEntry, DeviceEntry, LinkEntry, SiteFile, named_address, named_template, resource};
use ganglion_hil::subscriber::{Subscriber, Subscription};

/// Makes a gateway in a seat; what it prints is in the folder.
pub(crate) type Build<G> = fn(&Path, &Path) -> Result<G, PeerError>;

const UNITS: [u8; 3] = [1, 2, 3];
const REGISTERS: u16 = 10;
const MODEL: Model = Model::Named { registers: REGISTERS };
const BAUD: u32 = 9600;
const POLL_INTERVAL_MS: u32 = 500;
/// Longest wait for what should come at once; generous, for an emulated machine on a busy one is slow.
const SOON: Duration = Duration::from_secs(60);
/// Between two looks at what the gateway says.
const LOOK: Duration = Duration::from_millis(200);
/// Most ticks that a value may be older than its observation: a poll with its retries.
const OLDEST: u16 = 30;
/// Most ticks between the clocks of two machines: one of them starts at a whole second.
const CLOCKS: u16 = 20;

/// Emulated machines share the processor badly.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

pub(crate) struct Rig<G> {
    name: &'static str,
    pub(crate) gateway: G,
    pub(crate) broker: Mosquitto,
    subscriber: Subscriber,
    seat: PathBuf,
    _line: Line,
    // Dropped after whoever writes there.
    traces: Traces,
    _turn: MutexGuard<'static, ()>,
}

/// The last number of each resource.
pub(crate) type Numbers = BTreeMap<String, u64>;

impl<G: Gateway> Rig<G> {
    /// Starts everything for a test of the gateway that is called so; `None` when something is missing.
    pub(crate) fn start(name: &'static str, test: &str, build: Build<G>) -> Option<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let traces = Traces::begin(test).expect("a folder");
        let seat = traces.file("seat");
        fs::create_dir_all(seat.join("pki")).expect("a folder");
        let gateway = require(build(&seat, traces.folder()))?;
        let pki = Pki::create(&seat.join("pki")).expect("certificates");
        let names = ["localhost", "127.0.0.1", gateway.broker_host()];
        let identity = pki.issue("broker", &names, Validity::Now).expect("a certificate");
        let broker = Mosquitto::start(traces.folder(), &pki.ca, &identity, &["autosave_interval 1"]);
        let broker = require(broker)?;
        let subscription = Subscription {
            port: broker.port(),
            ca: &pki.ca,
            own: &pki.subscriber,
            client_id: "city",
            filter: "city/v1/#",
        };
        let subscriber = Subscriber::start(&subscription, Received::new(Keep::All)).expect("a subscriber");
        assert!(subscriber.wait_until_subscribed(SOON), "{:?}", subscriber.look(|view| view.last_error.clone()));
        let settings = LineSettings::new(&seat.join(PORT), BAUD, Parity::None, 1);
        let units = UNITS.map(|unit| Unit::new(unit, MODEL, u64::from(unit))).to_vec();
        let line = Line::start(settings.clone(), units).expect("a line");
        furnish(&seat, gateway.broker_host(), broker.port(), &pki, settings);
        let mut rig = Self { name, gateway, broker, subscriber, seat, _line: line, traces, _turn: turn };
        rig.power_on();
        Some(rig)
    }

    /// Turns the gateway's power on and waits until the daemon runs.
    #[track_caller]
    pub(crate) fn power_on(&mut self) {
        let took = self.gateway.start().unwrap_or_else(|error| panic!("{error}"));
        println!("{}: the daemon runs {:.1} s after its power came", self.name, took.as_secs_f64());
    }

    /// Returns the gateway of this machine in the same seat, its power off.
    pub(crate) fn host(&self) -> Host {
        Host::new(&self.seat, self.traces.folder()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until so many more good observations of every unit came.
    #[track_caller]
    pub(crate) fn expect_more(&self, more: usize) {
        let has = || self.subscriber.look(|view| resources().map(|(_, id)| good(&view.received, &id)));
        let wanted = has().map(|count| count + more);
        let came = self.subscriber.wait_until(SOON, |view| {
            resources().iter().zip(wanted).all(|((_, id), wanted)| good(&view.received, id) >= wanted)
        });
        assert!(came, "{:?} of {wanted:?} good observations came\n{}", has(), self.gateway.printed());
    }

    /// Waits until every number up to these came.
    #[track_caller]
    pub(crate) fn expect_numbers(&self, last: &Numbers) {
        let lost = |came: &Received| -> u64 {
            last.iter().map(|(id, &last)| came.resource(id).map_or(last, |resource| resource.lost(last))).sum()
        };
        let came = self.subscriber.wait_until(SOON, |view| lost(&view.received) == 0);
        let lost = self.subscriber.look(|view| lost(&view.received));
        assert!(came, "{lost} numbers of {last:?} did not come\n{}", self.gateway.printed());
    }

    /// Waits until so many more observations of every unit are durable than came to the subscriber; returns the number of the
    /// last durable one. For the gateway's first life, in which it counts from 1 as it numbers.
    #[track_caller]
    pub(crate) fn wait_until_durable(&mut self, more: u64) -> Numbers {
        let deadline = Instant::now() + SOON;
        let wanted = self.subscriber.look(|view| resources().map(|(_, id)| received(&view.received, &id) + more));
        loop {
            let status = self.gateway.status().unwrap_or_else(|error| panic!("{error}"));
            let durable = resources().map(|(_, id)| (status.resources.get(&id).map_or(0, |it| it.durable), id));
            if durable.iter().zip(wanted).all(|((durable, _), wanted)| *durable >= wanted) {
                return durable.map(|(durable, id)| (id, durable)).into();
            }
            assert!(Instant::now() < deadline, "{durable:?} of {wanted:?}\n{}", self.gateway.printed());
            std::thread::sleep(LOOK);
        }
    }

    /// Ends the gateway in order, and checks what it leaves against what came: each number once, with a value that its
    /// register had then.
    #[track_caller]
    pub(crate) fn ends_in_order_and_all_of_it_came(&mut self) {
        let printed = self.gateway.printed();
        let status = self.gateway.stop().unwrap_or_else(|error| panic!("{error}\n{printed}"));
        let last: Numbers = status.resources.iter().map(|(id, counts)| (id.clone(), counts.last_seq)).collect();
        assert_eq!(last.keys().cloned().collect::<Vec<_>>(), resources().map(|(_, id)| id), "every unit is a resource");
        self.expect_numbers(&last);
        self.subscriber.look(|view| {
            assert_eq!(view.received.violations(), [], "every message keeps the contract");
            for (unit, id) in resources() {
                let resource = view.received.resource(&id).expect("observations");
                assert_eq!(resource.highest(), last[&id], "{id}: numbers that the gateway did not give");
                assert!(resource.conflicting().is_empty(), "{id}: two contents for {:?}", resource.conflicting());
                assert_eq!(resource.reordered(), 0, "{id}");
                assert_eq!(false_values(resource, unit), Vec::<String>::new(), "{id}");
            }
        });
        for (id, counts) in &status.resources {
            assert_eq!((counts.dropped, counts.delivered >= counts.sampled), (0, true), "{id}: {counts:?}");
        }
    }
}

/// Returns the units and what they observe.
fn resources() -> [(u8, String); UNITS.len()] {
    UNITS.map(|unit| (unit, resource(330_502, 9401, u32::from(unit))))
}

fn received(came: &Received, id: &str) -> u64 {
    came.resource(id).map_or(0, Resource::received)
}

/// Returns how many observations came with every value good. A poll may fail on a busy machine, and is told as that.
fn good(came: &Received, id: &str) -> usize {
    let is_good = |it: &&Observation| it.readings.values().all(|reading| reading.quality == "good");
    came.resource(id).map_or(0, |resource| resource.observations().values().filter(is_good).count())
}

/// Returns the values called good that the register did not have when it was read.
fn false_values(resource: &Resource, unit: u8) -> Vec<String> {
    let mut wrong = Vec::new();
    for observation in resource.observations().values() {
        let tick = Tick::at(time(observation));
        for (property, reading) in observation.readings.iter().filter(|(_, reading)| reading.quality == "good") {
            let value = reading.value.as_u64().and_then(|value| u16::try_from(value).ok());
            let age = named_address(property).zip(value).map(|(at, value)| named_age(unit, at, value, tick));
            // Behind a clock that is ahead, ages wrap around zero.
            if age.is_none_or(|age| age.wrapping_add(CLOCKS) > OLDEST + 2 * CLOCKS) {
                wrong.push(format!("{property} {} at {}", reading.value, observation.t));
            }
        }
    }
    wrong
}

fn time(observation: &Observation) -> SystemTime {
    observation.t.parse::<jiff::Timestamp>().expect("RFC 3339").into()
}

/// Puts into the seat what an engineer brings: site file, template and code directory. All paths are relative to the seat.
fn furnish(seat: &Path, broker_host: &str, broker_port: u16, pki: &Pki, mut line: LineSettings) {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    for folder in ["directory", "templates"] {
        fs::create_dir(seat.join(folder)).expect("a folder");
    }
    for entry in fs::read_dir(configs.join("directory")).expect("the code directory") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), seat.join("directory").join(entry.file_name())).expect("copied");
    }
    let template = named_template(MODEL, 0..REGISTERS, &[]);
    fs::write(seat.join("templates").join(format!("{MODEL}.toml")), template).expect("written");
    let mut file = SiteFile::new(Path::new(""), Path::new(DATA), broker_port, pki);
    let key_file = |name: &str| Path::new("pki").join(name);
    broker_host.clone_into(&mut file.broker.host);
    file.broker.ca = key_file("ca.pem");
    file.broker.own = Pair { certificate: key_file("gateway.pem"), key: key_file("gateway.key") };
    // So little that the smallest disk has it: then how long the buffer lasts is no question of the machine.
    file.buffer = vec!["max_bytes = 16_777_216".to_owned(), "segment_bytes = 1_048_576".to_owned()];
    line.path = PORT.into();
    let device = |(unit, id): (u8, String)| DeviceEntry {
        name: format!("unit-{unit}"),
        unit,
        model: MODEL,
        resources: vec![(String::new(), id)],
        poll_interval_ms: POLL_INTERVAL_MS,
    };
    file.buses = vec![BusEntry {
        name: "line".to_owned(),
        link: LinkEntry::Serial { line, late_reply_ms: 1000 },
        response_timeout_ms: 500,
        settings: Vec::new(),
        devices: resources().map(device).into(),
    }];
    fs::write(seat.join(SITE_FILE), file.to_toml()).expect("written");
}

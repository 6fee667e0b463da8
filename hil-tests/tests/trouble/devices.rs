//! Devices and wires misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ganglion_hil::received::Resource;
use ganglion_hil::site::{Fault, Line, Model, Tick, Unit};
use ganglion_hil::site_file::LinkEntry;

use crate::rig::{Rig, device_name};

/// Share of the answers that are spoiled: so many that asking again does not help each time.
const SHARE: f64 = 0.6;
/// How late a late answer is: later than `WINDOW`, so that one taken for another request's shows.
const LATE: Duration = Duration::from_millis(900);
/// How long before its time an observation's values may have been true: a request and its answer.
const WINDOW: Duration = Duration::from_millis(600);
/// Times that each fault must happen.
const OFTEN: u64 = 5;

/// The faulty unit and its healthy neighbor on one wire.
struct Pair {
    bus: String,
    fault: Fault,
    faulty: Arc<Unit>,
    neighbor: Arc<Unit>,
}

impl Pair {
    fn new(kind: &str, fault: Fault) -> Self {
        // The neighbor has the next unit id: a wrong unit's answer looks like its own.
        let (faulty, neighbor) = (Unit::new(1, Model::FlowMeter, 77), Unit::new(2, Model::FlowMeter, 78));
        faulty.faults.set(fault, SHARE);
        faulty.faults.set_late(LATE);
        Self { bus: format!("{kind}-{fault}"), fault, faulty, neighbor }
    }

    fn units(&self) -> Vec<Arc<Unit>> {
        vec![Arc::clone(&self.faulty), Arc::clone(&self.neighbor)]
    }
}

/// Returns the reasons that may be given for a fault; the first must be given at least once.
fn reasons(fault: Fault, serial: bool) -> &'static [&'static str] {
    match fault {
        Fault::Drop | Fault::Late => &["timeout"],
        Fault::Exception => &["exception-06"],
        // An answer to another transaction is a late one, however early it comes.
        Fault::WrongTransaction => &["timeout"],
        Fault::WrongUnit => &["wrong-reply"],
        Fault::WrongLength => &["wrong-length"],
        Fault::Truncated => &["malformed", "timeout"],
        Fault::Flip if serial => &["malformed", "timeout", "wrong-reply"],
        Fault::Flip => &["malformed", "wrong-reply", "timeout", "wrong-length", "disconnected"],
        Fault::Garbage | Fault::Echo => &["", "timeout", "malformed", "wrong-reply", "wrong-length", "disconnected"],
    }
}

#[test]
fn every_fault_of_a_device_is_bad_with_its_reason_and_no_good_value_is_ever_false() {
    let mut rig = Rig::new();
    one_request(&rig);
    let tcp: Vec<Pair> = Fault::ALL.map(|fault| Pair::new("tcp", fault)).into();
    let serial = Fault::ALL.into_iter().filter(|fault| *fault != Fault::WrongTransaction);
    let serial: Vec<Pair> = serial.map(|fault| Pair::new("rtu", fault)).collect();
    let undisturbed = Unit::new(1, Model::FlowMeter, 5);
    let _endpoints: Vec<_> = tcp.iter().map(|pair| rig.add_tcp(&pair.bus, pair.units(), 200)).collect();
    let _lines: Vec<Line> = serial.iter().map(|pair| rig.add_line(&pair.bus, pair.units(), 200)).collect();
    let _calm = rig.add_tcp("calm", vec![Arc::clone(&undisturbed)], 200);
    let Some(mut running) = rig.start() else { return };
    let start = running.status();
    let begun = Instant::now();
    let pairs = || tcp.iter().chain(&serial);
    let happened = |pair: &Pair| pair.faulty.faults.counts().get(&pair.fault).copied().unwrap_or_default();
    let status = running.wait_for("faults", |status| {
        pairs().all(|pair| {
            let serial = pair.bus.starts_with("rtu");
            let harmless = reasons(pair.fault, serial).contains(&"");
            happened(pair) >= OFTEN && (harmless || status.devices[&device_name(&pair.bus, 1)].failed_polls >= OFTEN)
        })
    });
    let took = begun.elapsed();
    let polls = |device: &str| status.devices[device].polls - start.devices[device].polls;
    let slots = took.as_millis() / 200;
    let calm = polls(&device_name("calm", 1));
    // Half, for the machine may be busy; a bus that waited for others would have a timeout for nearly every poll.
    assert!(u128::from(calm) * 2 >= slots, "{calm} polls of {slots} beside the trouble");
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);

    rig.subscriber.look(|view| {
        for (pair, serial) in tcp.iter().map(|pair| (pair, false)).chain(serial.iter().map(|pair| (pair, true))) {
            let of = |unit: &Unit| view.received.resource(&rig.resource_of(&pair.bus, unit)).expect("observations");
            let (faulty, neighbor) = (reasons_given(of(&pair.faulty)), reasons_given(of(&pair.neighbor)));
            assert!(neighbor.is_empty(), "{}: the neighbor suffers: {neighbor:?}", pair.bus);
            let allowed = reasons(pair.fault, serial);
            let foreign = faulty.keys().find(|reason| !allowed.contains(&reason.as_str()));
            assert_eq!(foreign, None, "{}: {faulty:?}", pair.bus);
            let expected = allowed.first().copied().unwrap_or_default();
            assert!(expected.is_empty() || faulty.contains_key(expected), "{}: no {expected}: {faulty:?}", pair.bus);
            for unit in [&pair.faulty, &pair.neighbor] {
                let false_ones = false_readings(unit, of(unit));
                assert!(false_ones.is_empty(), "{}: unit {}: {false_ones:?}", pair.bus, unit.id);
                assert!(of(unit).received() >= 5, "{}: unit {} is polled on", pair.bus, unit.id);
            }
        }
    });
}

/// Leaves the flow meter its flow only, so that a poll is one request and the time of its answer that of the value.
fn one_request(rig: &Rig) {
    let path = rig.file.templates.join("ultrasonic-flow-meter.toml");
    let text = fs::read_to_string(&path).expect("the template");
    let flow: Vec<&str> = text.split("[[point]]").take(2).collect();
    assert!(flow.last().is_some_and(|point| point.contains("\"flow\"")), "{text}");
    fs::write(path, flow.join("[[point]]")).expect("the template");
}

/// Counts the reasons of readings that are not good; each names one, and none is without.
fn reasons_given(resource: &Resource) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::new();
    for reading in resource.observations().values().flat_map(|observation| observation.readings.values()) {
        if reading.quality != "good" {
            assert_eq!(reading.quality, "bad", "{reading:?}");
            assert!(reading.value.is_null(), "{reading:?}");
            let reason = reading.reason.clone().expect("a reason");
            *reasons.entry(reason).or_default() += 1;
        }
    }
    reasons
}

/// Returns the good readings that the unit did not show just before the observation's time.
fn false_readings(unit: &Unit, resource: &Resource) -> BTreeSet<String> {
    let mut wrong = BTreeSet::new();
    for observation in resource.observations().values() {
        let t: SystemTime = observation.t.parse::<jiff::Timestamp>().expect("RFC 3339").into();
        let (since, until) = (Tick::at(t - WINDOW), Tick::at(t));
        for (name, reading) in observation.readings.iter().filter(|(_, reading)| reading.quality == "good") {
            let value = reading.value.as_f64().expect("a number");
            if unit.model.ever_had(unit.seed, ("", name), value, since, until) != Some(true) {
                wrong.insert(format!("{name} {value} at {}", observation.t));
            }
        }
    }
    wrong
}

#[test]
fn an_adapter_that_is_pulled_is_bad_and_disconnected_and_good_again_when_it_is_back() {
    let mut rig = Rig::new();
    let on_line = Unit::new(1, Model::FlowMeter, 3);
    let beside = Unit::new(1, Model::FlowMeter, 4);
    let line = rig.add_line("adapter", vec![Arc::clone(&on_line)], 100);
    let _endpoint = rig.add_tcp("beside", vec![Arc::clone(&beside)], 100);
    let Some(mut running) = rig.start() else { return };
    let (name, other) = (device_name("adapter", 1), device_name("beside", 1));
    for _ in 0..2 {
        running.wait_for("answer", |status| status.devices[&name].healthy);
        line.unplug().expect("pulled");
        let pulled = running.wait_for("silence", |status| !status.devices[&name].healthy);
        let polls = pulled.devices[&name].polls + 5;
        running.wait_for("polls without an adapter", |status| status.devices[&name].polls >= polls);
        line.plug().expect("plugged");
    }
    running.wait_for("answer", |status| status.devices[&name].healthy && status.devices[&other].healthy);
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
    rig.subscriber.look(|view| {
        let of = |bus: &str, unit| view.received.resource(&rig.resource_of(bus, unit)).expect("observations");
        let given = reasons_given(of("adapter", &on_line));
        assert!(given.contains_key("disconnected"), "{given:?}");
        assert_eq!(reasons_given(of("beside", &beside)), BTreeMap::new(), "the other bus is not harmed");
        assert_eq!(false_readings(&on_line, of("adapter", &on_line)), BTreeSet::new());
    });
}

/// Every byte comes before the timeout that would notice its absence; the answer as a whole comes never.
#[test]
fn a_server_that_sends_a_byte_now_and_then_has_no_values_and_harms_nobody() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    // Ends with the test's program: it waits for the daemon and for nothing else.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut request = [0; 12];
                stream.read_exact(&mut request)?;
                let reply = [&request[..4], &[0, 9, 1, 3, 6, 0, 1, 0, 2, 0, 3]].concat();
                reply.iter().try_for_each(|byte| {
                    std::thread::sleep(Duration::from_millis(100));
                    stream.write_all(&[*byte])
                })
            });
        }
    });
    let mut rig = Rig::new();
    let (slow, beside) = (Unit::new(1, Model::PressureTransmitter, 3), Unit::new(1, Model::FlowMeter, 4));
    rig.add_bus("slow", LinkEntry::Tcp { port }, &[Arc::clone(&slow)], 100);
    let _endpoint = rig.add_tcp("beside", vec![Arc::clone(&beside)], 100);
    let Some(mut running) = rig.start() else { return };
    running.wait_for("polls", |status| status.devices[&device_name("slow", 1)].polls >= 5);
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
    rig.subscriber.look(|view| {
        let of = |bus: &str, unit| view.received.resource(&rig.resource_of(bus, unit)).expect("observations");
        let given: Vec<String> = reasons_given(of("slow", &slow)).into_keys().collect();
        let allowed = ["disconnected", "malformed", "timeout"];
        assert!(!given.is_empty() && given.iter().all(|reason| allowed.contains(&reason.as_str())), "{given:?}");
        assert_eq!(reasons_given(of("beside", &beside)), BTreeMap::new());
    });
}

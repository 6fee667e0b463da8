//! The daemon is killed, started twice, or told nonsense.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ganglion_hil::site::{Model, Unit};

use crate::rig::{Rig, SOON, Status};

const KILLS: u32 = 15;

/// Numbers up to these are durable: whatever was accepted after them is not yet.
fn durable_seq(status: &Status) -> impl Iterator<Item = (&String, u64)> {
    status.resources.iter().map(|(id, ledger)| (id, ledger.last_seq - (ledger.accepted - ledger.durable)))
}

#[test]
fn nothing_durable_is_lost_or_reordered_by_fifteen_kills_while_the_broker_comes_and_goes() {
    let mut random = fastrand::Rng::with_seed(15);
    let (mut rig, _site) = Rig::with_bench(4, 20, 50);
    rig.file.buffer.push("segment_bytes = 262144".to_owned());
    let mut promised = BTreeMap::<String, u64>::new();
    let mut seen = 0;
    for kill in 0..KILLS {
        if random.bool() {
            rig.broker.cut()
        } else {
            rig.broker.restore().expect("the broker is back")
        }
        let Some(mut running) = rig.launch() else { return };
        std::thread::sleep(Duration::from_millis(random.u64(50..2000)));
        // Not yet listening is a moment to be killed at as well.
        let told = running.ask().ok();
        running.daemon.kill().expect("killed");
        let Some(told) = told else { continue };
        seen += 1;
        for (id, durable) in durable_seq(&told) {
            let before = promised.insert(id.clone(), durable).unwrap_or_default();
            assert!(durable >= before, "kill {kill}: {id} had {before} durable and now {durable}");
        }
    }
    assert!(seen > 5 && promised.values().sum::<u64>() > 100, "{seen} of {KILLS} told {promised:?}");
    rig.broker.restore().expect("the broker is back");
    let Some(mut running) = rig.start() else { return };
    running.expect_line("uplink connected");
    running.wait_until_durable(1);
    let last_seq = running.stop();
    for (id, durable) in &promised {
        assert!(last_seq.get(id) >= Some(durable), "{id}: {durable} was durable, the last is {last_seq:?}");
    }
    rig.expect_everything(&last_seq);
}

#[test]
fn a_second_daemon_on_the_same_data_is_refused_by_the_first_ones_number_and_the_first_goes_on() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    let Some(mut first) = rig.start() else { return };
    first.wait_until_durable(5);
    let Some(mut second) = rig.launch() else { return };
    let status = second.daemon.wait_for_end(SOON).expect("it ends");
    assert_eq!(status.code(), Some(1), "{}", second.log());
    let process = format!("process {} already holds", first.daemon.pid());
    assert!(second.log().contains(&process), "{}", second.log());
    first.wait_until_durable(5);
    let last_seq = first.stop();
    rig.expect_everything(&last_seq);
}

#[test]
fn nonsense_in_the_site_file_is_one_report_of_every_error_with_its_place_and_nothing_starts() {
    let mut rig = Rig::new();
    let units = [1, 2].map(|id| Unit::new(id, Model::PressureTransmitter, 1));
    let _site = rig.add_tcp("bench", units.to_vec(), 1000);
    for device in &mut rig.file.buses[0].devices {
        device.unit = 1;
    }
    // The last check digit of the second device is wrong.
    let resource = &mut rig.file.buses[0].devices[1].resources[0].1;
    let last = resource.pop().and_then(|digit| digit.to_digit(10)).expect("a digit");
    resource.push_str(&((last + 1) % 10).to_string());
    let template = rig.file.templates.join("pressure-transmitter.toml");
    let text = fs::read_to_string(&template).expect("the template");
    let text = text.replacen("address = 1\n", "address = 0\n", 1).replacen("address = 2\n", "address = 70000\n", 1);
    fs::write(&template, text).expect("the template");
    let Some(mut running) = rig.launch() else { return };
    let status = running.daemon.wait_for_end(SOON).expect("it ends");
    let log = running.log();
    assert_eq!(status.code(), Some(2), "{log}");
    for (what, file) in [
        ("unit 1", "site.toml"),
        ("check", "site.toml"),
        ("overlap", "pressure-transmitter.toml"),
        ("70000", "pressure-transmitter.toml"),
    ] {
        assert!(is_placed(&log, what, file), "{what:?} with line and column of {file} in\n{log}");
    }
    assert!(!rig.file.data_dir.exists(), "nothing was started");
}

/// Says whether an error that says `what` points into `file` with line and column.
fn is_placed(log: &str, what: &str, file: &str) -> bool {
    log.split("error").skip(1).any(|report| {
        let place = report.split_once(&format!("{file}:")).map(|(_, place)| place);
        let mut numbers = place.into_iter().flat_map(|place| place.split([':', '\n', ' '])).take(2);
        report.contains(what) && place.is_some() && numbers.all(|number| number.parse::<u32>().is_ok())
    })
}

#[test]
fn readers_of_the_status_that_stall_cost_nobody_anything() {
    let (mut rig, _site) = Rig::with_bench(4, 10, 50);
    let Some(mut running) = rig.start() else { return };
    running.wait_until_durable(5);
    let socket = rig.file.data_dir.join("status.sock");
    let _stalled: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(&socket).expect("it listens")).collect();
    let asked = Instant::now();
    running.wait_until_durable(100);
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?} for 100 observations", asked.elapsed());
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
}

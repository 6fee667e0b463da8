//! Servers by others that refuse long reads and have holes: the daemon is told nothing of it and learns it.
//! Needs: pymodbus, a C compiler and libmodbus (`cargo xtask setup`).

use std::time::Duration;

use ganglion_hil::bench::bus::layout::{Block, optimum};
use ganglion_hil::peers::cable::Cable;
use ganglion_hil::peers::libmodbus::{Libmodbus, Unit};
use ganglion_hil::peers::pymodbus::{Pymodbus, PymodbusRtu, Served};
use ganglion_hil::peers::quirks::{Asked, Quirks, asked};
use ganglion_hil::peers::require;
use ganglion_hil::received::Observation;
use ganglion_hil::site_file::{LinkEntry, named_property};

use crate::rig::{LATE_REPLY_MS, Rig, Stream};

const UNIT: u8 = 1;
const REGISTERS: u16 = 100;
const BAUD: u32 = 19_200;

/// Polls in which the learning must have come to its end.
const LEARNT_AFTER: usize = 10;

/// Polls that are watched afterwards.
const WATCHED: usize = 10;

fn quirks(too_long: u8) -> Quirks {
    Quirks { longest: 16, too_long, holes: vec![20..=21, 50..=50, 70..=79] }
}

/// What the site asks for: runs longer than 16, some of it not there.
fn wanted() -> Vec<u16> {
    (0..50).chain(51..61).chain([75]).collect()
}

fn is_there(address: u16) -> bool {
    quirks(0).allow(address, 1)
}

/// Polls until it is learnt and watched, and judges. `printed` is what the server printed so far.
fn expect_learnt(rig: &Rig, stream: &Stream, mut printed: impl FnMut() -> String) {
    let Some(running) = rig.start() else { return };
    let polls = |rig: &Rig| rig.look(stream, |all| all.count());
    rig.expect("polls to learn from", |rig| polls(rig) > LEARNT_AFTER);
    let learning = asked(&printed()).len();
    rig.expect("polls to watch", |rig| polls(rig) > LEARNT_AFTER + 1 + WATCHED);
    let last_seq = running.stop();
    rig.expect_everything_and_nothing_false(std::slice::from_ref(stream), &last_seq);
    rig.look(stream, |all| all.skip(LEARNT_AFTER).for_each(expect_complete));

    let all = asked(&printed());
    let watched = whole_polls(&all[learning..]);
    assert!(watched.len() >= WATCHED - 2, "{} polls of {all:?}", watched.len());
    let cost = |block: Block| quirks(0).allow(block.address, block.count).then_some(Duration::from_millis(1));
    let there: Vec<u16> = wanted().into_iter().filter(|&address| is_there(address)).collect();
    let fewest = optimum(&there, cost).blocks.len();
    for poll in &watched {
        assert!(poll.iter().all(|read| read.exception.is_none()), "nothing is refused any more: {poll:?}");
        assert_eq!(poll.len(), fewest, "as few requests as there can be: {poll:?}");
        assert_eq!(poll, &watched[0], "the requests are always the same");
    }
}

/// Every register that is there is good, every other one is refused.
fn expect_complete(observation: &Observation) {
    for address in wanted() {
        let reading = &observation.readings[&named_property(address)];
        if is_there(address) {
            assert_eq!(reading.quality, "good", "{address}: {reading:?}");
        } else {
            let said = (reading.quality.as_str(), reading.reason.as_deref());
            assert_eq!(said, ("bad", Some("exception-02")), "{address}: {reading:?}");
        }
    }
}

/// Cuts reads into polls, which begin at address 0; what is before the first beginning and after the last one is no whole
/// poll.
fn whole_polls(reads: &[Asked]) -> Vec<Vec<Asked>> {
    let begins: Vec<usize> = (0..reads.len()).filter(|&place| reads[place].address == 0).collect();
    begins.windows(2).map(|pair| reads[pair[0]..pair[1]].to_vec()).collect()
}

/// Adds the only bus with its only unit.
fn add_bus(rig: &mut Rig, link: LinkEntry, poll_interval_ms: u32) -> Stream {
    rig.add_bus(link, [UNIT], poll_interval_ms).remove(0)
}

#[test]
fn a_libmodbus_server_over_tcp_is_read_in_as_few_requests_as_its_limits_allow() {
    let mut rig = Rig::new(wanted());
    let unit = Unit { id: UNIT, registers: REGISTERS, quirks: quirks(3) };
    let Some(mut server) = require(Libmodbus::tcp(&unit, rig.folder())) else { return };
    let port = server.address().expect("an address").port();
    let stream = add_bus(&mut rig, LinkEntry::Tcp { port }, 200);
    expect_learnt(&rig, &stream, || server.process().printed().expect("its output"));
}

#[test]
fn a_libmodbus_server_on_a_serial_line_is_read_in_as_few_requests_as_its_limits_allow() {
    let mut rig = Rig::new(wanted());
    let (near, far) = (rig.settings("near", BAUD), rig.folder().join("far"));
    let _cable = Cable::start(&near, &far).expect("a cable");
    let unit = Unit { id: UNIT, registers: REGISTERS, quirks: quirks(2) };
    let Some(mut server) = require(Libmodbus::rtu(&unit, &far, BAUD, rig.folder())) else { return };
    let stream = add_bus(&mut rig, LinkEntry::Serial { line: near, late_reply_ms: LATE_REPLY_MS }, 600);
    expect_learnt(&rig, &stream, || server.process().printed().expect("its output"));
}

#[test]
fn a_pymodbus_server_over_tcp_is_read_in_as_few_requests_as_its_limits_allow() {
    let mut rig = Rig::new(wanted());
    let served = Served { units: 1, registers: REGISTERS };
    let server = Pymodbus::start_quirky(served, &quirks(2), &rig.folder().join("pymodbus.log"));
    let Some(mut server) = require(server) else { return };
    let stream = add_bus(&mut rig, LinkEntry::Tcp { port: server.address().port() }, 200);
    expect_learnt(&rig, &stream, || server.process().printed().expect("its output"));
}

#[test]
fn a_pymodbus_server_on_a_serial_line_is_read_in_as_few_requests_as_its_limits_allow() {
    let mut rig = Rig::new(wanted());
    let (near, far) = (rig.settings("near", BAUD), rig.folder().join("far"));
    let _cable = Cable::start(&near, &far).expect("a cable");
    let served = Served { units: 1, registers: REGISTERS };
    let server = PymodbusRtu::start_quirky(served, &quirks(3), &far, BAUD, &rig.folder().join("pymodbus.log"));
    let Some(mut server) = require(server) else { return };
    let stream = add_bus(&mut rig, LinkEntry::Serial { line: near, late_reply_ms: LATE_REPLY_MS }, 600);
    expect_learnt(&rig, &stream, || server.process().printed().expect("its output"));
}

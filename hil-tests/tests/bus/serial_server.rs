//! A line behind a serial server: Modbus RTU over TCP, called by the daemon or calling it.

use std::time::Duration;

use ganglion_hil::peers::free_port;
use ganglion_hil::site::{Call, Dtu, Line, LineSettings, Unit};
use ganglion_hil::site_file::{EndpointEntry, LinkEntry};

use crate::rig::{LATE_REPLY_MS, MODEL, Rig, Running, Stream};

const UNITS: [u8; 2] = [1, 2];
const BAUD: u32 = 19_200;

/// The line behind the serial server.
fn line(rig: &Rig) -> (Line, LineSettings) {
    let settings = rig.settings("behind", BAUD);
    let units = UNITS.map(|id| Unit::new(id, MODEL, 5)).to_vec();
    (Line::start(settings.clone(), units).expect("a line"), settings)
}

fn add_bus(rig: &mut Rig, endpoint: EndpointEntry, line: LineSettings) -> Vec<Stream> {
    let link = LinkEntry::RtuOverTcp { endpoint, line, late_reply_ms: LATE_REPLY_MS };
    rig.add_bus(link, UNITS, 200)
}

/// The connection ends and is there again, twice.
fn expect_reconnections(rig: &Rig, dtu: &Dtu, streams: &[Stream], running: Running) {
    rig.expect_good(streams, 10);
    for _ in 0..2 {
        let before = dtu.connections();
        dtu.hang_up();
        rig.expect("another connection", |_| dtu.connections() > before);
        rig.expect_good(streams, 10);
    }
    let last_seq = running.stop();
    rig.expect_everything_and_nothing_false(streams, &last_seq);
}

#[test]
fn a_serial_server_is_called_and_called_again_when_it_hangs_up() {
    let mut rig = Rig::new(0..20);
    let (line, settings) = line(&rig);
    let dtu = Dtu::listen(line.path()).expect("a port");
    let streams = add_bus(&mut rig, EndpointEntry::Connect(dtu.port()), settings);
    let Some(running) = rig.start() else { return };
    expect_reconnections(&rig, &dtu, &streams, running);
}

/// Its registration packet and its heartbeats come between and inside the answers, as a DTU sends them.
#[test]
fn a_serial_server_that_calls_is_served_with_its_registration_and_its_heartbeats() {
    let mut rig = Rig::new(0..20);
    let (line, settings) = line(&rig);
    let port = free_port().expect("a port");
    let streams = add_bus(&mut rig, EndpointEntry::Listen(port), settings);
    let call = Call {
        gateway: ([127, 0, 0, 1], port).into(),
        registration: b"866012345678901".to_vec(),
        heartbeat: Some((b"HEART".to_vec(), Duration::from_millis(700))),
    };
    let dtu = Dtu::call(line.path(), call).expect("a thread");
    let Some(running) = rig.start() else { return };
    expect_reconnections(&rig, &dtu, &streams, running);
}

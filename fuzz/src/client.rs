//! What a client hears: any bytes, in any lumps, at any time, during an exchange and beside one.

use std::time::Duration;

use ganglion_drivers::client::{Client, Framing, Outcome, Timing};
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::modbus::{UnitId, tcp};

const TIMING: Timing = Timing {
    character: Duration::from_millis(1),
    gap: Duration::from_millis(4),
    late_reply: Duration::from_millis(300),
    answer_slack: Duration::from_millis(50),
};

/// Requests of every kind a client sends.
const REQUESTS: [&[u8]; 8] = [
    &[0x03, 0, 0, 0, 2],
    &[0x01, 0, 0, 0, 19],
    &[0x06, 0, 1, 0, 3],
    &[0x10, 0, 1, 0, 1, 2, 0, 7],
    &[0x17, 0, 0, 0, 1, 0, 1, 0, 1, 2, 0, 7],
    &[0x11],
    &[0x2B, 0x0E, 1, 0],
    &[0x41, 1, 2],
];

const UNIT: UnitId = UnitId(1);

/// The first byte chooses framing and request; then come steps of a length, a pause in milliseconds and bytes. Whatever
/// is heard, the exchange ends, and what is believed was heard.
pub(crate) fn run(input: &[u8]) {
    let Some((&choice, mut rest)) = input.split_first() else { return };
    let framing = if choice & 0x80 == 0 { Framing::Rtu(TIMING) } else { Framing::Tcp };
    let request = REQUESTS[usize::from(choice) % REQUESTS.len()];
    let mut client = Client::new(Duration::ZERO, framing);
    let mut now = client.usable_at(UNIT, request);
    let mut heard = Vec::new();
    client.start(now, UNIT, request, Duration::from_millis(100)).expect("the line is free");
    while let Some(([length, pause], after)) = rest.split_first_chunk::<2>() {
        now += Duration::from_millis(u64::from(*pause));
        let (bytes, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        heard.extend_from_slice(bytes);
        if let Some(outcome) = client.handle_bytes(now, bytes) {
            believed(&client, framing, outcome, &heard);
        }
        if let Some(outcome) = client.handle_timeout(now) {
            believed(&client, framing, outcome, &heard);
        }
    }
    for _ in 0..1000 {
        let Some(due) = client.poll_timeout() else { return };
        now = now.max(due);
        if let Some(outcome) = client.handle_timeout(now) {
            believed(&client, framing, outcome, &heard);
        }
    }
    panic!("the exchange never ends");
}

fn believed(client: &Client, framing: Framing, outcome: Outcome, heard: &[u8]) {
    if !matches!(outcome, Outcome::Answered { .. }) {
        return;
    }
    let mut frame = [&[UNIT.0], client.answer()].concat();
    if framing != Framing::Tcp {
        frame.extend(crc(&frame).to_le_bytes());
    }
    assert!(heard.windows(frame.len()).any(|window| window == frame), "believed and never heard: {frame:02X?}");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let answers: [&[u8]; 8] = [
        &[0x03, 4, 1, 2, 3, 4],
        &[0x01, 3, 0xCD, 0x6B, 0x05],
        &[0x06, 0, 1, 0, 3],
        &[0x10, 0, 1, 0, 1],
        &[0x17, 2, 0, 9],
        &[0x11, 2, 7, 0xFF],
        &[0x2B, 0x0E, 1, 1, 0, 0, 1, 0, 1, b'G'],
        &[0xC1, 1],
    ];
    let mut seeds = Vec::new();
    for (choice, pdu) in (0_u8..).zip(answers) {
        let mut rtu = [&[UNIT.0], pdu].concat();
        rtu.extend(crc(&rtu).to_le_bytes());
        let mut buffer = [0; tcp::MAX_FRAME];
        let length = tcp::Frame::emit(1, UNIT, pdu, &mut buffer).expect("a short frame");
        for (framing, frame) in [(0, rtu.as_slice()), (0x80, &buffer[..length])] {
            let length = u8::try_from(frame.len()).expect("a short frame");
            seeds.push([&[framing | choice, length, 30], frame].concat());
        }
    }
    seeds
}

//! Ten million bytes that nobody would send, into both faces: no panic, and the next good frame of each is answered.

use std::time::Duration;

use ganglion_node::Wish;
use ganglion_protocols::node_link::{Answer, Ask, Command, FirmwareAsk, Head, Speaker, VERSION};
use ganglion_protocols::node_settings::NodeSettings;

use super::rig::{Rig, question, rtu};

const BYTES: usize = 10_000_000;
/// A burst of garbage, in bytes at most.
const BURST: usize = 700;

/// What came of it.
#[derive(Default, Debug)]
struct Totals {
    bytes: usize,
    bursts: usize,
    pieces: usize,
    link_second: usize,
    modbus_second: usize,
    silenced: usize,
    answers: usize,
    wishes: usize,
}

/// Good frames of both faces, to spoil.
fn frames() -> Vec<Vec<u8>> {
    let asks = [
        Ask::Who { salt: 3, slots: 8, slot_ms: 40, all: true },
        Ask::Describe,
        Ask::Channel { index: 1 },
        Ask::Fetch { ack: None, most: 9 },
        Ask::Time { utc_ms: Some(1_790_000_000_000), error_ms: 5, epoch: 3 },
        Ask::Do { id: 5, command: Command::Set { key: 20, value: 3 } },
        Ask::Do { id: 6, command: Command::Get { key: 20 } },
        Ask::Log { from: 0 },
        Ask::Firmware(FirmwareAsk::Begin { header: &[0x47; 160], downgrade: false }),
        Ask::Firmware(FirmwareAsk::Write { offset: 160, data: &[0x55; 64] }),
    ];
    let pdus: [&[u8]; 12] = [
        &[0x01, 0, 0, 0, 3],
        &[0x02, 0, 0, 0, 2],
        &[0x03, 0, 0, 0, 9],
        &[0x04, 0, 0, 0, 28],
        &[0x05, 0, 0, 0xFF, 0],
        &[0x06, 0, 4, 0, 30],
        &[0x08, 0, 0, 1, 2],
        &[0x10, 0, 16, 0, 2, 4, 0, 0, 0, 1],
        &[0x15, 9, 6, 0, 1, 0, 99, 0, 1, 1, 2],
        &[0x16, 0, 7, 0, 0xF2, 0, 0],
        &[0x17, 0, 0, 0, 2, 0, 4, 0, 1, 2, 0, 30],
        &[0x2B, 0x0E, 3, 0],
    ];
    let head = Head { version: VERSION, speaker: Speaker::Gateway, unit: 1, token: 200 };
    asks.iter().map(|ask| question(head, ask)).chain(pdus.iter().map(|pdu| rtu(1, pdu))).collect()
}

/// One piece of garbage: noise, or a good frame spoiled in one of the ways a line has.
fn piece(random: &mut fastrand::Rng, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = frames[random.usize(..frames.len())].clone();
    match random.u8(..8) {
        0 => (0..random.usize(1..300)).map(|_| random.u8(..)).collect(),
        // A line that is held: all zeros, all ones.
        1 => vec![if random.bool() { 0 } else { 0xFF }; random.usize(1..300)],
        2 => bytes[..random.usize(1..bytes.len())].to_vec(),
        3 => bytes.split_off(random.usize(1..bytes.len())),
        4 => {
            let other = &frames[random.usize(..frames.len())];
            [bytes, other.clone()].concat()
        }
        5 => {
            // Right checksum, wrong content: what a faulty client sends.
            let pdu: Vec<u8> = (0..random.usize(1..250)).map(|_| random.u8(..)).collect();
            let writes = matches!(pdu[0], 0x08 | 0x05 | 0x0F | 0x06 | 0x10 | 0x16 | 0x17);
            if writes { bytes } else { rtu(1, &pdu) }
        }
        6 => {
            let mut payload: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
            payload[0] = [0, 1, 2, 3, 6, 7, 8, 200][random.usize(..8)];
            let head = Head { version: random.u8(..3), speaker: Speaker::Gateway, unit: random.u8(..2), token: 9 };
            let mut frame = [0; 256];
            let used = ganglion_protocols::node_link::seal(head, &payload, &mut frame).unwrap();
            frame[..used].to_vec()
        }
        _ => {
            for _ in 0..random.usize(1..5) {
                let place = random.usize(..bytes.len());
                bytes[place] ^= 1 << random.u32(..8);
            }
            bytes
        }
    }
}

/// Asks until there is an answer; returns how often, at most twice.
fn tries(rig: &mut Rig, mut ask: impl FnMut(&mut Rig) -> bool) -> Option<usize> {
    (1..=2).find(|_| ask(rig))
}

#[test]
fn ten_million_bytes_of_garbage_leave_a_node_that_answers_the_next_frame_of_each_face() {
    let mut rig = Rig::new(NodeSettings { sample_period_s: 1, ..NodeSettings::DEFAULT });
    rig.acquaint(1_790_000_000_000, 3);
    let (mut random, frames) = (fastrand::Rng::with_seed(0x6A_2026), frames());
    let mut totals = Totals::default();
    while totals.bytes < BYTES {
        let mut burst = 0;
        while burst < BURST && random.u8(..16) != 0 {
            let bytes = piece(&mut random, &frames);
            burst += bytes.len();
            totals.pieces += 1;
            for lump in bytes.chunks(random.usize(1..=300)) {
                rig.hears(lump);
                if random.u8(..8) == 0 {
                    rig.pass(Duration::from_micros(random.u64(..8_000)));
                }
            }
            if random.bool() {
                rig.pass(Duration::from_millis(random.u64(4..30)));
            }
        }
        totals.bytes += burst;
        totals.bursts += 1;
        // An answer that was put off may still go out, and then the line is silent.
        rig.pass(Duration::from_millis(1_200));
        totals.answers += rig.said.len();
        rig.said.clear();
        let link = tries(&mut rig, |rig| rig.link_to(1, &Ask::Describe).is_some()).expect("the link is answered");
        let modbus = tries(&mut rig, |rig| rig.modbus(&[0x04, 0, 0, 0, 6]).is_some()).unwrap_or_else(|| {
            // A client told it to listen only: so it must, until one says otherwise.
            totals.silenced += 1;
            assert!(rig.asked(&rtu(1, &[0x08, 0, 1, 0, 0])).is_none());
            assert!(rig.modbus(&[0x04, 0, 0, 0, 6]).is_some(), "after {} bytes", totals.bytes);
            1
        });
        totals.link_second += usize::from(link == 2);
        totals.modbus_second += usize::from(modbus == 2);
        rig.said.clear();
        rig.taken.clear();
        totals.wishes += rig.wishes.drain(..).filter(|(_, wish)| *wish == Wish::Reset).count();
    }
    println!("{totals:?}");
    let heard = rig.link(&Ask::Describe);
    assert!(matches!(heard.answer(), Answer::Hello(hello) if hello.boot == 1), "it never started again");
}

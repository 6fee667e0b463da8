//! What nobody would send: noise, held lines, and good frames of both faces, spoiled.

use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::node_link::{self, Ask, Command, FirmwareAsk, Head, MAX_FRAME, Speaker, VERSION};

/// Lays a question of the node link out.
pub(crate) fn question(unit: u8, token: u8, ask: &Ask<'_>) -> Vec<u8> {
    let mut payload = [0; MAX_FRAME];
    let used = ask.emit(&mut payload).expect("it fits");
    sealed(Head { version: VERSION, speaker: Speaker::Gateway, unit, token }, &payload[..used])
}

fn sealed(head: Head, payload: &[u8]) -> Vec<u8> {
    let mut frame = [0; MAX_FRAME];
    let used = node_link::seal(head, payload, &mut frame).expect("it fits");
    frame[..used].to_vec()
}

/// Lays a Modbus request out.
pub(crate) fn rtu(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[unit], pdu].concat();
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

/// An endless source of it, the same for the same seed.
pub(crate) struct Garbage {
    random: fastrand::Rng,
    frames: Vec<Vec<u8>>,
}

impl Garbage {
    pub(crate) fn new(seed: u64) -> Self {
        // Nothing that orders a reset or changes a setting: a spoiled frame may pass its CRC-16, once in 65536.
        let asks = [
            Ask::Who { salt: 3, slots: 1, slot_ms: 1, all: true },
            Ask::Describe,
            Ask::Channel { index: 1 },
            Ask::Fetch { ack: None, most: 9 },
            Ask::Do { id: 6, command: Command::Get { key: 20 } },
            Ask::Log { from: 0 },
            Ask::Firmware(FirmwareAsk::Begin { header: &[0x47; 160], downgrade: false }),
            Ask::Firmware(FirmwareAsk::Write { offset: 160, data: &[0x55; 64] }),
        ];
        let pdus: [&[u8]; 8] = [
            &[0x01, 0, 0, 0, 3],
            &[0x02, 0, 0, 0, 1],
            &[0x03, 0, 0, 0, 9],
            &[0x04, 0, 0, 0, 28],
            &[0x08, 0, 0, 1, 2],
            &[0x15, 9, 6, 0, 1, 0, 99, 0, 1, 1, 2],
            &[0x17, 0, 0, 0, 2, 0, 60, 0, 1, 2, 0, 30],
            &[0x2B, 0x0E, 3, 0],
        ];
        let links = asks.iter().map(|ask| question(1, 200, ask));
        let frames = links.chain(pdus.iter().map(|pdu| rtu(1, pdu))).collect();
        Self { random: fastrand::Rng::with_seed(seed), frames }
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        (0..self.random.usize(1..most)).map(|_| self.random.u8(..)).collect()
    }

    /// Returns the next piece, of at most 512 bytes.
    pub(crate) fn piece(&mut self) -> Vec<u8> {
        let mut bytes = self.frames[self.random.usize(..self.frames.len())].clone();
        match self.random.u8(..8) {
            0 => self.noise(300),
            1 => vec![if self.random.bool() { 0 } else { 0xFF }; self.random.usize(1..300)],
            2 => bytes[..self.random.usize(1..bytes.len())].to_vec(),
            3 => bytes.split_off(self.random.usize(1..bytes.len())),
            4 => {
                let other = self.random.usize(..self.frames.len());
                [bytes, self.frames[other].clone()].concat()
            }
            5 => {
                // A right checksum round nonsense that orders nothing.
                let mut pdu = self.noise(200);
                pdu[0] = [0x01, 0x02, 0x03, 0x04, 0x07, 0x0B, 0x11, 0x14, 0x2B, 0x63][self.random.usize(..10)];
                rtu(1, &pdu)
            }
            6 => {
                let mut payload = self.noise(200);
                payload[0] = [0, 1, 2, 3, 6, 8, 200][self.random.usize(..7)];
                let version = self.random.u8(..3);
                sealed(Head { version, speaker: Speaker::Gateway, unit: self.random.u8(..2), token: 9 }, &payload)
            }
            _ => {
                for _ in 0..self.random.usize(1..5) {
                    let place = self.random.usize(..bytes.len());
                    bytes[place] ^= 1 << self.random.u32(..8);
                }
                bytes
            }
        }
    }
}

//! A half-duplex serial line with units on it, in virtual time: no threads, no sleeping, the same for the same seed.
//!
//! Whoever tests a client sends frames with [`Line::transmit`], asks [`Line::next`] when the next byte comes, and takes
//! what came with [`Line::deliver`]. Bytes take the time that the speed gives them; whoever talks while another one does
//! spoils both. Times are durations since one start, and must not go back.
//!
//! **Registers tell the truth about themselves.** A register holds its unit, its address and a generation that advances
//! every [`GENERATION`], see [`register`]; a coil is one bit of the same. So a value that was shifted, belongs to another
//! unit or is stale is recognised: [`Line::is_true`] says whether a value was true at some time between two times.
//!
//! **Faults** are drawn from the seed, see [`Faults`]. At most one strikes an answer, beside stray bytes and an echo, so
//! that each class can be told in [`Ledger`]. Two things no client can tell from the truth are not made: an answer that
//! bears the unit id of another unit of the line (a wrong unit id is one that nobody has), and a foreign request that
//! reaches its unit but not the client.
#![allow(unreachable_pub, dead_code, reason = "each test that takes this module in uses its own part of it")]

mod faults;
mod random;
mod units;

use std::time::Duration;

use ganglion_protocols::modbus::rtu::crc;

pub use faults::{Faults, Ledger};
pub use random::Random;
pub use units::{GENERATION, Unit, coil, register};

/// Speed and reader of the line.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// One character.
    pub character: Duration,
    /// The reader hands bytes on at multiples of this time only, as a USB adapter does; zero: at once.
    pub lump: Duration,
}

impl Speed {
    fn characters(&self, count: usize) -> Duration {
        self.character * u32::try_from(count).expect("frames are short")
    }
}

/// The line.
#[derive(Debug)]
pub struct Line {
    speed: Speed,
    units: Vec<Unit>,
    faults: Faults,
    random: Random,
    ledger: Ledger,
    air: Vec<Transmission>,
    serial: u64,
    out: Vec<u8>,
    /// When damaged bytes were last delivered.
    damaged_at: Option<Duration>,
}

/// Somebody's bytes on the line.
#[derive(Clone, Debug)]
struct Transmission {
    serial: u64,
    /// The request it answers.
    cause: Option<u64>,
    start: Duration,
    bytes: Vec<u8>,
    delivered: usize,
    /// Whether the client hears it: its own bytes only with an echo.
    heard: bool,
    /// More than three bits are wrong, so that the CRC may miss it.
    damaged: bool,
}

impl Transmission {
    fn end(&self, speed: &Speed) -> Duration {
        self.start + speed.characters(self.bytes.len())
    }
}

impl Line {
    /// A line with these units and faults.
    pub fn new(speed: Speed, units: Vec<Unit>, faults: Faults, seed: u64) -> Self {
        Self {
            speed,
            units,
            faults,
            random: Random::new(seed),
            ledger: Ledger::default(),
            air: Vec::new(),
            serial: 0,
            out: Vec::new(),
            damaged_at: None,
        }
    }

    /// From now on nothing goes wrong, and every unit answers; an echo stays.
    pub fn calm(&mut self) {
        self.faults = Faults { echo: self.faults.echo, ..Faults::default() };
        for unit in &mut self.units {
            (unit.dead, unit.busy) = (false, 0);
        }
    }

    /// Returns what was injected so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Says whether a register or coil, by the function that reads it, held `value` at some time from `from` to `to`.
    pub fn is_true(function: u8, unit: u8, address: u16, value: u16, from: Duration, to: Duration) -> bool {
        let mut at = from;
        loop {
            let truth = if function <= 2 { u16::from(coil(unit, address, at)) } else { register(unit, address, at) };
            if truth == value {
                return true;
            }
            if at == to {
                return false;
            }
            at = (at + GENERATION).min(to);
        }
    }

    /// Says when bytes were last delivered of which more than three bits of a frame were wrong.
    pub fn damaged_at(&self) -> Option<Duration> {
        self.damaged_at
    }

    /// The client begins to send a frame now.
    pub fn transmit(&mut self, now: Duration, frame: &[u8]) {
        self.ledger.requests += 1;
        let echo = self.faults.echo;
        let serial = self.send(now, frame.to_vec(), None, echo, false);
        let end = now + self.speed.characters(frame.len());
        let fault = self.random.pick(&[self.faults.drop_request, self.faults.flip_request, self.faults.spoil_request]);
        let mut received = self.on_air(serial).to_vec();
        match fault {
            Some(0) => {
                self.ledger.requests_dropped += 1;
                received.clear();
            }
            Some(1) => {
                self.ledger.requests_flipped += 1;
                self.random.flip(&mut received);
            }
            Some(_) => {
                self.ledger.requests_spoiled += 1;
                self.random.spoil(&mut received);
            }
            None => {}
        }
        self.unit_hears(serial, end, &received, true);
        if self.random.chance(self.faults.foreign) {
            self.foreign(now);
        }
    }

    /// Returns when the next byte is delivered.
    pub fn next(&self) -> Option<Duration> {
        self.air.iter().filter(|sent| sent.heard).map(|sent| self.due(sent)).min()
    }

    /// Delivers what has come until `now`, in order.
    pub fn deliver(&mut self, now: Duration) -> &[u8] {
        self.out.clear();
        loop {
            let next = self
                .air
                .iter()
                .enumerate()
                .filter(|(_, sent)| sent.heard)
                .map(|(place, sent)| (self.due(sent), self.end_of(sent, sent.delivered), place))
                .filter(|(due, ..)| *due <= now)
                .min();
            let Some((due, _, place)) = next else { break };
            let sent = &mut self.air[place];
            self.out.push(sent.bytes[sent.delivered]);
            sent.delivered += 1;
            if sent.damaged {
                self.damaged_at = Some(due);
            }
            if sent.delivered == sent.bytes.len() {
                self.air.swap_remove(place);
            }
        }
        let speed = self.speed;
        self.air.retain(|sent| sent.heard || sent.end(&speed) > now);
        &self.out
    }

    /// Somebody talks at `start`; whatever is on the line meanwhile is spoiled, and so are these bytes.
    fn send(&mut self, start: Duration, bytes: Vec<u8>, cause: Option<u64>, heard: bool, damaged: bool) -> u64 {
        self.serial += 1;
        let mut new = Transmission { serial: self.serial, cause, start, bytes, delivered: 0, heard, damaged };
        if new.bytes.is_empty() {
            return self.serial;
        }
        let end = new.end(&self.speed);
        let mut spoiled = Vec::new();
        for other in &mut self.air {
            if other.start >= end || other.end(&self.speed) <= start {
                continue;
            }
            self.ledger.collisions += 1;
            let others = other.start..other.end(&self.speed);
            for (one, another) in [(&mut *other, start..end), (&mut new, others)] {
                for (place, byte) in one.bytes.iter_mut().enumerate().skip(one.delivered) {
                    let begin = one.start + self.speed.characters(place);
                    if begin < another.end && begin + self.speed.character > another.start {
                        *byte = self.random.byte();
                        one.damaged = true;
                    }
                }
            }
            spoiled.push(other.serial);
        }
        // A request that was spoiled is not answered.
        self.air.retain(|sent| sent.delivered > 0 || sent.cause.is_none_or(|cause| !spoiled.contains(&cause)));
        self.air.push(new);
        self.serial
    }

    /// A unit hears a request that ends at `end`, and answers. `own`: it is the client's, so faults may strike.
    fn unit_hears(&mut self, cause: u64, end: Duration, frame: &[u8], own: bool) {
        let Some((body, check)) = frame.split_last_chunk::<2>() else { return };
        if body.len() < 2 || crc(body) != u16::from_le_bytes(*check) {
            return;
        }
        let Some(unit) = self.units.iter().find(|unit| unit.id == body[0]) else { return };
        let Some(pdu) = unit.answer(&body[1..], end, &mut self.random) else { return };
        let mut start = end + unit.turnaround(&mut self.random);
        let id = unit.id;
        if !own {
            let _ = self.send(start, with_crc(id, &pdu), Some(cause), true, false);
            return;
        }
        let faults = self.faults;
        let classes = [
            faults.drop,
            faults.late,
            faults.duplicate,
            faults.flip,
            faults.spoil,
            faults.truncate,
            faults.wrong_unit,
            faults.wrong_length,
        ];
        let (mut bytes, mut damaged) = (with_crc(id, &pdu), false);
        match self.random.pick(&classes) {
            Some(0) => {
                self.ledger.dropped += 1;
                return;
            }
            Some(1) => {
                self.ledger.late += 1;
                start += self.random.between(faults.late_by.0, faults.late_by.1);
            }
            Some(2) => {
                self.ledger.duplicated += 1;
                bytes.extend_from_within(..);
            }
            Some(3) => {
                self.ledger.flipped += 1;
                self.random.flip(&mut bytes);
            }
            Some(4) => {
                self.ledger.spoiled += 1;
                self.random.spoil(&mut bytes);
                damaged = true;
            }
            Some(5) => {
                self.ledger.truncated += 1;
                bytes.truncate(self.random.below(bytes.len()));
            }
            Some(6) => {
                self.ledger.wrong_unit += 1;
                bytes = with_crc(id | 0x80, &pdu);
            }
            Some(_) if pdu.len() > 4 && pdu[0] <= 4 => {
                self.ledger.wrong_length += 1;
                let mut short = pdu[..pdu.len() - 2].to_vec();
                short[1] -= 2;
                bytes = with_crc(id, &short);
            }
            _ => {}
        }
        if self.random.chance(faults.stray) {
            self.ledger.strays += 1;
            let mut noise = self.random.bytes(4);
            start = start.saturating_sub(self.speed.characters(noise.len())).max(end);
            noise.extend_from_slice(&bytes);
            bytes = noise;
        }
        if self.random.chance(faults.stray) {
            self.ledger.strays += 1;
            bytes.extend(self.random.bytes(4));
        }
        let _ = self.send(start, bytes, Some(cause), true, damaged);
    }

    /// Another client asks a unit, soon; it waits for a silent line, but not always.
    fn foreign(&mut self, now: Duration) {
        self.ledger.foreign += 1;
        let mut start = now + self.random.between(Duration::ZERO, self.faults.foreign_within);
        if !self.random.chance(self.faults.rude) {
            for _ in 0..self.air.len() {
                for sent in &self.air {
                    if start < sent.end(&self.speed) && start + self.speed.character * 8 > sent.start {
                        start = sent.end(&self.speed) + self.speed.character * 4;
                    }
                }
            }
        }
        let place = self.random.below(self.units.len() + 1);
        let id = self.units.get(place).map_or(77, |unit| unit.id);
        let count = 1 + self.random.small(8);
        let pdu = [3 + self.random.small(2), 0, self.random.small(64), 0, count];
        let frame = with_crc(id, &pdu);
        let end = start + self.speed.characters(frame.len());
        let serial = self.send(start, frame, None, true, false);
        let received = self.on_air(serial).to_vec();
        self.unit_hears(serial, end, &received, false);
    }

    fn on_air(&self, serial: u64) -> &[u8] {
        self.air.iter().find(|sent| sent.serial == serial).map_or(&[], |sent| &sent.bytes)
    }

    fn end_of(&self, sent: &Transmission, place: usize) -> Duration {
        sent.start + self.speed.characters(place + 1)
    }

    /// Returns when the next byte of a transmission is handed on.
    fn due(&self, sent: &Transmission) -> Duration {
        let end = self.end_of(sent, sent.delivered);
        if self.speed.lump.is_zero() {
            return end;
        }
        let lumps = end.as_nanos().div_ceil(self.speed.lump.as_nanos());
        self.speed.lump * u32::try_from(lumps).expect("a run takes days, not years")
    }
}

/// Returns the frame of a PDU.
pub fn with_crc(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = vec![unit];
    frame.extend_from_slice(pdu);
    let check = crc(&frame);
    frame.extend_from_slice(&check.to_le_bytes());
    frame
}

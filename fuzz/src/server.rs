//! What a server hears: any bytes, in any lumps, at any time; or any request in a right frame.

use std::time::Duration;

use ganglion_drivers::server::{Burst, Damage, Map, Server};
use ganglion_protocols::modbus::pdu::{Bits, Response, Words};
use ganglion_protocols::modbus::rtu::{Frame, MAX_FRAME, crc};
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

const UNIT: UnitId = UnitId(1);
const GAP: Duration = Duration::from_millis(4);
const SIZE: usize = 300;

/// A device with the same items in each table, one file and a few names.
struct Device {
    registers: [u16; SIZE],
    coils: [bool; SIZE],
}

type Outcome<T> = Result<T, ExceptionCode>;

fn item<T: Copy>(items: &[T], address: u16) -> Outcome<T> {
    items.get(usize::from(address)).copied().ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)
}

fn room<T>(items: &mut [T], first: u16, count: usize) -> Outcome<&mut [T]> {
    let first = usize::from(first);
    items.get_mut(first..first + count).ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)
}

impl Map for Device {
    fn coil(&self, address: u16) -> Outcome<bool> {
        item(&self.coils, address)
    }
    fn discrete_input(&self, address: u16) -> Outcome<bool> {
        item(&self.coils, address)
    }
    fn holding_register(&self, address: u16) -> Outcome<u16> {
        item(&self.registers, address)
    }
    fn input_register(&self, address: u16) -> Outcome<u16> {
        item(&self.registers, address)
    }
    fn check_coils(&self, first: u16, bits: Bits<'_>) -> Outcome<()> {
        room(&mut self.coils.clone(), first, bits.len()).map(drop)
    }
    fn write_coils(&mut self, first: u16, bits: Bits<'_>) -> Outcome<()> {
        let room = room(&mut self.coils, first, bits.len()).expect("it was checked");
        room.iter_mut().zip(bits.iter()).for_each(|(coil, bit)| *coil = bit);
        Ok(())
    }
    fn check_registers(&self, first: u16, words: Words<'_>) -> Outcome<()> {
        room(&mut self.registers.clone(), first, words.len()).map(drop)
    }
    fn write_registers(&mut self, first: u16, words: Words<'_>) -> Outcome<()> {
        let room = room(&mut self.registers, first, words.len()).expect("it was checked");
        room.iter_mut().zip(words.iter()).for_each(|(register, word)| *register = word);
        Ok(())
    }
    fn server_id(&self) -> &[u8] {
        &[1, 0xFF]
    }
    fn identification(&self, object: u8) -> Option<&[u8]> {
        matches!(object, 0..=4 | 0x80..=0x90).then_some(&[b'x'; 40])
    }
    fn read_file(&self, file: u16, _record: u16, out: &mut [u8]) -> Outcome<()> {
        if file != 1 {
            return Err(ExceptionCode::ILLEGAL_DATA_ADDRESS);
        }
        out.fill(7);
        Ok(())
    }
    fn check_file(&self, file: u16, _record: u16, _words: Words<'_>) -> Outcome<()> {
        if file == 1 { Ok(()) } else { Err(ExceptionCode::ILLEGAL_DATA_ADDRESS) }
    }
    fn write_file(&mut self, file: u16, _record: u16, _words: Words<'_>) -> Outcome<()> {
        assert_eq!(file, 1, "it was checked");
        Ok(())
    }
}

/// A unit on its line.
struct Bench {
    server: Server,
    device: Device,
    burst: Burst,
    now: Duration,
}

impl Bench {
    /// Looks at the line; what is answered is an answer to what was asked. Returns its PDU.
    fn poll(&mut self) -> Option<Vec<u8>> {
        let bytes = match self.burst.take(self.now)? {
            Ok(bytes) => bytes,
            Err(damage) => {
                self.server.handle_damage(damage);
                return None;
            }
        };
        let mut out = [0xA5; MAX_FRAME];
        let answer = self.server.handle_frame(&mut self.device, bytes, &mut out)?;
        let asked = Frame::parse(bytes).expect("only frames are answered");
        let answer = Frame::parse(answer).expect("the answer is a frame");
        assert_eq!((asked.unit, answer.unit), (UNIT, UNIT));
        let response = Response::parse(answer.pdu).unwrap_or_else(|error| panic!("{error}: {:02X?}", answer.pdu));
        assert_eq!(Some(&response.function()), asked.pdu.first());
        Some(answer.pdu.to_vec())
    }

    fn pass(&mut self, time: Duration) -> Option<Vec<u8>> {
        let end = self.now + time;
        self.now = self.burst.poll_timeout().map_or(end, |due| due.min(end)).max(self.now);
        let answer = self.poll();
        self.now = end;
        answer
    }

    /// Sends a request after a silence, and returns the PDU of its answer.
    fn ask(&mut self, pdu: &[u8]) -> Option<Vec<u8>> {
        self.pass(GAP);
        self.burst.handle_bytes(self.now, &framed(pdu));
        self.pass(GAP)
    }
}

fn framed(pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[UNIT.0], pdu].concat();
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

/// Steps of a length, a pause and bytes. The pause is in milliseconds of seven bits; with the eighth bit the bytes are the
/// PDU of a request and get unit and CRC. Whatever was heard, a request after a silence is answered.
pub(crate) fn run(input: &[u8]) {
    let device = Device { registers: [9; SIZE], coils: [true; SIZE] };
    let mut bench = Bench { server: Server::new(UNIT), device, burst: Burst::new(GAP), now: Duration::ZERO };
    let mut rest = input;
    while let Some(([length, pause], after)) = rest.split_first_chunk::<2>() {
        bench.pass(Duration::from_millis(u64::from(pause & 0x7F)));
        let (bytes, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        match bytes {
            [] => bench.burst.handle_damage(bench.now, Damage::Overrun),
            _ if pause & 0x80 == 0 => bench.burst.handle_bytes(bench.now, bytes),
            _ => bench.burst.handle_bytes(bench.now, &framed(bytes)),
        }
    }
    // Out of the listen only mode, in which the restart is not answered, if it came to that.
    let restart = [0x08, 0, 1, 0, 0];
    let listened = {
        bench.pass(GAP);
        bench.server.listens_only()
    };
    assert_eq!(bench.ask(&restart), (!listened).then(|| restart.to_vec()));
    assert_eq!(bench.ask(&[0x03, 0, 0, 0, 1]).map(|pdu| pdu.len()), Some(4));
    assert_eq!(bench.burst.missed(), 0);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let pdus: [&[u8]; 22] = [
        &[0x01, 0, 0, 0, 19],
        &[0x02, 0, 0, 1, 0x2C],
        &[0x03, 0, 0, 0, 125],
        &[0x04, 0, 0x10, 0, 2],
        &[0x05, 0, 1, 0xFF, 0],
        &[0x06, 0, 1, 0, 3],
        &[0x07],
        &[0x08, 0, 0, 1, 2],
        &[0x08, 0, 1, 0xFF, 0],
        &[0x08, 0, 4, 0, 0],
        &[0x08, 0, 0x0A, 0, 0],
        &[0x08, 0, 0x0B, 0, 0],
        &[0x0B],
        &[0x0C],
        &[0x0F, 0, 1, 0, 3, 1, 5],
        &[0x10, 0, 1, 0, 1, 2, 0, 7],
        &[0x11],
        &[0x14, 14, 6, 0, 1, 0, 0, 0, 2, 6, 0, 1, 0, 9, 0, 1],
        &[0x15, 9, 6, 0, 1, 0, 7, 0, 1, 1, 2],
        &[0x16, 0, 4, 0, 0xF2, 0, 0x25],
        &[0x17, 0, 0, 0, 2, 0, 1, 0, 1, 2, 0, 7],
        &[0x2B, 0x0E, 3, 0],
    ];
    let step = |pause: u8, bytes: &[u8]| [&[u8::try_from(bytes.len()).expect("short"), pause], bytes].concat();
    pdus.iter().flat_map(|pdu| [step(0x85, pdu), [step(5, &framed(pdu)), step(0x85, pdu)].concat()]).collect()
}

//! A device of every table, and a server before it.

use std::collections::BTreeMap;

use ganglion_drivers::server::{Map, Server, file_offset};
use ganglion_protocols::modbus::pdu::{Bits, Response, Words};
use ganglion_protocols::modbus::rtu::{Frame, MAX_FRAME, crc};
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

/// Items of each table: addresses 0..SIZE.
pub(crate) const SIZE: usize = 0x200;
/// A coil or holding register that takes no value (registers: above 100).
pub(crate) const CHOOSY: u16 = 0x50;
/// One that is busy when it is checked.
pub(crate) const BUSY: u16 = 0x51;
/// One that fails when it is written.
pub(crate) const BROKEN: u16 = 0x52;
pub(crate) const UNIT: UnitId = UnitId(17);

type Outcome<T> = Result<T, ExceptionCode>;

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Device {
    pub(crate) coils: Vec<bool>,
    pub(crate) inputs: Vec<bool>,
    pub(crate) holding: Vec<u16>,
    pub(crate) input: Vec<u16>,
    /// Files 1 and 2.
    pub(crate) files: Vec<u8>,
    pub(crate) names: BTreeMap<u8, Vec<u8>>,
    pub(crate) server_id: Vec<u8>,
    pub(crate) register: u16,
    /// Functions it has not.
    pub(crate) without: Vec<u8>,
    /// Whether [`CHOOSY`], [`BUSY`] and [`BROKEN`] are.
    pub(crate) special: bool,
}

impl Device {
    pub(crate) fn new() -> Self {
        let words =
            |seed: u16| (0..SIZE).zip(0_u16..).map(|(_, at)| at.wrapping_mul(0x9E37) ^ seed).collect::<Vec<_>>();
        let bits = |seed: u16| words(seed).iter().map(|word| word.count_ones() % 2 == 1).collect();
        Self {
            coils: bits(1),
            inputs: bits(2),
            holding: words(3),
            input: words(4),
            files: (0..40_000_u32).map(|at| (at % 251) as u8).collect(),
            names: [(0, "Maker"), (1, "NODE-1"), (2, "1.2.3")].map(|(id, name)| (id, name.into())).into(),
            server_id: vec![0x42, 0xFF],
            register: 0x1234,
            without: Vec::new(),
            special: true,
        }
    }

    fn check(&self, first: u16, count: usize, choosy: impl Fn(usize) -> bool) -> Outcome<()> {
        for (place, address) in (usize::from(first)..).take(count).enumerate() {
            if address >= SIZE {
                return Err(ExceptionCode::ILLEGAL_DATA_ADDRESS);
            }
            match u16::try_from(address) {
                Ok(CHOOSY) if self.special && choosy(place) => return Err(ExceptionCode::ILLEGAL_DATA_VALUE),
                Ok(BUSY) if self.special => return Err(ExceptionCode::SERVER_DEVICE_BUSY),
                _ => {}
            }
        }
        Ok(())
    }

    fn fails(&self, first: u16, count: usize) -> Outcome<()> {
        let range = usize::from(first)..usize::from(first) + count;
        if self.special && range.contains(&BROKEN.into()) {
            return Err(ExceptionCode::SERVER_DEVICE_FAILURE);
        }
        Ok(())
    }

    fn span(&self, file: u16, record: u16, len: usize) -> Outcome<std::ops::Range<usize>> {
        let start = file_offset(file, record).ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)? as usize;
        let range = start..start + len;
        if range.end <= self.files.len() { Ok(range) } else { Err(ExceptionCode::ILLEGAL_DATA_ADDRESS) }
    }
}

fn at<T: Copy>(items: &[T], address: u16) -> Outcome<T> {
    items.get(usize::from(address)).copied().ok_or(ExceptionCode::ILLEGAL_DATA_ADDRESS)
}

impl Map for Device {
    fn supports(&self, function: u8) -> bool {
        !self.without.contains(&function)
    }
    fn coil(&self, address: u16) -> Outcome<bool> {
        at(&self.coils, address)
    }
    fn discrete_input(&self, address: u16) -> Outcome<bool> {
        at(&self.inputs, address)
    }
    fn holding_register(&self, address: u16) -> Outcome<u16> {
        at(&self.holding, address)
    }
    fn input_register(&self, address: u16) -> Outcome<u16> {
        at(&self.input, address)
    }
    fn check_coils(&self, first: u16, bits: Bits<'_>) -> Outcome<()> {
        self.check(first, bits.len(), |_| true)
    }
    fn write_coils(&mut self, first: u16, bits: Bits<'_>) -> Outcome<()> {
        self.fails(first, bits.len())?;
        self.coils[first.into()..][..bits.len()].iter_mut().zip(bits.iter()).for_each(|(coil, bit)| *coil = bit);
        Ok(())
    }
    fn check_registers(&self, first: u16, words: Words<'_>) -> Outcome<()> {
        self.check(first, words.len(), |place| words.get(place).is_some_and(|value| value > 100))
    }
    fn write_registers(&mut self, first: u16, words: Words<'_>) -> Outcome<()> {
        self.fails(first, words.len())?;
        let room = &mut self.holding[first.into()..][..words.len()];
        room.iter_mut().zip(words.iter()).for_each(|(register, word)| *register = word);
        Ok(())
    }
    fn exception_status(&self) -> u8 {
        0x6D
    }
    fn diagnostic_register(&self) -> u16 {
        self.register
    }
    fn clear_diagnostic_register(&mut self) {
        self.register = 0;
    }
    fn server_id(&self) -> &[u8] {
        &self.server_id
    }
    fn identification(&self, object: u8) -> Option<&[u8]> {
        self.names.get(&object).map(Vec::as_slice)
    }
    fn read_file(&self, file: u16, record: u16, out: &mut [u8]) -> Outcome<()> {
        out.copy_from_slice(&self.files[self.span(file, record, out.len())?]);
        Ok(())
    }
    fn check_file(&self, file: u16, record: u16, words: Words<'_>) -> Outcome<()> {
        self.span(file, record, words.len() * 2).map(drop)
    }
    fn write_file(&mut self, file: u16, record: u16, words: Words<'_>) -> Outcome<()> {
        let span = self.span(file, record, words.len() * 2)?;
        self.files[span].copy_from_slice(words.as_bytes());
        Ok(())
    }
}

/// A unit, and somebody who asks it.
pub(crate) struct Talk {
    pub(crate) server: Server,
    pub(crate) device: Device,
}

impl Talk {
    pub(crate) fn new() -> Self {
        Self { server: Server::new(UNIT), device: Device::new() }
    }

    /// Hands a frame over and returns the frame that answers it.
    pub(crate) fn frame(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0xA5; MAX_FRAME];
        self.server.handle_frame(&mut self.device, frame, &mut out).map(<[u8]>::to_vec)
    }

    /// Asks in the name of a unit.
    pub(crate) fn send(&mut self, unit: u8, pdu: &[u8]) -> Option<Vec<u8>> {
        self.frame(&frame(unit, pdu))
    }

    /// Asks and returns the answer, which is one that a client reads, of the function that was asked.
    #[track_caller]
    pub(crate) fn ask(&mut self, pdu: &[u8]) -> Vec<u8> {
        let answer = self.send(UNIT.0, pdu).expect("every request has an answer");
        let answer = Frame::parse(&answer).expect("it is a frame");
        assert_eq!(answer.unit, UNIT);
        let response = Response::parse(answer.pdu).expect("a client reads it");
        assert_eq!(response.function(), pdu[0]);
        answer.pdu.to_vec()
    }

    /// Asks and expects a refusal that changes nothing.
    #[track_caller]
    pub(crate) fn refused(&mut self, pdu: &[u8], code: u8) {
        let before = self.device.clone();
        assert_eq!(self.ask(pdu), [pdu[0] | 0x80, code], "{pdu:02X?}");
        assert!(self.device == before, "nothing is half done: {pdu:02X?}");
    }
}

/// Returns unit, PDU and CRC.
pub(crate) fn frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[unit], pdu].concat();
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

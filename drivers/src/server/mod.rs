//! The server's side of a serial line: a Modbus RTU request in, its answer out.
//!
//! [`Burst`] cuts what is heard into frames, [`Server`] answers one, a [`Map`] is what the device has. The server keeps
//! counters, the event log and the listen only mode of the line, and nothing of the device.
//!
//! It has functions 0x01 to 0x08, 0x0B, 0x0C, 0x0F to 0x11, 0x14 to 0x17 and 0x2B type 0x0E, and refuses any other with
//! exception 01. Requests are checked in the order of the charts of §6: first function (01), then quantities and form (03),
//! then addresses (02), and at last what the [`Map`] says when it does it.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | who is meant, and each function |
//! | `refusal.rs` | which exception a malformed request gets |
//! | `line.rs` | counters, event log, listen only mode |
//! | `identity.rs`, `files.rs` | device identification; file records |
//! | `map.rs` | what a device implements |
//! | `burst.rs` | silences |
//!
//! **Own echoes.** Functions 0 and 0x80 to 0xFF are no requests (§4.1): they are not answered, lest an exception that a
//! transceiver echoes be refused, and that be echoed, for ever. A board still has to be deaf while it talks: the answer to
//! a write reads as the write.
//!
//! **Zeros at the end.** A frame that lost or gained bytes 00 at its end has a right CRC, of a PDU with another length. It
//! gets the answer that §7 has for a wrong length, exception 03; the server cannot know that the line did it.
//!
//! **Answers are laid out in place**, not through `Response`: no second buffer, and no reading back of what was written.
//! That they are what `Response` reads is a test.
//!
//! Source: MODBUS Application Protocol V1.1b3; MODBUS over Serial Line V1.02.

mod burst;
mod files;
mod identity;
mod line;
mod map;
mod refusal;

use ganglion_protocols::bytes::Writer;
use ganglion_protocols::modbus::pdu::{Bits, EXCEPTION, MAX_PDU, Request, Words, function as fc};
use ganglion_protocols::modbus::rtu::{Frame, MAX_FRAME, crc};
use ganglion_protocols::modbus::{ExceptionCode, Table, UnitId};

pub use burst::{Burst, Damage};
pub use line::Counters;
pub use map::{Map, file_offset};

use line::Line;

/// Unit id that means every unit, MODBUS over Serial Line V1.02 §2.2.
const BROADCAST: UnitId = UnitId(0);

/// Sub-functions of the diagnostics, §6.8.1; those from 0x0B to 0x12 read [`Counters`].
mod diagnostic {
    pub(super) const RETURN_QUERY_DATA: u16 = 0x00;
    pub(super) const RESTART_COMMUNICATIONS: u16 = 0x01;
    pub(super) const RETURN_DIAGNOSTIC_REGISTER: u16 = 0x02;
    pub(super) const FORCE_LISTEN_ONLY_MODE: u16 = 0x04;
    pub(super) const CLEAR_COUNTERS: u16 = 0x0A;
    pub(super) const CLEAR_OVERRUN_COUNTER: u16 = 0x14;
}

/// One unit of a serial line.
#[derive(Clone, Debug)]
pub struct Server {
    unit: UnitId,
    line: Line,
}

/// What is left to do when the answer is laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Answer,
    /// Counters and diagnostic register are cleared after this request was counted, so they begin at 0.
    AnswerAndClear,
    AnswerAndRestart {
        clear_log: bool,
    },
    FallSilent,
}

impl Server {
    /// Takes a line just opened. `unit`: 1..=247; as 0 it hears nothing but broadcasts.
    #[must_use]
    pub fn new(unit: UnitId) -> Self {
        Self { unit, line: Line::default() }
    }

    /// Changes the unit id, as settings do.
    pub fn set_unit(&mut self, unit: UnitId) {
        self.unit = unit;
    }

    /// Returns the counters of the line.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.line.counters
    }

    /// Says whether a client told it to listen only; a restart of communications ends that.
    #[must_use]
    pub const fn listens_only(&self) -> bool {
        self.line.listen_only
    }

    /// Says that a burst came which nobody can read.
    pub fn handle_damage(&mut self, damage: Damage) {
        self.line.damaged(damage);
    }

    /// Takes a frame, all that came between two silences, and does what it asks. Returns the frame to answer, if any:
    /// requests to other units, broadcasts and frames with a wrong CRC have none.
    pub fn handle_frame<'o>(
        &mut self,
        map: &mut dyn Map,
        frame: &[u8],
        out: &'o mut [u8; MAX_FRAME],
    ) -> Option<&'o [u8]> {
        let Ok(Frame { unit, pdu }) = Frame::parse(frame) else {
            self.line.damaged(Damage::Frame);
            return None;
        };
        self.line.heard();
        let broadcast = unit == BROADCAST;
        if !broadcast && unit != self.unit {
            return None;
        }
        self.line.asked(broadcast);
        let function = *pdu.first()?;
        let heeded = if self.line.listen_only {
            !broadcast && is_restart(pdu)
        } else if broadcast {
            is_write(function)
        } else {
            matches!(function, 0x01..EXCEPTION)
        };
        if !heeded {
            self.line.ignored();
            return None;
        }

        let [first, body @ ..] = out;
        *first = unit.0;
        let mut writer = Writer::new(body.get_mut(..MAX_PDU).unwrap_or_default());
        let done = self.perform(map, pdu, &mut writer);
        let sent = !broadcast && !self.line.listen_only && done != Ok(Then::FallSilent);
        self.line.processed(function != fc::GET_COMM_EVENT_COUNTER, done.err(), sent);
        let len = match done {
            Ok(_) => writer.len(),
            Err(code) => exception(function, code, body),
        };
        match done {
            Ok(Then::AnswerAndClear) => {
                map.clear_diagnostic_register();
                self.line.counters = Counters::default();
            }
            Ok(Then::AnswerAndRestart { clear_log }) => {
                map.clear_diagnostic_register();
                self.line.restart(clear_log);
            }
            Ok(Then::FallSilent) => self.line.fall_silent(),
            Ok(Then::Answer) | Err(_) => {}
        }
        if sent { close(out, len) } else { None }
    }

    /// Does what a request PDU asks and puts the answer.
    fn perform(&mut self, map: &mut dyn Map, pdu: &[u8], out: &mut Writer<'_>) -> Result<Then, ExceptionCode> {
        if !refusal::is_implemented(pdu) || !pdu.first().is_some_and(|function| map.supports(*function)) {
            return Err(ExceptionCode::ILLEGAL_FUNCTION);
        }
        let request = Request::parse(pdu).map_err(|error| refusal::of(pdu, error))?;
        put(out, &[request.function()])?;
        match request {
            Request::Read { table, address, count } => read(map, table, address, count, out)?,
            Request::WriteCoil { address, on } => {
                let bit = [u8::from(on)];
                write_coils(map, address, Bits::new(&bit, 1).unwrap_or_default())?;
                repeat(pdu, 5, out)?;
            }
            Request::WriteRegister { address, value } => {
                write_register(map, address, value)?;
                repeat(pdu, 5, out)?;
            }
            Request::WriteCoils { address, bits } => {
                write_coils(map, address, bits)?;
                repeat(pdu, 5, out)?;
            }
            Request::WriteRegisters { address, words } => {
                write_registers(map, address, words)?;
                repeat(pdu, 5, out)?;
            }
            Request::MaskWrite { address, and, or } => {
                let old = map.holding_register(address)?;
                // §6.16.
                write_register(map, address, (old & and) | (or & !and))?;
                repeat(pdu, 7, out)?;
            }
            Request::ReadWrite { read_address, read_count, write_address, words } => {
                // The write comes before the read (§6.17), and not at all if the read would be refused.
                for address in addresses(read_address, read_count) {
                    map.holding_register(address)?;
                }
                write_registers(map, write_address, words)?;
                read(map, Table::HoldingRegister, read_address, read_count, out)?;
            }
            Request::ReadExceptionStatus => put(out, &[map.exception_status()])?,
            Request::Diagnostics { sub_function, data } => return self.diagnostics(map, sub_function, data, out),
            // §6.9: the status is FFFF while a program command runs; there are none here.
            Request::GetCommEventCounter => put_words(out, &[0, self.line.counters.events])?,
            Request::GetCommEventLog => {
                let events = self.line.events();
                // At most 6 and 64, §6.10.
                put(out, &[u8::try_from(events.len().saturating_add(6)).unwrap_or(u8::MAX)])?;
                put_words(out, &[0, self.line.counters.events, self.line.counters.bus_messages])?;
                for event in events {
                    put(out, &[*event])?;
                }
            }
            Request::ReportServerId => {
                let id = map.server_id();
                put(out, &[u8::try_from(id.len()).map_err(|_| ExceptionCode::SERVER_DEVICE_FAILURE)?])?;
                put(out, id)?;
            }
            Request::ReadFileRecord(groups) => files::read(map, groups, out)?,
            Request::WriteFileRecord(groups) => files::write(map, groups, out)?,
            Request::ReadDeviceId { level, object } => identity::answer(map, level, object, out)?,
            Request::ReadFifoQueue { .. } | Request::Encapsulated { .. } | Request::Unknown { .. } => {
                return Err(ExceptionCode::ILLEGAL_FUNCTION);
            }
        }
        Ok(Then::Answer)
    }

    /// Function 0x08, §6.8.
    fn diagnostics(
        &mut self,
        map: &dyn Map,
        sub_function: u16,
        data: Words<'_>,
        out: &mut Writer<'_>,
    ) -> Result<Then, ExceptionCode> {
        put_words(out, &[sub_function])?;
        if sub_function == diagnostic::RETURN_QUERY_DATA {
            put(out, data.as_bytes())?;
            return Ok(Then::Answer);
        }
        let (then, answer) = match (sub_function, data.as_bytes()) {
            (diagnostic::RESTART_COMMUNICATIONS, [0x00, 0x00]) => (Then::AnswerAndRestart { clear_log: false }, 0x0000),
            (diagnostic::RESTART_COMMUNICATIONS, [0xFF, 0x00]) => (Then::AnswerAndRestart { clear_log: true }, 0xFF00),
            (diagnostic::RETURN_DIAGNOSTIC_REGISTER, [0, 0]) => (Then::Answer, map.diagnostic_register()),
            (diagnostic::FORCE_LISTEN_ONLY_MODE, [0, 0]) => (Then::FallSilent, 0),
            (diagnostic::CLEAR_COUNTERS, [0, 0]) => (Then::AnswerAndClear, 0),
            (diagnostic::CLEAR_OVERRUN_COUNTER, [0, 0]) => {
                self.line.counters.overruns = 0;
                (Then::Answer, 0)
            }
            (counter, [0, 0]) => {
                let count = self.line.counters.by_sub_function(counter);
                (Then::Answer, count.ok_or(ExceptionCode::ILLEGAL_FUNCTION)?)
            }
            _ => return Err(ExceptionCode::ILLEGAL_DATA_VALUE),
        };
        put_words(out, &[answer])?;
        Ok(then)
    }
}

/// Says whether a function may be broadcast: writes only, MODBUS over Serial Line V1.02 §2.1.
const fn is_write(function: u8) -> bool {
    matches!(
        function,
        fc::WRITE_SINGLE_COIL
            | fc::WRITE_SINGLE_REGISTER
            | fc::WRITE_MULTIPLE_COILS
            | fc::WRITE_MULTIPLE_REGISTERS
            | fc::WRITE_FILE_RECORD
            | fc::MASK_WRITE_REGISTER
    )
}

/// Says whether a request is the one that ends the listen only mode.
const fn is_restart(pdu: &[u8]) -> bool {
    matches!(pdu, [fc::DIAGNOSTICS, 0x00, 0x01, 0x00 | 0xFF, 0x00])
}

/// Puts what follows the function code of a read: byte count and items.
fn read(map: &dyn Map, table: Table, first: u16, count: u16, out: &mut Writer<'_>) -> Result<(), ExceptionCode> {
    let bytes = if table.is_bits() { count.div_ceil(8) } else { count.saturating_mul(2) };
    // At most 250, as `Request` limits the count.
    put(out, &[u8::try_from(bytes).unwrap_or(u8::MAX)])?;
    let (mut byte, mut place) = (0, 0_u32);
    for address in addresses(first, count) {
        let bit = match table {
            Table::HoldingRegister => {
                put_words(out, &[map.holding_register(address)?])?;
                continue;
            }
            Table::InputRegister => {
                put_words(out, &[map.input_register(address)?])?;
                continue;
            }
            Table::Coil => map.coil(address)?,
            Table::DiscreteInput => map.discrete_input(address)?,
        };
        byte |= u8::from(bit) << (place & 7);
        place = place.wrapping_add(1);
        if place & 7 == 0 {
            put(out, &[byte])?;
            byte = 0;
        }
    }
    if place & 7 == 0 { Ok(()) } else { put(out, &[byte]) }
}

fn write_coils(map: &mut dyn Map, first: u16, bits: Bits<'_>) -> Result<(), ExceptionCode> {
    map.check_coils(first, bits)?;
    map.write_coils(first, bits)
}

fn write_registers(map: &mut dyn Map, first: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
    map.check_registers(first, words)?;
    map.write_registers(first, words)
}

fn write_register(map: &mut dyn Map, address: u16, value: u16) -> Result<(), ExceptionCode> {
    write_registers(map, address, Words::new(&value.to_be_bytes()).unwrap_or_default())
}

/// Returns the addresses of a range that `Request` found to end at 65535 or below.
fn addresses(first: u16, count: u16) -> impl Iterator<Item = u16> {
    (0..count).map(move |place| first.wrapping_add(place))
}

/// Puts the request's bytes from behind its function code up to `end`.
fn repeat(pdu: &[u8], end: usize, out: &mut Writer<'_>) -> Result<(), ExceptionCode> {
    put(out, pdu.get(1..end).unwrap_or_default())
}

/// Puts bytes. Answers have limits that fit, but for a server id that is too long.
fn put(out: &mut Writer<'_>, bytes: &[u8]) -> Result<(), ExceptionCode> {
    out.put(bytes).map_err(|_| ExceptionCode::SERVER_DEVICE_FAILURE)
}

fn put_words(out: &mut Writer<'_>, words: &[u16]) -> Result<(), ExceptionCode> {
    words.iter().try_for_each(|word| put(out, &word.to_be_bytes()))
}

/// Lays an exception out and returns its length, §7.
fn exception(function: u8, code: ExceptionCode, body: &mut [u8]) -> usize {
    let pdu = [function | EXCEPTION, code.code()];
    if let Some(room) = body.first_chunk_mut::<2>() {
        *room = pdu;
    }
    pdu.len()
}

/// Puts the CRC behind unit and `pdu` bytes of PDU, and returns the frame.
fn close(out: &mut [u8; MAX_FRAME], pdu: usize) -> Option<&[u8]> {
    let end = pdu.saturating_add(1);
    let check = crc(out.get(..end)?).to_le_bytes();
    *out.get_mut(end..)?.first_chunk_mut::<2>()? = check;
    out.get(..end.saturating_add(2))
}

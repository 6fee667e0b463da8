//! The protocol data unit: a function code and what it carries, the same on every line.
//!
//! [`Request`] is what a client says, [`Response`] what a server says; a PDU alone does not tell which of the two it is.
//! Both borrow the bytes they were read from. `parse` takes every byte or fails with the place and the reason
//! ([`PduError`]); what it returned is emitted again as the same bytes. `emit` refuses what `parse` would not read back
//! as the same value, so nothing that breaks a limit of the standard ever leaves.
//!
//! Source: MODBUS Application Protocol V1.1b3 §4.1 (sizes), §5 (function codes), §6 (each function), §7 (exceptions).

mod device;
mod error;
mod file;
mod items;
mod request;
mod response;

pub use device::{DeviceId, DeviceObject, DeviceObjects};
pub use error::{Defect, EmitError, PduError};
pub use file::{FileData, FileRead, FileReads, FileWrite, FileWrites};
pub use items::{Bits, Words};
pub use request::Request;
pub use response::Response;

use crate::bytes::{Full, Writer};

/// Most bytes of a PDU: the 256 of a serial frame without unit and CRC.
///
/// Source: Application Protocol V1.1b3 §4.1.
pub const MAX_PDU: usize = 253;

/// Most coils one request may write.
///
/// Source: Application Protocol V1.1b3 §6.11.
pub const MAX_WRITE_COILS: u16 = 1968;

/// Most registers one request may write.
///
/// Source: Application Protocol V1.1b3 §6.12.
pub const MAX_WRITE_REGISTERS: u16 = 123;

/// Most registers one read/write request may write; it may read 125.
///
/// Source: Application Protocol V1.1b3 §6.17.
pub const MAX_READ_WRITE_REGISTERS: u16 = 121;

/// The bit of an answer's function code that makes it an exception.
///
/// Source: Application Protocol V1.1b3 §7.
pub const EXCEPTION: u8 = 0x80;

/// Function codes of the standard; any other number of 1..=127 is a vendor's.
///
/// Source: Application Protocol V1.1b3 §5.1.
pub mod function {
    /// Read coils, §6.1.
    pub const READ_COILS: u8 = 0x01;
    /// Read discrete inputs, §6.2.
    pub const READ_DISCRETE_INPUTS: u8 = 0x02;
    /// Read holding registers, §6.3.
    pub const READ_HOLDING_REGISTERS: u8 = 0x03;
    /// Read input registers, §6.4.
    pub const READ_INPUT_REGISTERS: u8 = 0x04;
    /// Write single coil, §6.5.
    pub const WRITE_SINGLE_COIL: u8 = 0x05;
    /// Write single register, §6.6.
    pub const WRITE_SINGLE_REGISTER: u8 = 0x06;
    /// Read exception status, serial lines only, §6.7.
    pub const READ_EXCEPTION_STATUS: u8 = 0x07;
    /// Diagnostics, serial lines only, §6.8.
    pub const DIAGNOSTICS: u8 = 0x08;
    /// Get comm event counter, serial lines only, §6.9.
    pub const GET_COMM_EVENT_COUNTER: u8 = 0x0B;
    /// Get comm event log, serial lines only, §6.10.
    pub const GET_COMM_EVENT_LOG: u8 = 0x0C;
    /// Write multiple coils, §6.11.
    pub const WRITE_MULTIPLE_COILS: u8 = 0x0F;
    /// Write multiple registers, §6.12.
    pub const WRITE_MULTIPLE_REGISTERS: u8 = 0x10;
    /// Report server id, serial lines only, §6.13.
    pub const REPORT_SERVER_ID: u8 = 0x11;
    /// Read file record, §6.14.
    pub const READ_FILE_RECORD: u8 = 0x14;
    /// Write file record, §6.15.
    pub const WRITE_FILE_RECORD: u8 = 0x15;
    /// Mask write register, §6.16.
    pub const MASK_WRITE_REGISTER: u8 = 0x16;
    /// Read/write multiple registers, §6.17.
    pub const READ_WRITE_MULTIPLE_REGISTERS: u8 = 0x17;
    /// Read FIFO queue, §6.18.
    pub const READ_FIFO_QUEUE: u8 = 0x18;
    /// Encapsulated interface transport, §6.19; device identification is its type 0x0E, §6.21.
    pub const ENCAPSULATED_INTERFACE: u8 = 0x2B;

    /// Returns the name the standard gives a function code without its exception bit, in lower case.
    #[must_use]
    pub const fn name(function: u8) -> Option<&'static str> {
        Some(match function {
            READ_COILS => "read coils",
            READ_DISCRETE_INPUTS => "read discrete inputs",
            READ_HOLDING_REGISTERS => "read holding registers",
            READ_INPUT_REGISTERS => "read input registers",
            WRITE_SINGLE_COIL => "write single coil",
            WRITE_SINGLE_REGISTER => "write single register",
            READ_EXCEPTION_STATUS => "read exception status",
            DIAGNOSTICS => "diagnostics",
            GET_COMM_EVENT_COUNTER => "get comm event counter",
            GET_COMM_EVENT_LOG => "get comm event log",
            WRITE_MULTIPLE_COILS => "write multiple coils",
            WRITE_MULTIPLE_REGISTERS => "write multiple registers",
            REPORT_SERVER_ID => "report server id",
            READ_FILE_RECORD => "read file record",
            WRITE_FILE_RECORD => "write file record",
            MASK_WRITE_REGISTER => "mask write register",
            READ_WRITE_MULTIPLE_REGISTERS => "read/write multiple registers",
            READ_FIFO_QUEUE => "read fifo queue",
            ENCAPSULATED_INTERFACE => "encapsulated interface transport",
            _ => return None,
        })
    }
}

/// Encapsulated interface type of the device identification, §6.21.
pub const MEI_DEVICE_ID: u8 = 0x0E;

/// Refuses a PDU that is empty, too long, or whose function code is 0; returns the code and what follows it.
fn open(pdu: &[u8]) -> Result<(u8, &[u8]), PduError> {
    match pdu {
        [] => Err(PduError { at: 0, what: Defect::Truncated { needed: 1, got: 0 } }),
        _ if pdu.len() > MAX_PDU => {
            Err(PduError { at: MAX_PDU, what: Defect::TrailingBytes { expected: MAX_PDU, got: pdu.len() } })
        }
        // §4.1: function code 0 is not valid.
        [0, ..] => Err(PduError { at: 0, what: Defect::Function { got: 0 } }),
        [function, data @ ..] => Ok((*function, data)),
    }
}

/// Says that a PDU is not as long as it should be.
const fn length(pdu: &[u8], expected: usize) -> PduError {
    let got = pdu.len();
    if got < expected {
        PduError { at: got, what: Defect::Truncated { needed: expected, got } }
    } else {
        PduError { at: expected, what: Defect::TrailingBytes { expected, got } }
    }
}

/// Takes a count and says whether it is within 1..=`max`.
const fn count(at: usize, bytes: [u8; 2], max: u16) -> Result<u16, PduError> {
    let got = u16::from_be_bytes(bytes);
    if got >= 1 && got <= max { Ok(got) } else { Err(PduError { at, what: Defect::Count { got, max } }) }
}

/// Refuses a range whose last item would lie above 65535. `at` is the place of the address.
fn range(at: usize, address: u16, count: u16) -> Result<(), PduError> {
    match count.checked_sub(1).and_then(|more| address.checked_add(more)) {
        Some(_) => Ok(()),
        None => Err(PduError { at, what: Defect::Range { address, count } }),
    }
}

/// Takes the value of a coil: FF00 or 0000 and nothing else, §6.5.
const fn coil(at: usize, bytes: [u8; 2]) -> Result<bool, PduError> {
    match bytes {
        [0xFF, 0x00] => Ok(true),
        [0x00, 0x00] => Ok(false),
        _ => Err(PduError { at, what: Defect::CoilValue { got: u16::from_be_bytes(bytes) } }),
    }
}

const fn coil_value(on: bool) -> u16 {
    if on { 0xFF00 } else { 0x0000 }
}

/// Takes the bytes behind a byte count that stands at `at` and must be `expected`, and refuses more or fewer of them.
fn counted(pdu: &[u8], at: usize, expected: usize) -> Result<&[u8], PduError> {
    let (got, data) = after_count(pdu, at)?;
    if usize::from(got) == expected {
        Ok(data)
    } else {
        Err(PduError { at, what: Defect::ByteCount { got: got.into(), expected } })
    }
}

/// Takes a byte count that stands at `at` and the bytes behind it, which are the rest of the PDU.
fn after_count(pdu: &[u8], at: usize) -> Result<(u8, &[u8]), PduError> {
    let Some((got, data)) = pdu.get(at..).and_then(<[u8]>::split_first) else {
        return Err(length(pdu, at.saturating_add(1)));
    };
    if data.len() == usize::from(*got) {
        Ok((*got, data))
    } else {
        Err(length(pdu, at.saturating_add(1).saturating_add(usize::from(*got))))
    }
}

/// Puts words big-endian.
fn put_words(out: &mut Writer<'_>, words: &[u16]) -> Result<(), Full> {
    words.iter().try_for_each(|word| out.put(&word.to_be_bytes()))
}

/// Puts bytes behind their one-byte count.
fn put_counted(out: &mut Writer<'_>, bytes: &[u8]) -> Result<(), Full> {
    out.put(&[u8::try_from(bytes.len()).map_err(|_| Full)?])?;
    out.put(bytes)
}

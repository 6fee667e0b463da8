//! What a client asks.

use super::error::{Defect, EmitError, PduError};
use super::file::{FileReads, FileWrites};
use super::function as fc;
use super::items::{Bits, Words};
use super::{EXCEPTION, MAX_READ_WRITE_REGISTERS, MAX_WRITE_COILS, MAX_WRITE_REGISTERS, MEI_DEVICE_ID};
use super::{coil, coil_value, count, counted, device, length, open, put_counted, put_words, range};
use crate::bytes::{Full, Writer};
use crate::modbus::Table;

/// A request PDU.
///
/// Source: Application Protocol V1.1b3 §6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// Functions 0x01 to 0x04: read a run of one table.
    Read {
        /// The table.
        table: Table,
        /// The first address.
        address: u16,
        /// Count of items: 1..=2000 bits or 1..=125 registers, the last at 65535 or below.
        count: u16,
    },
    /// Function 0x05: set one coil.
    WriteCoil {
        /// Its address.
        address: u16,
        /// On is FF00 on the wire, off 0000.
        on: bool,
    },
    /// Function 0x06: set one holding register.
    WriteRegister {
        /// Its address.
        address: u16,
        /// Its value.
        value: u16,
    },
    /// Function 0x07: read eight device-specific bits.
    ReadExceptionStatus,
    /// Function 0x08: diagnostics of the serial line.
    Diagnostics {
        /// What is asked, §6.8.1.
        sub_function: u16,
        /// Any count of registers; most sub-functions take one.
        data: Words<'a>,
    },
    /// Function 0x0B: read the counter of successful messages.
    GetCommEventCounter,
    /// Function 0x0C: read that counter and the log of events.
    GetCommEventLog,
    /// Function 0x0F: set a run of coils.
    WriteCoils {
        /// The first address.
        address: u16,
        /// 1..=1968 states. The padding is kept as it came.
        bits: Bits<'a>,
    },
    /// Function 0x10: set a run of holding registers.
    WriteRegisters {
        /// The first address.
        address: u16,
        /// 1..=123 values.
        words: Words<'a>,
    },
    /// Function 0x11: ask who the server is.
    ReportServerId,
    /// Function 0x14: read records of files.
    ReadFileRecord(FileReads<'a>),
    /// Function 0x15: write records of files.
    WriteFileRecord(FileWrites<'a>),
    /// Function 0x16: set some bits of a holding register to (value and `and`) or (`or` and not `and`).
    MaskWrite {
        /// Its address.
        address: u16,
        /// Bits that keep their value.
        and: u16,
        /// Bits that are set among the others.
        or: u16,
    },
    /// Function 0x17: write a run of holding registers, then read one.
    ReadWrite {
        /// The first address to read.
        read_address: u16,
        /// Count to read, 1..=125.
        read_count: u16,
        /// The first address to write.
        write_address: u16,
        /// 1..=121 values to write.
        words: Words<'a>,
    },
    /// Function 0x18: read a queue of registers.
    ReadFifoQueue {
        /// The address of its count.
        address: u16,
    },
    /// Function 0x2B type 0x0E: read the device's names.
    ReadDeviceId {
        /// Read device id code: 1 basic, 2 regular, 3 extended, 4 one object.
        level: u8,
        /// The object to begin with.
        object: u8,
    },
    /// Function 0x2B with another type.
    Encapsulated {
        /// The type, never 0x0E.
        mei: u8,
        /// What follows it.
        data: &'a [u8],
    },
    /// A function this crate does not know.
    Unknown {
        /// Its code, 1..=127.
        function: u8,
        /// What follows it.
        data: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// Takes a whole request PDU.
    ///
    /// # Errors
    /// See [`Defect`].
    pub fn parse(pdu: &'a [u8]) -> Result<Self, PduError> {
        let (function, data) = open(pdu)?;
        match function {
            fc::READ_COILS => read(pdu, Table::Coil),
            fc::READ_DISCRETE_INPUTS => read(pdu, Table::DiscreteInput),
            fc::READ_HOLDING_REGISTERS => read(pdu, Table::HoldingRegister),
            fc::READ_INPUT_REGISTERS => read(pdu, Table::InputRegister),
            fc::WRITE_SINGLE_COIL => {
                let &[_, a0, a1, v0, v1] = pdu else { return Err(length(pdu, 5)) };
                Ok(Self::WriteCoil { address: u16::from_be_bytes([a0, a1]), on: coil(3, [v0, v1])? })
            }
            fc::WRITE_SINGLE_REGISTER => {
                let &[_, a0, a1, v0, v1] = pdu else { return Err(length(pdu, 5)) };
                Ok(Self::WriteRegister { address: u16::from_be_bytes([a0, a1]), value: u16::from_be_bytes([v0, v1]) })
            }
            fc::READ_EXCEPTION_STATUS => alone(pdu, Self::ReadExceptionStatus),
            fc::DIAGNOSTICS => diagnostics(pdu).map(|(sub_function, data)| Self::Diagnostics { sub_function, data }),
            fc::GET_COMM_EVENT_COUNTER => alone(pdu, Self::GetCommEventCounter),
            fc::GET_COMM_EVENT_LOG => alone(pdu, Self::GetCommEventLog),
            fc::WRITE_MULTIPLE_COILS => write_coils(pdu),
            fc::WRITE_MULTIPLE_REGISTERS => write_registers(pdu),
            fc::REPORT_SERVER_ID => alone(pdu, Self::ReportServerId),
            fc::READ_FILE_RECORD => {
                let (_, groups) = super::after_count(pdu, 1)?;
                FileReads::parse(groups).map(Self::ReadFileRecord).map_err(|error| error.further(2))
            }
            fc::WRITE_FILE_RECORD => write_file_record(pdu).map(Self::WriteFileRecord),
            fc::MASK_WRITE_REGISTER => mask_write(pdu).map(|(address, and, or)| Self::MaskWrite { address, and, or }),
            fc::READ_WRITE_MULTIPLE_REGISTERS => read_write(pdu),
            fc::READ_FIFO_QUEUE => {
                let &[_, a0, a1] = pdu else { return Err(length(pdu, 3)) };
                Ok(Self::ReadFifoQueue { address: u16::from_be_bytes([a0, a1]) })
            }
            fc::ENCAPSULATED_INTERFACE => match pdu {
                &[_, MEI_DEVICE_ID, level, object] => {
                    Ok(Self::ReadDeviceId { level: device::level(2, level)?, object })
                }
                [_, MEI_DEVICE_ID, ..] => Err(length(pdu, 4)),
                [_, mei, data @ ..] => Ok(Self::Encapsulated { mei: *mei, data }),
                _ => Err(length(pdu, 2)),
            },
            EXCEPTION.. => Err(PduError { at: 0, what: Defect::Function { got: function } }),
            _ => Ok(Self::Unknown { function, data }),
        }
    }

    /// Returns the function code.
    #[must_use]
    pub const fn function(&self) -> u8 {
        match *self {
            Self::Read { table, .. } => table.read_function(),
            Self::WriteCoil { .. } => fc::WRITE_SINGLE_COIL,
            Self::WriteRegister { .. } => fc::WRITE_SINGLE_REGISTER,
            Self::ReadExceptionStatus => fc::READ_EXCEPTION_STATUS,
            Self::Diagnostics { .. } => fc::DIAGNOSTICS,
            Self::GetCommEventCounter => fc::GET_COMM_EVENT_COUNTER,
            Self::GetCommEventLog => fc::GET_COMM_EVENT_LOG,
            Self::WriteCoils { .. } => fc::WRITE_MULTIPLE_COILS,
            Self::WriteRegisters { .. } => fc::WRITE_MULTIPLE_REGISTERS,
            Self::ReportServerId => fc::REPORT_SERVER_ID,
            Self::ReadFileRecord(_) => fc::READ_FILE_RECORD,
            Self::WriteFileRecord(_) => fc::WRITE_FILE_RECORD,
            Self::MaskWrite { .. } => fc::MASK_WRITE_REGISTER,
            Self::ReadWrite { .. } => fc::READ_WRITE_MULTIPLE_REGISTERS,
            Self::ReadFifoQueue { .. } => fc::READ_FIFO_QUEUE,
            Self::ReadDeviceId { .. } | Self::Encapsulated { .. } => fc::ENCAPSULATED_INTERFACE,
            Self::Unknown { function, .. } => function,
        }
    }

    /// Puts the request at the front of `out` and returns its length, at most [`MAX_PDU`](super::MAX_PDU).
    ///
    /// # Errors
    /// See [`EmitError`]; `out` may have been written to.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        let mut writer = Writer::new(out);
        self.put(&mut writer)?;
        let len = writer.len();
        match Request::parse(out.get(..len).unwrap_or_default()) {
            Ok(read) if read == *self => Ok(len),
            Ok(_) => Err(EmitError::ReadsOtherwise),
            Err(error) => Err(EmitError::Invalid(error)),
        }
    }

    fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        out.put(&[self.function()])?;
        match *self {
            Self::Read { address, count, .. } => put_words(out, &[address, count]),
            Self::WriteCoil { address, on } => put_words(out, &[address, coil_value(on)]),
            Self::WriteRegister { address, value } => put_words(out, &[address, value]),
            Self::ReadExceptionStatus | Self::GetCommEventCounter | Self::GetCommEventLog | Self::ReportServerId => {
                Ok(())
            }
            Self::Diagnostics { sub_function, data } => {
                put_words(out, &[sub_function])?;
                out.put(data.as_bytes())
            }
            Self::WriteCoils { address, bits } => {
                put_words(out, &[address, short(bits.len())?])?;
                put_counted(out, bits.as_bytes())
            }
            Self::WriteRegisters { address, words } => {
                put_words(out, &[address, short(words.len())?])?;
                put_counted(out, words.as_bytes())
            }
            Self::ReadFileRecord(groups) => put_counted(out, groups.as_bytes()),
            Self::WriteFileRecord(groups) => put_counted(out, groups.as_bytes()),
            Self::MaskWrite { address, and, or } => put_words(out, &[address, and, or]),
            Self::ReadWrite { read_address, read_count, write_address, words } => {
                put_words(out, &[read_address, read_count, write_address, short(words.len())?])?;
                put_counted(out, words.as_bytes())
            }
            Self::ReadFifoQueue { address } => put_words(out, &[address]),
            Self::ReadDeviceId { level, object } => out.put(&[MEI_DEVICE_ID, level, object]),
            Self::Encapsulated { mei, data } => {
                out.put(&[mei])?;
                out.put(data)
            }
            Self::Unknown { data, .. } => out.put(data),
        }
    }
}

/// Takes a read of one table, §6.1 to §6.4.
fn read(pdu: &[u8], table: Table) -> Result<Request<'_>, PduError> {
    let &[_, a0, a1, n0, n1] = pdu else { return Err(length(pdu, 5)) };
    let address = u16::from_be_bytes([a0, a1]);
    let count = count(3, [n0, n1], table.max_items())?;
    range(1, address, count)?;
    Ok(Request::Read { table, address, count })
}

/// Takes a write of coils, §6.11: the byte count must be what the quantity needs.
fn write_coils(pdu: &[u8]) -> Result<Request<'_>, PduError> {
    let &[_, a0, a1, n0, n1, _, ..] = pdu else { return Err(length(pdu, 6)) };
    let address = u16::from_be_bytes([a0, a1]);
    let count = count(3, [n0, n1], MAX_WRITE_COILS)?;
    range(1, address, count)?;
    let bytes = counted(pdu, 5, usize::from(count.div_ceil(8)))?;
    Ok(Request::WriteCoils { address, bits: Bits::new(bytes, count.into()).unwrap_or_default() })
}

/// Takes a write of registers, §6.12: the byte count must be twice the quantity.
fn write_registers(pdu: &[u8]) -> Result<Request<'_>, PduError> {
    let &[_, a0, a1, n0, n1, _, ..] = pdu else { return Err(length(pdu, 6)) };
    let address = u16::from_be_bytes([a0, a1]);
    let count = count(3, [n0, n1], MAX_WRITE_REGISTERS)?;
    range(1, address, count)?;
    let bytes = counted(pdu, 5, usize::from(count).saturating_mul(2))?;
    Ok(Request::WriteRegisters { address, words: Words::new(bytes).unwrap_or_default() })
}

/// Takes a read/write of registers, §6.17.
fn read_write(pdu: &[u8]) -> Result<Request<'_>, PduError> {
    let &[_, a0, a1, n0, n1, b0, b1, m0, m1, _, ..] = pdu else { return Err(length(pdu, 10)) };
    let (read_address, write_address) = (u16::from_be_bytes([a0, a1]), u16::from_be_bytes([b0, b1]));
    let read_count = count(3, [n0, n1], Table::HoldingRegister.max_items())?;
    range(1, read_address, read_count)?;
    let write_count = count(7, [m0, m1], MAX_READ_WRITE_REGISTERS)?;
    range(5, write_address, write_count)?;
    let bytes = counted(pdu, 9, usize::from(write_count).saturating_mul(2))?;
    let words = Words::new(bytes).unwrap_or_default();
    Ok(Request::ReadWrite { read_address, read_count, write_address, words })
}

/// Takes a sub-function and its registers, §6.8; request and answer look alike.
pub(super) fn diagnostics(pdu: &[u8]) -> Result<(u16, Words<'_>), PduError> {
    let [_, s0, s1, data @ ..] = pdu else { return Err(length(pdu, 3)) };
    let data = Words::new(data).ok_or(PduError { at: 3, what: Defect::OddByteCount { got: data.len() } })?;
    Ok((u16::from_be_bytes([*s0, *s1]), data))
}

/// Takes address, and-mask and or-mask, §6.16; the answer repeats the request.
pub(super) fn mask_write(pdu: &[u8]) -> Result<(u16, u16, u16), PduError> {
    let &[_, a0, a1, m0, m1, o0, o1] = pdu else { return Err(length(pdu, 7)) };
    Ok((u16::from_be_bytes([a0, a1]), u16::from_be_bytes([m0, m1]), u16::from_be_bytes([o0, o1])))
}

/// Takes the groups of a write file record, §6.15; the answer repeats the request.
pub(super) fn write_file_record(pdu: &[u8]) -> Result<FileWrites<'_>, PduError> {
    let (_, groups) = super::after_count(pdu, 1)?;
    FileWrites::parse(groups).map_err(|error| error.further(2))
}

/// Takes a request that is its function code and nothing else.
fn alone<'a>(pdu: &[u8], request: Request<'a>) -> Result<Request<'a>, PduError> {
    if pdu.len() == 1 { Ok(request) } else { Err(length(pdu, 1)) }
}

fn short(len: usize) -> Result<u16, Full> {
    u16::try_from(len).map_err(|_| Full)
}

//! What a server answers.

use super::device::DeviceId;
use super::error::{Defect, EmitError, PduError};
use super::file::{FileData, FileWrites};
use super::function as fc;
use super::items::{Bits, Words};
use super::request::{diagnostics, mask_write, write_file_record};
use super::{EXCEPTION, MAX_WRITE_COILS, MAX_WRITE_REGISTERS, MEI_DEVICE_ID};
use super::{after_count, coil, coil_value, count, length, open, put_counted, put_words, range};
use crate::bytes::{Full, Writer};
use crate::modbus::{ExceptionCode, Table};

/// Bytes before the events of a comm event log: status, event count, message count, §6.10.
const LOG_HEAD: usize = 6;
/// Most events of a comm event log, §6.10.
const MAX_EVENTS: u16 = 64;
/// Most registers of a FIFO queue, §6.18.
const MAX_FIFO: u16 = 31;

/// A response PDU.
///
/// Source: Application Protocol V1.1b3 §6, §7.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Response<'a> {
    /// Functions 0x01 and 0x02: bits of one table, with padding up to a whole byte.
    ReadBits {
        /// [`Table::Coil`] or [`Table::DiscreteInput`].
        table: Table,
        /// 8..=2000 bits, a multiple of eight.
        bits: Bits<'a>,
    },
    /// Functions 0x03 and 0x04: registers of one table.
    ReadRegisters {
        /// [`Table::HoldingRegister`] or [`Table::InputRegister`].
        table: Table,
        /// 1..=125 registers.
        words: Words<'a>,
    },
    /// Function 0x05: the request repeated.
    WriteCoil {
        /// Its address.
        address: u16,
        /// On is FF00 on the wire, off 0000.
        on: bool,
    },
    /// Function 0x06: the request repeated.
    WriteRegister {
        /// Its address.
        address: u16,
        /// Its value.
        value: u16,
    },
    /// Function 0x07: eight device-specific bits.
    ReadExceptionStatus {
        /// The bits.
        status: u8,
    },
    /// Function 0x08: the request repeated, or a counter.
    Diagnostics {
        /// What was asked, §6.8.1.
        sub_function: u16,
        /// Any count of registers; most sub-functions give one.
        data: Words<'a>,
    },
    /// Function 0x0B: the counter of successful messages.
    GetCommEventCounter {
        /// FFFF while a program command is being processed, otherwise 0.
        status: u16,
        /// The counter.
        events: u16,
    },
    /// Function 0x0C: that counter and the log of events.
    GetCommEventLog {
        /// FFFF while a program command is being processed, otherwise 0.
        status: u16,
        /// The counter of successful messages.
        event_count: u16,
        /// The counter of messages processed since the last restart.
        message_count: u16,
        /// Up to 64 events, the latest first, §6.10.
        events: &'a [u8],
    },
    /// Function 0x0F: what was written.
    WriteCoils {
        /// The first address.
        address: u16,
        /// Count of coils, 1..=1968.
        count: u16,
    },
    /// Function 0x10: what was written.
    WriteRegisters {
        /// The first address.
        address: u16,
        /// Count of registers, 1..=123.
        count: u16,
    },
    /// Function 0x11: who the server is.
    ReportServerId {
        /// Device-specific: an id, a run indicator (00 off, FF on), more; their lengths are the maker's.
        data: &'a [u8],
    },
    /// Function 0x14: records of files.
    ReadFileRecord(FileData<'a>),
    /// Function 0x15: the request repeated.
    WriteFileRecord(FileWrites<'a>),
    /// Function 0x16: the request repeated.
    MaskWrite {
        /// Its address.
        address: u16,
        /// Bits that keep their value.
        and: u16,
        /// Bits that are set among the others.
        or: u16,
    },
    /// Function 0x17: what was read.
    ReadWrite {
        /// 1..=125 registers.
        words: Words<'a>,
    },
    /// Function 0x18: what is in the queue.
    ReadFifoQueue {
        /// 0..=31 registers.
        words: Words<'a>,
    },
    /// Function 0x2B type 0x0E: the device's names.
    ReadDeviceId(DeviceId<'a>),
    /// Function 0x2B with another type.
    Encapsulated {
        /// The type, never 0x0E.
        mei: u8,
        /// What follows it.
        data: &'a [u8],
    },
    /// Any function with 0x80 added: the server refused.
    Exception {
        /// The function that was asked, 1..=127.
        function: u8,
        /// Why.
        code: ExceptionCode,
    },
    /// A function this crate does not know.
    Unknown {
        /// Its code, 1..=127.
        function: u8,
        /// What follows it.
        data: &'a [u8],
    },
}

impl<'a> Response<'a> {
    /// Takes a whole response PDU.
    ///
    /// # Errors
    /// See [`Defect`].
    pub fn parse(pdu: &'a [u8]) -> Result<Self, PduError> {
        let (function, data) = open(pdu)?;
        match function {
            fc::READ_COILS => read_bits(pdu, Table::Coil),
            fc::READ_DISCRETE_INPUTS => read_bits(pdu, Table::DiscreteInput),
            fc::READ_HOLDING_REGISTERS => {
                read_words(pdu).map(|words| Self::ReadRegisters { table: Table::HoldingRegister, words })
            }
            fc::READ_INPUT_REGISTERS => {
                read_words(pdu).map(|words| Self::ReadRegisters { table: Table::InputRegister, words })
            }
            fc::WRITE_SINGLE_COIL => {
                let &[_, a0, a1, v0, v1] = pdu else { return Err(length(pdu, 5)) };
                Ok(Self::WriteCoil { address: u16::from_be_bytes([a0, a1]), on: coil(3, [v0, v1])? })
            }
            fc::WRITE_SINGLE_REGISTER => {
                let &[_, a0, a1, v0, v1] = pdu else { return Err(length(pdu, 5)) };
                Ok(Self::WriteRegister { address: u16::from_be_bytes([a0, a1]), value: u16::from_be_bytes([v0, v1]) })
            }
            fc::READ_EXCEPTION_STATUS => {
                let &[_, status] = pdu else { return Err(length(pdu, 2)) };
                Ok(Self::ReadExceptionStatus { status })
            }
            fc::DIAGNOSTICS => diagnostics(pdu).map(|(sub_function, data)| Self::Diagnostics { sub_function, data }),
            fc::GET_COMM_EVENT_COUNTER => {
                let &[_, s0, s1, e0, e1] = pdu else { return Err(length(pdu, 5)) };
                let (status, events) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([e0, e1]));
                Ok(Self::GetCommEventCounter { status, events })
            }
            fc::GET_COMM_EVENT_LOG => comm_event_log(pdu),
            fc::WRITE_MULTIPLE_COILS => {
                written(pdu, MAX_WRITE_COILS).map(|(address, count)| Self::WriteCoils { address, count })
            }
            fc::WRITE_MULTIPLE_REGISTERS => {
                written(pdu, MAX_WRITE_REGISTERS).map(|(address, count)| Self::WriteRegisters { address, count })
            }
            fc::REPORT_SERVER_ID => after_count(pdu, 1).map(|(_, data)| Self::ReportServerId { data }),
            fc::READ_FILE_RECORD => {
                let (_, groups) = after_count(pdu, 1)?;
                FileData::parse(groups).map(Self::ReadFileRecord).map_err(|error| error.further(2))
            }
            fc::WRITE_FILE_RECORD => write_file_record(pdu).map(Self::WriteFileRecord),
            fc::MASK_WRITE_REGISTER => mask_write(pdu).map(|(address, and, or)| Self::MaskWrite { address, and, or }),
            fc::READ_WRITE_MULTIPLE_REGISTERS => read_words(pdu).map(|words| Self::ReadWrite { words }),
            fc::READ_FIFO_QUEUE => fifo(pdu),
            fc::ENCAPSULATED_INTERFACE => match data {
                [MEI_DEVICE_ID, names @ ..] => {
                    DeviceId::parse(names).map(Self::ReadDeviceId).map_err(|error| error.further(2))
                }
                [mei, data @ ..] => Ok(Self::Encapsulated { mei: *mei, data }),
                [] => Err(length(pdu, 2)),
            },
            EXCEPTION => Err(PduError { at: 0, what: Defect::Function { got: function } }),
            0x81.. => {
                let &[_, code] = pdu else { return Err(length(pdu, 2)) };
                Ok(Self::Exception { function: function & !EXCEPTION, code: ExceptionCode::new(code) })
            }
            _ => Ok(Self::Unknown { function, data }),
        }
    }

    /// Returns the function code of the request that is answered: an exception's without its bit 0x80.
    #[must_use]
    pub const fn function(&self) -> u8 {
        match *self {
            Self::ReadBits { table, .. } | Self::ReadRegisters { table, .. } => table.read_function(),
            Self::WriteCoil { .. } => fc::WRITE_SINGLE_COIL,
            Self::WriteRegister { .. } => fc::WRITE_SINGLE_REGISTER,
            Self::ReadExceptionStatus { .. } => fc::READ_EXCEPTION_STATUS,
            Self::Diagnostics { .. } => fc::DIAGNOSTICS,
            Self::GetCommEventCounter { .. } => fc::GET_COMM_EVENT_COUNTER,
            Self::GetCommEventLog { .. } => fc::GET_COMM_EVENT_LOG,
            Self::WriteCoils { .. } => fc::WRITE_MULTIPLE_COILS,
            Self::WriteRegisters { .. } => fc::WRITE_MULTIPLE_REGISTERS,
            Self::ReportServerId { .. } => fc::REPORT_SERVER_ID,
            Self::ReadFileRecord(_) => fc::READ_FILE_RECORD,
            Self::WriteFileRecord(_) => fc::WRITE_FILE_RECORD,
            Self::MaskWrite { .. } => fc::MASK_WRITE_REGISTER,
            Self::ReadWrite { .. } => fc::READ_WRITE_MULTIPLE_REGISTERS,
            Self::ReadFifoQueue { .. } => fc::READ_FIFO_QUEUE,
            Self::ReadDeviceId(_) | Self::Encapsulated { .. } => fc::ENCAPSULATED_INTERFACE,
            Self::Exception { function, .. } | Self::Unknown { function, .. } => function,
        }
    }

    /// Puts the response at the front of `out` and returns its length, at most [`MAX_PDU`](super::MAX_PDU).
    ///
    /// # Errors
    /// See [`EmitError`]; `out` may have been written to.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        let mut writer = Writer::new(out);
        self.put(&mut writer)?;
        let len = writer.len();
        match Response::parse(out.get(..len).unwrap_or_default()) {
            Ok(read) if read == *self => Ok(len),
            Ok(_) => Err(EmitError::ReadsOtherwise),
            Err(error) => Err(EmitError::Invalid(error)),
        }
    }

    fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        if let Self::Exception { function, code } = *self {
            return out.put(&[function | EXCEPTION, code.code()]);
        }
        out.put(&[self.function()])?;
        match *self {
            Self::ReadBits { bits, .. } => put_counted(out, bits.as_bytes()),
            Self::ReadRegisters { words, .. } | Self::ReadWrite { words } => put_counted(out, words.as_bytes()),
            Self::WriteCoil { address, on } => put_words(out, &[address, coil_value(on)]),
            Self::WriteRegister { address, value } => put_words(out, &[address, value]),
            Self::ReadExceptionStatus { status } => out.put(&[status]),
            Self::Diagnostics { sub_function, data } => {
                put_words(out, &[sub_function])?;
                out.put(data.as_bytes())
            }
            Self::GetCommEventCounter { status, events } => put_words(out, &[status, events]),
            Self::GetCommEventLog { status, event_count, message_count, events } => {
                let len = events.len().saturating_add(LOG_HEAD);
                out.put(&[u8::try_from(len).map_err(|_| Full)?])?;
                put_words(out, &[status, event_count, message_count])?;
                out.put(events)
            }
            Self::WriteCoils { address, count } | Self::WriteRegisters { address, count } => {
                put_words(out, &[address, count])
            }
            Self::ReportServerId { data } => put_counted(out, data),
            Self::ReadFileRecord(groups) => put_counted(out, groups.as_bytes()),
            Self::WriteFileRecord(groups) => put_counted(out, groups.as_bytes()),
            Self::MaskWrite { address, and, or } => put_words(out, &[address, and, or]),
            Self::ReadFifoQueue { words } => {
                let count = u16::try_from(words.len()).map_err(|_| Full)?;
                put_words(out, &[count.saturating_mul(2).saturating_add(2), count])?;
                out.put(words.as_bytes())
            }
            Self::ReadDeviceId(names) => {
                out.put(&[MEI_DEVICE_ID])?;
                names.put(out)
            }
            Self::Encapsulated { mei, data } => {
                out.put(&[mei])?;
                out.put(data)
            }
            Self::Exception { .. } => Ok(()),
            Self::Unknown { data, .. } => out.put(data),
        }
    }
}

/// Takes the bits of a read, §6.1, §6.2.
fn read_bits(pdu: &[u8], table: Table) -> Result<Response<'_>, PduError> {
    let (got, bytes) = after_count(pdu, 1)?;
    let most = table.max_items().div_ceil(8);
    let expected = u16::from(got).clamp(1, most);
    if u16::from(got) != expected {
        return Err(PduError { at: 1, what: Defect::ByteCount { got: got.into(), expected: expected.into() } });
    }
    Ok(Response::ReadBits { table, bits: Bits::padded(bytes) })
}

/// Takes the registers of a read, §6.3, §6.4, §6.17.
fn read_words(pdu: &[u8]) -> Result<Words<'_>, PduError> {
    let (got, bytes) = after_count(pdu, 1)?;
    let words = Words::new(bytes).ok_or(PduError { at: 1, what: Defect::OddByteCount { got: got.into() } })?;
    let expected = got.clamp(2, 250);
    if got == expected {
        Ok(words)
    } else {
        Err(PduError { at: 1, what: Defect::ByteCount { got: got.into(), expected: expected.into() } })
    }
}

/// Takes the answer to a write of several items, §6.11, §6.12.
fn written(pdu: &[u8], max: u16) -> Result<(u16, u16), PduError> {
    let &[_, a0, a1, n0, n1] = pdu else { return Err(length(pdu, 5)) };
    let address = u16::from_be_bytes([a0, a1]);
    let count = count(3, [n0, n1], max)?;
    range(1, address, count)?;
    Ok((address, count))
}

/// Takes a comm event log, §6.10.
fn comm_event_log(pdu: &[u8]) -> Result<Response<'_>, PduError> {
    let (got, bytes) = after_count(pdu, 1)?;
    let Some((&[s0, s1, e0, e1, m0, m1], events)) = bytes.split_first_chunk::<LOG_HEAD>() else {
        return Err(PduError { at: 1, what: Defect::ByteCount { got: got.into(), expected: LOG_HEAD } });
    };
    if events.len() > MAX_EVENTS.into() {
        let expected = LOG_HEAD.saturating_add(MAX_EVENTS.into());
        return Err(PduError { at: 1, what: Defect::ByteCount { got: got.into(), expected } });
    }
    Ok(Response::GetCommEventLog {
        status: u16::from_be_bytes([s0, s1]),
        event_count: u16::from_be_bytes([e0, e1]),
        message_count: u16::from_be_bytes([m0, m1]),
        events,
    })
}

/// Takes a FIFO queue, §6.18: its byte count has two bytes and counts those of the FIFO count too.
fn fifo(pdu: &[u8]) -> Result<Response<'_>, PduError> {
    let &[_, b0, b1, n0, n1, ref bytes @ ..] = pdu else { return Err(length(pdu, 5)) };
    let (got, count) = (u16::from_be_bytes([b0, b1]), u16::from_be_bytes([n0, n1]));
    if count > MAX_FIFO {
        return Err(PduError { at: 3, what: Defect::Count { got: count, max: MAX_FIFO } });
    }
    let data = usize::from(count).saturating_mul(2);
    if usize::from(got) != data.saturating_add(2) {
        return Err(PduError { at: 1, what: Defect::ByteCount { got, expected: data.saturating_add(2) } });
    }
    if bytes.len() != data {
        return Err(length(pdu, data.saturating_add(5)));
    }
    Ok(Response::ReadFifoQueue { words: Words::new(bytes).unwrap_or_default() })
}

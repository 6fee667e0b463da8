//! Reads and writes on demand: they go before what is polled, one after the other for each unit.
//!
//! A write is answered truthfully: an answer that confirms it is not enough where the order asks for verification, and an
//! answer that failed to come is no failure if the registers hold what was written.

use alloc::vec::Vec;
use core::fmt;

use ganglion_protocols::Reason;
use ganglion_protocols::modbus::pdu::{Bits, MAX_PDU, Request, Words};
use ganglion_protocols::modbus::{Table, UnitId};

use crate::plan::ReadRequest;

/// Names an order; given by whoever makes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OrderId(pub u64);

/// Something asked once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Its name.
    pub id: OrderId,
    /// Who is asked; unit 0 on a serial line is everybody, for writes only.
    pub unit: UnitId,
    /// What is asked.
    pub deed: Deed,
}

/// What an order does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deed {
    /// Reads items.
    Read(ReadRequest),
    /// Writes, and reads back what was written if `verify`.
    Write {
        /// What is written.
        write: Write,
        /// Whether it is read back and compared.
        verify: bool,
    },
    /// Reads identification objects (0x2B/0x0E) of a level from an object on.
    Identify {
        /// Read device id code: 1 basic, 2 regular, 3 extended, 4 one object.
        level: u8,
        /// First object.
        object: u8,
    },
    /// Asks for the server id (0x11).
    ServerId,
}

/// A write of the Application Protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// 0x05: one coil.
    Coil {
        /// Address, from 0.
        address: u16,
        /// On or off.
        on: bool,
    },
    /// 0x06: one register.
    Register {
        /// Address, from 0.
        address: u16,
        /// Its value.
        value: u16,
    },
    /// 0x0F: coils.
    Coils {
        /// First address.
        address: u16,
        /// 1 to 1968 of them, eight to a byte, the first in the lowest bit.
        packed: Vec<u8>,
        /// How many.
        count: u16,
    },
    /// 0x10: registers.
    Registers {
        /// First address.
        address: u16,
        /// 1 to 123 of them.
        values: Vec<u16>,
    },
    /// 0x16: some bits of a register: it becomes `(register & and) | (or & !and)`.
    Mask {
        /// Address.
        address: u16,
        /// Bits that stay.
        and: u16,
        /// Bits that the others become.
        or: u16,
    },
    /// 0x17: writes registers, then reads registers.
    ReadWrite {
        /// What is read.
        read: (u16, u16),
        /// First address written.
        address: u16,
        /// 1 to 121 values.
        values: Vec<u16>,
    },
}

/// How an order ended well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// The items read: by a read, or by the read part of 0x17.
    Items(Vec<u16>),
    /// Written and confirmed by the unit, and read back if that was asked for.
    Written,
    /// Sent to everybody; nobody answers.
    Broadcast,
    /// The bytes of an answer to 0x11 or 0x2B, function code included.
    Answer(Vec<u8>),
}

/// Why an order was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderError {
    /// No usable answer, or an exception; a write may have been carried out all the same if no answer came.
    Failed(Reason),
    /// It was confirmed, and an item read back holds something else.
    Differs {
        /// The item.
        address: u16,
        /// What was written.
        wrote: u16,
        /// What it holds.
        found: u16,
    },
    /// It was confirmed, but what was written could not be read back: no answer, or an exception.
    NotReadBack(Reason),
    /// It cannot be asked: too many items, past the end of the table, or a read for everybody.
    Impossible,
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "{reason}"),
            Self::Differs { address, wrote, found } => {
                write!(f, "confirmed, but {address} holds {found} where {wrote} was written")
            }
            Self::NotReadBack(reason) => write!(f, "written and confirmed, but it could not be read back: {reason}"),
            Self::Impossible => f.write_str("no such request exists"),
        }
    }
}

impl core::error::Error for OrderError {}

impl Write {
    /// Makes a write of coils out of their states; `None` for more than fit any PDU.
    #[must_use]
    pub fn coils(address: u16, states: &[bool]) -> Option<Self> {
        let mut buffer = [0; MAX_PDU];
        let packed = Bits::pack(states, &mut buffer)?.as_bytes().to_vec();
        Some(Self::Coils { address, packed, count: u16::try_from(states.len()).ok()? })
    }

    /// Returns what is read back, if anything can be.
    pub(super) fn read_back(&self) -> Option<ReadRequest> {
        let registers = |address, count| ReadRequest { table: Table::HoldingRegister, address, count };
        let long = |values: &[u16]| u16::try_from(values.len()).ok();
        Some(match self {
            Self::Coil { address, .. } => ReadRequest { table: Table::Coil, address: *address, count: 1 },
            Self::Coils { address, count, .. } => ReadRequest { table: Table::Coil, address: *address, count: *count },
            Self::Register { address, .. } | Self::Mask { address, .. } => registers(*address, 1),
            Self::Registers { address, values } | Self::ReadWrite { address, values, .. } => {
                registers(*address, long(values)?)
            }
        })
    }

    /// Compares what was read back.
    pub(super) fn compare(&self, items: &[u16]) -> Result<(), OrderError> {
        let differs = |place: usize, wrote: u16, found: u16| {
            let first = self.read_back().map_or(0, |request| request.address);
            let address = first.saturating_add(u16::try_from(place).unwrap_or(u16::MAX));
            if wrote == found { Ok(()) } else { Err(OrderError::Differs { address, wrote, found }) }
        };
        let found = |place: usize| items.get(place).copied().unwrap_or(0);
        match self {
            Self::Coil { on, .. } => differs(0, u16::from(*on), found(0)),
            Self::Register { value, .. } => differs(0, *value, found(0)),
            Self::Coils { packed, count, .. } => (0..usize::from(*count)).try_for_each(|place| {
                let byte = packed.get(place >> 3).copied().unwrap_or(0);
                differs(place, u16::from(byte >> (place & 7) & 1), found(place))
            }),
            Self::Registers { values, .. } | Self::ReadWrite { values, .. } => {
                values.iter().enumerate().try_for_each(|(place, &value)| differs(place, value, found(place)))
            }
            Self::Mask { and, or, .. } => differs(0, or & !and, found(0) & !and),
        }
    }

    /// Writes the request's PDU. Returns its length, `None` if no such request exists.
    pub(super) fn emit(&self, out: &mut [u8]) -> Option<usize> {
        let mut bytes = Vec::new();
        let mut big_endian = |values: &[u16]| bytes.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        let request = match self {
            Self::Coil { address, on } => Request::WriteCoil { address: *address, on: *on },
            Self::Register { address, value } => Request::WriteRegister { address: *address, value: *value },
            Self::Coils { address, packed, count } => {
                Request::WriteCoils { address: *address, bits: Bits::new(packed, usize::from(*count))? }
            }
            Self::Registers { address, values } => {
                big_endian(values);
                Request::WriteRegisters { address: *address, words: Words::new(&bytes)? }
            }
            Self::Mask { address, and, or } => Request::MaskWrite { address: *address, and: *and, or: *or },
            Self::ReadWrite { read: (read_address, read_count), address, values } => {
                big_endian(values);
                Request::ReadWrite {
                    read_address: *read_address,
                    read_count: *read_count,
                    write_address: *address,
                    words: Words::new(&bytes)?,
                }
            }
        };
        request.emit(out).ok()
    }
}

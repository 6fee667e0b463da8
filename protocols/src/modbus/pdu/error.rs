//! Why bytes are no PDU, and why a value cannot be one.

use core::fmt;

use crate::bytes::Full;

/// Why bytes are no PDU: where, and what is wrong there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PduError {
    /// Place of the first byte that is wrong, 0 for the function code; the length of the PDU when bytes are missing.
    pub at: usize,
    /// What is wrong.
    pub what: Defect,
}

impl PduError {
    /// Moves the place: the part that was parsed lies `by` bytes into the PDU, and so do the lengths it speaks of.
    pub(super) const fn further(self, by: usize) -> Self {
        let what = match self.what {
            Defect::Truncated { needed, got } => {
                Defect::Truncated { needed: needed.saturating_add(by), got: got.saturating_add(by) }
            }
            Defect::TrailingBytes { expected, got } => {
                Defect::TrailingBytes { expected: expected.saturating_add(by), got: got.saturating_add(by) }
            }
            what => what,
        };
        Self { at: self.at.saturating_add(by), what }
    }
}

/// What is wrong in a PDU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// The bytes end before the value does.
    Truncated {
        /// Bytes the PDU must have, at least.
        needed: usize,
        /// Bytes it has.
        got: usize,
    },
    /// More bytes than the value takes.
    TrailingBytes {
        /// Bytes the PDU must have.
        expected: usize,
        /// Bytes it has.
        got: usize,
    },
    /// The function code is 0, or above 127 in a request: these are the exceptions.
    Function {
        /// The code.
        got: u8,
    },
    /// A count of items that is 0 or above what the function allows.
    Count {
        /// The count.
        got: u16,
        /// The most that is allowed.
        max: u16,
    },
    /// The last item would lie above address 65535.
    Range {
        /// The first address.
        address: u16,
        /// The count of items.
        count: u16,
    },
    /// A byte count that contradicts the count of items or cannot be.
    ByteCount {
        /// The byte count.
        got: u16,
        /// What it must be; for a least or most, that.
        expected: usize,
    },
    /// A byte count of registers that is odd.
    OddByteCount {
        /// The byte count.
        got: usize,
    },
    /// A coil value other than 0000 and FF00.
    CoilValue {
        /// The value.
        got: u16,
    },
    /// A reference type of a file record other than 6.
    ReferenceType {
        /// The type.
        got: u8,
    },
    /// File number 0.
    FileNumber,
    /// A record number above 9999.
    RecordNumber {
        /// The number.
        got: u16,
    },
    /// A read device id code other than 1 to 4.
    DeviceIdLevel {
        /// The code.
        got: u8,
    },
    /// A "more follows" other than 00 and FF.
    MoreFollows {
        /// The byte.
        got: u8,
    },
}

impl fmt::Display for PduError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of the pdu: {}", self.at, self.what)
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { needed, got } => write!(f, "{got} bytes of pdu, at least {needed} needed"),
            Self::TrailingBytes { expected, got } => write!(f, "{got} bytes of pdu, {expected} expected"),
            Self::Function { got } => write!(f, "function code {got:02X} is outside 01 to 7F"),
            Self::Count { got, max } => write!(f, "count {got} is outside 1 to {max}"),
            Self::Range { address, count } => write!(f, "{count} items from {address} pass 65535"),
            Self::ByteCount { got, expected } => write!(f, "byte count {got}, {expected} expected"),
            Self::OddByteCount { got } => write!(f, "byte count {got} is odd, a register takes two"),
            Self::CoilValue { got } => write!(f, "coil value {got:04X} is neither 0000 nor FF00"),
            Self::ReferenceType { got } => write!(f, "reference type {got} is not 6"),
            Self::FileNumber => f.write_str("file number 0 is outside 1 to 65535"),
            Self::RecordNumber { got } => write!(f, "record number {got} is above 9999"),
            Self::DeviceIdLevel { got } => write!(f, "read device id code {got} is outside 1 to 4"),
            Self::MoreFollows { got } => write!(f, "more follows {got:02X} is neither 00 nor FF"),
        }
    }
}

impl core::error::Error for PduError {}

/// Why a value was not emitted. The buffer may have been written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EmitError {
    /// The buffer is too short, or a part has more bytes than any PDU.
    Full,
    /// A field is outside its limits.
    Invalid(PduError),
    /// The bytes would be read as another value: an unknown function with a known code, a table of the other width.
    ReadsOtherwise,
}

impl From<Full> for EmitError {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

impl fmt::Display for EmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the buffer is too short"),
            Self::Invalid(error) => error.fmt(f),
            Self::ReadsOtherwise => f.write_str("the bytes would be read as another value"),
        }
    }
}

impl core::error::Error for EmitError {}

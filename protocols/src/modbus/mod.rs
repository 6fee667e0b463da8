//! Modbus: the words of the Application Protocol, and the values that registers hold.
//!
//! Source: MODBUS Application Protocol Specification V1.1b3.

pub mod ascii;
pub mod pdu;
pub mod rtu;
pub mod tcp;
mod value;

pub use value::{BitField, Raw, ValueError, ValueType, WordOrder};

use core::fmt;

/// Serial address or MBAP unit identifier of one server.
///
/// Source: MODBUS over Serial Line V1.02 §2.2: 1..=247 on a serial line. On TCP 0 and 255 are in use as "the device
/// itself" (Messaging on TCP/IP V1.0b §4.4.1.1), so every byte is taken; the limit of a serial line is the
/// configuration's to check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnitId(pub u8);

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The four primary tables.
///
/// Source: Application Protocol V1.1b3 §4.3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Table {
    /// Coils, one bit, read by function code 0x01.
    Coil,
    /// Discrete inputs, one bit, read by function code 0x02.
    DiscreteInput,
    /// Input registers, sixteen bits, read by function code 0x04.
    InputRegister,
    /// Holding registers, sixteen bits, read by function code 0x03.
    HoldingRegister,
}

impl Table {
    /// The four tables.
    pub const ALL: [Self; 4] = [Self::Coil, Self::DiscreteInput, Self::InputRegister, Self::HoldingRegister];

    /// Returns the word for it in configuration and output: `coil`, `discrete`, `input` or `holding`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::DiscreteInput => "discrete",
            Self::InputRegister => "input",
            Self::HoldingRegister => "holding",
        }
    }

    /// Returns the function code that reads the table.
    #[must_use]
    pub const fn read_function(self) -> u8 {
        match self {
            Self::Coil => 0x01,
            Self::DiscreteInput => 0x02,
            Self::HoldingRegister => 0x03,
            Self::InputRegister => 0x04,
        }
    }

    /// Returns the most items one request may ask for: 2000 bits or 125 registers.
    ///
    /// Source: Application Protocol V1.1b3 §6.1 to §6.4.
    #[must_use]
    pub const fn max_items(self) -> u16 {
        match self {
            Self::Coil | Self::DiscreteInput => 2000,
            Self::InputRegister | Self::HoldingRegister => 125,
        }
    }

    /// Says whether an item is one bit.
    #[must_use]
    pub const fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::DiscreteInput)
    }
}

/// Why a server refused a request.
///
/// Source: Application Protocol V1.1b3 §7. Codes outside the table are in the field (seen: 0x54) and kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExceptionCode(u8);

impl ExceptionCode {
    /// 0x01: the function code is not allowed.
    pub const ILLEGAL_FUNCTION: Self = Self(0x01);
    /// 0x02: an address of the request is not allowed.
    pub const ILLEGAL_DATA_ADDRESS: Self = Self(0x02);
    /// 0x03: a value in the request is not allowed.
    pub const ILLEGAL_DATA_VALUE: Self = Self(0x03);
    /// 0x04: the server failed while doing it.
    pub const SERVER_DEVICE_FAILURE: Self = Self(0x04);
    /// 0x05: accepted, will take long.
    pub const ACKNOWLEDGE: Self = Self(0x05);
    /// 0x06: busy, ask again later.
    pub const SERVER_DEVICE_BUSY: Self = Self(0x06);
    /// 0x08: extended memory failed its parity check.
    pub const MEMORY_PARITY_ERROR: Self = Self(0x08);
    /// 0x0A: a gateway has no path to the unit.
    pub const GATEWAY_PATH_UNAVAILABLE: Self = Self(0x0A);
    /// 0x0B: a gateway got no answer from the unit.
    pub const GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND: Self = Self(0x0B);

    /// Takes any code.
    #[must_use]
    pub const fn new(code: u8) -> Self {
        Self(code)
    }

    /// Returns the code as on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Returns the name the standard prints, in lower case; `None` for a code it does not assign.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ILLEGAL_FUNCTION => "illegal function",
            Self::ILLEGAL_DATA_ADDRESS => "illegal data address",
            Self::ILLEGAL_DATA_VALUE => "illegal data value",
            Self::SERVER_DEVICE_FAILURE => "server device failure",
            Self::ACKNOWLEDGE => "acknowledge",
            Self::SERVER_DEVICE_BUSY => "server device busy",
            Self::MEMORY_PARITY_ERROR => "memory parity error",
            Self::GATEWAY_PATH_UNAVAILABLE => "gateway path unavailable",
            Self::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND => "gateway target device failed to respond",
            _ => return None,
        })
    }
}

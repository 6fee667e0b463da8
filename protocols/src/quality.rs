//! How far a value may be trusted, and why not further.

use core::fmt;

use crate::modbus::ExceptionCode;

/// Quality of one reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Quality {
    /// The device answered and the value lies within its limits.
    Good,
    /// There is a value, but the reason says why it deserves doubt.
    Uncertain(Reason),
    /// There is no usable value.
    Bad(Reason),
}

impl Quality {
    /// Returns `good`, `uncertain` or `bad`, as written in the payload.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain(_) => "uncertain",
            Self::Bad(_) => "bad",
        }
    }

    /// Returns the reason, if the quality is not good.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Good => None,
            Self::Uncertain(reason) | Self::Bad(reason) => Some(reason),
        }
    }
}

/// Why a reading is not good. Codes are part of the record format and never change their meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The unit did not answer in time.
    Timeout,
    /// The line or connection to the unit is down.
    Disconnected,
    /// The answer was no valid frame: wrong CRC, garbage, cut short.
    Malformed,
    /// The answer came from another unit, function or transaction.
    WrongReply,
    /// The answer carried another count of registers than asked for.
    WrongLength,
    /// The unit answered with a Modbus exception.
    Exception(ExceptionCode),
    /// The device sent its own marker for "no value".
    Missing,
    /// The registers hold no value of the configured type: a BCD digit above 9, or a float that is no number.
    NotAValue,
    /// The value is physically impossible for the property.
    OutOfRange,
    /// A register that tells devices apart holds another value: this is not the device that was configured.
    WrongDevice,
    /// A node says that the wire to its sensor is broken, or the transmitter has failed low (NAMUR NE 43).
    BrokenWire,
    /// A node says that its sensor gives more than it can, or the transmitter has failed high.
    SensorOverRange,
    /// A node says that its sensor gives less than it can.
    SensorUnderRange,
    /// A node says that its sensor does not answer.
    SensorSilent,
    /// A node says that what its sensor answers is no value.
    SensorGarbled,
    /// A reason this edition does not know, kept by its code.
    Other(UnknownReason),
}

/// Code of a reason that this edition does not know. Only [`Reason::from_code`] makes one, so that no known reason has
/// two forms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct UnknownReason(u16);

impl Reason {
    /// Returns the code kept in records: 0x01..=0xFF, or 0x100 + the exception code. No two reasons share a code.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Timeout => 0x01,
            Self::Disconnected => 0x02,
            Self::Malformed => 0x03,
            Self::WrongReply => 0x04,
            Self::WrongLength => 0x05,
            Self::Missing => 0x06,
            Self::NotAValue => 0x07,
            Self::OutOfRange => 0x08,
            Self::WrongDevice => 0x09,
            Self::BrokenWire => 0x0A,
            Self::SensorOverRange => 0x0B,
            Self::SensorUnderRange => 0x0C,
            Self::SensorSilent => 0x0D,
            Self::SensorGarbled => 0x0E,
            Self::Other(UnknownReason(code)) => code,
            Self::Exception(code) => 0x100 | code.code() as u16,
        }
    }

    /// Takes the code kept in records; [`code`](Self::code) of the reason is the code again.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
    pub const fn from_code(code: u16) -> Self {
        match code {
            0x01 => Self::Timeout,
            0x02 => Self::Disconnected,
            0x03 => Self::Malformed,
            0x04 => Self::WrongReply,
            0x05 => Self::WrongLength,
            0x06 => Self::Missing,
            0x07 => Self::NotAValue,
            0x08 => Self::OutOfRange,
            0x09 => Self::WrongDevice,
            0x0A => Self::BrokenWire,
            0x0B => Self::SensorOverRange,
            0x0C => Self::SensorUnderRange,
            0x0D => Self::SensorSilent,
            0x0E => Self::SensorGarbled,
            0x100..=0x1FF => Self::Exception(ExceptionCode::new(code as u8)),
            _ => Self::Other(UnknownReason(code)),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Disconnected => f.write_str("disconnected"),
            Self::Malformed => f.write_str("malformed"),
            Self::WrongReply => f.write_str("wrong-reply"),
            Self::WrongLength => f.write_str("wrong-length"),
            Self::Exception(code) => write!(f, "exception-{:02x}", code.code()),
            Self::Missing => f.write_str("missing"),
            Self::NotAValue => f.write_str("not-a-value"),
            Self::OutOfRange => f.write_str("out-of-range"),
            Self::WrongDevice => f.write_str("wrong-device"),
            Self::BrokenWire => f.write_str("broken-wire"),
            Self::SensorOverRange => f.write_str("sensor-over-range"),
            Self::SensorUnderRange => f.write_str("sensor-under-range"),
            Self::SensorSilent => f.write_str("sensor-silent"),
            Self::SensorGarbled => f.write_str("sensor-garbled"),
            Self::Other(UnknownReason(code)) => write!(f, "other-{code:02x}"),
        }
    }
}

//! Chips and transducers of a node, on the traits of embedded-hal 1.0 (feature `chip`).
//!
//! Each file is one chip or one kind of transducer. A driver owns its bus; where chips share one, give each a `&mut` of
//! it, which is a bus too: they hold little or nothing between calls.
//!
//! **Invariants.** Nobody here waits, but for a bit-banged bus, which has to: what a chip needs time for is begun by one
//! call and fetched by another, and times are durations since any one start, the same for every call. A value is a
//! fixed-point integer. What is no value has a [`SensorFault`], and nothing a chip sends panics.
//!
//! The blocking traits only: a transfer of a few bytes is shorter than the node's main loop.

use embedded_hal::i2c;
use ganglion_protocols::node_link::SensorFault;

pub mod ds18b20;
pub mod fram;
pub mod lis2dh;
pub mod loop_current;
pub mod one_wire;
pub mod pulse;
pub mod ratiometric;
pub mod rs485;
pub mod sht3x;
pub mod tilt;
pub mod tmp105;
pub mod two_point;
pub mod ultrasonic;

/// Why a chip gave no value; `E` is the error of its bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChipError<E> {
    /// The bus failed; mostly, nobody acknowledged.
    Bus(E),
    /// The checksum is not that of the bytes before it.
    Checksum {
        /// The one that came.
        got: u8,
        /// The one of the bytes that came.
        expected: u8,
    },
    /// A register or a part of one that has one value has another: another chip, or the bus makes it up.
    Unexpected {
        /// The value that came.
        got: u8,
        /// The value of this chip.
        expected: u8,
    },
    /// Nothing was measured yet: nobody asked for it, or it takes longer.
    NotReady,
}

impl<E> ChipError<E> {
    /// Returns what a channel says instead of a value.
    #[must_use]
    pub const fn fault(&self) -> SensorFault {
        match self {
            Self::Bus(_) => SensorFault::NoAnswer,
            Self::Checksum { .. } | Self::Unexpected { .. } => SensorFault::BadAnswer,
            Self::NotReady => SensorFault::NoSample,
        }
    }
}

impl<E: i2c::Error> From<E> for ChipError<E> {
    fn from(error: E) -> Self {
        Self::Bus(error)
    }
}

/// Says whether a byte has, under a mask, the bits it must have.
fn expect_bits<E>(got: u8, mask: u8, expected: u8) -> Result<(), ChipError<E>> {
    let got = got & mask;
    if got == expected { Ok(()) } else { Err(ChipError::Unexpected { got, expected }) }
}

/// Says whether a checksum is the one it must be.
fn expect_checksum<E>(got: u8, expected: u8) -> Result<(), ChipError<E>> {
    if got == expected { Ok(()) } else { Err(ChipError::Checksum { got, expected }) }
}

/// Returns 1/16 °C as 0.01 °C, to the nearest, halves up; beyond `i16` its end.
fn centidegrees(sixteenths: i16) -> i16 {
    let hundredths = i32::from(sixteenths).saturating_mul(25).saturating_add(2) >> 2;
    i16::try_from(hundredths).unwrap_or(if sixteenths < 0 { i16::MIN } else { i16::MAX })
}

//! Samples as they lie in a batch.
//!
//! ```text
//! sample  = milliseconds since the one before varint, reading for each channel
//! reading = 0, value zigzag varint | 1, fault varint
//! ```

use serde::{Deserialize, Serialize};

use super::{NotAMessage, put};
use crate::bytes::Full;

/// What one channel of a node says in a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NodeReading {
    /// A value, in units of 10^exponent of the channel's unit.
    Value(i32),
    /// There is none.
    Fault(SensorFault),
}

/// Why a channel has no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SensorFault {
    /// A loop current below what a living transmitter sends: NAMUR NE 43, 3.6 mA.
    BrokenWire,
    /// Above what it sends: NAMUR NE 43, 21 mA; or the converter's end.
    OverRange,
    /// Below the converter's or the sensor's range.
    UnderRange,
    /// The sensor does not answer.
    NoAnswer,
    /// The sensor answers, but its checksum or status says that it is no value.
    BadAnswer,
    /// Nothing was measured in this window yet.
    NoSample,
}

impl SensorFault {
    /// Returns the code that a Modbus client reads, less 1, and that stores keep. It is the variant's place on the wire, too.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::BrokenWire => 0,
            Self::OverRange => 1,
            Self::UnderRange => 2,
            Self::NoAnswer => 3,
            Self::BadAnswer => 4,
            Self::NoSample => 5,
        }
    }

    /// Takes the code back.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::BrokenWire,
            1 => Self::OverRange,
            2 => Self::UnderRange,
            3 => Self::NoAnswer,
            4 => Self::BadAnswer,
            5 => Self::NoSample,
            _ => return None,
        })
    }
}

/// Takes samples from the front of a batch's bytes.
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    rest: &'a [u8],
    at_ms: u64,
    channels: u8,
}

/// One sample: its uptime, and a reading for each channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeSample<'a> {
    /// Uptime of its boot, in milliseconds.
    pub at_ms: u64,
    readings: &'a [u8],
    channels: u8,
}

impl<'a> Samples<'a> {
    /// Goes through the samples of a batch with so many channels, the first at `base_ms` and its difference.
    #[must_use]
    pub const fn new(bytes: &'a [u8], channels: u8, base_ms: u64) -> Self {
        Self { rest: bytes, at_ms: base_ms, channels }
    }

    /// Takes the next sample; `None` at the end.
    fn take(&mut self) -> Option<Result<NodeSample<'a>, NotAMessage>> {
        if self.rest.is_empty() {
            return None;
        }
        let taken =
            postcard::take_from_bytes::<u64>(self.rest).map_err(|_| NotAMessage).and_then(|(step, readings)| {
                let mut rest = readings;
                for _ in 0..self.channels {
                    (_, rest) = postcard::take_from_bytes::<NodeReading>(rest).map_err(|_| NotAMessage)?;
                }
                self.at_ms = self.at_ms.checked_add(step).ok_or(NotAMessage)?;
                self.rest = rest;
                Ok(NodeSample { at_ms: self.at_ms, readings, channels: self.channels })
            });
        if taken.is_err() {
            self.rest = &[];
        }
        Some(taken)
    }
}

impl<'a> Iterator for Samples<'a> {
    type Item = Result<NodeSample<'a>, NotAMessage>;

    /// The next sample; what is no sample ends the batch.
    fn next(&mut self) -> Option<Self::Item> {
        self.take()
    }
}

impl<'a> NodeSample<'a> {
    /// Goes through the readings, one for each channel.
    pub fn readings(&self) -> impl Iterator<Item = NodeReading> + use<'a> {
        let mut rest = self.readings;
        (0..self.channels).map_while(move |_| {
            let (reading, behind) = postcard::take_from_bytes(rest).ok()?;
            rest = behind;
            Some(reading)
        })
    }
}

/// Writes a sample that was taken `step_ms` after the one before it in the batch; returns its length.
///
/// # Errors
/// [`Full`] when `out` is too short; what is in it then means nothing.
pub fn put_sample(step_ms: u64, readings: &[NodeReading], out: &mut [u8]) -> Result<usize, Full> {
    let mut used = put(&step_ms, out)?;
    for reading in readings {
        let space = out.get_mut(used..).ok_or(Full)?;
        used = used.saturating_add(put(reading, space)?);
    }
    Ok(used)
}

//! What a node measures, and the hash of it.

use serde::{Deserialize, Serialize};

use super::frame::checksum_of;
use super::{MAX_PAYLOAD, put};

/// A chain over the channels in their order: CRC-32 of the hash so far (LE, 0 at first) and the postcard form of the next, with a
/// period of 0: how often is measured may change, what is measured not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SchemaHash(pub u32);

/// What one channel measures. The names are those of the code directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Channel<'a> {
    /// Its place, from 0.
    pub index: u8,
    /// The observable property.
    pub property: &'a str,
    /// UCUM unit.
    pub unit: &'a str,
    /// A value is so many times 10^exponent of the unit.
    pub exponent: i8,
    /// The first of the two input registers (big-endian, high word first) that hold the latest value too.
    pub register: u16,
    /// What kind of number it is.
    pub kind: ChannelKind,
    /// Lowest possible value, in units of 10^exponent.
    pub low: i32,
    /// Highest possible value.
    pub high: i32,
    /// Seconds from one sample to the next.
    pub period_s: u16,
}

/// What kind of number a channel gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChannelKind {
    /// A quantity that goes up and down.
    Gauge,
    /// A total that only grows, but for an overflow.
    Counter,
    /// 0 or 1.
    State,
}

impl SchemaHash {
    /// Returns the hash of the channels, which are told one by one as they are.
    #[must_use]
    pub fn of<'a>(channels: impl IntoIterator<Item = Channel<'a>>) -> Self {
        let mut hash = 0;
        for channel in channels {
            let channel = Channel { period_s: 0, ..channel };
            let mut bytes = [0; MAX_PAYLOAD];
            let used = put(&channel, &mut bytes).unwrap_or(bytes.len());
            let before = u32::to_le_bytes(hash);
            hash = checksum_of([before.as_slice(), bytes.get(..used).unwrap_or_default()]);
        }
        Self(hash)
    }
}

//! Pulses of a reed contact or an open collector: water, gas, rain, loop detectors.
//!
//! A level counts when it has held for the debounce time; a pulse is an active level after an inactive one. The same code
//! serves an interrupt on both edges and a poll that comes more often than the debounce time.
//!
//! The total is a `u64` and never overflows. A channel is an `i32`, so there it goes from `i32::MAX` to 0: a consumer takes
//! differences modulo 2^31.

use core::time::Duration;

use crc::{CRC_32_ISO_HDLC, Crc, NoTable};

/// CRC-32 as Ethernet has it; without a table, since a total is seldom stored.
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// Counts pulses. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct PulseCounter {
    debounce: Duration,
    total: PulseTotal,
    /// The last level that held.
    active: bool,
    /// The level seen last, and since when.
    seen: bool,
    since: Duration,
}

/// A total, as it is kept over resets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PulseTotal(pub u64);

/// Not a stored total: memory that was never written, or lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadTotal {
    /// The check that is stored.
    pub got: u32,
    /// The check of the total that is stored.
    pub expected: u32,
}

impl PulseCounter {
    /// Goes on from `total` with the level the input has `now`, which is no pulse.
    #[must_use]
    pub const fn new(debounce: Duration, total: PulseTotal, now: Duration, active: bool) -> Self {
        Self { debounce, total, active, seen: active, since: now }
    }

    /// Takes the level of the input: at each edge, or polled.
    pub fn observe(&mut self, now: Duration, active: bool) {
        self.settle(now);
        if active != self.seen {
            self.seen = active;
            self.since = now;
        }
    }

    /// Returns the total, with a level that has held long enough by `now`.
    pub fn total(&mut self, now: Duration) -> PulseTotal {
        self.settle(now);
        self.total
    }

    fn settle(&mut self, now: Duration) {
        if self.seen != self.active && now.saturating_sub(self.since) >= self.debounce {
            self.active = self.seen;
            if self.active {
                self.total = PulseTotal(self.total.0.wrapping_add(1));
            }
        }
    }
}

impl PulseTotal {
    /// Size of the stored form in bytes.
    pub const STORED_LEN: usize = 12;

    /// Returns the total as a channel has it, modulo 2^31.
    #[must_use]
    pub fn channel_value(self) -> i32 {
        i32::try_from(self.0 & 0x7FFF_FFFF).unwrap_or(0)
    }

    /// Returns the stored form: the total (LE), CRC-32 over it (LE). Memory of zeros or ones is none.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::STORED_LEN] {
        let [a, b, c, d, e, f, g, h] = self.0.to_le_bytes();
        let [i, j, k, l] = CRC.checksum(&self.0.to_le_bytes()).to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    /// Takes the stored form.
    ///
    /// # Errors
    /// [`BadTotal`] when the check is not that of the total.
    pub fn from_bytes(bytes: [u8; Self::STORED_LEN]) -> Result<Self, BadTotal> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let total = [a, b, c, d, e, f, g, h];
        let (got, expected) = (u32::from_le_bytes([i, j, k, l]), CRC.checksum(&total));
        if got == expected { Ok(Self(u64::from_le_bytes(total))) } else { Err(BadTotal { got, expected }) }
    }
}

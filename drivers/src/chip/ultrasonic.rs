//! An ultrasonic level sensor that talks by itself on a UART (9600 8N1): A02YYUW, and JSN-SR04T in its mode 1.
//!
//! ```text
//! frame = 0xFF, distance in mm (big-endian), low byte of the sum of the three
//! ```
//!
//! Only the checksum says where a frame begins, so the last four bytes are looked at after every byte: after noise or a torn
//! frame the next whole one is found. No surface is 65 m away, so 0xFF is never the high byte: else 511 mm said over and
//! over, FF 01 FF FF, could be heard as FF FF 01 FF for ever. A sum of one byte is weak: of frames that lost a byte, some one in
//! 256 is taken for another distance.
//!
//! Source: DFRobot SEN0311 and SEN0313, "UART output form", <https://wiki.dfrobot.com/sen0313/docs/20019>.

use core::ops::RangeInclusive;
use core::time::Duration;

use ganglion_protocols::node_link::SensorFault;

const HEADER: u8 = 0xFF;

/// What such a sensor said last. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct Ultrasonic {
    range_mm: RangeInclusive<u16>,
    stale: Duration,
    window: [u8; 4],
    /// How many bytes of the window, from its end, are not of a frame that was taken.
    fresh: u8,
    measured: Option<(Duration, u16)>,
    heard: Option<Duration>,
    started: Duration,
}

impl Ultrasonic {
    /// Starts at `now` without a distance. The sensor measures in `range_mm` (30 to 4500 for an A02YYUW); what it said is
    /// worth nothing `stale` later. It speaks every 0.1 to 0.3 s.
    #[must_use]
    pub const fn new(now: Duration, range_mm: RangeInclusive<u16>, stale: Duration) -> Self {
        Self { range_mm, stale, window: [0; 4], fresh: 0, measured: None, heard: None, started: now }
    }

    /// Takes bytes as they came, in any lumps.
    pub fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) {
        for &byte in bytes {
            self.heard = Some(now);
            let [_, a, b, c] = self.window;
            self.window = [a, b, c, byte];
            self.fresh = self.fresh.saturating_add(1).min(4);
            let [header, high, low, sum] = self.window;
            let right = header == HEADER && high != HEADER && sum == header.wrapping_add(high).wrapping_add(low);
            if self.fresh == 4 && right {
                self.measured = Some((now, u16::from_be_bytes([high, low])));
                self.fresh = 0;
            }
        }
    }

    /// Returns the distance to the surface in mm.
    ///
    /// # Errors
    /// [`SensorFault::UnderRange`] and [`SensorFault::OverRange`] outside of its range; some sensors say 0 without an echo.
    /// After `stale` without a frame [`SensorFault::BadAnswer`] if there were bytes and [`SensorFault::NoAnswer`] if not;
    /// before that, at the start, [`SensorFault::NoSample`].
    pub fn distance_mm(&self, now: Duration) -> Result<u16, SensorFault> {
        let is_recent = |at: Duration| now.saturating_sub(at) <= self.stale;
        match self.measured {
            Some((at, distance)) if is_recent(at) => {
                if distance < *self.range_mm.start() {
                    Err(SensorFault::UnderRange)
                } else if distance > *self.range_mm.end() {
                    Err(SensorFault::OverRange)
                } else {
                    Ok(distance)
                }
            }
            None if is_recent(self.started) => Err(SensorFault::NoSample),
            _ if self.heard.is_some_and(is_recent) => Err(SensorFault::BadAnswer),
            _ => Err(SensorFault::NoAnswer),
        }
    }
}

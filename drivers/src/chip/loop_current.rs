//! A 4 to 20 mA loop over a shunt: pressure, level, flow.
//!
//! embedded-hal 1.0 has no trait for a converter, so a count is an argument, and this is arithmetic only.
//!
//! Source: NAMUR NE 43 (2021-07-26): 3.8 to 20.5 mA is a measurement, to 3.6 and from 21 mA is a failure. What lies
//! between is a transmitter at the end of its range. It says less than a measurement but more than nothing: a main under
//! too much pressure must still raise its alarm, so the value is that of the bound, and marked.

use core::num::NonZeroU32;

use ganglion_protocols::node_link::SensorFault;

use super::two_point::{TwoPoint, clamped, rounded};

/// A current of this or less, in nA, is a broken wire or a failed transmitter.
pub const FAILED_LOW_NA: i32 = 3_600_000;
/// The least current, in nA, that is a measurement.
pub const LEAST_NA: i32 = 3_800_000;
/// The greatest current, in nA, that is a measurement.
pub const GREATEST_NA: i32 = 20_500_000;
/// A current of this or more, in nA, is a failed transmitter or a short circuit.
pub const FAILED_HIGH_NA: i32 = 21_000_000;

/// The greatest number of counts: a converter of 24 bits.
pub const MAX_COUNTS: u32 = 1 << 24;

/// A converter with a shunt before it, and the line from its current to the quantity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoopInput {
    counts: u32,
    reference_mv: u16,
    shunt_milliohm: NonZeroU32,
    scale: TwoPoint,
}

/// What a loop says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoopReading {
    /// In units of the channel.
    pub value: i32,
    /// The transmitter is at the end of its range: the quantity is at `value` or beyond.
    pub saturated: bool,
}

impl LoopInput {
    /// Describes an input: `counts` of the converter (4096 for 12 bits) are `reference_mv` over the shunt; 4 mA stand for
    /// `at_4_ma` and 20 mA for `at_20_ma`, in units of the channel.
    ///
    /// `None` when `counts` is below 2 or above [`MAX_COUNTS`], or the two values are more than `i32::MAX` apart.
    #[must_use]
    pub fn new(
        counts: u32,
        reference_mv: u16,
        shunt_milliohm: NonZeroU32,
        (at_4_ma, at_20_ma): (i32, i32),
    ) -> Option<Self> {
        let scale = TwoPoint::new((4_000_000, at_4_ma), (20_000_000, at_20_ma))?;
        (2..=MAX_COUNTS).contains(&counts).then_some(Self { counts, reference_mv, shunt_milliohm, scale })
    }

    /// Returns the current in nA, to the nearest; beyond `i32` its end.
    #[must_use]
    pub fn current_na(&self, count: u32) -> i32 {
        // At most 2^24 counts of 65.535e9 nV, which is below 2^60.
        let reference_nv = i64::from(self.reference_mv).saturating_mul(1_000_000);
        let over_all = i64::from(count.min(self.counts)).saturating_mul(reference_nv);
        let voltage_nv = rounded(over_all, i64::from(self.counts));
        clamped(rounded(voltage_nv.saturating_mul(1000), i64::from(self.shunt_milliohm.get())))
    }

    /// Returns what a count means.
    ///
    /// # Errors
    /// [`SensorFault::BrokenWire`] to 3.6 mA, [`SensorFault::OverRange`] from 21 mA or at the converter's last count.
    pub fn read(&self, count: u32) -> Result<LoopReading, SensorFault> {
        if count >= self.counts.saturating_sub(1) {
            return Err(SensorFault::OverRange);
        }
        let current = self.current_na(count);
        if current <= FAILED_LOW_NA {
            return Err(SensorFault::BrokenWire);
        }
        if current >= FAILED_HIGH_NA {
            return Err(SensorFault::OverRange);
        }
        let measured = current.clamp(LEAST_NA, GREATEST_NA);
        Ok(LoopReading { value: self.scale.at(measured), saturated: measured != current })
    }
}

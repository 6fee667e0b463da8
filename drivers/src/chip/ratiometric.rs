//! Transducers that give a share of their supply: potentiometers, bridges, 0.5 to 4.5 V senders.
//!
//! The supply is the converter's reference too, so that neither its value nor its drift matters. As for the
//! [current loop](super::loop_current) a count is an argument.

use core::num::NonZeroU16;

use ganglion_protocols::node_link::SensorFault;

use super::loop_current::MAX_COUNTS;
use super::two_point::{TwoPoint, clamped, rounded};

/// A transducer on a converter of the same reference. Shares are in ppb of the supply: 2 mV/V are 2 000 000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RatioInput {
    counts: u32,
    gain: NonZeroU16,
    bipolar: bool,
    scale: TwoPoint,
    low_ppb: i32,
    high_ppb: i32,
}

impl RatioInput {
    /// Describes an input between 0 and the supply: `counts` are all of it. `scale` goes from ppb of the supply to units of
    /// the channel; a living transducer keeps between `low_ppb` and `high_ppb`.
    ///
    /// `None` when `counts` is below 2 or above [`MAX_COUNTS`], or the limits are in the wrong order.
    #[must_use]
    pub fn new(counts: u32, scale: TwoPoint, (low_ppb, high_ppb): (i32, i32)) -> Option<Self> {
        let possible = (2..=MAX_COUNTS).contains(&counts) && low_ppb < high_ppb;
        possible.then_some(Self { counts, gain: NonZeroU16::MIN, bipolar: false, scale, low_ppb, high_ppb })
    }

    /// Makes it a bridge on a differential input that goes from minus to plus `counts`, behind an amplifier.
    #[must_use]
    pub const fn bridge(self, gain: NonZeroU16) -> Self {
        Self { gain, bipolar: true, ..self }
    }

    /// Returns the share of the supply in ppb, to the nearest; beyond `i32` its end.
    #[must_use]
    pub fn share_ppb(&self, count: i32) -> i32 {
        let all = i64::from(self.counts).saturating_mul(i64::from(self.gain.get()));
        clamped(rounded(i64::from(count).saturating_mul(1_000_000_000), all))
    }

    /// Returns what a count means, in units of the channel.
    ///
    /// # Errors
    /// Below the lower limit [`SensorFault::BrokenWire`], or [`SensorFault::UnderRange`] for a bridge, whose wires pull it
    /// to either end; above the upper one, or at the converter's last count, [`SensorFault::OverRange`].
    pub fn read(&self, count: i32) -> Result<i32, SensorFault> {
        let share = self.share_ppb(count);
        if share < self.low_ppb {
            return Err(if self.bipolar { SensorFault::UnderRange } else { SensorFault::BrokenWire });
        }
        if share > self.high_ppb || i64::from(count) >= i64::from(self.counts).saturating_sub(1) {
            return Err(SensorFault::OverRange);
        }
        Ok(self.scale.at(share))
    }
}

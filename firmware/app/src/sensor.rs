//! What a board measures, and what its samples say of it.

use ganglion_protocols::node_link::{Channel, ChannelKind};
use ganglion_protocols::node_settings::SensorSettings;

/// Something that is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sensor {
    /// What its numbers are.
    pub kind: SensorKind,
    /// Lowest number that it can give, in units of 10^exponent of its channels.
    pub low: i32,
    /// Highest number.
    pub high: i32,
}

/// What the numbers of a sensor are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SensorKind {
    /// A quantity.
    Gauge,
    /// Pulses since the node started; the node makes of them a total that goes on over resets.
    Counter,
    /// 0 or 1.
    State,
}

/// One number of a sample: a statistic of one sensor over the time since the sample before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelSpec {
    /// The sensor, a place in the board's list.
    pub sensor: usize,
    /// Which number of it.
    pub statistic: Statistic,
    /// The observable property, a name of the code directory.
    pub property: &'static str,
    /// UCUM unit.
    pub unit: &'static str,
    /// Power of ten.
    pub exponent: i8,
}

/// What of the measurements between two samples is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Statistic {
    /// The latest one.
    Last,
    /// Their mean, rounded to the nearest.
    Mean,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// The first input register of the first channel; each has [`REGISTERS_EACH`].
pub(crate) const FIRST_REGISTER: u16 = 32;
/// Input registers of a channel: value high, value low, state, 0.
pub(crate) const REGISTERS_EACH: u16 = 4;

impl ChannelSpec {
    /// Returns the description of the channel at `index` of a board, in a node with this sample period.
    #[must_use]
    pub fn describe(&self, index: u8, sensors: &[Sensor], period_s: u16) -> Channel<'static> {
        let sensor = sensors.get(self.sensor).copied();
        let (low, high) = sensor.map_or((i32::MIN, i32::MAX), |sensor| (sensor.low, sensor.high));
        Channel {
            index,
            property: self.property,
            unit: self.unit,
            exponent: self.exponent,
            register: FIRST_REGISTER.saturating_add(REGISTERS_EACH.saturating_mul(u16::from(index))),
            kind: match sensor.map(|sensor| sensor.kind) {
                Some(SensorKind::Counter) => ChannelKind::Counter,
                Some(SensorKind::State) => ChannelKind::State,
                Some(SensorKind::Gauge) | None => ChannelKind::Gauge,
            },
            low,
            high,
            period_s,
        }
    }
}

/// Returns what was measured as the calibration corrects it: `measured * (1 + gain) + offset`, rounded to the nearest.
pub(crate) fn calibrated(measured: i32, settings: &SensorSettings) -> i32 {
    const MILLION: i64 = 1_000_000;
    let more = i64::from(measured).saturating_mul(i64::from(settings.gain_ppm));
    let half = if more < 0 { -MILLION / 2 } else { MILLION / 2 };
    let gained = i64::from(measured).saturating_add(more.saturating_add(half) / MILLION);
    clamped(gained.saturating_add(i64::from(settings.offset)))
}

/// The nearest number of 32 bits, but for the one that means "none" on Modbus.
pub(crate) fn clamped(value: i64) -> i32 {
    i32::try_from(value.clamp(i64::from(NONE).saturating_add(1), i64::from(i32::MAX))).unwrap_or(i32::MAX)
}

/// What a Modbus client reads where a channel has no value.
pub(crate) const NONE: i32 = i32::MIN;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    fn with(offset: i32, gain_ppm: i32) -> SensorSettings {
        SensorSettings { offset, gain_ppm, ..SensorSettings::DEFAULT }
    }

    #[test]
    fn calibration_applies_the_gain_before_the_offset_and_rounds_to_the_nearest() {
        assert_eq!(calibrated(1000, &with(-3, 0)), 997);
        assert_eq!(calibrated(1000, &with(5, 100_000)), 1105);
        assert_eq!(calibrated(15, &with(0, 100_000)), 17, "1.5 rounds away from zero");
        assert_eq!(calibrated(-15, &with(0, 100_000)), -17);
        assert_eq!(calibrated(14, &with(0, 100_000)), 15);
    }

    #[test]
    fn calibration_ends_at_the_ends_of_the_numbers_and_never_says_none() {
        assert_eq!(calibrated(i32::MAX, &with(i32::MAX, 500_000)), i32::MAX);
        assert_eq!(calibrated(i32::MIN, &with(i32::MIN, 500_000)), NONE + 1);
    }
}

//! When a measurement is an alarm, and when no longer.

use core::time::Duration;

use ganglion_protocols::node_settings::SensorSettings;

/// The alarm of one sensor. An alarm that begins above the high limit is over at or below `high - hysteresis`; one below the
/// low limit at or above `low + hysteresis`; each when that has held for the hold time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Limit {
    raised: bool,
    turning: Option<Duration>,
}

impl Limit {
    /// Takes a measurement made at uptime `now`; returns true when the alarm begins with it.
    pub(crate) fn take(&mut self, now: Duration, value: i32, settings: &SensorSettings) -> bool {
        let back = if self.raised { settings.hysteresis } else { 0 };
        let high = settings.high != i32::MAX && value > settings.high.saturating_sub(back);
        let low = settings.low != i32::MIN && value < settings.low.saturating_add(back);
        if (high || low) == self.raised {
            self.turning = None;
            return false;
        }
        let since = *self.turning.get_or_insert(now);
        if now.saturating_sub(since) < Duration::from_secs(u64::from(settings.hold_s)) {
            return false;
        }
        self.raised = !self.raised;
        self.turning = None;
        self.raised
    }

    pub(crate) fn is_raised(self) -> bool {
        self.raised
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    const SETTINGS: SensorSettings =
        SensorSettings { high: 100, low: 10, hysteresis: 5, hold_s: 0, ..SensorSettings::DEFAULT };

    /// Feeds a value a second; returns the seconds at which the alarm begins, and whether it is on in the end.
    fn alarms(settings: SensorSettings, values: &[i32]) -> ([usize; 2], usize, bool) {
        let (mut limit, mut begun, mut count) = (Limit::default(), [0; 2], 0);
        for (second, value) in values.iter().enumerate() {
            if limit.take(Duration::from_secs(second as u64), *value, &settings) {
                begun[count] = second;
                count += 1;
            }
        }
        (begun, count, limit.is_raised())
    }

    #[test]
    fn an_alarm_begins_beyond_a_limit_and_ends_behind_the_hysteresis() {
        assert_eq!(alarms(SETTINGS, &[100, 101, 96, 101]), ([1, 0], 1, true));
        assert_eq!(alarms(SETTINGS, &[101, 95, 101]), ([0, 2], 2, true));
        assert_eq!(alarms(SETTINGS, &[10, 9, 14, 15]), ([1, 0], 1, false));
    }

    #[test]
    fn a_limit_must_be_passed_for_the_hold_time() {
        let held = SensorSettings { hold_s: 2, ..SETTINGS };
        assert_eq!(alarms(held, &[101, 101, 99, 101, 101, 101]), ([5, 0], 1, true));
        assert_eq!(alarms(held, &[101, 101, 101, 0, 50, 50, 50]), ([2, 0], 1, false));
    }

    #[test]
    fn without_limits_nothing_is_an_alarm() {
        assert_eq!(alarms(SensorSettings::DEFAULT, &[i32::MIN, i32::MAX]), ([0, 0], 0, false));
    }
}

//! When is measured, and what a sample says.

use core::time::Duration;

use ganglion_protocols::node_link::{NodeReading, SensorFault};
use ganglion_protocols::node_settings::{MAX_SENSORS, NodeSettings};
use heapless::Vec;

use crate::limit::Limit;
use crate::sensor::{ChannelSpec, Sensor, SensorKind, Statistic, calibrated, clamped};
use crate::window::Window;

/// Most numbers of a sample.
pub const MAX_CHANNELS: usize = 8;

/// A finished sample.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Uptime at its end.
    pub at: Duration,
    /// A reading for each channel.
    pub readings: Vec<NodeReading, MAX_CHANNELS>,
    /// An alarm began with it, before its time.
    pub alarm: bool,
}

/// Measures and samples at the periods of the settings.
///
/// Samples are taken at whole multiples of the period since the start, so a late one does not move those that follow; what
/// was missed is left out. A sample is taken early when an alarm begins.
#[derive(Debug)]
pub struct Sampler {
    sensors: &'static [Sensor],
    channels: &'static [ChannelSpec],
    parts: [Measured; MAX_SENSORS],
    next_measure: Duration,
    next_sample: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    window: Window,
    limit: Limit,
    /// What a counter had reached when the node started.
    base: i32,
}

impl Sampler {
    /// Begins at uptime `now`. `last` are the readings of the last sample before the node started, from which counters go
    /// on.
    #[must_use]
    pub fn new(
        sensors: &'static [Sensor],
        channels: &'static [ChannelSpec],
        last: &[NodeReading],
        now: Duration,
        settings: &NodeSettings,
    ) -> Self {
        let mut parts = [Measured { window: Window::EMPTY, limit: Limit::default(), base: 0 }; MAX_SENSORS];
        for (channel, reading) in channels.iter().zip(last) {
            let counts = sensors.get(channel.sensor).is_some_and(|sensor| sensor.kind == SensorKind::Counter);
            if let (true, Statistic::Last, NodeReading::Value(value)) = (counts, channel.statistic, *reading)
                && let Some(part) = parts.get_mut(channel.sensor)
            {
                part.base = value;
            }
        }
        Self { sensors, channels, parts, next_measure: now, next_sample: after(now, sample_period(settings)) }
    }

    /// Returns the uptime at which [`poll`](Self::poll) has something to do.
    #[must_use]
    pub fn wake(&self) -> Duration {
        self.next_measure.min(self.next_sample)
    }

    /// Measures with `measure`, which is given the place of a sensor, if it is time to; returns the sample that is finished.
    pub fn poll(
        &mut self,
        now: Duration,
        settings: &NodeSettings,
        mut measure: impl FnMut(usize) -> Result<i32, SensorFault>,
    ) -> Option<Taken> {
        let mut alarm = false;
        if now >= self.next_measure {
            let places = self.sensors.iter().enumerate().zip(&mut self.parts).zip(&settings.sensors);
            for (((place, sensor), part), set) in places {
                let measured = if settings.test_signal { Ok(test_signal(now)) } else { measure(place) };
                let value = measured.map(|value| match sensor.kind {
                    SensorKind::Gauge => calibrated(value, set),
                    SensorKind::Counter => part.base.wrapping_add(value) & i32::MAX,
                    SensorKind::State => i32::from(value != 0),
                });
                part.window.add(value);
                alarm |= value.is_ok_and(|value| part.limit.take(now, value, set));
            }
            self.next_measure = after(now, Duration::from_millis(u64::from(settings.measure_period_ms)));
        }
        if now >= self.next_sample {
            self.next_sample = after(now, sample_period(settings));
        } else if !alarm {
            return None;
        }
        let readings = self.channels.iter().map(|channel| self.reading(channel)).take(MAX_CHANNELS).collect();
        self.parts.iter_mut().for_each(|part| part.window.restart());
        Some(Taken { at: now, readings, alarm })
    }

    /// Returns which sensors are in alarm, bit 0 the first.
    #[must_use]
    pub fn alarms(&self) -> u16 {
        self.parts.iter().rev().fold(0, |bits, part| bits << 1 | u16::from(part.limit.is_raised()))
    }

    /// Lets new periods hold from `now` on.
    pub fn reschedule(&mut self, now: Duration, settings: &NodeSettings) {
        self.next_measure = now;
        self.next_sample = after(now, sample_period(settings));
    }

    fn reading(&self, channel: &ChannelSpec) -> NodeReading {
        let none = NodeReading::Fault(SensorFault::NoSample);
        self.parts.get(channel.sensor).map_or(none, |part| part.window.reading(channel.statistic))
    }
}

fn sample_period(settings: &NodeSettings) -> Duration {
    Duration::from_secs(u64::from(settings.sample_period_s))
}

/// The first multiple of `period` after `now`.
fn after(now: Duration, period: Duration) -> Duration {
    let (now_ms, period_ms) = (millis(now), millis(period).max(1));
    let passed = now_ms.checked_div(period_ms).unwrap_or_default();
    Duration::from_millis(passed.saturating_add(1).saturating_mul(period_ms))
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A number that says when it was measured: tenths of a second of uptime.
fn test_signal(now: Duration) -> i32 {
    clamped(i64::try_from(millis(now) / 100).unwrap_or(i64::MAX) & i64::from(i32::MAX))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    const GAUGE: Sensor = Sensor { kind: SensorKind::Gauge, low: 0, high: 1000 };
    const COUNTER: Sensor = Sensor { kind: SensorKind::Counter, low: 0, high: i32::MAX };
    const SENSORS: &[Sensor] = &[GAUGE, COUNTER];
    const fn channel(sensor: usize, statistic: Statistic) -> ChannelSpec {
        ChannelSpec { sensor, statistic, property: "pressure", unit: "kPa", exponent: 0 }
    }
    const CHANNELS: &[ChannelSpec] =
        &[channel(0, Statistic::Mean), channel(0, Statistic::Max), channel(1, Statistic::Last)];

    fn settings() -> NodeSettings {
        let mut settings = NodeSettings { sample_period_s: 2, measure_period_ms: 500, ..NodeSettings::DEFAULT };
        settings.sensors[0].high = 900;
        settings
    }

    fn sampler(last: &[NodeReading]) -> Sampler {
        Sampler::new(SENSORS, CHANNELS, last, Duration::ZERO, &settings())
    }

    fn values(taken: &Taken) -> [Option<i32>; 3] {
        let mut values = [None; 3];
        for (place, reading) in values.iter_mut().zip(&taken.readings) {
            *place = if let NodeReading::Value(value) = reading { Some(*value) } else { None };
        }
        values
    }

    #[test]
    fn a_sample_sums_up_what_was_measured_since_the_one_before() {
        let (mut sampler, mut now, mut taken) = (sampler(&[]), Duration::ZERO, std::vec![]);
        let mut measured = 0;
        while now < Duration::from_secs(5) {
            taken.extend(sampler.poll(now, &settings(), |place| {
                measured += 1;
                Ok(if place == 0 { 100 + i32::try_from(now.as_millis() / 500).unwrap() } else { 3 })
            }));
            assert!(sampler.wake() > now, "it never asks to be woken in the past");
            now = sampler.wake();
        }
        let [first, second] = taken.as_slice() else { panic!("{taken:?}") };
        assert_eq!((first.at, values(first)), (Duration::from_secs(2), [Some(102), Some(104), Some(3)]));
        assert_eq!((second.at, values(second)), (Duration::from_secs(4), [Some(107), Some(108), Some(3)]));
        assert_eq!(measured, 2 * 10, "each half second, from 0 to 4.5");
    }

    #[test]
    fn a_late_poll_leaves_samples_out_and_keeps_to_the_grid() {
        let mut sampler = sampler(&[]);
        let late = Duration::from_millis(9_300);
        assert!(sampler.poll(late, &settings(), |_| Ok(1)).is_some());
        assert_eq!(sampler.poll(late, &settings(), |_| Ok(1)), None);
        assert_eq!(sampler.wake(), Duration::from_millis(9_500));
        let next = Duration::from_secs(10);
        assert_eq!(sampler.poll(next, &settings(), |_| Ok(1)).map(|taken| taken.at), Some(next));
    }

    #[test]
    fn an_alarm_is_sampled_at_once_and_only_when_it_begins() {
        let mut sampler = sampler(&[]);
        let at = |ms| Duration::from_millis(ms);
        assert_eq!(sampler.poll(at(0), &settings(), |_| Ok(900)), None);
        let early = sampler.poll(at(500), &settings(), |_| Ok(901)).expect("at once");
        assert!(early.alarm);
        assert_eq!((values(&early)[1], sampler.alarms()), (Some(901), 1));
        assert_eq!(sampler.poll(at(1000), &settings(), |_| Ok(902)), None);
        let regular = sampler.poll(at(2000), &settings(), |_| Ok(902)).expect("in time");
        assert!(!regular.alarm);
    }

    #[test]
    fn a_counter_goes_on_where_it_stood_before_the_reset() {
        let before = [NodeReading::Value(1), NodeReading::Value(1), NodeReading::Value(1_000)];
        let mut sampler = sampler(&before);
        let taken = sampler.poll(Duration::from_secs(2), &settings(), |place| Ok(if place == 1 { 7 } else { 1 }));
        assert_eq!(taken.map(|taken| values(&taken)[2]), Some(Some(1_007)));
    }

    #[test]
    fn a_sensor_that_fails_is_told_and_the_others_go_on() {
        let mut sampler = sampler(&[]);
        let fails = |place| if place == 0 { Err(SensorFault::BrokenWire) } else { Ok(5) };
        let taken = sampler.poll(Duration::from_secs(2), &settings(), fails).expect("a sample");
        assert_eq!(taken.readings[0], NodeReading::Fault(SensorFault::BrokenWire));
        assert_eq!(values(&taken), [None, None, Some(5)]);
    }

    #[test]
    fn the_test_signal_takes_the_place_of_the_sensors() {
        let settings = NodeSettings { test_signal: true, ..settings() };
        let mut sampler = sampler(&[]);
        let measured = |_| panic!("no sensor is asked");
        let taken = sampler.poll(Duration::from_millis(2_050), &settings, measured).expect("a sample");
        assert_eq!(values(&taken)[0], Some(20));
    }
}

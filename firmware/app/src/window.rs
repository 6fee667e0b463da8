//! The measurements between two samples, summed up.

use ganglion_protocols::node_link::{NodeReading, SensorFault};

use crate::sensor::{Statistic, clamped};

/// What was measured since the last sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    count: u32,
    sum: i64,
    least: i32,
    greatest: i32,
    last: Result<i32, SensorFault>,
}

impl Window {
    pub(crate) const EMPTY: Self =
        Self { count: 0, sum: 0, least: i32::MAX, greatest: i32::MIN, last: Err(SensorFault::NoSample) };

    /// Takes a measurement. One that failed takes nothing from those before it.
    pub(crate) fn add(&mut self, measured: Result<i32, SensorFault>) {
        self.last = measured;
        if let Ok(value) = measured {
            self.count = self.count.saturating_add(1);
            self.sum = self.sum.saturating_add(i64::from(value));
            self.least = self.least.min(value);
            self.greatest = self.greatest.max(value);
        }
    }

    /// Returns a number of the window. The latest measurement, if it failed, is the state of the sensor now: then there is
    /// no latest number, and none of the others unless something was measured.
    pub(crate) fn reading(&self, statistic: Statistic) -> NodeReading {
        let fault = match self.last {
            Ok(last) if statistic == Statistic::Last => return NodeReading::Value(last),
            Ok(_) => SensorFault::NoSample,
            Err(fault) => fault,
        };
        let value = match statistic {
            Statistic::Last => None,
            Statistic::Min => (self.count > 0).then_some(self.least),
            Statistic::Max => (self.count > 0).then_some(self.greatest),
            Statistic::Mean => self.mean(),
        };
        value.map_or(NodeReading::Fault(fault), NodeReading::Value)
    }

    fn mean(&self) -> Option<i32> {
        let count = i64::from(self.count);
        let half = count.checked_div(2)?;
        let up = if self.sum < 0 { half.saturating_neg() } else { half };
        self.sum.saturating_add(up).checked_div(count).map(clamped)
    }

    /// Begins the next window; what the sensor said last stays known.
    pub(crate) fn restart(&mut self) {
        *self = Self { last: self.last, ..Self::EMPTY };
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    fn window(measured: &[Result<i32, SensorFault>]) -> Window {
        let mut window = Window::EMPTY;
        measured.iter().for_each(|measured| window.add(*measured));
        window
    }

    fn all(window: Window) -> [NodeReading; 4] {
        [Statistic::Last, Statistic::Mean, Statistic::Min, Statistic::Max].map(|statistic| window.reading(statistic))
    }

    #[test]
    fn a_window_has_the_last_the_mean_the_least_and_the_greatest() {
        use NodeReading::Value;
        assert_eq!(all(window(&[Ok(7), Ok(-2), Ok(3)])), [Value(3), Value(3), Value(-2), Value(7)]);
        assert_eq!(all(window(&[Ok(-7), Ok(-8)])), [Value(-8), Value(-8), Value(-8), Value(-7)]);
    }

    #[test]
    fn a_measurement_that_failed_last_leaves_what_was_measured_before_and_tells_the_fault() {
        use NodeReading::{Fault, Value};
        let fault = SensorFault::BrokenWire;
        assert_eq!(all(window(&[Ok(7), Err(fault)])), [Fault(fault), Value(7), Value(7), Value(7)]);
        assert_eq!(all(window(&[Err(fault)])), [Fault(fault); 4]);
    }

    #[test]
    fn nothing_measured_is_no_value() {
        assert_eq!(all(Window::EMPTY), [NodeReading::Fault(SensorFault::NoSample); 4]);
    }

    #[test]
    fn the_extremes_do_not_overflow() {
        use NodeReading::Value;
        assert_eq!(all(window(&[Ok(i32::MAX); 3])), [Value(i32::MAX); 4]);
        let least = i32::MIN + 1;
        assert_eq!(all(window(&[Ok(least); 3])), [Value(least); 4]);
    }
}

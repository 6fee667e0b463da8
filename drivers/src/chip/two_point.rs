//! The straight line through two points: from what a converter says to what a channel says, and any calibration.

/// A line through two points, in integers of any unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TwoPoint {
    from: i32,
    to: i32,
    /// Differences from the first point to the second; that of the source is not 0.
    run: i64,
    rise: i32,
}

impl TwoPoint {
    /// Goes through `first` and `second`, each a source value and what it stands for.
    ///
    /// `None` when both have one source value, or when what they stand for is more than `i32::MAX` apart.
    #[must_use]
    pub const fn new(first: (i32, i32), second: (i32, i32)) -> Option<Self> {
        let run = (second.0 as i64).saturating_sub(first.0 as i64);
        let Some(rise) = second.1.checked_sub(first.1) else { return None };
        if run == 0 || rise == i32::MIN {
            return None;
        }
        Some(Self { from: first.0, to: first.1, run, rise })
    }

    /// Returns what a source value stands for, to the nearest; beyond `i32` its end.
    #[must_use]
    pub fn at(&self, source: i32) -> i32 {
        // The distance is below 2^32 and the rise below 2^31: the product is an i64.
        let distance = i64::from(source).saturating_sub(i64::from(self.from));
        let offset = rounded(distance.saturating_mul(i64::from(self.rise)), self.run);
        clamped(i64::from(self.to).saturating_add(offset))
    }
}

/// Divides to the nearest, halves away from 0; 0 for a divisor of 0.
pub(super) fn rounded(dividend: i64, divisor: i64) -> i64 {
    let half = i64::try_from(divisor.unsigned_abs() >> 1).unwrap_or(i64::MAX);
    let towards = if dividend < 0 { half.saturating_neg() } else { half };
    dividend.saturating_add(towards).checked_div(divisor).unwrap_or(0)
}

/// Returns the nearest `i32`.
pub(super) fn clamped(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

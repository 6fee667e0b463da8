//! When a reading is an alarm, and when it is one no longer.
//!
//! An alarm is *raised* when its condition has held for the hold time, and *cleared* when the opposite has held for as
//! long. For a number the opposite begins beyond a hysteresis: a value that hovers at its limit makes one alarm and not a
//! hundred.
//!
//! Only a good reading says anything. A bad or uncertain one keeps the alarm as it is; what was about to change goes on
//! to be counted unless nothing good was heard for longer than the hold time, since then nobody can say that it held.

use core::time::Duration;

use ganglion_protocols::{Quality, Reading, Value};

/// What is watched for. Limits are in the unit of the value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Condition {
    /// The state is on.
    On,
    /// The number is above `limit`; it is over at or below `limit - hysteresis`.
    Above {
        /// The highest number that is still no alarm.
        limit: f64,
        /// 0 or more.
        hysteresis: f64,
    },
    /// The number is below `limit`; it is over at or above `limit + hysteresis`.
    Below {
        /// The lowest number that is still no alarm.
        limit: f64,
        /// 0 or more.
        hysteresis: f64,
    },
}

/// What became of an alarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It begins.
    Raised,
    /// It is over.
    Cleared,
}

/// One alarm. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct Alarm {
    condition: Condition,
    hold: Duration,
    raised: bool,
    turning: Option<Turning>,
}

/// What speaks against the present state, and has not for long enough.
#[derive(Clone, Copy, Debug)]
struct Turning {
    /// Since when.
    since: Duration,
    /// When it was last seen to.
    seen: Duration,
}

impl Alarm {
    /// Starts without an alarm. `hold` is how long a condition must hold before it changes anything; with 0 the first
    /// reading does.
    #[must_use]
    pub const fn new(condition: Condition, hold: Duration) -> Self {
        Self { condition, hold, raised: false, turning: None }
    }

    /// Says whether it is raised.
    #[must_use]
    pub const fn is_raised(&self) -> bool {
        self.raised
    }

    /// Takes the reading made at `now` and says what it changes.
    pub fn observe(&mut self, now: Duration, reading: &Reading) -> Option<Change> {
        let value = reading.value.filter(|_| reading.quality == Quality::Good);
        let Some(turns) = value.and_then(|value| self.turns(value)) else {
            self.turning = self.turning.filter(|turning| now.saturating_sub(turning.seen) <= self.hold);
            return None;
        };
        if !turns {
            self.turning = None;
            return None;
        }
        let since = self.turning.map_or(now, |turning| turning.since);
        if now.saturating_sub(since) < self.hold {
            self.turning = Some(Turning { since, seen: now });
            return None;
        }
        self.turning = None;
        self.raised = !self.raised;
        Some(if self.raised { Change::Raised } else { Change::Cleared })
    }

    /// Says whether a value speaks against the present state; `None` when it says nothing.
    fn turns(&self, value: Value) -> Option<bool> {
        let alarm = match (self.condition, value) {
            (Condition::On, Value::Bool(on)) => on,
            (Condition::On, _) => return None,
            (Condition::Above { limit, hysteresis }, value) => {
                let level = if self.raised { limit - hysteresis } else { limit };
                let (distance, rounding) = distance(value, level)?;
                distance > rounding
            }
            (Condition::Below { limit, hysteresis }, value) => {
                let level = if self.raised { limit + hysteresis } else { limit };
                let (distance, rounding) = distance(value, level)?;
                distance < -rounding
            }
        };
        Some(alarm != self.raised)
    }
}

/// Returns how far a number lies above a level, and how much of that its precision may be the cause of: a binary32 of 0.1
/// is not above 0.1.
#[allow(clippy::cast_precision_loss, reason = "a limit needs no more than 53 bits")]
fn distance(value: Value, level: f64) -> Option<(f64, f64)> {
    let (number, epsilon) = match value {
        Value::Bool(_) => return None,
        Value::Int(value) => (value as f64, f64::EPSILON),
        Value::Uint(value) => (value as f64, f64::EPSILON),
        Value::Single(value) => (f64::from(value), f64::from(f32::EPSILON)),
        Value::Double(value) => (value, f64::EPSILON),
    };
    let distance = number - level;
    (!distance.is_nan()).then(|| (distance, epsilon * number.abs().max(level.abs())))
}

#[cfg(test)]
mod tests;

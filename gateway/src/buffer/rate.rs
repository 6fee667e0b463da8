//! How fast the log grows, smoothed over minutes. Pure: time is an argument.

use std::time::{Duration, Instant};

use super::outlook::in_f64;

/// What was appended this long ago counts a third of what is appended now.
const MEMORY: Duration = Duration::from_secs(300);
/// Nothing is said before this: a device polled once a minute would have been heard once, or not at all.
const FIRST_WORD: Duration = Duration::from_secs(60);

/// A smoothed rate in bytes a second.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    began: Option<Instant>,
    last: Option<(Instant, u64)>,
    /// Sum of the rates seen, each by its weight, and the sum of the weights.
    sum: f64,
    weight: f64,
}

impl Rate {
    /// Takes the place the log has reached at `now`, in bytes from any one place. Time that stands still or a place
    /// that goes back is left out.
    pub(super) fn note(&mut self, place: u64, now: Instant) {
        self.began.get_or_insert(now);
        let Some((before, from)) = self.last else {
            self.last = Some((now, place));
            return;
        };
        let time = now.saturating_duration_since(before).as_secs_f64();
        if time <= 0.0 {
            return;
        }
        self.last = Some((now, place));
        let Some(bytes) = place.checked_sub(from) else { return };
        let kept = (-time / MEMORY.as_secs_f64()).exp();
        self.sum = self.sum * kept + in_f64(bytes) / time * (1.0 - kept);
        self.weight = self.weight * kept + (1.0 - kept);
    }

    /// Returns the bytes a second; `None` while it was watched too short a time.
    pub(super) fn bytes_per_second(&self) -> Option<f64> {
        let (began, (last, _)) = (self.began?, self.last?);
        let long_enough = last.saturating_duration_since(began) >= FIRST_WORD;
        (long_enough && self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: Option<f64>, wanted: f64) -> bool {
        got.is_some_and(|got| (got - wanted).abs() < wanted * 0.02 + 0.01)
    }

    /// Appends `bytes` every `every` seconds for `seconds`; returns when and where it ended.
    fn append(rate: &mut Rate, from: (Instant, u64), bytes: u64, every: u64, seconds: u64) -> (Instant, u64) {
        (0..seconds / every).fold(from, |(now, place), _| {
            let (now, place) = (now + Duration::from_secs(every), place + bytes);
            rate.note(place, now);
            (now, place)
        })
    }

    #[test]
    fn a_steady_rate_is_known_after_a_minute_and_however_rarely_it_is_noted() {
        for every in [1, 5, 60] {
            let mut rate = Rate::default();
            let start = (Instant::now(), 1 << 40);
            rate.note(start.1, start.0);
            let at = append(&mut rate, start, 1900 * every, every, 59);
            assert_eq!(rate.bytes_per_second(), None);
            append(&mut rate, at, 1900 * every, every, 60);
            assert!(near(rate.bytes_per_second(), 1900.0), "{every}: {rate:?}");
        }
    }

    #[test]
    fn a_burst_is_smoothed_and_a_new_rate_taken_within_minutes() {
        let mut rate = Rate::default();
        let start = (Instant::now(), 0);
        rate.note(start.1, start.0);
        let at = append(&mut rate, start, 1000, 1, 1800);
        rate.note(at.1 + 30_000, at.0 + Duration::from_secs(1));
        let after = rate.bytes_per_second().unwrap();
        assert!(after > 1050.0 && after < 1150.0, "{after}");
        let at = (at.0 + Duration::from_secs(1), at.1 + 30_000);
        append(&mut rate, at, 3000, 1, 1200);
        assert!(near(rate.bytes_per_second(), 3000.0), "{rate:?}");
    }

    #[test]
    fn a_clock_that_stands_and_a_place_that_goes_back_change_nothing() {
        let mut rate = Rate::default();
        let start = (Instant::now(), 0);
        rate.note(start.1, start.0);
        let (now, place) = append(&mut rate, start, 100, 1, 120);
        rate.note(place + 1_000_000, now);
        rate.note(0, now + Duration::from_secs(1));
        assert!(near(rate.bytes_per_second(), 100.0), "{rate:?}");
    }
}

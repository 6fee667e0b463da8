//! How long to wait before the next try to connect. Pure: chance comes in as an argument, so that a simulation of a whole
//! fleet runs this very code (`cargo xtask bench fleet`).

use std::time::Duration;

/// The first bound is so many times the first pause. Were it the pause itself, all gateways that lose one broker at once
/// would be back in the same instant (`docs/scale.md`).
const FIRST_SPREAD: u32 = 16;

/// Pauses between tries: each drawn from the whole span between the first pause and a bound that doubles up to the
/// longest ("full jitter"), so that the gateways of a city do not all come back in the same second.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    bound: Duration,
}

impl Backoff {
    /// Starts with the first pause; the second of the two is the longest, and at least the first.
    #[must_use]
    pub fn new((first, longest): (Duration, Duration)) -> Self {
        let longest = longest.max(first);
        Self { first, longest, bound: (first * FIRST_SPREAD).min(longest) }
    }

    /// Returns the next pause; `chance` is 0.0..1.0.
    pub fn pause(&mut self, chance: f64) -> Duration {
        let pause = self.first + (self.bound - self.first).mul_f64(chance.clamp(0.0, 1.0));
        self.bound = (self.bound * 2).min(self.longest);
        pause
    }

    /// Starts anew, after a connection that delivered something.
    pub fn reset(&mut self) {
        self.bound = (self.first * FIRST_SPREAD).min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_bound_doubles_up_to_the_longest_pause() {
        let mut backoff = Backoff::new((SECOND, 50 * SECOND));
        let pauses: Vec<_> = (0..4).map(|_| backoff.pause(1.0).as_secs()).collect();
        assert_eq!(pauses, [16, 32, 50, 50]);
    }

    #[test]
    fn the_whole_span_is_used() {
        let mut backoff = Backoff::new((SECOND, 9 * SECOND));
        for _ in 0..5 {
            backoff.pause(0.0);
        }
        assert_eq!(backoff.pause(0.0), SECOND);
        assert_eq!(backoff.pause(0.5), 5 * SECOND);
    }

    #[test]
    fn a_reset_starts_anew() {
        let mut backoff = Backoff::new((SECOND, 100 * SECOND));
        for _ in 0..5 {
            backoff.pause(1.0);
        }
        backoff.reset();
        assert_eq!(backoff.pause(1.0), 16 * SECOND);
    }

    #[test]
    fn a_longest_pause_below_the_first_is_the_first() {
        let mut backoff = Backoff::new((5 * SECOND, SECOND));
        assert_eq!(backoff.pause(1.0), 5 * SECOND);
        assert_eq!(backoff.pause(1.0), 5 * SECOND);
    }
}

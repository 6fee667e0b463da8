//! A bound on how much history a gateway sends in a second: what a broker takes from ten thousand gateways at once, their
//! consumers may not (`docs/scale.md`). Pure: time is an argument.

use std::time::Instant;

/// Observations a second, or any number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    per_s: Option<f64>,
    /// Observations that may be sent now; below zero after a message of more.
    credit: f64,
    at: Instant,
}

impl Cap {
    /// Starts with a second's worth; 0 is no bound.
    pub(super) fn new(per_s: u32, now: Instant) -> Self {
        let per_s = (per_s > 0).then_some(f64::from(per_s));
        Self { per_s, credit: per_s.unwrap_or_default(), at: now }
    }

    /// Says whether a message may be sent.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let Some(per_s) = self.per_s else { return true };
        self.credit = (self.credit + per_s * now.saturating_duration_since(self.at).as_secs_f64()).min(per_s);
        self.at = now;
        self.credit > 0.0
    }

    /// Notes that so many were sent.
    pub(super) fn sent(&mut self, observations: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a message has few")]
        let observations = observations as f64;
        self.credit -= observations;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_hour_of_messages_holds_what_an_hour_allows() {
        let start = Instant::now();
        let (mut cap, mut sent) = (Cap::new(40, start), 0);
        for tick in 0..36_000 {
            if cap.allows(start + Duration::from_millis(100 * tick)) {
                cap.sent(300);
                sent += 300;
            }
        }
        assert!((144_000 - 300..=144_000 + 340).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_bound_everything_goes() {
        let mut cap = Cap::new(0, Instant::now());
        for _ in 0..100 {
            assert!(cap.allows(Instant::now()));
            cap.sent(1_000_000);
        }
    }
}

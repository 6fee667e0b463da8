//! Whether the peer is still there, by what was heard of it and when. Pure: time comes in as an argument.
//!
//! The client pings once a keep-alive and takes a missing answer for a loss when the next ping is due: up to two keep-alives
//! after the last word. Here half a keep-alive is enough, as for a broker that waits for us (MQTT 5.0 §3.1.2.10), and
//! anything heard will do. What is in flight is allowed its own time: the ping waits behind it.

use std::time::Duration;

use tokio::time::Instant;

/// Slowest link that is meant to work, in bytes a second.
const SLOWEST_LINK: u64 = 2_000;

/// The signs of life of one connection.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    /// Longest time without anything happening, on our side or theirs.
    patience: Duration,
    keep_alive: Duration,
    last_event: Instant,
    /// When the first ping was sent after which nothing was heard.
    pinged: Option<Instant>,
}

impl Pulse {
    /// Starts with a patience for the time until the broker has accepted.
    pub(super) fn new(now: Instant, patience: Duration) -> Self {
        Self { patience, keep_alive: patience, last_event: now, pinged: None }
    }

    /// Notes the keep-alive that was agreed on.
    pub(super) fn agreed(&mut self, keep_alive: Duration) {
        self.patience = self.patience.max(2 * keep_alive);
        self.keep_alive = keep_alive;
    }

    /// Notes that something happened: the client is not stuck.
    pub(super) fn event(&mut self, now: Instant) {
        self.last_event = now;
    }

    /// Notes that a ping was sent.
    pub(super) fn pinged(&mut self, now: Instant) {
        self.pinged.get_or_insert(now);
    }

    /// Notes that the broker sent something.
    pub(super) fn heard(&mut self) {
        self.pinged = None;
    }

    /// Returns the longest time without anything happening.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Returns when the connection is given up unless something is heard; `bytes` are in flight.
    pub(super) fn deadline(&self, bytes: usize) -> Instant {
        let stuck = self.last_event + self.patience;
        self.pinged.map_or(stuck, |pinged| stuck.min(pinged + self.answer_time(bytes)))
    }

    /// Says why the connection is given up.
    pub(super) fn verdict(&self, now: Instant, bytes: usize) -> String {
        let answer_time = self.answer_time(bytes);
        match self.pinged {
            Some(pinged) if now >= pinged + answer_time => {
                format!("no answer to a ping within {} ms", answer_time.as_millis())
            }
            _ => "the connection is stuck".to_owned(),
        }
    }

    fn answer_time(&self, bytes: usize) -> Duration {
        let drain = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(1000) / SLOWEST_LINK;
        self.keep_alive / 2 + Duration::from_millis(drain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn agreed(now: Instant) -> Pulse {
        let mut pulse = Pulse::new(now, 15 * SECOND);
        pulse.agreed(30 * SECOND);
        pulse
    }

    #[test]
    fn a_loss_is_noticed_one_and_a_half_keep_alives_after_the_last_word() {
        let start = Instant::now();
        let mut pulse = agreed(start);
        pulse.heard();
        pulse.pinged(start + 30 * SECOND);
        pulse.event(start + 30 * SECOND);
        assert_eq!(pulse.deadline(0), start + 45 * SECOND);
        assert_eq!(pulse.verdict(start + 45 * SECOND, 0), "no answer to a ping within 15000 ms");
        pulse.pinged(start + 60 * SECOND);
        assert_eq!(pulse.deadline(0), start + 45 * SECOND, "a second ping prolongs nothing");
    }

    #[test]
    fn anything_heard_is_a_sign_of_life() {
        let start = Instant::now();
        let mut pulse = agreed(start);
        pulse.pinged(start + 30 * SECOND);
        pulse.heard();
        pulse.event(start + 40 * SECOND);
        assert_eq!(pulse.deadline(0), start + 100 * SECOND);
    }

    #[test]
    fn a_ping_behind_a_large_message_on_a_slow_link_is_given_the_time_of_the_message() {
        let start = Instant::now();
        let mut pulse = agreed(start);
        pulse.pinged(start);
        assert_eq!(pulse.deadline(64_000), start + 47 * SECOND);
    }

    #[test]
    fn a_client_in_which_nothing_happens_is_stuck() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start, 15 * SECOND);
        assert_eq!(pulse.deadline(0), start + 15 * SECOND);
        pulse.agreed(5 * SECOND);
        assert_eq!(pulse.deadline(0), start + 15 * SECOND);
        assert_eq!(pulse.verdict(start + 15 * SECOND, 0), "the connection is stuck");
    }
}

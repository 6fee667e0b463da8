//! When a serial line may be used again.
//!
//! An RTU frame carries no transaction number (MODBUS over Serial Line V1.02 §2.5.1): an answer that comes after its
//! request was given up looks like the answer to the next request of the same kind. So after a request without a
//! trustworthy answer the line is in quarantine: nothing is sent until the latest answer the unit could still give is
//! over, and everything heard meanwhile is thrown away.
//!
//! Between any two frames the line stays silent for 3.5 characters (§2.5.1.1); whatever is heard in that time begins it
//! anew.

use core::time::Duration;

/// The guard of one line. Times are durations since any one start, the same for every call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantine {
    gap: Duration,
    late_reply: Duration,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// The last exchange ended well; only the silence between frames is kept.
    Trusted { silent_since: Duration },
    /// An answer may still come before `until`.
    Suspect { until: Duration, silent_since: Duration },
}

impl Quarantine {
    /// Begins in quarantine: whoever used the line before may have left a request without an answer.
    ///
    /// `gap` is the silence between frames, see [`frame_gap`]; `late_reply` says how long after it was given up a
    /// request may still be answered.
    #[must_use]
    pub fn new(now: Duration, gap: Duration, late_reply: Duration) -> Self {
        let state = State::Suspect { until: now.saturating_add(late_reply), silent_since: now };
        Self { gap, late_reply, state }
    }

    /// A frame that answers the request in full has ended.
    pub fn answered(&mut self, now: Duration) {
        self.state = State::Trusted { silent_since: now };
    }

    /// The request was given up: its answer did not come, or was not what it should be.
    pub fn distrust(&mut self, now: Duration) {
        self.state = State::Suspect { until: now.saturating_add(self.late_reply), silent_since: now };
    }

    /// Something was heard that answers nothing.
    pub fn heard(&mut self, now: Duration) {
        match &mut self.state {
            State::Trusted { silent_since } | State::Suspect { silent_since, .. } => *silent_since = now,
        }
    }

    /// Returns when a request may be sent, if nothing is heard until then.
    #[must_use]
    pub fn usable_at(&self) -> Duration {
        match self.state {
            State::Trusted { silent_since } => silent_since.saturating_add(self.gap),
            State::Suspect { until, silent_since } => silent_since.saturating_add(self.gap).max(until),
        }
    }
}

/// Time on the line of one character of `bits` bits, start, parity and stop bits included.
#[must_use]
pub fn character_time(baud: u32, bits: u8) -> Duration {
    let nanos = u64::from(bits).saturating_mul(1_000_000_000).checked_div(u64::from(baud));
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Silence between two frames: 3.5 characters, above 19200 Bd a fixed 1.75 ms.
///
/// Source: MODBUS over Serial Line V1.02 §2.5.1.1.
#[must_use]
pub fn frame_gap(baud: u32, bits: u8) -> Duration {
    if baud > 19_200 {
        return Duration::from_micros(1_750);
    }
    let character = character_time(baud, bits);
    character.saturating_mul(3).saturating_add(character.checked_div(2).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

    use super::*;
    use proptest::prelude::*;

    const GAP: Duration = ms(4);
    const LATE: Duration = ms(300);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn trusted(now: Duration) -> Quarantine {
        let mut line = Quarantine::new(ms(0), GAP, LATE);
        line.answered(now);
        line
    }

    #[test]
    fn a_line_just_opened_is_quarantined() {
        assert_eq!(Quarantine::new(ms(1000), GAP, LATE).usable_at(), ms(1300));
    }

    #[test]
    fn after_an_answer_only_the_gap_between_frames_is_kept() {
        assert_eq!(trusted(ms(1000)).usable_at(), ms(1004));
    }

    #[test]
    fn a_repeated_answer_in_the_gap_begins_the_gap_anew() {
        let mut line = trusted(ms(1000));
        line.heard(ms(1002));
        line.heard(ms(1003));
        assert_eq!(line.usable_at(), ms(1007));
    }

    #[test]
    fn after_a_timeout_nothing_is_sent_while_an_answer_may_still_come() {
        let mut line = trusted(ms(0));
        line.distrust(ms(1000));
        assert_eq!(line.usable_at(), ms(1300));
        line.heard(ms(1100));
        assert_eq!(line.usable_at(), ms(1300), "the late answer itself does not end the quarantine");
    }

    #[test]
    fn a_late_answer_still_arriving_at_the_end_of_the_quarantine_is_heard_out() {
        let mut line = trusted(ms(0));
        line.distrust(ms(1000));
        line.heard(ms(1299));
        assert_eq!(line.usable_at(), ms(1303));
        line.heard(ms(1302));
        assert_eq!(line.usable_at(), ms(1306));
    }

    #[test]
    fn a_second_failure_begins_the_quarantine_anew_and_an_answer_ends_it() {
        let mut line = trusted(ms(0));
        line.distrust(ms(1000));
        line.distrust(ms(1400));
        assert_eq!(line.usable_at(), ms(1700));
        line.answered(ms(1750));
        assert_eq!(line.usable_at(), ms(1754));
    }

    #[test]
    fn the_gap_is_three_and_a_half_characters_and_fixed_above_19200_baud() {
        assert_eq!(frame_gap(9_600, 11), Duration::from_nanos(4_010_415));
        assert_eq!(frame_gap(19_200, 11), Duration::from_nanos(2_005_206));
        assert_eq!(frame_gap(38_400, 11), Duration::from_micros(1_750));
        assert_eq!(frame_gap(115_200, 10), Duration::from_micros(1_750));
        assert_eq!(frame_gap(0, 11), Duration::ZERO);
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Answered,
        Distrusted,
        Heard,
    }

    proptest! {
        #[test]
        fn the_line_is_never_usable_within_late_reply_of_a_failure_nor_within_a_gap_of_a_sound(
            events in prop::collection::vec(
                (0_u64..500, prop_oneof![Just(Event::Answered), Just(Event::Distrusted), Just(Event::Heard)]), 1..40),
        ) {
            let mut line = Quarantine::new(ms(0), GAP, LATE);
            let (mut now, mut failed) = (ms(0), Some(ms(0)));
            for (pause, event) in events {
                now += ms(pause);
                let sound = now;
                match event {
                    Event::Answered => { line.answered(now); failed = None; }
                    Event::Distrusted => { line.distrust(now); failed = Some(now); }
                    Event::Heard => line.heard(now),
                }
                let earliest = failed.map_or(sound + GAP, |failed| (failed + LATE).max(sound + GAP));
                prop_assert_eq!(line.usable_at(), earliest);
            }
        }

        #[test]
        fn no_time_panics(a: Duration, b: Duration, c: Duration, baud: u32, bits: u8) {
            let mut line = Quarantine::new(a, frame_gap(baud, bits), b);
            line.distrust(c);
            line.heard(Duration::MAX);
            prop_assert!(line.usable_at() >= c);
        }
    }
}

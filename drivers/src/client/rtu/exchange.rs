//! What is waited for, and for how long.

use core::time::Duration;

use super::super::Failure;
use super::super::expect::Expect;
use super::super::heard::Heard;
use super::super::timing::Timing;

/// One exchange in progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) unit: u8,
    pub(super) expect: Expect,
    /// Until when the first byte must be heard.
    pub(super) deadline: Duration,
    /// The first answer that has begun and not ended.
    pub(super) begun: Option<Begun>,
    /// A whole answer was heard, its CRC is wrong.
    pub(super) spoiled: bool,
    pub(super) echoed: bool,
    /// Another client has asked for the same: its answer cannot be told from the one waited for.
    pub(super) contested: bool,
    /// A right frame was heard that is no answer.
    pub(super) wrong: Option<Failure>,
    /// Bytes of no frame so far.
    pub(super) noise: usize,
    /// How many bytes were there when silence was last asked whether they are an answer.
    pub(super) asked: usize,
}

/// The begin of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) place: usize,
    pub(super) at: Duration,
    /// Its function, and byte count if there is one, have been heard.
    pub(super) header: bool,
}

/// Why an exchange will end when nothing more is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Deadline,
    Silence,
    Spoiled,
    Stalled,
}

impl Exchange {
    pub(super) const fn new(unit: u8, expect: Expect, deadline: Duration) -> Self {
        Self {
            unit,
            expect,
            deadline,
            begun: None,
            spoiled: false,
            echoed: false,
            contested: false,
            wrong: None,
            noise: 0,
            asked: 0,
        }
    }

    /// Returns when and why the exchange ends if nothing more is heard. Whatever is heard, that is at the latest one
    /// frame after the patience.
    pub(super) fn end(&self, timing: &Timing, heard: &Heard, heard_at: Duration) -> (Duration, End) {
        let frame = timing.frame(self.expect.longest().saturating_add(3));
        let (at, end) = self.unbounded_end(timing, heard, heard_at, frame);
        (at.min(self.deadline.saturating_add(frame)), end)
    }

    fn unbounded_end(&self, timing: &Timing, heard: &Heard, heard_at: Duration, frame: Duration) -> (Duration, End) {
        let silence = heard_at.saturating_add(timing.gap);
        if self.spoiled && self.begun.is_none_or(|begun| !begun.header) {
            return (silence, End::Spoiled);
        }
        let Some(begun) = self.begun else { return (self.deadline, End::Deadline) };
        let stall = heard_at.saturating_add(timing.answer_slack).min(begun.at.saturating_add(frame));
        if self.expect.is_free() && self.asked != heard.len() {
            (silence.min(stall), End::Silence)
        } else if begun.header {
            (stall, End::Stalled)
        } else if begun.at <= self.deadline && stall > self.deadline {
            (stall, End::Deadline)
        } else {
            (self.deadline, End::Deadline)
        }
    }
}

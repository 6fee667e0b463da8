//! What the bytes of a serial line are.
//!
//! Bytes are taken one by one, so what is found never depends on the lumps they come in. At each byte three questions are
//! asked: does the echo of the request end here; does the answer, wherever it began; does a frame of somebody else. While
//! the header of the answer waited for has been heard and the rest has not, nothing inside it is taken for a frame of
//! somebody else: registers hold anything.

use core::time::Duration;

use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::pdu::EXCEPTION;
use ganglion_protocols::modbus::rtu::MIN_FRAME;

use super::super::counts::add;
use super::super::expect::{Answer, Expect, Length};
use super::super::heard::is_exception;
use super::super::suspects::Signature;
use super::super::{Failure, Outcome};
use super::exchange::{Begun, Exchange};
use super::{BROADCAST, Echo, Rtu, State};

/// Answers without an echo after which a line is held not to echo any more.
const ECHO_MISSES: u8 = 3;
/// Stray bytes after the end of an answer that only silence ends.
const TAIL: usize = 3;

impl Rtu {
    pub(super) fn take(&mut self, now: Duration, byte: u8) -> Option<Outcome> {
        if self.heard.is_full() {
            self.discard_noise(1);
        }
        self.heard.push(byte);
        if self.take_echo() {
            return None;
        }
        let mut sweep_from = self.heard.len();
        if let State::AwaitingAnswer(exchange) = self.state {
            match self.take_own(now, exchange) {
                Own::Outcome(outcome) => return Some(outcome),
                Own::Taken => return None,
                Own::Resolved => sweep_from = MIN_FRAME,
                Own::Nothing => {}
            }
        }
        self.take_foreign(now, sweep_from);
        None
    }

    /// Takes the echo of the request, if it ends here.
    fn take_echo(&mut self) -> bool {
        let place = match self.heard.len().checked_sub(self.sent_length) {
            Some(place) if place >= self.heard.fresh() => place,
            _ => return false,
        };
        let ambiguous = match &self.state {
            State::Idle => return false,
            State::AwaitingTurnaround { .. } => false,
            State::AwaitingAnswer(exchange) if exchange.echoed => return false,
            // The answer may be the request over again; then only a line known to echo has an echo.
            State::AwaitingAnswer(exchange) => exchange.expect.mirrors(),
        };
        if (ambiguous && !self.echo.known) || self.heard.bytes().get(place..) != Some(self.sent_frame()) {
            return false;
        }
        if !ambiguous {
            self.echo = Echo { known: true, misses: 0 };
        }
        add(&mut self.counts.echoes, 1);
        self.discard_noise(place);
        let _ = self.discard(self.sent_length);
        if let State::AwaitingAnswer(exchange) = &mut self.state {
            exchange.echoed = true;
            exchange.begun = None;
        }
        true
    }

    /// Takes the answer, if it ends here.
    fn take_own(&mut self, now: Duration, mut exchange: Exchange) -> Own {
        let mut begun = None;
        let mut spoiled = false;
        for place in self.heard.fresh()..self.heard.len() {
            let Some((&unit, rest)) = self.heard.bytes().get(place..).and_then(<[u8]>::split_first) else { break };
            if unit != exchange.unit {
                continue;
            }
            let length = exchange.expect.length(rest);
            match length {
                Length::No => {}
                Length::Is(pdu) if rest.len() == pdu.saturating_add(2) => {
                    let Some((_, pdu)) = self.heard.frame(place, self.heard.len()) else {
                        spoiled |= !self.may_be_echo(&exchange, place);
                        continue;
                    };
                    if is_exception(pdu) {
                        return self.take_exception(now, exchange, place);
                    }
                    if !exchange.expect.is_right(pdu) {
                        exchange.wrong = Some(Failure::WrongReply);
                    } else if exchange.contested {
                        return self.disbelieve(exchange, place);
                    } else {
                        return Own::Outcome(self.believe(now, exchange, place, self.heard.len()));
                    }
                }
                Length::Is(pdu) if rest.len() > pdu.saturating_add(2) => {}
                Length::Is(_) | Length::Unknown | Length::Silence => {
                    let header = !matches!(length, Length::Unknown) && !rest.is_empty();
                    let at = match exchange.begun {
                        Some(before) if before.place == place => before.at,
                        _ => now,
                    };
                    begun = begun.or(Some(Begun { place, at, header }));
                }
            }
        }
        if spoiled {
            add(&mut self.counts.crc_errors, 1);
            exchange.spoiled = true;
        }
        let resolved = exchange.begun.is_some_and(|before| begun.is_none_or(|begun| begun.place != before.place));
        exchange.begun = begun;
        self.set(exchange);
        if resolved { Own::Resolved } else { Own::Nothing }
    }

    /// Says whether the bytes from `place` on may be the echo of the request, whole so far or spoiled.
    fn may_be_echo(&self, exchange: &Exchange, place: usize) -> bool {
        let bytes = self.heard.bytes().get(place..).unwrap_or_default();
        !exchange.echoed
            && (self.sent_frame().starts_with(bytes) || (self.echo.known && bytes.len() <= self.sent_length))
    }

    fn take_exception(&mut self, now: Duration, exchange: Exchange, place: usize) -> Own {
        let Some((_, &[_, code])) = self.heard.frame(place, self.heard.len()) else { return Own::Nothing };
        if self.suspects.of_function(now, exchange.unit, exchange.expect.function()) {
            // It has no length to tell whose it is; so neither is believed, nor is anything settled.
            return self.disbelieve(exchange, place);
        }
        self.finish(&exchange, place);
        add(&mut self.counts.refusals, 1);
        Own::Outcome(Outcome::Refused(ExceptionCode::new(code)))
    }

    /// Steps over an answer that may belong to another request.
    fn disbelieve(&mut self, exchange: Exchange, place: usize) -> Own {
        add(&mut self.counts.late_answers, 1);
        self.set(Exchange { begun: None, wrong: Some(Failure::WrongReply), ..exchange });
        self.discard_noise(place);
        let _ = self.discard(self.heard.len());
        Own::Taken
    }

    /// Takes the frame `place..end` as the answer.
    fn believe(&mut self, now: Duration, exchange: Exchange, place: usize, end: usize) -> Outcome {
        let first = exchange.begun.filter(|begun| begun.place == place).map_or(now, |begun| begun.at);
        if let Some((_, pdu)) = self.heard.frame(place, end)
            && let Some(room) = self.answer.get_mut(..pdu.len())
        {
            room.copy_from_slice(pdu);
            self.answer_length = pdu.len();
        }
        self.finish(&exchange, place);
        add(&mut self.counts.answers, 1);
        Outcome::Answered { turnaround: first.saturating_sub(self.sent_end) }
    }

    /// Ends the exchange with the frame that begins at `place`.
    fn finish(&mut self, exchange: &Exchange, place: usize) {
        if !exchange.echoed && self.echo.known && !exchange.expect.mirrors() {
            self.echo.misses = self.echo.misses.saturating_add(1);
            self.echo.known = self.echo.misses < ECHO_MISSES;
        }
        self.state = State::Idle;
        self.discard_noise(place);
        let _ = self.discard(self.heard.len());
    }

    /// The line is silent: is there an answer that only silence ends?
    pub(super) fn ask_silence(&mut self, now: Duration, exchange: Exchange) -> Option<Outcome> {
        let all = self.heard.len();
        for place in self.heard.fresh()..all {
            let mut ends = (all.saturating_sub(TAIL)..=all).rev();
            let rest = self.heard.bytes().get(place..)?;
            if rest.first() != Some(&exchange.unit) || rest.get(1) != Some(&exchange.expect.function()) {
                continue;
            }
            let right = |end: usize| end.saturating_sub(place) >= MIN_FRAME && self.heard.frame(place, end).is_some();
            let Some(mut end) = ends.find(|&end| right(end)) else { continue };
            // A zero after a frame leaves its CRC right.
            while right(end.saturating_sub(1)) {
                end = end.saturating_sub(1);
            }
            if !exchange.contested {
                return Some(self.believe(now, exchange, place, end));
            }
        }
        None
    }

    /// Takes frames of others that end at `end` or later.
    fn take_foreign(&mut self, now: Duration, mut end: usize) {
        while end <= self.heard.len() {
            let limit = match &self.state {
                State::AwaitingAnswer(Exchange { begun: Some(begun), .. }) => begun.place,
                _ => usize::MAX,
            };
            let Some(place) = self.heard.frame_ending_at(end, limit) else {
                end = end.saturating_add(1);
                continue;
            };
            self.judge_foreign(now, place, end);
            self.discard_noise(place);
            let _ = self.discard(end.saturating_sub(place));
            end = MIN_FRAME;
        }
    }

    /// Somebody else's frame, or an answer that is not for the request in progress.
    fn judge_foreign(&mut self, now: Duration, place: usize, end: usize) {
        let Some((unit, pdu)) = self.heard.frame(place, end) else { return };
        let Some(&code) = pdu.first() else { return };
        let function = code & !EXCEPTION;
        let fresh = place >= self.heard.fresh();
        let answer = Answer::of(pdu);
        let request = Expect::of(pdu).filter(|expect| !expect.is_free());
        if is_exception(pdu) {
            if self.suspects.settle_exception(now, unit, function) {
                return add(&mut self.counts.late_answers, 1);
            }
        } else if answer.is_some_and(|answer| {
            self.suspects.settle(now, &Signature { unit, function, answer }, self.timing.answer_slack)
        }) {
            return add(&mut self.counts.late_answers, 1);
        } else if let Some(expect) = request {
            let signature = Signature::of(unit, &expect);
            add(&mut self.counts.foreign_requests, 1);
            if unit != BROADCAST {
                self.suspects.suspect(now, signature, now.saturating_add(self.timing.late_reply));
            }
            if let State::AwaitingAnswer(exchange) = &mut self.state {
                let own = Signature::of(exchange.unit, &exchange.expect);
                exchange.contested |=
                    own.unit == unit && own.function == function && own.answer.confusable(signature.answer);
            }
            return;
        }
        add(&mut self.counts.unasked_answers, 1);
        if let State::AwaitingAnswer(exchange) = &mut self.state
            && fresh
        {
            let same = unit == exchange.unit && function == exchange.expect.function();
            exchange.wrong = Some(if same { Failure::WrongLength } else { Failure::WrongReply });
        }
    }

    /// Drops bytes from the front that are part of no frame.
    pub(super) fn discard_noise(&mut self, count: usize) {
        let fresh = self.discard(count);
        add(&mut self.counts.noise_bytes, count);
        if let State::AwaitingAnswer(exchange) = &mut self.state {
            exchange.noise = exchange.noise.saturating_add(fresh);
        }
    }

    fn discard(&mut self, count: usize) -> usize {
        if let State::AwaitingAnswer(exchange) = &mut self.state {
            exchange.begun =
                exchange.begun.and_then(|begun| Some(Begun { place: begun.place.checked_sub(count)?, ..begun }));
            exchange.asked = exchange.asked.saturating_sub(count);
        }
        self.heard.discard(count)
    }
}

/// What the newest byte was for the answer waited for.
enum Own {
    Outcome(Outcome),
    /// The end of an answer that is not believed.
    Taken,
    /// What seemed the beginning of an answer was none.
    Resolved,
    Nothing,
}

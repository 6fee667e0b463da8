//! One exchange on a serial line.
//!
//! Bytes are taken one by one, so what is found never depends on the lumps they come in. At each byte three questions are
//! asked: does the answer end here, wherever it began; does the echo of the request; does a frame of somebody else. While
//! the header of the answer waited for has been heard and the rest has not, nothing inside it is taken for a frame of
//! somebody else: registers hold anything.

use core::time::Duration;

use ganglion_protocols::modbus::rtu::{MAX_FRAME, crc};
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

use super::counts::{Counts, add};
use super::expect::{Answer, EXCEPTION, Expect, Length, MAX_PDU};
use super::heard::{Heard, MIN_FRAME, is_exception};
use super::suspects::{Signature, Suspects};
use super::timing::Timing;
use super::{Failure, Outcome, StartError};

/// Unit of requests to everybody.
const BROADCAST: u8 = 0;
/// Answers without an echo after which a line is held not to echo any more.
const ECHO_MISSES: u8 = 3;
/// Stray bytes after the end of an answer that only silence ends.
const TAIL: usize = 3;

/// A client on a serial line.
#[derive(Clone, Debug)]
pub(super) struct Rtu {
    timing: Timing,
    state: State,
    heard: Heard,
    /// Request frame sent last.
    sent: [u8; MAX_FRAME],
    sent_length: usize,
    /// When the request sent last has left the port.
    sent_end: Duration,
    heard_at: Duration,
    /// Since when there was no silence of one gap.
    sound_since: Duration,
    suspects: Suspects,
    echo: Echo,
    answer: [u8; MAX_PDU],
    answer_length: usize,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    AwaitingTurnaround { until: Duration },
    AwaitingAnswer(Exchange),
}

#[derive(Clone, Copy, Debug)]
struct Exchange {
    unit: u8,
    expect: Expect,
    /// Until when the first byte must be heard.
    deadline: Duration,
    /// The first answer that has begun and not ended.
    begun: Option<Begun>,
    /// A whole answer was heard, its CRC is wrong.
    spoiled: bool,
    echoed: bool,
    /// Another client has asked for the same: its answer cannot be told from the one waited for.
    contested: bool,
    /// A right frame was heard that is no answer.
    wrong: Option<Failure>,
    /// Bytes of no frame so far.
    noise: usize,
    /// How many bytes were there when silence was last asked whether they are an answer.
    asked: usize,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    place: usize,
    at: Duration,
    /// Its function, and byte count if there is one, have been heard.
    header: bool,
}

/// Whether the adapter hears what it sends.
#[derive(Clone, Copy, Debug)]
struct Echo {
    known: bool,
    misses: u8,
}

/// Why an exchange will end when nothing more is heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Deadline,
    Silence,
    Spoiled,
    Stalled,
}

impl Rtu {
    pub(super) const fn new(now: Duration, timing: Timing) -> Self {
        Self {
            timing,
            state: State::Idle,
            heard: Heard::new(),
            sent: [0; MAX_FRAME],
            sent_length: 0,
            sent_end: now,
            heard_at: now,
            sound_since: now,
            suspects: Suspects::new(now.saturating_add(timing.late_reply)),
            echo: Echo { known: false, misses: 0 },
            answer: [0; MAX_PDU],
            answer_length: 0,
            counts: ZERO,
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) const fn echoes(&self) -> bool {
        self.echo.known
    }

    pub(super) fn answer(&self) -> &[u8] {
        self.answer.get(..self.answer_length).unwrap_or_default()
    }

    pub(super) fn silent_at(&self) -> Duration {
        let silent = self.heard_at.saturating_add(self.timing.gap);
        let given_up = self.sound_since.saturating_add(self.timing.babble());
        silent.min(given_up).max(self.sent_end.saturating_add(self.timing.gap))
    }

    pub(super) fn usable_at(&self, unit: UnitId, pdu: &[u8]) -> Duration {
        match Expect::of(pdu) {
            Some(expect) if unit.0 != BROADCAST => {
                self.silent_at().max(self.suspects.clear_at(&Signature::of(unit.0, &expect)))
            }
            _ => self.silent_at(),
        }
    }

    pub(super) fn start(
        &mut self,
        now: Duration,
        unit: UnitId,
        pdu: &[u8],
        patience: Duration,
    ) -> Result<&[u8], StartError> {
        let expect = Expect::of(pdu).ok_or(StartError::NotARequest { function: pdu.first().copied() })?;
        if unit.0 == BROADCAST && !matches!(expect.function(), 0x05 | 0x06 | 0x0F | 0x10 | 0x16) {
            return Err(StartError::BroadcastRead { function: expect.function() });
        }
        if !matches!(self.state, State::Idle) {
            return Err(StartError::Busy);
        }
        let until = self.usable_at(unit, pdu);
        if now < until {
            return Err(StartError::TooEarly { until });
        }
        if now < self.heard_at.saturating_add(self.timing.gap) {
            add(&mut self.counts.babbled, 1);
        }
        self.forget_stale(now);
        self.heard.age();
        self.sent_length = emit(unit.0, pdu, &mut self.sent);
        self.sent_end = now.saturating_add(self.timing.characters(self.sent_length));
        let until = self.sent_end.saturating_add(patience);
        self.answer_length = 0;
        self.state = if unit.0 == BROADCAST {
            State::AwaitingTurnaround { until }
        } else {
            State::AwaitingAnswer(Exchange {
                unit: unit.0,
                expect,
                deadline: until,
                begun: None,
                spoiled: false,
                echoed: false,
                contested: false,
                wrong: None,
                noise: 0,
                asked: 0,
            })
        };
        add(&mut self.counts.requests, 1);
        Ok(self.sent_frame())
    }

    pub(super) fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) -> Option<Outcome> {
        if bytes.is_empty() {
            return None;
        }
        if now.saturating_sub(self.heard_at) >= self.timing.gap {
            self.sound_since = now;
        }
        self.forget_stale(now);
        self.heard_at = self.heard_at.max(now);
        bytes.iter().fold(None, |outcome, &byte| {
            // Whatever follows an answer in the same read is heard with nothing waited for.
            let next = self.take(now, byte);
            outcome.or(next)
        })
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        match &self.state {
            State::Idle => None,
            State::AwaitingTurnaround { until } => Some(*until),
            State::AwaitingAnswer(exchange) => Some(self.end(exchange).0),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Option<Outcome> {
        match self.state {
            State::Idle => None,
            State::AwaitingTurnaround { until } => {
                if now < until {
                    return None;
                }
                self.state = State::Idle;
                Some(Outcome::Sent)
            }
            State::AwaitingAnswer(exchange) => {
                let (at, end) = self.end(&exchange);
                if now < at { None } else { self.ended(now, exchange, end) }
            }
        }
    }

    pub(super) fn abandon(&mut self, now: Duration) {
        if let State::AwaitingAnswer(exchange) = self.state {
            self.suspect(now.max(self.sent_end), &exchange);
        }
        self.state = State::Idle;
    }

    fn sent_frame(&self) -> &[u8] {
        self.sent.get(..self.sent_length).unwrap_or_default()
    }

    /// Returns when and why the exchange ends if nothing more is heard.
    fn end(&self, exchange: &Exchange) -> (Duration, End) {
        let silence = self.heard_at.saturating_add(self.timing.gap);
        if exchange.spoiled && exchange.begun.is_none_or(|begun| !begun.header) {
            return (silence, End::Spoiled);
        }
        let Some(begun) = exchange.begun else { return (exchange.deadline, End::Deadline) };
        if exchange.expect.is_free() && exchange.asked != self.heard.len() {
            return (silence, End::Silence);
        }
        let whole = self.timing.frame(exchange.expect.longest().saturating_add(3));
        let stall = self.heard_at.saturating_add(self.timing.answer_slack).min(begun.at.saturating_add(whole));
        if begun.header {
            (stall, End::Stalled)
        } else if begun.at <= exchange.deadline && stall > exchange.deadline {
            (stall, End::Deadline)
        } else {
            (exchange.deadline, End::Deadline)
        }
    }

    fn ended(&mut self, now: Duration, exchange: Exchange, end: End) -> Option<Outcome> {
        if end == End::Silence {
            if let Some(outcome) = self.ask_silence(now, exchange) {
                return Some(outcome);
            }
            self.set(Exchange { asked: self.heard.len(), ..exchange });
            return None;
        }
        let noise = exchange.noise.saturating_add(self.heard.len().saturating_sub(self.heard.fresh()));
        let failure = match end {
            End::Spoiled | End::Stalled => Failure::Malformed,
            End::Deadline | End::Silence => match exchange.wrong {
                Some(wrong) => wrong,
                None if exchange.spoiled || noise >= MIN_FRAME => Failure::Malformed,
                None => Failure::Timeout,
            },
        };
        // A whole spoiled frame was the answer, and nothing is due any more, unless it can have been another frame: a
        // late answer, or the echo of the request.
        let answered = exchange.spoiled
            && end == End::Spoiled
            && !exchange.expect.mirrors()
            && !self.suspects.of_unit(now, exchange.unit);
        if !answered {
            self.suspect(now, &exchange);
        }
        add(&mut self.counts.failures, 1);
        self.state = State::Idle;
        Some(Outcome::Failed(failure))
    }

    fn suspect(&mut self, now: Duration, exchange: &Exchange) {
        let until = now.saturating_add(self.timing.late_reply);
        self.suspects.suspect(now, Signature::of(exchange.unit, &exchange.expect), until);
    }

    fn set(&mut self, exchange: Exchange) {
        self.state = State::AwaitingAnswer(exchange);
    }

    /// Forgets bytes so old that nothing to come continues them. What an exchange waits for is its own to judge.
    fn forget_stale(&mut self, now: Duration) {
        if now.saturating_sub(self.heard_at) > self.timing.answer_slack {
            let stale = match self.state {
                State::AwaitingAnswer(_) => self.heard.fresh(),
                _ => self.heard.len(),
            };
            self.discard_noise(stale);
        }
    }

    fn take(&mut self, now: Duration, byte: u8) -> Option<Outcome> {
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

    fn take_exception(&mut self, now: Duration, mut exchange: Exchange, place: usize) -> Own {
        let Some((_, &[_, code])) = self.heard.frame(place, self.heard.len()) else { return Own::Nothing };
        if self.suspects.of_function(now, exchange.unit, exchange.expect.function()) {
            // It has no length to tell whose it is; so neither is believed, nor is anything settled.
            exchange.wrong = Some(Failure::WrongReply);
            return self.disbelieve(exchange, place);
        }
        self.finish(&exchange, place);
        add(&mut self.counts.refusals, 1);
        Own::Outcome(Outcome::Refused(ExceptionCode::new(code)))
    }

    fn disbelieve(&mut self, exchange: Exchange, place: usize) -> Own {
        add(&mut self.counts.late_answers, 1);
        self.set(Exchange { begun: None, wrong: Some(Failure::WrongReply), ..exchange });
        self.discard_noise(place);
        let _ = self.discard(self.heard.len());
        Own::Taken
    }

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
    fn ask_silence(&mut self, now: Duration, exchange: Exchange) -> Option<Outcome> {
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
        } else if answer.is_some_and(|answer| self.suspects.settle(now, &Signature { unit, function, answer })) {
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
    fn discard_noise(&mut self, count: usize) {
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

const ZERO: Counts = Counts {
    requests: 0,
    answers: 0,
    refusals: 0,
    failures: 0,
    echoes: 0,
    foreign_requests: 0,
    unasked_answers: 0,
    late_answers: 0,
    crc_errors: 0,
    noise_bytes: 0,
    babbled: 0,
};

/// Writes the frame of a PDU and returns its length.
fn emit(unit: u8, pdu: &[u8], out: &mut [u8; MAX_FRAME]) -> usize {
    let mut length = 0_usize;
    let mut put = |byte| {
        if let Some(slot) = out.get_mut(length) {
            *slot = byte;
            length = length.saturating_add(1);
        }
    };
    put(unit);
    pdu.iter().copied().for_each(&mut put);
    let body = pdu.len().saturating_add(1);
    let check = crc(out.get(..body).unwrap_or_default());
    for byte in check.to_le_bytes() {
        if let Some(slot) = out.get_mut(length) {
            *slot = byte;
            length = length.saturating_add(1);
        }
    }
    length
}

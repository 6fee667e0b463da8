//! One exchange on a serial line.

mod exchange;
mod listen;

use core::time::Duration;

use ganglion_protocols::modbus::UnitId;
use ganglion_protocols::modbus::pdu::MAX_PDU;
use ganglion_protocols::modbus::rtu::{Frame, MAX_FRAME, MIN_FRAME};

use super::counts::{Counts, add};
use super::expect::Expect;
use super::heard::Heard;
use super::suspects::{Signature, Suspects};
use super::timing::Timing;
use super::{Failure, Outcome, StartError};
use exchange::{End, Exchange};

/// Unit of requests to everybody.
const BROADCAST: u8 = 0;

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

/// Whether the adapter hears what it sends.
#[derive(Clone, Copy, Debug)]
struct Echo {
    known: bool,
    misses: u8,
}

impl Rtu {
    pub(super) fn new(now: Duration, timing: Timing) -> Self {
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
            counts: Counts::default(),
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
        let not_a_request = StartError::NotARequest { function: pdu.first().copied() };
        let expect = Expect::of(pdu).ok_or(not_a_request)?;
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
        self.sent_length = Frame::emit(unit, pdu, &mut self.sent).map_err(|_| not_a_request)?;
        self.sent_end = now.saturating_add(self.timing.characters(self.sent_length));
        let until = self.sent_end.saturating_add(patience);
        self.answer_length = 0;
        self.state = if unit.0 == BROADCAST {
            State::AwaitingTurnaround { until }
        } else {
            State::AwaitingAnswer(Exchange::new(unit.0, expect, until))
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
            State::AwaitingAnswer(exchange) => Some(exchange.end(&self.timing, &self.heard, self.heard_at).0),
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
                let (at, end) = exchange.end(&self.timing, &self.heard, self.heard_at);
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

    fn ended(&mut self, now: Duration, exchange: Exchange, end: End) -> Option<Outcome> {
        if end == End::Silence {
            if let Some(outcome) = self.ask_silence(now, exchange) {
                return Some(outcome);
            }
            self.set(Exchange { asked: self.heard.len(), ..exchange });
            // Asked once for these bytes, silence is not asked again.
            return self.handle_timeout(now);
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
}

//! One exchange over Modbus TCP.
//!
//! The header carries a transaction number, so an answer that comes late is known by it and skipped; nothing is ever
//! suspect. Some gateways pass the CRC of the serial frame on behind the PDU, counted in the length of the header or not
//! (apache/plc4x#2362); both are understood. Two other bytes between a frame and the answer waited for are stepped over.

use core::time::Duration;

use ganglion_protocols::modbus::pdu::{EXCEPTION, MAX_PDU};
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::modbus::tcp::{self, Frame, HEADER};
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

use super::counts::{Counts, add};
use super::expect::{Expect, Length};
use super::{Failure, Outcome, StartError};

/// Bytes of the header before what its length counts.
const BEFORE_UNIT: usize = HEADER - 1;
/// Bytes of a CRC.
const CHECK: usize = 2;
/// Longest frame, a CRC included.
const MAX_FRAME: usize = tcp::MAX_FRAME + CHECK;

/// A client on a TCP connection.
#[derive(Clone, Debug)]
pub(super) struct Tcp {
    state: State,
    bytes: [u8; MAX_FRAME],
    length: usize,
    sent: [u8; tcp::MAX_FRAME],
    sent_length: usize,
    transaction: u16,
    /// CRC that the last frame would have had on a serial line: it may follow.
    tail: Option<[u8; 2]>,
    desynchronised: bool,
    answer: [u8; MAX_PDU],
    answer_length: usize,
    counts: Counts,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    AwaitingAnswer { unit: u8, expect: Expect, sent_at: Duration, deadline: Duration },
}

/// What stands at the front of the bytes received.
enum Front {
    /// Too little to say.
    Incomplete,
    /// So many bytes that belong to no frame: the CRC of the frame before.
    Tail(usize),
    /// A frame of so many bytes.
    Frame(usize),
    /// No frame.
    Impossible,
}

impl Tcp {
    pub(super) fn new() -> Self {
        Self {
            state: State::Idle,
            bytes: [0; MAX_FRAME],
            length: 0,
            sent: [0; tcp::MAX_FRAME],
            sent_length: 0,
            transaction: 0,
            tail: None,
            desynchronised: false,
            answer: [0; MAX_PDU],
            answer_length: 0,
            counts: Counts::default(),
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) const fn desynchronised(&self) -> bool {
        self.desynchronised
    }

    pub(super) fn answer(&self) -> &[u8] {
        self.answer.get(..self.answer_length).unwrap_or_default()
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
        if !matches!(self.state, State::Idle) {
            return Err(StartError::Busy);
        }
        if self.desynchronised {
            return Err(StartError::Desynchronised);
        }
        self.transaction = self.transaction.wrapping_add(1);
        // A CRC left behind by the gateway must not look like the begin of the answer.
        if self.tail == Some(self.transaction.to_be_bytes()) {
            self.transaction = self.transaction.wrapping_add(1);
        }
        self.sent_length = Frame::emit(self.transaction, unit, pdu, &mut self.sent).map_err(|_| not_a_request)?;
        self.answer_length = 0;
        self.state =
            State::AwaitingAnswer { unit: unit.0, expect, sent_at: now, deadline: now.saturating_add(patience) };
        add(&mut self.counts.requests, 1);
        Ok(self.sent.get(..self.sent_length).unwrap_or_default())
    }

    pub(super) fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) -> Option<Outcome> {
        bytes.iter().fold(None, |outcome, &byte| {
            let next = self.take(now, byte);
            outcome.or(next)
        })
    }

    pub(super) const fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Idle => None,
            State::AwaitingAnswer { deadline, .. } => Some(deadline),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Option<Outcome> {
        match self.state {
            State::AwaitingAnswer { deadline, .. } if now >= deadline => {
                let failure = if self.length == 0 { Failure::Timeout } else { Failure::Malformed };
                if matches!(header(self.received()), Front::Impossible) {
                    self.lose();
                }
                Some(self.fail(failure))
            }
            _ => None,
        }
    }

    pub(super) const fn abandon(&mut self) {
        self.state = State::Idle;
    }

    fn fail(&mut self, failure: Failure) -> Outcome {
        self.state = State::Idle;
        add(&mut self.counts.failures, 1);
        Outcome::Failed(failure)
    }

    fn take(&mut self, now: Duration, byte: u8) -> Option<Outcome> {
        if self.desynchronised {
            add(&mut self.counts.noise_bytes, 1);
            return None;
        }
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte;
            self.length = self.length.saturating_add(1);
        }
        match self.front() {
            Front::Incomplete => None,
            Front::Tail(count) => {
                add(&mut self.counts.noise_bytes, count);
                self.bytes.copy_within(count..self.length, 0);
                self.length = self.length.saturating_sub(count);
                self.tail = None;
                None
            }
            Front::Impossible => {
                self.lose();
                matches!(self.state, State::AwaitingAnswer { .. }).then(|| self.fail(Failure::Malformed))
            }
            Front::Frame(length) if self.length < length => None,
            Front::Frame(_) => self.judge(now),
        }
    }

    /// The place in the stream is lost.
    fn lose(&mut self) {
        add(&mut self.counts.noise_bytes, self.length);
        self.desynchronised = true;
        self.length = 0;
    }

    fn received(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn front(&self) -> Front {
        let bytes = self.received();
        if let Some(tail) = self.tail {
            match *bytes {
                [first] if first == tail[0] => return Front::Incomplete,
                [first, second] if [first, second] == tail => return Front::Tail(CHECK),
                _ => {}
            }
        }
        match (header(bytes), self.tail) {
            (Front::Impossible, Some(_)) => match bytes.get(CHECK..).map(header) {
                Some(Front::Incomplete) | None => Front::Incomplete,
                Some(Front::Frame(_)) if bytes.get(CHECK..).is_some_and(|next| self.is_awaited(next)) => {
                    Front::Tail(CHECK)
                }
                _ => Front::Impossible,
            },
            (front, _) => front,
        }
    }

    fn is_awaited(&self, frame: &[u8]) -> bool {
        matches!(self.state, State::AwaitingAnswer { .. }) && frame.starts_with(&self.transaction.to_be_bytes())
    }

    /// A whole frame stands at the front.
    fn judge(&mut self, now: Duration) -> Option<Outcome> {
        let whole = self.length;
        self.length = 0;
        let frame = self.bytes.get(..whole).unwrap_or_default();
        let (Some((&[high, low], _)), Some(body)) = (frame.split_first_chunk::<2>(), frame.get(BEFORE_UNIT..)) else {
            return None;
        };
        self.tail = Some(crc(body).to_le_bytes());
        let State::AwaitingAnswer { unit, expect, sent_at, .. } = self.state else {
            add(&mut self.counts.late_answers, 1);
            return None;
        };
        if u16::from_be_bytes([high, low]) != self.transaction {
            add(&mut self.counts.late_answers, 1);
            return None;
        }
        let (&got, pdu) = body.split_first()?;
        let failure = match (got == unit, expect.length(pdu)) {
            (false, _) => Failure::WrongReply,
            (true, Length::No) if pdu.first() != Some(&expect.function()) => Failure::WrongReply,
            (true, Length::No | Length::Unknown) => Failure::WrongLength,
            (true, Length::Silence) => return Some(self.believe(now, sent_at, whole)),
            (true, Length::Is(length)) => match pdu.get(..length) {
                Some(exact) if exact.len() == pdu.len() || is_crc_of(body, length) => {
                    if let &[function, code] = exact
                        && function & EXCEPTION != 0
                    {
                        self.state = State::Idle;
                        add(&mut self.counts.refusals, 1);
                        return Some(Outcome::Refused(ExceptionCode::new(code)));
                    }
                    if expect.is_right(exact) {
                        return Some(self.believe(now, sent_at, HEADER.saturating_add(length)));
                    }
                    Failure::WrongReply
                }
                _ => Failure::WrongLength,
            },
        };
        Some(self.fail(failure))
    }

    /// Takes the frame that ends at `end` as the answer.
    fn believe(&mut self, now: Duration, sent_at: Duration, end: usize) -> Outcome {
        if let Some(pdu) = self.bytes.get(HEADER..end)
            && let Some(room) = self.answer.get_mut(..pdu.len())
        {
            room.copy_from_slice(pdu);
            self.answer_length = pdu.len();
        }
        self.state = State::Idle;
        add(&mut self.counts.answers, 1);
        Outcome::Answered { turnaround: now.saturating_sub(sent_at) }
    }
}

/// Reads the header at the front of `bytes`.
fn header(bytes: &[u8]) -> Front {
    match *bytes {
        [_, _, protocol, ..] if protocol != 0 => Front::Impossible,
        [_, _, _, protocol, ..] if protocol != 0 => Front::Impossible,
        // Two more than the standard's 254 for a CRC that is counted in.
        [_, _, _, _, high, low, ..] => match u16::from_be_bytes([high, low]) {
            counted @ 2..=256 => Front::Frame(usize::from(counted).saturating_add(BEFORE_UNIT)),
            _ => Front::Impossible,
        },
        _ => Front::Incomplete,
    }
}

/// Says whether `body`, unit and PDU, goes on after `length` bytes of PDU with the CRC of what is before and nothing else.
fn is_crc_of(body: &[u8], length: usize) -> bool {
    body.split_at_checked(length.saturating_add(1)).is_some_and(|(front, rest)| rest == crc(front).to_le_bytes())
}

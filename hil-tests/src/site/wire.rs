//! The serial line without its port: when which byte is on the wire, and who answers.
//!
//! Bytes and times in, bytes out. Both directions take the time that the baud rate gives them, a frame ends with 3.5
//! characters of silence (MODBUS over Serial Line V1.02 §2.5.1.1), and whoever talks while another one does spoils both.
//! Fast characters are handed over in lumps of up to [`LUMP`], as a UART's FIFO does; the last one of a frame is never
//! held back.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::day::Tick;
use super::faults::Fault;
use super::noise::Noise;
use super::pdu;
use super::unit::Unit;

/// Longest time that a character is held back so that others go with it.
const LUMP: Duration = Duration::from_millis(1);

/// Good exchanges of each unit in each second, since 1970, in which any were over.
pub type Seconds = BTreeMap<u64, BTreeMap<u8, u64>>;

/// What happened on a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LineCounts {
    /// Well-formed requests for a unit on the line.
    pub requests: u64,
    /// Requests for a unit that is not on the line; nobody answers.
    pub strangers: u64,
    /// Frames with a wrong check, or too short.
    pub malformed: u64,
    /// Times that two talked at once.
    pub collisions: u64,
    /// Characters from the client.
    pub heard: u64,
    /// Characters to the client, without a local echo.
    pub sent: u64,
    /// Bits that were hit by an error.
    pub hit_bits: u64,
    /// Frames of the client that began before the line had been silent for 3.5 characters.
    pub hasty: u64,
    /// Requests whose answer came as it should: no exception, no fault, nothing spoiled.
    pub good: u64,
    /// The least time that the good exchanges can take: request, silence, turnaround, answer, silence.
    pub good_time: Duration,
}

/// State of one line.
#[derive(Debug)]
pub(super) struct Wire {
    character: Duration,
    silence: Duration,
    turnaround: Duration,
    units: Vec<Arc<Unit>>,
    input: Vec<u8>,
    /// When the last character heard is over.
    input_end: Instant,
    input_spoiled: bool,
    waiting: Vec<Transmission>,
    sending: Option<Sending>,
    /// Characters that the client's own adapter hears, and when each is over.
    echoes: VecDeque<(Instant, u8)>,
    /// When the last character of anybody was over.
    last_over: Option<Instant>,
    /// Whether the client's adapter hears itself.
    pub(super) echo: bool,
    pub(super) noise: Arc<Noise>,
    pub(super) counts: LineCounts,
    pub(super) seconds: Arc<Mutex<Seconds>>,
}

#[derive(Debug)]
struct Transmission {
    at: Instant,
    bytes: Vec<u8>,
    /// The unit whose good answer this is, and the least time of the exchange.
    good: Option<(u8, Duration)>,
}

#[derive(Debug)]
struct Sending {
    bytes: Vec<u8>,
    done: usize,
    /// When the next character is over, and so heard by the client.
    next: Instant,
    spoiled: bool,
    good: Option<(u8, Duration)>,
}

impl Wire {
    pub(super) fn new(character: Duration, silence: Duration, turnaround: Duration, units: Vec<Arc<Unit>>) -> Self {
        Self {
            character,
            silence,
            turnaround,
            units,
            input: Vec::new(),
            input_end: Instant::now(),
            input_spoiled: false,
            waiting: Vec::new(),
            sending: None,
            echoes: VecDeque::new(),
            last_over: None,
            echo: false,
            noise: Arc::new(Noise::new(0)),
            counts: LineCounts::default(),
            seconds: Arc::default(),
        }
    }

    /// Takes bytes that the client began to send now.
    pub(super) fn hear(&mut self, now: Instant, bytes: &[u8]) {
        let begin = if self.input.is_empty() { now } else { self.input_end.max(now) };
        // A hundredth less: the client may know the length of a character a little less well.
        let early = |over: Instant| begin < over + self.silence * 99 / 100;
        self.counts.hasty += u64::from(self.input.is_empty() && self.last_over.is_some_and(early));
        let mut over = begin;
        for byte in bytes {
            over += self.character;
            if self.echo {
                self.echoes.push_back((over, *byte));
            }
        }
        self.input_end = over;
        self.last_over = Some(over);
        self.counts.heard += bytes.len() as u64;
        let known = self.input.len();
        self.input.extend_from_slice(bytes);
        self.counts.hit_bits += self.noise.pass(self.input.get_mut(known..).unwrap_or_default());
        if let Some(sending) = &mut self.sending {
            sending.spoiled = true;
            self.input_spoiled = true;
            self.counts.collisions += 1;
        }
    }

    /// Does what is due and returns the characters that are over. `tick` is what the units' values follow.
    pub(super) fn advance(&mut self, now: Instant, tick: Tick) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some((_, byte)) = self.echoes.pop_front_if(|(over, _)| *over <= now) {
            out.push(byte);
        }
        let echoed = out.len();
        loop {
            if let Some(sending) = &mut self.sending {
                while sending.next <= now && sending.done < sending.bytes.len() {
                    let clash = if sending.spoiled { 0x5A } else { 0 };
                    let mut byte = [sending.bytes.get(sending.done).map_or(0, |byte| byte ^ clash)];
                    let hits = self.noise.pass(&mut byte);
                    self.counts.hit_bits += hits;
                    sending.good = sending.good.filter(|_| hits == 0 && !sending.spoiled);
                    out.extend(byte);
                    self.last_over = Some(sending.next);
                    sending.done += 1;
                    sending.next += self.character;
                }
                if sending.done < sending.bytes.len() {
                    // Another unit's late answer falls into this one: neither is readable.
                    let before = self.waiting.len();
                    self.waiting.retain(|transmission| transmission.at > now);
                    let others = before - self.waiting.len();
                    sending.spoiled |= others > 0;
                    self.counts.collisions += others as u64;
                    break;
                }
                if let Some((unit, least)) = self.sending.take().and_then(|sending| sending.good) {
                    self.counts.good += 1;
                    self.counts.good_time += least;
                    let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
                    *seconds.entry(tick.unix_second()).or_default().entry(unit).or_default() += 1;
                }
            }
            if !self.input.is_empty() && self.input_end + self.silence <= now {
                self.frame(tick);
            }
            let due = self.waiting.iter().position(|transmission| transmission.at <= now);
            let Some(Transmission { at, bytes, good }) = due.map(|place| self.waiting.remove(place)) else { break };
            let spoiled = !self.input.is_empty();
            if spoiled {
                self.input_spoiled = true;
                self.counts.collisions += 1;
            }
            self.sending = Some(Sending { bytes, done: 0, next: at + self.character, spoiled, good });
        }
        self.counts.sent += (out.len() - echoed) as u64;
        out
    }

    /// Lets somebody else talk on the line from now on: another client or a unit that none of ours knows.
    pub(super) fn say(&mut self, now: Instant, bytes: Vec<u8>) {
        self.waiting.push(Transmission { at: now, bytes, good: None });
    }

    /// Returns when something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        let frame = (!self.input.is_empty()).then(|| self.input_end + self.silence);
        let waiting = self.waiting.iter().map(|transmission| transmission.at).min();
        let held = |first: Instant, last: Instant| last.min(first + LUMP.saturating_sub(self.character));
        let echo = self.echoes.front().zip(self.echoes.back()).map(|(first, last)| held(first.0, last.0));
        let others = match &self.sending {
            Some(sending) => {
                let left = sending.bytes.len().saturating_sub(sending.done + 1);
                let last = sending.next + self.character * u32::try_from(left).unwrap_or(u32::MAX);
                Some(held(sending.next, last))
            }
            None => frame.into_iter().chain(waiting).min(),
        };
        echo.into_iter().chain(others).min()
    }

    /// Forgets what is under way: the plug was pulled.
    pub(super) fn silence(&mut self) {
        self.input.clear();
        self.waiting.clear();
        self.sending = None;
        self.echoes.clear();
        self.input_spoiled = false;
    }

    /// Takes the frame heard and prepares its answer.
    fn frame(&mut self, tick: Tick) {
        let frame = std::mem::take(&mut self.input);
        let spoiled = std::mem::take(&mut self.input_spoiled);
        let Some((body, check)) = frame.split_last_chunk::<2>().filter(|(body, _)| body.len() >= 2 && !spoiled) else {
            self.counts.malformed += 1;
            return;
        };
        if pdu::crc(body).to_le_bytes() != *check {
            self.counts.malformed += 1;
            return;
        }
        let Some(unit) = self.units.iter().find(|unit| body.first() == Some(&unit.id)) else {
            self.counts.strangers += 1;
            return;
        };
        self.counts.requests += 1;
        if unit.defects.is_dead() {
            return;
        }
        let fault = unit.faults.draw();
        if let Some((after, bytes)) = answer(unit, body, &frame, tick, fault) {
            let at = self.input_end + self.silence + after.unwrap_or(self.turnaround);
            let refused = bytes.get(1).is_none_or(|function| function & 0x80 != 0);
            let characters = u32::try_from(frame.len() + bytes.len()).unwrap_or(u32::MAX);
            let least = self.character * characters + self.silence * 2 + self.turnaround;
            let good = (fault.is_none() && !refused).then_some((unit.id, least));
            self.waiting.push(Transmission { at, bytes, good });
        }
    }
}

/// Returns the answer's characters, and how long it takes if not as long as usual; `None` for no answer.
fn answer(
    unit: &Unit,
    body: &[u8],
    frame: &[u8],
    tick: Tick,
    fault: Option<Fault>,
) -> Option<(Option<Duration>, Vec<u8>)> {
    let pdu = pdu::answer(unit, body.get(1..)?, tick, fault);
    if pdu.is_empty() {
        return None;
    }
    let mut reply = [&[unit.id], pdu.as_slice()].concat();
    if fault == Some(Fault::WrongUnit) {
        reply[0] = reply[0].wrapping_add(1);
    }
    reply.extend(pdu::crc(&reply).to_le_bytes());
    match fault {
        Some(Fault::Drop) => return None,
        Some(Fault::Late) => return Some((Some(unit.faults.late()), reply)),
        Some(Fault::Flip) => {
            let all = reply.len();
            unit.faults.flip(&mut reply, all);
        }
        Some(Fault::Garbage) => reply = [unit.faults.garbage(), reply].concat(),
        Some(Fault::Echo) => reply = [frame, &reply].concat(),
        Some(Fault::Truncated) => unit.faults.truncate(&mut reply),
        Some(Fault::WrongUnit | Fault::WrongLength | Fault::Exception | Fault::WrongTransaction) | None => {}
    }
    Some((None, reply))
}

#[cfg(test)]
mod tests;

//! The serial line without its port: when which byte is on the wire, and who answers.
//!
//! Bytes and times in, bytes out. Both directions take the time that the baud rate gives them, a frame ends with 3.5
//! characters of silence (MODBUS over Serial Line V1.02 §2.5.1.1), and whoever talks while another one does spoils both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::day::Tick;
use super::faults::Fault;
use super::pdu;
use super::unit::Unit;

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
    /// Characters to the client.
    pub sent: u64,
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
    pub(super) counts: LineCounts,
}

#[derive(Debug)]
struct Transmission {
    at: Instant,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Sending {
    bytes: Vec<u8>,
    done: usize,
    /// When the next character is over, and so heard by the client.
    next: Instant,
    spoiled: bool,
}

impl Wire {
    pub(super) fn new(character: Duration, baud: u32, turnaround: Duration, units: Vec<Arc<Unit>>) -> Self {
        // Above 19 200 Bd the silence is fixed at 1.75 ms.
        let silence = if baud > 19_200 { Duration::from_micros(1750) } else { character * 7 / 2 };
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
            counts: LineCounts::default(),
        }
    }

    /// Takes bytes that the client began to send now.
    pub(super) fn hear(&mut self, now: Instant, bytes: &[u8]) {
        let begin = if self.input.is_empty() { now } else { self.input_end.max(now) };
        self.input_end = begin + self.character * u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.counts.heard += bytes.len() as u64;
        self.input.extend_from_slice(bytes);
        if let Some(sending) = &mut self.sending {
            sending.spoiled = true;
            self.input_spoiled = true;
            self.counts.collisions += 1;
        }
    }

    /// Does what is due and returns the characters that are over. `tick` is what the units' values follow.
    pub(super) fn advance(&mut self, now: Instant, tick: Tick) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            if let Some(sending) = &mut self.sending {
                while sending.next <= now && sending.done < sending.bytes.len() {
                    let noise = if sending.spoiled { 0x5A } else { 0 };
                    out.extend(sending.bytes.get(sending.done).map(|byte| byte ^ noise));
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
                self.sending = None;
            }
            if !self.input.is_empty() && self.input_end + self.silence <= now {
                self.frame(tick);
            }
            let due = self.waiting.iter().position(|transmission| transmission.at <= now);
            let Some(Transmission { at, bytes }) = due.map(|place| self.waiting.remove(place)) else { break };
            let spoiled = !self.input.is_empty();
            if spoiled {
                self.input_spoiled = true;
                self.counts.collisions += 1;
            }
            self.sending = Some(Sending { bytes, done: 0, next: at + self.character, spoiled });
        }
        self.counts.sent += out.len() as u64;
        out
    }

    /// Returns when something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        let frame = (!self.input.is_empty()).then(|| self.input_end + self.silence);
        let waiting = self.waiting.iter().map(|transmission| transmission.at).min();
        match &self.sending {
            Some(sending) => Some(sending.next),
            None => frame.into_iter().chain(waiting).min(),
        }
    }

    /// Forgets what is under way: the plug was pulled.
    pub(super) fn silence(&mut self) {
        self.input.clear();
        self.waiting.clear();
        self.sending = None;
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
        let fault = unit.faults.draw();
        if let Some((after, bytes)) = answer(unit, body, &frame, tick, fault) {
            let at = self.input_end + self.silence + after.unwrap_or(self.turnaround);
            self.waiting.push(Transmission { at, bytes });
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
    let mut reply = vec![unit.id];
    reply.extend(pdu::answer(unit, body.get(1..)?, tick, fault));
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
mod tests {
    use super::super::unit::{Model, Table};
    use super::*;

    const TICK: Tick = Tick(17_953_200_000);
    const CHARACTER: Duration = Duration::from_micros(1000);

    fn wire(ids: &[u8]) -> Wire {
        let units = ids.iter().map(|&id| Unit::new(id, Model::Bench { registers: 100 }, 3)).collect();
        Wire::new(CHARACTER, 9600, Duration::from_millis(2), units)
    }

    fn request(unit: u8, address: u8) -> Vec<u8> {
        let mut frame = vec![unit, 0x03, 0, address, 0, 2];
        frame.extend(pdu::crc(&frame).to_le_bytes());
        frame
    }

    /// Lets time pass from event to event; returns each character with the time it was over, in microseconds.
    fn run(wire: &mut Wire, from: Instant, until: Duration) -> Vec<(u128, u8)> {
        let mut heard = Vec::new();
        while let Some(next) = wire.next().filter(|&next| next <= from + until) {
            let now = next.max(from);
            heard.extend(wire.advance(now, TICK).into_iter().map(|byte| ((now - from).as_micros(), byte)));
        }
        heard
    }

    fn bytes(heard: &[(u128, u8)]) -> Vec<u8> {
        heard.iter().map(|&(_, byte)| byte).collect()
    }

    #[test]
    fn a_request_and_its_answer_take_the_time_of_their_characters() {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.hear(start, &request(1, 0));
        let heard = run(&mut wire, start, Duration::from_secs(1));
        // 8 characters, 3.5 of silence, 2 ms of the device, 9 characters.
        assert_eq!(heard.first().map(|first| first.0), Some(8000 + 3500 + 2000 + 1000));
        assert_eq!(heard.last().map(|last| last.0), Some(8000 + 3500 + 2000 + 9000));
        let words = wire.units[0].read(Table::Holding, 0, 2, TICK).expect("two registers");
        let data: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        assert_eq!(bytes(&heard)[..7], [&[1, 3, 4][..], &data].concat());
        assert_eq!(pdu::crc(&bytes(&heard)), 0);
    }

    #[test]
    fn a_request_in_pieces_is_one_frame_and_two_without_silence_are_none() {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.hear(start, &request(1, 0)[..3]);
        wire.hear(start + Duration::from_millis(4), &request(1, 0)[3..]);
        assert_eq!(run(&mut wire, start, Duration::from_secs(1)).len(), 9);
        let later = start + Duration::from_secs(2);
        wire.hear(later, &request(1, 0));
        wire.hear(later + Duration::from_millis(9), &request(1, 4));
        assert!(run(&mut wire, later, Duration::from_secs(1)).is_empty());
        assert_eq!((wire.counts.requests, wire.counts.malformed), (1, 1));
    }

    #[test]
    fn nobody_answers_for_a_stranger_or_a_wrong_check() {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.hear(start, &request(9, 0));
        assert!(run(&mut wire, start, Duration::from_secs(1)).is_empty());
        let mut frame = request(1, 0);
        frame[3] ^= 1;
        wire.hear(start + Duration::from_secs(2), &frame);
        assert!(run(&mut wire, start, Duration::from_secs(4)).is_empty());
        assert_eq!((wire.counts.strangers, wire.counts.malformed, wire.counts.requests), (1, 1, 0));
    }

    #[test]
    fn a_late_answer_comes_late_and_another_unit_may_answer_before() {
        let (mut wire, start) = (wire(&[1, 2]), Instant::now());
        wire.units[0].faults.queue([Fault::Late]);
        wire.units[0].faults.set_late(Duration::from_millis(300));
        wire.hear(start, &request(1, 0));
        assert!(run(&mut wire, start, Duration::from_millis(100)).is_empty());
        wire.hear(start + Duration::from_millis(100), &request(2, 0));
        let heard = run(&mut wire, start, Duration::from_secs(1));
        assert_eq!((heard.len(), heard[0].1, heard[9].1), (18, 2, 1));
        assert_eq!(heard[9].0, 8000 + 3500 + 300_000 + 1000);
    }

    #[test]
    fn a_late_answer_into_another_units_answer_makes_both_unreadable() {
        let (mut wire, start) = (wire(&[1, 2]), Instant::now());
        wire.units[0].faults.queue([Fault::Late]);
        wire.units[0].faults.set_late(Duration::from_millis(30));
        wire.hear(start, &request(1, 0));
        assert!(run(&mut wire, start, Duration::from_millis(20)).is_empty());
        wire.hear(start + Duration::from_millis(25), &request(2, 0));
        let heard = bytes(&run(&mut wire, start, Duration::from_secs(1)));
        assert_eq!(wire.counts.collisions, 1);
        assert!(heard.windows(9).all(|frame| pdu::crc(frame) != 0), "{heard:?}");
    }

    #[test]
    fn whoever_talks_into_an_answer_spoils_both() {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.hear(start, &request(1, 0));
        let first = run(&mut wire, start, Duration::from_micros(17_500));
        wire.hear(start + Duration::from_micros(17_500), &request(1, 0));
        let heard = [first, run(&mut wire, start, Duration::from_secs(1))].concat();
        assert_eq!(heard.len(), 9);
        assert_ne!(pdu::crc(&bytes(&heard)), 0);
        assert_eq!((wire.counts.collisions, wire.counts.requests, wire.counts.malformed), (1, 1, 1));
    }

    #[test]
    fn each_fault_spoils_the_answer_in_its_own_way() {
        let good = {
            let (mut wire, start) = (wire(&[1]), Instant::now());
            wire.hear(start, &request(1, 0));
            bytes(&run(&mut wire, start, Duration::from_secs(1)))
        };
        let spoiled = |fault| {
            let (mut wire, start) = (wire(&[1]), Instant::now());
            wire.units[0].faults.queue([fault]);
            wire.hear(start, &request(1, 0));
            let heard = bytes(&run(&mut wire, start, Duration::from_secs(5)));
            assert_eq!(wire.units[0].faults.counts()[&fault], 1);
            heard
        };
        assert!(spoiled(Fault::Drop).is_empty());
        assert_eq!(spoiled(Fault::Late), good);
        assert_eq!(spoiled(Fault::Echo), [request(1, 0), good.clone()].concat());
        let flipped = spoiled(Fault::Flip);
        assert!(flipped.len() == good.len() && pdu::crc(&flipped) != 0);
        let noisy = spoiled(Fault::Garbage);
        assert!(noisy.len() > good.len() && noisy.ends_with(&good));
        let other = spoiled(Fault::WrongUnit);
        assert_eq!((other[0], other.len(), pdu::crc(&other)), (2, good.len(), 0));
        let short = spoiled(Fault::WrongLength);
        assert_eq!((short[2], short.len(), pdu::crc(&short)), (2, good.len() - 2, 0));
        let cut = spoiled(Fault::Truncated);
        assert!(cut.len() < good.len() && good.starts_with(&cut));
        let busy = spoiled(Fault::Exception);
        assert_eq!((&busy[..3], pdu::crc(&busy)), (&[1, 0x83, 0x06][..], 0));
    }
}

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
mod tests {
    use super::super::unit::{Model, Table};
    use super::*;

    const TICK: Tick = Tick(17_953_200_000);
    const CHARACTER: Duration = Duration::from_micros(1000);

    fn wire(ids: &[u8]) -> Wire {
        let units = ids.iter().map(|&id| Unit::new(id, Model::Bench { registers: 100 }, 3)).collect();
        Wire::new(CHARACTER, CHARACTER * 7 / 2, Duration::from_millis(2), units)
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
    fn a_line_counts_what_was_good_and_how_long_it_takes_at_least() {
        let (mut wire, start) = (wire(&[1, 2]), Instant::now());
        wire.units[0].faults.queue([Fault::Flip, Fault::Exception]);
        wire.units[1].defects.set_dead(true);
        for (second, unit) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 1)] {
            let at = start + Duration::from_secs(second);
            wire.hear(at, &request(unit, 0));
            run(&mut wire, at, Duration::from_millis(900));
        }
        // 8 characters, 3.5 of silence, 2 ms, 9 characters, 3.5 of silence.
        let expected = (5, 2, 2 * Duration::from_millis(26));
        assert_eq!((wire.counts.requests, wire.counts.good, wire.counts.good_time), expected);
        let seconds = wire.seconds.lock().expect("nobody panicked").clone();
        assert_eq!(seconds, Seconds::from([(TICK.unix_second(), BTreeMap::from([(1, 2)]))]));
    }

    #[test]
    fn a_bit_error_spoils_a_request_or_its_answer_and_neither_is_good() {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.noise.set(2e-3);
        let mut broken = 0;
        for second in 0..1000 {
            let at = start + Duration::from_secs(second);
            wire.hear(at, &request(1, 0));
            let heard = bytes(&run(&mut wire, at, Duration::from_millis(900)));
            broken += u64::from(!heard.is_empty() && pdu::crc(&heard) != 0);
        }
        let LineCounts { good, malformed, strangers, hit_bits, .. } = wire.counts;
        assert_eq!(good + broken + malformed + strangers, 1000, "{:?}", wire.counts);
        assert!(malformed > 50 && broken > 50 && hit_bits > 200, "{:?}", wire.counts);
    }

    #[test]
    fn a_client_that_does_not_wait_for_the_silence_is_seen() {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        let over = |wire: &mut Wire, at| {
            wire.hear(at, &request(1, 0));
            run(wire, at, Duration::from_millis(500))
                .last()
                .map(|last| at + Duration::from_micros(u64::try_from(last.0).expect("short")))
        };
        let first = over(&mut wire, start).expect("an answer");
        let second = over(&mut wire, first + Duration::from_micros(3500)).expect("an answer");
        assert_eq!(wire.counts.hasty, 0);
        over(&mut wire, second + Duration::from_micros(3000)).expect("an answer");
        assert_eq!(wire.counts.hasty, 1);
    }

    #[test]
    fn an_adapter_that_hears_itself_hears_each_character_when_it_is_over() {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.echo = true;
        wire.hear(start, &request(1, 0));
        let heard = run(&mut wire, start, Duration::from_secs(1));
        assert_eq!(bytes(&heard)[..8], request(1, 0));
        assert_eq!((heard[0].0, heard[7].0, heard[8].0), (1000, 8000, 8000 + 3500 + 2000 + 1000));
        assert_eq!((heard.len(), wire.counts.sent, wire.counts.collisions), (17, 9, 0));
    }

    #[test]
    fn somebody_else_is_heard_and_spoils_what_it_talks_into() {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.say(start, request(77, 0));
        assert_eq!(bytes(&run(&mut wire, start, Duration::from_millis(500))), request(77, 0));
        let later = start + Duration::from_secs(1);
        wire.hear(later, &request(1, 0));
        wire.say(later + Duration::from_millis(4), request(77, 0));
        run(&mut wire, later, Duration::from_millis(500));
        assert_eq!((wire.counts.collisions, wire.counts.malformed, wire.counts.good), (1, 1, 0));
    }

    #[test]
    fn fast_characters_come_in_lumps_and_the_last_one_in_time() {
        let character = Duration::from_nanos(86_805);
        let units = vec![Unit::new(1, Model::Bench { registers: 100 }, 3)];
        let (mut wire, start) =
            (Wire::new(character, Duration::from_micros(1750), Duration::from_millis(2), units), Instant::now());
        let mut frame = vec![1, 0x03, 0, 0, 0, 60];
        frame.extend(pdu::crc(&frame).to_le_bytes());
        wire.hear(start, &frame);
        let heard = run(&mut wire, start, Duration::from_secs(1));
        let lumps = heard.chunk_by(|a, b| a.0 == b.0).count();
        assert!((10..=13).contains(&lumps), "{lumps} lumps");
        let whole = (8 + 125) * character + Duration::from_micros(1750 + 2000);
        assert_eq!((heard.len(), heard.last().map(|last| last.0)), (125, Some(whole.as_micros())));
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

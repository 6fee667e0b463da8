//! Transcripts of exchanges on a serial line: send this, hear that, so much later, expect this.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

use std::time::Duration;

use ganglion_drivers::client::{Client, Failure, Framing, Outcome, StartError, Timing};
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

const PATIENCE: Duration = ms(100);
const TIMING: Timing = Timing { character: ms(1), gap: ms(4), late_reply: ms(300), answer_slack: ms(30) };

/// Reads two registers at 0x0010; its answer; another answer of the same shape.
const READ: [u8; 5] = [0x03, 0x00, 0x10, 0x00, 0x02];
const ANSWER: [u8; 6] = [0x03, 0x04, 0x11, 0x22, 0x33, 0x44];
const STALE: [u8; 6] = [0x03, 0x04, 0x55, 0x66, 0x77, 0x88];
/// Reads three registers at 0x0010; its answer.
const LONGER: [u8; 5] = [0x03, 0x00, 0x10, 0x00, 0x03];
const LONGER_ANSWER: [u8; 8] = [0x03, 0x06, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66];
const WRITE: [u8; 5] = [0x06, 0x00, 0x20, 0x12, 0x34];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = vec![unit];
    frame.extend_from_slice(pdu);
    frame.extend_from_slice(&crc(&frame).to_le_bytes());
    frame
}

fn spoiled(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = frame(unit, pdu);
    let last = frame.len() - 3;
    frame[last] ^= 0x10;
    frame
}

/// A client and its clock.
struct Talk {
    client: Client,
    now: Duration,
}

impl Talk {
    /// A line opened long ago.
    fn new() -> Self {
        Self { client: Client::new(ms(0), Framing::Rtu(TIMING)), now: ms(1000) }
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    /// Sends a request and waits until it has left the port.
    fn ask(&mut self, unit: u8, pdu: &[u8]) -> &mut Self {
        let sent = self.client.start(self.now, UnitId(unit), pdu, PATIENCE).expect("the line is usable").to_vec();
        assert_eq!(sent, frame(unit, pdu));
        self.now += TIMING.character * u32::try_from(sent.len()).expect("a frame is short");
        self
    }

    /// Hears bytes, one a character.
    fn hear(&mut self, bytes: &[u8]) -> Option<Outcome> {
        let mut outcome = None;
        for byte in bytes {
            self.now += TIMING.character;
            let next = self.client.handle_bytes(self.now, &[*byte]);
            assert!(outcome.is_none() || next.is_none(), "one exchange, one outcome");
            outcome = outcome.or(next);
        }
        outcome
    }

    /// Hears bytes that are not the end of the exchange.
    fn overhear(&mut self, bytes: &[u8]) -> &mut Self {
        assert_eq!(self.hear(bytes), None);
        self
    }

    /// Waits for the end of the exchange, at most until it must have come.
    fn silence(&mut self) -> (Outcome, Duration) {
        let begin = self.now;
        for _ in 0..10 {
            self.now = self.client.poll_timeout().expect("an exchange is in progress").max(self.now);
            if let Some(outcome) = self.client.handle_timeout(self.now) {
                return (outcome, self.now - begin);
            }
        }
        panic!("the exchange never ends");
    }

    fn usable_in(&self, unit: u8, pdu: &[u8]) -> Duration {
        self.client.usable_at(UnitId(unit), pdu).saturating_sub(self.now)
    }

    #[track_caller]
    fn expect_answer(&mut self, bytes: &[u8], pdu: &[u8]) {
        let outcome = self.hear(bytes);
        assert!(matches!(outcome, Some(Outcome::Answered { .. })), "{outcome:?}");
        assert_eq!(self.client.answer(), pdu);
    }
}

const TIMEOUT: Outcome = Outcome::Failed(Failure::Timeout);
const MALFORMED: Outcome = Outcome::Failed(Failure::Malformed);
const WRONG_REPLY: Outcome = Outcome::Failed(Failure::WrongReply);
const WRONG_LENGTH: Outcome = Outcome::Failed(Failure::WrongLength);

#[test]
fn an_answer_is_taken_the_moment_it_is_whole_and_its_turnaround_told() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).wait(ms(20));
    let answer = frame(1, &ANSWER);
    talk.overhear(&answer[..8]);
    assert_eq!(talk.hear(&answer[8..]), Some(Outcome::Answered { turnaround: ms(21) }));
    assert_eq!(talk.client.answer(), ANSWER);
    assert_eq!(talk.client.poll_timeout(), None);
    assert_eq!(talk.usable_in(1, &READ), ms(4), "only the gap between frames is kept");
}

#[test]
fn every_function_knows_its_answer() {
    let device_id = [0x2B, 0x0E, 1, 1, 0, 0, 2, 0, 2, b'a', b'b', 1, 1, b'c'];
    let pairs: [(&[u8], &[u8]); 12] = [
        (&[0x01, 0, 0, 0, 9], &[0x01, 2, 0xFF, 0x01]),
        (&[0x02, 0, 0, 0, 8], &[0x02, 1, 0xFF]),
        (&READ, &ANSWER),
        (&[0x04, 0, 0, 0, 1], &[0x04, 2, 1, 2]),
        (&[0x05, 0, 1, 0xFF, 0], &[0x05, 0, 1, 0xFF, 0]),
        (&WRITE, &WRITE),
        (&[0x0F, 0, 1, 0, 3, 1, 5], &[0x0F, 0, 1, 0, 3]),
        (&[0x10, 0, 1, 0, 1, 2, 5, 6], &[0x10, 0, 1, 0, 1]),
        (&[0x11], &[0x11, 3, 9, 0xFF, 7]),
        (&[0x16, 0, 4, 0, 0xF2, 0, 0x25], &[0x16, 0, 4, 0, 0xF2, 0, 0x25]),
        (&[0x17, 0, 0, 0, 1, 0, 9, 0, 1, 2, 1, 2], &[0x17, 2, 7, 7]),
        (&[0x2B, 0x0E, 1, 0], &device_id),
    ];
    for (request, answer) in pairs {
        let mut talk = Talk::new();
        talk.ask(17, request).wait(ms(10)).expect_answer(&frame(17, answer), answer);
    }
}

#[test]
fn an_answer_of_an_unknown_function_ends_with_silence() {
    let mut talk = Talk::new();
    talk.ask(1, &[0x41, 7]).wait(ms(10)).overhear(&frame(1, &[0x41, 9, 8, 7]));
    let (outcome, after) = talk.silence();
    assert_eq!(outcome, Outcome::Answered { turnaround: ms(11) });
    assert_eq!(after, ms(4));
    assert_eq!(talk.client.answer(), [0x41, 9, 8, 7]);
    // Zeros after it leave its CRC right.
    talk.wait(ms(4)).ask(1, &[0x41, 7]).wait(ms(10)).overhear(&frame(1, &[0x41, 9, 8, 7])).overhear(&[0, 0]);
    assert!(matches!(talk.silence().0, Outcome::Answered { .. }));
    assert_eq!(talk.client.answer(), [0x41, 9, 8, 7]);
    talk.wait(ms(4)).ask(1, &[0x41, 7]).wait(ms(10)).overhear(&spoiled(1, &[0x41, 9, 8, 7]));
    assert_eq!(talk.silence(), (MALFORMED, TIMING.answer_slack));
}

#[test]
fn an_exception_ends_the_exchange() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).wait(ms(10));
    assert_eq!(talk.hear(&frame(1, &[0x83, 0x02])), Some(Outcome::Refused(ExceptionCode::ILLEGAL_DATA_ADDRESS)));
    assert_eq!(talk.usable_in(1, &READ), ms(4));
    assert!(talk.client.answer().is_empty());
}

#[test]
fn a_line_just_opened_waits_for_answers_somebody_else_asked_for() {
    let client = Client::new(ms(50), Framing::Rtu(TIMING));
    assert_eq!(client.usable_at(UnitId(1), &READ), ms(350));
    assert_eq!(client.silent_at(), ms(54));
}

#[test]
fn stray_bytes_before_an_answer_are_stepped_over() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).wait(ms(10)).overhear(&[0x00, 0xFF, 0x01, 0x01, 0x03]);
    talk.expect_answer(&frame(1, &ANSWER), &ANSWER);
    assert_eq!(talk.client.counts().noise_bytes, 5);
}

#[test]
fn the_echo_of_a_read_is_stripped_and_teaches_that_the_line_echoes() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).overhear(&frame(1, &READ)).wait(ms(10));
    talk.expect_answer(&frame(1, &ANSWER), &ANSWER);
    assert!(talk.client.echoes());
    assert_eq!(talk.client.counts().echoes, 1);
    assert_eq!(talk.client.counts().noise_bytes, 0);
    // The first copy of a write is now the echo.
    talk.wait(ms(4)).ask(1, &WRITE).overhear(&frame(1, &WRITE)).wait(ms(10)).expect_answer(&frame(1, &WRITE), &WRITE);
    // A dead unit's echo confirms nothing.
    talk.wait(ms(4)).ask(1, &WRITE).overhear(&frame(1, &WRITE));
    assert_eq!(talk.silence().0, TIMEOUT);
}

#[test]
fn a_line_not_known_to_echo_takes_the_first_confirmation_of_a_write() {
    let mut talk = Talk::new();
    talk.ask(1, &WRITE).wait(ms(10)).expect_answer(&frame(1, &WRITE), &WRITE);
    assert!(!talk.client.echoes());
}

#[test]
fn an_echo_is_forgotten_when_answers_come_without_it() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).overhear(&frame(1, &READ)).expect_answer(&frame(1, &ANSWER), &ANSWER);
    for _ in 0..3 {
        assert!(talk.client.echoes());
        talk.wait(ms(4)).ask(1, &READ).wait(ms(10)).expect_answer(&frame(1, &ANSWER), &ANSWER);
    }
    assert!(!talk.client.echoes());
    talk.wait(ms(4)).ask(1, &WRITE).wait(ms(10)).expect_answer(&frame(1, &WRITE), &WRITE);
}

#[test]
fn an_echo_that_reads_as_an_answer_is_no_answer() {
    // 17 coils from 0x0300: the request has the form of an answer of three bytes.
    let request = [0x01, 0x03, 0x00, 0x00, 0x11];
    let mut talk = Talk::new();
    talk.ask(1, &request).overhear(&frame(1, &request)).wait(ms(10));
    talk.expect_answer(&frame(1, &[0x01, 3, 1, 2, 1]), &[0x01, 3, 1, 2, 1]);
}

#[test]
fn a_spoiled_echo_of_a_write_is_not_the_answer_spoiled() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).overhear(&frame(1, &READ)).expect_answer(&frame(1, &ANSWER), &ANSWER);
    let write = [0x10, 0x00, 0x20, 0x00, 0x01, 0x02, 0x00, 0x07];
    talk.wait(ms(4)).ask(1, &write).overhear(&spoiled(1, &write)).wait(ms(10));
    assert_eq!(talk.client.handle_timeout(talk.now), None);
    talk.expect_answer(&frame(1, &write[..5]), &write[..5]);
}

#[test]
fn an_echo_that_begins_like_the_answer_does_not_spoil_it() {
    let write = [0x10, 0x00, 0x20, 0x00, 0x01, 0x02, 0x00, 0x07];
    let mut talk = Talk::new();
    talk.ask(1, &write).overhear(&frame(1, &write)).wait(ms(10));
    assert_eq!(talk.client.handle_timeout(talk.now), None);
    talk.expect_answer(&frame(1, &write[..5]), &write[..5]);
    assert_eq!(talk.client.counts().crc_errors, 0);
}

#[test]
fn a_foreign_frame_does_not_cost_the_exchange() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).overhear(&frame(9, &LONGER)).wait(ms(5)).overhear(&frame(9, &LONGER_ANSWER)).wait(ms(5));
    talk.expect_answer(&frame(1, &ANSWER), &ANSWER);
    let counts = talk.client.counts();
    assert_eq!((counts.foreign_requests, counts.late_answers, counts.noise_bytes), (1, 1, 0));
}

#[test]
fn the_answer_to_another_clients_request_of_the_same_shape_is_not_believed() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).wait(ms(5)).overhear(&frame(1, &[0x03, 0x00, 0x99, 0x00, 0x02])).wait(ms(5));
    talk.overhear(&frame(1, &STALE)).wait(ms(5)).overhear(&frame(1, &ANSWER));
    assert_eq!(talk.silence().0, WRONG_REPLY);
    assert!(talk.usable_in(1, &READ) > ms(200));
    assert_eq!(talk.usable_in(1, &LONGER), ms(0));
}

#[test]
fn another_clients_request_heard_while_idle_makes_its_answer_suspect() {
    let mut talk = Talk::new();
    talk.overhear(&frame(1, &[0x03, 0x00, 0x99, 0x00, 0x02]));
    assert_eq!(talk.usable_in(1, &READ), TIMING.late_reply);
    talk.wait(ms(20)).overhear(&frame(1, &STALE));
    assert_eq!(talk.usable_in(1, &READ), TIMING.answer_slack);
}

#[test]
fn frames_of_other_clients_are_known_by_their_own_length_and_crc() {
    let mut talk = Talk::new();
    let requests: [&[u8]; 8] = [
        &[0x01, 0, 0, 0, 9],
        &[0x05, 0, 1, 0xFF, 0],
        &[0x0F, 0, 1, 0, 3, 1, 5],
        &[0x10, 0, 1, 0, 1, 2, 5, 6],
        &[0x11],
        &[0x16, 0, 4, 0, 0xF2, 0, 0x25],
        &[0x17, 0, 0, 0, 1, 0, 9, 0, 1, 2, 1, 2],
        &[0x2B, 0x0E, 1, 0],
    ];
    for (request, heard) in requests.into_iter().zip(1..) {
        talk.wait(ms(5)).overhear(&frame(9, request));
        assert_eq!(talk.client.counts().foreign_requests, heard, "{request:02X?}");
        assert_eq!(talk.usable_in(9, request), TIMING.late_reply);
    }
    talk.wait(ms(5)).overhear(&frame(9, &[0x91, 0x01]));
    assert_eq!(talk.client.counts().late_answers, 1);
    assert_eq!(talk.client.counts().noise_bytes, 0);
}

#[test]
fn a_right_answer_of_another_unit_is_told_only_when_nothing_right_comes() {
    let mut talk = Talk::new();
    talk.ask(1, &READ)
        .wait(ms(10))
        .overhear(&frame(2, &ANSWER))
        .wait(ms(10))
        .expect_answer(&frame(1, &ANSWER), &ANSWER);
    talk.wait(ms(4)).ask(1, &READ).wait(ms(10)).overhear(&frame(2, &ANSWER));
    assert_eq!(talk.silence().0, WRONG_REPLY);
    assert_eq!(talk.usable_in(1, &READ), TIMING.late_reply);
}

#[test]
fn an_answer_of_another_length_is_told_only_when_nothing_right_comes() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).wait(ms(10)).overhear(&frame(1, &LONGER_ANSWER));
    assert_eq!(talk.silence().0, WRONG_LENGTH);
}

#[test]
fn silence_ends_the_exchange_after_the_patience_and_makes_only_its_signature_suspect() {
    let mut talk = Talk::new();
    talk.ask(1, &READ);
    assert_eq!(talk.silence(), (TIMEOUT, PATIENCE));
    assert_eq!(talk.usable_in(1, &READ), TIMING.late_reply);
    assert_eq!(talk.usable_in(1, &LONGER), ms(0));
    assert_eq!(talk.usable_in(2, &READ), ms(0));
    assert_eq!(
        talk.client.start(talk.now, UnitId(1), &READ, PATIENCE),
        Err(StartError::TooEarly { until: talk.now + TIMING.late_reply })
    );
    talk.wait(TIMING.late_reply).ask(1, &READ).wait(ms(10)).expect_answer(&frame(1, &ANSWER), &ANSWER);
}

#[test]
fn a_late_answer_heard_while_idle_settles_the_suspicion_once_no_second_copy_follows() {
    let mut talk = Talk::new();
    talk.ask(1, &READ);
    talk.silence();
    talk.wait(ms(50)).overhear(&frame(1, &STALE));
    assert_eq!(talk.usable_in(1, &READ), TIMING.answer_slack);
    assert_eq!(talk.client.counts().late_answers, 1);
    talk.wait(ms(20)).overhear(&frame(1, &STALE));
    assert_eq!(talk.client.counts().late_answers, 2);
    talk.wait(ms(10)).ask(1, &READ).wait(ms(10)).expect_answer(&frame(1, &ANSWER), &ANSWER);
}

#[test]
fn a_late_answer_heard_during_another_exchange_settles_the_suspicion_and_costs_nothing() {
    let mut talk = Talk::new();
    talk.ask(1, &READ);
    talk.silence();
    talk.ask(1, &LONGER).wait(ms(10)).overhear(&frame(1, &STALE)).wait(ms(10));
    talk.expect_answer(&frame(1, &LONGER_ANSWER), &LONGER_ANSWER);
    assert!(talk.usable_in(1, &READ) < TIMING.answer_slack);
}

#[test]
fn a_late_answer_cut_in_two_by_the_next_request_is_no_answer_to_it() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).wait(ms(10)).expect_answer(&frame(1, &ANSWER), &ANSWER);
    // The answer comes once more; the reader of the port pauses in the middle.
    let again = frame(1, &STALE);
    talk.wait(ms(5)).overhear(&again[..4]).wait(ms(10)).ask(1, &READ).overhear(&again[4..]).wait(ms(5));
    talk.expect_answer(&frame(1, &ANSWER), &ANSWER);
}

#[test]
fn an_exception_is_not_believed_while_a_late_answer_of_its_function_may_come() {
    let mut talk = Talk::new();
    talk.ask(1, &READ);
    talk.silence();
    talk.ask(1, &LONGER).wait(ms(10)).overhear(&frame(1, &[0x83, 0x02])).wait(ms(10));
    talk.expect_answer(&frame(1, &LONGER_ANSWER), &LONGER_ANSWER);
    assert!(talk.usable_in(1, &READ) > ms(100), "it may have been the exception to the second request");
}

#[test]
fn an_exception_heard_while_idle_settles_the_only_suspicion_of_its_function() {
    let mut talk = Talk::new();
    talk.ask(1, &READ);
    talk.silence();
    talk.wait(ms(10)).overhear(&frame(1, &[0x83, 0x06]));
    assert_eq!(talk.usable_in(1, &READ), TIMING.gap);
}

#[test]
fn a_whole_answer_with_a_wrong_crc_ends_the_exchange_with_the_silence_after_it() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).wait(ms(10)).overhear(&spoiled(1, &ANSWER));
    assert_eq!(talk.silence(), (MALFORMED, TIMING.gap));
    assert_eq!(talk.client.counts().crc_errors, 1);
    assert_eq!(talk.usable_in(1, &READ), ms(0), "the answer was heard; nothing is due");
}

#[test]
fn a_spoiled_answer_that_may_be_a_late_one_settles_nothing() {
    let mut talk = Talk::new();
    talk.ask(1, &LONGER);
    talk.silence();
    talk.ask(1, &READ).wait(ms(10)).overhear(&spoiled(1, &ANSWER));
    assert_eq!(talk.silence(), (MALFORMED, TIMING.gap));
    assert_eq!(talk.usable_in(1, &READ), TIMING.late_reply);
}

#[test]
fn an_answer_cut_short_ends_the_exchange_after_the_slack_and_is_suspect() {
    let mut talk = Talk::new();
    talk.ask(1, &READ).wait(ms(10)).overhear(&frame(1, &ANSWER)[..6]);
    assert_eq!(talk.silence(), (MALFORMED, TIMING.answer_slack));
    assert_eq!(talk.usable_in(1, &READ), TIMING.late_reply);
    assert_eq!(talk.usable_in(1, &LONGER), ms(0));
}

#[test]
fn a_long_answer_may_end_long_after_the_patience() {
    let request = [0x03, 0x00, 0x00, 0x00, 0x7D];
    let mut answer = vec![0x03, 250];
    answer.extend((0..250).map(|place| u8::try_from(place % 7).expect("below 7")));
    let mut talk = Talk::new();
    talk.ask(1, &request).wait(ms(98)).expect_answer(&frame(1, &answer), &answer);
}

#[test]
fn registers_that_hold_frames_do_not_end_the_answer() {
    let mut answer = vec![0x03, 22];
    answer.extend(frame(9, &LONGER));
    answer.extend(frame(9, &ANSWER));
    answer.extend(frame(1, &[0x83])[..2].iter());
    answer.extend([1, 0x84, 5]);
    assert_eq!(answer.len(), 24);
    let mut talk = Talk::new();
    talk.ask(1, &[0x03, 0, 0, 0, 11]).wait(ms(10)).expect_answer(&frame(1, &answer), &answer);
}

#[test]
fn what_comes_in_the_same_read_as_the_answer_is_heard_too() {
    let mut talk = Talk::new();
    talk.ask(1, &READ);
    let all = [&[0xFF][..], &frame(1, &READ), &frame(9, &WRITE), &frame(1, &ANSWER), &frame(1, &ANSWER)].concat();
    talk.wait(ms(40));
    assert!(matches!(talk.client.handle_bytes(talk.now, &all), Some(Outcome::Answered { .. })));
    assert_eq!(talk.client.answer(), ANSWER);
    assert_eq!(talk.client.counts().unasked_answers, 1);
}

#[test]
fn bytes_heard_while_idle_move_the_gap_and_noise_that_never_ends_does_not_stop_the_line() {
    let mut talk = Talk::new();
    talk.overhear(&[0x55; 10]);
    assert_eq!(talk.client.silent_at(), talk.now + TIMING.gap);
    // 512 characters and a late answer.
    talk.overhear(&[0x55; 800]).overhear(&[0x55; 11]);
    assert!(talk.client.silent_at() < talk.now);
    talk.ask(1, &READ).expect_answer(&frame(1, &ANSWER), &ANSWER);
    assert_eq!(talk.client.counts().babbled, 1);
}

#[test]
fn a_broadcast_waits_for_the_units_to_obey_and_only_writes_are_broadcast() {
    let mut talk = Talk::new();
    assert_eq!(talk.client.start(talk.now, UnitId(0), &READ, PATIENCE), Err(StartError::BroadcastRead { function: 3 }));
    talk.ask(0, &WRITE);
    assert_eq!(talk.silence(), (Outcome::Sent, PATIENCE));
    assert_eq!(talk.usable_in(1, &READ), ms(0));
}

#[test]
fn one_exchange_at_a_time() {
    let mut talk = Talk::new();
    talk.ask(1, &READ);
    assert_eq!(talk.client.start(talk.now, UnitId(2), &READ, PATIENCE), Err(StartError::Busy));
    talk.client.abandon(talk.now);
    assert_eq!(talk.usable_in(1, &READ), TIMING.late_reply);
    talk.wait(ms(4)).ask(2, &READ);
}

#[test]
fn what_is_no_request_is_not_sent() {
    let mut talk = Talk::new();
    let mut refused = |pdu: &[u8]| talk.client.start(talk.now, UnitId(1), pdu, PATIENCE).map(|_| ());
    assert_eq!(refused(&[]), Err(StartError::NotARequest { function: None }));
    assert_eq!(refused(&[0x03, 0, 0, 0, 126]), Err(StartError::NotARequest { function: Some(3) }));
}

//! Transcripts of exchanges on a TCP connection.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

use std::time::Duration;

use ganglion_drivers::client::{Client, Failure, Framing, Outcome, StartError};
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

const PATIENCE: Duration = ms(100);
const READ: [u8; 5] = [0x03, 0x00, 0x10, 0x00, 0x02];
const ANSWER: [u8; 6] = [0x03, 0x04, 0x11, 0x22, 0x33, 0x44];

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn frame(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).expect("a PDU is short");
    let mut frame = [transaction.to_be_bytes(), [0, 0], length.to_be_bytes()].concat();
    frame.push(unit);
    frame.extend_from_slice(pdu);
    frame
}

fn check(unit: u8, pdu: &[u8]) -> [u8; 2] {
    crc(&[&[unit], pdu].concat()).to_le_bytes()
}

/// A client that has sent a request to unit 1, and the request's transaction.
fn asked(request: &[u8]) -> (Client, u16) {
    let mut client = Client::new(ms(0), Framing::Tcp);
    let transaction = ask(&mut client, request);
    (client, transaction)
}

fn ask(client: &mut Client, request: &[u8]) -> u16 {
    let sent = client.start(ms(0), UnitId(1), request, PATIENCE).expect("no exchange is in progress");
    let transaction = u16::from_be_bytes([sent[0], sent[1]]);
    assert_eq!(sent, frame(transaction, 1, request));
    transaction
}

fn answered(client: &mut Client, bytes: &[u8]) {
    let outcome = client.handle_bytes(ms(7), bytes);
    assert_eq!(outcome, Some(Outcome::Answered { turnaround: ms(7) }));
    assert_eq!(client.answer(), ANSWER);
}

#[test]
fn an_answer_with_its_transaction_is_taken_in_any_lumps() {
    let (mut client, transaction) = asked(&READ);
    let answer = frame(transaction, 1, &ANSWER);
    for byte in &answer[..12] {
        assert_eq!(client.handle_bytes(ms(5), &[*byte]), None);
    }
    answered(&mut client, &answer[12..]);
    let next = ask(&mut client, &READ);
    assert_eq!(next, transaction + 1);
    answered(&mut client, &frame(next, 1, &ANSWER));
}

#[test]
fn an_exception_ends_the_exchange() {
    let (mut client, transaction) = asked(&READ);
    let outcome = client.handle_bytes(ms(5), &frame(transaction, 1, &[0x83, 0x0B]));
    assert_eq!(outcome, Some(Outcome::Refused(ExceptionCode::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND)));
}

#[test]
fn a_late_answer_is_known_by_its_transaction() {
    let (mut client, late) = asked(&READ);
    assert_eq!(client.poll_timeout(), Some(PATIENCE));
    assert_eq!(client.handle_timeout(PATIENCE), Some(Outcome::Failed(Failure::Timeout)));
    assert_eq!(client.usable_at(UnitId(1), &READ), ms(0));
    let transaction = ask(&mut client, &READ);
    let stale = frame(late, 1, &[0x03, 0x04, 9, 9, 9, 9]);
    answered(&mut client, &[stale, frame(transaction, 1, &ANSWER)].concat());
    assert_eq!(client.counts().late_answers, 1);
}

#[test]
fn unit_function_and_length_are_checked() {
    for (unit, pdu, failure) in [
        (2, &ANSWER[..], Failure::WrongReply),
        (1, &[0x04, 0x04, 1, 2, 3, 4], Failure::WrongReply),
        (1, &[0x03, 0x02, 1, 2], Failure::WrongLength),
        (1, &[0x03, 0x04, 1, 2, 3], Failure::WrongLength),
        (1, &[0x03, 0x04, 1, 2, 3, 4, 5, 6], Failure::WrongLength),
    ] {
        let (mut client, transaction) = asked(&READ);
        assert_eq!(client.handle_bytes(ms(5), &frame(transaction, unit, pdu)), Some(Outcome::Failed(failure)));
        assert!(!client.desynchronised());
    }
    let (mut client, transaction) = asked(&[0x06, 0, 1, 0, 2]);
    let other = frame(transaction, 1, &[0x06, 0, 1, 0, 3]);
    assert_eq!(client.handle_bytes(ms(5), &other), Some(Outcome::Failed(Failure::WrongReply)));
}

#[test]
fn a_header_that_cannot_be_loses_the_place_in_the_stream() {
    for header in [[0, 9, 0, 1, 0, 3], [0, 9, 1, 0, 0, 3], [0, 9, 0, 0, 0, 1], [0, 9, 0, 0, 1, 1]] {
        let (mut client, _) = asked(&READ);
        assert_eq!(client.handle_bytes(ms(5), &header), Some(Outcome::Failed(Failure::Malformed)));
        assert!(client.desynchronised());
        assert_eq!(client.start(ms(6), UnitId(1), &READ, PATIENCE), Err(StartError::Desynchronised));
    }
}

#[test]
fn a_frame_cut_short_is_malformed_and_its_rest_is_skipped_later() {
    let (mut client, transaction) = asked(&READ);
    let answer = frame(transaction, 1, &ANSWER);
    assert_eq!(client.handle_bytes(ms(5), &answer[..9]), None);
    assert_eq!(client.handle_timeout(PATIENCE), Some(Outcome::Failed(Failure::Malformed)));
    let next = ask(&mut client, &READ);
    assert_eq!(client.handle_bytes(ms(5), &answer[9..]), None);
    answered(&mut client, &frame(next, 1, &ANSWER));
}

#[test]
fn a_serial_crc_counted_in_the_length_is_taken_off() {
    let (mut client, transaction) = asked(&READ);
    answered(&mut client, &frame(transaction, 1, &[&ANSWER[..], &check(1, &ANSWER)].concat()));
    let transaction = ask(&mut client, &READ);
    let refused = [&[0x83, 0x02][..], &check(1, &[0x83, 0x02])].concat();
    let outcome = client.handle_bytes(ms(5), &frame(transaction, 1, &refused));
    assert_eq!(outcome, Some(Outcome::Refused(ExceptionCode::ILLEGAL_DATA_ADDRESS)));
}

#[test]
fn a_serial_crc_behind_the_frame_is_stepped_over_whenever_it_comes() {
    let (mut client, transaction) = asked(&READ);
    let tail = check(1, &ANSWER);
    answered(&mut client, &[&frame(transaction, 1, &ANSWER)[..], &tail].concat());
    let transaction = ask(&mut client, &READ);
    answered(&mut client, &frame(transaction, 1, &ANSWER));
    let transaction = ask(&mut client, &READ);
    assert_eq!(client.handle_bytes(ms(5), &tail[..1]), None);
    assert_eq!(client.handle_bytes(ms(5), &tail[1..]), None);
    answered(&mut client, &frame(transaction, 1, &ANSWER));
    assert!(!client.desynchronised());
}

#[test]
fn two_stray_bytes_between_a_frame_and_the_answer_are_stepped_over() {
    let (mut client, transaction) = asked(&READ);
    answered(&mut client, &frame(transaction, 1, &ANSWER));
    let transaction = ask(&mut client, &READ);
    answered(&mut client, &[&[0xAB, 0xCD][..], &frame(transaction, 1, &ANSWER)].concat());
    assert!(!client.desynchronised());
    // Without the answer behind them they are no reason to go on.
    ask(&mut client, &READ);
    assert_eq!(client.handle_bytes(ms(5), &[0xAB, 0xCD, 0xEF]), None);
    assert_eq!(client.handle_timeout(PATIENCE), Some(Outcome::Failed(Failure::Malformed)));
    assert!(client.desynchronised());
}

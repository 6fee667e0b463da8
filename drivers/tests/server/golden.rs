//! The examples of Application Protocol V1.1b3 §6, and published frames of other stacks.

use ganglion_protocols::modbus::UnitId;
use ganglion_protocols::modbus::pdu::{Request, Response};
use ganglion_protocols::modbus::rtu::Frame;
use serde_json::Value;

use super::device::{Talk, frame};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("the vectors are JSON")
}

fn bits(text: &str) -> Vec<bool> {
    text.bytes().map(|bit| bit == b'1').collect()
}

/// A device that holds what the examples read.
fn example() -> Talk {
    let mut talk = Talk::new();
    let device = &mut talk.device;
    device.special = false;
    // §6.1: outputs 20 to 38; §6.2: inputs 197 to 218. The numbers count from 1.
    device.coils[19..38].copy_from_slice(&bits("1011001111010110101"));
    device.inputs[196..218].copy_from_slice(&bits("0011010111011011101011"));
    device.holding[107..110].copy_from_slice(&[0x022B, 0, 0x0064]);
    device.input[8] = 10;
    device.holding[3..9].copy_from_slice(&[0x00FE, 0x0ACD, 1, 3, 0x000D, 0x00FF]);
    talk
}

#[test]
fn the_examples_of_the_standard_are_answered_as_printed() {
    // §6.1 to §6.6, §6.11, §6.12, §6.16, §6.17. The inputs of §6.2 end with 35 hex, of which the padding is 0.
    for (request, answer) in [
        ("0100130013", "0103CD6B05"),
        ("0200C40016", "0203ACDB35"),
        ("03006B0003", "0306022B00000064"),
        ("0400080001", "0402000A"),
        ("0500ACFF00", "0500ACFF00"),
        ("0600010003", "0600010003"),
        ("080000A537", "080000A537"),
        ("0F0013000A02CD01", "0F0013000A"),
        ("100001000204000A0102", "1000010002"),
        ("16000400F20025", "16000400F20025"),
    ] {
        let mut talk = example();
        assert_eq!(talk.ask(&bytes(request)), bytes(answer), "{request}");
    }
    let mut talk = example();
    // §6.17 writes three registers from 14 and reads six from 3.
    assert_eq!(talk.ask(&bytes("1700030006000E00030600FF00FF00FF")), bytes("170C00FE0ACD00010003000D00FF"));
    assert_eq!(talk.device.holding[14..17], [0xFF; 3]);
}

#[test]
fn the_file_of_the_example_is_written_and_read() {
    let mut talk = Talk::new();
    // §6.15 writes file 4; this device has files 1 and 2, so the place is another.
    let write = bytes("150D0600020007000306AF04BE100D");
    assert_eq!(talk.ask(&write), write);
    assert_eq!(talk.ask(&bytes("140706000200070003")), bytes("1408070606AF04BE100D"));
}

#[test]
fn published_requests_are_answered_and_published_answers_are_not_done() {
    let texts = [
        include_str!("../../../protocols/tests/vectors/modbus_rtu.json"),
        include_str!("../../../protocols/tests/vectors/modbus_pdu.json"),
    ];
    let mut answered = 0;
    for vector in texts.into_iter().flat_map(vectors) {
        let published = bytes(vector["hex"].as_str().expect("hex"));
        let frame = if vector["protocol"] == "modbus_pdu" { frame(1, &published) } else { published };
        let mut talk = example();
        let parsed = Frame::parse(&frame);
        talk.server.set_unit(parsed.map_or(UnitId(1), |frame| frame.unit));
        let before = talk.device.clone();
        let answer = talk.frame(&frame);
        if vector["invalid"] == true {
            assert!(answer.is_none() || talk.device == before, "{vector}");
            continue;
        }
        let Ok(Frame { unit, pdu }) = parsed else { panic!("{vector}") };
        if unit.0 == 0 || pdu[0] >= 0x80 {
            assert_eq!(answer, None, "{vector}");
            continue;
        }
        let answer = answer.unwrap_or_else(|| panic!("no answer to {vector}"));
        let response = Response::parse(Frame::parse(&answer).expect("a frame").pdu).expect("an answer");
        assert_eq!(response.function(), pdu[0]);
        if vector["decoded"]["direction"] == "response" && Request::parse(pdu).is_err() {
            assert!(matches!(response, Response::Exception { .. }) && talk.device == before, "{vector}");
        }
        answered += 1;
    }
    assert!(answered > 150, "{answered}");
}

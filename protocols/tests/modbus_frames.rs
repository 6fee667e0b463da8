//! Modbus frames from outside: RTU, TCP and ASCII.

use ganglion_protocols::bytes::Full;
use ganglion_protocols::modbus::pdu::MAX_PDU;
use ganglion_protocols::modbus::{UnitId, ascii, rtu, tcp};
use proptest::prelude::*;

const PDU: [u8; 5] = [0x03, 0x00, 0x6B, 0x00, 0x03];

#[test]
fn an_rtu_frame_is_read_and_written() {
    let frame = [0x01, 0x03, 0x00, 0x00, 0x00, 0x02, 0xC4, 0x0B];
    let parsed = rtu::Frame { unit: UnitId(1), pdu: &frame[1..6] };
    assert_eq!(rtu::Frame::parse(&frame), Ok(parsed));
    let mut out = [0xA5; 16];
    assert_eq!(rtu::Frame::emit(parsed.unit, parsed.pdu, &mut out), Ok(8));
    assert_eq!((&out[..8], &out[8..]), (&frame[..], &[0xA5; 8][..]));
}

#[test]
fn an_rtu_frame_of_a_wrong_length_or_crc_is_refused() {
    assert_eq!(rtu::Frame::parse(&[]), Err(rtu::FrameError::TooShort { got: 0 }));
    // The residue of a right frame's unit alone must not pass for a frame without function code.
    assert_eq!(rtu::Frame::parse(&[0x01, 0x7E, 0x80]), Err(rtu::FrameError::TooShort { got: 3 }));
    assert_eq!(rtu::Frame::parse(&[0; 257]), Err(rtu::FrameError::TooLong { got: 257 }));
    let wrong = [0x01, 0x03, 0x00, 0x00, 0x00, 0x02, 0xC4, 0x0C];
    let error = rtu::FrameError::Crc { got: 0x0CC4, computed: 0x0BC4 };
    assert_eq!(rtu::Frame::parse(&wrong), Err(error));
    assert_eq!(error.to_string(), "crc 0CC4, computed 0BC4");
}

#[test]
fn a_tcp_frame_is_read_from_the_front_of_a_stream() {
    let stream = [0x0C, 0x05, 0, 0, 0, 6, 17, 3, 0, 0x7C, 0, 2, 0xFF];
    let frame = tcp::Frame { transaction: 3077, unit: UnitId(17), pdu: &stream[7..12] };
    assert_eq!(tcp::Frame::take(&stream), Ok((frame, &[0xFF][..])));
    assert_eq!(tcp::Frame::parse(&stream[..12]), Ok(frame));
    assert_eq!(tcp::Frame::parse(&stream), Err(tcp::FrameError::TrailingBytes { expected: 12, got: 13 }));
    for len in 0..12 {
        let needed = if len < 6 { 8 } else { 12 } - len;
        assert_eq!(tcp::Frame::take(&stream[..len]), Err(tcp::FrameError::Incomplete { needed }), "{len} bytes");
    }
    let mut out = [0xA5; 16];
    assert_eq!(tcp::Frame::emit(frame.transaction, frame.unit, frame.pdu, &mut out), Ok(12));
    assert_eq!((&out[..12], &out[12..]), (&stream[..12], &[0xA5; 4][..]));
}

#[test]
fn a_tcp_header_is_refused_as_soon_as_it_is_wrong() {
    assert_eq!(tcp::Frame::take(&[0, 1, 0x33, 0x12]), Err(tcp::FrameError::ProtocolId { got: 0x3312 }));
    for length in [0, 1, 255, 0xFFFF] {
        let [high, low] = u16::to_be_bytes(length);
        let error = tcp::FrameError::Length { got: length };
        assert_eq!(tcp::Frame::take(&[0, 1, 0, 0, high, low]), Err(error));
    }
}

#[test]
fn an_ascii_frame_is_read_and_written() {
    let text = b":1103006B00037E\r\n";
    let mut buffer = [0; ascii::MAX_BYTES];
    let frame = ascii::Frame::parse(text, &mut buffer).expect("a frame");
    assert_eq!((frame.unit, frame.pdu), (UnitId(17), &PDU[..]));
    let mut out = [0xA5; 20];
    assert_eq!(ascii::Frame::emit(UnitId(17), &PDU, &mut out), Ok(17));
    assert_eq!((&out[..17], &out[17..]), (&text[..], &[0xA5; 3][..]));
}

#[test]
fn an_ascii_frame_that_is_wrong_is_refused_and_one_that_goes_on_is_waited_for() {
    use ascii::FrameError::{Digit, End, Incomplete, Lrc, OddDigits, Start, TooLong, TooShort, TrailingBytes};
    for (text, expected) in [
        (&b""[..], Incomplete { needed: 9 }),
        (b":11", Incomplete { needed: 6 }),
        (b":1103006B00037E\r", Incomplete { needed: 1 }),
        (b"1103006B00037E\r\n", Start { got: b'1' }),
        (b":1103006B00037E\n", End { at: 15 }),
        (b":1103006B00037F\r\n", Lrc { got: 0x7F, computed: 0x7E }),
        (b":1103006b00037E\r\n", Digit { at: 8, got: b'b' }),
        (b":1103:06B00037E\r\n", Digit { at: 5, got: b':' }),
        (b":1103006B00037\r\n", OddDigits { got: 13 }),
        (b":11EF\r\n", TooShort { got: 7 }),
        (b":1103006B00037E\r\n:", TrailingBytes { expected: 17, got: 18 }),
        (&[b':'; 513], TooLong { got: 513 }),
    ] {
        let mut buffer = [0; ascii::MAX_BYTES];
        let shown = String::from_utf8_lossy(text);
        assert_eq!(ascii::Frame::parse(text, &mut buffer), Err(expected), "{shown:?}");
    }
    let long: Vec<u8> = [b':'].into_iter().chain([b'0'; 512]).chain(*b"\r\n").collect();
    assert_eq!(ascii::Frame::parse(&long, &mut [0; ascii::MAX_BYTES]), Err(TooLong { got: 515 }));
}

#[test]
fn a_frame_holds_a_pdu_of_one_to_253_bytes() {
    let mut out = [0; 600];
    for (len, fits) in [(0, false), (1, true), (MAX_PDU, true), (MAX_PDU + 1, false)] {
        let pdu = vec![0x41; len];
        let expected = |all: usize| if fits { Ok(all) } else { Err(Full) };
        assert_eq!(rtu::Frame::emit(UnitId(1), &pdu, &mut out), expected(len + 3));
        assert_eq!(tcp::Frame::emit(1, UnitId(1), &pdu, &mut out), expected(len + 7));
        assert_eq!(ascii::Frame::emit(UnitId(1), &pdu, &mut out), expected(2 * len + 7));
    }
}

proptest! {
    #[test]
    fn what_is_framed_is_unframed(unit in any::<u8>(), transaction in any::<u16>(), pdu in prop::collection::vec(any::<u8>(), 1..=MAX_PDU)) {
        let unit = UnitId(unit);
        let mut out = [0xA5; ascii::MAX_FRAME];
        let len = rtu::Frame::emit(unit, &pdu, &mut out).expect("it fits");
        prop_assert!(len <= rtu::MAX_FRAME);
        prop_assert_eq!(rtu::Frame::parse(&out[..len]), Ok(rtu::Frame { unit, pdu: &pdu }));
        prop_assert_eq!(rtu::Frame::emit(unit, &pdu, &mut out[..len - 1]), Err(Full));

        let len = tcp::Frame::emit(transaction, unit, &pdu, &mut out).expect("it fits");
        prop_assert!(len <= tcp::MAX_FRAME);
        prop_assert_eq!(tcp::Frame::parse(&out[..len]), Ok(tcp::Frame { transaction, unit, pdu: &pdu }));
        prop_assert_eq!(tcp::Frame::emit(transaction, unit, &pdu, &mut out[..len - 1]), Err(Full));

        let len = ascii::Frame::emit(unit, &pdu, &mut out).expect("it fits");
        let mut buffer = [0; ascii::MAX_BYTES];
        prop_assert!(len <= ascii::MAX_FRAME);
        prop_assert_eq!(ascii::Frame::parse(&out[..len], &mut buffer), Ok(ascii::Frame { unit, pdu: &pdu }));
        prop_assert_eq!(ascii::Frame::emit(unit, &pdu, &mut out[..len - 1]), Err(Full));
    }

    #[test]
    fn one_flipped_bit_never_passes_the_crc(pdu in prop::collection::vec(any::<u8>(), 1..=MAX_PDU), bit in any::<prop::sample::Index>()) {
        let mut out = [0; rtu::MAX_FRAME];
        let len = rtu::Frame::emit(UnitId(1), &pdu, &mut out).expect("it fits");
        let bit = bit.index(len * 8);
        out[bit / 8] ^= 1 << (bit % 8);
        let is_crc = matches!(rtu::Frame::parse(&out[..len]), Err(rtu::FrameError::Crc { .. }));
        prop_assert!(is_crc);
    }
}

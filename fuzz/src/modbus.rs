//! Modbus PDUs, frames and values.

use ganglion_protocols::Value;
use ganglion_protocols::modbus::pdu::{MAX_PDU, Request, Response};
use ganglion_protocols::modbus::{BitField, UnitId, ValueType, WordOrder, ascii, rtu as rtu_frame, tcp as tcp_frame};

/// Longer than every PDU and frame; what is not written must stay as it is.
const BUFFER: usize = 600;
const UNTOUCHED: u8 = 0xA5;

/// A request that is read is written as the same bytes.
pub(crate) fn request(pdu: &[u8]) {
    match Request::parse(pdu) {
        Ok(request) => {
            assert_eq!(request.function(), pdu[0]);
            if let Request::ReadFileRecord(groups) = request {
                assert_eq!(groups.iter().count() * 7, groups.as_bytes().len());
            }
            if let Request::WriteFileRecord(groups) = request {
                assert_eq!(
                    groups.iter().map(|group| group.words.len() * 2 + 7).sum::<usize>(),
                    groups.as_bytes().len()
                );
            }
            if let Request::WriteCoils { bits, .. } = request {
                assert_eq!(bits.iter().count(), bits.len());
                assert!(bits.iter().enumerate().all(|(place, on)| bits.get(place) == Some(on)));
            }
            written(pdu, |out| request.emit(out).expect("what was read can be written"));
        }
        Err(error) => assert!(error.at <= pdu.len() && !error.to_string().is_empty()),
    }
}

/// A response that is read is written as the same bytes.
pub(crate) fn response(pdu: &[u8]) {
    match Response::parse(pdu) {
        Ok(response) => {
            assert_eq!(response.function(), pdu[0] & 0x7F);
            match response {
                Response::ReadFileRecord(groups) => {
                    assert_eq!(groups.iter().map(|words| words.len() * 2 + 2).sum::<usize>(), groups.as_bytes().len());
                }
                Response::ReadDeviceId(names) => {
                    let len: usize = names.objects.iter().map(|object| object.value.len() + 2).sum();
                    assert_eq!(len + 1, names.objects.as_bytes().len());
                }
                Response::ReadRegisters { words, .. } => {
                    assert!(words.iter().enumerate().all(|(place, word)| words.get(place) == Some(word)));
                }
                _ => {}
            }
            written(pdu, |out| response.emit(out).expect("what was read can be written"));
        }
        Err(error) => assert!(error.at <= pdu.len() && !error.to_string().is_empty()),
    }
}

/// A frame that is read is written as the same bytes; whatever is framed is unframed.
pub(crate) fn rtu(bytes: &[u8]) {
    match rtu_frame::Frame::parse(bytes) {
        Ok(frame) => {
            written(bytes, |out| rtu_frame::Frame::emit(frame.unit, frame.pdu, out).expect("it was a frame"));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some((unit, pdu)) = body(bytes) {
        let mut out = [UNTOUCHED; BUFFER];
        let len = rtu_frame::Frame::emit(unit, pdu, &mut out).expect("a PDU of a right length");
        assert_eq!(rtu_frame::Frame::parse(&out[..len]), Ok(rtu_frame::Frame { unit, pdu }));
    }
}

/// Every frame of a stream is written as the same bytes, and "wait for more" says a count that is really needed.
pub(crate) fn tcp(bytes: &[u8]) {
    let mut stream = bytes;
    loop {
        match tcp_frame::Frame::take(stream) {
            Ok((frame, rest)) => {
                let taken = &stream[..stream.len() - rest.len()];
                assert!((8..=tcp_frame::MAX_FRAME).contains(&taken.len()));
                assert_eq!(tcp_frame::Frame::parse(taken), Ok(frame));
                written(taken, |out| {
                    tcp_frame::Frame::emit(frame.transaction, frame.unit, frame.pdu, out).expect("it was a frame")
                });
                stream = rest;
            }
            Err(tcp_frame::FrameError::Incomplete { needed }) => {
                assert!(needed >= 1 && stream.len() + needed <= tcp_frame::MAX_FRAME);
                let mut more = stream.to_vec();
                more.resize(stream.len() + needed - 1, 0);
                assert!(tcp_frame::Frame::take(&more).is_err(), "fewer bytes than needed were enough");
                return;
            }
            Err(error) => {
                let mut more = stream.to_vec();
                more.push(0);
                assert_eq!(tcp_frame::Frame::take(&more), Err(error), "what is no frame does not become one");
                return;
            }
        }
    }
}

/// A frame that is read is written as the same text; whatever is framed is unframed.
pub(crate) fn ascii(text: &[u8]) {
    let mut buffer = [UNTOUCHED; ascii::MAX_BYTES];
    match ascii::Frame::parse(text, &mut buffer) {
        Ok(frame) => written(text, |out| ascii::Frame::emit(frame.unit, frame.pdu, out).expect("it was a frame")),
        Err(ascii::FrameError::Incomplete { needed }) => assert!(needed >= 1),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Some((unit, pdu)) = body(text) {
        let mut out = [UNTOUCHED; BUFFER];
        let len = ascii::Frame::emit(unit, pdu, &mut out).expect("a PDU of a right length");
        assert_eq!(ascii::Frame::parse(&out[..len], &mut buffer), Ok(ascii::Frame { unit, pdu }));
    }
}

/// Registers of any type are a finite value or refused; the first two bytes choose type and order.
pub(crate) fn values(bytes: &[u8]) {
    use ValueType::{Bcd16, Bcd32, Bcd64, Bits, Bool, F32, F64, I16, I32, I64, U16, U32, U64};
    let [chosen, other, registers @ ..] = bytes else { return };
    let types = [Bool, U16, I16, U32, I32, U64, I64, F32, F64, Bcd16, Bcd32, Bcd64];
    let of = match types.get(usize::from(chosen % 16)) {
        Some(of) => *of,
        None => match BitField::new(other >> 4, (other & 0xF) + 1) {
            Some(field) => Bits(field),
            None => return,
        },
    };
    let order = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba][usize::from(chosen >> 6)];
    let registers: Vec<u16> = registers.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let right_length = registers.len() == usize::from(of.registers());
    assert_eq!(of.bits(&registers, order).is_ok(), right_length);
    match of.decode(&registers, order) {
        Ok(raw) => {
            assert!(right_length);
            match raw.value {
                Value::Single(value) => assert!(value.is_finite()),
                Value::Double(value) => assert!(value.is_finite()),
                Value::Bool(_) | Value::Int(_) | Value::Uint(_) => {}
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Checks that what is written is `expected` and nothing behind it.
fn written(expected: &[u8], emit: impl FnOnce(&mut [u8]) -> usize) {
    let mut out = [UNTOUCHED; BUFFER];
    let len = emit(&mut out);
    assert_eq!(&out[..len], expected);
    assert!(out[len..].iter().all(|byte| *byte == UNTOUCHED));
}

/// Takes any bytes as unit and PDU.
fn body(bytes: &[u8]) -> Option<(UnitId, &[u8])> {
    let (unit, pdu) = bytes.split_first()?;
    (1..=MAX_PDU).contains(&pdu.len()).then_some((UnitId(*unit), pdu))
}

macro_rules! vectors {
    ($name:literal) => {
        include_str!(concat!("../../protocols/tests/vectors/modbus_", $name, ".json"))
    };
}

pub(crate) fn rtu_frames() -> Vec<Vec<u8>> {
    frames(vectors!("rtu"))
}

pub(crate) fn tcp_frames() -> Vec<Vec<u8>> {
    let mut frames = frames(vectors!("tcp"));
    frames.push(frames.concat());
    frames
}

pub(crate) fn ascii_frames() -> Vec<Vec<u8>> {
    frames(vectors!("ascii"))
}

/// The PDUs of the standard and those inside published frames.
pub(crate) fn pdus() -> Vec<Vec<u8>> {
    let mut pdus = frames(vectors!("pdu"));
    let inside = |frame: Vec<u8>| frame.get(1..frame.len().saturating_sub(2)).map(<[u8]>::to_vec);
    pdus.extend(frames(vectors!("rtu")).into_iter().filter_map(inside).filter(|pdu| !pdu.is_empty()));
    // What no vector has, and the longest of each kind.
    for golden in [
        "140E0600040001000206000300090002",
        "140C05060DFE0020050633CD0040",
        "170C00FE0ACD00010003000D00FF",
        "2B0E0100",
        "2B0E018300000300034142430100020456322E31",
        "11032AFF01",
        "076D",
        "0B",
    ] {
        pdus.push(bytes(golden));
    }
    pdus.push([&[0x03, 250][..], &[0x5A; 250]].concat());
    pdus.push([&[0x0F, 0, 0, 0x07, 0xB0, 246][..], &[0x5A; 246]].concat());
    pdus.push([&[0x17, 0, 0, 0, 125, 0, 0, 0, 121, 242][..], &[0x5A; 242]].concat());
    pdus
}

/// A byte for the type and the order, one for a bit field, registers.
pub(crate) fn registers() -> Vec<Vec<u8>> {
    let values = frames(vectors!("values"));
    (0..=255)
        .step_by(5)
        .flat_map(|chosen| values.iter().map(move |value| [&[chosen, 0x43][..], value].concat()))
        .collect()
}

/// Takes the bytes out of a file of vectors.
fn frames(vectors: &str) -> Vec<Vec<u8>> {
    let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).expect("the vectors are JSON");
    let frame = |vector: &serde_json::Value| match (vector["hex"].as_str(), vector["ascii"].as_str()) {
        (Some(hex), _) => Some(bytes(hex)),
        (None, Some(text)) => Some(text.as_bytes().to_vec()),
        (None, None) => None,
    };
    vectors.iter().filter_map(frame).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
}

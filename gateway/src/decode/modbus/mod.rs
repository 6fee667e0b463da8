//! Modbus RTU, TCP and ASCII frames, bare PDUs, and values in registers.
//!
//! A frame alone does not always tell a request from an answer. Whatever the bytes can be is said: a function whose answer
//! repeats the request is a "request or echo"; bytes that are a whole request and a whole answer have two `readings`.

mod content;
mod registers;

use ganglion_protocols::modbus::pdu::{Defect, PduError, Request, Response, function};
use ganglion_protocols::modbus::{ascii, rtu, tcp};

use super::{Decoded, Decoder, Fault, Fields, Form, Hints, Node};
pub(super) use registers::{refuse, values};

/// Makes the row of one form of Modbus.
pub(super) const fn decoder(name: &'static str, form: Form, decode: fn(&[u8], &Hints) -> Decoded) -> Decoder {
    Decoder {
        name,
        form,
        decode,
        descriptive: &["name", "note"],
        synonyms: &[
            ("exception_status", "status"),
            ("output_data", "status"),
            ("outputs", "status"),
            ("coils", "bits"),
            ("inputs", "bits"),
            ("values", "registers"),
            ("registers", "data"),
            ("quantity", "length"),
            ("count", "length"),
            ("record_length", "length"),
            ("address", "fifo_pointer"),
            ("server_id", "data"),
            ("read_code", "read_device_id_code"),
            ("conformity", "conformity_level"),
            ("next_object", "next_object_id"),
            ("object_count", "number_of_objects"),
        ],
        padded: &["bits"],
    }
}

/// Bytes before the PDU of a TCP frame.
const TCP_HEADER: usize = tcp::HEADER;

/// Decodes an RTU frame.
pub(super) fn rtu(frame: &[u8], hints: &Hints) -> Decoded {
    let mut fields = Fields::default();
    if let Some(unit) = frame.first() {
        fields.put("unit", *unit);
        if *unit == 0 {
            fields.put("broadcast", true);
        }
    }
    let parsed = rtu::Frame::parse(frame);
    let body = match parsed {
        Err(rtu::FrameError::TooShort { .. } | rtu::FrameError::TooLong { .. }) => {
            put_function(frame.get(1), &mut fields);
            None
        }
        // With a wrong CRC the content is still worth a look.
        Err(rtu::FrameError::Crc { .. }) | Ok(_) => frame.get(1..frame.len().saturating_sub(2)),
    };
    let inner = body.and_then(|pdu| content(pdu, 1, 1, hints, &mut fields));
    if let (Some(_), Some((_, check))) = (body, frame.split_last_chunk::<2>()) {
        fields.put("crc", format!("{:04X}", u16::from_le_bytes(*check)));
    }
    let outer = parsed.err().map(|error| {
        let (at, hint) = match error {
            rtu::FrameError::TooShort { got } => (got, String::new()),
            rtu::FrameError::TooLong { .. } => (rtu::MAX_FRAME, String::new()),
            rtu::FrameError::Crc { computed, .. } => {
                let [low, high] = computed.to_le_bytes();
                (frame.len().saturating_sub(2), format!("; {low:02X} {high:02X} would be right"))
            }
        };
        Fault { at, why: format!("{error}{hint}") }
    });
    Decoded { fields, fault: outer.or(inner) }
}

/// Decodes a TCP frame.
pub(super) fn tcp(frame: &[u8], hints: &Hints) -> Decoded {
    let mut fields = Fields::default();
    let word =
        |at: usize| frame.get(at..at + 2).map(|pair| pair.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    for (name, at) in [("transaction", 0), ("protocol_id", 2), ("length", 4)] {
        if let Some(word) = word(at) {
            fields.put(name, word);
        }
    }
    if let Some(unit) = frame.get(6) {
        fields.put("unit", *unit);
    }
    match tcp::Frame::parse(frame) {
        Ok(parsed) => {
            let fault = content(parsed.pdu, TCP_HEADER, 1, hints, &mut fields);
            Decoded { fields, fault }
        }
        Err(error) => {
            put_function(frame.get(TCP_HEADER), &mut fields);
            let rest = frame.len().saturating_sub(6);
            let (at, hint) = match error {
                tcp::FrameError::Incomplete { .. } if frame.len() < TCP_HEADER => (frame.len(), String::new()),
                tcp::FrameError::Incomplete { .. } => (4, format!("; the length would be right as {rest}")),
                tcp::FrameError::ProtocolId { .. } => (2, String::new()),
                tcp::FrameError::Length { .. } => (4, format!("; {rest} bytes follow it")),
                tcp::FrameError::TrailingBytes { .. } => (4, format!("; the length would be right as {rest}")),
            };
            Decoded { fields, fault: Some(Fault { at, why: format!("{error}{hint}") }) }
        }
    }
}

/// Decodes an ASCII frame.
pub(super) fn ascii(text: &[u8], hints: &Hints) -> Decoded {
    let mut fields = Fields::default();
    let mut buffer = [0; ascii::MAX_BYTES];
    match ascii::Frame::parse(text, &mut buffer) {
        Ok(frame) => {
            fields.put("unit", frame.unit.0);
            if frame.unit.0 == 0 {
                fields.put("broadcast", true);
            }
            let fault = content(frame.pdu, 3, 2, hints, &mut fields);
            let check = ascii::lrc(&[frame.unit.0]).wrapping_add(ascii::lrc(frame.pdu));
            fields.put("lrc", format!("{check:02X}"));
            Decoded { fields, fault }
        }
        Err(error) => {
            use ascii::FrameError as E;
            let at = match error {
                E::Start { .. } => 0,
                E::End { at } | E::Digit { at, .. } => at,
                E::Incomplete { .. } | E::TooShort { .. } => text.len(),
                E::OddDigits { got } => got + 1,
                E::TooLong { .. } => ascii::MAX_FRAME,
                E::TrailingBytes { expected, .. } => expected,
                E::Lrc { got, .. } => {
                    // The content is still worth a look.
                    let body = buffer.get(..text.len().saturating_sub(5) / 2).unwrap_or_default();
                    if let [unit, pdu @ ..] = body {
                        fields.put("unit", *unit);
                        content(pdu, 3, 2, hints, &mut fields);
                        fields.put("lrc", format!("{got:02X}"));
                    }
                    text.len().saturating_sub(4)
                }
            };
            Decoded { fields, fault: Some(Fault { at, why: error.to_string() }) }
        }
    }
}

/// Decodes a bare PDU.
pub(super) fn pdu(pdu: &[u8], hints: &Hints) -> Decoded {
    let mut fields = Fields::default();
    let fault = content(pdu, 0, 1, hints, &mut fields);
    Decoded { fields, fault }
}

fn put_function(function: Option<&u8>, fields: &mut Fields) {
    match function {
        None => fields.put("function", Node::Absent),
        Some(code) => {
            fields.put("function", format!("{code:02X}"));
            if let Some(name) = name(*code) {
                fields.put("name", name);
            }
        }
    }
}

/// Names a function, an exception as the function it is of.
fn name(code: u8) -> Option<&'static str> {
    match code & 0x7F {
        function::ENCAPSULATED_INTERFACE => Some("encapsulated interface (MEI)"),
        code => function::name(code),
    }
}

/// Puts the fields of a PDU that begins `offset` places into its frame and takes `scale` places a byte, and says what is
/// wrong with it.
fn content(pdu: &[u8], offset: usize, scale: usize, hints: &Hints, fields: &mut Fields) -> Option<Fault> {
    put_function(pdu.first(), fields);
    let place = |at: usize| offset + at * scale;
    let request = Request::parse(pdu).map(|request| content::request(&request));
    let response = Response::parse(pdu).map(|response| content::response(&response));
    let mut put = |direction: &str, read: Fields| {
        fields.put("direction", direction);
        let views = registers::views(&read, hints);
        fields.append(read);
        fields.append(views);
    };
    match (request, response) {
        (Ok(request), Ok(response)) if request == response => {
            put(if content::is_repeated(pdu) { "request or echo" } else { "request or response" }, request);
            None
        }
        (Ok(request), Ok(response)) => {
            let reading = |direction: &str, read: Fields| {
                let mut reading = Fields::default();
                reading.put("direction", direction);
                reading.append(read);
                reading
            };
            fields.put("readings", Node::from_iter([reading("request", request), reading("response", response)]));
            None
        }
        (Ok(request), Err(_)) => {
            put("request", request);
            None
        }
        (Err(_), Ok(response)) => {
            put("response", response);
            None
        }
        (Err(request), Err(response)) => {
            if let Some(read) = content::contradictory(pdu) {
                put("request", read);
            }
            Some(refused(request, response, place))
        }
    }
}

/// Says why bytes are neither a request nor an answer. A length that fits neither form says less than a wrong value in a
/// form that it fits.
fn refused(request: PduError, response: PduError, place: impl Fn(usize) -> usize) -> Fault {
    let by_length = |error: &PduError| {
        matches!(error.what, Defect::Truncated { .. } | Defect::TrailingBytes { .. } | Defect::Function { .. })
    };
    let one = |error: PduError| Fault { at: place(error.at), why: error.what.to_string() };
    match (by_length(&request), by_length(&response)) {
        _ if request == response => one(request),
        (false, true) => one(request),
        (true, false) => one(response),
        _ => {
            let why = format!(
                "as a request: {}, at {}; as a response: {}, at {}",
                request.what,
                place(request.at),
                response.what,
                place(response.at),
            );
            Fault { at: place(request.at.min(response.at)), why }
        }
    }
}

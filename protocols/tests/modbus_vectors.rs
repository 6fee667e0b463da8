//! Published Modbus frames, the other way round: from the fields of each vector the frame is built with `emit`, and must
//! come out byte for byte. What is built is read again, and every field must have been used for it.

use std::cell::RefCell;
use std::collections::BTreeSet;

use ganglion_protocols::modbus::pdu::{Bits, EmitError, FileWrites, MAX_PDU, Request, Response, Words, function};
use ganglion_protocols::modbus::{ExceptionCode, Table, UnitId, ascii, rtu, tcp};
use serde_json::{Map, Value};

/// Fields that are in no byte, or another view of others: names, remarks, values of a type nobody but the vector knows.
const DESCRIPTIVE: [&str; 6] =
    ["name", "note", "word_order", "values_as_float32", "values_as_float32_ABCD", "bits_20_to_38"];

/// PDUs of which a vector does not list the bits: they are read only.
const NOT_LISTED: [&str; 2] = ["modbus_pdu-3679a6e03b", "modbus_pdu-e2b1cea332"];

/// The fields of a vector, and which of them have been used.
struct Fields<'a> {
    all: &'a Map<String, Value>,
    used: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value) -> Self {
        Self { all: value.as_object().expect("fields"), used: RefCell::default() }
    }

    fn find(&self, name: &str) -> Option<&'a Value> {
        let (name, value) = self.all.get_key_value(name)?;
        self.used.borrow_mut().insert(name);
        Some(value)
    }

    fn number(&self, name: &str) -> u16 {
        let value = self.find(name).unwrap_or_else(|| panic!("{name} in {:?}", self.all));
        value.as_u64().and_then(|number| u16::try_from(number).ok()).expect("a number of sixteen bits")
    }

    fn text(&self, name: &str) -> &'a str {
        self.find(name).and_then(Value::as_str).unwrap_or_else(|| panic!("{name} in {:?}", self.all))
    }

    fn numbers(&self, name: &str) -> Vec<u16> {
        let list = self.find(name).and_then(Value::as_array).unwrap_or_else(|| panic!("{name} in {:?}", self.all));
        list.iter().map(|number| number.as_u64().expect("a number").try_into().expect("sixteen bits")).collect()
    }

    /// Takes the registers, if there are any.
    fn registers(&self) -> Vec<u16> {
        if self.all.contains_key("registers") { self.numbers("registers") } else { Vec::new() }
    }

    /// Compares a field, if it is there, with what was built from others.
    fn agrees(&self, name: &str, value: &Value) {
        if let Some(found) = self.find(name) {
            assert_eq!(found, value, "{name} in {:?}", self.all);
        }
    }

    fn all_used(&self) {
        let used = self.used.borrow();
        let unused = |name: &&String| !used.contains(name.as_str()) && !DESCRIPTIVE.contains(&name.as_str());
        let unused: Vec<_> = self.all.keys().filter(unused).collect();
        assert!(unused.is_empty(), "{unused:?} of {:?}", self.all);
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()
}

fn vectors(text: &str) -> Vec<Value> {
    serde_json::from_str(text).expect("the vectors are JSON")
}

fn is_invalid(vector: &Value) -> bool {
    vector["invalid"] == true
}

/// Builds the PDU a vector describes.
fn pdu(fields: &Fields<'_>) -> Vec<u8> {
    let code = bytes(fields.text("function"))[0];
    match fields.find("readings").and_then(Value::as_array) {
        None => reading(code, fields.text("direction"), fields),
        Some(readings) => {
            let built: Vec<Vec<u8>> = readings
                .iter()
                .map(|part| {
                    let part = Fields::of(part);
                    let built = reading(code, part.text("direction"), &part);
                    part.all_used();
                    built
                })
                .collect();
            assert!(built.windows(2).all(|two| two[0] == two[1]), "each reading is the same bytes");
            built[0].clone()
        }
    }
}

fn reading(code: u8, direction: &str, fields: &Fields<'_>) -> Vec<u8> {
    match direction {
        "request" => request(code, fields),
        "response" => response(code, fields),
        "request or echo" => {
            let (asked, answered) = (request(code, fields), response(code, fields));
            assert_eq!(asked, answered);
            asked
        }
        other => panic!("direction {other}"),
    }
}

fn emitted(emit: impl FnOnce(&mut [u8]) -> Result<usize, EmitError>) -> Vec<u8> {
    let mut out = [0xA5; MAX_PDU];
    let len = emit(&mut out).expect("a published PDU keeps every limit");
    out[..len].to_vec()
}

fn table(code: u8) -> Table {
    [Table::Coil, Table::DiscreteInput, Table::HoldingRegister, Table::InputRegister][usize::from(code) - 1]
}

fn states(fields: &Fields<'_>) -> Vec<bool> {
    fields.numbers("bits").iter().map(|bit| *bit == 1).collect()
}

fn file_groups(fields: &Fields<'_>) -> Vec<u8> {
    let mut groups = Vec::new();
    for group in fields.find("groups").and_then(Value::as_array).expect("groups") {
        let group = Fields::of(group);
        let data = group.numbers("data");
        groups.push(6);
        let count = u16::try_from(data.len()).expect("a short list");
        for word in [group.number("file"), group.number("record"), count].into_iter().chain(data) {
            groups.extend(word.to_be_bytes());
        }
        group.all_used();
    }
    groups
}

fn request(code: u8, fields: &Fields<'_>) -> Vec<u8> {
    let (mut buffer, data) = ([0; 300], fields.find("data").and_then(Value::as_str).map(bytes).unwrap_or_default());
    let registers = fields.registers();
    let counted = |items: usize, bytes: usize| {
        fields.agrees("quantity", &items.into());
        fields.agrees("byte_count", &bytes.into());
        fields.agrees("consistent", &true.into());
    };
    let groups;
    let request = match code {
        1..=4 => {
            Request::Read { table: table(code), address: fields.number("address"), count: fields.number("quantity") }
        }
        function::WRITE_SINGLE_COIL => {
            let on = fields.find("on").and_then(Value::as_bool).expect("on");
            Request::WriteCoil { address: fields.number("address"), on }
        }
        function::WRITE_SINGLE_REGISTER => {
            Request::WriteRegister { address: fields.number("address"), value: fields.number("value") }
        }
        function::DIAGNOSTICS => Request::Diagnostics {
            sub_function: fields.number("sub_function"),
            data: Words::new(&data).expect("whole registers"),
        },
        function::WRITE_MULTIPLE_COILS => {
            let bits = Bits::pack(&states(fields), &mut buffer).expect("they fit");
            counted(bits.len(), bits.as_bytes().len());
            Request::WriteCoils { address: fields.number("address"), bits }
        }
        function::WRITE_MULTIPLE_REGISTERS => {
            let words = Words::pack(&registers, &mut buffer).expect("they fit");
            counted(words.len(), words.as_bytes().len());
            Request::WriteRegisters { address: fields.number("address"), words }
        }
        function::WRITE_FILE_RECORD => {
            groups = file_groups(fields);
            Request::WriteFileRecord(FileWrites::parse(&groups).expect("groups"))
        }
        function::MASK_WRITE_REGISTER => Request::MaskWrite {
            address: fields.number("address"),
            and: fields.number("and_mask"),
            or: fields.number("or_mask"),
        },
        function::READ_WRITE_MULTIPLE_REGISTERS => Request::ReadWrite {
            read_address: fields.number("read_address"),
            read_count: fields.number("read_quantity"),
            write_address: fields.number("write_address"),
            words: Words::pack(&registers, &mut buffer).expect("they fit"),
        },
        function::READ_FIFO_QUEUE => Request::ReadFifoQueue { address: fields.number("fifo_pointer") },
        function::ENCAPSULATED_INTERFACE if fields.number("mei_type") == 0x0E => {
            let [level, object] = data[..] else { panic!("level and object in {data:?}") };
            Request::ReadDeviceId { level, object }
        }
        other => panic!("function {other:02X}: teach this test its request"),
    };
    let built = emitted(|out| request.emit(out));
    assert_eq!(Request::parse(&built), Ok(request));
    built
}

fn response(code: u8, fields: &Fields<'_>) -> Vec<u8> {
    let (mut buffer, data) = ([0; 300], fields.find("data").and_then(Value::as_str).map(bytes).unwrap_or_default());
    let registers = fields.registers();
    let words = Words::pack(&registers, &mut buffer).expect("they fit");
    let groups;
    let events;
    let mut bits = [0; 300];
    let response = match code {
        1 | 2 => {
            let bits = Bits::pack(&states(fields), &mut bits).expect("they fit");
            fields.agrees("byte_count", &bits.as_bytes().len().into());
            Response::ReadBits { table: table(code), bits }
        }
        3 | 4 => {
            fields.agrees("byte_count", &words.as_bytes().len().into());
            Response::ReadRegisters { table: table(code), words }
        }
        function::WRITE_SINGLE_COIL => {
            let on = fields.find("on").and_then(Value::as_bool).expect("on");
            Response::WriteCoil { address: fields.number("address"), on }
        }
        function::WRITE_SINGLE_REGISTER => {
            Response::WriteRegister { address: fields.number("address"), value: fields.number("value") }
        }
        function::DIAGNOSTICS => Response::Diagnostics {
            sub_function: fields.number("sub_function"),
            data: Words::new(&data).expect("whole registers"),
        },
        function::GET_COMM_EVENT_COUNTER => {
            Response::GetCommEventCounter { status: fields.number("status"), events: fields.number("event_count") }
        }
        function::GET_COMM_EVENT_LOG => {
            events = bytes(fields.text("events"));
            Response::GetCommEventLog {
                status: fields.number("status"),
                event_count: fields.number("event_count"),
                message_count: fields.number("message_count"),
                events: &events,
            }
        }
        function::WRITE_MULTIPLE_COILS => {
            Response::WriteCoils { address: fields.number("address"), count: fields.number("quantity") }
        }
        function::WRITE_MULTIPLE_REGISTERS => {
            Response::WriteRegisters { address: fields.number("address"), count: fields.number("quantity") }
        }
        function::WRITE_FILE_RECORD => {
            groups = file_groups(fields);
            Response::WriteFileRecord(FileWrites::parse(&groups).expect("groups"))
        }
        function::MASK_WRITE_REGISTER => Response::MaskWrite {
            address: fields.number("address"),
            and: fields.number("and_mask"),
            or: fields.number("or_mask"),
        },
        function::READ_FIFO_QUEUE => {
            fields.agrees("fifo_count", &words.len().into());
            Response::ReadFifoQueue { words }
        }
        0x80.. => {
            let code = ExceptionCode::new(fields.number("exception_code").try_into().expect("one byte"));
            let name = match code.name() {
                None => "unassigned code",
                // The vectors shorten the standard's "gateway target device failed to respond".
                Some(_) if code.code() == 0x0B => "gateway target failed to respond",
                Some(name) => name,
            };
            fields.agrees("exception", &name.into());
            Response::Exception { function: bytes(fields.text("exception_of"))[0], code }
        }
        other => panic!("function {other:02X}: teach this test its response"),
    };
    let built = emitted(|out| response.emit(out));
    assert_eq!(Response::parse(&built), Ok(response));
    built
}

fn unit(fields: &Fields<'_>) -> UnitId {
    UnitId(fields.number("unit").try_into().expect("one byte"))
}

#[test]
fn rtu_frames_are_built_from_their_fields() {
    let mut built = 0;
    for vector in vectors(include_str!("vectors/modbus_rtu.json")) {
        let frame = bytes(vector["hex"].as_str().expect("hex"));
        if is_invalid(&vector) {
            let refused = match rtu::Frame::parse(&frame) {
                Ok(rtu::Frame { pdu, .. }) => Request::parse(pdu).is_err() && Response::parse(pdu).is_err(),
                Err(_) => true,
            };
            assert!(refused, "{vector}");
            continue;
        }
        let fields = Fields::of(&vector["decoded"]);
        let (unit, pdu) = (unit(&fields), pdu(&fields));
        fields.agrees("broadcast", &(unit == UnitId(0)).into());
        fields.all_used();
        let mut out = [0xA5; rtu::MAX_FRAME];
        let len = rtu::Frame::emit(unit, &pdu, &mut out).expect("it fits");
        assert_eq!(&out[..len], frame, "{vector}");
        assert_eq!(rtu::Frame::parse(&frame), Ok(rtu::Frame { unit, pdu: &pdu }));
        built += 1;
    }
    assert_eq!(built, 196);
}

#[test]
fn tcp_frames_are_built_from_their_fields() {
    let mut built = 0;
    for vector in vectors(include_str!("vectors/modbus_tcp.json")) {
        let frame = bytes(vector["hex"].as_str().expect("hex"));
        if is_invalid(&vector) {
            assert!(tcp::Frame::parse(&frame).is_err(), "{vector}");
            continue;
        }
        let fields = Fields::of(&vector["decoded"]);
        let (transaction, unit, pdu) = (fields.number("transaction"), unit(&fields), pdu(&fields));
        fields.agrees("protocol_id", &0.into());
        fields.agrees("length", &(pdu.len() + 1).into());
        fields.all_used();
        let mut out = [0xA5; tcp::MAX_FRAME];
        let len = tcp::Frame::emit(transaction, unit, &pdu, &mut out).expect("it fits");
        assert_eq!(&out[..len], frame, "{vector}");
        assert_eq!(tcp::Frame::parse(&frame), Ok(tcp::Frame { transaction, unit, pdu: &pdu }));
        built += 1;
    }
    assert_eq!(built, 9);
}

#[test]
fn ascii_frames_are_built_from_their_fields() {
    let mut built = 0;
    for vector in vectors(include_str!("vectors/modbus_ascii.json")) {
        let text = vector["ascii"].as_str().expect("text").as_bytes();
        let mut buffer = [0; ascii::MAX_BYTES];
        if is_invalid(&vector) {
            assert!(ascii::Frame::parse(text, &mut buffer).is_err(), "{vector}");
            continue;
        }
        let fields = Fields::of(&vector["decoded"]);
        let (unit, pdu) = (unit(&fields), pdu(&fields));
        let body: Vec<u8> = [unit.0].into_iter().chain(pdu.iter().copied()).collect();
        fields.agrees("lrc", &format!("{:02X}", ascii::lrc(&body)).into());
        fields.all_used();
        let mut out = [0xA5; ascii::MAX_FRAME];
        let len = ascii::Frame::emit(unit, &pdu, &mut out).expect("it fits");
        assert_eq!(&out[..len], text, "{vector}");
        assert_eq!(ascii::Frame::parse(text, &mut buffer), Ok(ascii::Frame { unit, pdu: &pdu }));
        built += 1;
    }
    assert_eq!(built, 7);
}

#[test]
fn pdus_are_built_from_their_fields() {
    let mut built = 0;
    for vector in vectors(include_str!("vectors/modbus_pdu.json")) {
        let frame = bytes(vector["hex"].as_str().expect("hex"));
        if NOT_LISTED.contains(&vector["id"].as_str().expect("an id")) {
            let Ok(Response::ReadBits { bits, .. }) = Response::parse(&frame) else { panic!("{vector}") };
            if let Some(listed) = vector["decoded"]["bits_20_to_38"].as_str() {
                let digits: Vec<bool> = listed
                    .split('(')
                    .next()
                    .into_iter()
                    .flat_map(str::chars)
                    .filter(char::is_ascii_digit)
                    .map(|digit| digit == '1')
                    .collect();
                assert_eq!(digits, bits.iter().take(19).collect::<Vec<_>>());
            }
            continue;
        }
        let fields = Fields::of(&vector["decoded"]);
        assert_eq!(pdu(&fields), frame, "{vector}");
        fields.all_used();
        built += 1;
    }
    assert_eq!(built, 16);
}

//! Modbus PDUs from outside: the standard's own examples, limits, and what is emitted.

use ganglion_protocols::modbus::pdu::{
    Bits, Defect, DeviceId, DeviceObject, DeviceObjects, EmitError, FileData, FileRead, FileReads, FileWrite,
    FileWrites, MAX_PDU, PduError, Request, Response, Words, function,
};
use ganglion_protocols::modbus::{ExceptionCode, Table};
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits"))
        .collect()
}

fn request_is(bytes: &str, expected: &Request<'_>) {
    let bytes = hex(bytes);
    assert_eq!(Request::parse(&bytes), Ok(*expected), "{bytes:02X?}");
    let mut out = [0xA5; 300];
    assert_eq!(expected.emit(&mut out), Ok(bytes.len()), "{expected:?}");
    assert_eq!(out[..bytes.len()], bytes, "{expected:?}");
    assert!(out[bytes.len()..].iter().all(|&byte| byte == 0xA5), "nothing is written behind {expected:?}");
    assert_eq!(expected.function(), bytes[0]);
    assert_eq!(expected.emit(&mut [0xA5; 300][..bytes.len() - 1]), Err(EmitError::Full), "{expected:?}");
}

fn response_is(bytes: &str, expected: &Response<'_>) {
    let bytes = hex(bytes);
    assert_eq!(Response::parse(&bytes), Ok(*expected), "{bytes:02X?}");
    let mut out = [0xA5; 300];
    assert_eq!(expected.emit(&mut out), Ok(bytes.len()), "{expected:?}");
    assert_eq!(out[..bytes.len()], bytes, "{expected:?}");
    assert!(out[bytes.len()..].iter().all(|&byte| byte == 0xA5), "nothing is written behind {expected:?}");
    assert_eq!(expected.function(), bytes[0] & 0x7F);
    assert_eq!(expected.emit(&mut [0xA5; 300][..bytes.len() - 1]), Err(EmitError::Full), "{expected:?}");
}

#[test]
fn requests_of_the_standard_are_read_and_written() {
    // Application Protocol V1.1b3, the examples of §6.1 to §6.21.
    let read = |table, address, count| Request::Read { table, address, count };
    request_is("01 0013 0013", &read(Table::Coil, 19, 19));
    request_is("02 00C4 0016", &read(Table::DiscreteInput, 196, 22));
    request_is("03 006B 0003", &read(Table::HoldingRegister, 107, 3));
    request_is("04 0008 0001", &read(Table::InputRegister, 8, 1));
    request_is("05 00AC FF00", &Request::WriteCoil { address: 172, on: true });
    request_is("06 0001 0003", &Request::WriteRegister { address: 1, value: 3 });
    request_is("07", &Request::ReadExceptionStatus);
    let data = hex("A537");
    request_is("08 0000 A537", &Request::Diagnostics { sub_function: 0, data: Words::new(&data).expect("even") });
    request_is("0B", &Request::GetCommEventCounter);
    request_is("0C", &Request::GetCommEventLog);
    let bits = hex("CD01");
    let bits = Bits::new(&bits, 10).expect("ten bits take two bytes");
    request_is("0F 0013 000A 02 CD01", &Request::WriteCoils { address: 19, bits });
    assert_eq!(bits.iter().map(u8::from).collect::<Vec<_>>(), [1, 0, 1, 1, 0, 0, 1, 1, 1, 0]);
    let words = hex("000A0102");
    let words = Words::new(&words).expect("even");
    request_is("10 0001 0002 04 000A 0102", &Request::WriteRegisters { address: 1, words });
    request_is("11", &Request::ReportServerId);
    let groups = hex("06 0004 0001 0002 06 0003 0009 0002");
    let groups = FileReads::parse(&groups).expect("two groups");
    request_is("14 0E 06 0004 0001 0002 06 0003 0009 0002", &Request::ReadFileRecord(groups));
    let expected = [FileRead { file: 4, record: 1, count: 2 }, FileRead { file: 3, record: 9, count: 2 }];
    assert_eq!(groups.iter().collect::<Vec<_>>(), expected);
    let groups = hex("06 0004 0007 0003 06AF 04BE 100D");
    let groups = FileWrites::parse(&groups).expect("one group");
    request_is("15 0D 06 0004 0007 0003 06AF 04BE 100D", &Request::WriteFileRecord(groups));
    let words = hex("06AF 04BE 100D");
    let expected = FileWrite { file: 4, record: 7, words: Words::new(&words).expect("even") };
    assert_eq!(groups.iter().collect::<Vec<_>>(), [expected]);
    request_is("16 0004 00F2 0025", &Request::MaskWrite { address: 4, and: 0x00F2, or: 0x0025 });
    let words = hex("00FF 00FF 00FF");
    let words = Words::new(&words).expect("even");
    request_is(
        "17 0003 0006 000E 0003 06 00FF 00FF 00FF",
        &Request::ReadWrite { read_address: 3, read_count: 6, write_address: 14, words },
    );
    request_is("18 04DE", &Request::ReadFifoQueue { address: 1246 });
    request_is("2B 0E 01 00", &Request::ReadDeviceId { level: 1, object: 0 });
    request_is("2B 0D 1234", &Request::Encapsulated { mei: 0x0D, data: &[0x12, 0x34] });
    request_is("41 0102", &Request::Unknown { function: 0x41, data: &[1, 2] });
}

#[test]
fn responses_of_the_standard_are_read_and_written() {
    let bits = hex("CD6B05");
    let bits = Bits::padded(&bits);
    response_is("01 03 CD6B05", &Response::ReadBits { table: Table::Coil, bits });
    assert_eq!(
        (bits.len(), bits.get(0), bits.get(1), bits.get(18), bits.get(24)),
        (24, Some(true), Some(false), Some(true), None)
    );
    let bits = hex("ACDB35");
    response_is("02 03 ACDB35", &Response::ReadBits { table: Table::DiscreteInput, bits: Bits::padded(&bits) });
    let words = hex("022B 0000 0064");
    let words = Words::new(&words).expect("even");
    response_is("03 06 022B 0000 0064", &Response::ReadRegisters { table: Table::HoldingRegister, words });
    assert_eq!(words.iter().collect::<Vec<_>>(), [555, 0, 100]);
    assert_eq!((words.len(), words.get(2), words.get(3)), (3, Some(100), None));
    let words = hex("000A");
    let words = Words::new(&words).expect("even");
    response_is("04 02 000A", &Response::ReadRegisters { table: Table::InputRegister, words });
    response_is("05 00AC FF00", &Response::WriteCoil { address: 172, on: true });
    response_is("06 0001 0003", &Response::WriteRegister { address: 1, value: 3 });
    response_is("07 6D", &Response::ReadExceptionStatus { status: 0x6D });
    let data = hex("A537");
    response_is("08 0000 A537", &Response::Diagnostics { sub_function: 0, data: Words::new(&data).expect("even") });
    response_is("0B FFFF 0108", &Response::GetCommEventCounter { status: 0xFFFF, events: 264 });
    response_is(
        "0C 08 0000 0108 0121 2000",
        &Response::GetCommEventLog { status: 0, event_count: 264, message_count: 289, events: &[0x20, 0x00] },
    );
    response_is("0F 0013 000A", &Response::WriteCoils { address: 19, count: 10 });
    response_is("10 0001 0002", &Response::WriteRegisters { address: 1, count: 2 });
    response_is("11 03 2A FF 01", &Response::ReportServerId { data: &[0x2A, 0xFF, 0x01] });
    let groups = hex("05 06 0DFE 0020 05 06 33CD 0040");
    let groups = FileData::parse(&groups).expect("two groups");
    response_is("14 0C 05 06 0DFE 0020 05 06 33CD 0040", &Response::ReadFileRecord(groups));
    let words: Vec<Vec<u16>> = groups.iter().map(|words| words.iter().collect()).collect();
    assert_eq!(words, [[0x0DFE, 0x0020], [0x33CD, 0x0040]]);
    let groups = hex("06 0004 0007 0003 06AF 04BE 100D");
    let groups = FileWrites::parse(&groups).expect("one group");
    response_is("15 0D 06 0004 0007 0003 06AF 04BE 100D", &Response::WriteFileRecord(groups));
    response_is("16 0004 00F2 0025", &Response::MaskWrite { address: 4, and: 0x00F2, or: 0x0025 });
    let words = hex("00FE 0ACD 0001 0003 000D 00FF");
    let words = Words::new(&words).expect("even");
    response_is("17 0C 00FE 0ACD 0001 0003 000D 00FF", &Response::ReadWrite { words });
    let words = hex("01B8 1284");
    let words = Words::new(&words).expect("even");
    response_is("18 0006 0002 01B8 1284", &Response::ReadFifoQueue { words });
    response_is("18 0002 0000", &Response::ReadFifoQueue { words: Words::default() });
    // §6.21: three objects; their texts are filled in here, the standard prints only their lengths.
    let objects = hex("03 00 03 414243 01 00 02 04 56322E31");
    let objects = DeviceObjects::parse(&objects).expect("three objects");
    let names = DeviceId { level: 1, conformity: 1, more_follows: false, next_object: 0, objects };
    response_is("2B 0E 01 01 00 00 03 00 03 414243 01 00 02 04 56322E31", &Response::ReadDeviceId(names));
    let expected = [(0, &b"ABC"[..]), (1, b""), (2, b"V2.1")].map(|(id, value)| DeviceObject { id, value });
    assert_eq!(objects.iter().collect::<Vec<_>>(), expected);
    response_is("2B 0D 1234", &Response::Encapsulated { mei: 0x0D, data: &[0x12, 0x34] });
    response_is("81 02", &Response::Exception { function: 1, code: ExceptionCode::ILLEGAL_DATA_ADDRESS });
    response_is("81 54", &Response::Exception { function: 1, code: ExceptionCode::new(0x54) });
    response_is("41 0102", &Response::Unknown { function: 0x41, data: &[1, 2] });
}

fn at(at: usize, what: Defect) -> PduError {
    PduError { at, what }
}

#[test]
fn a_request_that_breaks_a_limit_is_refused_with_the_place_and_the_value() {
    for (bytes, expected) in [
        ("", at(0, Defect::Truncated { needed: 1, got: 0 })),
        ("00", at(0, Defect::Function { got: 0 })),
        ("83 02", at(0, Defect::Function { got: 0x83 })),
        ("03 0000 00", at(4, Defect::Truncated { needed: 5, got: 4 })),
        ("03 0000 0001 00", at(5, Defect::TrailingBytes { expected: 5, got: 6 })),
        ("01 0000 0000", at(3, Defect::Count { got: 0, max: 2000 })),
        ("01 0000 07D1", at(3, Defect::Count { got: 2001, max: 2000 })),
        ("02 0000 07D1", at(3, Defect::Count { got: 2001, max: 2000 })),
        ("03 0000 0000", at(3, Defect::Count { got: 0, max: 125 })),
        ("03 0000 007E", at(3, Defect::Count { got: 126, max: 125 })),
        ("04 0000 007E", at(3, Defect::Count { got: 126, max: 125 })),
        ("03 FFFF 0002", at(1, Defect::Range { address: 0xFFFF, count: 2 })),
        ("05 0001 FF01", at(3, Defect::CoilValue { got: 0xFF01 })),
        ("05 0001 0001", at(3, Defect::CoilValue { got: 1 })),
        ("06 0001", at(3, Defect::Truncated { needed: 5, got: 3 })),
        ("07 00", at(1, Defect::TrailingBytes { expected: 1, got: 2 })),
        ("08 00", at(2, Defect::Truncated { needed: 3, got: 2 })),
        ("08 0000 A5", at(3, Defect::OddByteCount { got: 1 })),
        ("0F 0000 0000 00", at(3, Defect::Count { got: 0, max: 1968 })),
        ("0F 0000 07B1 01 00", at(3, Defect::Count { got: 1969, max: 1968 })),
        ("0F 0000 0009 01 00", at(5, Defect::ByteCount { got: 1, expected: 2 })),
        ("0F 0000 0008 01", at(6, Defect::Truncated { needed: 7, got: 6 })),
        ("0F FFFF 0002 01 00", at(1, Defect::Range { address: 0xFFFF, count: 2 })),
        ("10 0000 007C 02 0000", at(3, Defect::Count { got: 124, max: 123 })),
        ("10 0000 0002 02 0000", at(5, Defect::ByteCount { got: 2, expected: 4 })),
        ("10 0000 0001 02 0000 00", at(8, Defect::TrailingBytes { expected: 8, got: 9 })),
        ("10 0000 0001 02 00", at(7, Defect::Truncated { needed: 8, got: 7 })),
        ("14 07 05 0004 0001 0002", at(2, Defect::ReferenceType { got: 5 })),
        ("14 07 06 0000 0001 0002", at(3, Defect::FileNumber)),
        ("14 07 06 0004 2710 0002", at(5, Defect::RecordNumber { got: 10_000 })),
        ("14 07 06 0004 0001 0000", at(7, Defect::Count { got: 0, max: 121 })),
        ("14 06 06 0004 0001 00", at(2, Defect::ByteCount { got: 6, expected: 7 })),
        ("14 08 06 0004 0001 0002 06", at(10, Defect::Truncated { needed: 16, got: 10 })),
        ("15 09 06 0004 0007 0002 06AF", at(11, Defect::Truncated { needed: 13, got: 11 })),
        ("16 0004 00F2 00", at(6, Defect::Truncated { needed: 7, got: 6 })),
        ("17 0003 007E 000E 0001 02 00FF", at(3, Defect::Count { got: 126, max: 125 })),
        ("17 0003 0001 000E 007A 02 00FF", at(7, Defect::Count { got: 122, max: 121 })),
        ("17 FFFF 0002 000E 0001 02 00FF", at(1, Defect::Range { address: 0xFFFF, count: 2 })),
        ("17 0003 0001 FFFF 0002 04 00FF 00FF", at(5, Defect::Range { address: 0xFFFF, count: 2 })),
        ("17 0003 0001 000E 0002 02 00FF", at(9, Defect::ByteCount { got: 2, expected: 4 })),
        ("18 04", at(2, Defect::Truncated { needed: 3, got: 2 })),
        ("2B", at(1, Defect::Truncated { needed: 2, got: 1 })),
        ("2B 0E 00 00", at(2, Defect::DeviceIdLevel { got: 0 })),
        ("2B 0E 05 00", at(2, Defect::DeviceIdLevel { got: 5 })),
        ("2B 0E 01", at(3, Defect::Truncated { needed: 4, got: 3 })),
    ] {
        assert_eq!(Request::parse(&hex(bytes)), Err(expected), "{bytes}");
    }
}

#[test]
fn a_response_that_breaks_a_limit_is_refused_with_the_place_and_the_value() {
    for (bytes, expected) in [
        ("80 01", at(0, Defect::Function { got: 0x80 })),
        ("83", at(1, Defect::Truncated { needed: 2, got: 1 })),
        ("83 02 00", at(2, Defect::TrailingBytes { expected: 2, got: 3 })),
        ("01 00", at(1, Defect::ByteCount { got: 0, expected: 1 })),
        ("01 02 00", at(3, Defect::Truncated { needed: 4, got: 3 })),
        ("03", at(1, Defect::Truncated { needed: 2, got: 1 })),
        ("03 00", at(1, Defect::ByteCount { got: 0, expected: 2 })),
        ("03 03 000A14", at(1, Defect::OddByteCount { got: 3 })),
        ("03 04 8902 42C7 00", at(6, Defect::TrailingBytes { expected: 6, got: 7 })),
        ("05 00AC FFFF", at(3, Defect::CoilValue { got: 0xFFFF })),
        ("0B FFFF", at(3, Defect::Truncated { needed: 5, got: 3 })),
        ("0C 05 0000 0108 01", at(1, Defect::ByteCount { got: 5, expected: 6 })),
        ("0F 0013 0000", at(3, Defect::Count { got: 0, max: 1968 })),
        ("10 FFFF 0002", at(1, Defect::Range { address: 0xFFFF, count: 2 })),
        ("11 02 2A", at(3, Defect::Truncated { needed: 4, got: 3 })),
        ("14 05 04 06 0DFE 00", at(2, Defect::OddByteCount { got: 3 })),
        ("14 04 03 07 0DFE", at(3, Defect::ReferenceType { got: 7 })),
        ("14 08 03 06 0DFE 03 06 0D", at(9, Defect::Truncated { needed: 10, got: 9 })),
        ("18 0004 0002 01B8 1284", at(1, Defect::ByteCount { got: 4, expected: 6 })),
        ("18 0042 0020", at(3, Defect::Count { got: 32, max: 31 })),
        ("18 0006 0002 01B8", at(7, Defect::Truncated { needed: 9, got: 7 })),
        ("2B 0E 01 01 01 00 00", at(4, Defect::MoreFollows { got: 1 })),
        ("2B 0E 01 01 00 00 01 00 02 41", at(10, Defect::Truncated { needed: 11, got: 10 })),
        ("2B 0E 01 01 00 00 00 00", at(7, Defect::TrailingBytes { expected: 7, got: 8 })),
    ] {
        assert_eq!(Response::parse(&hex(bytes)), Err(expected), "{bytes}");
    }
    let long = vec![0x41; MAX_PDU + 1];
    let expected = at(MAX_PDU, Defect::TrailingBytes { expected: MAX_PDU, got: MAX_PDU + 1 });
    assert_eq!(Response::parse(&long), Err(expected));
    assert_eq!(Request::parse(&long), Err(expected));
    let long: Vec<u8> = [0x0C, 71].into_iter().chain([0; 71]).collect();
    assert_eq!(Response::parse(&long), Err(at(1, Defect::ByteCount { got: 71, expected: 70 })));
    let long: Vec<u8> = [0x01, 251].into_iter().chain([0; 251]).collect();
    assert_eq!(Response::parse(&long), Err(at(1, Defect::ByteCount { got: 251, expected: 250 })));
}

#[test]
fn the_longest_pdus_are_taken_and_one_more_item_is_not() {
    let mut out = [0; 300];
    let bytes = [0x55; 300];
    let words = |count: usize| Words::new(&bytes[..count * 2]).expect("even");
    let bits = |count: usize| Bits::new(&bytes[..count.div_ceil(8)], count).expect("as many bytes");
    for (request, len) in [
        (Request::WriteCoils { address: 0, bits: bits(1968) }, 252),
        (Request::WriteRegisters { address: 0, words: words(123) }, 252),
        (Request::ReadWrite { read_address: 0, read_count: 125, write_address: 0, words: words(121) }, 252),
        (Request::Unknown { function: 0x64, data: &bytes[..252] }, 253),
    ] {
        assert_eq!(request.emit(&mut out), Ok(len), "{request:?}");
    }
    for (request, error) in [
        (Request::WriteCoils { address: 0, bits: bits(1969) }, at(3, Defect::Count { got: 1969, max: 1968 })),
        (
            Request::WriteRegisters { address: 0, words: words(124) },
            at(253, Defect::TrailingBytes { expected: 253, got: 254 }),
        ),
        (
            Request::WriteRegisters { address: 0xFFFF, words: words(2) },
            at(1, Defect::Range { address: 0xFFFF, count: 2 }),
        ),
        (
            Request::Unknown { function: 0x64, data: &bytes[..253] },
            at(MAX_PDU, Defect::TrailingBytes { expected: 253, got: 254 }),
        ),
        (Request::Unknown { function: 0, data: &[] }, at(0, Defect::Function { got: 0 })),
    ] {
        assert_eq!(request.emit(&mut out), Err(EmitError::Invalid(error)));
    }
    let response = Response::ReadRegisters { table: Table::HoldingRegister, words: words(125) };
    assert_eq!(response.emit(&mut out), Ok(252));
    let response = Response::ReadBits { table: Table::Coil, bits: bits(2000) };
    assert_eq!(response.emit(&mut out), Ok(252));
}

#[test]
fn what_would_be_read_as_something_else_is_not_emitted() {
    let mut out = [0; 300];
    for request in [Request::Unknown { function: 0x11, data: &[] }, Request::Encapsulated { mei: 0x0E, data: &[1, 0] }]
    {
        assert_eq!(request.emit(&mut out), Err(EmitError::ReadsOtherwise), "{request:?}");
    }
    let seven = Bits::new(&[0x7F], 7).expect("seven bits are one byte");
    for response in [
        Response::ReadBits { table: Table::HoldingRegister, bits: Bits::padded(&[1, 2]) },
        Response::ReadBits { table: Table::Coil, bits: seven },
        Response::Exception { function: 0x83, code: ExceptionCode::ILLEGAL_FUNCTION },
    ] {
        assert_eq!(response.emit(&mut out), Err(EmitError::ReadsOtherwise), "{response:?}");
    }
}

#[test]
fn values_are_packed_as_the_wire_has_them() {
    let mut buffer = [0xA5; 4];
    assert_eq!(Words::pack(&[0x0102, 0xFFFE], &mut buffer).expect("they fit").as_bytes(), [1, 2, 0xFF, 0xFE]);
    assert_eq!(Words::pack(&[0; 3], &mut buffer), None);
    let bits = [true, false, true, true, false, false, true, true, true];
    assert_eq!(Bits::pack(&bits, &mut buffer).expect("they fit").as_bytes(), [0xCD, 0x01]);
    assert_eq!(Bits::pack(&[true; 33], &mut buffer), None);
    assert_eq!(Bits::new(&[0, 0], 17), None);
    assert_eq!(Words::new(&[0]), None);
}

#[test]
fn every_function_code_has_the_standards_name_or_is_unknown() {
    // Application Protocol V1.1b3 §5.1.
    let named = [
        (0x01, "read coils"),
        (0x02, "read discrete inputs"),
        (0x03, "read holding registers"),
        (0x04, "read input registers"),
        (0x05, "write single coil"),
        (0x06, "write single register"),
        (0x07, "read exception status"),
        (0x08, "diagnostics"),
        (0x0B, "get comm event counter"),
        (0x0C, "get comm event log"),
        (0x0F, "write multiple coils"),
        (0x10, "write multiple registers"),
        (0x11, "report server id"),
        (0x14, "read file record"),
        (0x15, "write file record"),
        (0x16, "mask write register"),
        (0x17, "read/write multiple registers"),
        (0x18, "read fifo queue"),
        (0x2B, "encapsulated interface transport"),
    ];
    for code in 1..=127 {
        let expected = named.iter().find(|(named, _)| *named == code).map(|(_, name)| *name);
        assert_eq!(function::name(code), expected, "{code:02X}");
        let unknown =
            matches!(Request::parse(&[code]), Ok(Request::Unknown { function, data: [] }) if function == code);
        assert_eq!(unknown, expected.is_none(), "{code:02X}");
        let unknown =
            matches!(Response::parse(&[code]), Ok(Response::Unknown { function, data: [] }) if function == code);
        assert_eq!(unknown, expected.is_none(), "{code:02X}");
        let refused = Response::Exception { function: code, code: ExceptionCode::SERVER_DEVICE_BUSY };
        assert_eq!(Response::parse(&[code | 0x80, 6]), Ok(refused));
    }
}

#[test]
fn every_exception_code_has_the_standards_name_or_none() {
    // Application Protocol V1.1b3 §7.
    let named = [
        (0x01, ExceptionCode::ILLEGAL_FUNCTION, "illegal function"),
        (0x02, ExceptionCode::ILLEGAL_DATA_ADDRESS, "illegal data address"),
        (0x03, ExceptionCode::ILLEGAL_DATA_VALUE, "illegal data value"),
        (0x04, ExceptionCode::SERVER_DEVICE_FAILURE, "server device failure"),
        (0x05, ExceptionCode::ACKNOWLEDGE, "acknowledge"),
        (0x06, ExceptionCode::SERVER_DEVICE_BUSY, "server device busy"),
        (0x08, ExceptionCode::MEMORY_PARITY_ERROR, "memory parity error"),
        (0x0A, ExceptionCode::GATEWAY_PATH_UNAVAILABLE, "gateway path unavailable"),
        (0x0B, ExceptionCode::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND, "gateway target device failed to respond"),
    ];
    for code in 0..=255 {
        let expected = named.iter().find(|(named, ..)| *named == code);
        assert_eq!(ExceptionCode::new(code).name(), expected.map(|(.., name)| *name), "{code:02X}");
        if let Some((_, constant, _)) = expected {
            assert_eq!(constant.code(), code);
        }
    }
}

/// Bytes that begin like a PDU more often than chance would have it: a known function, a plausible byte count.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let code = prop::sample::select(vec![
        1, 2, 3, 4, 5, 6, 7, 8, 0x0B, 0x0C, 0x0F, 0x10, 0x11, 0x14, 0x15, 0x16, 0x17, 0x18, 0x2B, 0x41, 0x83,
    ]);
    let byte = prop_oneof![3 => Just(0_u8), 1 => Just(6_u8), 1 => Just(0x0E_u8), 3 => 0_u8..16, 2 => any::<u8>()];
    (code, prop::collection::vec(byte, 0..40), 0..12_usize, any::<bool>()).prop_map(
        |(code, mut data, place, counted)| {
            if counted && place < data.len() {
                data[place] = u8::try_from(data.len() - place - 1).expect("below 40");
            }
            data.insert(0, code);
            data
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn whatever_is_read_is_written_as_the_same_bytes(pdu in plausible()) {
        let mut out = [0xA5; 300];
        if let Ok(request) = Request::parse(&pdu) {
            prop_assert_eq!(request.emit(&mut out), Ok(pdu.len()));
            prop_assert_eq!(&out[..pdu.len()], &pdu[..]);
        }
        if let Ok(response) = Response::parse(&pdu) {
            prop_assert_eq!(response.emit(&mut out), Ok(pdu.len()));
            prop_assert_eq!(&out[..pdu.len()], &pdu[..]);
        }
    }

}

proptest! {
    #[test]
    fn whatever_is_written_is_read_as_the_same_value(
        address in any::<u16>(),
        values in prop::collection::vec(any::<u16>(), 0..130),
        states in prop::collection::vec(any::<bool>(), 0..2100),
        count in 0..2100_u16,
    ) {
        let (mut words, mut bits, mut out) = ([0; 300], [0; 300], [0xA5; 300]);
        let words = Words::pack(&values, &mut words).expect("they fit");
        let bits = Bits::pack(&states, &mut bits).expect("they fit");
        prop_assert!(words.iter().eq(values.iter().copied()));
        prop_assert!(bits.iter().eq(states.iter().copied()));
        let ends = |first: u16, count: usize| usize::from(first) + count <= 0x1_0000;
        let requests = [
            (
                Request::WriteRegisters { address, words },
                (1..=123).contains(&values.len()) && ends(address, values.len()),
            ),
            (
                Request::WriteCoils { address, bits },
                (1..=1968).contains(&states.len()) && ends(address, states.len()),
            ),
            (
                Request::Read { table: Table::Coil, address, count },
                (1..=2000).contains(&count) && ends(address, count.into()),
            ),
            (
                Request::Read { table: Table::InputRegister, address, count },
                (1..=125).contains(&count) && ends(address, count.into()),
            ),
        ];
        for (request, allowed) in requests {
            match request.emit(&mut out) {
                Ok(len) => {
                    prop_assert!(allowed, "{:?}", request);
                    prop_assert_eq!(Request::parse(&out[..len]), Ok(request));
                }
                Err(_) => prop_assert!(!allowed, "{:?}", request),
            }
        }
        let response = Response::ReadRegisters { table: Table::InputRegister, words };
        match response.emit(&mut out) {
            Ok(len) => prop_assert_eq!(Response::parse(&out[..len]), Ok(response)),
            Err(_) => prop_assert!(values.is_empty() || values.len() > 125),
        }
    }
}

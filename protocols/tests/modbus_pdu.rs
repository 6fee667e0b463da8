//! Modbus PDUs from outside: the standard's own examples, limits, and what is emitted.

use ganglion_protocols::modbus::pdu::{
    Bits, DeviceId, DeviceObject, DeviceObjects, EmitError, FileData, FileRead, FileReads, FileWrite, FileWrites,
    Request, Response, Words,
};
use ganglion_protocols::modbus::{ExceptionCode, Table};

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

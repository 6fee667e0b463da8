//! The fields of requests and answers, named as in the vectors.

use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::pdu::{Bits, DeviceId, FileWrites, Request, Response, Words, function};

use crate::decode::tree::hex;
use crate::decode::{Fields, Node};

/// Builds a list of fields.
macro_rules! fields {
    ($($name:literal: $value:expr),* $(,)?) => {{
        let mut fields = Fields::default();
        $(fields.put($name, $value);)*
        fields
    }};
}

/// Says whether the answer of a function repeats its request.
pub(super) fn is_repeated(pdu: &[u8]) -> bool {
    use function::{DIAGNOSTICS, MASK_WRITE_REGISTER, WRITE_FILE_RECORD, WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER};
    let repeated = [WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER, DIAGNOSTICS, WRITE_FILE_RECORD, MASK_WRITE_REGISTER];
    pdu.first().is_some_and(|code| repeated.contains(code))
}

pub(super) fn request(request: &Request<'_>) -> Fields {
    match *request {
        Request::Read { address, count, .. } => fields! { "address": address, "quantity": count },
        Request::WriteCoil { address, on } => fields! { "address": address, "on": on },
        Request::WriteRegister { address, value } => fields! { "address": address, "value": value },
        Request::ReadExceptionStatus
        | Request::GetCommEventCounter
        | Request::GetCommEventLog
        | Request::ReportServerId => Fields::default(),
        Request::Diagnostics { sub_function, data } => diagnostics(sub_function, data),
        Request::WriteCoils { address, bits } => fields! {
            "address": address,
            "quantity": bits.len() as u64,
            "byte_count": bits.as_bytes().len() as u64,
            "bits": states(bits),
            "consistent": true,
        },
        Request::WriteRegisters { address, words } => fields! {
            "address": address,
            "quantity": words.len() as u64,
            "byte_count": words.as_bytes().len() as u64,
            "registers": registers(words),
            "consistent": true,
        },
        Request::ReadFileRecord(groups) => fields! {
            "byte_count": groups.as_bytes().len() as u64,
            "groups": Node::from_iter(groups.iter().map(|group| fields! {
                "file": group.file,
                "record": group.record,
                "length": group.count,
            })),
        },
        Request::WriteFileRecord(groups) => file_writes(groups),
        Request::MaskWrite { address, and, or } => mask(address, and, or),
        Request::ReadWrite { read_address, read_count, write_address, words } => fields! {
            "read_address": read_address,
            "read_quantity": read_count,
            "write_address": write_address,
            "write_quantity": words.len() as u64,
            "byte_count": words.as_bytes().len() as u64,
            "registers": registers(words),
            "consistent": true,
        },
        Request::ReadFifoQueue { address } => fields! { "fifo_pointer": address },
        Request::ReadDeviceId { level, object } => fields! {
            "mei_type": 0x0E_u8,
            "data": hex(&[level, object]),
            "read_device_id_code": level,
            "object_id": object,
        },
        Request::Encapsulated { mei, data } => fields! { "mei_type": mei, "data": hex(data) },
        Request::Unknown { data, .. } => fields! { "data": hex(data) },
    }
}

pub(super) fn response(response: &Response<'_>) -> Fields {
    match *response {
        Response::ReadBits { bits, .. } => {
            fields! { "byte_count": bits.as_bytes().len() as u64, "bits": states(bits) }
        }
        Response::ReadRegisters { words, .. } | Response::ReadWrite { words } => {
            fields! { "byte_count": words.as_bytes().len() as u64, "registers": registers(words) }
        }
        Response::WriteCoil { address, on } => fields! { "address": address, "on": on },
        Response::WriteRegister { address, value } => fields! { "address": address, "value": value },
        Response::ReadExceptionStatus { status } => fields! { "status": status, "data": hex(&[status]) },
        Response::Diagnostics { sub_function, data } => diagnostics(sub_function, data),
        Response::GetCommEventCounter { status, events } => fields! { "status": status, "event_count": events },
        Response::GetCommEventLog { status, event_count, message_count, events } => fields! {
            "byte_count": events.len() as u64 + 6,
            "status": status,
            "event_count": event_count,
            "message_count": message_count,
            "events": hex(events),
        },
        Response::WriteCoils { address, count } | Response::WriteRegisters { address, count } => {
            fields! { "address": address, "quantity": count }
        }
        Response::ReportServerId { data } => fields! { "byte_count": data.len() as u64, "data": hex(data) },
        Response::ReadFileRecord(groups) => fields! {
            "byte_count": groups.as_bytes().len() as u64,
            "groups": Node::from_iter(groups.iter().map(|words| fields! { "data": registers(words) })),
        },
        Response::WriteFileRecord(groups) => file_writes(groups),
        Response::MaskWrite { address, and, or } => mask(address, and, or),
        Response::ReadFifoQueue { words } => fields! {
            "byte_count": words.as_bytes().len() as u64 + 2,
            "fifo_count": words.len() as u64,
            "registers": registers(words),
        },
        Response::ReadDeviceId(names) => device_id(&names),
        Response::Encapsulated { mei, data } => fields! { "mei_type": mei, "data": hex(data) },
        Response::Exception { function, code } => fields! {
            "exception_of": format!("{function:02X}"),
            "exception_code": code.code(),
            "exception": exception(code),
        },
        Response::Unknown { data, .. } => fields! { "data": hex(data) },
    }
}

/// Reads what can be read of a write of several items whose counts contradict each other or its length, so that a person
/// sees which of them is wrong.
pub(super) fn contradictory(pdu: &[u8]) -> Option<Fields> {
    let &[code, a0, a1, n0, n1, byte_count, ref data @ ..] = pdu else { return None };
    let items = match code {
        function::WRITE_MULTIPLE_COILS => ("bits", states(Bits::padded(data))),
        function::WRITE_MULTIPLE_REGISTERS => ("registers", registers(Words::new(data)?)),
        _ => return None,
    };
    let mut fields = fields! {
        "address": u16::from_be_bytes([a0, a1]),
        "quantity": u16::from_be_bytes([n0, n1]),
        "byte_count": byte_count,
    };
    fields.put(items.0, items.1);
    fields.put("consistent", false);
    Some(fields)
}

fn diagnostics(sub_function: u16, data: Words<'_>) -> Fields {
    fields! { "sub_function": sub_function, "data": hex(data.as_bytes()) }
}

fn mask(address: u16, and: u16, or: u16) -> Fields {
    fields! { "address": address, "and_mask": and, "or_mask": or }
}

fn file_writes(groups: FileWrites<'_>) -> Fields {
    fields! {
        "byte_count": groups.as_bytes().len() as u64,
        "groups": Node::from_iter(groups.iter().map(|group| fields! {
            "file": group.file,
            "record": group.record,
            "length": group.words.len() as u64,
            "data": registers(group.words),
        })),
    }
}

fn device_id(names: &DeviceId<'_>) -> Fields {
    let objects: Vec<_> = names.objects.iter().collect();
    let mut data = vec![names.level, names.conformity, if names.more_follows { 0xFF } else { 0x00 }, names.next_object];
    data.extend(names.objects.as_bytes());
    fields! {
        "mei_type": 0x0E_u8,
        "data": hex(&data),
        "read_device_id_code": names.level,
        "conformity_level": names.conformity,
        "more_follows": names.more_follows,
        "next_object_id": names.next_object,
        "number_of_objects": objects.len() as u64,
        "objects": Node::from_iter(objects.iter().map(|object| fields! {
            "id": object.id,
            "length": object.value.len() as u64,
            "value": String::from_utf8_lossy(object.value).into_owned(),
        })),
    }
}

/// Names an exception code; shorter than the standard for 0x0B.
fn exception(code: ExceptionCode) -> &'static str {
    match code {
        ExceptionCode::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND => "gateway target failed to respond",
        code => code.name().unwrap_or("unassigned code"),
    }
}

fn states(bits: Bits<'_>) -> Node {
    bits.iter().map(u8::from).collect()
}

fn registers(words: Words<'_>) -> Node {
    words.iter().collect()
}

//! Read device identification, function 0x2B type 0x0E: as much of it as fits, and where to go on.

use ganglion_protocols::bytes::Writer;
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::pdu::{MAX_PDU, MEI_DEVICE_ID};

use super::map::Map;
use super::put;

/// Bytes before the objects: function, type, level, conformity, more follows, next object, count.
const HEAD: usize = 7;
/// Bytes before the text of an object: id, length.
const OBJECT_HEAD: usize = 2;
/// Most bytes of a text: so that one always fits, and the next request gets further.
const MAX_TEXT: usize = MAX_PDU - HEAD - OBJECT_HEAD;
/// Read device id code of one object.
const ONE: u8 = 4;

/// Puts what follows the function code.
///
/// A level above what the device has is answered with what it has, and a stream from an object that is not there begins at
/// object 0.
///
/// # Errors
/// `ILLEGAL_DATA_ADDRESS` when one object is asked for that is not there.
///
/// Source: Application Protocol V1.1b3 §6.21.
pub(super) fn answer(map: &dyn Map, level: u8, object: u8, out: &mut Writer<'_>) -> Result<(), ExceptionCode> {
    let has = |object: &u8| map.identification(*object).is_some();
    let (first, last) = match level {
        ONE if has(&object) => (object, object),
        ONE => return Err(ExceptionCode::ILLEGAL_DATA_ADDRESS),
        1 => (object, 0x02),
        2 => (object, 0x7F),
        _ => (object, 0xFF),
    };
    let first = if first <= last && has(&first) { first } else { 0 };

    let text = |object: u8| map.identification(object).map(|text| text.get(..MAX_TEXT).unwrap_or(text));
    let mut room = MAX_PDU.saturating_sub(HEAD);
    let (mut count, mut next) = (0_u8, None);
    for object in first..=last {
        let Some(text) = text(object) else { continue };
        match room.checked_sub(text.len().saturating_add(OBJECT_HEAD)) {
            Some(left) => (room, count) = (left, count.saturating_add(1)),
            None => {
                next = Some(object);
                break;
            }
        }
    }
    let more = if next.is_some() { 0xFF } else { 0x00 };
    put(out, &[MEI_DEVICE_ID, level, conformity(map), more, next.unwrap_or(0), count])?;
    let fitting = (first..=last).filter_map(|object| text(object).map(|text| (object, text)));
    for (object, text) in fitting.take(count.into()) {
        put(out, &[object, u8::try_from(text.len()).unwrap_or(0)])?;
        put(out, text)?;
    }
    Ok(())
}

/// Returns what the device has: basic, regular or extended objects, and each also alone.
fn conformity(map: &dyn Map) -> u8 {
    let any = |mut objects: core::ops::RangeInclusive<u8>| objects.any(|object| map.identification(object).is_some());
    if any(0x80..=0xFF) {
        0x83
    } else if any(0x03..=0x7F) {
        0x82
    } else {
        0x81
    }
}

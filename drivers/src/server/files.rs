//! File records, functions 0x14 and 0x15.

use ganglion_protocols::bytes::Writer;
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::pdu::{FileReads, FileWrites};

use super::map::{Map, RECORDS};
use super::put;

/// Most bytes of the groups of an answer, Application Protocol V1.1b3 §6.14.
const MAX_ANSWER: usize = 0xF5;
/// Bytes before the records of a group in an answer: length, reference type.
const GROUP_HEAD: usize = 2;
/// Most bytes of one group: 121 registers.
const MAX_GROUP: usize = 242;
const REFERENCE_TYPE: u8 = 6;

/// Puts what follows the function code of a read, §6.14.
///
/// # Errors
/// `ILLEGAL_DATA_ADDRESS` for records past 9999 and what the map has not; `ILLEGAL_DATA_VALUE` when the answer would be
/// longer than it may be, of which the chart of §6.14 says nothing.
pub(super) fn read(map: &dyn Map, groups: FileReads<'_>, out: &mut Writer<'_>) -> Result<(), ExceptionCode> {
    let size = |count: u16| usize::from(count).saturating_mul(2).saturating_add(GROUP_HEAD);
    let total = groups.iter().fold(0_usize, |total, group| total.saturating_add(size(group.count)));
    let Some(total) = u8::try_from(total).ok().filter(|total| usize::from(*total) <= MAX_ANSWER) else {
        return Err(ExceptionCode::ILLEGAL_DATA_VALUE);
    };
    groups.iter().try_for_each(|group| within(group.record, group.count))?;
    put(out, &[total])?;
    let mut buffer = [0; MAX_GROUP];
    for group in groups.iter() {
        let records = buffer.get_mut(..usize::from(group.count).saturating_mul(2)).unwrap_or_default();
        map.read_file(group.file, group.record, records)?;
        let len = u8::try_from(records.len()).unwrap_or(u8::MAX).saturating_add(1);
        put(out, &[len, REFERENCE_TYPE])?;
        put(out, records)?;
    }
    Ok(())
}

/// Does a write, §6.15, and puts what follows the function code: the request repeated.
///
/// # Errors
/// `ILLEGAL_DATA_ADDRESS` for records past 9999; what the map says. Only a failure of the device can leave some of the
/// groups written.
pub(super) fn write(map: &mut dyn Map, groups: FileWrites<'_>, out: &mut Writer<'_>) -> Result<(), ExceptionCode> {
    for group in groups.iter() {
        within(group.record, u16::try_from(group.words.len()).unwrap_or(u16::MAX))?;
        map.check_file(group.file, group.record, group.words)?;
    }
    for group in groups.iter() {
        map.write_file(group.file, group.record, group.words)?;
    }
    let bytes = groups.as_bytes();
    put(out, &[u8::try_from(bytes.len()).unwrap_or(u8::MAX)])?;
    put(out, bytes)
}

/// Refuses a run of records whose last is above 9999.
fn within(record: u16, count: u16) -> Result<(), ExceptionCode> {
    if record.saturating_add(count) <= RECORDS { Ok(()) } else { Err(ExceptionCode::ILLEGAL_DATA_ADDRESS) }
}

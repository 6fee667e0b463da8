//! The server's side of Modbus: a request PDU to its answer.
//!
//! Written by hand so that registers can be functions of time; checked against rmodbus as the client. Source: MODBUS
//! Application Protocol V1.1b3 §6 and §7.

use super::day::Tick;
use super::defects::{ILLEGAL_DATA_ADDRESS, Refusal};
use super::faults::Fault;
use super::unit::{Table, Unit};

const ILLEGAL_FUNCTION: Refusal = Refusal::Exception(0x01);
const ILLEGAL_DATA_VALUE: Refusal = Refusal::Exception(0x03);

/// Answers a request of function code 0x01 to 0x06, 0x0F or 0x10; anything else gets an exception. Empty when there is no
/// answer: to an empty request, or when a defect says so.
pub(super) fn answer(unit: &Unit, request: &[u8], tick: Tick, fault: Option<Fault>) -> Vec<u8> {
    let Some((&function, body)) = request.split_first() else { return Vec::new() };
    let answer = match fault {
        Some(Fault::Exception) => Err(Refusal::Exception(unit.faults.exception())),
        _ => execute(unit, function, body, tick),
    };
    let mut pdu = vec![function];
    match answer {
        Ok(answer) => pdu.extend(answer),
        Err(Refusal::Exception(code)) => pdu = vec![function | 0x80, code],
        Err(Refusal::Silence) => return Vec::new(),
    }
    if let (Some(Fault::WrongLength), 0x01..=0x04, Some(count)) = (fault, function, pdu.get(1).copied()) {
        let less = if function <= 0x02 { 1 } else { 2 };
        if count > less && pdu.len() > usize::from(count) {
            pdu.truncate(pdu.len() - usize::from(less));
            pdu[1] = count - less;
        }
    }
    pdu
}

fn execute(unit: &Unit, function: u8, body: &[u8], tick: Tick) -> Result<Vec<u8>, Refusal> {
    match function {
        0x01 => read(unit, Table::Coil, body, 2000, tick).map(|items| with_count(&pack(&items))),
        0x02 => read(unit, Table::DiscreteInput, body, 2000, tick).map(|items| with_count(&pack(&items))),
        0x03 => read(unit, Table::Holding, body, 125, tick).map(|items| with_count(&bytes(&items))),
        0x04 => read(unit, Table::Input, body, 125, tick).map(|items| with_count(&bytes(&items))),
        0x05 => match *body {
            [a, b, value @ (0x00 | 0xFF), 0x00] => {
                unit.write(Table::Coil, u16::from_be_bytes([a, b]), [u16::from(value & 1)]);
                Ok(body.to_vec())
            }
            _ => Err(ILLEGAL_DATA_VALUE),
        },
        0x06 => match *body {
            [a, b, c, d] => {
                unit.write(Table::Holding, u16::from_be_bytes([a, b]), [u16::from_be_bytes([c, d])]);
                Ok(body.to_vec())
            }
            _ => Err(ILLEGAL_DATA_VALUE),
        },
        0x0F => {
            let (address, count, data) = write_many(body, 1968, |count| count.div_ceil(8))?;
            let bit = |i: u16| data.get(usize::from(i / 8)).map_or(0, |byte| u16::from(byte >> (i % 8) & 1));
            unit.write(Table::Coil, address, (0..count).map(bit));
            Ok(body[..4].to_vec())
        }
        0x10 => {
            let (address, _, data) = write_many(body, 123, |count| count * 2)?;
            let words = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            unit.write(Table::Holding, address, words);
            Ok(body[..4].to_vec())
        }
        _ => Err(ILLEGAL_FUNCTION),
    }
}

fn read(unit: &Unit, table: Table, body: &[u8], most: u16, tick: Tick) -> Result<Vec<u16>, Refusal> {
    let &[a, b, c, d] = body else { return Err(ILLEGAL_DATA_VALUE) };
    let (address, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if !(1..=most).contains(&count) {
        return Err(ILLEGAL_DATA_VALUE);
    }
    match unit.defects.refusal(table, address, count) {
        Some(refusal) => Err(refusal),
        None => unit.read(table, address, count, tick).ok_or(ILLEGAL_DATA_ADDRESS),
    }
}

/// Takes address, count and data of a request to write several items; `size` says how many bytes the items take.
fn write_many(body: &[u8], most: u16, size: impl Fn(u16) -> u16) -> Result<(u16, u16, &[u8]), Refusal> {
    let Some((&[a, b, c, d, len], data)) = body.split_first_chunk::<5>() else { return Err(ILLEGAL_DATA_VALUE) };
    let (address, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if !(1..=most).contains(&count) || size(count) != u16::from(len) || data.len() != usize::from(len) {
        return Err(ILLEGAL_DATA_VALUE);
    }
    if address.checked_add(count - 1).is_none() {
        return Err(ILLEGAL_DATA_ADDRESS);
    }
    Ok((address, count, data))
}

/// Lowest address in the lowest bit of the first byte.
fn pack(items: &[u16]) -> Vec<u8> {
    items.chunks(8).map(|eight| eight.iter().rev().fold(0, |byte, &item| byte << 1 | u8::from(item != 0))).collect()
}

fn bytes(items: &[u16]) -> Vec<u8> {
    items.iter().flat_map(|item| item.to_be_bytes()).collect()
}

#[allow(clippy::cast_possible_truncation, reason = "at most 250 bytes: the counts are limited above")]
fn with_count(data: &[u8]) -> Vec<u8> {
    std::iter::once(data.len() as u8).chain(data.iter().copied()).collect()
}

/// Returns the CRC-16 of a serial frame, to be sent low byte first; over a frame with its CRC it is 0.
///
/// Source: MODBUS over Serial Line V1.02 §6.2.2.
#[must_use]
pub fn crc(frame: &[u8]) -> u16 {
    frame.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use rmodbus::client::ModbusRequest;
    use rmodbus::{ErrorKind, ModbusProto};

    use super::super::unit::Model;
    use super::*;

    const TICK: Tick = Tick(17_953_200_000);

    /// Lets rmodbus ask over RTU and returns its request and our framed answer.
    fn ask(unit: &Unit, make: impl FnOnce(&mut ModbusRequest, &mut Vec<u8>)) -> (ModbusRequest, Vec<u8>) {
        let mut request = ModbusRequest::new(unit.id, ModbusProto::Rtu);
        let mut frame = Vec::new();
        make(&mut request, &mut frame);
        let (body, check) = frame.split_at(frame.len() - 2);
        assert_eq!(check, crc(body).to_le_bytes());
        let mut reply = vec![unit.id];
        reply.extend(answer(unit, &body[1..], TICK, None));
        reply.extend(crc(&reply).to_le_bytes());
        (request, reply)
    }

    #[test]
    fn another_implementation_reads_the_registers_that_the_map_says() {
        let unit = Unit::new(2, Model::FlowMeter, 3);
        let (request, reply) = ask(&unit, |request, frame| request.generate_get_holdings(0, 7, frame).expect("made"));
        let mut words = Vec::new();
        request.parse_u16(&reply, &mut words).expect("a good answer");
        assert_eq!(Some(words), unit.read(Table::Holding, 0, 7, TICK));
        let unit = Unit::new(3, Model::WaterLevelGauge, 3);
        let (request, reply) = ask(&unit, |request, frame| request.generate_get_inputs(0, 4, frame).expect("made"));
        let mut words = Vec::new();
        request.parse_u16(&reply, &mut words).expect("a good answer");
        assert_eq!(Some(words), unit.read(Table::Input, 0, 4, TICK));
    }

    #[test]
    fn another_implementation_writes_and_reads_back() {
        let unit = Unit::new(1, Model::Bench { registers: 10 }, 3);
        let (request, reply) =
            ask(&unit, |request, frame| request.generate_set_holdings_bulk(3, &[7, 0xFFFE], frame).expect("made"));
        request.parse_ok(&reply).expect("written");
        assert_eq!(unit.read(Table::Holding, 3, 2, TICK), Some(vec![7, 0xFFFE]));
        let coils = [true, false, true, true, false, false, true, false, true];
        let (request, reply) =
            ask(&unit, |request, frame| request.generate_set_coils_bulk(0, &coils, frame).expect("made"));
        request.parse_ok(&reply).expect("written");
        let (request, reply) = ask(&unit, |request, frame| request.generate_get_coils(0, 9, frame).expect("made"));
        let mut read = Vec::new();
        request.parse_bool(&reply, &mut read).expect("a good answer");
        assert_eq!(read, coils);
        let (request, reply) = ask(&unit, |request, frame| request.generate_set_holding(4, 5, frame).expect("made"));
        request.parse_ok(&reply).expect("written");
        assert_eq!(unit.read(Table::Holding, 4, 1, TICK), Some(vec![5]));
    }

    #[test]
    fn another_implementation_sees_the_exception_for_an_address_outside() {
        let unit = Unit::new(2, Model::FlowMeter, 3);
        let (request, reply) = ask(&unit, |request, frame| request.generate_get_holdings(90, 3, frame).expect("made"));
        let mut words: Vec<u16> = Vec::new();
        assert_eq!(request.parse_u16(&reply, &mut words), Err(ErrorKind::IllegalDataAddress));
    }

    #[test]
    fn bad_requests_get_the_exception_of_the_standard() {
        let unit = Unit::new(2, Model::Bench { registers: 2000 }, 3);
        let refused = |request: &[u8]| answer(&unit, request, TICK, None);
        assert_eq!(refused(&[0x03, 0, 0, 0, 0]), [0x83, 0x03]);
        assert_eq!(refused(&[0x03, 0, 0, 0, 126]), [0x83, 0x03]);
        assert_eq!(refused(&[0x03, 0, 0]), [0x83, 0x03]);
        assert_eq!(refused(&[0x2B, 0x0E]), [0xAB, 0x01]);
        assert_eq!(refused(&[0x10, 0xFF, 0xFF, 0, 2, 4, 0, 1, 0, 2]), [0x90, 0x02]);
        assert_eq!(refused(&[0x0F, 0, 0, 0, 9, 1, 0xFF]), [0x8F, 0x03]);
        assert!(refused(&[]).is_empty());
    }

    #[test]
    fn defects_refuse_a_read_for_its_length_and_for_a_hole() {
        let unit = Unit::new(2, Model::Named { registers: 100 }, 3);
        unit.defects.add_hole(Table::Holding, 5..=5);
        unit.defects.set_longest(16, Refusal::Exception(3));
        let read = |address, count| answer(&unit, &[0x03, 0, address, 0, count], TICK, None);
        assert_eq!(read(0, 6), [0x83, 0x02]);
        assert_eq!(read(6, 17), [0x83, 0x03]);
        assert_eq!(read(6, 16)[..2], [0x03, 32]);
        unit.defects.set_longest(16, Refusal::Silence);
        assert!(read(6, 17).is_empty());
    }

    #[test]
    fn a_wrong_length_is_well_formed_and_one_register_short() {
        let unit = Unit::new(2, Model::FlowMeter, 3);
        let pdu = answer(&unit, &[0x03, 0, 0, 0, 4], TICK, Some(Fault::WrongLength));
        assert_eq!((pdu.len(), pdu[1]), (8, 6));
    }

    #[test]
    fn the_check_is_that_of_the_standard() {
        assert_eq!(crc(&[0x01, 0x03, 0x00, 0x00, 0x00, 0x02]).to_le_bytes(), [0xC4, 0x0B]);
    }
}

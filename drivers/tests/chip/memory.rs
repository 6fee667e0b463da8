//! FRAM and EEPROM.

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
use ganglion_drivers::chip::fram::{self, Kind, Memory, MemoryError};
use proptest::prelude::*;

const BUSY: ErrorKind = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);

/// Writes to a place, as the bus sees it.
fn written(at: u16, bytes: &[u8]) -> Vec<Transaction> {
    vec![
        Transaction::transaction_start(0x50),
        Transaction::write(0x50, at.to_be_bytes().to_vec()),
        Transaction::write(0x50, bytes.to_vec()),
        Transaction::transaction_end(0x50),
    ]
}

#[test]
fn fram_is_written_in_one_go_and_not_waited_for() {
    let mut bus = Mock::new(&written(0x0123, &[7; 200]));
    assert_eq!(Memory::new(bus.clone(), fram::ADDRESS, Kind::MB85RC256V).write(0x0123, &[7; 200]), Ok(()));
    bus.done();
}

#[test]
fn it_is_read_from_a_place_of_two_bytes() {
    let mut bus = Mock::new(&[Transaction::write_read(0x50, vec![0x7F, 0xFE], vec![1, 2])]);
    let mut bytes = [0; 2];
    assert_eq!(Memory::new(bus.clone(), fram::ADDRESS, Kind::MB85RC256V).read(0x7FFE, &mut bytes), Ok(()));
    assert_eq!(bytes, [1, 2]);
    bus.done();
}

#[test]
fn eeprom_is_written_page_by_page_and_each_is_waited_for() {
    let asked = |at: u16| Transaction::write(0x50, at.to_be_bytes().to_vec());
    let expected = [
        vec![asked(62)],
        written(62, &[1, 2]),
        vec![asked(62).with_error(BUSY), asked(62).with_error(BUSY), asked(62)],
        written(64, &[3]),
        vec![asked(64)],
    ]
    .concat();
    let mut bus = Mock::new(&expected);
    assert_eq!(Memory::new(bus.clone(), fram::ADDRESS, Kind::AT24C256).write(62, &[1, 2, 3]), Ok(()));
    bus.done();
}

#[test]
fn a_page_that_is_never_written_is_said() {
    let idle = Transaction::write(0x50, vec![0, 0]);
    let asked = idle.clone().with_error(BUSY);
    let mut bus = Mock::new(&[vec![idle], written(0, &[1]), vec![asked.clone(), asked]].concat());
    let mut memory = Memory::new(bus.clone(), fram::ADDRESS, Kind { patience: 2, ..Kind::AT24C256 });
    assert_eq!(memory.write(0, &[1]), Err(MemoryError::StillWriting { at: 0 }));
    bus.done();
}

#[test]
fn a_bus_that_fails_while_a_page_is_waited_for_is_not_asked_again() {
    let idle = Transaction::write(0x50, vec![0, 0]);
    let failed = idle.clone().with_error(ErrorKind::ArbitrationLoss);
    let mut bus = Mock::new(&[vec![idle], written(0, &[1]), vec![failed]].concat());
    let outcome = Memory::new(bus.clone(), fram::ADDRESS, Kind::AT24C256).write(0, &[1]);
    assert_eq!(outcome, Err(MemoryError::Bus(ErrorKind::ArbitrationLoss)));
    bus.done();
}

#[test]
fn an_eeprom_that_still_writes_what_came_before_a_reset_is_waited_for() {
    let asked = Transaction::write(0x50, vec![0, 9]);
    let mut bus = Mock::new(&[
        asked.clone().with_error(BUSY),
        asked.clone().with_error(BUSY),
        asked,
        Transaction::write_read(0x50, vec![0, 9], vec![7]),
        Transaction::write_read(0x50, vec![0, 8], vec![6]),
    ]);
    let mut memory = Memory::new(bus.clone(), fram::ADDRESS, Kind::AT24C256);
    let mut byte = [0];
    assert_eq!((memory.read(9, &mut byte), byte), (Ok(()), [7]));
    assert_eq!((memory.read(8, &mut byte), byte), (Ok(()), [6]));
    bus.done();
}

#[test]
fn what_lies_behind_the_end_is_neither_read_nor_written() {
    let mut bus = Mock::new(&[]);
    let mut memory = Memory::new(bus.clone(), fram::ADDRESS, Kind::MB85RC256V);
    assert_eq!(memory.write(0x7FFF, &[1, 2]), Err(MemoryError::OutOfRange { at: 0x7FFF, len: 2 }));
    assert_eq!(memory.read(0x8000, &mut [0]), Err(MemoryError::OutOfRange { at: 0x8000, len: 1 }));
    assert_eq!(memory.write(0x8000, &[]), Ok(()));
    bus.done();
}

/// An EEPROM that turns round within a page, as real ones do, and is busy for a while after each.
struct Eeprom {
    kept: Vec<u8>,
    at: usize,
    busy: u16,
}

impl ErrorType for Eeprom {
    type Error = ErrorKind;
}

impl I2c for Eeprom {
    fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        if self.busy > 0 {
            self.busy -= 1;
            return Err(BUSY);
        }
        let mut came = Vec::new();
        for operation in operations {
            match operation {
                Operation::Write(bytes) => came.extend_from_slice(bytes),
                Operation::Read(bytes) => {
                    self.at = usize::from(u16::from_be_bytes([came[0], came[1]]));
                    bytes.copy_from_slice(&self.kept[self.at..][..bytes.len()]);
                }
            }
        }
        let (at, data) = (usize::from(u16::from_be_bytes([came[0], came[1]])), &came[2..]);
        for (place, byte) in data.iter().enumerate() {
            self.kept[at / 64 * 64 + (at + place) % 64] = *byte;
        }
        self.busy = if data.is_empty() { 0 } else { 20 };
        Ok(())
    }
}

proptest! {
    #[test]
    fn an_eeprom_keeps_what_was_written_where_it_was_written(
        writes in prop::collection::vec((0..900_u16, prop::collection::vec(any::<u8>(), 0..200)), 1..10),
    ) {
        let mut model = vec![0xFF; 1_024];
        let eeprom = Eeprom { kept: model.clone(), at: 0, busy: 0 };
        let mut memory = Memory::new(eeprom, fram::ADDRESS, Kind { capacity: 1_024, ..Kind::AT24C256 });
        for (at, bytes) in &writes {
            if let Some(place) = model.get_mut(usize::from(*at)..usize::from(*at) + bytes.len()) {
                place.copy_from_slice(bytes);
                prop_assert_eq!(memory.write(*at, bytes), Ok(()));
            } else {
                prop_assert_eq!(memory.write(*at, bytes), Err(MemoryError::OutOfRange { at: *at, len: bytes.len() }));
            }
        }
        let mut kept = vec![0; 1_024];
        prop_assert_eq!(memory.read(0, &mut kept), Ok(()));
        prop_assert_eq!(kept, model);
    }
}

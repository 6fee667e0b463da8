//! Thermometers and the accelerometer, byte for byte on the bus.

use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
use ganglion_drivers::chip::ChipError::{self, Bus, Checksum, NotReady, Unexpected};
use ganglion_drivers::chip::lis2dh::{self, Lis2dh};
use ganglion_drivers::chip::sht3x::{self, Climate, Sht3x};
use ganglion_drivers::chip::tilt::Vector;
use ganglion_drivers::chip::tmp105::{self, Tmp105};
use ganglion_protocols::node_link::SensorFault;

use super::{ms, us};

const NOBODY: ErrorKind = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);

/// A read of so many registers from this one.
fn write_read(address: u8, register: u8, values: &[u8]) -> Transaction {
    Transaction::write_read(address, vec![register], values.to_vec())
}

/// Starts at 10 ms and reads these bytes 15.5 ms later.
fn sht3x(bytes: [u8; 6]) -> Result<Climate, ChipError<ErrorKind>> {
    let mut bus = Mock::new(&[Transaction::write(0x44, vec![0x24, 0x00]), Transaction::read(0x44, bytes.to_vec())]);
    let mut chip = Sht3x::new(bus.clone(), sht3x::ADDRESS);
    let ready = chip.start(ms(10)).unwrap();
    assert_eq!(ready, us(25_500));
    let climate = chip.read(ready);
    bus.done();
    climate
}

#[test]
fn sht3x_measures_once_and_is_read_when_it_is_done() {
    // 0xBEEF and its checksum are the datasheet's: 175 * 48879 / 65535 - 45 = 85.52, 100 * 48879 / 65535 = 74.58.
    let climate = sht3x([0xBE, 0xEF, 0x92, 0xBE, 0xEF, 0x92]).unwrap();
    assert_eq!(climate, Climate { temperature: 8_552, humidity: 7_458 });
}

#[test]
fn sht3x_at_the_ends_of_its_words_says_the_ends_of_its_ranges() {
    assert_eq!(sht3x([0, 0, 0x81, 0, 0, 0x81]), Ok(Climate { temperature: -4_500, humidity: 0 }));
    assert_eq!(sht3x([0xFF, 0xFF, 0xAC, 0xFF, 0xFF, 0xAC]), Ok(Climate { temperature: 13_000, humidity: 10_000 }));
}

#[test]
fn sht3x_with_either_checksum_wrong_says_nothing() {
    let wrong = Checksum { got: 0x93, expected: 0x92 };
    assert_eq!(sht3x([0xBE, 0xEF, 0x93, 0xBE, 0xEF, 0x92]), Err(wrong));
    assert_eq!(sht3x([0xBE, 0xEF, 0x92, 0xBE, 0xEF, 0x93]), Err(wrong));
    assert_eq!(wrong.fault(), SensorFault::BadAnswer);
}

#[test]
fn sht3x_is_not_asked_before_it_is_done_or_twice() {
    let mut bus = Mock::new(&[
        Transaction::write(0x44, vec![0x24, 0x00]),
        Transaction::read(0x44, vec![0xBE, 0xEF, 0x92, 0xBE, 0xEF, 0x92]),
    ]);
    let mut chip = Sht3x::new(bus.clone(), sht3x::ADDRESS);
    assert_eq!(chip.read(ms(0)), Err(NotReady));
    chip.start(ms(0)).unwrap();
    assert_eq!(chip.read(us(15_499)), Err(NotReady));
    assert!(chip.read(us(15_500)).is_ok());
    assert_eq!(chip.read(ms(100)), Err(NotReady));
    assert_eq!(chip.read(ms(100)).unwrap_err().fault(), SensorFault::NoSample);
    bus.done();
}

#[test]
fn a_chip_that_is_not_there_does_not_answer() {
    let mut bus = Mock::new(&[Transaction::write(0x44, vec![0x24, 0x00]).with_error(NOBODY)]);
    let mut chip = Sht3x::new(bus.clone(), sht3x::ADDRESS);
    assert_eq!(chip.start(ms(0)), Err(Bus(NOBODY)));
    assert_eq!(chip.read(ms(100)), Err(NotReady));
    assert_eq!(Bus(NOBODY).fault(), SensorFault::NoAnswer);
    bus.done();
}

#[test]
fn tmp105_is_set_to_12_bits_and_read_back() {
    let set = Transaction::write(0x48, vec![0x01, 0x60]);
    // OS reads as 1 or 0.
    for (setting, outcome) in [
        (0x60, Ok(())),
        (0xE0, Ok(())),
        (0x00, Err(Unexpected { got: 0x00, expected: 0x60 })),
        (0x61, Err(Unexpected { got: 0x61, expected: 0x60 })),
    ] {
        let mut bus = Mock::new(&[set.clone(), write_read(0x48, 0x01, &[setting])]);
        assert_eq!(Tmp105::new(bus.clone(), tmp105::ADDRESS).init(), outcome);
        bus.done();
    }
}

#[test]
fn tmp105_says_the_temperatures_of_its_datasheet() {
    // SLLS648D, table 5; 23.5 °C is 376 sixteenths.
    for (code, sixteenths, centidegrees) in [
        (0x7FF, 2_047, 12_794),
        (0x640, 1_600, 10_000),
        (0x4B0, 1_200, 7_500),
        (0x190, 400, 2_500),
        (0x178, 376, 2_350),
        (0x004, 4, 25),
        (0x001, 1, 6),
        (0x000, 0, 0),
        (0xFFC, -4, -25),
        (0xE70, -400, -2_500),
        (0xC90, -880, -5_500),
        (0x800, -2_048, -12_800),
    ] {
        let word = u16::to_be_bytes(code << 4);
        let mut bus = Mock::new(&[write_read(0x48, 0x00, &word), write_read(0x48, 0x00, &word)]);
        let mut chip = Tmp105::new(bus.clone(), tmp105::ADDRESS);
        assert_eq!((chip.sixteenths(), chip.centidegrees()), (Ok(sixteenths), Ok(centidegrees)), "{code:#05X}");
        bus.done();
    }
}

#[test]
fn tmp105_of_all_ones_is_no_temperature() {
    let mut bus = Mock::new(&[write_read(0x48, 0x00, &[0xFF, 0xFF])]);
    let outcome = Tmp105::new(bus.clone(), tmp105::ADDRESS).sixteenths();
    assert_eq!(outcome, Err(Unexpected { got: 0x0F, expected: 0 }));
    bus.done();
}

#[test]
fn two_chips_share_a_bus_by_turns() {
    let mut bus = Mock::new(&[write_read(0x48, 0x00, &[0x19, 0x00]), write_read(0x49, 0x00, &[0x32, 0x00])]);
    assert_eq!(Tmp105::new(&mut bus, 0x48).sixteenths(), Ok(400));
    assert_eq!(Tmp105::new(&mut bus, 0x49).sixteenths(), Ok(800));
    bus.done();
}

#[test]
fn lis2dh_is_known_by_its_name_and_set_to_10_hz_at_high_resolution() {
    let mut bus = Mock::new(&[
        write_read(0x18, 0x0F, &[0x33]),
        Transaction::write(0x18, vec![0x23, 0x88]),
        write_read(0x18, 0x23, &[0x88]),
        Transaction::write(0x18, vec![0x20, 0x27]),
        write_read(0x18, 0x20, &[0x27]),
    ]);
    assert_eq!(Lis2dh::new(bus.clone(), lis2dh::ADDRESS).init(), Ok(()));
    bus.done();
}

#[test]
fn lis2dh_of_another_name_is_not_set() {
    let mut bus = Mock::new(&[write_read(0x18, 0x0F, &[0x44])]);
    let outcome = Lis2dh::new(bus.clone(), lis2dh::ADDRESS).init();
    assert_eq!(outcome, Err(Unexpected { got: 0x44, expected: 0x33 }));
    bus.done();
}

#[test]
fn lis2dh_says_milli_g_of_all_axes() {
    // ±2 g of high resolution: 1 mg is 0x0010.
    let bytes = [0x0F, 0xE0, 0x15, 0x20, 0xEA, 0x80, 0x3E];
    let mut bus = Mock::new(&[write_read(0x18, 0xA7, &bytes)]);
    assert_eq!(Lis2dh::new(bus.clone(), lis2dh::ADDRESS).read(), Ok(Vector { x: 350, y: -350, z: 1_000 }));
    bus.done();
}

#[test]
fn lis2dh_without_a_new_measurement_says_none() {
    let mut bus = Mock::new(&[write_read(0x18, 0xA7, &[0x07, 0, 0, 0, 0, 0, 0]), write_read(0x18, 0xA7, &[0xFF; 7])]);
    let mut chip = Lis2dh::new(bus.clone(), lis2dh::ADDRESS);
    assert_eq!(chip.read(), Err(NotReady));
    assert_eq!(chip.read(), Err(Unexpected { got: 0x0F, expected: 0 }));
    bus.done();
}

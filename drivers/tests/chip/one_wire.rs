//! The one-wire thermometer, on a line in virtual time that goes by how long it is low.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};
use embedded_hal_mock::eh1::MockError;
use embedded_hal_mock::eh1::delay::NoopDelay;
use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};
use ganglion_drivers::chip::ChipError::{self, Bus, Checksum, NotReady, Unexpected};
use ganglion_drivers::chip::ds18b20::{Ds18b20, Rom};
use ganglion_drivers::chip::one_wire::{BitBang, OneWire};
use ganglion_protocols::node_link::SensorFault;

use super::ms;

/// A ROM with its checksum, from the application note on CRC (27): 02 1C B8 01 00 00 00 has A2. This is of another family.
const NOT_A_THERMOMETER: [u8; 8] = [0x02, 0x1C, 0xB8, 0x01, 0x00, 0x00, 0x00, 0xA2];
const ROM: [u8; 8] = [0x28, 0xFF, 0x4B, 0x46, 0x7F, 0xFF, 0x0C, 0x10];

/// 25.0625 °C, 12 bits.
const WARM: [u8; 8] = [0x91, 0x01, 0x4B, 0x46, 0x7F, 0xFF, 0x0C, 0x10];

/// One-wire CRC-8, bit by bit.
fn crc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc: u8, _| if crc & 1 == 1 { (crc >> 1) ^ 0x8C } else { crc >> 1 })
    })
}

fn with_crc(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[crc(bytes)]].concat()
}

/// A chip on its line.
#[derive(Default)]
struct Line {
    now_ns: u64,
    /// Since when the server pulls it low.
    fell: Option<u64>,
    /// Until when the chip does, and from when.
    pulled: (u64, u64),
    /// Bits written since the last reset, and bits still to say.
    heard: Vec<bool>,
    to_say: Vec<bool>,
    chip: Chip,
}

#[derive(Default)]
struct Chip {
    absent: bool,
    shorted: bool,
    rom: Vec<u8>,
    scratchpad: Vec<u8>,
    conversions: u32,
}

#[derive(Clone, Default)]
struct Wire(Rc<RefCell<Line>>);

impl Wire {
    fn new(rom: &[u8], scratchpad: &[u8]) -> Self {
        let wire = Self::default();
        wire.0.borrow_mut().chip = Chip { rom: rom.to_vec(), scratchpad: scratchpad.to_vec(), ..Chip::default() };
        wire
    }

    fn bus(&self) -> BitBang<Self, Self> {
        BitBang::new(self.clone(), self.clone())
    }
}

impl Line {
    fn fall(&mut self) {
        self.fell = Some(self.now_ns);
        // A chip with something to say holds a 0 for 15 to 60 µs from the edge.
        if self.to_say.first() == Some(&false) {
            self.pulled = (self.now_ns, self.now_ns + 30_000);
        }
    }

    fn rise(&mut self) {
        let Some(fell) = self.fell.take() else { return };
        match (self.now_ns - fell) / 1_000 {
            480.. => {
                self.heard.clear();
                self.to_say.clear();
                if !self.chip.absent {
                    self.pulled = (self.now_ns + 30_000, self.now_ns + 150_000);
                }
            }
            low @ (1..15 | 60..120) => {
                if self.to_say.is_empty() {
                    self.heard.push(low < 15);
                    self.obey();
                } else {
                    assert!(low < 15, "a slot to read begins with a short low");
                    self.to_say.remove(0);
                }
            }
            low => panic!("{low} µs is neither a bit nor a reset"),
        }
    }

    fn obey(&mut self) {
        if self.chip.absent || !self.heard.len().is_multiple_of(8) {
            return;
        }
        let bytes: Vec<u8> = self
            .heard
            .chunks(8)
            .map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit)))
            .collect();
        let say =
            |bytes: &[u8]| bytes.iter().flat_map(|byte| (0..8).map(move |place| byte >> place & 1 == 1)).collect();
        let matched = [&[0x55], &self.chip.rom[..]].concat();
        match bytes.strip_prefix(&[0xCC]).or_else(|| bytes.strip_prefix(&matched[..])).unwrap_or(&bytes) {
            [0x33] => self.to_say = say(&self.chip.rom),
            [0x44] => self.chip.conversions += 1,
            [0xBE] => self.to_say = say(&self.chip.scratchpad),
            _ => {}
        }
    }
}

impl ErrorType for Wire {
    type Error = Infallible;
}

impl OutputPin for Wire {
    fn set_low(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().fall();
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Infallible> {
        self.0.borrow_mut().rise();
        Ok(())
    }
}

impl InputPin for Wire {
    fn is_high(&mut self) -> Result<bool, Infallible> {
        let line = self.0.borrow();
        let (from, until) = line.pulled;
        Ok(!line.chip.shorted && line.fell.is_none() && !(from..until).contains(&line.now_ns))
    }

    fn is_low(&mut self) -> Result<bool, Infallible> {
        self.is_high().map(|high| !high)
    }
}

impl DelayNs for Wire {
    fn delay_ns(&mut self, ns: u32) {
        self.0.borrow_mut().now_ns += u64::from(ns);
    }
}

type Outcome = Result<i16, ChipError<Option<Infallible>>>;

/// Returns what a chip with this scratchpad says.
fn read(scratchpad: &[u8]) -> Outcome {
    let mut bus = Wire::new(&ROM, scratchpad).bus();
    let mut chip = Ds18b20::new(None);
    let ready = chip.start(&mut bus, ms(0)).unwrap();
    chip.read(&mut bus, ready)
}

/// Returns what it says at this many sixteenths of a degree.
fn at(sixteenths: i16) -> Outcome {
    let [low, high] = sixteenths.to_le_bytes();
    read(&with_crc(&[&[low, high], &WARM[2..]].concat()))
}

#[test]
fn the_checksum_is_that_of_the_application_note() {
    assert_eq!(with_crc(&NOT_A_THERMOMETER[..7]), NOT_A_THERMOMETER);
}

#[test]
fn a_thermometer_says_the_temperatures_of_its_datasheet() {
    for (sixteenths, centidegrees) in [
        (0x07D0, 12_500),
        (0x0191, 2_506),
        (0x00A2, 1_013),
        (0x0008, 50),
        (0x0000, 0),
        (-0x0008, -50),
        (-0x00A2, -1_012),
        (-0x0191, -2_506),
        (-0x0370, -5_500),
    ] {
        assert_eq!(at(sixteenths), Ok(centidegrees), "{sixteenths:#06X}");
    }
}

#[test]
fn a_thermometer_that_lost_its_power_has_no_temperature() {
    assert_eq!(at(0x0550), Err(NotReady));
    assert_eq!(at(0x0551), Ok(8_506));
}

#[test]
fn a_conversion_is_waited_for_and_read_once() {
    let wire = Wire::new(&ROM, &with_crc(&WARM));
    let mut bus = wire.bus();
    let mut chip = Ds18b20::new(None);
    assert_eq!(chip.read(&mut bus, ms(0)), Err(NotReady));
    assert_eq!(chip.start(&mut bus, ms(10)), Ok(ms(760)));
    assert_eq!(chip.read(&mut bus, ms(759)), Err(NotReady));
    assert_eq!(chip.read(&mut bus, ms(760)), Ok(2_506));
    assert_eq!(chip.read(&mut bus, ms(761)), Err(NotReady));
    assert_eq!(wire.0.borrow().chip.conversions, 1);
}

#[test]
fn a_chip_is_called_by_its_name() {
    let mut rom = ROM;
    rom[7] = crc(&ROM[..7]);
    let mut bus = Wire::new(&rom, &with_crc(&WARM)).bus();
    let name = Rom::read(&mut bus).unwrap();
    assert_eq!(name.bytes(), rom);
    let mut chip = Ds18b20::new(Some(name));
    let ready = chip.start(&mut bus, ms(0)).unwrap();
    assert_eq!(chip.read(&mut bus, ready), Ok(2_506));
    let mut elsewhere = Wire::new(&ROM, &with_crc(&WARM)).bus();
    let ready = chip.start(&mut elsewhere, ms(0)).unwrap();
    assert_eq!(chip.read(&mut elsewhere, ready), Err(Checksum { got: 0xFF, expected: crc(&[0xFF; 8]) }));
}

#[test]
fn a_name_has_a_checksum_and_a_family() {
    assert_eq!(Rom::new::<()>(NOT_A_THERMOMETER), Err(Unexpected { got: 0x02, expected: 0x28 }));
    let mut spoilt = ROM;
    spoilt[7] = crc(&ROM[..7]) ^ 1;
    assert_eq!(Rom::new::<()>(spoilt), Err(Checksum { got: spoilt[7], expected: spoilt[7] ^ 1 }));
}

#[test]
fn a_spoilt_scratchpad_and_one_of_zeros_are_no_temperature() {
    let mut spoilt = with_crc(&WARM);
    spoilt[0] ^= 4;
    assert_eq!(read(&spoilt).unwrap_err().fault(), SensorFault::BadAnswer);
    assert_eq!(read(&[0; 9]), Err(Unexpected { got: 0, expected: 0x1F }));
}

#[test]
fn without_a_chip_or_with_the_line_shorted_nobody_is_there() {
    for chip in [Chip { absent: true, ..Chip::default() }, Chip { shorted: true, ..Chip::default() }] {
        let wire = Wire::default();
        wire.0.borrow_mut().chip = chip;
        let outcome = Ds18b20::new(None).start(&mut wire.bus(), ms(0));
        assert_eq!(outcome, Err(Bus(None)));
        assert_eq!(outcome.unwrap_err().fault(), SensorFault::NoAnswer);
    }
}

#[test]
fn a_pin_that_fails_is_the_buss_error() {
    let failed = MockError::Io(std::io::ErrorKind::Other);
    let mut pin = Mock::new(&[Transaction::set(State::Low).with_error(failed.clone())]);
    let mut bus = BitBang::new(pin.clone(), NoopDelay::new());
    assert_eq!(bus.reset(), Err(failed));
    pin.done();
}

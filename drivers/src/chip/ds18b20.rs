//! Analog Devices (Maxim) DS18B20: temperature on one wire.
//!
//! [`start`](Ds18b20::start) tells it to convert, [`read`](Ds18b20::read) fetches the result; the waiting is the caller's.
//!
//! Source: DS18B20 datasheet, 19-7487 Rev 6 (7/19), sections as cited.

use core::time::Duration;

use super::one_wire::{CRC, OneWire};
use super::{ChipError, centidegrees, expect_bits, expect_checksum};

/// How long a conversion of 12 bits takes at most (electrical characteristics, t_CONV).
pub const CONVERTING: Duration = Duration::from_millis(750);

/// The family code in each ROM ("64-Bit Lasered ROM Code").
const FAMILY: u8 = 0x28;

/// ROM commands and function commands ("ROM Commands", "DS18B20 Function Commands").
const READ_ROM: u8 = 0x33;
const MATCH_ROM: u8 = 0x55;
const SKIP_ROM: u8 = 0xCC;
const CONVERT: u8 = 0x44;
const READ_SCRATCHPAD: u8 = 0xBE;

/// What the temperature register says before the first conversion, 85 °C ("Operation—Measuring Temperature").
const POWER_ON: i16 = 0x0550;

/// The name of one chip: its 64-bit ROM, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rom([u8; 8]);

/// Why a one-wire chip gave no value.
pub type OneWireError<B> = ChipError<Option<<B as OneWire>::Error>>;

/// One chip, with power by its own wire. Times are durations since any one start, the same for every call.
#[derive(Debug)]
pub struct Ds18b20 {
    rom: Option<Rom>,
    ready: Option<Duration>,
}

impl Rom {
    /// Takes the eight bytes of a ROM, family code first.
    ///
    /// # Errors
    /// [`ChipError::Checksum`], [`ChipError::Unexpected`] for another family.
    pub fn new<E>(bytes: [u8; 8]) -> Result<Self, ChipError<E>> {
        let [family, a, b, c, d, e, f, crc] = bytes;
        expect_checksum(crc, CRC.checksum(&[family, a, b, c, d, e, f]))?;
        expect_bits(family, 0xFF, FAMILY)?;
        Ok(Self(bytes))
    }

    /// Reads the name of the only chip of a bus, to write it down when a node is commissioned.
    ///
    /// # Errors
    /// [`ChipError::Bus`] with `None` when nobody is there, and those of [`Rom::new`]; a wrong checksum also means several
    /// chips.
    pub fn read<B: OneWire>(bus: &mut B) -> Result<Self, OneWireError<B>> {
        reset(bus)?;
        let mut bytes = [0; 8];
        bus.write(&[READ_ROM]).and_then(|()| bus.read(&mut bytes)).map_err(failed)?;
        Self::new(bytes)
    }

    /// Returns its eight bytes.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 8] {
        self.0
    }
}

impl Ds18b20 {
    /// Talks to the chip of this name; without one, to the only chip of its bus.
    #[must_use]
    pub const fn new(rom: Option<Rom>) -> Self {
        Self { rom, ready: None }
    }

    /// Starts a conversion and returns when it can be read.
    ///
    /// # Errors
    /// [`ChipError::Bus`]; with `None` when nobody is there.
    pub fn start<B: OneWire>(&mut self, bus: &mut B, now: Duration) -> Result<Duration, OneWireError<B>> {
        self.ready = None;
        self.address(bus)?;
        bus.write(&[CONVERT]).map_err(failed)?;
        let ready = now.saturating_add(CONVERTING);
        self.ready = Some(ready);
        Ok(ready)
    }

    /// Reads the temperature in 0.01 °C, once: -5500 to 12500.
    ///
    /// # Errors
    /// [`ChipError::NotReady`] before a start or too soon after it; also for 85 °C sharp, which a chip says that has lost its
    /// power since. [`ChipError::Bus`]; with `None` when nobody is there. [`ChipError::Checksum`], and
    /// [`ChipError::Unexpected`] for a line held low, whose zeros have the right checksum.
    pub fn read<B: OneWire>(&mut self, bus: &mut B, now: Duration) -> Result<i16, OneWireError<B>> {
        if self.ready.is_none_or(|ready| now < ready) {
            return Err(ChipError::NotReady);
        }
        self.ready = None;
        self.address(bus)?;
        let mut bytes = [0; 9];
        bus.write(&[READ_SCRATCHPAD]).and_then(|()| bus.read(&mut bytes)).map_err(failed)?;
        // "Memory": temperature, alarm limits, configuration, three reserved bytes, CRC.
        let [low, high, t_high, t_low, configuration, a, b, c, crc] = bytes;
        expect_checksum(crc, CRC.checksum(&[low, high, t_high, t_low, configuration, a, b, c]))?;
        // "Configuration Register": 0 R1 R0 1 1 1 1 1.
        expect_bits(configuration, 0x9F, 0x1F)?;
        match i16::from_le_bytes([low, high]) {
            POWER_ON => Err(ChipError::NotReady),
            sixteenths => Ok(centidegrees(sixteenths)),
        }
    }

    /// Resets the bus and says who is meant.
    fn address<B: OneWire>(&self, bus: &mut B) -> Result<(), OneWireError<B>> {
        reset(bus)?;
        match self.rom {
            Some(rom) => bus.write(&[MATCH_ROM]).and_then(|()| bus.write(&rom.bytes())),
            None => bus.write(&[SKIP_ROM]),
        }
        .map_err(failed)
    }
}

fn reset<B: OneWire>(bus: &mut B) -> Result<(), OneWireError<B>> {
    if bus.reset().map_err(failed)? { Ok(()) } else { Err(ChipError::Bus(None)) }
}

const fn failed<E>(error: E) -> ChipError<Option<E>> {
    ChipError::Bus(Some(error))
}

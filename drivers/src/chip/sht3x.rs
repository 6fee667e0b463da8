//! Sensirion SHT30, SHT31, SHT35: temperature and relative humidity on I2C.
//!
//! One measurement at a time, without clock stretching: [`start`](Sht3x::start), and [`read`](Sht3x::read) when it is done.
//!
//! Source: Sensirion, Datasheet SHT3x-DIS, version 5 (May 2018), clauses as cited.

use core::time::Duration;

use crc::{CRC_8_NRSC_5, Crc, NoTable};
use embedded_hal::i2c::{I2c, SevenBitAddress};

use super::{ChipError, expect_checksum};

/// Address with the ADDR pin low; 0x45 with it high (table 8).
pub const ADDRESS: SevenBitAddress = 0x44;

/// How long a measurement of high repeatability takes at most, at the lowest supply voltage (§2, timing specifications).
pub const MEASURING: Duration = Duration::from_micros(15_500);

/// Single shot, high repeatability, no clock stretching (§4.3, table 9).
const SINGLE_SHOT: [u8; 2] = [0x24, 0x00];

/// Polynomial 0x31, start 0xFF, nothing reflected (§4.12, table 20): 0xBEEF has 0x92.
const CRC: Crc<u8, NoTable> = Crc::<u8, NoTable>::new(&CRC_8_NRSC_5);

/// One chip. Times are durations since any one start, the same for every call.
#[derive(Debug)]
pub struct Sht3x<I2C> {
    i2c: I2C,
    address: SevenBitAddress,
    ready: Option<Duration>,
}

/// What it measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Climate {
    /// In 0.01 °C: -4500 to 13000.
    pub temperature: i16,
    /// In 0.01 % relative humidity: 0 to 10000.
    pub humidity: u16,
}

impl<I2C: I2c> Sht3x<I2C> {
    /// Talks to the chip at `address`.
    pub const fn new(i2c: I2C, address: SevenBitAddress) -> Self {
        Self { i2c, address, ready: None }
    }

    /// Starts a measurement and returns when it can be read.
    ///
    /// # Errors
    /// [`ChipError::Bus`].
    pub fn start(&mut self, now: Duration) -> Result<Duration, ChipError<I2C::Error>> {
        self.ready = None;
        self.i2c.write(self.address, &SINGLE_SHOT)?;
        let ready = now.saturating_add(MEASURING);
        self.ready = Some(ready);
        Ok(ready)
    }

    /// Reads what was measured, once.
    ///
    /// # Errors
    /// [`ChipError::NotReady`] before a start or too soon after it, [`ChipError::Bus`], also where the chip lost its power in
    /// between, [`ChipError::Checksum`]. But for the first, the measurement is gone and another must be started.
    pub fn read(&mut self, now: Duration) -> Result<Climate, ChipError<I2C::Error>> {
        if self.ready.is_none_or(|ready| now < ready) {
            return Err(ChipError::NotReady);
        }
        self.ready = None;
        let mut bytes = [0; 6];
        self.i2c.read(self.address, &mut bytes)?;
        let [t_high, t_low, t_crc, h_high, h_low, h_crc] = bytes;
        let temperature = checked([t_high, t_low], t_crc)?;
        let humidity = checked([h_high, h_low], h_crc)?;
        // §4.13: T = -45 + 175 S / (2^16 - 1), RH = 100 S / (2^16 - 1).
        let temperature = i16::try_from(share(17_500, temperature).saturating_sub(4500)).unwrap_or(i16::MAX);
        Ok(Climate { temperature, humidity: u16::try_from(share(10_000, humidity)).unwrap_or(u16::MAX) })
    }
}

fn checked<E>(word: [u8; 2], crc: u8) -> Result<u16, ChipError<E>> {
    expect_checksum(crc, CRC.checksum(&word))?;
    Ok(u16::from_be_bytes(word))
}

/// Returns so much of a span as the word is of 0xFFFF, to the nearest.
fn share(span: i32, word: u16) -> i32 {
    span.saturating_mul(i32::from(word)).saturating_add(0x7FFF).wrapping_div(0xFFFF)
}

//! Texas Instruments TMP105: temperature on I2C. QEMU models this very chip.
//!
//! Source: TMP105 datasheet, SLLS648D, tables and sections as cited.

use core::time::Duration;

use embedded_hal::i2c::{I2c, SevenBitAddress};

use super::{ChipError, expect_bits};

/// Address with the A0 pin low; 0x49 with it high ("Serial Bus Address").
pub const ADDRESS: SevenBitAddress = 0x48;

/// How long a conversion of 12 bits takes at most (electrical characteristics). Until the first one is done after power-up
/// the chip says 0 °C.
pub const CONVERTING: Duration = Duration::from_millis(300);

/// Pointers to the registers (table 2).
const TEMPERATURE: u8 = 0x00;
const CONFIGURATION: u8 = 0x01;

/// R1 and R0: 12 bits; converting all the time, no alert ("Configuration Register").
const TWELVE_BITS: u8 = 0x60;
/// All bits but OS, which is a command.
const SETTINGS: u8 = 0x7F;

/// One chip.
#[derive(Debug)]
pub struct Tmp105<I2C> {
    i2c: I2C,
    address: SevenBitAddress,
}

impl<I2C: I2c> Tmp105<I2C> {
    /// Talks to the chip at `address`.
    pub const fn new(i2c: I2C, address: SevenBitAddress) -> Self {
        Self { i2c, address }
    }

    /// Sets 12 bits, which after power-up are 9, and converting all the time; reads the setting back.
    ///
    /// # Errors
    /// [`ChipError::Bus`], [`ChipError::Unexpected`].
    pub fn init(&mut self) -> Result<(), ChipError<I2C::Error>> {
        self.i2c.write(self.address, &[CONFIGURATION, TWELVE_BITS])?;
        let mut setting = [0];
        self.i2c.write_read(self.address, &[CONFIGURATION], &mut setting)?;
        let [setting] = setting;
        expect_bits(setting, SETTINGS, TWELVE_BITS)
    }

    /// Returns the temperature in 1/16 °C: -2048 to 2047 (table 5).
    ///
    /// # Errors
    /// [`ChipError::Bus`], [`ChipError::Unexpected`] when the low bits are not 0: a bus without a chip reads all ones.
    pub fn sixteenths(&mut self) -> Result<i16, ChipError<I2C::Error>> {
        let mut bytes = [0; 2];
        self.i2c.write_read(self.address, &[TEMPERATURE], &mut bytes)?;
        let [_, low] = bytes;
        expect_bits(low, 0x0F, 0)?;
        Ok(i16::from_be_bytes(bytes) >> 4)
    }

    /// Returns the temperature in 0.01 °C, to the nearest.
    ///
    /// # Errors
    /// As [`sixteenths`](Self::sixteenths).
    pub fn centidegrees(&mut self) -> Result<i16, ChipError<I2C::Error>> {
        self.sixteenths().map(super::centidegrees)
    }
}

//! STMicroelectronics LIS2DH12: three axes of acceleration on I2C; how a cover lies is in [`tilt`](super::tilt).
//!
//! Source: LIS2DH12 datasheet, DocID025056 Rev 6, sections as cited.

use embedded_hal::i2c::{I2c, SevenBitAddress};

use super::tilt::Vector;
use super::{ChipError, expect_bits};

/// Address with the SA0 pin low; 0x19 with it high or open ("I2C operation").
pub const ADDRESS: SevenBitAddress = 0x18;

/// Registers ("Register mapping"; the values below are from "Register description").
const WHO_AM_I: u8 = 0x0F;
const CTRL_REG1: u8 = 0x20;
const CTRL_REG4: u8 = 0x23;
const STATUS_REG: u8 = 0x27;

/// Bit 7 of a register's address: the next byte is of the next register ("I2C operation").
const AUTO_INCREMENT: u8 = 0x80;

/// What WHO_AM_I says.
const LIS2DH12: u8 = 0x33;

/// 10 Hz, all axes.
const TEN_HERTZ: u8 = 0x27;

/// Both bytes of an axis from one measurement (BDU), ±2 g, high resolution: 12 bits, left-justified, 1 mg each (§3.2.1).
const HIGH_RESOLUTION: u8 = 0x88;

/// All axes have a measurement that was not read.
const ZYXDA: u8 = 0x08;

/// One chip.
#[derive(Debug)]
pub struct Lis2dh<I2C> {
    i2c: I2C,
    address: SevenBitAddress,
}

impl<I2C: I2c> Lis2dh<I2C> {
    /// Talks to the chip at `address`.
    pub const fn new(i2c: I2C, address: SevenBitAddress) -> Self {
        Self { i2c, address }
    }

    /// Makes sure that it is this chip, and lets it measure ten times a second; reads the setting back.
    ///
    /// # Errors
    /// [`ChipError::Bus`], [`ChipError::Unexpected`].
    pub fn init(&mut self) -> Result<(), ChipError<I2C::Error>> {
        expect_bits(self.register(WHO_AM_I)?, 0xFF, LIS2DH12)?;
        self.set(CTRL_REG4, HIGH_RESOLUTION)?;
        self.set(CTRL_REG1, TEN_HERTZ)
    }

    /// Reads the acceleration in mg, -2048 to 2047 each axis.
    ///
    /// # Errors
    /// [`ChipError::NotReady`] when there is none that was not read: the chip was reset, or it is too soon.
    /// [`ChipError::Bus`]; [`ChipError::Unexpected`] when the low bits of an axis are not 0.
    pub fn read(&mut self) -> Result<Vector, ChipError<I2C::Error>> {
        let mut bytes = [0; 7];
        self.i2c.write_read(self.address, &[STATUS_REG | AUTO_INCREMENT], &mut bytes)?;
        let [status, x_low, x_high, y_low, y_high, z_low, z_high] = bytes;
        if status & ZYXDA == 0 {
            return Err(ChipError::NotReady);
        }
        expect_bits(x_low | y_low | z_low, 0x0F, 0)?;
        let milli_g = |low, high| i16::from_le_bytes([low, high]) >> 4;
        Ok(Vector { x: milli_g(x_low, x_high), y: milli_g(y_low, y_high), z: milli_g(z_low, z_high) })
    }

    fn set(&mut self, register: u8, value: u8) -> Result<(), ChipError<I2C::Error>> {
        self.i2c.write(self.address, &[register, value])?;
        expect_bits(self.register(register)?, 0xFF, value)
    }

    fn register(&mut self, register: u8) -> Result<u8, ChipError<I2C::Error>> {
        let mut value = [0];
        self.i2c.write_read(self.address, &[register], &mut value)?;
        let [value] = value;
        Ok(value)
    }
}

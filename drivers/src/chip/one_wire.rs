//! The one-wire bus: the slots, and a bus made of a pin.
//!
//! Source: Analog Devices (Maxim), application note 126, "1-Wire Communication Through Software", table 2, standard speed.

use crc::{CRC_8_MAXIM_DOW, Crc, NoTable};
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{ErrorType, InputPin, OutputPin};

/// CRC-8 of one-wire chips: polynomial 0x31, start 0, reflected (application note 27).
pub(super) const CRC: Crc<u8, NoTable> = Crc::<u8, NoTable>::new(&CRC_8_MAXIM_DOW);

/// A bus on which one line is pulled low by whoever speaks.
pub trait OneWire {
    /// Why the bus fails; that nobody is there is no such error.
    type Error;

    /// Resets all chips; says whether at least one is present.
    ///
    /// # Errors
    /// The bus's own.
    fn reset(&mut self) -> Result<bool, Self::Error>;

    /// Writes a bit.
    ///
    /// # Errors
    /// The bus's own.
    fn write_bit(&mut self, bit: bool) -> Result<(), Self::Error>;

    /// Reads a bit; without a chip it is 1.
    ///
    /// # Errors
    /// The bus's own.
    fn read_bit(&mut self) -> Result<bool, Self::Error>;

    /// Writes bytes, each from its least bit.
    ///
    /// # Errors
    /// The bus's own.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        for byte in bytes {
            (0..8).try_for_each(|place| self.write_bit(byte & (1 << place) != 0))?;
        }
        Ok(())
    }

    /// Fills a buffer, each byte from its least bit.
    ///
    /// # Errors
    /// The bus's own.
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for byte in bytes {
            *byte = 0;
            for place in 0..8 {
                *byte |= u8::from(self.read_bit()?) << place;
            }
        }
        Ok(())
    }
}

/// A bus on an open-drain pin with a pull-up, timed by a delay.
///
/// No interrupt may hold it up by more than some 5 µs while a bit begins: a board masks them for each bit, 70 µs.
#[derive(Debug)]
pub struct BitBang<P, D> {
    pin: P,
    delay: D,
}

impl<P: InputPin + OutputPin, D: DelayNs> BitBang<P, D> {
    /// Makes a bus of a pin that is low when set low and floats when set high.
    pub const fn new(pin: P, delay: D) -> Self {
        Self { pin, delay }
    }

    /// Pulls the line low for `low_us`, waits `wait_us`, samples, and waits `rest_us`.
    fn slot(&mut self, low_us: u32, wait_us: u32, rest_us: u32) -> Result<bool, <P as ErrorType>::Error> {
        self.pin.set_low()?;
        self.delay.delay_us(low_us);
        self.pin.set_high()?;
        self.delay.delay_us(wait_us);
        let high = self.pin.is_high()?;
        self.delay.delay_us(rest_us);
        Ok(high)
    }
}

impl<P: InputPin + OutputPin, D: DelayNs> OneWire for BitBang<P, D> {
    type Error = <P as ErrorType>::Error;

    fn reset(&mut self) -> Result<bool, Self::Error> {
        let silent = self.slot(480, 70, 410)?;
        // A line that is still low now is a short circuit, not a chip.
        Ok(!silent && self.pin.is_high()?)
    }

    fn write_bit(&mut self, bit: bool) -> Result<(), Self::Error> {
        let (low, rest) = if bit { (6, 64) } else { (60, 10) };
        self.pin.set_low()?;
        self.delay.delay_us(low);
        self.pin.set_high()?;
        self.delay.delay_us(rest);
        Ok(())
    }

    fn read_bit(&mut self) -> Result<bool, Self::Error> {
        self.slot(6, 9, 55)
    }
}

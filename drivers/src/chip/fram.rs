//! Memories on I2C with addresses of 16 bits: FRAM, and EEPROM, which is addressed the same way.
//!
//! What a write returned for is kept over a power cut: FRAM writes with the clock of the bus, and a page of an EEPROM is
//! waited for.
//!
//! Source: Fujitsu MB85RC256V, DS501-00017-3v0-E, "Command"; Microchip (Atmel) AT24C256C, 8568, "Page Write" and
//! "Acknowledge Polling".

use embedded_hal::i2c::{Error as _, ErrorKind, I2c, Operation, SevenBitAddress};
use ganglion_protocols::node_link::SensorFault;

/// Address with the pins A2, A1 and A0 low; they are its low bits.
pub const ADDRESS: SevenBitAddress = 0x50;

/// How many bytes 16 bits can address.
const ADDRESSES: u32 = 0x1_0000;

/// What kind of memory is on the bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// Its size in bytes; what lies behind 64 KiB has no address.
    pub capacity: u32,
    /// A write goes no further than to the next multiple of this, in bytes; 0: as far as it likes.
    pub page: u16,
    /// How often it is asked whether it has written. An EEPROM at 400 kHz answers or not some 15 000 times a second, and
    /// takes up to 5 ms for a page.
    pub patience: u16,
}

/// A memory.
#[derive(Debug)]
pub struct Memory<I2C> {
    i2c: I2C,
    address: SevenBitAddress,
    kind: Kind,
    /// It has answered since this was made, and nothing was written since.
    is_idle: bool,
}

/// Why a memory was not read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryError<E> {
    /// The bus failed; mostly, nobody acknowledged.
    Bus(E),
    /// It did not answer as often as the patience says: it writes a page for too long, or is not there.
    StillWriting {
        /// Where it was to write or read.
        at: u16,
    },
    /// Some of it lies behind the end; nothing was done.
    OutOfRange {
        /// The first byte.
        at: u16,
        /// How many.
        len: usize,
    },
}

impl Kind {
    /// 32 KiB of FRAM.
    pub const MB85RC256V: Self = Self { capacity: 0x8000, page: 0, patience: 0 };
    /// 32 KiB of EEPROM in pages of 64 bytes.
    pub const AT24C256: Self = Self { capacity: 0x8000, page: 64, patience: 500 };
}

impl<E> MemoryError<E> {
    /// Returns what a channel says whose value lies in this memory.
    #[must_use]
    pub const fn fault(&self) -> SensorFault {
        match self {
            Self::Bus(_) | Self::StillWriting { .. } => SensorFault::NoAnswer,
            Self::OutOfRange { .. } => SensorFault::OverRange,
        }
    }
}

impl<I2C: I2c> Memory<I2C> {
    /// Talks to the memory at `address`.
    pub const fn new(i2c: I2C, address: SevenBitAddress, kind: Kind) -> Self {
        let capacity = if kind.capacity < ADDRESSES { kind.capacity } else { ADDRESSES };
        Self { i2c, address, kind: Kind { capacity, ..kind }, is_idle: false }
    }

    /// Returns its size in bytes.
    pub const fn capacity(&self) -> u32 {
        self.kind.capacity
    }

    /// Fills a buffer with what is kept from `at`.
    ///
    /// # Errors
    /// [`MemoryError::Bus`], [`MemoryError::StillWriting`], [`MemoryError::OutOfRange`].
    pub fn read(&mut self, at: u16, bytes: &mut [u8]) -> Result<(), MemoryError<I2C::Error>> {
        self.must_hold(at, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.wait_until_idle(at)?;
        self.i2c.write_read(self.address, &at.to_be_bytes(), bytes).map_err(MemoryError::Bus)
    }

    /// Keeps bytes from `at`, in as many writes as there are pages.
    ///
    /// # Errors
    /// [`MemoryError::Bus`] and [`MemoryError::StillWriting`], after which some of it may be written and the rest is not;
    /// [`MemoryError::OutOfRange`].
    pub fn write(&mut self, at: u16, bytes: &[u8]) -> Result<(), MemoryError<I2C::Error>> {
        self.must_hold(at, bytes.len())?;
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at_checked(self.left_of_page(at)).unwrap_or((rest, &[]));
            self.wait_until_idle(at)?;
            // Two writes without a start between them are one on the wire.
            let mut operations = [Operation::Write(&at.to_be_bytes()), Operation::Write(chunk)];
            self.is_idle = false;
            self.i2c.transaction(self.address, &mut operations).map_err(MemoryError::Bus)?;
            self.wait_until_idle(at)?;
            // Only after the last byte of 64 KiB does it begin anew.
            at = at.wrapping_add(u16::try_from(chunk.len()).unwrap_or(0));
            rest = behind;
        }
        Ok(())
    }

    /// Returns how many bytes from `at` one write may have, at least 1.
    fn left_of_page(&self, at: u16) -> usize {
        at.checked_rem(self.kind.page).map_or(usize::MAX, |used| usize::from(self.kind.page.saturating_sub(used)))
    }

    /// An EEPROM does not acknowledge its address while it writes, perhaps still what was sent before the node was reset.
    /// Setting its pointer writes nothing.
    fn wait_until_idle(&mut self, at: u16) -> Result<(), MemoryError<I2C::Error>> {
        if self.is_idle || self.kind.page == 0 {
            return Ok(());
        }
        for _ in 0..self.kind.patience {
            match self.i2c.write(self.address, &at.to_be_bytes()) {
                Ok(()) => {
                    self.is_idle = true;
                    return Ok(());
                }
                Err(error) if matches!(error.kind(), ErrorKind::NoAcknowledge(_)) => {}
                Err(error) => return Err(MemoryError::Bus(error)),
            }
        }
        Err(MemoryError::StillWriting { at })
    }

    fn must_hold(&self, at: u16, len: usize) -> Result<(), MemoryError<I2C::Error>> {
        let space = self.kind.capacity.saturating_sub(u32::from(at));
        if u32::try_from(len).is_ok_and(|len| len <= space) { Ok(()) } else { Err(MemoryError::OutOfRange { at, len }) }
    }
}

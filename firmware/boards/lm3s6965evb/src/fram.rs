//! FRAM on I2C: the two copies of the settings, then fault log and samples. Outside QEMU it would be an MB85RC256V.

use ganglion_drivers::chip::fram::{self, Kind};
use ganglion_node::{Copies, Memory, MemoryError};
use ganglion_protocols::node_settings::MAX_COPY;

use crate::i2c::Bus;

/// Where the settings end.
const SETTINGS: usize = 2 * MAX_COPY;

/// The part behind the settings.
pub(crate) struct Samples(fram::Memory<Bus>);

/// The settings.
pub(crate) struct Settings(fram::Memory<Bus>);

/// Returns the two parts of the chip.
pub(crate) fn parts(bus: Bus) -> (Samples, Settings) {
    let chip = || fram::Memory::new(bus, fram::ADDRESS, Kind::MB85RC256V);
    (Samples(chip()), Settings(chip()))
}

fn place(at: usize) -> Result<u16, MemoryError> {
    u16::try_from(at).map_err(|_| MemoryError { at })
}

impl Memory for Samples {
    fn size(&self) -> usize {
        Kind::MB85RC256V.capacity as usize - SETTINGS
    }

    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read(place(SETTINGS + at)?, out).map_err(|_| MemoryError { at })
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        self.0.write(place(SETTINGS + at)?, bytes).map_err(|_| MemoryError { at })
    }
}

impl Copies for Settings {
    fn read(&mut self, which: usize, out: &mut [u8; MAX_COPY]) {
        let read = place(which.min(1) * MAX_COPY).map(|at| self.0.read(at, out).is_ok());
        if read != Ok(true) {
            *out = [0; MAX_COPY];
        }
    }

    fn write(&mut self, which: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let at = which.min(1) * MAX_COPY;
        let mut held = [0; MAX_COPY];
        self.0.write(place(at)?, bytes).map_err(|_| MemoryError { at })?;
        self.read(which, &mut held);
        if held.starts_with(bytes) { Ok(()) } else { Err(MemoryError { at }) }
    }
}

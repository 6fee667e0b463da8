//! What the node needs of a board.

use ganglion_protocols::node_settings::MAX_COPY;

/// Bytes that can be written one by one: RAM that outlives a reset, or FRAM that outlives a loss of power.
pub trait Memory {
    /// Returns how many bytes there are.
    fn size(&self) -> usize;

    /// Reads the bytes from `at` on.
    ///
    /// # Errors
    /// When they are not all inside, or the memory does not answer.
    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), MemoryError>;

    /// Writes the bytes from `at` on. A loss of power may leave any part of them.
    ///
    /// # Errors
    /// As for reading; what was written then is not known.
    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), MemoryError>;
}

/// A memory does not do what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryError {
    /// Where.
    pub at: usize,
}

/// Two places for a copy of the settings, each replaced as a whole: pages of flash, or FRAM.
pub trait Copies {
    /// Reads the copy 0 or 1. What cannot be read is zero.
    fn read(&mut self, which: usize, out: &mut [u8; MAX_COPY]);

    /// Replaces the copy 0 or 1. A loss of power may leave anything in it, and does not touch the other.
    ///
    /// # Errors
    /// When the copy does not hold the bytes afterwards.
    fn write(&mut self, which: usize, bytes: &[u8]) -> Result<(), MemoryError>;
}

/// A part of a memory as a memory of its own.
#[derive(Debug)]
pub struct Part<'m, M> {
    memory: &'m mut M,
    at: usize,
    size: usize,
}

impl<'m, M: Memory> Part<'m, M> {
    /// Takes `size` bytes from `at` on, or those that are there.
    pub fn new(memory: &'m mut M, at: usize, size: usize) -> Self {
        let size = size.min(memory.size().saturating_sub(at));
        Self { memory, at, size }
    }

    fn place(&self, at: usize, len: usize) -> Result<usize, MemoryError> {
        match at.checked_add(len) {
            Some(end) if end <= self.size => Ok(self.at.saturating_add(at)),
            _ => Err(MemoryError { at }),
        }
    }
}

impl<M: Memory> Memory for Part<'_, M> {
    fn size(&self) -> usize {
        self.size
    }

    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), MemoryError> {
        let place = self.place(at, out.len())?;
        self.memory.read(place, out)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let place = self.place(at, bytes.len())?;
        self.memory.write(place, bytes)
    }
}

impl Memory for &mut [u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), MemoryError> {
        let held = at.checked_add(out.len()).and_then(|end| self.get(at..end)).ok_or(MemoryError { at })?;
        out.copy_from_slice(held);
        Ok(())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let place = at.checked_add(bytes.len()).and_then(|end| self.get_mut(at..end)).ok_or(MemoryError { at })?;
        place.copy_from_slice(bytes);
        Ok(())
    }
}

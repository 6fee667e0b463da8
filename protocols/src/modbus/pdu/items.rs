//! Registers and coils as they lie in a PDU.

use core::fmt;

/// Registers, borrowed as they lie on the wire: each two bytes, high byte first.
///
/// Source: Application Protocol V1.1b3 §4.2.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Takes an even count of bytes; `None` when it is odd.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len().is_multiple_of(2) { Some(Self(bytes)) } else { None }
    }

    /// Lays `values` out in `buffer` and borrows them there; `None` when they do not fit.
    #[must_use]
    pub fn pack(values: &[u16], buffer: &'a mut [u8]) -> Option<Self> {
        let used = buffer.get_mut(..values.len().checked_mul(2)?)?;
        for (pair, value) in used.chunks_exact_mut(2).zip(values) {
            pair.copy_from_slice(&value.to_be_bytes());
        }
        Some(Self(used))
    }

    /// Returns the count of registers.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.len() / 2
    }

    /// Says whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Returns the register at a place, counted from 0.
    #[must_use]
    pub fn get(self, place: usize) -> Option<u16> {
        self.iter().nth(place)
    }

    /// Returns the registers in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u16> + Clone + 'a {
        self.0.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))
    }

    /// Returns the bytes, two a register.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

impl fmt::Debug for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Coils or discrete inputs, borrowed as they lie on the wire: eight a byte, the first in the lowest bit.
///
/// A request says how many there are. An answer does not: there the count is a multiple of eight, and the bits after
/// those asked for are padding.
///
/// Source: Application Protocol V1.1b3 §6.1, §6.11.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Bits<'a> {
    /// Takes `len` bits in as many bytes as they need, no fewer and no more; `None` otherwise.
    #[must_use]
    pub const fn new(bytes: &'a [u8], len: usize) -> Option<Self> {
        if bytes.len() == len.div_ceil(8) { Some(Self { bytes, len }) } else { None }
    }

    /// Takes all bits of an answer, padding included.
    #[must_use]
    pub const fn padded(bytes: &'a [u8]) -> Self {
        Self { bytes, len: bytes.len().saturating_mul(8) }
    }

    /// Lays `values` out in `buffer` with zeros as padding and borrows them there; `None` when they do not fit.
    #[must_use]
    pub fn pack(values: &[bool], buffer: &'a mut [u8]) -> Option<Self> {
        let used = buffer.get_mut(..values.len().div_ceil(8))?;
        for (byte, eight) in used.iter_mut().zip(values.chunks(8)) {
            *byte = eight.iter().rev().fold(0, |byte, &on| byte << 1 | u8::from(on));
        }
        Self::new(used, values.len())
    }

    /// Returns the count of bits.
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Says whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Returns the bit at a place, counted from 0.
    #[must_use]
    pub fn get(self, place: usize) -> Option<bool> {
        if place < self.len { self.bytes.get(place / 8).map(|byte| byte >> (place % 8) & 1 == 1) } else { None }
    }

    /// Returns the bits in order.
    pub fn iter(self) -> impl Iterator<Item = bool> + Clone + 'a {
        let every = self.bytes.iter().flat_map(|byte| (0..8).map(move |place| byte >> place & 1 == 1));
        every.take(self.len)
    }

    /// Returns the bytes, padding included.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl fmt::Debug for Bits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(u8::from)).finish()
    }
}

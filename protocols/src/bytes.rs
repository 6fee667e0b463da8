//! Takes bytes from the front and puts them at the end, without ever indexing out of range.

/// Takes from the front of a byte slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

/// The bytes ended before the value did, or a length in them is impossible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truncated;

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns what has not been taken.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Says whether everything has been taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// [`Truncated`] when fewer are left; nothing is taken then.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let (front, rest) = self.rest.split_at_checked(len).ok_or(Truncated)?;
        self.rest = rest;
        Ok(front)
    }

    /// Takes `N` bytes as an array.
    ///
    /// # Errors
    /// [`Truncated`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (front, rest) = self.rest.split_first_chunk::<N>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(*front)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`Truncated`] when none is left.
    pub fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes an unsigned LEB128 number: seven bits a byte, low bits first, at most ten bytes.
    ///
    /// # Errors
    /// [`Truncated`] when the bytes end inside the number or it does not fit 64 bits.
    pub fn varint(&mut self) -> Result<u64, Truncated> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            let placed = bits << shift;
            if placed >> shift != bits {
                return Err(Truncated);
            }
            value |= placed;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Truncated)
    }

    /// Takes a text of at most 255 bytes behind its one-byte length.
    ///
    /// # Errors
    /// [`Truncated`] when the bytes end inside it or it is no UTF-8.
    pub fn short_text(&mut self) -> Result<&'a str, Truncated> {
        let len = usize::from(self.u8()?);
        core::str::from_utf8(self.take(len)?).map_err(|_| Truncated)
    }
}

/// Puts at the end of a fixed buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    len: usize,
}

/// The buffer ended before the value did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full;

impl<'a> Writer<'a> {
    /// Starts at the front of `buf`.
    #[must_use]
    pub const fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, len: 0 }
    }

    /// Returns how many bytes have been put.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "nobody asks whether a writer is empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Puts bytes.
    ///
    /// # Errors
    /// [`Full`] when they do not fit; nothing is put then.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len.checked_add(bytes.len()).ok_or(Full)?;
        self.buf.get_mut(self.len..end).ok_or(Full)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Puts an unsigned LEB128 number.
    ///
    /// # Errors
    /// [`Full`] when it does not fit.
    #[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
    pub fn varint(&mut self, mut value: u64) -> Result<(), Full> {
        while value >= 0x80 {
            self.put(&[(value as u8) | 0x80])?;
            value >>= 7;
        }
        self.put(&[value as u8])
    }

    /// Puts a text behind its one-byte length.
    ///
    /// # Errors
    /// [`Full`] when it does not fit or has more than 255 bytes.
    pub fn short_text(&mut self, text: &str) -> Result<(), Full> {
        let len = u8::try_from(text.len()).map_err(|_| Full)?;
        self.put(&[len])?;
        self.put(text.as_bytes())
    }
}

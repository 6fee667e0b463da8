//! Flash that is believed only when it is read back.

use core::num::NonZeroU32;

use crc::{CRC_32_ISO_HDLC, Crc, Digest, NoTable};
use embedded_storage::nor_flash::NorFlash;

/// The flash did not do what it was told, or cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlashFault {
    /// Where: the offset of the first byte of the operation.
    pub at: u32,
}

impl core::fmt::Display for FlashFault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the flash at offset 0x{:06x} does not hold what was written", self.at)
    }
}

impl core::error::Error for FlashFault {}

/// What is read at once.
const PIECE: usize = 64;
/// What an erased byte reads as.
pub(super) const BLANK: u8 = 0xFF;
/// How often a page is copied before its flash is given up.
const ATTEMPTS: u8 = 3;

pub(super) fn read<F: NorFlash>(flash: &mut F, at: u32, out: &mut [u8]) -> Result<(), FlashFault> {
    const { assert!(F::READ_SIZE == 1, "a body ends at any byte") }
    flash.read(at, out).map_err(|_| FlashFault { at })
}

/// Gives `what` the bytes from `at` on, in pieces of at most 64.
pub(super) fn each_piece<F: NorFlash>(
    flash: &mut F,
    at: u32,
    length: u32,
    mut what: impl FnMut(&[u8]),
) -> Result<(), FlashFault> {
    let mut done = 0;
    let mut buffer = [0; PIECE];
    while let Some(left) = NonZeroU32::new(length.saturating_sub(done)) {
        let now = usize::try_from(left.get()).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..now).unwrap_or_default();
        read(flash, at.saturating_add(done), piece)?;
        what(piece);
        done = done.saturating_add(size_of_piece(piece));
    }
    Ok(())
}

/// Says whether all of it is erased; what cannot be read is not.
pub(super) fn is_blank<F: NorFlash>(flash: &mut F, at: u32, length: u32) -> bool {
    let mut blank = true;
    let read = each_piece(flash, at, length, |piece| blank &= piece.iter().all(|byte| *byte == BLANK));
    read.is_ok() && blank
}

/// Erases a page and looks whether it is.
pub(super) fn erase<F: NorFlash>(flash: &mut F, at: u32, page: u32) -> Result<(), FlashFault> {
    let done = flash.erase(at, at.saturating_add(page)).is_ok();
    if done && is_blank(flash, at, page) { Ok(()) } else { Err(FlashFault { at }) }
}

/// Writes whole words to where it is erased and looks whether they are there.
pub(super) fn program<F: NorFlash>(flash: &mut F, at: u32, bytes: &[u8]) -> Result<(), FlashFault> {
    const { assert!(8 % F::WRITE_SIZE == 0, "headers, cells and marks are multiples of 8 bytes") }
    flash.write(at, bytes).map_err(|_| FlashFault { at })?;
    if holds(flash, at, bytes) { Ok(()) } else { Err(FlashFault { at }) }
}

/// Says whether these bytes are there; what cannot be read is not.
pub(super) fn holds<F: NorFlash>(flash: &mut F, at: u32, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut same = true;
    let read = each_piece(flash, at, length, |piece| match rest.split_at_checked(piece.len()) {
        Some((expected, behind)) => {
            same &= expected == piece;
            rest = behind;
        }
        None => same = false,
    });
    read.is_ok() && same
}

/// Makes the pages from `to` on what those from `from` on are, and looks whether they are. `from` is only read.
///
/// It may be cut at any time and begun anew: the last page that is right already is written again, because its last word
/// may have been torn so that it reads right today only.
pub(super) fn copy<F: NorFlash>(flash: &mut F, from: u32, to: u32, pages: u32, page: u32) -> Result<(), FlashFault> {
    let place = |start: u32, index: u32| start.saturating_add(index.saturating_mul(page));
    let mut right = 0;
    while right < pages && same(flash, place(from, right), place(to, right), page) {
        right = right.saturating_add(1);
    }
    let first = right.saturating_sub(1);
    for index in first..pages {
        let (from, to) = (place(from, index), place(to, index));
        if index != first && same(flash, from, to, page) {
            continue;
        }
        let copied = (0..ATTEMPTS).any(|_| copy_page(flash, from, to, page).is_ok());
        if !copied {
            return Err(FlashFault { at: to });
        }
    }
    Ok(())
}

fn copy_page<F: NorFlash>(flash: &mut F, from: u32, to: u32, page: u32) -> Result<(), FlashFault> {
    erase(flash, to, page)?;
    let mut done = 0;
    while done < page {
        let mut buffer = [0; PIECE];
        let now = usize::try_from(page.saturating_sub(done)).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..now).unwrap_or_default();
        read(flash, from.saturating_add(done), piece)?;
        program(flash, to.saturating_add(done), piece)?;
        done = done.saturating_add(size_of_piece(piece));
    }
    Ok(())
}

fn same<F: NorFlash>(flash: &mut F, one: u32, other: u32, length: u32) -> bool {
    let mut done = 0;
    while done < length {
        let mut buffer = [0; PIECE];
        let now = usize::try_from(length.saturating_sub(done)).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..now).unwrap_or_default();
        let read = read(flash, one.saturating_add(done), piece).is_ok();
        if !read || !holds(flash, other.saturating_add(done), piece) {
            return false;
        }
        done = done.saturating_add(size_of_piece(piece));
    }
    true
}

/// At most [`PIECE`].
fn size_of_piece(piece: &[u8]) -> u32 {
    u32::try_from(piece.len()).unwrap_or(u32::MAX)
}

static CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// CRC-32 (ISO-HDLC), piece by piece and without a table: it is short of flash, not of time.
pub(super) fn checksum() -> Digest<'static, u32, NoTable> {
    CRC.digest()
}

/// The same of bytes that are at hand.
pub(super) fn checksum_of(bytes: &[u8]) -> u32 {
    CRC.checksum(bytes)
}

//! What arrives: header, body, and how much of it is there for certain.
//!
//! The page before the body holds the header and behind it *marks*, written one behind the other: so many pages of the body
//! of this header were written and read back right. A mark is written after what it says, so a torn one that reads as a
//! whole one is still true. After a reset the transfer goes on at the begin of the page that has no mark; that page is
//! erased first.
//!
//! ```text
//! mark = pages u16, !pages u16, CRC-32 of the header u32      all LE
//! ```

use embedded_storage::nor_flash::NorFlash;
use ganglion_protocols::node_link::{ImageHeader, Version};

use super::Layout;
use super::flash::{BLANK, FlashFault, checksum_of, erase, holds, program, read};

/// What arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stage {
    pub(super) version: Version,
    /// Length of the body.
    pub(super) size: u32,
    /// CRC-32 of the header.
    header: u32,
    /// Bytes of the body in the flash: whole words.
    written: u32,
    /// Bytes behind them that do not fill a word yet.
    held: Word,
    /// Where the next mark goes, counted in marks.
    next_mark: u32,
}

/// Why bytes of the body were not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteError {
    /// They are not the next ones.
    Hole,
    /// They go on behind the end.
    TooLong,
    /// The page they belong to has to come anew.
    Flash,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Word {
    bytes: [u8; WORD],
    used: u8,
}

/// What is written at once: a multiple of every flash's word.
const WORD: usize = 8;
const WORD_SIZE: u32 = 8;
const HEADER_SIZE: u32 = 160;
/// How many places are tried for a mark.
const ATTEMPTS: u8 = 4;

impl Stage {
    /// Finds what had arrived before a reset.
    pub(super) fn recover<F: NorFlash>(flash: &mut F, layout: &Layout) -> Option<Self> {
        let mut bytes = [0; ImageHeader::LEN];
        read(flash, layout.stage(), &mut bytes).ok()?;
        let parsed = ImageHeader::parse(&bytes).ok().filter(|header| header.size.get() <= layout.slot())?;
        let header = checksum_of(&bytes);
        let (mut pages, mut next_mark) = (None, 0);
        for index in 0..marks(layout) {
            let mut bytes = [0; WORD];
            let readable = read(flash, mark_place(layout, index), &mut bytes).is_ok();
            if readable && bytes == [BLANK; WORD] {
                continue;
            }
            next_mark = index.saturating_add(1);
            if readable && let Some(said) = parse_mark(bytes, header) {
                pages = pages.max(Some(said));
            }
        }
        let size = parsed.size.get();
        let written = u32::from(pages?).saturating_mul(layout.page()).min(whole_words(size));
        Some(Self { version: parsed.version, size, header, written, held: Word::default(), next_mark })
    }

    /// Begins anew with this header.
    pub(super) fn begin<F: NorFlash>(flash: &mut F, layout: &Layout, header: &ImageHeader) -> Result<Self, FlashFault> {
        erase(flash, layout.stage(), layout.page())?;
        let bytes = header.emit();
        program(flash, layout.stage(), &bytes)?;
        let mut stage = Self {
            version: header.version,
            size: header.size.get(),
            header: checksum_of(&bytes),
            written: 0,
            held: Word::default(),
            next_mark: 0,
        };
        stage.mark(flash, layout, 0)?;
        Ok(stage)
    }

    /// Makes sure that nothing is there any more.
    pub(super) fn discard<F: NorFlash>(flash: &mut F, layout: &Layout) -> Result<(), FlashFault> {
        // A header that is none is as good as erased, and need not be erased at every start of a trial.
        if Self::recover(flash, layout).is_none() {
            return Ok(());
        }
        erase(flash, layout.stage(), layout.page())
    }

    /// Reads the header back; `None` when it is not the one that was begun with.
    pub(super) fn header<F: NorFlash>(&self, flash: &mut F, layout: &Layout) -> Option<ImageHeader> {
        let mut bytes = [0; ImageHeader::LEN];
        read(flash, layout.stage(), &mut bytes).ok()?;
        ImageHeader::parse(&bytes).ok().filter(|_| checksum_of(&bytes) == self.header)
    }

    /// Says whether this header is the one in the flash.
    pub(super) fn has<F: NorFlash>(flash: &mut F, layout: &Layout, header: &ImageHeader) -> bool {
        holds(flash, layout.stage(), &header.emit())
    }

    /// Returns the place in the body of the next byte wanted.
    pub(super) fn next(&self) -> u32 {
        self.written.saturating_add(u32::from(self.held.used)).min(self.size)
    }

    /// Takes bytes of the body. Those that are there already are passed over.
    pub(super) fn write<F: NorFlash>(
        &mut self,
        flash: &mut F,
        layout: &Layout,
        at: u32,
        data: &[u8],
    ) -> Result<(), WriteError> {
        let end = u32::try_from(data.len()).ok().and_then(|length| at.checked_add(length));
        if end.is_none_or(|end| end > self.size) {
            return Err(WriteError::TooLong);
        }
        let known = self.next().checked_sub(at).ok_or(WriteError::Hole)?;
        for byte in data.iter().skip(usize::try_from(known).unwrap_or(usize::MAX)) {
            self.held.push(*byte);
            if self.held.is_full() || self.next() == self.size {
                self.put_word(flash, layout).map_err(|_| {
                    // The page is erased when its first word comes again.
                    self.written &= !(layout.page().saturating_sub(1));
                    self.held = Word::default();
                    WriteError::Flash
                })?;
            }
        }
        Ok(())
    }

    fn put_word<F: NorFlash>(&mut self, flash: &mut F, layout: &Layout) -> Result<(), FlashFault> {
        let in_page = layout.page().saturating_sub(1);
        let at = layout.body().saturating_add(self.written);
        if self.written & in_page == 0 {
            erase(flash, at, layout.page())?;
        }
        program(flash, at, &self.held.bytes)?;
        let written = self.written.saturating_add(WORD_SIZE);
        if written & in_page == 0 || written >= self.size {
            // Without a mark the transfer goes on all the same, and begins earlier after a reset.
            let _unmarked = self.mark(flash, layout, layout.pages(written)).is_err();
        }
        (self.written, self.held) = (written, Word::default());
        Ok(())
    }

    /// Writes a mark to the next place that takes it.
    fn mark<F: NorFlash>(&mut self, flash: &mut F, layout: &Layout, pages: u32) -> Result<(), FlashFault> {
        let bytes = emit_mark(u16::try_from(pages).unwrap_or(u16::MAX), self.header);
        let mut done = Err(FlashFault { at: layout.stage() });
        for _ in 0..ATTEMPTS {
            if done.is_ok() || self.next_mark >= marks(layout) {
                break;
            }
            let at = mark_place(layout, self.next_mark);
            self.next_mark = self.next_mark.saturating_add(1);
            done = program(flash, at, &bytes);
        }
        done
    }
}

impl Word {
    fn push(&mut self, byte: u8) {
        if self.used == 0 {
            self.bytes = [BLANK; WORD];
        }
        if let Some(place) = self.bytes.get_mut(usize::from(self.used)) {
            *place = byte;
            self.used = self.used.saturating_add(1);
        }
    }

    fn is_full(&self) -> bool {
        usize::from(self.used) == WORD
    }
}

fn whole_words(size: u32) -> u32 {
    size.div_ceil(WORD_SIZE).saturating_mul(WORD_SIZE)
}

fn marks(layout: &Layout) -> u32 {
    layout.page().saturating_sub(HEADER_SIZE) / WORD_SIZE
}

fn mark_place(layout: &Layout, index: u32) -> u32 {
    layout.stage().saturating_add(HEADER_SIZE).saturating_add(index.saturating_mul(WORD_SIZE))
}

fn emit_mark(pages: u16, header: u32) -> [u8; WORD] {
    let ([p0, p1], [n0, n1], [h0, h1, h2, h3]) = (pages.to_le_bytes(), (!pages).to_le_bytes(), header.to_le_bytes());
    [p0, p1, n0, n1, h0, h1, h2, h3]
}

fn parse_mark([p0, p1, n0, n1, h0, h1, h2, h3]: [u8; WORD], header: u32) -> Option<u16> {
    let pages = u16::from_le_bytes([p0, p1]);
    let right = pages == !u16::from_le_bytes([n0, n1]) && header == u32::from_le_bytes([h0, h1, h2, h3]);
    right.then_some(pages)
}

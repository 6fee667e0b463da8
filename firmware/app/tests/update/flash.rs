//! A flash in memory that loses power at a chosen operation, and keeps the rules of real ones.
//!
//! An *operation* is the programming of one word or the erasure of one page. Programming a word that is not blank is a
//! fault of the code under test and panics: STM32L4 refuses it (RM0351 §3.3.7, PROGERR), and its ECC would be wrong.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// Flash with words of `WORD` bytes and pages of `PAGE`.
#[derive(Clone)]
pub(crate) struct SimFlash<const WORD: usize, const PAGE: usize> {
    bytes: Vec<u8>,
    /// For each word: it was programmed, or may have been, and is not erased for certain.
    programmed: Vec<bool>,
    /// For each word: its ECC is wrong.
    unreadable: Vec<bool>,
    random: fastrand::Rng,
    operations: u64,
    cut_at: Option<u64>,
    drop_at: Option<u64>,
    /// Words that take nothing any more.
    worn: std::ops::Range<usize>,
    /// QEMU's model of the STM32L4: blank is 0x00, and nothing is ever programmed.
    dead: bool,
    /// The power is cut.
    dark: bool,
}

impl<const WORD: usize, const PAGE: usize> SimFlash<WORD, PAGE> {
    pub(crate) fn new(length: usize, seed: u64) -> Self {
        let words = length / WORD;
        Self {
            bytes: vec![0xFF; length],
            programmed: vec![false; words],
            unreadable: vec![false; words],
            random: fastrand::Rng::with_seed(seed),
            operations: 0,
            cut_at: None,
            drop_at: None,
            worn: 0..0,
            dead: false,
            dark: false,
        }
    }

    /// A flash that takes nothing and does not say so.
    pub(crate) fn that_takes_nothing(length: usize) -> Self {
        Self { bytes: vec![0x00; length], dead: true, ..Self::new(length, 0) }
    }

    /// Cuts the power in the middle of the operation with this number, counted from now.
    pub(crate) fn cut_at(&mut self, operation: u64) {
        self.cut_at = Some(self.operations + operation);
    }

    /// Leaves out the operation with this number without saying so.
    pub(crate) fn drop_at(&mut self, operation: u64) {
        self.drop_at = Some(self.operations + operation);
    }

    /// Has this part take nothing any more, but for erasures, and not say so.
    pub(crate) fn wear(&mut self, part: std::ops::Range<u32>) {
        self.worn = part.start as usize / WORD..part.end as usize / WORD;
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// The power is cut.
    pub(crate) fn is_dark(&self) -> bool {
        self.dark
    }

    pub(crate) fn power_on(&mut self) {
        self.dark = false;
    }

    /// What is there; panics where it cannot be read.
    pub(crate) fn content(&self, at: u32, length: usize) -> &[u8] {
        let at = at as usize;
        let words = at / WORD..(at + length).div_ceil(WORD);
        assert!(!self.unreadable[words].iter().any(|bad| *bad), "a firmware has a word with wrong ECC");
        &self.bytes[at..at + length]
    }

    /// Changes a byte as ageing does.
    pub(crate) fn rot(&mut self, at: u32) {
        self.bytes[at as usize] ^= 0x04;
    }

    /// Says what becomes of the next operation.
    fn fate(&mut self) -> Fate {
        let this = self.operations;
        self.operations += 1;
        if self.cut_at == Some(this) {
            self.dark = true;
            Fate::Torn
        } else if self.dead || self.drop_at == Some(this) {
            Fate::Dropped
        } else {
            Fate::Done
        }
    }

    fn set(&mut self, word: usize, bytes: &[u8], programmed: bool) {
        self.bytes[word * WORD..][..WORD].copy_from_slice(bytes);
        (self.programmed[word], self.unreadable[word]) = (programmed, false);
    }

    /// A word that was being changed when the power went: anything, but more often what was or was to be.
    fn tear(&mut self, word: usize, meant: &[u8]) {
        let before = self.bytes[word * WORD..][..WORD].to_vec();
        match self.random.u8(..6) {
            0 => {}
            1 => self.set(word, meant, true),
            2 => self.set(word, &[0xFF; 8][..WORD], false),
            3 => {
                let noise = self.random.u64(..).to_le_bytes();
                self.set(word, &noise[..WORD], true);
            }
            4 => {
                let noise = self.random.u64(..).to_le_bytes();
                let some: Vec<u8> = before.iter().zip(meant).zip(noise).map(|((b, m), n)| b & n | m & !n).collect();
                self.set(word, &some, true);
            }
            _ => {
                self.programmed[word] = true;
                self.unreadable[word] = true;
            }
        }
    }
}

enum Fate {
    Done,
    Dropped,
    Torn,
}

impl<const WORD: usize, const PAGE: usize> ErrorType for SimFlash<WORD, PAGE> {
    type Error = NorFlashErrorKind;
}

impl<const WORD: usize, const PAGE: usize> ReadNorFlash for SimFlash<WORD, PAGE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len()).expect("the code stays inside the flash");
        let at = offset as usize;
        let words = at / WORD..(at + bytes.len()).div_ceil(WORD);
        if self.dark || self.unreadable[words].iter().any(|bad| *bad) {
            return Err(NorFlashErrorKind::Other);
        }
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WORD: usize, const PAGE: usize> NorFlash for SimFlash<WORD, PAGE> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to).expect("the code erases whole pages inside the flash");
        for page in (from as usize..to as usize).step_by(PAGE) {
            if self.dark {
                return Err(NorFlashErrorKind::Other);
            }
            let words = page / WORD..(page + PAGE) / WORD;
            match self.fate() {
                Fate::Done => words.for_each(|word| self.set(word, &[0xFF; 8][..WORD], false)),
                Fate::Dropped => {}
                Fate::Torn => words.for_each(|word| self.tear(word, &[0xFF; 8][..WORD])),
            }
        }
        if self.dark { Err(NorFlashErrorKind::Other) } else { Ok(()) }
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len()).expect("the code writes whole words inside the flash");
        for (index, data) in bytes.chunks(WORD).enumerate() {
            if self.dark {
                return Err(NorFlashErrorKind::Other);
            }
            let word = offset as usize / WORD + index;
            assert!(!self.programmed[word], "word {word:#x} is programmed twice between two erasures");
            match self.fate() {
                Fate::Done if !self.worn.contains(&word) => self.set(word, data, true),
                Fate::Done | Fate::Dropped => {}
                Fate::Torn => self.tear(word, data),
            }
        }
        if self.dark { Err(NorFlashErrorKind::Other) } else { Ok(()) }
    }
}

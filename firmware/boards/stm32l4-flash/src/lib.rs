//! The flash of an STM32L476RG, RM0351 §3.3: pages of 2 KiB in two banks, written by double words, each once.
//!
//! | from | what |
//! |---|---|
//! | 0 | bootloader, 16 KiB |
//! | 16 KiB | what an update works with: [`LAYOUT`] |
//! | 1020 KiB | two pages with the copies of the settings |
#![no_std]

use core::sync::atomic::{AtomicBool, Ordering};

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};
use ganglion_node::update::Layout;
use ganglion_node::{Copies, MemoryError};
use ganglion_protocols::node_settings::MAX_COPY;
use stm32_metapac as pac;

/// Where the flash begins.
pub const START: usize = 0x0800_0000;
const SIZE: usize = 1024 * 1024;
const PAGE: usize = 2048;
const PAGES_PER_BANK: usize = 256;
const SETTINGS: usize = SIZE - 2 * PAGE;
const DOUBLE_WORD: usize = 8;
const UNLOCK: [u32; 2] = [0x4567_0123, 0xCDEF_89AB];
/// Longest wait for the flash, in turns of a loop: a page is erased in 25 ms.
const PATIENCE: u32 = 1_000_000;

/// Where the firmware and its updates are; `memory.x` of the node says the same.
pub const LAYOUT: Layout = match Layout::new(PAGE as u32, 16 * 1024, 80 * 1024) {
    Some(layout) => layout,
    None => panic!("the layout is none"),
};

/// A double word could not be corrected.
static SPOILED: AtomicBool = AtomicBool::new(false);

/// The flash as a whole. Whoever has it owns it.
#[derive(Debug)]
pub struct Flash(());

/// The flash does not hold what it should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failed(NorFlashErrorKind);

impl NorFlashError for Failed {
    fn kind(&self) -> NorFlashErrorKind {
        self.0
    }
}

impl From<NorFlashErrorKind> for Failed {
    fn from(kind: NorFlashErrorKind) -> Self {
        Self(kind)
    }
}

/// Two errors in one double word end here, RM0351 §3.3.2: the reader is told, and the program goes on.
#[cortex_m_rt::exception]
unsafe fn NonMaskableInt() {
    pac::FLASH.eccr().modify(|eccr| eccr.set_eccd(true));
    SPOILED.store(true, Ordering::Relaxed);
}

impl Flash {
    /// Takes the flash.
    ///
    /// # Safety
    /// Only once in a program, or never used by two at a time: an erase and a write are several steps.
    #[must_use]
    pub const unsafe fn take() -> Self {
        Self(())
    }

    fn erase_page(&mut self, at: usize) {
        let page = at / PAGE;
        self.unlocked(|| {
            pac::FLASH.cr().write(|cr| {
                cr.set_per(true);
                cr.set_bker(page >= PAGES_PER_BANK);
                cr.set_pnb((page % PAGES_PER_BANK) as u8);
            });
            pac::FLASH.cr().modify(|cr| cr.set_start(true));
        });
    }

    fn program(&mut self, at: usize, word: [u8; DOUBLE_WORD]) {
        let [a, b, c, d, e, f, g, h] = word;
        self.unlocked(|| {
            pac::FLASH.cr().write(|cr| cr.set_pg(true));
            let place = (START + at) as *mut u32;
            // SAFETY: inside the flash and aligned to 8, as the callers have checked; with the lock open and PG set these two
            // stores program one double word, §3.3.7. The flash is no memory of Rust's.
            unsafe {
                place.write_volatile(u32::from_le_bytes([a, b, c, d]));
                place.add(1).write_volatile(u32::from_le_bytes([e, f, g, h]));
            }
        });
    }

    /// Opens the lock, starts what `work` does, waits for its end and closes the lock.
    fn unlocked(&mut self, work: impl FnOnce()) {
        if pac::FLASH.cr().read().lock() {
            UNLOCK.iter().for_each(|key| pac::FLASH.keyr().write_value(*key));
        }
        // Errors of earlier times would refuse what comes; writing a 1 clears one.
        let errors = pac::FLASH.sr().read();
        pac::FLASH.sr().write_value(errors);
        work();
        for _ in 0..PATIENCE {
            if !pac::FLASH.sr().read().bsy() {
                break;
            }
        }
        pac::FLASH.cr().write(|cr| cr.set_lock(true));
    }
}

fn byte(at: usize) -> u8 {
    // SAFETY: the callers have checked that it is inside the flash, which is always readable.
    unsafe { ((START + at) as *const u8).read_volatile() }
}

impl ErrorType for Flash {
    type Error = Failed;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Failed> {
        check_read(self, offset, bytes.len())?;
        SPOILED.store(false, Ordering::Relaxed);
        for (at, place) in (offset as usize..).zip(bytes) {
            *place = byte(at);
        }
        if SPOILED.load(Ordering::Relaxed) { Err(Failed(NorFlashErrorKind::Other)) } else { Ok(()) }
    }

    fn capacity(&self) -> usize {
        SETTINGS
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = DOUBLE_WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Failed> {
        check_erase(self, from, to)?;
        (from as usize..to as usize).step_by(PAGE).for_each(|at| self.erase_page(at));
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Failed> {
        check_write(self, offset, bytes.len())?;
        let (words, _) = bytes.as_chunks::<DOUBLE_WORD>();
        for (at, word) in (offset as usize..).step_by(DOUBLE_WORD).zip(words) {
            self.program(at, *word);
        }
        Ok(())
    }
}

/// The two copies of the settings.
#[derive(Debug)]
pub struct Settings(Flash);

impl Settings {
    /// Takes the pages of the settings.
    ///
    /// # Safety
    /// As for [`Flash::take`].
    #[must_use]
    pub const unsafe fn take() -> Self {
        Self(Flash(()))
    }
}

impl Copies for Settings {
    fn read(&mut self, which: usize, out: &mut [u8; MAX_COPY]) {
        let at = SETTINGS + which.min(1) * PAGE;
        for (at, place) in (at..).zip(out) {
            *place = byte(at);
        }
    }

    fn write(&mut self, which: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let begin = SETTINGS + which.min(1) * PAGE;
        self.0.erase_page(begin);
        for (at, chunk) in (begin..).step_by(DOUBLE_WORD).zip(bytes.chunks(DOUBLE_WORD)) {
            let mut word = [0xFF; DOUBLE_WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0.program(at, word);
        }
        // What counts is what it holds: flash at its end, and QEMU's, takes nothing and says nothing.
        match (begin..).zip(bytes).find(|(at, expected)| byte(*at) != **expected) {
            Some((at, _)) => Err(MemoryError { at }),
            None => Ok(()),
        }
    }
}

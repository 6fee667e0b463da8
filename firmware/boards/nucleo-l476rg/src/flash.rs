//! Flash, RM0351 §3.3: pages of 2 KiB in two banks, written by double words.

use ganglion_node::{Copies, MemoryError};
use ganglion_protocols::node_settings::MAX_COPY;
use stm32_metapac as pac;

use crate::wait;

const START: usize = 0x0800_0000;
const PAGE: usize = 2048;
const PAGES_PER_BANK: usize = 256;
/// The first of the two pages that hold the copies of the settings: the last of the flash.
const SETTINGS: usize = START + 510 * PAGE;
const UNLOCK: [u32; 2] = [0x4567_0123, 0xCDEF_89AB];
const DOUBLE_WORD: usize = 8;

/// The two copies of the settings.
pub(crate) struct Settings;

impl Copies for Settings {
    fn read(&mut self, which: usize, out: &mut [u8; MAX_COPY]) {
        let at = SETTINGS + which.min(1) * PAGE;
        for (place, byte) in (at..).zip(out) {
            // SAFETY: an address of the flash, which is always readable.
            *byte = unsafe { (place as *const u8).read_volatile() };
        }
    }

    fn write(&mut self, which: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let at = SETTINGS + which.min(1) * PAGE;
        unlock();
        erase(at);
        for (place, chunk) in (at..).step_by(DOUBLE_WORD).zip(bytes.chunks(DOUBLE_WORD)) {
            let mut word = [0xFF; DOUBLE_WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            program(place, word);
        }
        pac::FLASH.cr().write(|cr| cr.set_lock(true));
        // What counts is what it holds: flash at its end, and QEMU's, takes nothing and says nothing.
        for (at, byte) in (at..).zip(bytes) {
            // SAFETY: an address of the flash, which is always readable.
            if unsafe { (at as *const u8).read_volatile() } != *byte {
                return Err(MemoryError { at });
            }
        }
        Ok(())
    }
}

fn unlock() {
    if pac::FLASH.cr().read().lock() {
        UNLOCK.iter().for_each(|key| pac::FLASH.keyr().write_value(*key));
    }
    // Errors of earlier times would refuse what comes; writing a 1 clears one.
    let errors = pac::FLASH.sr().read();
    pac::FLASH.sr().write_value(errors);
}

/// Erases the page at an address, §3.3.5.
fn erase(at: usize) {
    let page = (at - START) / PAGE;
    wait(|| !pac::FLASH.sr().read().bsy());
    pac::FLASH.cr().write(|cr| {
        cr.set_per(true);
        cr.set_bker(page >= PAGES_PER_BANK);
        cr.set_pnb((page % PAGES_PER_BANK) as u8);
    });
    pac::FLASH.cr().modify(|cr| cr.set_start(true));
    wait(|| !pac::FLASH.sr().read().bsy());
    pac::FLASH.cr().write(|_| {});
}

/// Programs a double word, §3.3.7.
fn program(at: usize, word: [u8; DOUBLE_WORD]) {
    let [a, b, c, d, e, f, g, h] = word;
    pac::FLASH.cr().write(|cr| cr.set_pg(true));
    let place = at as *mut u32;
    // SAFETY: `at` is in the pages of the settings, aligned to 8; nothing runs from there or refers to it.
    unsafe {
        place.write_volatile(u32::from_le_bytes([a, b, c, d]));
        place.add(1).write_volatile(u32::from_le_bytes([e, f, g, h]));
    }
    wait(|| !pac::FLASH.sr().read().bsy());
    pac::FLASH.cr().write(|_| {});
}

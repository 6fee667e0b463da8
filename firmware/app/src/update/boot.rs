//! What a bootloader does before it starts the firmware.
//!
//! | the journal says | it does | and notes |
//! |---|---|---|
//! | `Install` | looks that the stage is still what was verified; copies active to backup | `Saved` |
//! | `Saved` | copies the stage to active; looks at that | `Trial(0)` |
//! | `Trial(n)`, n < 3 | forgets the stage | `Trial(n + 1)`, and starts it |
//! | `Trial(3)` | | `Reverting` |
//! | `Reverting` | copies backup to active | `RolledBack` |
//! | `Idle`, `RolledBack` | starts active | |
//!
//! Each copy leaves its source alone, so that it is simply made again after a cut. `Idle` follows when the firmware
//! confirms itself. The signature is the business of the firmware that received the image: with it a bootloader would need
//! 18 KiB more, and could not be told of another key.

use embedded_storage::nor_flash::NorFlash;

use super::Layout;
use super::flash::{FlashFault, checksum, copy, each_piece};
use super::journal::{Entry, Journal, Step};
use super::stage::Stage;

/// How often a firmware is started that does not confirm itself.
pub const TRIAL_STARTS: u8 = 3;

/// What active holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// A firmware that runs as always.
    Usual,
    /// A new firmware on trial.
    Trial {
        /// How often it will be started again unless it confirms itself.
        left: u8,
    },
    /// The firmware from before an update that was taken back.
    Restored,
    /// Nothing that may be started: the flash takes neither the new firmware nor the old one. Start anew and try again.
    Unusable,
}

/// Finishes whatever an update asks for, and says what active holds then. To be called at every start; it may be cut at any
/// time. The flash must answer a word that cannot be read (ECC) with an error.
pub fn prepare<F: NorFlash>(flash: &mut F, layout: &Layout) -> Slot {
    let mut boot = Boot { journal: Journal::read(flash, layout), flash, layout };
    loop {
        if let Some(slot) = boot.step() {
            return slot;
        }
    }
}

struct Boot<'a, F> {
    flash: &'a mut F,
    layout: &'a Layout,
    journal: Journal,
}

impl<F: NorFlash> Boot<'_, F> {
    /// Does one step; `None` asks for the next one, which the journal then says.
    fn step(&mut self) -> Option<Slot> {
        let layout = self.layout;
        match self.journal.entry.step {
            Step::Idle => Some(Slot::Usual),
            Step::RolledBack => Some(Slot::Restored),
            Step::Install => {
                let saved =
                    self.is_the_image(layout.body()) && self.copy(layout.active(), layout.backup(), layout.slot());
                let noted = if saved { self.note(Step::Saved) } else { self.note_without_stage(Step::RolledBack) };
                // Active was not touched.
                noted.err().map(|_| Slot::Usual)
            }
            Step::Saved => {
                let size = self.journal.entry.size;
                let installed = self.is_the_image(layout.body())
                    && self.copy(layout.body(), layout.active(), size)
                    && self.is_the_image(layout.active());
                if installed {
                    // It could not be counted, then, but it can be started.
                    self.note(Step::Trial(0)).err().map(|_| Slot::Trial { left: TRIAL_STARTS })
                } else {
                    self.note_without_stage(Step::Reverting).err().map(|_| Slot::Unusable)
                }
            }
            Step::Trial(starts) if starts < TRIAL_STARTS => {
                let starts = starts.saturating_add(1);
                let left = TRIAL_STARTS.saturating_sub(starts);
                let _another_start_tries_again = Stage::discard(self.flash, layout).is_err();
                let _it_is_started_once_more = self.note(Step::Trial(starts)).is_err();
                Some(Slot::Trial { left })
            }
            Step::Trial(_) => self.note(Step::Reverting).err().map(|_| Slot::Trial { left: 0 }),
            Step::Reverting => {
                if !self.copy(layout.backup(), layout.active(), layout.slot()) {
                    return Some(Slot::Unusable);
                }
                self.note(Step::RolledBack).err().map(|_| Slot::Restored)
            }
        }
    }

    /// Says whether the image that was verified is there.
    fn is_the_image(&mut self, at: u32) -> bool {
        let mut crc = checksum();
        let read = each_piece(self.flash, at, self.journal.entry.size, |piece| crc.update(piece));
        read.is_ok() && crc.finalize() == self.journal.entry.crc
    }

    fn copy(&mut self, from: u32, to: u32, length: u32) -> bool {
        copy(self.flash, from, to, self.layout.pages(length), self.layout.page()).is_ok()
    }

    /// Notes the end of an installation. The stage goes first: what it holds is of no use.
    fn note_without_stage(&mut self, step: Step) -> Result<(), FlashFault> {
        Stage::discard(self.flash, self.layout)?;
        self.note(step)
    }

    fn note(&mut self, step: Step) -> Result<(), FlashFault> {
        let Entry { size, crc, .. } = self.journal.entry;
        self.journal.append(self.flash, self.layout, Entry { step, size, crc })
    }
}

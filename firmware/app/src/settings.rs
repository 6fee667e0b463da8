//! Settings in two copies.

use ganglion_protocols::node_settings::{MAX_COPY, NodeSettings};

use crate::board::{Copies, MemoryError};

/// The settings in force, and where they are kept.
#[derive(Debug)]
pub struct SettingsKeeper {
    settings: NodeSettings,
    generation: u32,
    /// The copy to be written next.
    next: usize,
    /// Neither copy was whole, though something was there.
    damaged: bool,
}

impl SettingsKeeper {
    /// Takes the whole copy with the higher generation, or the defaults where there is none.
    pub fn load(copies: &mut impl Copies) -> Self {
        let mut found: Option<(u32, NodeSettings)> = None;
        let (mut next, mut damaged) = (0, false);
        for which in [0, 1] {
            let mut bytes = [0; MAX_COPY];
            copies.read(which, &mut bytes);
            match NodeSettings::parse(&bytes) {
                Ok((generation, settings)) => {
                    let newer = found.is_none_or(|(held, _)| generation.wrapping_sub(held) < u32::MAX / 2);
                    if newer {
                        found = Some((generation, settings));
                        next = 1_usize.saturating_sub(which);
                    }
                }
                // Blank memory is all zeros or all ones.
                Err(_) => damaged |= bytes.iter().any(|byte| *byte != 0 && *byte != 0xFF),
            }
        }
        let damaged = damaged && found.is_none();
        let (generation, settings) = found.unwrap_or((0, NodeSettings::DEFAULT));
        Self { settings, generation, next, damaged }
    }

    /// Returns the settings in force.
    #[must_use]
    pub fn get(&self) -> &NodeSettings {
        &self.settings
    }

    /// Says whether settings were there that nobody can read: then the defaults are in force.
    #[must_use]
    pub fn damaged(&self) -> bool {
        self.damaged
    }

    /// Lets new settings hold, which were checked, and writes them over the older copy.
    ///
    /// # Errors
    /// When they are not written: then those before hold.
    pub fn set(&mut self, copies: &mut impl Copies, settings: NodeSettings) -> Result<(), MemoryError> {
        let generation = self.generation.wrapping_add(1);
        let mut bytes = [0; MAX_COPY];
        let used = settings.emit(generation, &mut bytes).map_err(|_| MemoryError { at: MAX_COPY })?;
        copies.write(self.next, bytes.get(..used).unwrap_or_default())?;
        (self.settings, self.generation) = (settings, generation);
        self.next = 1_usize.saturating_sub(self.next);
        self.damaged = false;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]
mod tests {
    use super::*;

    struct Pages {
        pages: [[u8; MAX_COPY]; 2],
        /// Bytes until the power goes.
        left: usize,
    }

    impl Pages {
        fn blank() -> Self {
            Self { pages: [[0xFF; MAX_COPY]; 2], left: usize::MAX }
        }
    }

    impl Copies for Pages {
        fn read(&mut self, which: usize, out: &mut [u8; MAX_COPY]) {
            *out = self.pages[which];
        }

        fn write(&mut self, which: usize, bytes: &[u8]) -> Result<(), MemoryError> {
            self.pages[which] = [0xFF; MAX_COPY];
            for (at, byte) in bytes.iter().enumerate() {
                self.left = self.left.checked_sub(1).ok_or(MemoryError { at })?;
                self.pages[which][at] = *byte;
            }
            Ok(())
        }
    }

    fn unit(unit: u8) -> NodeSettings {
        NodeSettings { unit, ..NodeSettings::DEFAULT }
    }

    #[test]
    fn blank_pages_give_the_defaults() {
        let keeper = SettingsKeeper::load(&mut Pages::blank());
        assert_eq!((keeper.get(), keeper.damaged()), (&NodeSettings::DEFAULT, false));
    }

    #[test]
    fn the_newest_settings_are_found_again() {
        let mut pages = Pages::blank();
        let mut keeper = SettingsKeeper::load(&mut pages);
        for number in 2..9 {
            keeper.set(&mut pages, unit(number)).unwrap();
            assert_eq!(SettingsKeeper::load(&mut pages).get(), &unit(number));
        }
    }

    #[test]
    fn power_lost_at_any_byte_leaves_the_settings_before_or_the_new_ones() {
        for bytes in 0..80 {
            let mut pages = Pages::blank();
            let mut keeper = SettingsKeeper::load(&mut pages);
            keeper.set(&mut pages, unit(2)).unwrap();
            keeper.set(&mut pages, unit(3)).unwrap();
            pages.left = bytes;
            let written = keeper.set(&mut pages, unit(4)).is_ok();
            let found = *SettingsKeeper::load(&mut pages).get();
            assert_eq!(found, unit(if written { 4 } else { 3 }), "after {bytes} bytes");
        }
    }

    #[test]
    fn two_spoiled_copies_are_said() {
        let mut pages = Pages::blank();
        let mut keeper = SettingsKeeper::load(&mut pages);
        keeper.set(&mut pages, unit(2)).unwrap();
        keeper.set(&mut pages, unit(3)).unwrap();
        pages.pages[0][20] ^= 1;
        assert_eq!(SettingsKeeper::load(&mut pages).get(), &unit(3));
        pages.pages[1][20] ^= 1;
        let keeper = SettingsKeeper::load(&mut pages);
        assert_eq!((keeper.get(), keeper.damaged()), (&NodeSettings::DEFAULT, true));
    }
}

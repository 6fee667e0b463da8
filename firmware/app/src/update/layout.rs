//! Where in the flash what is.

/// Where in the flash what is, in bytes from its begin. One behind the other:
///
/// ```text
/// active   slot         the firmware that runs; linked for this place
/// backup   slot         the one before it, while the other is on trial
/// stage    page, slot   header and marks of what arrives; its body
/// journal  2 pages      how far an installation is
/// ```
///
/// Three slots where a swap would do with two and a page: every copy then has a source that nobody touches, so that a cut
/// needs no more to be known than which copy was under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    page: u32,
    slot: u32,
    active: u32,
    backup: u32,
    stage: u32,
    journal: u32,
}

#[allow(clippy::arithmetic_side_effects, reason = "new() bounds every sum; a page is never 0")]
impl Layout {
    /// Lays everything out from `active` on, with pages of `page` bytes and slots of `slot`.
    ///
    /// Returns nothing where `page` is not a power of two from 256 bytes to 64 KiB, where `active` or `slot` is not a
    /// multiple of it, where a slot is empty or has more pages than a page of the stage can mark, or where all of it ends
    /// behind 2^31.
    #[must_use]
    pub const fn new(page: u32, active: u32, slot: u32) -> Option<Self> {
        if !page.is_power_of_two()
            || page < 256
            || page > 0x1_0000
            || !active.is_multiple_of(page)
            || !slot.is_multiple_of(page)
        {
            return None;
        }
        // A page must hold a header of 160 bytes and a mark of 8 for itself and for each page of the body.
        let marks = (page - 160) / 8;
        if slot == 0 || slot / page >= marks || slot > 1 << 24 || active > 1 << 24 {
            return None;
        }
        let backup = active + slot;
        let stage = backup + slot;
        Some(Self { page, slot, active, backup, stage, journal: stage + page + slot })
    }

    /// Returns the size of a page: what is erased at once, or a multiple of it.
    #[must_use]
    pub const fn page(&self) -> u32 {
        self.page
    }

    /// Returns the most bytes a firmware can have.
    #[must_use]
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// Returns where the firmware is that runs.
    #[must_use]
    pub const fn active(&self) -> u32 {
        self.active
    }

    /// Returns where the one before it is kept.
    #[must_use]
    pub const fn backup(&self) -> u32 {
        self.backup
    }

    /// Returns where the header of what arrives is, with the marks behind it.
    #[must_use]
    pub const fn stage(&self) -> u32 {
        self.stage
    }

    /// Returns where the body of what arrives is.
    #[must_use]
    pub const fn body(&self) -> u32 {
        self.stage + self.page
    }

    /// Returns where the two pages of the journal are.
    #[must_use]
    pub const fn journal(&self) -> u32 {
        self.journal
    }

    /// Returns the first byte behind everything.
    #[must_use]
    pub const fn end(&self) -> u32 {
        self.journal + 2 * self.page
    }

    /// Returns how many pages so many bytes of a slot need.
    pub(super) const fn pages(&self, bytes: u32) -> u32 {
        bytes.div_ceil(self.page)
    }
}

//! How far an installation is, over any loss of power.
//!
//! Two pages of cells, written one behind the other; the valid cell with the highest number holds. A page is erased right
//! before its first cell is written, and never the one that holds what holds. So a cell that was torn, or a page that was
//! torn while it was erased, leaves what was said before.
//!
//! ```text
//! cell = number u32, length of the body u24, step u8, CRC-32 of the body u32, CRC-32 of the cell u32      all LE
//! ```

use embedded_storage::nor_flash::NorFlash;

use super::Layout;
use super::flash::{BLANK, FlashFault, checksum_of, erase, program, read};

/// What is to be done, or was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Nothing.
    Idle,
    /// The stage is to be installed; active is untouched.
    Install,
    /// Backup holds what was active; active may be anything.
    Saved,
    /// Active holds the new firmware, which was started so often.
    Trial(u8),
    /// Active may be anything; backup is to become active.
    Reverting,
    /// Active holds the old firmware again.
    RolledBack,
}

/// What the journal says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) step: Step,
    /// Length of the body in the stage, and its CRC-32; they mean nothing where no installation is under way.
    pub(super) size: u32,
    pub(super) crc: u32,
}

/// The journal, and where its next cell is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Journal {
    pub(super) entry: Entry,
    number: u32,
    /// The next cell, counted over both pages.
    next: u32,
    /// The page whose cell holds; none before anything was ever written.
    home: Option<u32>,
}

const CELL: usize = 16;
const CELL_SIZE: u32 = 16;
/// How many cells are tried before the flash is given up.
const ATTEMPTS: u8 = 4;

impl Journal {
    /// Reads what holds. Where nothing is valid nothing is under way.
    pub(super) fn read<F: NorFlash>(flash: &mut F, layout: &Layout) -> Self {
        let entry = Entry { step: Step::Idle, size: 0, crc: 0 };
        let mut journal = Self { entry, number: 0, next: 0, home: None };
        let cells = cells(layout);
        for page in 0..2 {
            let mut behind = 0;
            let mut newest = false;
            for index in 0..cells {
                let mut bytes = [0; CELL];
                let cell = page_start(page, cells).saturating_add(index);
                let readable = read(flash, place(layout, cell), &mut bytes).is_ok();
                if readable && bytes == [BLANK; CELL] {
                    continue;
                }
                behind = index.saturating_add(1);
                match parse(&bytes).filter(|_| readable) {
                    Some((number, entry)) if journal.home.is_none() || number > journal.number => {
                        (journal.number, journal.entry, journal.home) = (number, entry, Some(page));
                        newest = true;
                    }
                    _ => {}
                }
            }
            if newest {
                // One behind the last is the first of the other page, or of this one again.
                journal.next = within(page_start(page, cells).saturating_add(behind), cells);
            }
        }
        journal
    }

    /// Writes what holds from now on. Where it fails, what held before still holds.
    pub(super) fn append<F: NorFlash>(
        &mut self,
        flash: &mut F,
        layout: &Layout,
        entry: Entry,
    ) -> Result<(), FlashFault> {
        let cells = cells(layout);
        let number = self.number.saturating_add(1);
        let mut failed = FlashFault { at: layout.journal() };
        for _ in 0..ATTEMPTS {
            let mut page = u32::from(self.next >= cells);
            if self.next == page_start(page, cells) {
                if self.home == Some(page) {
                    page ^= 1;
                    self.next = page_start(page, cells);
                }
                if let Err(fault) = erase(flash, place(layout, self.next), layout.page()) {
                    failed = fault;
                    continue;
                }
            }
            let cell = self.next;
            self.next = within(cell.saturating_add(1), cells);
            match program(flash, place(layout, cell), &emit(number, entry)) {
                Ok(()) => {
                    (self.number, self.entry, self.home) = (number, entry, Some(page));
                    return Ok(());
                }
                Err(fault) => failed = fault,
            }
        }
        Err(failed)
    }
}

fn cells(layout: &Layout) -> u32 {
    // A page has at least 256 bytes.
    layout.page() / CELL_SIZE
}

/// Behind the last cell of both pages comes the first one.
fn within(cell: u32, cells: u32) -> u32 {
    if cell >= cells.saturating_mul(2) { 0 } else { cell }
}

fn page_start(page: u32, cells: u32) -> u32 {
    page.saturating_mul(cells)
}

fn place(layout: &Layout, cell: u32) -> u32 {
    layout.journal().saturating_add(cell.saturating_mul(CELL_SIZE))
}

fn emit(number: u32, entry: Entry) -> [u8; CELL] {
    let [n0, n1, n2, n3] = number.to_le_bytes();
    let [s0, s1, s2, _] = entry.size.to_le_bytes();
    let [b0, b1, b2, b3] = entry.crc.to_le_bytes();
    let covered = [n0, n1, n2, n3, s0, s1, s2, entry.step.code(), b0, b1, b2, b3];
    let [c0, c1, c2, c3] = checksum_of(&covered).to_le_bytes();
    [n0, n1, n2, n3, s0, s1, s2, entry.step.code(), b0, b1, b2, b3, c0, c1, c2, c3]
}

fn parse(cell: &[u8; CELL]) -> Option<(u32, Entry)> {
    let (covered, crc) = cell.split_last_chunk::<4>()?;
    let &[n0, n1, n2, n3, s0, s1, s2, step, b0, b1, b2, b3] = covered else { return None };
    if checksum_of(covered) != u32::from_le_bytes(*crc) {
        return None;
    }
    let size = u32::from_le_bytes([s0, s1, s2, 0]);
    let crc = u32::from_le_bytes([b0, b1, b2, b3]);
    Some((u32::from_le_bytes([n0, n1, n2, n3]), Entry { step: Step::of(step)?, size, crc }))
}

impl Step {
    fn code(self) -> u8 {
        match self {
            Self::Idle => 0,
            Self::Install => 1,
            Self::Saved => 2,
            Self::Reverting => 3,
            Self::RolledBack => 4,
            Self::Trial(starts) => TRIAL | starts,
        }
    }

    fn of(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Idle),
            1 => Some(Self::Install),
            2 => Some(Self::Saved),
            3 => Some(Self::Reverting),
            4 => Some(Self::RolledBack),
            _ if code & TRIAL != 0 => Some(Self::Trial(code & !TRIAL)),
            _ => None,
        }
    }
}

/// Beside the number of starts.
const TRIAL: u8 = 0x80;

//! A note to the node after the next reset: RAM that nobody clears.

use core::mem::MaybeUninit;

/// Why the node is about to start anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// It was told to.
    Ordered,
    /// It panicked.
    Panicked {
        /// In this line.
        line: u32,
    },
    /// The watchdog was not fed.
    Starved,
    /// The processor met a fault.
    Faulted {
        /// At this address of the program.
        at: u32,
    },
}

const ORDERED: u32 = 0x4E4F_5431;
const PANICKED: u32 = 0x4E4F_5432;
const FAULTED: u32 = 0x4E4F_5433;
const STARVED: u32 = 0x4E4F_5434;

/// Word, detail, and the complement of both, which RAM without power does not have by chance.
type Words = [u32; 3];

#[unsafe(link_section = ".uninit.NOTE")]
static mut NOTE: MaybeUninit<Words> = MaybeUninit::uninit();

/// Leaves a note.
pub fn leave(note: Note) {
    let (word, detail) = match note {
        Note::Ordered => (ORDERED, 0),
        Note::Panicked { line } => (PANICKED, line),
        Note::Faulted { at } => (FAULTED, at),
        Note::Starved => (STARVED, 0),
    };
    write([word, detail, !(word ^ detail)]);
}

/// Takes the note of the life before, if there is one.
pub fn take() -> Option<Note> {
    // SAFETY: any bits are a valid [u32; 3], and only this module, from one context at a time (start, panic or fault), uses
    // the place; volatile because the value is older than this program's run.
    let [word, detail, check] = unsafe { (&raw const NOTE).cast::<Words>().read_volatile() };
    write([0; 3]);
    if check != !(word ^ detail) {
        return None;
    }
    match word {
        ORDERED => Some(Note::Ordered),
        PANICKED => Some(Note::Panicked { line: detail }),
        FAULTED => Some(Note::Faulted { at: detail }),
        STARVED => Some(Note::Starved),
        _ => None,
    }
}

fn write(words: Words) {
    // SAFETY: as in `take`.
    unsafe { (&raw mut NOTE).cast::<Words>().write_volatile(words) }
}

//! What boards with a Cortex-M share.
#![no_std]

pub mod note;
pub mod rings;
pub mod tick;
pub mod turnaround;
mod version;

pub use note::Note;
pub use rings::Rings;
pub use tick::Tick;
pub use turnaround::Turnaround;
pub use version::version;

use core::panic::PanicInfo;

/// A panic is noted with its line, and the node starts anew.
#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let line = info.location().map_or(0, |location| location.line());
    note::leave(Note::Panicked { line });
    cortex_m::peripheral::SCB::sys_reset()
}

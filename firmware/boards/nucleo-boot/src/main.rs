//! What a NUCLEO-L476RG starts with: finishes an update, counts the starts of a trial, then starts the node.
//!
//! It leaves the RAM alone in which the node keeps samples and notes over a reset, and everything else of the chip as a reset
//! does.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use ganglion_node::update::boot::{Slot, prepare};
use stm32l4_flash::{Flash, LAYOUT, START};

/// The node's vector table.
const NODE: usize = START + LAYOUT.active() as usize;

#[cortex_m_rt::entry]
fn main() -> ! {
    // SAFETY: the only one; the node takes it anew when this program is over.
    let mut flash = unsafe { Flash::take() };
    if prepare(&mut flash, &LAYOUT) == Slot::Unusable {
        cortex_m::peripheral::SCB::sys_reset();
    }
    // SAFETY: `prepare` says that a firmware is there, which begins with its vector table and is linked for this place. No
    // interrupt was enabled here.
    unsafe {
        (*cortex_m::peripheral::SCB::PTR).vtor.write(NODE as u32);
        cortex_m::asm::bootload(NODE as *const u32)
    }
}

#[panic_handler]
fn panicked(_info: &PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}

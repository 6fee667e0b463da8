//! Pulses of a flow meter at PC13, counted by interrupt.

use core::sync::atomic::{AtomicU32, Ordering};

use ganglion_board_support::tick::TICKS;
use stm32_metapac::{self as pac, interrupt};

/// The line of PC13.
const LINE: usize = 13;
/// A reed contact bounces for less, in ticks.
const DEAD: u32 = TICKS / 50;

static COUNT: AtomicU32 = AtomicU32::new(0);
static LAST: AtomicU32 = AtomicU32::new(0);

/// Begins to count falling edges, RM0351 §14.3.
pub(crate) fn start() {
    pac::SYSCFG.exticr(LINE / 4).modify(|select| select.set_exti(LINE % 4, 2));
    pac::EXTI.ftsr(0).modify(|edges| edges.set_line(LINE, true));
    pac::EXTI.imr(0).modify(|mask| mask.set_line(LINE, true));
}

/// Returns the pulses since the start; it wraps around.
pub(crate) fn count() -> i32 {
    (COUNT.load(Ordering::Relaxed) & i32::MAX.cast_unsigned()).cast_signed()
}

#[interrupt]
fn EXTI15_10() {
    pac::EXTI.pr(0).write(|pending| pending.set_line(LINE, true));
    let now = crate::TICK.count();
    // Only this interrupt writes them.
    if now.wrapping_sub(LAST.load(Ordering::Relaxed)) >= DEAD {
        COUNT.store(COUNT.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
    LAST.store(now, Ordering::Relaxed);
}

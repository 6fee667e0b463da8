//! Pulses of a flow meter at PC13, an edge an interrupt.

use core::cell::RefCell;
use core::time::Duration;

use critical_section::Mutex;
use ganglion_drivers::chip::pulse::{PulseCounter, PulseTotal};
use stm32_metapac::{self as pac, interrupt};

use crate::TICK;

/// PC13, active low.
const PIN: usize = 13;
/// A reed contact bounces for less.
const DEBOUNCE: Duration = Duration::from_millis(20);

static COUNTER: Mutex<RefCell<PulseCounter>> =
    Mutex::new(RefCell::new(PulseCounter::new(DEBOUNCE, PulseTotal(0), Duration::ZERO, false)));

/// Lets both edges interrupt, RM0351 §14.3.
pub(crate) fn start() {
    pac::SYSCFG.exticr(PIN / 4).modify(|select| select.set_exti(PIN % 4, 2));
    pac::EXTI.ftsr(0).modify(|edges| edges.set_line(PIN, true));
    pac::EXTI.rtsr(0).modify(|edges| edges.set_line(PIN, true));
    pac::EXTI.imr(0).modify(|mask| mask.set_line(PIN, true));
}

/// Returns the pulses since the start, modulo 2^31.
pub(crate) fn count() -> i32 {
    let now = TICK.uptime();
    critical_section::with(|section| COUNTER.borrow_ref_mut(section).total(now)).channel_value()
}

#[interrupt]
fn EXTI15_10() {
    pac::EXTI.pr(0).write(|pending| pending.set_line(PIN, true));
    let low = !pac::GPIOC.idr().read().idr(PIN).to_bits() & 1 == 1;
    let now = TICK.uptime();
    critical_section::with(|section| COUNTER.borrow_ref_mut(section).observe(now, low));
}

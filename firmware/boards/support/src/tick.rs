//! Uptime, from the tick of the processor.

use core::cell::Cell;
use core::time::Duration;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{SCB, SYST};
use critical_section::Mutex;

/// Ticks a second. A silence of 3.5 characters at 9600 Bd is 8 of them, and QEMU's STM32 UART hands over one byte a tick.
pub const TICKS: u32 = 2000;

/// The processor's tick.
pub struct Tick {
    count: Mutex<Cell<u64>>,
}

impl Tick {
    /// Makes a clock that stands at 0.
    #[must_use]
    pub const fn new() -> Self {
        Self { count: Mutex::new(Cell::new(0)) }
    }

    /// Starts the tick of a processor with this clock in Hz.
    pub fn start(&self, syst: &mut SYST, hz: u32) {
        syst.set_clock_source(SystClkSource::Core);
        syst.set_reload(hz / TICKS - 1);
        syst.clear_current();
        syst.enable_counter();
        syst.enable_interrupt();
    }

    /// From the exception `SysTick`.
    pub fn interrupt(&self) {
        critical_section::with(|section| {
            let count = self.count.borrow(section);
            count.set(count.get() + 1);
        });
    }

    /// Returns the ticks since the start; they wrap around.
    pub fn count(&self) -> u32 {
        critical_section::with(|section| self.count.borrow(section).get()) as u32
    }

    /// Returns the cycles of the processor since the start; they wrap around.
    pub fn cycles(&self) -> u32 {
        critical_section::with(|section| {
            let per_tick = SYST::get_reload() + 1;
            let passed = || per_tick - 1 - SYST::get_current();
            let (count, now) = (self.count.borrow(section).get() as u32, passed());
            // A tick that the section holds back is counted here; `now` may be older than it.
            let (count, now) = if SCB::is_pendst_pending() { (count.wrapping_add(1), passed()) } else { (count, now) };
            count.wrapping_mul(per_tick).wrapping_add(now)
        })
    }

    /// Returns the time since the start, to half a millisecond.
    pub fn uptime(&self) -> Duration {
        let count = critical_section::with(|section| self.count.borrow(section).get());
        Duration::from_micros(count * u64::from(1_000_000 / TICKS))
    }
}

impl Default for Tick {
    fn default() -> Self {
        Self::new()
    }
}

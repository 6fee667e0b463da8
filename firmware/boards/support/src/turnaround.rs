//! How long an answer takes, in cycles of the processor: what boards log when they are built with the feature `measure`.

use core::fmt::Write as _;
use core::sync::atomic::{AtomicU32, Ordering};

use heapless::String;

/// When the line was last heard and the loop last woke. Times are in cycles and wrap around.
pub struct Turnaround {
    heard: AtomicU32,
    woke: AtomicU32,
}

impl Turnaround {
    /// Nothing was heard yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { heard: AtomicU32::new(0), woke: AtomicU32::new(0) }
    }

    /// From the interrupt of the line: a byte was heard.
    pub fn heard(&self, now: u32) {
        self.heard.store(now, Ordering::Relaxed);
    }

    /// From the loop: it slept until now.
    pub fn woke(&self, now: u32) {
        self.woke.store(now, Ordering::Relaxed);
    }

    /// From the loop: the UART has the first byte of an answer. Returns the line for the log: `turnaround`, the cycles since
    /// the last byte was heard, and those since the loop woke.
    pub fn said(&self, now: u32) -> String<40> {
        let since = |then: &AtomicU32| now.wrapping_sub(then.load(Ordering::Relaxed));
        let mut line = String::new();
        // Two numbers of at most ten digits fit.
        let _fits = write!(line, "turnaround {} {}", since(&self.heard), since(&self.woke));
        line
    }
}

impl Default for Turnaround {
    fn default() -> Self {
        Self::new()
    }
}

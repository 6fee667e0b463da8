//! Bytes between interrupts and the loop.

use core::cell::RefCell;

use critical_section::Mutex;
use heapless::Deque;

/// Bytes heard that the loop has not taken yet: more than a frame of 256 bytes.
const HEARD: usize = 320;
/// Bytes to say: a frame, or two lines of the log.
const SAID: usize = 256;

/// The two rings of a UART. Its interrupt is at one end, the loop at the other.
pub struct Rings {
    inner: Mutex<RefCell<Inner>>,
}

struct Inner {
    heard: Deque<u8, HEARD>,
    said: Deque<u8, SAID>,
}

impl Rings {
    /// Makes two empty rings.
    #[must_use]
    pub const fn new() -> Self {
        Self { inner: Mutex::new(RefCell::new(Inner { heard: Deque::new(), said: Deque::new() })) }
    }

    /// From the interrupt: a byte was heard. One that has no room spoils what is there, which its checksum will tell.
    pub fn heard(&self, byte: u8) {
        let _spoiled = self.with(|inner| inner.heard.push_back(byte));
    }

    /// From the interrupt: what is to be said next.
    pub fn next_to_say(&self) -> Option<u8> {
        self.with(|inner| inner.said.pop_front())
    }

    /// From the loop: takes what was heard; returns how many bytes.
    pub fn take(&self, out: &mut [u8]) -> usize {
        self.with(|inner| {
            let mut taken = 0;
            for (place, byte) in out.iter_mut().zip(core::iter::from_fn(|| inner.heard.pop_front())) {
                *place = byte;
                taken += 1;
            }
            taken
        })
    }

    /// From the loop: says whether something was heard.
    pub fn has_heard(&self) -> bool {
        self.with(|inner| !inner.heard.is_empty())
    }

    /// From the loop: puts bytes behind those to say; returns how many had room.
    pub fn say(&self, bytes: &[u8]) -> usize {
        self.with(|inner| bytes.iter().take_while(|byte| inner.said.push_back(**byte).is_ok()).count())
    }

    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        critical_section::with(|section| work(&mut self.inner.borrow_ref_mut(section)))
    }
}

impl Default for Rings {
    fn default() -> Self {
        Self::new()
    }
}

//! The two UARTs, by interrupt, without their FIFOs: each byte is told at once.

use core::sync::atomic::{AtomicBool, Ordering};

use ganglion_board_support::Rings;
use ganglion_protocols::node_settings::{NodeLine, NodeParity};

use crate::HZ;
use crate::registers::Register;

/// The log, UART0.
pub(crate) static LOG: Uart = Uart::new(0x4000_C000, &LOG_RINGS);
/// The RS-485 line, UART1.
pub(crate) static LINE: Uart = Uart::new(0x4000_D000, &LINE_RINGS);

const RECEIVED: u32 = 1 << 4;
const SENT: u32 = 1 << 5;
const EMPTY: u32 = 1 << 4;
const EIGHT_BITS: u32 = 0b11 << 5;
const TWO_STOP_BITS: u32 = 1 << 3;
const EVEN: u32 = 1 << 2;
const PARITY: u32 = 1 << 1;
const ENABLE: u32 = 1 << 9 | 1 << 8 | 1;

/// Apart from the UARTs: all zeros at the start, they take no flash.
static LOG_RINGS: Rings = Rings::new();
static LINE_RINGS: Rings = Rings::new();

/// One UART.
pub(crate) struct Uart {
    base: usize,
    rings: &'static Rings,
    speaking: AtomicBool,
}

impl Uart {
    const fn new(base: usize, rings: &'static Rings) -> Self {
        Self { base, rings, speaking: AtomicBool::new(false) }
    }

    fn register(&self, offset: usize) -> Register {
        // SAFETY: the bases are those of UARTs, the offsets below those of their registers.
        unsafe { Register::at(self.base + offset) }
    }

    /// Starts it, data sheet §12.4.
    pub(crate) fn start(&self, line: NodeLine) {
        // Divisor in 64ths, rounded.
        let divisor = (HZ * 4 + line.baud / 2) / line.baud;
        self.register(0x30).write(0);
        self.register(0x24).write(divisor / 64);
        self.register(0x28).write(divisor % 64);
        let parity = match line.parity {
            NodeParity::None => 0,
            NodeParity::Even => PARITY | EVEN,
            NodeParity::Odd => PARITY,
        };
        let stop = if line.stop_bits == 2 { TWO_STOP_BITS } else { 0 };
        self.register(0x2C).write(EIGHT_BITS | parity | stop);
        self.register(0x38).write(RECEIVED | SENT);
        self.register(0x30).write(ENABLE);
    }

    pub(crate) fn rings(&self) -> &Rings {
        self.rings
    }

    pub(crate) fn take(&self, out: &mut [u8]) -> usize {
        self.rings.take(out)
    }

    pub(crate) fn has_heard(&self) -> bool {
        self.rings.has_heard()
    }

    /// Begins to send what is put into the ring.
    pub(crate) fn say(&self, bytes: &[u8]) {
        self.rings.say(bytes);
        self.begin();
    }

    /// Sends the first byte, if none is under way; its end interrupts.
    pub(crate) fn begin(&self) {
        critical_section::with(|_| {
            if !self.speaking.swap(true, Ordering::Relaxed) {
                self.next();
            }
        });
    }

    pub(crate) fn speaking(&self) -> bool {
        self.speaking.load(Ordering::Relaxed)
    }

    fn next(&self) {
        match self.rings.next_to_say() {
            Some(byte) => self.register(0x00).write(u32::from(byte)),
            None => self.speaking.store(false, Ordering::Relaxed),
        }
    }

    /// Serves the interrupt; returns the last byte heard.
    pub(crate) fn interrupt(&self) -> Option<u8> {
        let mut heard = None;
        let causes = self.register(0x40).read();
        self.register(0x44).write(causes);
        while self.register(0x18).read() & EMPTY == 0 {
            let byte = (self.register(0x00).read() & 0xFF) as u8;
            heard = Some(byte);
            // What a transceiver with an open receiver hears of itself.
            if !self.speaking() {
                self.rings.heard(byte);
            }
        }
        if causes & SENT != 0 && self.speaking() {
            self.next();
        }
        heard
    }
}

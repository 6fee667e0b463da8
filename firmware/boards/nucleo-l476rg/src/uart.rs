//! The two UARTs, by interrupt.

use core::sync::atomic::{AtomicBool, Ordering};

use ganglion_board_support::Rings;
use ganglion_protocols::node_settings::{NodeLine, NodeParity};
use stm32_metapac::usart::Usart;
use stm32_metapac::usart::vals::{M0, Ps, Stop};
use stm32_metapac::{self as pac, interrupt};

use crate::HZ;

/// The log, USART2.
pub(crate) static LOG: Uart = Uart::new(pac::USART2, &LOG_RINGS);
/// The RS-485 line, UART4.
pub(crate) static LINE: Uart = Uart::new(pac::UART4, &LINE_RINGS);

/// Apart from the UARTs: all zeros at the start, they take no flash.
static LOG_RINGS: Rings = Rings::new();
static LINE_RINGS: Rings = Rings::new();

/// One UART.
pub(crate) struct Uart {
    registers: Usart,
    rings: &'static Rings,
    speaking: AtomicBool,
}

impl Uart {
    const fn new(registers: Usart, rings: &'static Rings) -> Self {
        Self { registers, rings, speaking: AtomicBool::new(false) }
    }

    /// Starts it, RM0351 §40.5.2. `rs485`: the UART switches the transceiver (driver enable mode, §40.5.18).
    pub(crate) fn start(&self, baud: u32, rs485: bool, line: Option<NodeLine>) {
        let parity = line.map_or(NodeParity::None, |line| line.parity);
        let two = line.is_some_and(|line| line.stop_bits == 2);
        self.registers.cr1().write(|_| {});
        self.registers.brr().write(|brr| brr.set_brr((HZ / baud) as u16));
        self.registers.cr2().write(|cr2| cr2.set_stop(if two { Stop::STOP2 } else { Stop::STOP1 }));
        self.registers.cr3().write(|cr3| cr3.set_dem(rs485));
        self.registers.cr1().write(|cr1| {
            let checked = parity != NodeParity::None;
            cr1.set_m0(if checked { M0::BIT9 } else { M0::BIT8 });
            cr1.set_pce(checked);
            cr1.set_ps(if parity == NodeParity::Odd { Ps::ODD } else { Ps::EVEN });
            cr1.set_te(true);
            cr1.set_re(true);
            cr1.set_rxneie(true);
            cr1.set_ue(true);
        });
    }

    pub(crate) fn rings(&self) -> &Rings {
        self.rings
    }

    /// Takes what was heard.
    pub(crate) fn take(&self, out: &mut [u8]) -> usize {
        self.rings.take(out)
    }

    pub(crate) fn has_heard(&self) -> bool {
        self.rings.has_heard()
    }

    /// Begins to send a frame.
    pub(crate) fn say(&self, frame: &[u8]) {
        self.speaking.store(true, Ordering::Relaxed);
        self.rings.say(frame);
        self.begin();
    }

    /// Lets the interrupt send what is in the ring.
    pub(crate) fn begin(&self) {
        critical_section::with(|_| self.registers.cr1().modify(|cr1| cr1.set_txeie(true)));
    }

    pub(crate) fn speaking(&self) -> bool {
        self.speaking.load(Ordering::Relaxed)
    }

    fn interrupt(&self) {
        let (status, control) = (self.registers.isr().read(), self.registers.cr1().read());
        if status.ore() {
            self.registers.icr().write(|icr| icr.set_ore(true));
        }
        if status.rxne() {
            let byte = (self.registers.rdr().read().0 & 0xFF) as u8;
            // What a transceiver with an open receiver hears of itself.
            if !self.speaking.load(Ordering::Relaxed) {
                self.rings.heard(byte);
            }
        }
        if control.txeie() && status.txe() {
            match self.rings.next_to_say() {
                // A store of 32 bits: QEMU's model takes no other.
                Some(byte) => self.registers.tdr().write(|tdr| tdr.0 = u32::from(byte) as _),
                None => self.registers.cr1().modify(|cr1| {
                    cr1.set_txeie(false);
                    cr1.set_tcie(true);
                }),
            }
        } else if control.tcie() && status.tc() {
            self.registers.cr1().modify(|cr1| cr1.set_tcie(false));
            self.speaking.store(false, Ordering::Relaxed);
        }
    }
}

#[interrupt]
fn USART2() {
    LOG.interrupt();
}

#[interrupt]
fn UART4() {
    #[cfg(feature = "measure")]
    if pac::UART4.isr().read().rxne() {
        crate::TURNAROUND.heard(crate::TICK.cycles());
    }
    LINE.interrupt();
}

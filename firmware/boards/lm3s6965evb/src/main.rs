//! The sensor node on QEMU's `lm3s6965evb`, for what QEMU's STM32 has not: a sensor whose value is set from outside
//! (TMP105), a memory that outlives the power (FRAM, a file outside), a watchdog that resets.
//!
//! | what | is |
//! |---|---|
//! | UART0 | the log; a byte `h` heard there lets the loop starve the watchdog |
//! | UART1 | the RS-485 line |
//! | I2C1, 0x48 | TMP105 |
//! | I2C1, 0x50 | FRAM |
#![no_std]
#![no_main]

mod fram;
mod i2c;
mod registers;
mod uart;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::{NVIC, SCB};
use ganglion_board_support::{Note, Tick, note, version};
use ganglion_drivers::chip::tmp105::{self, Tmp105};
use ganglion_node::{Board, ChannelSpec, NoUpdates, Sensor, SensorKind, Statistic, run};
use ganglion_protocols::node_link::{ResetCause, SensorFault, Version};
use ganglion_protocols::node_settings::{NodeLine, NodeSettings};

/// The clock after a reset in QEMU: 200 MHz / 16.
const HZ: u32 = 12_500_000;
/// The byte on the log that lets the loop starve the watchdog.
const HANG: u8 = b'h';

static TICK: Tick = Tick::new();
#[cfg(feature = "measure")]
static TURNAROUND: ganglion_board_support::Turnaround = ganglion_board_support::Turnaround::new();
static HANGS: AtomicBool = AtomicBool::new(false);

/// Version of this firmware: that of the package.
const VERSION: Version =
    version(env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH"));

/// Interrupts, data sheet table 2-9.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Interrupt {
    Log = 5,
    Line = 6,
    Watchdog = 18,
}

// SAFETY: the numbers are those of the data sheet, below 240.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

#[cortex_m_rt::exception]
fn SysTick() {
    TICK.interrupt();
}

#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    note::leave(Note::Faulted { at: frame.pc() });
    SCB::sys_reset()
}

#[cortex_m_rt::exception]
unsafe fn DefaultHandler(number: i16) {
    const LOG: i16 = Interrupt::Log as i16;
    const LINE: i16 = Interrupt::Line as i16;
    const WATCHDOG: i16 = Interrupt::Watchdog as i16;
    match number {
        LOG if uart::LOG.interrupt() == Some(HANG) => HANGS.store(true, Ordering::Relaxed),
        LINE => {
            let _heard = uart::LINE.interrupt();
            #[cfg(feature = "measure")]
            if _heard.is_some() {
                TURNAROUND.heard(TICK.cycles());
            }
        }
        // Its first time; the second resets, and this note then says why.
        WATCHDOG => {
            note::leave(Note::Starved);
            NVIC::mask(Interrupt::Watchdog);
        }
        _ => {}
    }
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let cause = match note::take() {
        Some(Note::Ordered) => (ResetCause::Order, 0),
        Some(Note::Panicked { line }) => (ResetCause::Fault, line),
        Some(Note::Faulted { at }) => (ResetCause::Fault, at),
        Some(Note::Starved) => (ResetCause::Watchdog, 0),
        None => (ResetCause::Power, 0),
    };
    let Some(mut core) = cortex_m::Peripherals::take() else { SCB::sys_reset() };
    registers::RCGC0.write(1 << 3);
    registers::RCGC1.write(1 << 0 | 1 << 1 | 1 << 14);
    registers::RCGC2.write(1 << 0);
    TICK.start(&mut core.SYST, HZ);
    uart::LOG.start(NodeLine { baud: 115_200, ..NodeSettings::DEFAULT.line });
    let bus = i2c::Bus::start();
    let (samples, settings) = fram::parts(bus);
    let mut board = Evb { cause, thermometer: Tmp105::new(bus, tmp105::ADDRESS), ready: false };
    // SAFETY: the handlers only touch their rings, which are ready.
    unsafe {
        NVIC::unmask(Interrupt::Log);
        NVIC::unmask(Interrupt::Line);
        NVIC::unmask(Interrupt::Watchdog);
    }
    registers::WDTLOAD.write(HZ * 2);
    registers::WDTCTL.write(0b11);
    run(&mut board, VERSION, samples, settings, NoUpdates { running: VERSION })
}

struct Evb {
    cause: (ResetCause, u32),
    thermometer: Tmp105<i2c::Bus>,
    ready: bool,
}

const fn temperature(statistic: Statistic, property: &'static str) -> ChannelSpec {
    ChannelSpec { sensor: 0, statistic, property, unit: "Cel", exponent: -2 }
}

impl Board for Evb {
    const NAME: &'static str = "lm3s6965evb";
    const PERSISTENT: bool = true;
    const SENSORS: &'static [Sensor] = &[Sensor { kind: SensorKind::Gauge, low: -5500, high: 12_800 }];
    const CHANNELS: &'static [ChannelSpec] = &[
        temperature(Statistic::Mean, "temperature"),
        temperature(Statistic::Min, "temperature_min"),
        temperature(Statistic::Max, "temperature_max"),
    ];

    /// The chip has none.
    fn serial(&mut self) -> u64 {
        0
    }

    fn reset_cause(&mut self) -> (ResetCause, u32) {
        self.cause
    }

    fn uptime(&mut self) -> Duration {
        TICK.uptime()
    }

    fn open_line(&mut self, line: NodeLine) {
        uart::LINE.start(line);
    }

    fn hear(&mut self, out: &mut [u8]) -> usize {
        uart::LINE.take(out)
    }

    fn say(&mut self, frame: &[u8]) {
        uart::LINE.say(frame);
        #[cfg(feature = "measure")]
        self.log(&TURNAROUND.said(TICK.cycles()));
    }

    fn speaking(&mut self) -> bool {
        uart::LINE.speaking()
    }

    fn measure(&mut self, _sensor: usize) -> Result<i32, SensorFault> {
        if !self.ready {
            self.thermometer.init().map_err(|error| error.fault())?;
            self.ready = true;
        }
        let measured = self.thermometer.centidegrees().map(i32::from);
        measured.map_err(|error| {
            self.ready = false;
            error.fault()
        })
    }

    /// There is no lamp in QEMU.
    fn show(&mut self, _identify: bool) {}

    fn log(&mut self, line: &str) {
        let rings = uart::LOG.rings();
        rings.say(line.as_bytes());
        rings.say(b"\n");
        uart::LOG.begin();
    }

    fn feed_watchdog(&mut self) {
        if !HANGS.load(Ordering::Relaxed) {
            registers::WDTICR.write(0);
        }
    }

    fn reset(&mut self) -> ! {
        note::leave(Note::Ordered);
        SCB::sys_reset()
    }

    fn sleep(&mut self, until: Duration) {
        // The tick ends each wait.
        while TICK.uptime() < until && !uart::LINE.has_heard() {
            cortex_m::asm::wfi();
        }
        #[cfg(feature = "measure")]
        TURNAROUND.woke(TICK.cycles());
    }
}

//! The sensor node on a NUCLEO-L476RG; the very same binary runs on QEMU's `b-l475e-iot01a`.
//!
//! | pin | what |
//! |---|---|
//! | PA0, PA1, PA15 | UART4: the RS-485 line, its direction switched by the UART |
//! | PA2, PA3 | USART2: the log, at the ST-LINK's port |
//! | PA5 | LD2: find me |
//! | PC0 | ADC1 IN1: pressure transmitter, 4–20 mA over 150 ohms |
//! | PC13 | B1: pulses of a flow meter, active low |
//!
//! **For QEMU**, and no worse on the chip: 32-bit stores to TDR; every wait for a ready bit is bounded; no DMA; the tick is
//! the time base; WFI. What QEMU has not, the node finds out and says: no ADC is a sensor that does not answer, flash that
//! does not take what is written is a setting that is refused.
#![no_std]
#![no_main]

mod adc;
mod pulses;
mod uart;

use core::time::Duration;

use cortex_m::peripheral::{NVIC, SCB};
use ganglion_board_support::{Note, Tick, note, version};
use ganglion_node::update::{About, MAKER_KEY, Updater};
use ganglion_node::{Board, ChannelSpec, Sensor, SensorKind, Statistic, Updates, run};
use ganglion_protocols::node_link::{ResetCause, SensorFault, Version};
use ganglion_protocols::node_settings::NodeLine;
use stm32_metapac::gpio::vals::Moder;
use stm32_metapac::rcc::vals::Sw;
use stm32_metapac::{self as pac, Interrupt};
use stm32l4_flash::{Flash, LAYOUT, Settings};

/// HSI16, RM0351 §6.2.2.
const HZ: u32 = 16_000_000;
/// Bytes of RAM that outlive a reset: the samples and the fault log.
const KEPT: usize = 7 * 1024;
/// Longest wait for a ready bit, in turns of a loop.
pub(crate) const PATIENCE: u32 = 100_000;

static TICK: Tick = Tick::new();
#[cfg(feature = "measure")]
static TURNAROUND: ganglion_board_support::Turnaround = ganglion_board_support::Turnaround::new();

#[unsafe(link_section = ".uninit.KEPT")]
static mut KEPT_BYTES: core::mem::MaybeUninit<[u8; KEPT]> = core::mem::MaybeUninit::uninit();

#[cortex_m_rt::exception]
fn SysTick() {
    TICK.interrupt();
}

#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    note::leave(Note::Faulted { at: frame.pc() });
    SCB::sys_reset()
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let note = note::take();
    let Some(mut core) = cortex_m::Peripherals::take() else { SCB::sys_reset() };
    start_clocks();
    TICK.start(&mut core.SYST, HZ);
    uart::LOG.start(115_200, false, None);
    adc::start();
    pulses::start();
    // SAFETY: these interrupts only touch their rings and counters, which are ready.
    unsafe {
        NVIC::unmask(Interrupt::USART2);
        NVIC::unmask(Interrupt::UART4);
        NVIC::unmask(Interrupt::EXTI15_10);
    }
    // SAFETY: any bits are valid bytes, and this is the only reference ever made to them.
    let kept: &'static mut [u8] = unsafe { &mut *(&raw mut KEPT_BYTES).cast::<[u8; KEPT]>() };
    let mut board = Nucleo { cause: cause(note) };
    start_watchdog();
    let about = About { board: Nucleo::NAME, running: VERSION, key: &MAKER_KEY };
    // SAFETY: the two never touch each other's pages, and the loop uses one at a time.
    let (mut flash, settings) = unsafe { (Flash::take(), Settings::take()) };
    let updater = Updater::recover(&mut flash, LAYOUT, about);
    run(&mut board, VERSION, kept, settings, Updates::new(flash, updater))
}

/// Version of this firmware: that of the package.
const VERSION: Version =
    version(env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH"));

struct Nucleo {
    cause: (ResetCause, u32),
}

/// Why the chip started: the note of the life before, else the flags of RM0351 §6.4.29.
fn cause(note: Option<Note>) -> (ResetCause, u32) {
    let flags = pac::RCC.csr().read();
    pac::RCC.csr().modify(|csr| csr.set_rmvf(true));
    match note {
        Some(Note::Ordered) => (ResetCause::Order, 0),
        Some(Note::Panicked { line }) => (ResetCause::Fault, line),
        Some(Note::Faulted { at }) => (ResetCause::Fault, at),
        Some(Note::Starved) => (ResetCause::Watchdog, 0),
        None if flags.iwdgrstf() || flags.wwdgrstf() => (ResetCause::Watchdog, 0),
        // Power coming up sets it, too, and clears RAM as a brown-out may.
        None if flags.borrstf() => (ResetCause::Power, 0),
        None if flags.pinrstf() => (ResetCause::Pin, 0),
        None => (ResetCause::Unknown, 0),
    }
}

fn start_clocks() {
    let rcc = pac::RCC;
    rcc.cr().modify(|cr| cr.set_hsion(true));
    wait(|| rcc.cr().read().hsirdy());
    rcc.cfgr().modify(|cfgr| cfgr.set_sw(Sw::HSI));
    rcc.ahb2enr().modify(|enable| {
        enable.set_gpioaen(true);
        enable.set_gpiocen(true);
        enable.set_adcen(true);
    });
    rcc.apb1enr1().modify(|enable| {
        enable.set_usart2en(true);
        enable.set_uart4en(true);
        enable.set_pwren(true);
    });
    rcc.apb2enr().modify(|enable| enable.set_syscfgen(true));
    rcc.ccipr().modify(|select| select.set_adcsel(pac::rcc::vals::Adcsel::SYS));
    for (pin, function) in [(0_usize, 8_u8), (1, 8), (15, 8), (2, 7), (3, 7)] {
        pac::GPIOA.afr(pin / 8).modify(|afr| afr.set_afr(pin % 8, function));
        pac::GPIOA.moder().modify(|moder| moder.set_moder(pin, Moder::ALTERNATE));
    }
    pac::GPIOA.moder().modify(|moder| moder.set_moder(5, Moder::OUTPUT));
    pac::GPIOC.moder().modify(|moder| {
        moder.set_moder(0, Moder::ANALOG);
        moder.set_moder(13, Moder::INPUT);
    });
}

/// Waits until something is ready, or patience ends.
pub(crate) fn wait(ready: impl Fn() -> bool) -> bool {
    (0..PATIENCE).any(|_| ready())
}

/// Starts the independent watchdog: 2 s at 32 kHz / 32, RM0351 §36.3.
fn start_watchdog() {
    let watchdog = pac::IWDG;
    watchdog.kr().write(|kr| kr.set_key(pac::iwdg::vals::Key::START));
    watchdog.kr().write(|kr| kr.set_key(pac::iwdg::vals::Key::ENABLE));
    watchdog.pr().write(|pr| pr.set_pr(pac::iwdg::vals::Pr::DIVIDE_BY32));
    watchdog.rlr().write(|rlr| rlr.set_rl(2000));
    wait(|| watchdog.sr().read().0 == 0);
    watchdog.kr().write(|kr| kr.set_key(pac::iwdg::vals::Key::RESET));
}

const PRESSURE: usize = 0;
const FLOW: usize = 1;

const fn pressure(statistic: Statistic, property: &'static str) -> ChannelSpec {
    ChannelSpec { sensor: PRESSURE, statistic, property, unit: "MPa", exponent: -4 }
}

impl Board for Nucleo {
    const NAME: &'static str = "nucleo-l476rg";
    const PERSISTENT: bool = false;
    /// 0 to 1.6 MPa in steps of 0.0001, and pulses of a litre.
    const SENSORS: &'static [Sensor] = &[
        Sensor { kind: SensorKind::Gauge, low: 0, high: 16_000 },
        Sensor { kind: SensorKind::Counter, low: 0, high: i32::MAX },
    ];
    const CHANNELS: &'static [ChannelSpec] = &[
        pressure(Statistic::Mean, "pressure"),
        pressure(Statistic::Min, "pressure_min"),
        pressure(Statistic::Max, "pressure_max"),
        ChannelSpec { sensor: FLOW, statistic: Statistic::Last, property: "total_volume", unit: "m3", exponent: -3 },
    ];

    fn serial(&mut self) -> u64 {
        // Where asking was what ended the life before, it is not done again.
        if self.cause.0 == ResetCause::Fault { 0 } else { chip_number() }
    }

    fn reset_cause(&mut self) -> (ResetCause, u32) {
        self.cause
    }

    fn uptime(&mut self) -> Duration {
        TICK.uptime()
    }

    fn open_line(&mut self, line: NodeLine) {
        uart::LINE.start(line.baud, true, Some(line));
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

    fn measure(&mut self, sensor: usize) -> Result<i32, SensorFault> {
        match sensor {
            PRESSURE => adc::pressure(),
            FLOW => Ok(pulses::count()),
            _ => Err(SensorFault::NoAnswer),
        }
    }

    fn show(&mut self, identify: bool) {
        let lit = identify && TICK.uptime().subsec_millis() < 500;
        pac::GPIOA.bsrr().write(|bits| if lit { bits.set_bs(5, true) } else { bits.set_br(5, true) });
    }

    fn log(&mut self, line: &str) {
        let rings = uart::LOG.rings();
        rings.say(line.as_bytes());
        rings.say(b"\n");
        uart::LOG.begin();
    }

    fn feed_watchdog(&mut self) {
        pac::IWDG.kr().write(|kr| kr.set_key(pac::iwdg::vals::Key::RESET));
    }

    fn reset(&mut self) -> ! {
        note::leave(Note::Ordered);
        SCB::sys_reset()
    }

    fn sleep(&mut self, until: Duration) {
        // The tick ends each wait, so what is heard in between waits for no more than half a millisecond.
        while TICK.uptime() < until && !uart::LINE.has_heard() {
            cortex_m::asm::wfi();
        }
        #[cfg(feature = "measure")]
        TURNAROUND.woke(TICK.cycles());
    }
}

/// Number of the chip, RM0351 §49.1. QEMU has none there and answers with a fault of the bus, after which the node starts
/// anew; a node that was given a serial number never asks.
fn chip_number() -> u64 {
    const AT: *const u32 = 0x1FFF_7590 as *const u32;
    // SAFETY: three readable words of the system memory.
    let words = unsafe { [AT.read_volatile(), AT.add(1).read_volatile(), AT.add(2).read_volatile()] };
    u64::from(words[2] ^ words[0].rotate_left(16)) << 32 | u64::from(words[1] ^ words[0])
}

//! The pressure transmitter: 4–20 mA over 150 ohms at PC0, ADC1 channel 1, RM0351 §18.

use core::num::NonZeroU32;
use core::sync::atomic::{AtomicBool, Ordering};

use ganglion_drivers::chip::loop_current::LoopInput;
use ganglion_protocols::node_link::SensorFault;
use stm32_metapac::adc::vals::SampleTime;
use stm32_metapac::{self as pac};

use crate::{HZ, wait};

/// PC0.
const CHANNEL: u8 = 1;
/// The converter's regulator is ready after 20 µs.
const REGULATOR: u32 = HZ / 50_000;

static READY: AtomicBool = AtomicBool::new(false);

/// Wakes and calibrates the converter. One that does not get ready is not there.
pub(crate) fn start() {
    let adc = pac::ADC1;
    adc.cr().modify(|cr| cr.set_deeppwd(false));
    adc.cr().modify(|cr| cr.set_advregen(true));
    cortex_m::asm::delay(REGULATOR);
    adc.cr().modify(|cr| cr.set_adcal(true));
    wait(|| !adc.cr().read().adcal());
    adc.isr().write(|isr| isr.set_adrdy(true));
    adc.cr().modify(|cr| cr.set_aden(true));
    READY.store(wait(|| adc.isr().read().adrdy()), Ordering::Relaxed);
    adc.smpr(0).modify(|smpr| smpr.set_smp(usize::from(CHANNEL), SampleTime::CYCLES47_5));
    adc.sqr1().write(|sqr| {
        sqr.set_l(0);
        sqr.set_sq(0, CHANNEL);
    });
}

/// Measures the pressure, in units of 0.0001 MPa: 4 mA are 0, 20 mA are 1.6 MPa.
pub(crate) fn pressure() -> Result<i32, SensorFault> {
    if !READY.load(Ordering::Relaxed) {
        return Err(SensorFault::NoAnswer);
    }
    let adc = pac::ADC1;
    adc.cr().modify(|cr| cr.set_adstart(true));
    if !wait(|| adc.isr().read().eoc()) {
        return Err(SensorFault::NoAnswer);
    }
    let count = u32::from(adc.dr().read().regular_data());
    let shunt = NonZeroU32::new(150_000);
    let input = shunt.and_then(|shunt| LoopInput::new(4096, 3300, shunt, (0, 16_000)));
    input.ok_or(SensorFault::NoAnswer)?.read(count).map(|reading| reading.value)
}

//! The pressure transmitter: 4–20 mA over a shunt, at ADC1.

use core::sync::atomic::{AtomicBool, Ordering};

use ganglion_drivers::chip::loop_current::LoopInput;
use ganglion_drivers::chip::two_point::TwoPoint;
use ganglion_protocols::node_link::SensorFault;
use stm32_metapac as pac;
use stm32_metapac::adc::vals::{Adcaldif, Dmngt, Exten, Res, SampleTime};

use crate::wait;

static READY: AtomicBool = AtomicBool::new(false);

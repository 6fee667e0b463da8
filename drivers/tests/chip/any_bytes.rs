//! Whatever a chip sends.

use std::convert::Infallible;

use embedded_hal::i2c::{ErrorType, I2c, Operation};
use ganglion_drivers::chip::ds18b20::{Ds18b20, Rom};
use ganglion_drivers::chip::fram::{Kind, Memory};
use ganglion_drivers::chip::lis2dh::Lis2dh;
use ganglion_drivers::chip::one_wire::OneWire;
use ganglion_drivers::chip::sht3x::Sht3x;
use ganglion_drivers::chip::tilt::{CoverLimits, CoverWatch};
use ganglion_drivers::chip::tmp105::Tmp105;
use proptest::prelude::*;

use super::ms;

/// A bus that says these bytes, over and over.
struct Says {
    bytes: Vec<u8>,
    at: usize,
}

impl Says {
    fn next(&mut self) -> u8 {
        self.at += 1;
        self.bytes[self.at % self.bytes.len()]
    }
}

impl ErrorType for Says {
    type Error = Infallible;
}

impl I2c for Says {
    fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), Infallible> {
        for operation in operations {
            if let Operation::Read(buffer) = operation {
                buffer.fill_with(|| self.next());
            }
        }
        Ok(())
    }
}

impl OneWire for Says {
    type Error = Infallible;

    fn reset(&mut self) -> Result<bool, Infallible> {
        Ok(true)
    }

    fn write_bit(&mut self, _: bool) -> Result<(), Infallible> {
        Ok(())
    }

    fn read_bit(&mut self) -> Result<bool, Infallible> {
        Ok(self.next() & 1 == 1)
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_chip_panic_and_a_value_is_within_its_range(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
        let mut bus = Says { bytes, at: 0 };
        let mut sht3x = Sht3x::new(&mut bus, 0x44);
        sht3x.start(ms(0)).unwrap();
        if let Ok(climate) = sht3x.read(ms(1_000)) {
            prop_assert!((-4_500..=13_000).contains(&climate.temperature) && climate.humidity <= 10_000);
        }
        let mut tmp105 = Tmp105::new(&mut bus, 0x48);
        tmp105.init().ok();
        if let Ok(centidegrees) = tmp105.centidegrees() {
            prop_assert!((-12_800..=12_794).contains(&centidegrees));
        }
        let mut lis2dh = Lis2dh::new(&mut bus, 0x18);
        lis2dh.init().ok();
        if let (Ok(mounted), Ok(felt)) = (lis2dh.read(), lis2dh.read())
            && let Some(mut watch) = CoverWatch::new(mounted, CoverLimits::new(30, 200, 10).unwrap())
        {
            prop_assert!(watch.observe(felt).is_none_or(|(_, angle)| angle <= 1_800));
        }
        let mut ds18b20 = Ds18b20::new(Rom::read(&mut bus).ok());
        ds18b20.start(&mut bus, ms(0)).unwrap();
        ds18b20.read(&mut bus, ms(1_000)).ok();
    }

    #[test]
    fn no_place_in_any_memory_makes_it_panic(capacity: u32, page: u16, at: u16, len in 0..300_usize) {
        let mut memory = Memory::new(Says { bytes: vec![1], at: 0 }, 0x50, Kind { capacity, page, patience: 1 });
        let fits = u64::from(at) + len as u64 <= u64::from(capacity.min(0x1_0000));
        prop_assert_eq!(memory.write(at, &vec![0; len]).is_ok(), fits);
        prop_assert_eq!(memory.read(at, &mut vec![0; len]).is_ok(), fits);
    }
}

//! From counts to values.

use std::num::{NonZeroU16, NonZeroU32};

use ganglion_drivers::chip::loop_current::{LoopInput, LoopReading, MAX_COUNTS};
use ganglion_drivers::chip::ratiometric::RatioInput;
use ganglion_drivers::chip::two_point::TwoPoint;
use ganglion_protocols::node_link::SensorFault;
use proptest::prelude::*;

/// 100 Ω and 2.5 V on 16 bits: 25 mA over all, 0.0 to 10.00 bar.
fn pressure() -> LoopInput {
    LoopInput::new(65_536, 2_500, NonZeroU32::new(100_000).unwrap(), (0, 1_000)).unwrap()
}

/// Returns the count of a current in µA.
fn count(micro_ampere: u32) -> u32 {
    (micro_ampere * 65_536).div_ceil(25_000)
}

#[test]
fn a_count_becomes_a_current_and_the_current_a_value() {
    assert_eq!(pressure().current_na(0), 0);
    assert_eq!(pressure().current_na(65_536), 25_000_000);
    assert_eq!(pressure().current_na(32_768), 12_500_000);
    for (micro_ampere, value) in [(4_000, 0), (12_000, 500), (20_000, 1_000), (3_900, -6), (20_400, 1_025)] {
        assert_eq!(pressure().read(count(micro_ampere)), Ok(LoopReading { value, saturated: false }), "{micro_ampere}");
    }
}

#[test]
fn a_transmitter_at_its_end_says_its_bound_and_that_it_is_one() {
    for (micro_ampere, value) in [(3_610, -13), (3_790, -13), (20_510, 1_031), (20_990, 1_031)] {
        assert_eq!(pressure().read(count(micro_ampere)), Ok(LoopReading { value, saturated: true }), "{micro_ampere}");
    }
}

#[test]
fn a_current_out_of_namur_ne_43_is_a_broken_wire_or_over_range() {
    for micro_ampere in [0, 1, 2_000, 3_599] {
        assert_eq!(pressure().read(count(micro_ampere)), Err(SensorFault::BrokenWire), "{micro_ampere}");
    }
    for micro_ampere in [21_000, 22_000, 24_999, 25_000, 60_000] {
        assert_eq!(pressure().read(count(micro_ampere)), Err(SensorFault::OverRange), "{micro_ampere}");
    }
    assert_eq!(pressure().read(u32::MAX), Err(SensorFault::OverRange));
}

#[test]
fn a_converter_that_ends_within_the_loops_range_says_over_range_at_its_last_count() {
    // 165 Ω and 3.3 V end at 20 mA.
    let short = LoopInput::new(4_096, 3_300, NonZeroU32::new(165_000).unwrap(), (0, 1_000)).unwrap();
    assert_eq!(short.read(4_095), Err(SensorFault::OverRange));
    assert!(short.read(4_094).is_ok());
}

#[test]
fn an_input_of_no_counts_or_more_than_a_converter_has_is_none() {
    let of = |counts| LoopInput::new(counts, 2_500, NonZeroU32::MIN, (0, 1));
    assert_eq!([0, 1, MAX_COUNTS + 1, u32::MAX].map(|counts| of(counts).is_some()), [false; 4]);
    assert!(of(MAX_COUNTS).is_some());
}

#[test]
fn a_line_goes_through_its_two_points_and_is_rounded_to_the_nearest() {
    let line = TwoPoint::new((10, 100), (20, 105)).unwrap();
    assert_eq!([10, 11, 12, 13, 20, 0].map(|source| line.at(source)), [100, 101, 101, 102, 105, 95]);
    let falling = TwoPoint::new((20, -100), (10, 100)).unwrap();
    assert_eq!([10, 15, 20, 25].map(|source| falling.at(source)), [100, 0, -100, -200]);
}

#[test]
fn two_points_with_one_source_value_are_no_line() {
    assert_eq!(TwoPoint::new((7, 0), (7, 1)), None);
    assert_eq!(TwoPoint::new((0, i32::MIN), (1, i32::MAX)), None);
    assert_eq!(TwoPoint::new((0, 0), (1, i32::MIN)), None);
}

/// A potentiometer of 0 to 360.0°, whose wiper keeps between 5 and 95 % of the supply.
fn potentiometer() -> RatioInput {
    let scale = TwoPoint::new((50_000_000, 0), (950_000_000, 3_600)).unwrap();
    RatioInput::new(4_000, scale, (40_000_000, 960_000_000)).unwrap()
}

#[test]
fn a_share_of_the_supply_becomes_a_value() {
    assert_eq!(potentiometer().share_ppb(2_000), 500_000_000);
    assert_eq!(
        [200, 2_000, 3_800, 160, 3_840].map(|count| potentiometer().read(count).unwrap()),
        [0, 1_800, 3_600, -40, 3_640]
    );
}

#[test]
fn a_wiper_at_either_end_is_a_fault() {
    assert_eq!([0, 159].map(|count| potentiometer().read(count)), [Err(SensorFault::BrokenWire); 2]);
    assert_eq!(
        [3_841, 3_999, 4_000, i32::MAX].map(|count| potentiometer().read(count)),
        [Err(SensorFault::OverRange); 4]
    );
}

#[test]
fn a_bridge_is_read_in_nanovolts_per_volt_behind_its_amplifier() {
    // 2 mV/V at 1000.0 kg, 24 bits, gain 128.
    let scale = TwoPoint::new((0, 0), (2_000_000, 10_000)).unwrap();
    let bridge = RatioInput::new(1 << 23, scale, (-100_000, 2_500_000)).unwrap().bridge(NonZeroU16::new(128).unwrap());
    assert_eq!(bridge.share_ppb(1 << 21), 1_953_125);
    assert_eq!(bridge.read(1 << 21), Ok(9_766));
    assert_eq!(bridge.read(-(1 << 20)), Err(SensorFault::UnderRange));
    assert_eq!(bridge.read((1 << 23) - 1), Err(SensorFault::OverRange));
}

proptest! {
    #[test]
    fn no_count_of_any_input_panics_and_more_current_is_never_less_value(
        counts in 2..=MAX_COUNTS, reference: u16, shunt in 1..=u32::MAX, high in 1..=i32::MAX, a: u32, b: u32,
    ) {
        let input = LoopInput::new(counts, reference, NonZeroU32::new(shunt).unwrap(), (0, high)).unwrap();
        let (low, high) = (a.min(b), a.max(b));
        prop_assert!(input.current_na(low) <= input.current_na(high));
        if let (Ok(low), Ok(high)) = (input.read(low), input.read(high)) {
            prop_assert!(low.value <= high.value);
        }
    }

    #[test]
    fn no_count_of_any_bridge_panics(counts in 2..=MAX_COUNTS, gain in 1..=u16::MAX, count: i32) {
        let scale = TwoPoint::new((i32::MIN, 0), (i32::MAX, i32::MAX)).unwrap();
        let input = RatioInput::new(counts, scale, (i32::MIN, i32::MAX)).unwrap();
        let either = input.bridge(NonZeroU16::new(gain).unwrap()).read(count);
        prop_assert!(either.is_ok() || i64::from(count) >= i64::from(counts) - 1);
    }

    #[test]
    fn a_line_is_what_wide_integers_say(first: (i32, i32), second: (i32, i32), source: i32) {
        if let Some(line) = TwoPoint::new(first, second) {
            let run = i128::from(second.0) - i128::from(first.0);
            let product = (i128::from(source) - i128::from(first.0)) * (i128::from(second.1) - i128::from(first.1));
            let half = (run.abs() / 2) * product.signum();
            let exact = i128::from(first.1) + (product + half) / run;
            let clamped = exact.clamp(i128::from(i32::MIN), i128::from(i32::MAX));
            prop_assert_eq!(i128::from(line.at(source)), clamped);
        }
    }
}

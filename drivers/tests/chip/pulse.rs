//! Pulses.

use ganglion_drivers::chip::pulse::{BadTotal, PulseCounter, PulseTotal};
use proptest::prelude::*;

use super::ms;

/// Debounces 10 ms, from nothing.
fn counter() -> PulseCounter {
    PulseCounter::new(ms(10), PulseTotal(0), ms(0), false)
}

/// Plays edges in ms and returns the total at the end.
fn play(edges: &[(u64, bool)], end: u64) -> u64 {
    let mut counter = counter();
    for &(at, active) in edges {
        counter.observe(ms(at), active);
    }
    counter.total(ms(end)).0
}

#[test]
fn a_pulse_counts_when_it_has_held_for_the_debounce_time() {
    assert_eq!(play(&[(100, true)], 109), 0);
    assert_eq!(play(&[(100, true)], 110), 1);
    assert_eq!(play(&[(100, true), (110, false)], 110), 1);
    assert_eq!(play(&[(100, true), (150, false), (200, true), (250, false)], 300), 2);
}

#[test]
fn a_contact_that_bounces_is_one_pulse() {
    let edges =
        [(100, true), (101, false), (102, true), (104, false), (105, true), (150, false), (151, true), (153, false)];
    assert_eq!(play(&edges, 200), 1);
}

#[test]
fn a_glitch_is_no_pulse() {
    assert_eq!(play(&[(100, true), (109, false)], 200), 0);
    assert_eq!(play(&[(100, true), (150, false), (159, true), (200, false)], 300), 1, "a gap too short is none either");
}

#[test]
fn a_polled_level_counts_as_its_edges_do() {
    let mut counter = counter();
    for at in 0..1_000 {
        counter.observe(ms(at), at % 100 >= 50);
    }
    assert_eq!(counter.total(ms(1_000)), PulseTotal(10));
}

#[test]
fn a_level_that_is_active_at_the_start_is_no_pulse() {
    let mut counter = PulseCounter::new(ms(10), PulseTotal(41), ms(0), true);
    assert_eq!(counter.total(ms(100)), PulseTotal(41));
    counter.observe(ms(100), false);
    counter.observe(ms(200), true);
    assert_eq!(counter.total(ms(210)), PulseTotal(42));
}

#[test]
fn a_total_is_kept_with_a_check() {
    // The CRC-32 of 0x01 and seven zeros, from another implementation.
    let one = [1, 0, 0, 0, 0, 0, 0, 0, 0xF7, 0xDF, 0x88, 0xA9];
    assert_eq!(PulseTotal(1).to_bytes(), one);
    assert_eq!(PulseTotal::from_bytes(one), Ok(PulseTotal(1)));
}

#[test]
fn memory_that_was_never_written_is_no_total() {
    assert_eq!(PulseTotal::from_bytes([0; 12]), Err(BadTotal { got: 0, expected: 0x6522_DF69 }));
    assert!(PulseTotal::from_bytes([0xFF; 12]).is_err());
}

#[test]
fn a_channel_goes_on_from_0_after_its_highest_value() {
    assert_eq!(PulseTotal(0x7FFF_FFFF).channel_value(), i32::MAX);
    assert_eq!(PulseTotal(0x8000_0000).channel_value(), 0);
    assert_eq!(PulseTotal(u64::MAX).channel_value(), i32::MAX);
}

proptest! {
    #[test]
    fn a_stored_total_comes_back_and_one_spoilt_bit_is_seen(total: u64, bit in 0..96_usize) {
        let mut stored = PulseTotal(total).to_bytes();
        prop_assert_eq!(PulseTotal::from_bytes(stored), Ok(PulseTotal(total)));
        stored[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(PulseTotal::from_bytes(stored).is_err());
    }

    #[test]
    fn pulses_that_are_long_enough_are_counted_however_they_bounce(
        pulses in prop::collection::vec((10..100_u64, 10..100_u64, prop::collection::vec(1..4_u64, 0..3)), 0..50),
    ) {
        let mut counter = counter();
        let mut now = 0;
        for (high, low, bounces) in &pulses {
            for (steady, level) in [(high, true), (low, false)] {
                for bounce in bounces {
                    counter.observe(ms(now), level);
                    counter.observe(ms(now + bounce), !level);
                    now += 2 * bounce;
                }
                counter.observe(ms(now), level);
                now += steady;
            }
        }
        prop_assert_eq!(counter.total(ms(now)).0, pulses.len() as u64);
    }
}

#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

extern crate std;

use std::vec::Vec;

use super::Change::{Cleared, Raised};
use super::*;
use ganglion_protocols::Reason;
use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

const ABOVE: Condition = Condition::Above { limit: 1.2, hysteresis: 0.05 };
const BELOW: Condition = Condition::Below { limit: 0.1, hysteresis: 0.02 };

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

const fn good(value: Value) -> Reading {
    Reading { value: Some(value), quality: Quality::Good }
}

const fn number(value: f64) -> Reading {
    good(Value::Double(value))
}

const BAD: Reading = Reading { value: None, quality: Quality::Bad(Reason::Timeout) };

/// Plays readings a second apart and returns when it changed.
fn play(mut alarm: Alarm, readings: &[Reading]) -> Vec<(u64, Change)> {
    let seconds = (0..).zip(readings);
    seconds.filter_map(|(now, reading)| Some((now, alarm.observe(s(now), reading)?))).collect()
}

#[test]
fn a_state_is_raised_while_it_is_on_and_a_normal_start_says_nothing() {
    let readings = [false, false, true, true, false, true].map(|state| good(Value::Bool(state)));
    let alarm = Alarm::new(Condition::On, Duration::ZERO);
    assert_eq!(play(alarm, &readings), [(2, Raised), (4, Cleared), (5, Raised)]);
}

#[test]
fn what_holds_at_the_first_reading_is_raised_then() {
    assert_eq!(play(Alarm::new(Condition::On, Duration::ZERO), &[good(Value::Bool(true))]), [(0, Raised)]);
    assert_eq!(play(Alarm::new(BELOW, Duration::ZERO), &[number(0.0)]), [(0, Raised)]);
}

#[test]
fn a_limit_is_no_alarm_and_neither_is_it_over_within_the_hysteresis() {
    let readings = [1.2, 1.201, 1.2, 1.151, 1.15, 1.2, 1.3].map(number);
    assert_eq!(play(Alarm::new(ABOVE, Duration::ZERO), &readings), [(1, Raised), (4, Cleared), (6, Raised)]);
    let readings = [0.1, 0.099, 0.1, 0.119, 0.12, 0.1, 0.0].map(number);
    assert_eq!(play(Alarm::new(BELOW, Duration::ZERO), &readings), [(1, Raised), (4, Cleared), (6, Raised)]);
}

#[test]
fn a_number_of_any_type_is_compared_and_a_binary32_with_its_own_digits() {
    let above = |limit| Condition::Above { limit, hysteresis: 0.0 };
    for (value, limit, raised) in [
        (Value::Single(0.1), 0.1, false),
        (Value::Single(0.100_001), 0.1, true),
        (Value::Single(221.4), 221.4, false),
        (Value::Int(-3), -4.0, true),
        (Value::Uint(70), 70.0, false),
        (Value::Uint(u64::MAX), 70.0, true),
        (Value::Bool(true), 0.5, false),
        (Value::Double(f64::NAN), 0.0, false),
    ] {
        let change = Alarm::new(above(limit), Duration::ZERO).observe(s(0), &good(value));
        assert_eq!(change.is_some(), raised, "{value:?} above {limit}");
    }
    assert_eq!(Alarm::new(Condition::On, Duration::ZERO).observe(s(0), &good(Value::Uint(1))), None);
}

#[test]
fn a_condition_must_hold_for_its_time_to_be_raised_and_to_be_cleared() {
    let mut alarm = Alarm::new(ABOVE, s(600));
    let transcript = [
        (0, 1.3, None),
        (599, 1.3, None),
        (600, 1.3, Some(Raised)),
        (601, 1.0, None),
        (1200, 1.16, None),
        (1201, 1.0, None),
        (1800, 1.0, None),
        (1801, 1.0, Some(Cleared)),
    ];
    for (now, value, change) in transcript {
        assert_eq!(alarm.observe(s(now), &number(value)), change, "at {now}");
    }
}

#[test]
fn a_short_outage_does_not_delay_an_alarm_and_a_longer_one_than_its_time_does() {
    let outage = |bad: &[u64]| {
        let mut alarm = Alarm::new(ABOVE, s(10));
        let reading = |now| if bad.contains(&now) { BAD } else { number(1.3) };
        (0..60).find(|&now| alarm.observe(s(now), &reading(now)).is_some())
    };
    assert_eq!(outage(&[]), Some(10));
    assert_eq!(outage(&[2, 3, 5, 9]), Some(10));
    let long: Vec<_> = (5..16).collect();
    assert_eq!(outage(&long), Some(26), "nobody knows what was between 4 and 16");
}

#[test]
fn readings_further_apart_than_the_hold_time_raise_at_the_second() {
    let mut alarm = Alarm::new(ABOVE, s(10));
    let changes = [0, 60].map(|now| alarm.observe(s(now), &number(1.3)));
    assert_eq!(changes, [None, Some(Raised)]);
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Uint),
        any::<f32>().prop_map(Value::Single),
        any::<f64>().prop_map(Value::Double),
        (-2_i32..3).prop_map(|value| Value::Double(f64::from(value))),
    ]
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let quality = prop_oneof![
        3 => Just(Quality::Good),
        1 => Just(Quality::Uncertain(Reason::Missing)),
        1 => Just(Quality::Bad(Reason::Timeout)),
    ];
    (prop::option::of(any_value()), quality).prop_map(|(value, quality)| Reading { value, quality })
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let limits = || (-2.0..2.0, prop_oneof![Just(0.0), 0.0..1.0]);
    prop_oneof![
        Just(Condition::On),
        limits().prop_map(|(limit, hysteresis)| Condition::Above { limit, hysteresis }),
        limits().prop_map(|(limit, hysteresis)| Condition::Below { limit, hysteresis }),
    ]
}

proptest! {
    #[test]
    fn raised_and_cleared_take_turns_whatever_is_read(
        condition in any_condition(),
        hold in 0_u64..20,
        readings in prop::collection::vec((0_u64..30, any_reading()), 0..60),
    ) {
        let mut alarm = Alarm::new(condition, s(hold));
        let mut now = Duration::ZERO;
        let mut last = Cleared;
        let mut changed = None;
        for (pause, reading) in readings {
            now += s(pause);
            let Some(change) = alarm.observe(now, &reading) else { continue };
            prop_assert_eq!(change, if last == Raised { Cleared } else { Raised });
            prop_assert_eq!(alarm.is_raised(), change == Raised);
            prop_assert!(reading.quality == Quality::Good && reading.value.is_some());
            let apart = changed.is_none_or(|changed: Duration| now - changed >= s(hold));
            prop_assert!(apart, "a change held for less than {}", hold);
            (last, changed) = (change, Some(now));
        }
    }

    #[test]
    fn a_value_that_hovers_within_the_hysteresis_changes_nothing(
        raised in any::<bool>(),
        hold in 0_u64..5,
        values in prop::collection::vec(1.1501..1.2, 0..50),
    ) {
        let mut alarm = Alarm::new(ABOVE, s(hold));
        if raised {
            alarm.observe(s(0), &number(2.0));
            alarm.observe(s(hold), &number(2.0));
        }
        for (now, value) in (10..).zip(values) {
            prop_assert_eq!(alarm.observe(s(now), &number(value)), None);
        }
        prop_assert_eq!(alarm.is_raised(), raised);
    }

    #[test]
    fn a_reading_that_is_not_good_keeps_the_alarm_as_it_is(
        condition in any_condition(),
        before in prop::collection::vec(any_reading(), 0..20),
        value in prop::option::of(any_value()),
        uncertain in any::<bool>(),
    ) {
        let mut alarm = Alarm::new(condition, Duration::ZERO);
        for (now, reading) in (0..).zip(&before) {
            alarm.observe(s(now), reading);
        }
        let raised = alarm.is_raised();
        let quality = if uncertain { Quality::Uncertain(Reason::Missing) } else { Quality::Bad(Reason::OutOfRange) };
        prop_assert_eq!(alarm.observe(s(100), &Reading { value, quality }), None);
        prop_assert_eq!(alarm.is_raised(), raised);
    }
}

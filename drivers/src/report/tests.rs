#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

use super::*;
use ganglion_protocols::{Quality, Reason};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

const HOUR: Duration = s(3600);
const ANY: Deadband = Deadband { absolute: 0.0, percent: 0.0 };

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

const fn absolute(absolute: f64) -> Deadband {
    Deadband { absolute, percent: 0.0 }
}

const fn percent(percent: f64) -> Deadband {
    Deadband { absolute: 0.0, percent }
}

const fn good(value: Value) -> Reading {
    Reading { value: Some(value), quality: Quality::Good }
}

const fn bad(reason: Reason) -> Reading {
    Reading { value: None, quality: Quality::Bad(reason) }
}

/// Tells whether the second value is reported after the first.
fn reported(last: Value, value: Value, deadband: Deadband) -> bool {
    let (mut reporter, mut kept) = (Reporter::new(HOUR), [None]);
    assert_eq!(reporter.decide(s(0), &[good(last)], |_| deadband, &mut kept), Some(Cause::First));
    reporter.decide(s(1), &[good(value)], |_| deadband, &mut kept) == Some(Cause::Moved)
}

#[test]
fn the_first_observation_is_reported_and_an_equal_one_is_not() {
    let (mut reporter, mut last) = (Reporter::new(HOUR), [None; 2]);
    let readings = [good(Value::Bool(true)), good(Value::Double(20.0))];
    assert_eq!(reporter.decide(s(50), &readings, |_| ANY, &mut last), Some(Cause::First));
    assert_eq!(reporter.decide(s(51), &readings, |_| ANY, &mut last), None);
}

#[test]
fn one_reading_that_moved_reports_all_and_all_are_kept() {
    let (mut reporter, mut last) = (Reporter::new(HOUR), [None; 2]);
    let pair = |a, b| [good(Value::Int(a)), good(Value::Int(b))];
    let deadband = |place| absolute([10.0, 2.0][place]);
    assert_eq!(reporter.decide(s(0), &pair(100, 100), deadband, &mut last), Some(Cause::First));
    assert_eq!(reporter.decide(s(1), &pair(110, 102), deadband, &mut last), None);
    assert_eq!(reporter.decide(s(2), &pair(109, 103), deadband, &mut last), Some(Cause::Moved));
    assert_eq!(reporter.decide(s(3), &pair(99, 103), deadband, &mut last), None, "10 from the 109 reported");
    assert_eq!(reporter.decide(s(4), &pair(98, 103), deadband, &mut last), Some(Cause::Moved));
}

#[test]
fn a_slow_drift_is_reported_since_the_last_reported_value_counts() {
    let (mut reporter, mut last) = (Reporter::new(HOUR), [None]);
    let mut reports = 0;
    for step in 0_u32..=1000 {
        let level = 2.0 + f64::from(step) * 0.001;
        let now = s(u64::from(step));
        reports +=
            u32::from(reporter.decide(now, &[good(Value::Double(level))], |_| absolute(0.05), &mut last).is_some());
        let Some(Some(Reading { value: Some(Value::Double(shown)), .. })) = last.first() else { panic!("{last:?}") };
        assert!((level - shown).abs() < 0.050_001, "{level} is shown as {shown}");
    }
    assert_eq!(reports, 1 + 1000 / 51);
}

#[test]
fn a_quality_its_reason_and_a_value_that_comes_or_goes_are_changes() {
    let (mut reporter, mut last) = (Reporter::new(HOUR), [None]);
    let value = Some(Value::Double(5.0));
    let transcript = [
        (Reading { value, quality: Quality::Good }, Some(Cause::First)),
        (bad(Reason::Timeout), Some(Cause::Quality)),
        (bad(Reason::Timeout), None),
        (bad(Reason::Malformed), Some(Cause::Quality)),
        (Reading { value, quality: Quality::Bad(Reason::Malformed) }, Some(Cause::Presence)),
        (Reading { value, quality: Quality::Uncertain(Reason::Malformed) }, Some(Cause::Quality)),
        (Reading { value: None, quality: Quality::Uncertain(Reason::Malformed) }, Some(Cause::Presence)),
        (Reading { value, quality: Quality::Good }, Some(Cause::Quality)),
        (Reading { value, quality: Quality::Good }, None),
    ];
    for (now, (reading, cause)) in (0..).map(s).zip(transcript) {
        assert_eq!(reporter.decide(now, &[reading], |_| absolute(1e9), &mut last), cause, "{reading:?}");
    }
}

#[test]
fn a_stream_that_never_changes_is_reported_once_a_heartbeat_without_drift() {
    let (mut reporter, mut last) = (Reporter::new(s(60)), [None]);
    let mut reports = 0;
    // A poll every 7 s: no heartbeat falls on one.
    for now in (0..).step_by(7).take_while(|&now| now < 6000) {
        if reporter.decide(s(now), &[good(Value::Bool(true))], |_| ANY, &mut last).is_some() {
            assert!((60 * reports..60 * reports + 7).contains(&now), "report {reports} at {now}");
            reports += 1;
        }
    }
    assert_eq!(reports, 100);
}

#[test]
fn a_change_begins_the_heartbeat_anew_and_an_outage_is_not_made_up_for() {
    let (mut reporter, mut last) = (Reporter::new(s(60)), [None]);
    let transcript = [
        (0, false, Some(Cause::First)),
        (59, true, Some(Cause::Moved)),
        (118, true, None),
        (119, true, Some(Cause::Heartbeat)),
        (178, true, None),
        (1000, true, Some(Cause::Heartbeat)),
        (1001, true, None),
        (1060, true, Some(Cause::Heartbeat)),
    ];
    for (now, state, cause) in transcript {
        assert_eq!(reporter.decide(s(now), &[good(Value::Bool(state))], |_| ANY, &mut last), cause, "at {now}");
    }
}

#[test]
fn a_heartbeat_of_nothing_reports_every_observation() {
    let (mut reporter, mut last) = (Reporter::new(s(0)), [None]);
    for now in 0..3 {
        assert!(reporter.decide(s(now), &[good(Value::Bool(true))], |_| ANY, &mut last).is_some());
    }
}

#[test]
fn without_a_deadband_the_least_change_of_a_64_bit_counter_is_seen() {
    let big = 1_u64 << 63;
    assert!(reported(Value::Uint(big), Value::Uint(big + 1), ANY));
    assert!(reported(Value::Uint(u64::MAX), Value::Uint(u64::MAX - 1), ANY));
    assert!(reported(Value::Int(i64::MIN), Value::Int(i64::MIN + 1), ANY));
    assert!(!reported(Value::Uint(u64::MAX), Value::Uint(u64::MAX), ANY));
}

#[test]
fn a_deadband_on_a_64_bit_counter_is_exact() {
    let (big, five) = (1_u64 << 63, absolute(5.0));
    assert!(!reported(Value::Uint(big), Value::Uint(big + 5), five));
    assert!(reported(Value::Uint(big), Value::Uint(big + 6), five));
    assert!(!reported(Value::Int(i64::MIN), Value::Int(i64::MIN + 5), five));
    assert!(reported(Value::Int(i64::MIN), Value::Int(i64::MIN + 6), five));
    assert!(!reported(Value::Uint(7), Value::Uint(8), absolute(1.5)));
    assert!(reported(Value::Uint(7), Value::Uint(9), absolute(1.5)));
    assert!(!reported(Value::Int(i64::MIN), Value::Int(i64::MAX), absolute(1e20)));
}

#[test]
fn a_percentage_is_of_the_magnitude_last_reported_and_the_larger_limit_counts() {
    let value = Value::Double;
    assert!(!reported(value(-200.0), value(-202.0), percent(1.0)));
    assert!(reported(value(-200.0), value(-202.1), percent(1.0)));
    assert!(!reported(Value::Int(-200), Value::Int(-198), percent(1.0)));
    assert!(reported(Value::Int(-200), Value::Int(-203), percent(1.0)));
    assert!(reported(value(0.0), value(1e-9), percent(1.0)), "there is no percentage of nothing");
    let both = Deadband { absolute: 0.5, percent: 1.0 };
    assert!(!reported(value(0.0), value(0.5), both));
    assert!(!reported(value(200.0), value(201.9), both));
    assert!(reported(value(10.0), value(10.6), both));
}

#[test]
fn a_step_as_wide_as_the_deadband_is_not_beyond_it_whatever_the_binary_neighbours() {
    for tenth in 0_u16..3000 {
        let (single, double) = (f32::from(tenth) / 10.0, f64::from(tenth) / 10.0);
        let (next_single, next_double) = (f32::from(tenth + 1) / 10.0, f64::from(tenth + 1) / 10.0);
        assert!(!reported(Value::Single(single), Value::Single(next_single), absolute(0.1)), "{single}");
        assert!(!reported(Value::Double(double), Value::Double(next_double), absolute(0.1)), "{double}");
        assert!(reported(Value::Single(single), Value::Single(next_single), absolute(0.099)), "{single}");
        assert!(reported(Value::Double(double), Value::Double(next_double), absolute(0.099_999)), "{double}");
    }
}

#[test]
fn states_have_no_deadband_and_a_value_of_another_type_is_a_change() {
    assert!(reported(Value::Bool(false), Value::Bool(true), absolute(5.0)));
    assert!(reported(Value::Int(1), Value::Uint(1), absolute(5.0)));
    assert!(!reported(Value::Double(0.0), Value::Double(-0.0), ANY));
}

#[test]
fn what_is_no_number_is_a_change_once() {
    let (nan, one) = (Value::Double(f64::NAN), Value::Double(1.0));
    for deadband in [ANY, absolute(1.0), absolute(f64::NAN), percent(f64::INFINITY)] {
        assert!(reported(nan, one, deadband) && reported(one, nan, deadband), "{deadband:?}");
        assert!(!reported(nan, nan, deadband), "{deadband:?}");
    }
    assert!(reported(one, Value::Double(2.0), absolute(-1.0)));
}

#[test]
fn a_reading_without_a_place_to_keep_it_is_always_reported() {
    let (mut reporter, mut last) = (Reporter::new(HOUR), [None]);
    let readings = [good(Value::Bool(true)); 2];
    for now in 0..3 {
        assert_eq!(reporter.decide(s(now), &readings, |_| ANY, &mut last), Some(Cause::First));
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-50_i64..50).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Uint),
        any::<f32>().prop_map(Value::Single),
        any::<f64>().prop_map(Value::Double),
    ]
}

proptest! {
    #[test]
    fn what_is_shown_is_never_further_than_the_deadband_from_what_was_read_nor_older_than_the_heartbeat(
        heartbeat in 1_u64..100,
        limit in 0_u32..20,
        steps in prop::collection::vec((1_u64..20, -5_i64..=5), 1..200),
    ) {
        let (mut reporter, mut last) = (Reporter::new(s(heartbeat)), [None]);
        let (mut now, mut level) = (0, 0);
        let (mut shown, mut at) = (None, 0);
        for (pause, step) in steps {
            let before = now;
            now += pause;
            level += step;
            let reading = good(Value::Int(level));
            if reporter.decide(s(now), &[reading], |_| absolute(f64::from(limit)), &mut last).is_some() {
                // Counted from the last report the heartbeat is late by the poll it falls into and no more.
                prop_assert!(shown.is_none() || before < at + heartbeat);
                (shown, at) = (Some(level), now);
            }
            prop_assert!(shown.is_some_and(|shown: i64| shown.abs_diff(level) <= u64::from(limit)));
            prop_assert_eq!(last, [Some(good(Value::Int(shown.unwrap())))]);
        }
    }

    #[test]
    fn no_value_no_deadband_and_no_time_panics(
        values in prop::collection::vec(value(), 2),
        absolute: f64,
        percent: f64,
        heartbeat: Duration,
        now: Duration,
    ) {
        let (mut reporter, mut last) = (Reporter::new(heartbeat), [None]);
        for value in values {
            reporter.decide(now, &[good(value)], |_| Deadband { absolute, percent }, &mut last);
        }
        prop_assert!(last[0].is_some());
    }
}

//! Learning: what a unit refuses is found, kept, forgotten and tried again.

use core::time::Duration;

use ganglion_drivers::learn::{Fact, FactKind, Memory, Verdict};
use ganglion_drivers::plan::{Limits, ReadRequest};
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::Table::{Coil, HoldingRegister};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

mod support;

use support::unit::{Poll, Unit, poll};
use support::{line, planned, want};

const MINUTE: Duration = Duration::from_secs(60);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn quiet_unit(holes: &[ReadRequest], longest: u16) -> Unit {
    Unit {
        holes: holes.to_vec(),
        longest_registers: longest,
        longest_bits: longest,
        too_long: ExceptionCode::ILLEGAL_DATA_ADDRESS,
        noise_percent: 0,
    }
}

fn registers(range: core::ops::Range<u16>) -> Vec<ReadRequest> {
    range.map(|address| want(HoldingRegister, address, 1)).collect()
}

fn any_rng() -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32])
}

/// Polls every second and returns the polls.
fn polls(
    unit: &Unit,
    memory: &mut Memory,
    wants: &[ReadRequest],
    template: &Limits<'_>,
    seconds: core::ops::Range<u64>,
) -> Vec<Poll> {
    let mut rng = any_rng();
    seconds.map(|second| poll(unit, memory, wants, (template, &line()), at(second), &mut rng)).collect()
}

#[test]
fn a_dead_register_in_a_block_is_found_in_one_poll_then_asked_alone_then_parked() {
    let unit = quiet_unit(&[want(HoldingRegister, 70, 1)], 125);
    let wants = registers(0..100);
    let mut memory = Memory::new();
    let polls = polls(&unit, &mut memory, &wants, &Limits::STANDARD, 0..5);
    assert_eq!(polls[0].read.len(), 99);
    let (low, dead, high) = (want(HoldingRegister, 0, 70), wants[70], want(HoldingRegister, 71, 29));
    assert_eq!(polls[1].asked, [low, dead, high]);
    assert_eq!(polls[2].asked, [low, dead, high]);
    assert_eq!(polls[3].asked, [low, high]);
    assert!(memory.parked(at(5), dead) && !memory.parked(at(5), wants[71]));
    assert!(!memory.parked(at(2) + 10 * MINUTE, dead), "its time is over");
}

#[test]
fn a_block_that_is_too_long_is_measured_and_not_cut() {
    for longest in [1, 2, 5, 16, 40, 63, 64, 99, 124] {
        let unit = quiet_unit(&[], longest);
        let wants = registers(0..1000);
        let mut memory = Memory::new();
        let polls = polls(&unit, &mut memory, &wants, &Limits::STANDARD, 0..10);
        assert!(polls.iter().all(|poll| poll.read.len() == 1000));
        let last = &polls[9];
        assert_eq!((last.refused, last.asked.len()), (0, 1000_usize.div_ceil(longest.into())), "longest {longest}");
        let refused: Vec<_> = polls.iter().map(|poll| poll.refused).collect();
        assert!(refused.iter().sum::<usize>() <= 10, "longest {longest}: {refused:?}");
    }
}

#[test]
fn a_hole_in_a_gap_is_cut_and_stays_cut() {
    let unit = quiet_unit(&[want(HoldingRegister, 10, 3)], 125);
    let wants: Vec<_> = registers(0..10).into_iter().chain(registers(14..60)).collect();
    let template = Limits { bridge: 20, ..Limits::STANDARD };
    let mut memory = Memory::new();
    let polls = polls(&unit, &mut memory, &wants, &template, 0..3);
    assert_eq!(
        polls[0].asked,
        [want(HoldingRegister, 0, 60), want(HoldingRegister, 0, 10), want(HoldingRegister, 14, 46)]
    );
    assert_eq!(polls[2].asked, [want(HoldingRegister, 0, 10), want(HoldingRegister, 14, 46)]);
}

#[test]
fn one_false_refusal_of_a_block_that_answered_leaves_no_trace() {
    let wants = registers(0..100);
    let whole = want(HoldingRegister, 0, 100);
    let mut memory = Memory::new();
    memory.answered(at(0), whole);
    let verdict = memory.refused(at(1), whole, ExceptionCode::ILLEGAL_DATA_VALUE, &wants);
    assert_eq!(verdict, Verdict::Cut);
    for half in [want(HoldingRegister, 0, 50), want(HoldingRegister, 50, 50)] {
        memory.answered(at(1), half);
    }
    assert_eq!(memory.limits(&Limits::STANDARD), Limits::STANDARD);
}

#[test]
fn a_border_that_no_request_may_cross_is_cut_for_good_after_the_second_refusal() {
    let answers = |request: ReadRequest| !(request.address < 37 && request.end() > 37);
    let wants = registers(0..100);
    let mut memory = Memory::new();
    let mut refusals = Vec::new();
    for second in 0..5 {
        let mut unread = wants.clone();
        let mut refused = 0;
        while let Some(Ok(request)) = planned(&unread, &memory.limits(&Limits::STANDARD), &line()).first().copied() {
            let inside: Vec<_> = unread.iter().copied().filter(|want| request.covers(*want)).collect();
            if answers(request) {
                memory.answered(at(second), request);
                unread.retain(|want| !inside.contains(want));
            } else {
                refused += 1;
                memory.refused(at(second), request, ExceptionCode::ILLEGAL_DATA_ADDRESS, &inside);
            }
        }
        refusals.push(refused);
    }
    assert_eq!(refusals[2..], [0, 0, 0], "{refusals:?}");
    let plan = planned(&wants, &memory.limits(&Limits::STANDARD), &line());
    assert_eq!(plan, [Ok(want(HoldingRegister, 0, 37)), Ok(want(HoldingRegister, 37, 63))]);
}

#[test]
fn a_point_that_ever_answered_is_never_parked_not_even_after_a_restart() {
    let point = want(HoldingRegister, 5, 2);
    let mut memory = Memory::new();
    memory.answered(at(0), want(HoldingRegister, 0, 10));
    let facts: Vec<_> = memory.facts(at(1)).collect();
    let mut restarted = Memory::new();
    facts.into_iter().for_each(|fact| restarted.restore(at(0), fact));
    for second in 1..20 {
        let verdict = restarted.refused(at(second), point, ExceptionCode::ILLEGAL_DATA_VALUE, &[point]);
        assert_eq!(verdict, Verdict::Point);
        assert!(!restarted.parked(at(second), point));
    }
}

#[test]
fn other_exceptions_say_nothing_about_addresses() {
    let mut memory = Memory::new();
    for code in [0x01, 0x04, 0x05, 0x06, 0x08, 0x0A, 0x0B, 0x54] {
        let verdict = memory.refused(at(0), want(Coil, 0, 9), ExceptionCode::new(code), &[want(Coil, 0, 9)]);
        assert_eq!(verdict, Verdict::Nothing);
    }
    assert_eq!((memory.changed(), memory.learnt()), (0, 0));
}

#[test]
fn a_want_inside_a_refused_want_is_read_apart_from_it() {
    let unit = quiet_unit(&[want(HoldingRegister, 9, 1)], 125);
    let wants = [want(HoldingRegister, 0, 10), want(HoldingRegister, 0, 12), want(HoldingRegister, 2, 4)];
    let mut memory = Memory::new();
    let polls = polls(&unit, &mut memory, &wants, &Limits::STANDARD, 0..5);
    assert!(polls.iter().all(|poll| poll.read == [wants[2]]));
    assert_eq!(polls[4].asked, [wants[2]]);
}

#[test]
fn a_long_request_that_is_silent_twice_while_a_shorter_one_answers_is_too_long() {
    let (long, short) = (want(HoldingRegister, 0, 100), want(HoldingRegister, 200, 10));
    let mut memory = Memory::new();
    memory.silent(at(0), long);
    memory.silent(at(1), long);
    assert_eq!(memory.limits(&Limits::STANDARD), Limits::STANDARD, "nothing answers, so it says nothing");
    memory.answered(at(2), short);
    memory.silent(at(3), long);
    assert_eq!(memory.limits(&Limits::STANDARD).joined_registers, 54, "between ten and a hundred");
    memory.answered(at(4), long);
    assert_eq!(memory.limits(&Limits::STANDARD), Limits::STANDARD);
    memory.silent(at(5), long);
    memory.answered(at(6), short);
    memory.silent(at(7), long);
    assert_eq!(memory.limits(&Limits::STANDARD), Limits::STANDARD, "it has answered once");
}

#[test]
fn a_verdict_is_tried_again_when_its_time_is_over_and_holds_twice_as_long_if_confirmed() {
    let unit = quiet_unit(&[], 60);
    let wants = registers(0..100);
    let mut memory = Memory::new();
    let learnt = polls(&unit, &mut memory, &wants, &Limits::STANDARD, 0..20);
    assert_eq!(learnt[19].asked.len(), 2);
    let limit = memory.limits(&Limits::STANDARD).joined_registers;
    let mut refusals = Vec::new();
    let minutes = 1..60;
    for minute in minutes {
        let polls = polls(&unit, &mut memory, &wants, &Limits::STANDARD, minute * 60..minute * 60 + 1);
        if polls[0].refused > 0 {
            assert_eq!(memory.limits(&Limits::STANDARD).joined_registers, limit, "without another search");
            refusals.push(minute);
        }
    }
    assert_eq!(refusals.len(), 2, "{refusals:?}");
    assert!(refusals[1] - refusals[0] == 20, "{refusals:?}");
}

#[test]
fn a_length_that_was_learnt_from_a_disturbance_is_given_up_after_its_time() {
    let wants = registers(0..200);
    let mut memory = Memory::new();
    memory.answered(at(0), wants[0]);
    let pair = want(HoldingRegister, 0, 2);
    memory.refused(at(0), pair, ExceptionCode::ILLEGAL_DATA_VALUE, &wants);
    memory.answered(at(0), wants[0]);
    memory.answered(at(0), wants[1]);
    assert_eq!(memory.limits(&Limits::STANDARD).joined_registers, 1);
    let polls = polls(&quiet_unit(&[], 50), &mut memory, &wants, &Limits::STANDARD, 600..610);
    assert_eq!(polls[9].asked.len(), 4);
}

#[test]
fn facts_bring_a_restarted_memory_to_the_same_plan() {
    let unit = quiet_unit(&[want(HoldingRegister, 13, 1), want(HoldingRegister, 300, 4)], 60);
    let wants: Vec<_> = registers(0..300).into_iter().chain(registers(304..400)).collect();
    let template = Limits { bridge: 10, ..Limits::STANDARD };
    let mut memory = Memory::new();
    polls(&unit, &mut memory, &wants, &template, 0..20);
    let mut facts: Vec<_> = memory.facts(at(20)).collect();
    let mut restarted = Memory::new();
    facts.iter().for_each(|fact| restarted.restore(at(0), *fact));
    let plan = |memory: &Memory| planned(&wants, &memory.limits(&template), &line());
    assert_eq!(plan(&restarted), plan(&memory));
    assert!(restarted.parked(at(0), wants[13]));
    let key = |fact: &Fact| (fact.request, fact.left);
    let mut again: Vec<_> = restarted.facts(at(0)).collect();
    facts.sort_by_key(key);
    again.sort_by_key(key);
    assert_eq!(again, facts);
}

#[test]
fn facts_that_cannot_be_are_left_out() {
    let mut memory = Memory::new();
    let fact = |kind, request| Fact { kind, request, left: MINUTE, confirmations: 200 };
    memory.restore(at(0), fact(FactKind::TooLong, want(HoldingRegister, 0, 0)));
    memory.restore(at(0), fact(FactKind::Refused { strikes: 9 }, want(HoldingRegister, 65_535, 2)));
    memory.restore(at(0), fact(FactKind::Cut { at: 9, gap: true }, want(HoldingRegister, 0, 9)));
    assert_eq!(memory.facts(at(0)).count(), 0);
}

#[test]
fn more_holes_than_fit_are_still_read_around() {
    let holes: Vec<_> = (0..90).map(|hole| want(HoldingRegister, hole * 4, 1)).collect();
    let unit = quiet_unit(&holes, 125);
    let mut memory = Memory::new();
    for poll in polls(&unit, &mut memory, &registers(0..360), &Limits::STANDARD, 0..6) {
        assert_eq!(poll.read.len(), 270);
    }
}

#[test]
fn in_a_full_memory_the_verdict_that_ends_first_gives_way() {
    let mut memory = Memory::new();
    memory.answered(at(0), want(HoldingRegister, 5, 1));
    let points: Vec<_> = (0..65).map(|place| want(HoldingRegister, place * 10, 1)).collect();
    for (point, second) in points.iter().zip(0..) {
        for _ in 0..3 {
            memory.refused(at(second), *point, ExceptionCode::ILLEGAL_DATA_ADDRESS, &[*point]);
        }
    }
    let parked: Vec<_> = points.iter().map(|point| memory.parked(at(65), *point)).collect();
    assert!(!parked[0] && parked[1..].iter().all(|parked| *parked));
}

#[test]
fn a_unit_that_refuses_everything_while_it_starts_up_is_not_given_up() {
    let mut memory = Memory::new();
    let points = [want(HoldingRegister, 0, 1), want(HoldingRegister, 10, 1)];
    for second in 0..20 {
        for point in points {
            memory.refused(at(second), point, ExceptionCode::ILLEGAL_DATA_ADDRESS, &[point]);
        }
    }
    assert!(points.iter().all(|point| !memory.parked(at(20), *point)), "nothing is parked before the first answer");
    memory.answered(at(21), points[0]);
    assert!(!memory.parked(at(21), points[1]), "what was refused before the first answer does not count");
    for _ in 0..3 {
        memory.refused(at(22), points[1], ExceptionCode::ILLEGAL_DATA_ADDRESS, &[points[1]]);
    }
    assert!(memory.parked(at(22), points[1]));
}

#[test]
fn points_that_answered_are_remembered_though_they_are_more_than_fit() {
    let mut memory = Memory::new();
    let points: Vec<_> = (0..300_u16).map(|place| want(HoldingRegister, place * 20 + place % 7 * 2, 2)).collect();
    points.iter().for_each(|point| memory.answered(at(0), *point));
    assert!(memory.facts(at(0)).count() < 70);
    for point in &points {
        for _ in 0..4 {
            memory.refused(at(1), *point, ExceptionCode::ILLEGAL_DATA_ADDRESS, &[*point]);
        }
        assert!(!memory.parked(at(1), *point), "{point:?}");
    }
}

#[test]
fn a_memory_is_small() {
    let size = size_of::<Memory>();
    assert!(size < 8 * 1024, "{size} bytes");
}

fn any_request() -> impl Strategy<Value = ReadRequest> {
    let table = prop::sample::select(&[Coil, HoldingRegister][..]);
    let address = prop_oneof![0_u16..60, 65_500..=u16::MAX];
    (table, address, 0_u16..50).prop_map(|(table, address, count)| want(table, address, count))
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let kind = prop_oneof![
        (0_u16..60, any::<bool>()).prop_map(|(at, gap)| FactKind::Cut { at, gap }),
        any::<u8>().prop_map(|strikes| FactKind::Refused { strikes }),
        prop::sample::select(&[FactKind::TooLong, FactKind::Longest, FactKind::Answered][..]),
    ];
    (kind, any_request(), 0_u64..100_000, any::<u8>()).prop_map(|(kind, request, left, confirmations)| Fact {
        kind,
        request,
        left: at(left),
        confirmations,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_reported_the_limits_stay_usable(
        reports in prop::collection::vec((0..5, any_request(), any_fact(), 1_u8..5, 0_u64..2000), 0..200),
        mut wants in prop::collection::vec(any_request(), 0..30),
    ) {
        wants.sort_unstable();
        let mut memory = Memory::new();
        let mut now = Duration::ZERO;
        for (report, request, fact, code, pause) in reports {
            now += at(pause);
            match report {
                0 => memory.answered(now, request),
                1 => memory.silent(now, request),
                2 => memory.restore(now, fact),
                3 => { memory.expire(now); }
                _ => {
                    let before = memory.changed();
                    let plan = planned(&wants, &memory.limits(&Limits::STANDARD), &line());
                    let asked = plan.into_iter().filter_map(Result::ok).next();
                    let request = asked.unwrap_or(request);
                    let verdict = memory.refused(now, request, ExceptionCode::new(code), &wants);
                    prop_assert!(asked.is_none() || verdict != Verdict::Cut || memory.changed() != before);
                }
            }
            let limits = memory.limits(&Limits::STANDARD);
            prop_assert!(limits.cuts.is_sorted() && limits.joined_registers > 0 && limits.joined_bits > 0);
        }
    }
}

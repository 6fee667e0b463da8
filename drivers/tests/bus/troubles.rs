//! What trouble costs, and that it never costs the truth.

use std::collections::BTreeSet;
use std::time::Duration;

use ganglion_drivers::bus::{Bus, Event, IdentityCheck};
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::modbus::{ExceptionCode, ValueType, WordOrder};

use super::bench::{Bench, LATE_REPLY, holding, ms, registers, secs, settings};
use super::line::{Faults, Unit};
use super::units;

/// Good polls a task makes in two minutes on a saturated line.
fn rates(dead: &[u8]) -> Vec<usize> {
    let ids = [1, 2, 3, 4];
    let tasks = (0..4).map(|unit| (unit, ms(100), registers(0..60))).collect();
    let units = units(1..=4).into_iter().map(|unit| Unit { dead: dead.contains(&unit.id), ..unit }).collect();
    let mut bench = Bench::new(settings(&ids, tasks), units, Faults::default(), 1);
    bench.run(secs(120));
    (0..4).map(|task| bench.good(task).count()).collect()
}

#[test]
fn beside_a_dead_unit_the_others_keep_at_least_90_percent_of_their_rate() {
    let (alive, beside) = (rates(&[]), rates(&[3]));
    println!("good polls in 120 s: all alive {alive:?}, unit 3 dead {beside:?}");
    assert_eq!(beside[2], 0);
    for task in [0, 1, 3] {
        assert!(beside[task] * 100 >= alive[task] * 90, "unit {}: {} of {}", task + 1, beside[task], alive[task]);
    }
}

#[test]
fn a_dead_unit_takes_its_share_of_the_bus_and_no_more_and_still_makes_samples() {
    let tasks = vec![(0, secs(1), registers(0..10)), (1, secs(1), registers(0..10))];
    let dead = vec![units(1..=1).remove(0), Unit { dead: true, ..units(2..=2).remove(0) }];
    let mut bench = Bench::new(settings(&[1, 2], tasks), dead, Faults::default(), 1);
    bench.run(secs(60));
    let before = bench.bus.overview(bench.now).units[1].counts.bus_time;
    bench.run(secs(660));
    let spent = bench.bus.overview(bench.now).units[1].counts.bus_time - before;
    assert!(spent <= secs(30), "{spent:?} of 600 s");
    let silent = bench.samples.iter().filter(|sampled| sampled.task == 1);
    assert!(silent.clone().count() >= 650, "{}", silent.clone().count());
    assert!(silent.into_iter().all(|sampled| sampled.states.iter().all(|state| *state == Some(Reason::Timeout))));
    assert!(bench.covered(0, 5, 660) >= 0.99);
}

#[test]
fn many_dead_units_have_one_share_of_the_bus_together() {
    let ids: Vec<u8> = (1..=21).collect();
    let tasks = (0..21).map(|unit| (unit, secs(1), registers(0..10))).collect();
    let dead = units(1..=21).into_iter().map(|unit| Unit { dead: unit.id > 1, ..unit }).collect();
    let mut bench = Bench::new(settings(&ids, tasks), dead, Faults::default(), 1);
    let spent = |bench: &mut Bench| -> Duration {
        bench.bus.overview(bench.now).units[1..].iter().map(|unit| unit.counts.bus_time).sum()
    };
    // Until each was found dead, and was asked once since all are known to be.
    bench.run(secs(600));
    let before = spent(&mut bench);
    bench.run(secs(3600));
    let spent = spent(&mut bench) - before;
    println!("20 dead units cost {spent:?} of 3000 s");
    assert!(spent <= secs(150) + 20 * ms(500), "{spent:?} of 3000 s");
}

#[test]
fn a_dead_unit_is_asked_once_a_pause_whatever_else_the_line_carries() {
    let tasks = (0..4).map(|unit| (unit, if unit == 2 { ms(100) } else { ms(500) }, registers(0..60))).collect();
    let units = units(1..=4).into_iter().map(|unit| Unit { dead: unit.id == 3, ..unit }).collect();
    let mut bench = Bench::new(settings(&[1, 2, 3, 4], tasks), units, Faults::default(), 1);
    bench.run(secs(3600));
    let asked: Vec<Duration> = bench.sent.iter().filter(|sent| sent.unit == 3).map(|sent| sent.at).collect();
    // Six in a row, then alone: a pause is at least nineteen times the half second that it costs.
    assert!(asked.len() > 60, "{}", asked.len());
    assert!(asked[5..].windows(2).all(|pair| pair[1] - pair[0] > ms(9_500)), "{asked:?}");
}

#[test]
fn with_one_percent_each_of_drops_flips_and_noise_90_percent_of_the_seconds_are_covered() {
    let tasks = (0..4).map(|unit| (unit, secs(1), registers(0..60))).collect();
    let faults = Faults { drop: 10_000, flip: 10_000, stray: 10_000, ..Faults::default() };
    let mut bench = Bench::new(settings(&[1, 2, 3, 4], tasks), units(1..=4), faults, 7);
    bench.run(secs(1000));
    let covered: Vec<f64> = (0..4).map(|task| bench.covered(task, 2, 1000)).collect();
    println!("seconds covered: {covered:?}");
    assert!(covered.iter().all(|share| *share >= 0.9), "{covered:?}");
    assert_eq!(bench.wrong, 0);
}

#[test]
fn a_unit_that_is_busy_for_one_percent_of_the_requests_loses_no_second() {
    let tasks = (0..4).map(|unit| (unit, secs(1), registers(0..60))).collect();
    let busy = units(1..=4).into_iter().map(|unit| Unit { busy: 10_000, ..unit }).collect();
    let mut bench = Bench::new(settings(&[1, 2, 3, 4], tasks), busy, Faults::default(), 3);
    bench.run(secs(1000));
    for task in 0..4 {
        let polls: Vec<_> = bench.samples.iter().filter(|sampled| sampled.task == task).collect();
        assert_eq!(bench.good(task).count(), polls.len(), "unit {}", task + 1);
        assert!(polls.len() >= 998 && polls.iter().all(|sampled| sampled.missed == 0), "{}", polls.len());
    }
}

#[test]
fn an_exception_inside_a_block_costs_the_hole_and_shifts_nothing() {
    let tasks = vec![(0, secs(1), registers(0..60))];
    let holed = vec![Unit { hole: 20..23, ..units(1..=1).remove(0) }];
    let mut bench = Bench::new(settings(&[1], tasks), holed, Faults::default(), 1);
    bench.run(secs(120));
    let refused = Some(Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS));
    for sampled in &bench.samples {
        for (address, state) in sampled.states.iter().enumerate() {
            assert_eq!(*state, if (20..23).contains(&address) { refused } else { None }, "{address}");
        }
    }
    assert!(bench.samples.len() >= 118);
    assert_eq!(bench.wrong, 0);
    let last: BTreeSet<_> = bench.sent.iter().rev().take(6).map(|sent| sent.read).collect();
    assert_eq!(last, BTreeSet::from([holding(0, 20), holding(23, 37)]), "two requests a poll are left");
}

#[test]
fn what_one_poll_has_learnt_costs_another_of_the_same_unit_nothing() {
    let long: Vec<_> = registers(0..10).into_iter().chain(registers(100..110)).collect();
    let mut both = settings(&[1], vec![(0, secs(1), long), (0, ms(130), registers(100..106))]);
    both.units[0].bridge = 0;
    let holed = vec![Unit { hole: 102..103, ..units(1..=1).remove(0) }];
    let mut bench = Bench::new(both, holed, Faults::default(), 1);
    // What was learnt lapses and is learnt again, at a different moment of the other poll each time.
    bench.run(secs(6 * 3600));
    for sampled in bench.samples.iter().filter(|sampled| sampled.task == 0) {
        let read = sampled.states.iter().filter(|state| state.is_none()).count();
        assert_eq!(read, 19, "at {:?}: {:?}", sampled.at, sampled.states);
    }
}

#[test]
fn a_unit_that_takes_sixteen_registers_and_has_holes_is_read_whole_and_the_plan_settles_within_ten_polls() {
    let wants: Vec<_> = registers(0..50).into_iter().chain(registers(54..120)).collect();
    let narrow = vec![Unit { most: 16, hole: 50..54, ..units(1..=1).remove(0) }];
    let mut bench = Bench::new(settings(&[1], vec![(0, secs(10), wants)]), narrow, Faults::default(), 1);
    bench.run(secs(400));
    assert!(bench.samples.len() >= 38);
    assert!(bench.samples.iter().all(|sampled| sampled.states.iter().all(Option::is_none)), "every poll is whole");
    let polls: Vec<Vec<_>> = bench
        .samples
        .windows(2)
        .map(|pair| {
            let within = |at| pair[0].at < at && at < pair[1].at;
            bench.sent.iter().filter(|sent| within(sent.at)).map(|sent| sent.read).collect()
        })
        .collect();
    let settled = polls.last().expect("many polls");
    let until = polls.iter().position(|poll| poll == settled).expect("it is there");
    println!("settled after {} polls on {} requests", until + 1, settled.len());
    assert!(until < 10 && polls[until..].iter().all(|poll| poll == settled), "settled after {until}");
    // 50 registers in four requests of at most sixteen, 66 in five.
    assert_eq!(settled.len(), 9, "{settled:?}");
}

#[test]
fn nothing_wrong_is_believed_whatever_happens_on_the_line() {
    let ids = [1, 2, 3, 4, 6];
    let tasks = ids
        .iter()
        .enumerate()
        .flat_map(|(unit, _)| [(unit, ms(200), registers(0..30)), (unit, ms(700), registers(40..100))])
        .collect();
    let faults = Faults {
        drop_request: 5_000,
        flip_request: 5_000,
        drop: 10_000,
        late: 20_000,
        late_by: (ms(60), LATE_REPLY - ms(60)),
        duplicate: 10_000,
        flip: 20_000,
        truncate: 10_000,
        wrong_unit: 5_000,
        wrong_length: 5_000,
        stray: 20_000,
        foreign: 10_000,
        foreign_within: ms(100),
        rude: 100_000,
        ..Faults::default()
    };
    let mut spoilt = units(1..=6);
    spoilt[2].hole = 40..44;
    spoilt[3].busy = 50_000;
    spoilt[5].most = 12;
    let mut bench = Bench::new(settings(&ids, tasks), spoilt, faults, 11).forgetful();
    let polls = bench.run(secs(6 * 3600));
    println!("polls {polls}, values {}, wrong {}", bench.values, bench.wrong);
    assert_eq!(bench.wrong, 0);
    assert!(polls > 50_000 && bench.values > 1_000_000);
}

#[test]
fn values_stay_true_and_few_are_lost_when_the_wire_comes_and_goes() {
    let tasks = (0..2).map(|unit| (unit, secs(1), registers(0..60))).collect();
    let mut bench = Bench::new(settings(&[1, 2], tasks), units(1..=2), Faults::default(), 1);
    for round in 0..100 {
        // Somewhere inside an exchange, each time elsewhere.
        bench.run(ms(3000 * round + 1000 + 17 * (round % 59)));
        bench.bus.lost(bench.now);
        bench.line.deliver(bench.now + ms(100));
        bench.run(bench.now + ms(200));
        bench.bus.connected(bench.now);
    }
    assert_eq!(bench.wrong, 0);
    assert!(bench.samples.iter().all(|sampled| sampled.states.iter().all(Option::is_none)), "a second is waited for");
}

#[test]
fn what_is_under_way_when_a_new_wire_takes_the_place_of_the_old_one_is_asked_again() {
    let tasks = (0..2).map(|unit| (unit, secs(1), registers(0..60))).collect();
    let mut bench = Bench::new(settings(&[1, 2], tasks), units(1..=2), Faults::default(), 1);
    for round in 0..100 {
        // Somewhere inside an exchange, each time elsewhere.
        bench.run(ms(3000 * round + 1000 + 17 * (round % 59)));
        // The end of an answer, never so much that the request after it is spoiled as well.
        bench.line.deliver(bench.now + ms(20));
        bench.run(bench.now + ms(200));
        bench.bus.connected(bench.now);
    }
    assert_eq!(bench.wrong, 0);
    assert!(bench.samples.len() > 500, "{}", bench.samples.len());
    assert!(bench.samples.iter().all(|sampled| sampled.states.iter().all(Option::is_none)));
}

#[test]
fn a_request_on_which_the_wire_is_lost_each_time_is_given_up_and_the_others_are_read() {
    let mut tasks = settings(&[1], vec![(0, secs(1), vec![holding(0, 2), holding(30, 2), holding(60, 2)])]);
    tasks.units[0].bridge = 0;
    let mut bus = Bus::new(Duration::ZERO, tasks);
    bus.connected(Duration::ZERO);
    let (mut now, mut samples) = (secs(1), 0);
    while samples < 10 {
        let Some(frame) = bus.poll_transmit(now).map(<[u8]>::to_vec) else {
            now = bus.poll_timeout().expect("something is due").max(now);
            bus.handle_timeout(now);
            continue;
        };
        now += ms(20);
        if frame[3] == 30 {
            bus.lost(now);
            bus.connected(now);
        } else {
            let mut answer = vec![1, 3, 4, 0, frame[3], 0, frame[3] + 1];
            answer.extend(crc(&answer).to_le_bytes());
            bus.handle_bytes(now, &answer);
        }
        while let Some(event) = bus.poll_event() {
            if let Event::Sampled(sampled) = event {
                assert_eq!(sampled.states, [None, Some(Reason::Disconnected), None]);
                samples += 1;
            }
        }
    }
}

#[test]
fn while_the_wire_is_down_samples_say_so() {
    let tasks = vec![(0, secs(1), registers(0..4))];
    let mut bench = Bench::new(settings(&[1], tasks), units(1..=1), Faults::default(), 1);
    bench.run(secs(5));
    bench.bus.lost(bench.now);
    bench.bus.disconnected(bench.now);
    bench.samples.clear();
    bench.run(secs(15));
    assert!((9..=11).contains(&bench.samples.len()), "{}", bench.samples.len());
    assert!(bench.samples.iter().all(|sampled| sampled.states.iter().all(|s| *s == Some(Reason::Disconnected))));
}

#[test]
fn no_value_is_taken_from_a_device_whose_identity_register_does_not_match() {
    let check = |equals| IdentityCheck {
        want: holding(0, 1),
        value_type: ValueType::Bits(ganglion_protocols::modbus::BitField::new(13, 3).expect("three bits")),
        word_order: WordOrder::Abcd,
        equals,
    };
    let mut swapped = settings(&[1, 2], (0..2).map(|unit| (unit, secs(1), registers(0..10))).collect());
    swapped.units[0].identity = Some(check(1));
    swapped.units[1].identity = Some(check(5));
    let mut bench = Bench::new(swapped, units(1..=2), Faults::default(), 1);
    bench.run(secs(20));
    assert!(bench.good(0).count() >= 18);
    let other: Vec<_> = bench.samples.iter().filter(|sampled| sampled.task == 1).collect();
    assert!(other.len() >= 18);
    assert!(other.iter().all(|sampled| sampled.states.iter().all(|state| *state == Some(Reason::WrongDevice))));
    assert!(bench.events.contains(&Event::WrongDevice { unit: 1, found: Some(2) }));
}

#[test]
fn a_unit_that_comes_back_is_read_again_after_one_probe() {
    let tasks = vec![(0, secs(1), registers(0..10))];
    let gone = vec![Unit { dead: true, ..units(1..=1).remove(0) }];
    let mut bench = Bench::new(settings(&[1], tasks), gone, Faults::default(), 1);
    bench.run(secs(120));
    bench.line = super::line::Line::new(
        super::line::Speed { character: super::bench::character(), lump: std::time::Duration::ZERO },
        units(1..=1),
        Faults::default(),
        2,
    );
    bench.sent.clear();
    bench.samples.clear();
    bench.run(secs(200));
    let first = bench.good(0).next().expect("it is back").at;
    let probe = bench.sent.first().expect("a probe").at;
    assert!(first - probe < secs(1), "probe {probe:?}, first sample {first:?}");
    assert!(bench.events.contains(&Event::Back { unit: 0 }));
}

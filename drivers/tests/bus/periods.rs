//! Periods, overload and phases.

use std::time::Duration;

use ganglion_drivers::bus::Event;

use super::bench::{Bench, ms, registers, secs, settings};
use super::line::Faults;
use super::units;

#[test]
fn periods_from_100_ms_to_a_day_are_kept_and_every_point_is_seen_within_seconds() {
    let day = secs(24 * 3600);
    let tasks = vec![
        (0, ms(100), registers(0..2)),
        (0, secs(10), registers(10..40)),
        (1, secs(60), registers(0..60)),
        (1, day, registers(64..100)),
    ];
    let mut bench = Bench::new(settings(&[1, 2], tasks), units(1..=2), Faults::default(), 1);
    bench.run(secs(600));
    let good = |task: usize| bench.good(task).count();
    assert!(good(0) >= 5500, "{} of 6000: a long exchange of another task may cost a slot", good(0));
    assert!((59..=61).contains(&good(1)) && (9..=11).contains(&good(2)), "{} {}", good(1), good(2));
    assert!((0..4).all(|task| bench.good(task).next().is_some_and(|first| first.at < secs(6))));
    assert_eq!(good(3), 1);
    assert!(!bench.events.iter().any(|event| matches!(event, Event::Stretched(_))));
}

#[test]
fn an_overloaded_bus_says_what_it_stretches_and_by_how_much_and_does_so() {
    let tasks = vec![(0, ms(200), registers(0..60)), (1, ms(200), registers(0..60)), (2, secs(10), registers(0..60))];
    let mut bench = Bench::new(settings(&[1, 2, 3], tasks), units(1..=3), Faults::default(), 1);
    bench.run(secs(310));
    let floor = bench.events.iter().rev().find_map(|event| match event {
        Event::Stretched(floor) => Some(*floor),
        _ => None,
    });
    let floor = floor.flatten().expect("the bus is overloaded");
    let overview = bench.bus.overview(bench.now);
    assert!(overview.load_permille > 1300, "{}", overview.load_permille);
    assert_eq!(overview.tasks[2].effective, secs(10));
    assert!(overview.tasks[0].effective.abs_diff(floor) <= floor / 10);
    let measured = |task: usize| -> Duration {
        let times: Vec<_> = bench.good(task).map(|sampled| sampled.at).filter(|at| *at > secs(10)).collect();
        (*times.last().expect("samples") - times[0]) / u32::try_from(times.len() - 1).expect("few")
    };
    let (fast, slow) = (measured(0), measured(2));
    assert!(fast.abs_diff(floor) <= floor / 10, "told {floor:?}, measured {fast:?}");
    assert!(slow.abs_diff(secs(10)) <= ms(300), "{slow:?}");
}

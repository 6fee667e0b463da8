//! The engine of a bus, as a whole, on a virtual line of 9600 Bd: what it makes of the line's time, what trouble costs it,
//! and that it never believes a wrong value. Times are virtual, so each figure is the same in every run.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

mod bench;
mod hostile;
#[path = "../line/mod.rs"]
mod line;
mod orders;
mod periods;
mod tcp;
mod traps;
mod troubles;

use std::time::Duration;

use bench::{Bench, holding, least, ms, registers, secs, settings};
use ganglion_drivers::plan::ReadRequest;
use line::{Faults, Unit};

const TURNAROUND: Duration = ms(6);

fn units(ids: std::ops::RangeInclusive<u8>) -> Vec<Unit> {
    ids.map(|id| Unit { turnaround: (TURNAROUND, TURNAROUND), ..Unit::new(id) }).collect()
}

/// Runs of one to six registers with gaps of one to twelve between, sixty registers in all.
fn scattered() -> Vec<ReadRequest> {
    let runs = [3, 6, 1, 5, 2, 4, 6, 1, 3, 5, 2, 6, 4, 1, 5, 6];
    let gaps = [2, 5, 1, 3, 2, 12, 1, 4, 1, 2, 9, 1, 3, 2, 1, 1];
    let mut wants = Vec::new();
    let mut address = 0;
    for (run, gap) in runs.into_iter().zip(gaps) {
        wants.extend(registers(address..address + run));
        address += run + gap;
    }
    assert_eq!(wants.len(), 60);
    assert!(address <= 128);
    wants
}

/// Saturates a line with four units and returns which share of its time the exact minimum takes.
fn line_use(wants: &[ReadRequest]) -> f64 {
    let tasks = (0..4).map(|unit| (unit, ms(100), wants.to_vec())).collect();
    let mut bench = Bench::new(settings(&[1, 2, 3, 4], tasks), units(1..=4), Faults::default(), 1);
    bench.run(secs(10));
    bench.samples.clear();
    bench.run(secs(130));
    let polls = u32::try_from(bench.samples.len()).expect("some hundred");
    assert!((0..4).all(|task| bench.good(task).count() > 50), "every unit has its turn");
    assert_eq!((bench.wrong, bench.good(0).count()), (0, bench.samples.iter().filter(|s| s.task == 0).count()));
    (least(wants, TURNAROUND) * polls).as_secs_f64() / 120.0
}

#[test]
fn a_saturated_line_is_used_to_99_percent_of_the_exact_minimum_contiguous_and_scattered() {
    let (contiguous, scattered) = (line_use(&registers(0..60)), line_use(&scattered()));
    println!("line use: contiguous {:.2} %, scattered {:.2} %", 100.0 * contiguous, 100.0 * scattered);
    assert!(contiguous >= 0.99 && scattered >= 0.99, "contiguous {contiguous}, scattered {scattered}");
}

#[test]
fn values_of_many_registers_are_never_split_and_are_read_whole() {
    let wants: Vec<_> = (0..30).map(|place| holding(4 * place, 3)).collect();
    let mut bench = Bench::new(settings(&[1], vec![(0, secs(1), wants)]), units(1..=1), Faults::default(), 1);
    bench.run(secs(30));
    assert!(bench.good(0).count() >= 25);
    assert_eq!(bench.wrong, 0);
}

//! Plans 10 000 points and tells how long it took, beside a greedy merger: `cargo run --release --example
//! plan-speed`.

use std::time::{Duration, Instant};

use ganglion_drivers::plan::{Cost, Cut, Limits, ReadRequest, Step, plan};
use ganglion_protocols::modbus::Table::{self, Coil, HoldingRegister};

#[path = "../tests/support/greedy.rs"]
mod greedy;

const POINTS: u16 = 10_000;

fn main() {
    let single = |table: Table| move |place: u16| ReadRequest { table, address: place, count: 1 };
    let scattered = |place: u16| ReadRequest {
        table: HoldingRegister,
        address: place * 6 + (place * 7 + place / 3) % 5,
        count: 1 + place % 2,
    };
    let cost = Cost::rtu(Duration::from_micros(1042), Duration::from_micros(3646), Duration::from_millis(10));
    let cuts: Vec<_> = (0..250).map(|place| Cut { table: HoldingRegister, at: place * 240 + 17 }).collect();
    let plain = Limits { bridge: 20, ..Limits::STANDARD };
    println!(
        "{:24}{:>10}{:>10}{:>12}{:>10}{:>12}",
        "10 000 points", "plan", "requests", "bus time", "greedy", "bus time"
    );
    run("contiguous registers", (0..POINTS).map(single(HoldingRegister)).collect(), &plain, &cost);
    run("scattered registers", (0..POINTS).map(scattered).collect(), &plain, &cost);
    let cut = Limits { cuts: &cuts, ..plain };
    run("the same with 250 cuts", (0..POINTS).map(scattered).collect(), &cut, &cost);
    run("contiguous coils", (0..POINTS).map(single(Coil)).collect(), &plain, &cost);
    let coils = |place: u16| ReadRequest { table: Coil, ..scattered(place) };
    run("scattered coils", (0..POINTS).map(coils).collect(), &plain, &cost);
}

fn run(name: &str, wants: Vec<ReadRequest>, limits: &Limits<'_>, cost: &Cost) {
    let mut steps = vec![Step::EMPTY; wants.len()];
    let start = Instant::now();
    let planned = plan(&wants, limits, cost, &mut steps).expect("a step for each want");
    let requests: Vec<_> = planned.filter_map(Result::ok).collect();
    let took = start.elapsed();
    let start = Instant::now();
    let merged = greedy::merge(&wants, limits);
    let greedy_took = start.elapsed();
    let line = |requests: &[ReadRequest]| requests.iter().map(|request| cost.of(*request)).sum::<Duration>();
    println!(
        "{name:24}{:>7.2} ms{:>10}{:>10.2} s{:>7.2} ms{:>10.2} s",
        took.as_secs_f64() * 1e3,
        requests.len(),
        line(&requests).as_secs_f64(),
        greedy_took.as_secs_f64() * 1e3,
        line(&merged).as_secs_f64(),
    );
}

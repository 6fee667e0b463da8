//! What tests compare plans with.

#![allow(dead_code, reason = "each test takes what it needs")]

use core::time::Duration;

use ganglion_drivers::plan::{Cost, Limits, PlanError, ReadRequest, Step, plan};
use ganglion_protocols::modbus::Table;

pub(crate) mod greedy;
pub(crate) mod unit;

pub(crate) const fn want(table: Table, address: u16, count: u16) -> ReadRequest {
    ReadRequest { table, address, count }
}

/// A line of 9600 Bd and a unit that takes 10 ms.
pub(crate) fn line() -> Cost {
    Cost::rtu(Duration::from_micros(1042), Duration::from_micros(3646), Duration::from_millis(10))
}

pub(crate) fn planned(wants: &[ReadRequest], limits: &Limits<'_>, cost: &Cost) -> Vec<Result<ReadRequest, PlanError>> {
    let mut steps = vec![Step::EMPTY; wants.len()];
    plan(wants, limits, cost, &mut steps).expect("a step for each want").collect()
}

pub(crate) fn total<'a>(requests: impl IntoIterator<Item = &'a ReadRequest>, cost: &Cost) -> Duration {
    requests.into_iter().map(|request| cost.of(*request)).sum()
}

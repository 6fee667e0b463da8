//! How far the periods of an overloaded bus are stretched.

use core::time::Duration;

use super::{SHORTEST, nanos};

/// The whole bus, in the fixed point that shares of it are counted in.
const WHOLE: u128 = 1 << FRACTION;
const FRACTION: u32 = 32;

/// Returns the floor `F` that makes a bus carry what is asked when every interval shorter than `F` is stretched to it:
/// the least with `cost / max(interval, F)` adding up to at most 1. `None` if the bus carries all as it is.
///
/// Takes the cost, which is the bus time of one turn, and the interval of every task. The shortest intervals give way
/// first and all come to the same floor (water-filling); a task that asks for less than that is not touched.
///
/// Every share is rounded to 2^-32 of the bus, so that the sum is at most 1 with the floor returned and at least
/// 1 - n 2^-32 with `n` tasks; an overload of less than that is none. Takes about 40 passes over the tasks.
pub fn stretch_floor<I>(tasks: I) -> Option<Duration>
where
    I: Iterator<Item = (Duration, Duration)> + Clone,
{
    let tasks = tasks.map(|(cost, interval)| (nanos(cost), nanos(interval.max(SHORTEST))));
    let asked = tasks.clone().map(|(cost, interval)| share(cost, interval)).fold(0_u128, u128::saturating_add);
    if asked <= WHOLE {
        return None;
    }
    // With every interval stretched to the sum of the costs the bus is full; twice that leaves room for the rounding.
    let total = tasks.clone().map(|(cost, _)| cost).fold(0_u64, u64::saturating_add);
    let (mut short, mut enough) = (0_u64, total.saturating_mul(2));
    while short.saturating_add(1) < enough {
        let middle = short.midpoint(enough);
        if carries(tasks.clone(), middle) {
            enough = middle;
        } else {
            short = middle;
        }
    }
    Some(Duration::from_nanos(enough))
}

/// Tells whether the bus carries the tasks with every interval stretched to `floor` at least. Once it does, it does with
/// every longer floor.
fn carries(tasks: impl Iterator<Item = (u64, u64)>, floor: u64) -> bool {
    let (mut stretched, mut untouched) = (0_u128, 0_u128);
    for (cost, interval) in tasks {
        if interval < floor {
            stretched = stretched.saturating_add(u128::from(cost));
        } else {
            untouched = untouched.saturating_add(share(cost, interval)).saturating_add(1);
        }
    }
    let Some(left) = WHOLE.checked_sub(untouched) else { return false };
    stretched.saturating_mul(WHOLE) <= u128::from(floor).saturating_mul(left)
}

/// Returns the share of the bus, rounded down.
fn share(cost: u64, interval: u64) -> u128 {
    // A turn of less than 4.3 s, which is every turn there should be, is divided in 64 bits: far quicker on small machines.
    match u32::try_from(cost) {
        Ok(cost) => u128::from((u64::from(cost) << FRACTION).checked_div(interval).unwrap_or(0)),
        Err(_) => (u128::from(cost) << FRACTION).checked_div(u128::from(interval)).unwrap_or(0),
    }
}

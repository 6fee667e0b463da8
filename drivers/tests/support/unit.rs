//! A model of a unit with holes and a longest request, and of an owner that polls it.

use core::time::Duration;

use ganglion_drivers::learn::{Memory, Verdict};
use ganglion_drivers::plan::{Cost, Limits, ReadRequest};
use ganglion_protocols::modbus::ExceptionCode;
use proptest::test_runner::TestRng;

use super::planned;

/// What a unit answers.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) holes: Vec<ReadRequest>,
    pub(crate) longest_registers: u16,
    pub(crate) longest_bits: u16,
    /// The code for too many items.
    pub(crate) too_long: ExceptionCode,
    /// Of a hundred requests that could be answered, so many are refused.
    pub(crate) noise_percent: u32,
}

impl Unit {
    pub(crate) fn answers(&self, request: ReadRequest) -> Result<(), ExceptionCode> {
        if request.count > if request.table.is_bits() { self.longest_bits } else { self.longest_registers } {
            Err(self.too_long)
        } else if self.holes.iter().any(|hole| hole.overlaps(request)) {
            Err(ExceptionCode::ILLEGAL_DATA_ADDRESS)
        } else {
            Ok(())
        }
    }

    /// The limits of an owner who knows the unit.
    pub(crate) fn known<'a>(&'a self, template: &Limits<'a>) -> Limits<'a> {
        let (max_registers, max_bits) = (self.longest_registers, self.longest_bits);
        Limits { max_registers, max_bits, forbidden: &self.holes, ..*template }
    }
}

/// One poll as it went.
#[derive(Debug, Default)]
pub(crate) struct Poll {
    pub(crate) read: Vec<ReadRequest>,
    pub(crate) asked: Vec<ReadRequest>,
    pub(crate) refused: usize,
}

/// Asks for all wants that are not parked, planning anew after each refusal that changes the limits.
pub(crate) fn poll(
    unit: &Unit,
    memory: &mut Memory,
    wants: &[ReadRequest],
    (template, cost): (&Limits<'_>, &Cost),
    now: Duration,
    rng: &mut TestRng,
) -> Poll {
    use proptest::prelude::Rng as _;

    memory.expire(now);
    let mut unread: Vec<_> = wants.iter().copied().filter(|want| !memory.parked(now, *want)).collect();
    let mut poll = Poll::default();
    'plan: loop {
        let made = memory.changed();
        let requests = planned(&unread, &memory.limits(template), cost);
        for request in requests.into_iter().filter_map(Result::ok) {
            poll.asked.push(request);
            assert!(poll.asked.len() < 40 * wants.len() + 40, "the poll comes to an end");
            let inside: Vec<_> = unread.iter().copied().filter(|want| request.covers(*want)).collect();
            let noise = rng.next_u32() % 100 < unit.noise_percent;
            let code = if rng.next_u32().is_multiple_of(2) { 0x02 } else { 0x03 };
            let answer = unit.answers(request).and(if noise { Err(ExceptionCode::new(code)) } else { Ok(()) });
            let Err(code) = answer else {
                memory.answered(now, request);
                poll.read.extend(&inside);
                unread.retain(|want| !inside.contains(want));
                if memory.changed() != made {
                    continue 'plan;
                }
                continue;
            };
            poll.refused += 1;
            match memory.refused(now, request, code, &inside) {
                Verdict::Cut => {}
                Verdict::Point => unread.retain(|want| *want != request),
                Verdict::Nothing => panic!("a refusal with {code:?} of {request:?} says something"),
            }
            continue 'plan;
        }
        return poll;
    }
}

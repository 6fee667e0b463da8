//! Learning on random units: everything readable is read at once, and the plan comes to that of an owner who knows
//! the unit, however the unit is disturbed meanwhile.

use core::time::Duration;

use ganglion_drivers::learn::Memory;
use ganglion_drivers::plan::{Limits, ReadRequest};
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::Table::{self, Coil, HoldingRegister};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

mod support;

use support::unit::{Poll, Unit, poll};
use support::{line, planned, total, want};

/// Random units for each sentence.
const CASES: u32 = 120;

/// A unit, what is wanted of it, and the dice of its disturbances.
#[derive(Clone, Debug)]
struct Case {
    unit: Unit,
    wants: Vec<ReadRequest>,
    bridge: u16,
    seed: [u8; 32],
}

impl Case {
    fn template(&self) -> Limits<'static> {
        Limits { bridge: self.bridge, ..Limits::STANDARD }
    }

    fn rng(&self) -> TestRng {
        TestRng::from_seed(RngAlgorithm::ChaCha, &self.seed)
    }

    fn readable(&self) -> Vec<ReadRequest> {
        self.wants.iter().copied().filter(|want| self.unit.answers(*want).is_ok()).collect()
    }

    /// What a poll costs an owner who knows the holes and the longest request.
    fn least(&self) -> Duration {
        let template = self.template();
        let requests: Vec<_> = planned(&self.readable(), &self.unit.known(&template), &line())
            .into_iter()
            .filter_map(Result::ok)
            .collect();
        total(&requests, &line())
    }

    fn polls(
        &self,
        memory: &mut Memory,
        rng: &mut TestRng,
        noise_percent: u32,
        seconds: core::ops::Range<u64>,
    ) -> Vec<Poll> {
        let unit = Unit { noise_percent, ..self.unit.clone() };
        let now = |second| Duration::from_secs(second);
        seconds.map(|second| poll(&unit, memory, &self.wants, (&self.template(), &line()), now(second), rng)).collect()
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    let run = |table: Table| (Just(table), prop_oneof![4 => Just(0_u16), 1 => 1_u16..12], 1_u16..5, 1_u16..40);
    let runs = prop_oneof![3 => run(HoldingRegister), 1 => run(Coil)];
    let codes = prop::sample::select(&[ExceptionCode::ILLEGAL_DATA_ADDRESS, ExceptionCode::ILLEGAL_DATA_VALUE][..]);
    (
        prop::collection::vec(runs, 1..12),
        prop::collection::vec((0_u16..100, 1_u16..4), 0..6),
        prop_oneof![Just(125_u16), 4_u16..125],
        prop_oneof![Just(0_u16), 0_u16..12],
        codes,
        any::<[u8; 32]>(),
    )
        .prop_map(|(runs, holes, longest, bridge, too_long, seed)| {
            let mut wants: Vec<ReadRequest> = Vec::new();
            for (table, gap, size, number) in runs {
                for place in 0..number {
                    let last = wants.iter().rev().find(|want| want.table == table);
                    let address = last.map_or(0, |last| last.address + last.count);
                    wants.push(want(table, address + if place == 0 { gap } else { 0 }, size));
                }
            }
            wants.sort_unstable();
            // Each hole lies anywhere between the first and the last item wanted.
            let holes = holes.into_iter().map(|(share, count)| {
                let near = wants[usize::from(share) * (wants.len() - 1) / 100];
                ReadRequest { address: (near.address + share % 5).saturating_sub(2), count, ..near }
            });
            let holes = holes.collect();
            let unit =
                Unit { holes, longest_registers: longest, longest_bits: longest * 8, too_long, noise_percent: 0 };
            Case { unit, wants, bridge, seed }
        })
}

/// Every readable want was read, but those parked before they ever answered.
fn reads_everything(case: &Case, poll: &Poll, parked: &[ReadRequest]) -> Result<(), TestCaseError> {
    for want in case.readable() {
        prop_assert!(poll.read.contains(&want) || parked.contains(&want), "{:?} is not read", want);
    }
    Ok(())
}

/// What the last of the polls costs, as a multiple of the least. A learnt plan may be somewhat dearer: a gap that was
/// cut because the block around it was too long cannot be told from a hole.
fn dearness(case: &Case, polls: &[Poll]) -> Result<f64, TestCaseError> {
    let last = polls.last().map(|poll| &poll.asked[..]).unwrap_or_default();
    let (cost, least) = (total(last, &line()), case.least());
    if least.is_zero() {
        // A unit that never answered anything is asked on, for it may be starting up.
        prop_assert!(last.iter().all(|asked| asked.count <= 4), "in vain, but point by point: {:?}", last);
        return Ok(1.0);
    }
    let one = line().of(want(HoldingRegister, 0, 1));
    prop_assert!(cost >= least, "nothing readable is left out");
    prop_assert!(cost <= least + least / 4 + one, "{:?} instead of {:?}: {:?}", cost, least, last);
    Ok(cost.as_secs_f64() / least.as_secs_f64().max(1e-9))
}

fn stands_still(polls: &[Poll]) -> Result<(), TestCaseError> {
    for poll in polls {
        prop_assert_eq!(&poll.asked, &polls[0].asked);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

    #[test]
    fn a_quiet_unit_is_read_from_the_first_poll_on_and_known_within_ten(case in any_case()) {
        let (mut memory, mut rng) = (Memory::new(), case.rng());
        let polls = case.polls(&mut memory, &mut rng, 0, 0..14);
        for poll in &polls {
            reads_everything(&case, poll, &[])?;
        }
        stands_still(&polls[10..])?;
        dearness(&case, &polls)?;
    }

    #[test]
    fn disturbances_are_unlearnt(case in any_case(), hours in prop::sample::select(&[6, 48][..])) {
        let (mut memory, mut rng) = (Memory::new(), case.rng());
        let mut answered: Vec<ReadRequest> = Vec::new();
        let mut parked: Vec<ReadRequest> = Vec::new();
        for second in 0..40 {
            let polls = case.polls(&mut memory, &mut rng, 5, second..second + 1);
            answered.extend(&polls[0].read);
            answered.sort_unstable();
            answered.dedup();
            let is_parked = |want: &ReadRequest| memory.parked(Duration::from_secs(second), *want);
            parked = case.wants.iter().copied().filter(is_parked).collect();
            prop_assert!(!parked.iter().any(|want| answered.contains(want)), "what answered is parked: {:?}", parked);
        }
        let polls = case.polls(&mut memory, &mut rng, 0, 40..54);
        for poll in &polls {
            reads_everything(&case, poll, &parked)?;
        }
        stands_still(&polls[10..])?;
        // Every term is over, and on the second day forgotten.
        let later = hours * 3600;
        let polls = case.polls(&mut memory, &mut rng, 0, later..later + 14);
        for poll in &polls {
            reads_everything(&case, poll, &[])?;
        }
        stands_still(&polls[10..])?;
        dearness(&case, &polls)?;
    }
}

#[test]
fn nearly_every_learnt_plan_is_the_best_there_is() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let mut dearer = Vec::new();
    let units = 200;
    for _ in 0..units {
        let case = any_case().new_tree(&mut runner).expect("a case").current();
        let polls = case.polls(&mut Memory::new(), &mut case.rng(), 0, 0..11);
        dearer.push(dearness(&case, &polls).expect("not much dearer"));
    }
    dearer.retain(|ratio| *ratio > 1.0);
    println!("{} of {units} plans are dearer: {dearer:.3?}", dearer.len());
    assert!(dearer.len() * 33 <= units, "at most three of a hundred: {dearer:?}");
}

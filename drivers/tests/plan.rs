//! Plans: every want is read, no limit is broken, and nothing is cheaper.

use core::time::Duration;

use ganglion_drivers::plan::{Cost, Cut, Limits, PlanError, ReadRequest, Step, StepsTooFew, plan};
use ganglion_protocols::modbus::Table::{self, Coil, DiscreteInput, HoldingRegister, InputRegister};
use proptest::prelude::*;

mod support;

use support::{greedy, line, planned, total, want};

fn requests(wants: &[ReadRequest], limits: &Limits<'_>) -> Vec<ReadRequest> {
    planned(wants, limits, &line()).into_iter().map(|request| request.expect("every want is allowed")).collect()
}

#[test]
fn contiguous_and_overlapping_wants_become_one_request() {
    let wants = [want(HoldingRegister, 0, 2), want(HoldingRegister, 1, 2), want(HoldingRegister, 3, 1)];
    assert_eq!(requests(&wants, &Limits::STANDARD), [want(HoldingRegister, 0, 4)]);
}

#[test]
fn a_thousand_registers_become_eight_requests() {
    let wants: Vec<_> = (0..1000).map(|address| want(HoldingRegister, address, 1)).collect();
    let requests = requests(&wants, &Limits::STANDARD);
    assert_eq!(requests.len(), 8);
    assert!(requests.iter().all(|request| request.count == 125));
}

#[test]
fn a_gap_is_read_along_only_when_allowed_and_worth_it() {
    let wants = [want(InputRegister, 0, 1), want(InputRegister, 3, 1)];
    assert_eq!(requests(&wants, &Limits::STANDARD), wants);
    let bridged = Limits { bridge: 2, ..Limits::STANDARD };
    assert_eq!(requests(&wants, &bridged), [want(InputRegister, 0, 4)]);
    let hole = [want(InputRegister, 2, 1)];
    assert_eq!(requests(&wants, &Limits { forbidden: &hole, ..bridged }), wants);
    let quick = Cost { exchange: 3, byte: 1 };
    assert_eq!(planned(&wants, &bridged, &quick), wants.map(Ok), "four bytes along cost more than an exchange");
}

#[test]
fn where_to_part_is_chosen_over_all_wants() {
    // Joining the first two because they fit leaves the third too far from both; the cheapest parts after the first.
    let wants = [want(HoldingRegister, 0, 1), want(HoldingRegister, 5, 1), want(HoldingRegister, 6, 1)];
    let limits = Limits { max_registers: 6, bridge: 4, ..Limits::STANDARD };
    assert_eq!(requests(&wants, &limits), [want(HoldingRegister, 0, 1), want(HoldingRegister, 5, 2)]);
}

#[test]
fn a_value_of_two_registers_is_not_split_at_the_limit() {
    let wants = [want(HoldingRegister, 0, 2), want(HoldingRegister, 2, 2)];
    let limits = Limits { max_registers: 3, ..Limits::STANDARD };
    assert_eq!(requests(&wants, &limits), wants);
}

#[test]
fn tables_are_never_mixed() {
    let wants = [want(Coil, 0, 1), want(DiscreteInput, 1, 1), want(HoldingRegister, 2, 1)];
    assert_eq!(planned(&wants, &Limits::STANDARD, &line()), wants.map(Ok));
    let limits = Limits { bridge: 100, ..Limits::STANDARD };
    assert_eq!(planned(&wants, &limits, &line()), wants.map(Ok));
}

#[test]
fn no_request_spans_a_cut_of_its_table() {
    let wants: Vec<_> = (0..4).map(|address| want(HoldingRegister, address, 1)).collect();
    let cuts = [Cut { table: InputRegister, at: 1 }, Cut { table: HoldingRegister, at: 3 }];
    let limits = Limits { cuts: &cuts, ..Limits::STANDARD };
    assert_eq!(requests(&wants, &limits), [want(HoldingRegister, 0, 3), want(HoldingRegister, 3, 1)]);
}

#[test]
fn a_cut_anywhere_in_a_gap_parts_the_wants_on_its_sides() {
    let wants = [want(InputRegister, 0, 2), want(InputRegister, 5, 1)];
    for at in 2..=5 {
        let cuts = [Cut { table: InputRegister, at }];
        assert_eq!(requests(&wants, &Limits { bridge: 9, cuts: &cuts, ..Limits::STANDARD }), wants, "cut at {at}");
    }
}

#[test]
fn a_want_that_spans_a_cut_is_read_alone_and_no_other_relies_on_it() {
    let wants = [want(HoldingRegister, 0, 1), want(HoldingRegister, 1, 6), want(HoldingRegister, 2, 1)];
    assert_eq!(requests(&wants, &Limits::STANDARD), [want(HoldingRegister, 0, 7)]);
    let cuts = [Cut { table: HoldingRegister, at: 5 }];
    let got = requests(&wants, &Limits { bridge: 1, cuts: &cuts, ..Limits::STANDARD });
    assert_eq!(got, [want(HoldingRegister, 0, 3), want(HoldingRegister, 1, 6)]);
}

#[test]
fn a_want_longer_than_what_may_be_joined_is_read_alone() {
    let wants = [want(HoldingRegister, 0, 2), want(HoldingRegister, 2, 5), want(HoldingRegister, 3, 1)];
    let got = requests(&wants, &Limits { joined_registers: 4, ..Limits::STANDARD });
    assert_eq!(got, [want(HoldingRegister, 0, 2), want(HoldingRegister, 2, 5), want(HoldingRegister, 3, 1)]);
}

#[test]
fn the_last_register_can_be_read_and_none_after_it() {
    let last = want(HoldingRegister, 65_535, 1);
    assert_eq!(requests(&[last], &Limits::STANDARD), [last]);
    let past = want(HoldingRegister, 65_535, 2);
    assert_eq!(planned(&[past], &Limits::STANDARD, &line()), [Err(PlanError::PastEnd { want: past })]);
}

#[test]
fn a_want_that_cannot_be_read_is_named_and_the_others_are_read() {
    let hole = [want(HoldingRegister, 5, 5)];
    let limits = Limits { max_registers: 4, forbidden: &hole, ..Limits::STANDARD };
    let wants = [
        want(HoldingRegister, 0, 5),
        want(HoldingRegister, 1, 0),
        want(HoldingRegister, 1, 2),
        want(HoldingRegister, 4, 2),
        want(HoldingRegister, 10, 1),
    ];
    assert_eq!(
        planned(&wants, &limits, &line()),
        [
            Err(PlanError::TooLong { want: wants[0], limit: 4 }),
            Err(PlanError::Empty { want: wants[1] }),
            Ok(wants[2]),
            Err(PlanError::Forbidden { want: wants[3] }),
            Ok(wants[4]),
        ]
    );
}

#[test]
fn working_memory_that_is_too_short_is_an_error() {
    let wants = [want(Coil, 0, 1), want(Coil, 1, 1)];
    let got = plan(&wants, &Limits::STANDARD, &line(), &mut [Step::EMPTY; 1]).map(|_| ());
    assert_eq!(got, Err(StepsTooFew { needed: 2, given: 1 }));
}

#[test]
fn an_exchange_at_9600_baud_costs_its_frames_the_turnaround_and_the_silence_after_it() {
    let (character, gap) = (Duration::from_micros(1000), Duration::from_micros(3500));
    let cost = Cost::rtu(character, gap, Duration::from_millis(10));
    assert_eq!(cost.of(want(HoldingRegister, 0, 10)), Duration::from_micros(1000 * (8 + 5 + 20 + 10) + 3500));
    assert_eq!(cost.of(want(Coil, 0, 9)), Duration::from_micros(1000 * (8 + 5 + 2 + 10) + 3500));
}

/// A random device and what is wanted of it.
#[derive(Debug)]
struct Case {
    wants: Vec<ReadRequest>,
    forbidden: Vec<ReadRequest>,
    cuts: Vec<Cut>,
    plain: Limits<'static>,
    cost: Cost,
}

impl Case {
    fn limits(&self) -> Limits<'_> {
        Limits { forbidden: &self.forbidden, cuts: &self.cuts, ..self.plain }
    }
}

fn any_table() -> impl Strategy<Value = Table> {
    prop::sample::select(&[Coil, HoldingRegister][..])
}

fn any_want(addresses: u16, longest: u16) -> impl Strategy<Value = ReadRequest> {
    (any_table(), 0..addresses, 0..=longest, prop::bool::weighted(0.05))
        .prop_map(|(table, address, count, end)| want(table, if end { u16::MAX - address % 8 } else { address }, count))
}

fn any_case(wants: usize, addresses: u16, longest: u16) -> impl Strategy<Value = Case> {
    let cut = (any_table(), 0..addresses).prop_map(|(table, at)| Cut { table, at });
    (
        prop::collection::vec(any_want(addresses, longest), 0..=wants),
        prop::collection::vec(any_want(addresses, 2), 0..3),
        prop::collection::vec(cut, 0..4),
        (longest / 2 + 1..longest * 5, longest / 2 + 1..longest * 9, longest / 2..longest * 5, 0..longest * 2),
        (0_u64..60, 0_u64..5),
    )
        .prop_map(
            |(mut wants, forbidden, mut cuts, (max_registers, max_bits, joined, bridge), (exchange, byte))| {
                wants.sort_unstable();
                cuts.sort_unstable();
                let (joined_registers, joined_bits) = (joined, joined * 2);
                let plain =
                    Limits { max_registers, max_bits, joined_registers, joined_bits, bridge, ..Limits::STANDARD };
                Case { wants, forbidden, cuts, plain, cost: Cost { exchange, byte } }
            },
        )
}

/// The cheapest way to read `wants` if each set of a partition may be one request; `contiguous` keeps sets to runs.
fn cheapest(wants: &[ReadRequest], limits: &Limits<'_>, cost: &Cost, contiguous: bool) -> Option<Duration> {
    fn extend(
        rest: &[ReadRequest],
        sets: &mut Vec<Vec<ReadRequest>>,
        contiguous: bool,
        price: &dyn Fn(&[Vec<ReadRequest>]) -> Option<Duration>,
        best: &mut Option<Duration>,
    ) {
        let Some((&first, rest)) = rest.split_first() else {
            if let Some(cost) = price(sets) {
                *best = Some(best.map_or(cost, |least| least.min(cost)));
            }
            return;
        };
        let from = if contiguous { sets.len().saturating_sub(1) } else { 0 };
        for place in from..sets.len() {
            sets[place].push(first);
            extend(rest, sets, contiguous, price, best);
            sets[place].pop();
        }
        sets.push(vec![first]);
        extend(rest, sets, contiguous, price, best);
        sets.pop();
    }
    let price = |sets: &[Vec<ReadRequest>]| {
        sets.iter().map(|set| Some(cost.of(request_of(set, wants, limits)?))).sum::<Option<Duration>>()
    };
    let mut best = None;
    extend(wants, &mut Vec::new(), contiguous, &price, &mut best);
    best
}

/// The request for all wants of a set, if there may be one.
fn request_of(set: &[ReadRequest], wants: &[ReadRequest], limits: &Limits<'_>) -> Option<ReadRequest> {
    let first = *set.iter().min_by_key(|want| want.address)?;
    let end = set.iter().map(|want| want.end()).max()?;
    let hull = ReadRequest { count: u16::try_from(end - u32::from(first.address)).ok()?, ..first };
    let several = set.iter().any(|want| *want != set[0]);
    if set.iter().any(|want| want.table != hull.table) || limits.allow(hull).is_err() {
        return None;
    }
    if several && (limits.reads_alone(hull) || longest_gap(hull, wants, limits) > u32::from(limits.bridge)) {
        return None;
    }
    Some(hull)
}

/// The most items in a row within `request` that no want asks for but those read alone.
fn longest_gap(request: ReadRequest, wants: &[ReadRequest], limits: &Limits<'_>) -> u32 {
    let inside = wants.iter().filter(|want| request.covers(**want) && !limits.reads_alone(**want));
    let (mut gap, mut longest) = (0, 0);
    let wanted: Vec<_> = inside.collect();
    for item in u32::from(request.address)..request.end() {
        let asked = wanted.iter().any(|want| u32::from(want.address) <= item && item < want.end());
        gap = if asked { 0 } else { gap + 1 };
        longest = longest.max(gap);
    }
    longest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn no_partition_of_the_wants_into_sets_is_cheaper(case in any_case(7, 24, 6)) {
        let limits = case.limits();
        let readable: Vec<_> = case.wants.iter().copied().filter(|want| limits.allow(*want).is_ok()).collect();
        let got: Vec<_> = planned(&case.wants, &limits, &case.cost).into_iter().filter_map(Result::ok).collect();
        let best = cheapest(&readable, &limits, &case.cost, false);
        prop_assert_eq!(Some(total(&got, &case.cost)), best);
    }

    #[test]
    fn nothing_is_cheaper_among_runs_of_neighbours_in_steps(
        steps in prop::collection::vec((0_u16..9, 1_u16..5), 1..=11),
        table in any_table(),
        (joined, bridge) in (4_u16..40, 0_u16..9),
        (exchange, byte) in (0_u64..60, 0_u64..5),
    ) {
        let mut wants: Vec<ReadRequest> = Vec::new();
        for (gap, count) in steps {
            let address = wants.last().map_or(0, |last| last.address + last.count) + gap;
            wants.push(want(table, address, count));
        }
        let limits = Limits { max_registers: joined, max_bits: joined, bridge, ..Limits::STANDARD };
        let cost = Cost { exchange, byte };
        let got: Vec<_> = planned(&wants, &limits, &cost).into_iter().filter_map(Result::ok).collect();
        prop_assert_eq!(Some(total(&got, &cost)), cheapest(&wants, &limits, &cost, true));
    }
}

proptest! {
    #[test]
    fn every_want_is_read_within_all_limits_and_never_dearer_than_by_greedy_merging(
        mut case in any_case(400, 900, 9),
        sorted in prop::bool::weighted(0.9),
    ) {
        if !sorted {
            let middle = case.wants.len() / 2;
            case.wants.rotate_left(middle);
        }
        let limits = case.limits();
        let got = planned(&case.wants, &limits, &case.cost);
        let errors: Vec<_> = got.iter().filter_map(|request| request.err()).collect();
        let refused: Vec<_> = case.wants.iter().filter_map(|want| limits.allow(*want).err()).collect();
        prop_assert_eq!(errors, refused);
        let requests: Vec<_> = got.into_iter().filter_map(Result::ok).collect();
        for request in &requests {
            prop_assert_eq!(limits.allow(*request), Ok(()));
            let alone = limits.reads_alone(*request);
            prop_assert!(!alone || case.wants.contains(request), "{:?} spans a cut or is too long", request);
            let gap = longest_gap(*request, &case.wants, &limits);
            prop_assert!(alone || gap <= u32::from(limits.bridge), "{:?} bridges {}", request, gap);
        }
        for want in case.wants.iter().filter(|want| limits.allow(**want).is_ok()) {
            let reads = |request: &ReadRequest| {
                request == want || (request.covers(*want) && !limits.reads_alone(*request))
            };
            prop_assert!(requests.iter().any(reads), "{:?} is not read", want);
        }
        if sorted {
            prop_assert!(requests.is_sorted(), "requests come in address order");
            let merged = greedy::merge(&case.wants, &limits);
            prop_assert!(total(&requests, &case.cost) <= total(&merged, &case.cost));
        }
    }

    #[test]
    fn wants_that_do_not_overlap_are_each_read_once(
        steps in prop::collection::vec((0_u16..4, 1_u16..5), 0..60),
        max_registers in 4_u16..30,
        bridge in 0_u16..6,
    ) {
        let mut wants = Vec::new();
        let mut address = 0;
        for (gap, count) in steps {
            wants.push(want(HoldingRegister, gap + address, count));
            address += gap + count;
        }
        let requests = requests(&wants, &Limits { max_registers, bridge, ..Limits::STANDARD });
        for want in &wants {
            prop_assert_eq!(requests.iter().filter(|request| request.covers(*want)).count(), 1);
        }
    }
}

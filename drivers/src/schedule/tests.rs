#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

extern crate std;

use std::vec::Vec;

use super::*;
use proptest::prelude::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Serves whose turn it is, for `cost`. Returns its place, and how many of its slots it missed.
fn turn<S: AsRef<[Slot]> + AsMut<[Slot]>>(
    schedule: &mut Schedule<S>,
    now: Duration,
    cost: Duration,
) -> Option<(usize, u64)> {
    let place = schedule.first(now, |_| true)?.place;
    let missed = schedule.take(place, now);
    schedule.finish(place, now + cost);
    Some((place, missed))
}

/// One turn in a simulation.
#[derive(Clone, Copy, Debug)]
struct Turn {
    place: usize,
    begin: Duration,
    end: Duration,
    deadline: Duration,
}

/// Keeps a bus busy from 0 until `end`, with the time a turn of each task takes. The bus is idle only when nothing is due.
fn simulate(schedule: &mut Schedule<Vec<Slot>>, costs: &[Duration], end: Duration) -> Vec<Turn> {
    let (mut now, mut turns) = (ms(0), Vec::new());
    while now < end {
        if let Some(Due { place, deadline }) = schedule.first(now, |_| true) {
            let begin = now;
            schedule.take(place, begin);
            now += costs[place];
            schedule.finish(place, now);
            turns.push(Turn { place, begin, end: now, deadline });
        } else {
            now = schedule.wake().expect("there are tasks");
        }
    }
    turns
}

fn slots(tasks: &[(Duration, Duration)]) -> Vec<Slot> {
    tasks.iter().map(|&(_, interval)| Slot::every(interval)).collect()
}

#[test]
fn tasks_of_one_interval_are_spread_over_it() {
    let mut schedule = Schedule::new([Slot::every(ms(100)); 4], ms(1000));
    for round in 0..3 {
        for place in 0..4 {
            let begin = ms(1000 + 100 * round + 25 * place);
            assert_eq!(schedule.wake(), Some(begin));
            assert_eq!(turn(&mut schedule, begin - ms(1), ms(0)), None);
            assert_eq!(turn(&mut schedule, begin, ms(0)), Some((usize::try_from(place).unwrap(), 0)));
        }
    }
}

#[test]
fn tasks_of_different_intervals_are_spread_each_over_their_own_and_shifted_against_each_other() {
    let each = [100, 1000, 100, 1000].map(|interval| Slot::every(ms(interval)));
    let schedule = Schedule::new(each, ms(0));
    let begins = schedule.slots.map(|slot| Duration::from_nanos(slot.begin));
    assert_eq!(begins, [ms(0), ms(125), ms(50), ms(625)]);
}

#[test]
fn of_two_due_tasks_the_one_with_the_earlier_deadline_is_served_first() {
    let mut schedule = Schedule::new([Slot::every(ms(1000)), Slot::every(ms(100))], ms(0));
    assert_eq!(schedule.first(ms(60), |_| true), Some(Due { place: 1, deadline: ms(150) }), "due since 50");
    assert_eq!(turn(&mut schedule, ms(60), ms(0)), Some((1, 0)));
    assert_eq!(schedule.first(ms(60), |_| true), Some(Due { place: 0, deadline: ms(1000) }), "due since 0");
    assert_eq!(turn(&mut schedule, ms(60), ms(0)), Some((0, 0)));
    assert_eq!(turn(&mut schedule, ms(60), ms(0)), None);
    assert_eq!(schedule.wake(), Some(ms(150)));
}

#[test]
fn a_task_that_may_not_be_served_waits_without_holding_up_others_and_keeps_its_deadline() {
    let mut schedule = Schedule::new([Slot::every(ms(1000)), Slot::every(ms(100))], ms(0));
    assert_eq!(schedule.first(ms(60), |place| place != 1).map(|due| due.place), Some(0));
    assert_eq!(schedule.first(ms(60), |_| false), None);
    assert_eq!((schedule.wake(), schedule.wake_after(ms(60))), (Some(ms(0)), None));
    schedule.take(0, ms(60));
    schedule.finish(0, ms(70));
    assert_eq!(schedule.wake_after(ms(60)), Some(ms(1000)));
    assert_eq!(schedule.first(ms(400), |_| true), Some(Due { place: 1, deadline: ms(150) }));
    assert_eq!(schedule.take(1, ms(400)), 3, "the slots of 50, 150 and 250");
}

#[test]
fn a_task_that_is_being_served_is_not_due_and_tells_the_deadline_of_its_turn() {
    let mut schedule = Schedule::new([Slot::every(ms(100))], ms(0));
    assert!(schedule.due(0, ms(0)));
    schedule.take(0, ms(0));
    assert_eq!((schedule.deadline(0), schedule.wake()), (ms(100), None));
    assert!(!schedule.due(0, ms(120)));
    assert_eq!(schedule.first(ms(120), |_| true), None);
    schedule.finish(0, ms(120));
    assert!(schedule.due(0, ms(120)));
    assert_eq!((schedule.deadline(0), schedule.wake()), (ms(200), Some(ms(100))));
}

#[test]
fn slots_missed_during_an_overrun_are_skipped_and_the_grid_is_kept() {
    let mut schedule = Schedule::new([Slot::every(ms(100))], ms(0));
    assert_eq!(turn(&mut schedule, ms(0), ms(350)), Some((0, 0)));
    assert_eq!(turn(&mut schedule, ms(350), ms(0)), Some((0, 2)));
    assert_eq!(schedule.wake(), Some(ms(400)));
}

#[test]
fn a_turn_longer_than_its_interval_is_followed_at_once_by_one_for_the_slot_that_has_begun() {
    let mut schedule = Schedule::new([Slot::every(ms(100))], ms(0));
    assert_eq!(turn(&mut schedule, ms(0), ms(150)), Some((0, 0)));
    assert_eq!(turn(&mut schedule, ms(150), ms(0)), Some((0, 0)));
    assert_eq!(schedule.wake(), Some(ms(200)));
}

#[test]
fn a_task_served_before_it_is_due_uses_up_the_coming_slot() {
    let mut schedule = Schedule::new([Slot::every(ms(100))], ms(1000));
    assert_eq!(schedule.take(0, ms(990)), 0);
    schedule.finish(0, ms(995));
    assert_eq!((schedule.wake(), schedule.deadline(0)), (Some(ms(1100)), ms(1200)));
}

#[test]
fn a_slow_task_does_not_starve_the_others_of_its_bus() {
    let mut schedule = Schedule::new(std::vec![Slot::every(ms(100)); 4], ms(0));
    let turns = simulate(&mut schedule, &[ms(2000), ms(5), ms(5), ms(5)], ms(60_000));
    for place in 0..4 {
        assert!(turns.iter().filter(|turn| turn.place == place).count() >= 25, "{turns:?}");
    }
}

#[test]
fn a_bus_without_tasks_has_nothing_to_do() {
    let mut schedule = Schedule::new([], ms(0));
    assert_eq!((schedule.first(ms(5), |_| true), schedule.wake()), (None, None));
    assert_eq!((schedule.take(0, ms(5)), schedule.deadline(0)), (0, Duration::MAX));
    assert!(!schedule.due(0, ms(5)));
}

#[test]
fn a_task_of_a_day_is_first_read_within_seconds_even_on_a_bus_with_more_to_do_than_it_can() {
    let day = ms(86_400_000);
    let tasks: Vec<_> = (0..40).map(|place| (ms(50), if place % 2 == 0 { ms(100) } else { day })).collect();
    let costs: Vec<_> = tasks.iter().map(|&(cost, _)| cost).collect();
    let turns = simulate(&mut Schedule::new(slots(&tasks), ms(0)), &costs, ms(20_000));
    for place in 0..40 {
        let first = turns.iter().find(|turn| turn.place == place).unwrap();
        assert!(first.end <= FIRST_ROUND * 2 + costs.iter().sum::<Duration>(), "{first:?}");
    }
}

#[test]
fn after_its_first_turn_a_task_with_a_long_interval_keeps_to_its_place_in_the_grid() {
    let mut schedule = Schedule::new(std::vec![Slot::every(ms(60_000)); 10], ms(0));
    let turns = simulate(&mut schedule, &[ms(10); 10], ms(200_000));
    for place in 0..10 {
        let mut begins = turns.iter().filter(|turn| turn.place == usize::try_from(place).unwrap());
        assert_eq!(begins.next().unwrap().begin, ms(500 * place));
        let grid = if place == 0 { 60_000 } else { 6_000 * place };
        assert_eq!(begins.next().unwrap().begin, ms(grid));
        assert_eq!(begins.next().unwrap().begin, ms(grid + 60_000));
    }
}

#[test]
fn a_stretched_task_is_served_as_often_as_asked_while_the_bus_would_be_idle() {
    let mut schedule = Schedule::new(std::vec![Slot::every(ms(100))], ms(0));
    schedule.stretch(Some(ms(1000)));
    assert_eq!(schedule.effective(0), ms(1000));
    let turns = simulate(&mut schedule, &[ms(10)], ms(10_000));
    assert_eq!(turns.len(), 100);
    assert_eq!(schedule.take(0, ms(10_000)), 0);
}

#[test]
fn a_stretched_task_leaves_the_bus_to_one_that_is_entitled_to_its_turn() {
    let mut schedule = Schedule::new([Slot::every(ms(100)), Slot::every(ms(2000))], ms(0));
    schedule.stretch(Some(ms(1000)));
    assert_eq!(turn(&mut schedule, ms(0), ms(10)), Some((0, 0)), "the other is due from 1000");
    assert_eq!(turn(&mut schedule, ms(950), ms(60)), Some((0, 8)), "early: nothing else is due");
    assert_eq!(schedule.first(ms(1010), |_| true), Some(Due { place: 1, deadline: ms(3000) }), "0 is ahead until 1950");
    assert_eq!(turn(&mut schedule, ms(1010), ms(10)), Some((1, 0)));
    assert_eq!(turn(&mut schedule, ms(1020), ms(10)), Some((0, 0)));
}

#[test]
fn turns_given_to_a_stretched_task_while_others_were_away_are_not_held_against_it() {
    let mut schedule = Schedule::new([Slot::every(ms(100)), Slot::every(ms(100))], ms(0));
    schedule.stretch(Some(ms(200)));
    let mut now = ms(0);
    while now < ms(3_600_000) {
        let due = schedule.first(now, |place| place == 0).unwrap();
        schedule.take(due.place, now);
        now += ms(100);
        schedule.finish(due.place, now);
    }
    let order: Vec<_> = (0..6).filter_map(|step| turn(&mut schedule, now + ms(100 * step), ms(100))).collect();
    assert_eq!(order.iter().map(|&(place, _)| place).collect::<Vec<_>>(), [1, 1, 0, 1, 0, 1]);
}

#[test]
fn a_floor_that_falls_falls_for_the_turns_to_come_too() {
    let mut schedule = Schedule::new([Slot::every(ms(100))], ms(0));
    schedule.stretch(Some(ms(60_000)));
    turn(&mut schedule, ms(0), ms(10));
    assert_eq!(schedule.deadline(0), ms(120_000));
    schedule.stretch(Some(ms(1000)));
    assert_eq!(schedule.deadline(0), ms(2000));
    schedule.stretch(None);
    assert_eq!((schedule.deadline(0), schedule.effective(0)), (ms(200), ms(100)));
}

#[test]
fn the_floor_of_a_bus_that_carries_everything_is_none() {
    assert_eq!(stretch_floor([].into_iter()), None);
    assert_eq!(stretch_floor([(ms(0), ms(100))].into_iter()), None);
    assert_eq!(stretch_floor([(ms(100), ms(300)); 3].into_iter()), None, "full to the last nanosecond");
}

#[test]
fn the_shortest_intervals_give_way_first_and_to_one_floor() {
    // Of the bus, 0.2 go to the long one; the others share 0.8 in turns of 200 ms altogether.
    let tasks = [(ms(80), ms(100)), (ms(120), ms(150)), (ms(200), ms(1000))];
    let floor = stretch_floor(tasks.into_iter()).unwrap();
    assert!(floor.abs_diff(ms(250)) < Duration::from_micros(1), "{floor:?}");
    let floor = stretch_floor([(ms(5), ms(0))].into_iter()).unwrap();
    assert!(floor.abs_diff(ms(5)) < Duration::from_nanos(10), "{floor:?}");
}

fn load(tasks: &[(Duration, Duration)], floor: Duration) -> f64 {
    tasks.iter().map(|&(cost, interval)| cost.as_secs_f64() / interval.max(floor).as_secs_f64()).sum()
}

fn tasks() -> impl Strategy<Value = Vec<(Duration, Duration)>> {
    let interval = prop_oneof![100_u64..5_000, Just(100), Just(1000)];
    prop::collection::vec((1_u64..400, interval), 1..12)
        .prop_map(|tasks| tasks.into_iter().map(|(cost, interval)| (ms(cost), ms(interval))).collect())
}

proptest! {
    #[test]
    fn every_slot_is_served_or_missed_once_and_never_early(
        intervals in prop::collection::vec(0_u64..20_000, 1..8),
        costs in prop::collection::vec(0_u64..3_000, 1..60),
        floor in prop::option::of(0_u64..2_000),
    ) {
        let each: Vec<Slot> = intervals.iter().map(|&interval| Slot::every(ms(interval))).collect();
        let mut schedule = Schedule::new(each.clone(), ms(0));
        schedule.stretch(floor.map(ms));
        let begins: Vec<_> = schedule.slots.iter().map(|slot| (slot.begin, slot.successor)).collect();
        let mut begun = std::vec![0_u64; each.len()];
        let mut now = ms(0);
        for cost in costs {
            let Some(Due { place, .. }) = schedule.first(now, |_| true) else {
                let wake = schedule.wake().unwrap();
                prop_assert!(wake > now);
                now = wake;
                continue;
            };
            begun[place] += schedule.take(place, now) + 1;
            let slot = |number: u64| match number.checked_sub(1) {
                None => begins[place].0,
                Some(later) => begins[place].1 + later * each[place].interval,
            };
            // All slots up to the one that contains `now` are accounted for, and none after it.
            prop_assert!(slot(begun[place] - 1) <= nanos(now) && nanos(now) < slot(begun[place]));
            now += ms(cost);
            schedule.finish(place, now);
        }
    }

    #[test]
    fn every_task_is_first_due_within_the_first_round_and_then_at_least_a_round_later(
        intervals in prop::collection::vec(prop_oneof![0_u64..20_000, 0_u64..100_000_000], 1..30),
    ) {
        let schedule = Schedule::new(intervals.iter().map(|&it| Slot::every(ms(it))).collect::<Vec<_>>(), ms(7));
        for slot in &schedule.slots {
            let (interval, round) = (slot.interval, nanos(FIRST_ROUND));
            prop_assert!(slot.begin >= nanos(ms(7)) && slot.begin - nanos(ms(7)) < round.min(interval));
            prop_assert!(slot.successor - slot.begin >= round.min(interval));
            prop_assert!(slot.successor - slot.begin <= interval + round);
        }
    }

    #[test]
    fn a_stretched_bus_is_full_and_no_fuller_and_only_the_short_intervals_are_stretched(tasks in tasks()) {
        let Some(floor) = stretch_floor(tasks.iter().copied()) else {
            prop_assert!(load(&tasks, ms(0)) <= 1.0 + 1e-8);
            return Ok(());
        };
        prop_assert!(load(&tasks, ms(0)) > 1.0 - 1e-12);
        let stretched = load(&tasks, floor);
        prop_assert!((1.0 - 1e-7..=1.0 + 1e-12).contains(&stretched), "{}", stretched);
        let mut schedule = Schedule::new(slots(&tasks), ms(0));
        schedule.stretch(Some(floor));
        for (place, &(_, interval)) in tasks.iter().enumerate() {
            prop_assert_eq!(schedule.effective(place), interval.max(floor));
        }
    }

    #[test]
    fn every_turn_ends_at_most_one_longest_turn_after_its_deadline_once_an_overload_is_stretched(tasks in tasks()) {
        let mut schedule = Schedule::new(slots(&tasks), ms(0));
        schedule.stretch(stretch_floor(tasks.iter().copied()));
        let costs: Vec<_> = tasks.iter().map(|&(cost, _)| cost).collect();
        let longest = *costs.iter().max().unwrap();
        let turns = simulate(&mut schedule, &costs, ms(60_000));
        for turn in &turns {
            prop_assert!(turn.end <= turn.deadline + longest, "{:?}", turn);
        }
        for place in 0..tasks.len() {
            let own: Vec<_> = turns.iter().filter(|turn| turn.place == place).collect();
            let apart = schedule.effective(place) * 2 + longest;
            prop_assert!(own.windows(2).all(|pair| pair[1].end - pair[0].end <= apart), "{:?} {:?}", apart, own);
        }
    }

    #[test]
    fn no_task_waits_for_ever_however_little_of_what_is_asked_the_bus_can_carry(
        tasks in tasks(),
        floor in prop::option::of(0_u64..2_000),
    ) {
        let mut schedule = Schedule::new(slots(&tasks), ms(0));
        schedule.stretch(floor.map(ms));
        let costs: Vec<_> = tasks.iter().map(|&(cost, _)| cost * 10).collect();
        let turns = simulate(&mut schedule, &costs, ms(120_000));
        // A task that waits is overtaken only by turns with an earlier deadline: those of its own interval at most.
        let round: Duration = costs.iter().sum();
        for place in 0..tasks.len() {
            let own: Vec<_> = turns.iter().filter(|turn| turn.place == place).collect();
            let apart = (schedule.effective(place) + round) * 2;
            prop_assert!(own.windows(2).all(|pair| pair[1].end - pair[0].end <= apart), "{:?} {:?}", apart, own);
            prop_assert!(!own.is_empty());
        }
    }

    #[test]
    fn no_time_and_no_interval_panics(interval: Duration, start: Duration, now: Duration, cost: Duration) {
        let mut schedule = Schedule::new([Slot::every(interval), Slot::every(now)], start);
        for now in [now, Duration::MAX, Duration::ZERO] {
            schedule.stretch(Some(now));
            schedule.take(0, now);
            schedule.finish(0, now);
            schedule.stretch(None);
            turn(&mut schedule, now, Duration::ZERO);
        }
        let floor = stretch_floor([(cost, interval), (now, start)].into_iter());
        prop_assert!(floor.is_none_or(|floor| floor > Duration::ZERO));
    }
}

#[test]
fn turns_out_of_turn_leave_the_coming_slot_where_it_is() {
    let mut schedule = Schedule::new([Slot::every(ms(60_000))], ms(0));
    assert_eq!(turn(&mut schedule, ms(0), ms(10)), Some((0, 0)));
    // A wire that comes and goes: each time the task is called for.
    for round in 1..=20 {
        let now = ms(2_000 * round);
        schedule.call(0, now);
        assert_eq!(schedule.wake(), Some(now));
        assert_eq!(turn(&mut schedule, now, ms(10)), Some((0, 0)));
    }
    assert_eq!(schedule.wake(), Some(ms(60_000)));
    schedule.call(0, ms(59_000));
    assert_eq!(turn(&mut schedule, ms(61_000), ms(10)), Some((0, 0)), "its slot has come meanwhile: one turn for both");
    assert_eq!(schedule.wake(), Some(ms(120_000)));
}

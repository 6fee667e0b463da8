//! Units and the line itself misbehave.
//!
//! Seconds are counted beside an undisturbed line of the same daemon: a second in which that one was not heard either is
//! the machine's, not the bus's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ganglion_hil::bench::bus::layout::Layout;
use ganglion_hil::site::{Fault, Line, Unit};

use crate::rig::{MODEL, Rig, Stream, second};

/// Speed of the lines; four units of twenty registers take a third of it at the period below.
const BAUD: u32 = 38_400;
const POLL_INTERVAL_MS: u32 = 250;
const REGISTERS: u16 = 20;

/// How long seconds are counted.
const WINDOW: Duration = Duration::from_secs(20);

fn units(ids: impl IntoIterator<Item = u8>) -> Vec<Arc<Unit>> {
    ids.into_iter().map(|id| Unit::new(id, MODEL, 11)).collect()
}

/// Two lines of the same daemon.
struct Beside {
    rig: Rig,
    line: Line,
    units: Vec<Arc<Unit>>,
    streams: Vec<Stream>,
    _calm: Line,
    calm: Vec<Stream>,
}

impl Beside {
    fn new() -> Self {
        let mut rig = Rig::new(0..REGISTERS);
        let (units, undisturbed) = (units(1..=4), units([1]));
        let (settings, calm) = (rig.settings("line", BAUD), rig.settings("calm", BAUD));
        let (line, streams) = rig.add_line(&settings, &units, POLL_INTERVAL_MS);
        let (calm_line, calm) = rig.add_line(&calm, &undisturbed, POLL_INTERVAL_MS);
        Self { rig, line, units, streams, _calm: calm_line, calm }
    }

    /// Waits until all are heard and then as long as the window; returns its seconds in which the undisturbed line was heard
    /// too.
    fn window(&self) -> BTreeSet<u64> {
        let from = second(SystemTime::now()) + 1;
        let until = from + WINDOW.as_secs();
        let [calm] = self.calm.as_slice() else { panic!("one undisturbed unit") };
        let last = |rig: &Rig| rig.seconds(calm).last().copied();
        self.rig.expect("the end of the window", |rig| last(rig).is_some_and(|last| last >= until));
        self.rig.seconds(calm).range(from..until).copied().collect()
    }

    /// Returns the share of these seconds in which a stream was heard well.
    fn covered(&self, stream: &Stream, seconds: &BTreeSet<u64>) -> f64 {
        let covered = self.rig.seconds(stream).intersection(seconds).count();
        f64::from(u32::try_from(covered).expect("few")) / f64::from(u32::try_from(seconds.len()).expect("few"))
    }

    /// Waits until each of these faults has happened.
    fn expect_faults(&self, faults: &[Fault]) {
        let happened = |fault: &Fault| self.units.iter().any(|unit| unit.faults.counts().contains_key(fault));
        self.rig.expect("every fault", |_| faults.iter().all(happened));
    }
}

#[test]
fn a_dead_unit_among_four_leaves_the_others_their_seconds_and_is_heard_again_when_it_is_back() {
    let beside = Beside::new();
    let Some(running) = beside.rig.start() else { return };
    beside.rig.expect_good(&beside.streams, 3);
    let (others, dead) = beside.streams.split_at(3);
    beside.units[3].defects.set_dead(true);
    beside.rig.expect("silence of the dead unit", |rig| rig.reasons(&dead[0]).contains("timeout"));
    let seconds = beside.window();
    for stream in others {
        let covered = beside.covered(stream, &seconds);
        assert!(covered >= 0.9, "unit {}: {covered:.2} of {} seconds", stream.unit, seconds.len());
    }
    assert_eq!(beside.covered(&dead[0], &seconds), 0.0, "nobody speaks for the dead unit");
    beside.units[3].defects.set_dead(false);
    beside.rig.expect_good(dead, 3);
    let last_seq = running.stop();
    beside.rig.expect_everything_and_nothing_false(&beside.streams, &last_seq);
}

#[test]
fn with_one_in_a_hundred_answers_dropped_flipped_and_noisy_nine_of_ten_seconds_are_covered() {
    let beside = Beside::new();
    let faults = [Fault::Drop, Fault::Flip, Fault::Garbage];
    for unit in &beside.units {
        faults.into_iter().for_each(|fault| unit.faults.set(fault, 0.01));
    }
    let Some(running) = beside.rig.start() else { return };
    beside.rig.expect_good(&beside.streams, 3);
    let seconds = beside.window();
    for stream in &beside.streams {
        let covered = beside.covered(stream, &seconds);
        assert!(covered >= 0.9, "unit {}: {covered:.2} of {} seconds", stream.unit, seconds.len());
    }
    beside.expect_faults(&faults);
    let last_seq = running.stop();
    beside.rig.expect_everything_and_nothing_false(&beside.streams, &last_seq);
}

#[test]
fn bit_errors_both_ways_cost_no_value_its_truth_and_leave_nine_of_ten_seconds() {
    let beside = Beside::new();
    beside.line.noise().set(1e-4);
    let Some(running) = beside.rig.start() else { return };
    beside.rig.expect_good(&beside.streams, 3);
    let seconds = beside.window();
    for stream in &beside.streams {
        let covered = beside.covered(stream, &seconds);
        assert!(covered >= 0.9, "unit {}: {covered:.2} of {} seconds", stream.unit, seconds.len());
    }
    let last_seq = running.stop();
    beside.rig.expect_everything_and_nothing_false(&beside.streams, &last_seq);
    assert!(beside.line.counts().hit_bits > 0);
}

#[test]
fn units_that_are_busy_now_and_then_lose_no_second() {
    let beside = Beside::new();
    beside.units.iter().for_each(|unit| unit.faults.set(Fault::Exception, 0.01));
    let Some(running) = beside.rig.start() else { return };
    beside.rig.expect_good(&beside.streams, 3);
    let seconds = beside.window();
    for stream in &beside.streams {
        let heard = beside.rig.seconds(stream);
        let lost: Vec<&u64> = seconds.difference(&heard).collect();
        assert!(lost.is_empty(), "unit {}: {lost:?} of {} seconds", stream.unit, seconds.len());
    }
    beside.expect_faults(&[Fault::Exception]);
    let last_seq = running.stop();
    beside.rig.expect_everything_and_nothing_false(&beside.streams, &last_seq);
}

#[test]
fn a_unit_that_is_busy_once_is_asked_again_within_the_same_poll() {
    const ROUNDS: u64 = 10;
    let mut rig = Rig::new(0..REGISTERS);
    let units = units(1..=4);
    let settings = rig.settings("line", BAUD);
    let (_line, streams) = rig.add_line(&settings, &units, 500);
    let Some(running) = rig.start() else { return };
    for _ in 0..ROUNDS {
        units.iter().for_each(|unit| unit.faults.queue([Fault::Exception]));
        rig.expect_good(&streams, 2);
    }
    let last_seq = running.stop();
    rig.expect_everything_and_nothing_false(&streams, &last_seq);
    for (unit, stream) in units.iter().zip(&streams) {
        assert_eq!(unit.faults.counts()[&Fault::Exception], ROUNDS, "each was busy");
        assert!(rig.reasons(stream).is_empty(), "unit {}: {:?}", unit.id, rig.reasons(stream));
    }
}

/// Every poll is several blocks, and any of them is refused now and then: whatever comes after a refusal belongs where it
/// was asked for.
#[test]
fn an_exception_inside_a_scan_shifts_no_value() {
    let addresses: Vec<u16> = Layout::Scattered.addresses().into_iter().filter(|&address| address < 100).collect();
    let mut rig = Rig::new(addresses);
    let units = units(1..=3);
    for unit in &units {
        unit.faults.set(Fault::Exception, 0.1);
        unit.faults.set_exceptions(&[0x02, 0x04, 0x06]);
    }
    let settings = rig.settings("line", 115_200);
    let (_line, streams) = rig.add_line(&settings, &units, 100);
    let Some(running) = rig.start() else { return };
    let refused = || units.iter().filter_map(|unit| unit.faults.counts().get(&Fault::Exception).copied()).sum::<u64>();
    rig.expect("a hundred exceptions", |_| refused() >= 100);
    units.iter().for_each(|unit| unit.faults.clear());
    rig.expect_good(&streams, 20);
    let last_seq = running.stop();
    rig.expect_everything_and_nothing_false(&streams, &last_seq);
}

#[test]
fn a_frame_with_a_wrong_check_is_never_published() {
    let mut rig = Rig::new(0..REGISTERS);
    let units = units(1..=3);
    units.iter().for_each(|unit| unit.faults.set(Fault::Flip, 0.3));
    let settings = rig.settings("line", 115_200);
    let (_line, streams) = rig.add_line(&settings, &units, 50);
    let Some(running) = rig.start() else { return };
    let flipped = || units.iter().filter_map(|unit| unit.faults.counts().get(&Fault::Flip).copied()).sum::<u64>();
    rig.expect("twenty flipped frames", |_| flipped() >= 20);
    let last_seq = running.stop();
    rig.expect_everything_and_nothing_false(&streams, &last_seq);
}

#[test]
fn an_adapter_pulled_and_plugged_under_load_is_used_again_and_no_value_is_false() {
    let mut rig = Rig::new(0..60);
    let units = units(1..=4);
    let settings = rig.settings("line", 115_200);
    // Less than the line needs: something is always under way.
    let (line, streams) = rig.add_line(&settings, &units, 20);
    let Some(running) = rig.start() else { return };
    for _ in 0..3 {
        rig.expect_good(&streams, 5);
        line.unplug().expect("pulled");
        let latest_is_bad = |rig: &Rig, stream| {
            rig.look(stream, |all| all.last().is_some_and(|it| it.readings.values().all(|it| it.quality == "bad")))
        };
        rig.expect("silence", |rig| streams.iter().all(|stream| latest_is_bad(rig, stream)));
        line.plug().expect("plugged");
    }
    rig.expect_good(&streams, 5);
    let last_seq = running.stop();
    rig.expect_everything_and_nothing_false(&streams, &last_seq);
    for stream in &streams {
        assert!(rig.reasons(stream).contains("disconnected"), "{:?}", rig.reasons(stream));
    }
}

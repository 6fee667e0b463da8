//! One failure each, on the simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_protocols::{Gap, LossCause, Value};

use super::sim_disk::{Faults, SimDisk};
use super::{SEGMENT, observation, open_whole, resource, site};
use crate::buffer::format::{ALIGN, Position};
use crate::buffer::log::Log;
use crate::buffer::{Chunk, OpenError, Outlet, Span, Storage};
use crate::monitor::{Ledger, Monitor, Store};
use crate::site::Site;

/// A buffer on a simulated disk, with one stream in use.
struct Bench {
    site: Site,
    disk: SimDisk,
    monitor: Arc<Monitor>,
    log: Log,
    outlet: Outlet,
    now: Instant,
    /// Losses read: first and last number, cause.
    gaps: Vec<(u64, u64, LossCause)>,
}

impl Bench {
    fn new(segments: u64) -> Self {
        Self::on(SimDisk::new(), site(Path::new(""), segments))
    }

    fn on(disk: SimDisk, site: Site) -> Self {
        let monitor = Arc::new(Monitor::new(&site));
        let (log, outlet) = open_whole(&disk, &site, &monitor, 7).unwrap();
        Self { site, disk, monitor, log, outlet, now: Instant::now(), gaps: Vec::new() }
    }

    fn reopen(self) -> Self {
        let Self { site, disk, log, outlet, .. } = self;
        drop((log, outlet));
        Self::on(disk, site)
    }

    /// Writes one frame with one observation for each mark.
    fn write(&mut self, marks: impl IntoIterator<Item = u64>) {
        let mut batch = marks.into_iter().map(|mark| observation(&self.site, 1, mark)).collect();
        self.log.append(&mut batch, self.now);
    }

    fn write_durably(&mut self, marks: impl IntoIterator<Item = u64>) {
        self.write(marks);
        self.log.commit(self.now);
    }

    fn later(&mut self, pause: Duration) {
        self.now += pause;
        self.log.tick(self.now);
    }

    fn fill_segments(&mut self, count: u64) {
        let mut mark = 1000;
        while self.log.next_segment <= count {
            self.write_durably([mark]);
            mark += 1;
        }
    }

    /// Returns the marks and numbers of everything not read yet.
    fn read(&mut self) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        while let Some(chunk) = self.outlet.try_next(Instant::now()).unwrap() {
            out.extend(numbered(&chunk));
            self.gaps.extend(chunk.gaps.iter().map(|gap| (gap.first(), gap.last(), gap.cause())));
        }
        out
    }

    fn acknowledge_all(&self) {
        let to = self.log.shared.newest().unwrap().end_position();
        self.outlet.acknowledge(Span { from: Position::ORIGIN, to });
    }

    fn ledger(&self) -> Ledger {
        self.monitor.snapshot().resources[&resource(2)]
    }

    fn store(&self) -> Store {
        self.monitor.snapshot().store
    }
}

fn numbered(chunk: &Chunk) -> Vec<(u64, u64)> {
    let mark = |value| if let Some(Value::Uint(mark)) = value { mark } else { panic!("{value:?}") };
    chunk.observations.iter().map(|stored| (mark(stored.readings[0].value), stored.seq)).collect()
}

#[test]
fn a_flipped_bit_costs_its_own_frame_and_no_other() {
    // The first two frames hold the shape, so that the frames after either stay readable without the other.
    for lost in 1..=6 {
        let mut bench = Bench::new(8);
        let mut ends = Vec::new();
        for mark in 1..=6 {
            bench.write_durably([mark]);
            ends.push(bench.log.shared.newest().unwrap().end);
        }
        let before_padding = ends[lost - 1] - ALIGN;
        bench.disk.flip(&bench.disk.segments()[0], before_padding as usize, 3);
        bench = bench.reopen();
        let expected: Vec<(u64, u64)> = (1..=6).filter(|mark| *mark != lost as u64).map(|mark| (mark, mark)).collect();
        assert_eq!(bench.read(), expected);
        let last = lost == 6;
        assert_eq!(bench.store().damaged_bytes > 0, !last, "the last one may as well be torn by a power cut");
    }
}

#[test]
fn numbers_that_destroyed_observations_may_have_had_are_never_given_again() {
    let mut bench = Bench::new(8);
    bench.write_durably([1, 2, 3]);
    let tail = bench.log.shared.newest().unwrap().end;
    bench.write_durably([4, 5]);
    let span = bench.outlet.try_next(Instant::now()).unwrap().unwrap().span;
    bench.outlet.acknowledge(span);
    bench.log.save_cursor(bench.now);
    bench.disk.flip(&bench.disk.segments()[0], tail as usize + 2, 0);
    bench = bench.reopen();
    bench.write_durably([6]);
    let (mark, seq) = bench.read()[0];
    assert_eq!(mark, 6);
    assert!(seq > 5, "{seq} was delivered once already");
}

#[test]
fn a_hole_left_by_a_power_cut_is_never_taken_for_corruption() {
    let mut bench = Bench::new(8);
    bench.write([1]);
    let lost = bench.log.shared.newest().unwrap().first;
    bench.write([2]);
    bench.disk.flip(&bench.disk.segments()[0], lost as usize, 0);
    // The second time, the cursor stands behind the hole.
    for expected in [vec![(2, 2)], vec![]] {
        bench = bench.reopen();
        assert_eq!(bench.read(), expected);
        bench.acknowledge_all();
        bench.log.save_cursor(bench.now);
        assert_eq!((bench.store().damaged_bytes, bench.ledger().last_seq), (0, 2));
    }
}

#[test]
fn a_damaged_header_is_replaced_by_its_copy() {
    let mut bench = Bench::new(8);
    bench.write_durably([1, 2]);
    bench.disk.flip(&bench.disk.segments()[0], 20, 1);
    bench = bench.reopen();
    assert_eq!(bench.read(), [(1, 1), (2, 2)]);
}

#[test]
fn a_store_of_a_newer_edition_is_refused_and_left_alone() {
    let mut bench = Bench::new(8);
    bench.write_durably([1]);
    let name = bench.disk.segments()[0].clone();
    let mut bytes = bench.disk.contents(&name);
    bytes[8] = 4;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    bench.disk.put(&name, &bytes);
    let Err(error) = open_whole(&bench.disk, &bench.site, &bench.monitor, 1) else { panic!("opened") };
    assert!(matches!(error, OpenError::NewerFormat { got: 4, known: 3, .. }), "{error}");
    assert_eq!(bench.disk.contents(&name), bytes);
}

#[test]
fn a_lost_cursor_costs_duplicates_and_no_observation() {
    let mut bench = Bench::new(8);
    bench.write_durably([1, 2]);
    let span = bench.outlet.try_next(Instant::now()).unwrap().unwrap().span;
    bench.outlet.acknowledge(span);
    bench.log.save_cursor(bench.now);
    bench = bench.reopen();
    assert_eq!(bench.read(), []);
    bench.disk.remove("cursor").unwrap();
    bench = bench.reopen();
    assert_eq!(bench.read(), [(1, 1), (2, 2)]);
}

#[test]
fn numbering_outlives_the_segments_that_held_the_observations() {
    let mut bench = Bench::new(8);
    let mut other = vec![observation(&bench.site, 2, 7)];
    bench.log.append(&mut other, bench.now);
    bench.fill_segments(5);
    bench.read();
    bench.acknowledge_all();
    bench.log.save_cursor(bench.now);
    assert_eq!(bench.disk.segments().len(), 2);
    bench = bench.reopen();
    assert_eq!(bench.monitor.snapshot().resources[&resource(3)].last_seq, 1);
    let mut other = vec![observation(&bench.site, 2, 8)];
    bench.log.append(&mut other, bench.now);
    bench.log.commit(bench.now);
    assert_eq!(bench.outlet.try_next(Instant::now()).unwrap().unwrap().observations[0].seq, 2);
}

#[test]
fn a_kill_between_any_two_writes_spends_no_number_on_what_was_never_accepted() {
    for writes in 0..8 {
        let mut bench = Bench::new(8);
        bench.write_durably([1]);
        let mut bench = bench.reopen();
        bench.disk.set_faults(Faults { last_writes: Some(writes), ..Faults::default() });
        bench.write([2]);
        bench.disk.set_faults(Faults::default());
        let mut bench = bench.reopen();
        bench.write_durably([3]);
        let read = bench.read();
        let without_the_second = [(1, 1), (3, 2)];
        assert!(read == without_the_second || read == [(1, 1), (2, 2), (3, 3)], "{writes} writes: {read:?}");
    }
}

#[test]
fn a_full_disk_is_shown_and_left_and_each_refusal_uses_up_its_number() {
    let mut bench = Bench::new(8);
    bench.write_durably([1]);
    bench.disk.set_faults(Faults { full_for_all: true, full: true, ..Faults::default() });
    bench.write([2, 3]);
    assert_eq!(bench.store().trouble.as_deref(), Some("disk full"));
    bench.disk.set_faults(Faults::default());
    bench.write([4]);
    assert_eq!(bench.ledger().dropped, 3, "the next try comes a second later");
    bench.later(Duration::from_secs(1));
    assert_eq!(bench.store().trouble, None, "the loss is declared as soon as the disk takes it");
    bench.write_durably([5]);
    assert_eq!(bench.read(), [(1, 1), (5, 5)]);
    assert_eq!(bench.gaps, [(2, 4, LossCause::DiskFull)]);
    assert_eq!(bench.ledger(), Ledger { accepted: 2, durable: 2, dropped: 3, last_seq: 5, ..Ledger::default() });
}

#[test]
fn a_disk_filled_by_others_takes_no_segment_away() {
    let mut bench = Bench::new(64);
    bench.fill_segments(3);
    let held = bench.ledger().durable;
    bench.disk.set_faults(Faults { full: true, ..Faults::default() });
    // The reserve lasts for two more segments.
    bench.fill_segments(5);
    let accepted = bench.ledger().accepted;
    while bench.store().trouble.is_none() {
        bench.write([1]);
    }
    assert!(accepted > held);
    assert_eq!(bench.disk.segments().len(), 5);
    bench.disk.set_faults(Faults::default());
    bench.later(Duration::from_secs(2));
    bench.write_durably([2]);
    assert_eq!(bench.read().len() as u64, bench.ledger().durable);
}

#[test]
fn after_a_failed_fsync_the_same_observations_are_durable_elsewhere() {
    let mut bench = Bench::new(8);
    bench.write_durably([1]);
    bench.write([2, 3]);
    bench.disk.set_faults(Faults { failing_syncs: 1, ..Faults::default() });
    bench.log.commit(bench.now);
    assert_eq!(bench.read(), [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(bench.store().trouble, None);
    bench.disk.cut_power(&mut fastrand::Rng::with_seed(3));
    bench = bench.reopen();
    assert_eq!(bench.read(), [(1, 1), (2, 2), (3, 3)]);
}

#[test]
fn a_read_only_disk_still_hands_out_its_backlog() {
    let mut bench = Bench::new(8);
    bench.write_durably([1, 2]);
    bench.disk.set_faults(Faults { read_only: true, ..Faults::default() });
    bench = bench.reopen();
    assert_eq!(bench.read(), [(1, 1), (2, 2)]);
    bench.write([3]);
    assert_eq!(bench.store().trouble.as_deref(), Some("read-only"));
    assert_eq!(bench.ledger().dropped, 1);
}

#[test]
fn the_reader_survives_the_eviction_of_its_segment_and_each_loss_is_counted() {
    let mut bench = Bench::new(3);
    bench.write_durably([1]);
    let first = bench.outlet.try_next(Instant::now()).unwrap().unwrap();
    assert_eq!(numbered(&first), [(1, 1)]);
    bench.fill_segments(6);
    let read = bench.read();
    assert!(read.windows(2).all(|pair| pair[0].1 + 1 == pair[1].1), "{read:?}");
    let ledger = bench.ledger();
    assert_eq!(read.last().unwrap().1, ledger.last_seq);
    assert_eq!(ledger.dropped, ledger.durable - read.len() as u64, "the first was read but not delivered");
    assert!(bench.disk.bytes() <= 3 * u64::from(SEGMENT));
}

#[test]
fn an_observation_longer_than_a_segment_is_dropped_and_the_next_is_not() {
    let mut bench = Bench::new(8);
    let mut long = observation(&bench.site, 1, 1);
    long.readings = vec![long.readings[0]; SEGMENT as usize];
    let mut batch = vec![long, observation(&bench.site, 1, 2)];
    bench.log.append(&mut batch, bench.now);
    bench.log.commit(bench.now);
    assert_eq!(bench.read(), [(2, 2)]);
    assert_eq!(bench.ledger().dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_cannot_be_opened_is_tried_each_second_until_it_can() {
    let mut bench = Bench::new(8);
    bench.write_durably([1]);
    bench.disk.set_faults(Faults { failing_opens: 10, ..Faults::default() });
    let start = tokio::time::Instant::now();
    // Whoever waits is called away and comes back.
    for _ in 0..100 {
        let next = tokio::time::timeout(Duration::from_millis(1), bench.outlet.next());
        assert!(next.await.is_err());
    }
    let chunk = tokio::time::timeout(Duration::from_secs(20), bench.outlet.next()).await.unwrap().unwrap();
    assert_eq!(numbered(&chunk), [(1, 1)]);
    assert!(start.elapsed() >= Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(bench.store().damaged_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_segment_whose_file_is_gone_is_given_up() {
    let mut bench = Bench::new(8);
    bench.fill_segments(3);
    bench.disk.remove(&bench.disk.segments()[0]).unwrap();
    let chunk = tokio::time::timeout(Duration::from_secs(20), bench.outlet.next()).await.unwrap().unwrap();
    assert_eq!(chunk.span.to.segment, 2);
    assert!(bench.store().damaged_bytes > 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_disk_never_hands_out_again_is_given_up_after_minutes_and_what_lies_behind_is_read() {
    let mut bench = Bench::new(8);
    bench.fill_segments(3);
    bench.disk.set_faults(Faults { unreadable: Some((1, 0)), ..Faults::default() });
    let start = tokio::time::Instant::now();
    let chunk = tokio::time::timeout(Duration::from_secs(600), bench.outlet.next()).await.unwrap().unwrap();
    assert_eq!(chunk.span.to.segment, 2);
    assert!(start.elapsed() >= Duration::from_secs(290), "{:?}", start.elapsed());
    assert!(bench.store().damaged_bytes > 0);
}

#[test]
fn what_the_disk_does_not_hand_out_for_a_while_is_not_damaged() {
    let mut bench = Bench::new(8);
    let mut ends = Vec::new();
    for mark in 1..=6 {
        bench.write_durably([mark]);
        ends.push(u64::from(bench.log.shared.newest().unwrap().end));
    }
    for bad in [0, ends[2] + 1, ends[3]] {
        bench = bench.reopen();
        bench.disk.set_faults(Faults { unreadable: Some((1, bad)), ..Faults::default() });
        let mut read = Vec::new();
        while let Ok(chunk) = bench.outlet.try_next(Instant::now()) {
            read.extend(numbered(&chunk.expect("an error, not an end")));
        }
        assert_eq!(read.len(), ends.iter().filter(|end| **end <= bad).count());
        assert!(bench.outlet.try_next(Instant::now()).is_err());
        bench.disk.set_faults(Faults::default());
        read.extend(bench.read());
        assert_eq!(read, (1..=6).map(|mark| (mark, mark)).collect::<Vec<_>>());
        assert_eq!(bench.store().damaged_bytes, 0);
    }
}

#[test]
fn a_declared_loss_before_a_place_that_cannot_be_read_is_handed_out_all_the_same() {
    let mut bench = Bench::new(8);
    bench.write_durably([1]);
    assert_eq!(bench.read(), [(1, 1)]);
    let t = observation(&bench.site, 1, 1).t;
    bench.outlet.declare_lost(Gap::whole(resource(2), (1, 1), (t, t), LossCause::NotAuthorised));
    bench.log.acknowledged(bench.now);
    bench.log.commit(bench.now);
    let bad = u64::from(bench.log.shared.newest().unwrap().end);
    bench.write_durably([2]);
    bench.disk.set_faults(Faults { unreadable: Some((1, bad)), ..Faults::default() });
    let chunk = bench.outlet.try_next(Instant::now()).unwrap().unwrap();
    assert_eq!(chunk.gaps.len(), 1);
}

#[test]
fn a_segment_that_cannot_be_read_at_the_start_is_kept_and_read_later() {
    for (segment, bad) in [(1, 0), (2, 0), (3, 0), (3, 1024), (2, 1024)] {
        let mut bench = Bench::new(16);
        bench.fill_segments(3);
        bench.write_durably([7]);
        let written = bench.ledger().last_seq;
        let segments = bench.disk.segments();
        bench.disk.set_faults(Faults { unreadable: Some((segment, bad)), ..Faults::default() });
        bench = bench.reopen();
        assert_eq!(bench.disk.segments(), segments);
        // What is durable later waits behind it.
        bench.write_durably([8]);
        while bench.outlet.try_next(Instant::now()).is_ok_and(|chunk| chunk.is_some()) {}
        assert!(bench.outlet.try_next(Instant::now()).is_err());
        bench.outlet.rewind();
        bench.disk.set_faults(Faults::default());
        for restarted in [false, true] {
            if restarted {
                bench = bench.reopen();
            }
            let read: Vec<u64> = bench.read().into_iter().map(|(_, seq)| seq).collect();
            let (last, before) = read.split_last().unwrap();
            assert!(before.iter().copied().eq(1..=written), "{segment} from {bad}: {read:?}");
            assert!(*last > written, "{segment} from {bad}: {last} was given twice");
            assert_eq!(bench.store().damaged_bytes, 0, "{segment} from {bad}");
        }
    }
}

#[test]
fn a_spare_that_cannot_be_used_is_given_up_for_another() {
    let mut bench = Bench::new(16);
    bench.write_durably([1]);
    bench.write_durably([2]);
    let spares = || bench.disk.list().unwrap().into_iter().filter(|name| name.starts_with("free-"));
    assert_eq!(spares().count(), 2);
    spares().for_each(|name| bench.disk.remove(&name).unwrap());
    for mark in 3..200 {
        bench.write_durably([mark]);
        assert_eq!(bench.store().trouble, None);
    }
    assert_eq!(bench.ledger().dropped, 0);
    // The same with a bad place on the disk in the file that is tried first.
    while bench.log.next_segment < 10 {
        bench.disk.set_faults(Faults { failing_writes: 1, ..Faults::default() });
        bench.write_durably([200]);
        assert_eq!(bench.store().trouble, None);
    }
    assert!(bench.disk.bytes() <= bench.site.buffer.max_bytes);
}

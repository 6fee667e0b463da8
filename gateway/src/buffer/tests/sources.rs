//! Samples of sources that keep and number their own, and send again what they do not know to be durable.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ganglion_protocols::{LossCause, Origin, Timestamp};

use super::sim_disk::SimDisk;
use super::{observation, open_whole, resource, site};
use crate::monitor::Monitor;
use crate::pipeline::{LostOfStream, Offered, Unnumbered};
use crate::site::{Site, StreamId};

const EPOCH: u32 = 77;

fn place(seq: u32) -> Origin {
    Origin { epoch: EPOCH, seq }
}

/// Sample `seq` of the source that feeds the second resource.
fn sample(site: &Site, seq: u32) -> Offered {
    Unnumbered { origin: Some(place(seq)), ..observation(site, 1, seq.into()) }.into()
}

fn lost(count: u64, last: u32) -> Offered {
    let t = Timestamp::from_unix_nanos(1_795_000_000_000_000_000);
    let (from, to, count) = (t, t, NonZeroU64::new(count).unwrap());
    LostOfStream { stream: StreamId(1), count, from, to, cause: LossCause::NodeFull, origin: Some(place(last)) }.into()
}

/// What a log held of the source's resource when it was opened: numbers, in order, and what is declared lost.
fn held(disk: &SimDisk, site: &Site) -> (Vec<u64>, Vec<(u64, u64)>) {
    let monitor = Arc::new(Monitor::new(site));
    let (_log, mut outlet) = open_whole(disk, site, &monitor, 9).unwrap();
    let (mut numbers, mut gaps) = (Vec::new(), Vec::new());
    while let Some(chunk) = outlet.try_next(Instant::now()).unwrap() {
        let ours = |stored: &&crate::buffer::Stored| stored.shape.resource == resource(2);
        numbers.extend(chunk.observations.iter().filter(ours).map(|stored| stored.seq));
        gaps.extend(chunk.gaps.iter().map(|gap| (gap.first(), gap.last())));
    }
    (numbers, gaps)
}

#[test]
fn what_a_source_sends_again_after_a_kill_is_taken_once() {
    let (disk, site) = (SimDisk::new(), site(Path::new(""), 8));
    let monitor = Arc::new(Monitor::new(&site));
    let now = Instant::now();
    let (mut log, outlet) = open_whole(&disk, &site, &monitor, 1).unwrap();
    log.append(&mut (1..=3).map(|seq| sample(&site, seq)).collect(), now);
    assert_eq!(monitor.durable_origin(resource(2)), None, "written is not durable");
    log.commit(now);
    assert_eq!(monitor.durable_origin(resource(2)).map(|(origin, _)| origin), Some(place(3)));
    log.append(&mut vec![sample(&site, 4), lost(5, 9)], now);
    drop((log, outlet));

    // Killed, not cut: what was written is there, so it is taken, whatever the source knows of it.
    let monitor = Arc::new(Monitor::new(&site));
    let (mut log, outlet) = open_whole(&disk, &site, &monitor, 2).unwrap();
    let again = (2..=4).map(|seq| sample(&site, seq)).chain([lost(5, 9), sample(&site, 10)]);
    log.append(&mut again.collect(), now);
    log.commit(now);
    let ledger = monitor.snapshot().resources[&resource(2)];
    assert_eq!((ledger.repeated, ledger.accepted), (4, 1));
    drop((log, outlet));
    assert_eq!(held(&disk, &site), (vec![1, 2, 3, 4, 10], vec![(5, 9)]));
}

#[test]
fn a_mark_outlives_the_segments_it_was_written_in_and_the_power() {
    let (disk, site) = (SimDisk::new(), site(Path::new(""), 4));
    let monitor = Arc::new(Monitor::new(&site));
    let now = Instant::now();
    let (mut log, mut outlet) = open_whole(&disk, &site, &monitor, 1).unwrap();
    log.append(&mut vec![sample(&site, 1)], now);
    log.commit(now);
    let first = disk.segments();
    // Others fill segment after segment, and all of it is delivered and reclaimed.
    for mark in 0..2000 {
        log.append(&mut vec![observation(&site, 2, mark)], now);
        log.commit(now);
        while let Some(chunk) = outlet.try_next(now).unwrap() {
            outlet.acknowledge(chunk.span);
        }
        log.save_cursor(now);
    }
    assert!(!disk.segments().iter().any(|segment| first.contains(segment)), "the mark's segment is gone");
    drop((log, outlet));
    disk.cut_power(&mut fastrand::Rng::with_seed(3));
    let monitor = Arc::new(Monitor::new(&site));
    let (mut log, _outlet) = open_whole(&disk, &site, &monitor, 2).unwrap();
    assert_eq!(monitor.durable_origin(resource(2)).map(|(origin, _)| origin), Some(place(1)));
    log.append(&mut vec![sample(&site, 1)], now);
    assert_eq!(monitor.snapshot().resources[&resource(2)].repeated, 1);
}

#[test]
fn a_new_epoch_begins_anew_even_with_lower_numbers() {
    let (disk, site) = (SimDisk::new(), site(Path::new(""), 4));
    let monitor = Arc::new(Monitor::new(&site));
    let now = Instant::now();
    let (mut log, _outlet) = open_whole(&disk, &site, &monitor, 1).unwrap();
    let other = Unnumbered { origin: Some(Origin { epoch: 5, seq: 1 }), ..observation(&site, 1, 8) };
    log.append(&mut vec![sample(&site, 40), other.into()], now);
    log.commit(now);
    let ledger = monitor.snapshot().resources[&resource(2)];
    assert_eq!((ledger.accepted, ledger.repeated), (2, 0));
}

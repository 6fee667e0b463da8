//! The window that a power cut may take, as the site file declares it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sim_disk::SimDisk;
use super::{observation, open_whole, site};
use crate::buffer::Outlet;
use crate::buffer::log::Log;
use crate::monitor::Monitor;

fn open(interval: Duration, bytes: u32) -> (Log, Outlet, impl Fn(&mut Log, u64, Instant)) {
    let mut site = site(Path::new(""), 8);
    (site.buffer.commit_interval, site.buffer.commit_bytes) = (interval, bytes);
    let monitor = Arc::new(Monitor::new(&site));
    let (log, outlet) = open_whole(&SimDisk::new(), &site, &monitor, 7).unwrap();
    let write = move |log: &mut Log, mark, now| {
        log.append(&mut vec![observation(&site, 1, mark)], now);
        // As the writer does after each turn.
        log.tick(now);
    };
    (log, outlet, write)
}

fn durable(outlet: &mut Outlet, now: Instant) -> usize {
    std::iter::from_fn(|| outlet.try_next(now).unwrap()).map(|chunk| chunk.observations.len()).sum()
}

#[test]
fn telemetry_is_durable_when_its_time_is_up_or_its_bytes_are_reached_and_no_earlier() {
    let interval = Duration::from_millis(200);
    let now = Instant::now();
    let (mut log, mut outlet, write) = open(interval, u32::MAX);
    write(&mut log, 1, now);
    write(&mut log, 2, now + interval / 2);
    log.tick(now + interval - Duration::from_millis(1));
    assert_eq!(durable(&mut outlet, now), 0);
    assert_eq!(log.due(), Some(now + interval), "the first one counts");
    log.tick(now + interval);
    assert_eq!(durable(&mut outlet, now), 2);

    let (mut log, mut outlet, write) = open(interval, 1024);
    let written = (1..100).take_while(|mark| {
        write(&mut log, *mark, now);
        durable(&mut outlet, now) == 0
    });
    let before = written.count();
    assert!((1..1024 / 20).contains(&before), "{before} were written before a commit of 1024 bytes");
}

#[test]
fn an_event_is_durable_in_the_turn_that_accepts_it() {
    let now = Instant::now();
    let (mut log, mut outlet, write) = open(Duration::ZERO, u32::MAX);
    for mark in 1..4 {
        write(&mut log, mark, now);
        assert_eq!(durable(&mut outlet, now), 1);
    }
}

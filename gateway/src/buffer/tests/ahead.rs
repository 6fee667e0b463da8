//! How long an outage is covered, as the monitor tells it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sim_disk::SimDisk;
use super::{SEGMENT, observation, open_whole, site};
use crate::monitor::Monitor;

#[test]
fn the_monitor_tells_how_long_an_outage_is_covered_at_the_present_rate() {
    let (disk, site) = (SimDisk::new(), site(Path::new(""), 64));
    let monitor = Arc::new(Monitor::new(&site));
    let (mut log, mut outlet) = open_whole(&disk, &site, &monitor, 0).unwrap();
    assert_eq!(monitor.snapshot().store.free_bytes, None);
    let mut now = Instant::now();
    for mark in 0..300 {
        now += Duration::from_secs(1);
        log.append(&mut vec![observation(&site, 0, mark)], now);
        log.commit(now);
        if mark == 30 {
            assert_eq!(monitor.snapshot().store.covers_hours, None);
        }
    }
    let store = monitor.snapshot().store;
    let quota = u64::from(SEGMENT) * 64;
    assert_eq!((store.quota_bytes, store.free_bytes), (quota, Some(quota - store.held_bytes)));
    // An observation of two readings in a frame of its own, and what each segment of 4 KiB carries over.
    let rate = store.append_bytes_per_s.unwrap();
    assert!((40.0..100.0).contains(&rate), "{rate}");
    assert!(store.held_bytes > 300 * 40 && store.held_bytes < 300 * 100, "{}", store.held_bytes);
    let hours = store.free_bytes.unwrap() as f64 / rate / 3600.0;
    assert!((store.covers_hours.unwrap() - hours).abs() < 0.1, "{store:?} {hours}");

    // What is delivered is room again.
    while let Some(chunk) = outlet.try_next(now).unwrap() {
        outlet.acknowledge(chunk.span);
    }
    log.save_cursor(now);
    log.append(&mut vec![observation(&site, 0, 300)], now);
    log.commit(now + Duration::from_secs(1));
    let store = monitor.snapshot().store;
    assert!(store.held_bytes <= u64::from(SEGMENT), "{store:?}");
}

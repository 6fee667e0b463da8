//! The quota takes segments: the one that the outlet is about to read, and no more than it must.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use ganglion_protocols::{Gap, LossCause, Timestamp};

use super::sim_disk::SimDisk;
use super::{OPENED, observation, open_log, open_whole, resource, site};
use crate::buffer::shared::Lane;
use crate::buffer::{Outlet, Storage, StorageFile};
use crate::monitor::Monitor;

/// A disk on which something happens between the opening of a file for reading and its first read.
struct Meanwhile {
    disk: SimDisk,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Storage for Meanwhile {
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.disk.create(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.disk.open(name)
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let file = self.disk.open_to_read(name)?;
        if let Some(act) = self.act.lock().unwrap().take() {
            act();
        }
        Ok(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
}

#[test]
fn a_segment_whose_file_is_used_again_between_its_opening_and_its_reading_is_evicted_and_not_damaged() {
    let site = site(Path::new(""), 3);
    let disk = SimDisk::new();
    let monitor = Arc::new(Monitor::new(&site));
    let (mut log, shelf) = open_log(&disk, &site, &monitor, 7, Instant::now()).unwrap();
    let mut mark = 0;
    let mut fill = move |segments: u64| {
        while log.next_segment <= segments {
            mark += 1;
            log.append(&mut vec![observation(&site, 1, mark)], Instant::now());
            log.commit(Instant::now());
        }
    };
    fill(3);
    let act: Box<dyn FnOnce() + Send> = Box::new(move || fill(5));
    let storage = Meanwhile { disk, act: Mutex::new(Some(act)) };
    let mut outlet = Outlet::new(Lane::Whole, shelf.shared, Arc::new(storage), shelf.account);

    let mut read = Vec::new();
    while let Some(chunk) = outlet.try_next(Instant::now()).unwrap() {
        read.extend(chunk.observations.iter().map(|stored| stored.seq));
    }
    let ledger = monitor.snapshot().resources[&resource(2)];
    assert!(ledger.dropped > 0);
    assert!(read.iter().copied().eq(ledger.dropped + 1..=ledger.last_seq), "{read:?} of {ledger:?}");
    assert_eq!(monitor.snapshot().store.damaged_bytes, 0);
}

#[test]
fn a_loss_that_is_declared_first_after_a_start_costs_a_full_log_one_segment_and_no_more() {
    let site = site(Path::new(""), 4);
    let (disk, monitor) = (SimDisk::new(), Arc::new(Monitor::new(&site)));
    let (mut log, outlet) = open_whole(&disk, &site, &monitor, 7).unwrap();
    while log.next_segment <= 6 {
        log.append(&mut vec![observation(&site, 1, log.next_segment)], Instant::now());
        log.commit(Instant::now());
    }
    drop((log, outlet));
    let (mut log, outlet) = open_whole(&disk, &site, &monitor, 7).unwrap();
    let next = log.next_segment;
    let t = Timestamp::from_unix_nanos(OPENED);
    outlet.declare_lost(Gap::whole(resource(3), (1, 1), (t, t), LossCause::Damaged));
    log.acknowledged(Instant::now());
    assert_eq!(log.next_segment, next + 1);
}

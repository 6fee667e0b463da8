//! The bytes of `gateway/docs/buffer-format.md`, kept as files. `GANGLION_BLESS=1` writes them anew, which a new format
//! version may need, or another content in the same form.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::sim_disk::SimDisk;
use super::{observation, resource, site};
use crate::buffer::cursor::Cursor;
use crate::buffer::format::{CursorSlot, Position, SegmentHeader};
use crate::buffer::open_on;
use crate::monitor::Monitor;

const SEGMENT_NAME: &str = "seg-0000000000000001";
const EPOCH: u64 = 0x0123_4567_89AB_CDEF;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/buffer/tests/golden").join(name)
}

/// Writes two frames and a cursor behind the first.
fn written() -> SimDisk {
    let (disk, site) = (SimDisk::new(), site(Path::new(""), 8));
    let monitor = Arc::new(Monitor::new(&site));
    let (mut log, mut outlet) =
        open_on(disk.clone(), &Arc::new(site.clone()), monitor, fastrand::Rng::with_seed(0)).unwrap();
    (log.epoch, log.cursor) = (EPOCH, Cursor::new(EPOCH, None));
    let now = Instant::now();
    log.append(&mut vec![observation(&site, 0, 1), observation(&site, 1, 2)], now);
    log.commit(now);
    let end = outlet.try_next().unwrap().unwrap().end;
    outlet.acknowledge(end);
    log.save_cursor(now);
    log.append(&mut vec![observation(&site, 0, 3)], now);
    log.commit(now);
    disk
}

#[test]
fn the_bytes_written_are_those_of_the_golden_files() {
    let disk = written();
    for name in [SEGMENT_NAME, "cursor"] {
        if std::env::var_os("GANGLION_BLESS").is_some() {
            fs::write(golden(name), disk.contents(name)).unwrap();
        }
        assert!(disk.contents(name) == fs::read(golden(name)).unwrap(), "{name} differs from its golden file");
    }
}

#[test]
fn the_golden_files_are_read_as_they_were_meant() {
    let (disk, site) = (SimDisk::new(), site(Path::new(""), 8));
    for name in [SEGMENT_NAME, "cursor"] {
        disk.put(name, &fs::read(golden(name)).unwrap());
    }
    let monitor = Arc::new(Monitor::new(&site));
    let (log, mut outlet) =
        open_on(disk, &Arc::new(site.clone()), Arc::clone(&monitor), fastrand::Rng::with_seed(1)).unwrap();
    assert_eq!(log.epoch, EPOCH);
    let chunk = outlet.try_next().unwrap().unwrap();
    assert_eq!(chunk.observations.len(), 1, "the two before it are delivered");
    let (stored, made) = (&chunk.observations[0], observation(&site, 0, 3));
    assert_eq!((stored.shape.resource, stored.seq), (resource(1), 2));
    assert_eq!(stored.shape.directory, site.directory);
    assert_eq!(stored.shape.properties, site.streams[0].properties);
    assert_eq!((stored.t, stored.clock, &stored.readings), (made.t, made.clock, &made.readings));
    assert_eq!(monitor.snapshot().resources[&resource(2)].last_seq, 1);
}

#[test]
fn headers_and_slots_come_back_as_they_went_and_never_with_a_flipped_bit() {
    let header = SegmentHeader {
        salt: 0xC0FF_EE11,
        epoch: EPOCH,
        number: 8,
        previous: 7,
        previous_end: 4032,
        previous_synced: 1024,
        size: 4096,
    };
    let slot = CursorSlot {
        epoch: EPOCH,
        generation: 5,
        acked: Position { segment: 7, offset: 64 },
        durable: Position { segment: 8, offset: 128 },
    };
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    assert_eq!(CursorSlot::decode(&slot.encode()), Ok(slot));
    for bit in 0..64 * 8 {
        let (mut flipped, mut other) = (header.encode(), slot.encode());
        flipped[bit / 8] ^= 1 << (bit % 8);
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&flipped).is_err() && CursorSlot::decode(&other).is_err(), "bit {bit}");
    }
}

//! The bytes of `gateway/docs/buffer-format.md`, kept as files. `GANGLION_BLESS=1` writes them anew, which a new format
//! version may need, or another content in the same form.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ganglion_protocols::{Gap, LossCause, Origin, Timestamp};

use super::sim_disk::SimDisk;
use super::{observation, open_whole, resource, site};
use crate::buffer::Span;
use crate::buffer::cursor::Cursor;
use crate::buffer::format::{CURSOR_SPANS, CursorSlot, Position, SLOT_LEN, SegmentHeader};
use crate::buffer::spans::Spans;
use crate::monitor::Monitor;
use crate::pipeline::{LostOfStream, Unnumbered};
use crate::site::StreamId;

const SEGMENT_NAME: &str = "seg-0000000000000001";
const EPOCH: u64 = 0x0123_4567_89AB_CDEF;

fn golden(version: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/buffer/tests/golden").join(version).join(name)
}

/// Writes two frames, a loss between them, what a source gave and lost, and a cursor behind the first.
fn written() -> SimDisk {
    let (disk, site) = (SimDisk::new(), site(Path::new(""), 8));
    let monitor = Arc::new(Monitor::new(&site));
    let (mut log, mut outlet) = open_whole(&disk, &site, &monitor, 0).unwrap();
    (log.epoch, log.cursor) = (EPOCH, Cursor::new(EPOCH, None));
    let now = Instant::now();
    log.append(&mut vec![observation(&site, 0, 1), observation(&site, 1, 2)], now);
    log.commit(now);
    let span = outlet.try_next(now).unwrap().unwrap().span;
    outlet.acknowledge(span);
    let ahead = Span { from: Position { segment: 1, offset: 1024 }, to: Position { segment: 1, offset: 2048 } };
    outlet.acknowledge(ahead);
    log.save_cursor(now);
    outlet.declare_lost([lost()]);
    log.acknowledged(now);
    log.append(&mut vec![Unnumbered { origin: Some(TAKEN), ..observation(&site, 0, 3) }], now);
    log.append(&mut vec![lost_at_source()], now);
    log.commit(now);
    disk
}

const TAKEN: Origin = Origin { epoch: 0x89AB_CDEF, seq: 200 };

fn lost_at_source() -> LostOfStream {
    LostOfStream {
        stream: StreamId(0),
        count: NonZeroU64::new(4).unwrap(),
        from: lost().span().0,
        to: lost().span().1,
        cause: LossCause::NodeRestart,
        origin: Some(Origin { epoch: 7, seq: 0 }),
    }
}

fn lost() -> Gap {
    let at = |second: i64| Timestamp::from_unix_nanos(1_795_000_000_000_000_000 + second * 1_000_000_000);
    Gap::whole(resource(2), (2, 300), (at(1), at(2)), LossCause::NotAuthorised).unwrap()
}

fn lost_of_source() -> Gap {
    Gap::whole(resource(1), (3, 6), lost().span(), LossCause::NodeRestart).unwrap()
}

#[test]
fn the_bytes_written_are_those_of_the_golden_files() {
    let disk = written();
    for name in [SEGMENT_NAME, "cursor"] {
        if std::env::var_os("GANGLION_BLESS").is_some() {
            fs::create_dir_all(golden("v3", "")).unwrap();
            fs::write(golden("v3", name), disk.contents(name)).unwrap();
        }
        assert!(disk.contents(name) == fs::read(golden("v3", name)).unwrap(), "{name} differs from its golden file");
    }
}

#[test]
fn the_golden_files_of_every_version_are_read_as_they_were_meant() {
    for (version, gaps, last_seq) in
        [("v1", vec![], 1), ("v2", vec![lost()], 300), ("v3", vec![lost(), lost_of_source()], 300)]
    {
        let (disk, site) = (SimDisk::new(), site(Path::new(""), 8));
        for name in [SEGMENT_NAME, "cursor"] {
            disk.put(name, &fs::read(golden(version, name)).unwrap());
        }
        let monitor = Arc::new(Monitor::new(&site));
        let (log, mut outlet) = open_whole(&disk, &site, &monitor, 1).unwrap();
        assert_eq!(log.epoch, EPOCH);
        let chunk = outlet.try_next(Instant::now()).unwrap().unwrap();
        assert_eq!(chunk.observations.len(), 1, "{version}: the two before it are delivered");
        let (stored, made) = (&chunk.observations[0], observation(&site, 0, 3));
        assert_eq!((stored.shape.resource, stored.seq), (resource(1), 2));
        assert_eq!(stored.shape.directory, site.directory);
        assert_eq!(stored.shape.properties, site.streams[0].properties);
        assert_eq!((stored.t, stored.clock, &stored.readings), (made.t, made.clock, &made.readings));
        let marked = (version == "v3").then_some((Origin { epoch: 7, seq: 0 }, lost().span().1));
        assert_eq!(monitor.durable_origin(resource(1)), marked, "{version}");
        assert_eq!((chunk.gaps, monitor.snapshot().resources[&resource(2)].last_seq), (gaps, last_seq), "{version}");
    }
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
        delivered: Spans::of((0..=u32::try_from(CURSOR_SPANS).unwrap()).map(|n| Span {
            from: if n == 0 { Position::ORIGIN } else { Position { segment: 7, offset: 100 * n } },
            to: Position { segment: 7, offset: 100 * n + 64 },
        })),
        durable: Position { segment: 8, offset: 128 },
    };
    let decode = |slot: &[u8]| {
        let mut page = [0; SLOT_LEN];
        page[..slot.len()].copy_from_slice(slot);
        CursorSlot::decode(&page)
    };
    let (bytes, len) = (slot.encode(), header.encode().len());
    assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    assert_eq!(decode(&bytes), Ok(slot));
    for bit in 0..bytes.len() * 8 {
        let (mut flipped, mut other) = (header.encode(), bytes.clone());
        flipped[bit / 8 % len] ^= 1 << (bit % 8);
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(SegmentHeader::decode(&flipped).is_err() && decode(&other).is_err(), "bit {bit}");
    }
}

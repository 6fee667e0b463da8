//! Reads the frames of one segment, whatever state it is in.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use ganglion_protocols::bytes::Reader;
use ganglion_protocols::record::{Channels, ObservationRecord, PropertyRun, Record, RecordError, ShapeId, ShapeRecord};

use super::format::{
    ALIGN, FRAME_HEAD_LEN, FrameHead, HEADER_LEN, MIN_OBSERVATION, SegmentHeader, Unreadable, segment_name,
};
use super::outlet::{Stored, StoredShape};
use super::storage::{Storage, StorageFile};
use crate::site::NamedProperty;

/// Most bytes read from the disk at once, unless one frame is longer.
const WINDOW: u32 = 256 * 1024;

/// A segment open for reading, with a window of its bytes in memory.
pub(super) struct SegmentReader {
    file: Box<dyn StorageFile>,
    pub(super) header: SegmentHeader,
    window: Vec<u8>,
    window_at: u32,
}

/// Why a segment cannot be read.
#[derive(Debug)]
pub(super) enum SegmentError {
    /// The file cannot be opened, or not be read: nothing is known of what it holds.
    Io(io::Error),
    /// Neither copy of its header can be used.
    Header(Unreadable),
}

/// What stands at a place of a segment.
pub(super) enum Step<'a> {
    /// A whole frame.
    Frame {
        head: FrameHead,
        records: &'a [u8],
        /// Where the next one begins.
        next: u32,
    },
    /// A stretch without a whole frame.
    Hole {
        /// Where a whole frame, or the end, follows.
        next: u32,
        /// Most observations that the stretch can have held.
        observations: u64,
    },
    /// The end asked for.
    End,
}

enum Found {
    Whole(FrameHead, u32),
    /// The head is whole, so the length can be trusted; the records are damaged.
    Broken(FrameHead, u32),
    Nothing,
}

impl SegmentReader {
    /// Opens a segment by its number.
    pub(super) fn open(storage: &dyn Storage, number: u64) -> Result<Self, SegmentError> {
        let file = storage.open_to_read(&segment_name(number)).map_err(SegmentError::Io)?;
        let header = read_header(&*file)?;
        Ok(Self { file, header, window: Vec::new(), window_at: 0 })
    }

    /// Makes what the page cache holds from `from` to `to` durable, by writing the same bytes again: after a failed sync
    /// of a process since killed, the cache shows bytes that the disk lacks and that no further sync would bring there.
    pub(super) fn settle(&self, storage: &dyn Storage, from: u32, to: u32) -> io::Result<()> {
        let file = storage.open(&segment_name(self.header.number))?;
        let mut bytes = vec![0; to.saturating_sub(from) as usize];
        read_exact(&*self.file, &mut bytes, u64::from(from))?;
        file.write_at(&bytes, u64::from(from))?;
        file.sync()
    }

    /// Says what stands at `at`, looking no further than `end`.
    ///
    /// # Errors
    /// Those of the operating system: what the disk does not hand out may be whole.
    pub(super) fn step(&mut self, at: u32, end: u32) -> io::Result<Step<'_>> {
        if at >= end {
            return Ok(Step::End);
        }
        Ok(match self.frame_at(at, end)? {
            Found::Whole(head, next) => {
                let from = (at - self.window_at + FRAME_HEAD_LEN) as usize;
                let records = self.window.get(from..from + head.len as usize).unwrap_or_default();
                Step::Frame { head, records, next }
            }
            Found::Broken(head, next) => Step::Hole { next, observations: u64::from(head.count) },
            Found::Nothing => {
                let mut next = at.saturating_add(ALIGN);
                while next < end && !matches!(self.frame_at(next, end)?, Found::Whole(..)) {
                    next = next.saturating_add(ALIGN);
                }
                let next = next.min(end);
                Step::Hole { next, observations: u64::from((next - at) / MIN_OBSERVATION) }
            }
        })
    }

    fn frame_at(&mut self, at: u32, end: u32) -> io::Result<Found> {
        let salt = self.header.salt;
        let Some(head) = self.bytes(at, FRAME_HEAD_LEN, end)?.and_then(<[u8]>::first_chunk) else {
            return Ok(Found::Nothing);
        };
        let Some(head) = FrameHead::decode(head, salt, at) else { return Ok(Found::Nothing) };
        let Some(frame_len) = head.frame_len() else { return Ok(Found::Nothing) };
        let Some(frame) = self.bytes(at, frame_len, end)? else { return Ok(Found::Nothing) };
        let records = frame.get(FRAME_HEAD_LEN as usize..).and_then(|rest| rest.get(..head.len as usize));
        Ok(match records {
            Some(records) if head.verifies(records, salt) => Found::Whole(head, at + frame_len),
            _ => Found::Broken(head, at + frame_len),
        })
    }

    /// Returns `len` bytes from `at`, or `None` when they would pass `end`.
    fn bytes(&mut self, at: u32, len: u32, end: u32) -> io::Result<Option<&[u8]>> {
        if end.checked_sub(at).is_none_or(|rest| rest < len) {
            return Ok(None);
        }
        let held = |at: u32, window_at: u32, window: &[u8]| {
            at >= window_at && (at - window_at) as usize + len as usize <= window.len()
        };
        if !held(at, self.window_at, &self.window) {
            self.fill_window(at, (end - at).min(WINDOW.max(len)))
                // A bad sector further on takes nothing from what stands before it.
                .or_else(|_| self.fill_window(at, len))?;
        }
        let from = (at - self.window_at) as usize;
        Ok(self.window.get(from..from + len as usize))
    }

    /// Takes the window from the disk; after an error it is empty.
    fn fill_window(&mut self, at: u32, len: u32) -> io::Result<()> {
        self.window.resize(len as usize, 0);
        self.window_at = at;
        let result = read_exact(&*self.file, &mut self.window, u64::from(at));
        if result.is_err() {
            self.window.clear();
        }
        result
    }
}

/// Takes the header from the start of a segment, or its copy from the end. It is damaged only when both were read.
pub(super) fn read_header(file: &dyn StorageFile) -> Result<SegmentHeader, SegmentError> {
    let read = |at: u64| {
        let mut bytes = [0; HEADER_LEN as usize];
        read_exact(file, &mut bytes, at).map_err(SegmentError::Io)?;
        SegmentHeader::decode(&bytes).map_err(SegmentError::Header)
    };
    let first = match read(0) {
        Err(first @ (SegmentError::Io(_) | SegmentError::Header(Unreadable::Damaged))) => first,
        result => return result,
    };
    let size = file.size().map_err(SegmentError::Io)?;
    match (first, read(size.saturating_sub(u64::from(HEADER_LEN)))) {
        (SegmentError::Io(error), Err(SegmentError::Header(Unreadable::Damaged))) => Err(SegmentError::Io(error)),
        (_, second) => second,
    }
}

/// Fills `buf` from `offset`. What is past the end becomes zeros, which no checksum accepts.
fn read_exact(file: &dyn StorageFile, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => {
                buf.fill(0);
                return Ok(());
            }
            Ok(read) => {
                buf = buf.get_mut(read..).unwrap_or_default();
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes the records of a frame one by one.
pub(super) fn records(bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, RecordError>> {
    let mut bytes = Reader::new(bytes);
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || bytes.is_empty() {
            return None;
        }
        let record = Record::take(&mut bytes);
        failed = record.is_err();
        Some(record)
    })
}

/// The shapes of one segment.
#[derive(Default)]
pub(super) struct Shapes {
    by_id: HashMap<ShapeId, Known>,
    /// The shapes of the segment read before, which are mostly the same.
    before: HashMap<ShapeId, Known>,
    /// Lists of properties: devices of one kind have the same.
    lists: HashMap<Vec<u8>, Arc<[NamedProperty]>>,
}

#[derive(Clone)]
struct Known {
    meaning: Vec<u8>,
    shape: Arc<StoredShape>,
}

impl Shapes {
    /// Starts with nothing known of the next segment.
    pub(super) fn of_next_segment(mut self) -> Self {
        self.before = std::mem::take(&mut self.by_id);
        self.lists.retain(|_, list| Arc::strong_count(list) > 1);
        self
    }

    /// Notes a shape; one that says nothing new keeps its place in memory.
    pub(super) fn learn(&mut self, record: &ShapeRecord<'_>) {
        let same = |known: &&Known| known.meaning == record.meaning;
        if self.by_id.get(&record.id).filter(same).is_some() {
            return;
        }
        let known = match self.before.get(&record.id).filter(same) {
            Some(known) => known.clone(),
            None => Known { meaning: record.meaning.to_vec(), shape: Arc::new(self.shape(record)) },
        };
        self.by_id.insert(record.id, known);
    }

    fn shape(&mut self, record: &ShapeRecord<'_>) -> StoredShape {
        let listed = || record.runs().flat_map(|run| named(&run)).collect();
        let properties = match self.lists.get(record.properties) {
            Some(list) => Arc::clone(list),
            None => Arc::clone(self.lists.entry(record.properties.to_vec()).or_insert_with(listed)),
        };
        StoredShape {
            resource: record.resource,
            domain: record.domain.to_owned(),
            directory: record.directory.to_owned(),
            properties,
        }
    }

    /// Notes the shapes among the records of a frame.
    pub(super) fn learn_all(&mut self, frame: &[u8]) {
        for record in records(frame) {
            if let Ok(Record::Shape(shape)) = record {
                self.learn(&shape);
            }
        }
    }

    /// Returns what an observation's shape says.
    pub(super) fn get(&self, id: ShapeId) -> Option<&Arc<StoredShape>> {
        self.by_id.get(&id).map(|known| &known.shape)
    }

    /// Joins an observation with its shape; `None` when the shape is not known.
    pub(super) fn join(&self, record: &ObservationRecord<'_>) -> Option<Stored> {
        let shape = Arc::clone(self.get(record.shape)?);
        let mut readings = Vec::with_capacity(shape.properties.len());
        readings.extend(record.readings());
        Some(Stored { shape, seq: record.seq, t: record.t, clock: record.clock, readings })
    }
}

/// Returns the properties of a run by name.
fn named(run: &PropertyRun<'_>) -> Vec<NamedProperty> {
    let unit = || run.unit.to_owned();
    match run.channels {
        None => vec![NamedProperty { name: run.name.to_owned(), unit: unit() }],
        Some(Channels { first, count }) => (first..)
            .take(usize::from(count))
            .map(|channel| NamedProperty { name: format!("{}.{channel}", run.name), unit: unit() })
            .collect(),
    }
}

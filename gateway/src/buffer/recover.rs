//! Opens what an earlier run left: a clean end, a kill, a power cut or a damaged disk.
//!
//! 1. Files that were being made (`new-*`) are removed; spare segments (`free-*`) are counted.
//! 2. Every segment's header is read. One of a newer format version refuses the whole store; one that does not belong to
//!    its file name is a spare whose renaming the disk forgot; one whose both copies are damaged leaves nothing that
//!    could be verified, so the file is removed and the loss logged. One that the disk does not hand out is kept in its
//!    place: the outlet waits for it.
//! 3. A segment ends where the header of the one after it says. The newest has none after it: it is scanned, ends
//!    behind its last whole frame, and what a killed process left in the page cache is made durable. It is never appended to:
//!    a frame written again over a torn one could bring back the frame after it.
//! 4. Numbering goes on from the highest number in the newest two segments, each of which repeats the numbers of all
//!    resources at its start. Where durable observations of the newest were destroyed, as many numbers are skipped as
//!    can have been given in them, so that none is given twice.
//!    What is skipped is declared lost.
//! 5. What the cursor names is delivered.

use std::collections::{BTreeMap, VecDeque};

use ganglion_protocols::record::Record;
use ganglion_protocols::{Cri, Gap, LossCause, Origin, Timestamp};
use tracing::{error, info, warn};

use super::OpenError;
use super::cursor;
use super::format::{
    CursorSlot, HEADER_LEN, MIN_OBSERVATION, Position, SegmentHeader, Unreadable, VERSION, segment_number,
};
use super::scan::{SegmentError, SegmentReader, Step, records};
use super::shared::Entry;
use super::spans::{Span, Spans};
use super::storage::Storage;

/// What was found.
pub(super) struct Recovered {
    /// Identity of the store; `None` when its numbering is lost or never began, and a new one is due.
    pub(super) epoch: Option<u64>,
    pub(super) segments: VecDeque<Entry>,
    /// Last number given to each resource.
    pub(super) numbers: BTreeMap<Cri, u64>,
    /// Up to where the samples of each resource's source are taken.
    pub(super) marks: BTreeMap<Cri, (Origin, Timestamp)>,
    /// Number for the next segment.
    pub(super) next_segment: u64,
    pub(super) spares: Vec<String>,
    pub(super) cursor: Option<CursorSlot>,
    /// What is delivered.
    pub(super) delivered: Spans,
    /// Numbers that nobody will ever see.
    pub(super) lost: Vec<Gap>,
}

/// See the module.
pub(super) fn recover(storage: &dyn Storage, segment_bytes: u32, now: Timestamp) -> Result<Recovered, OpenError> {
    let io = |source| OpenError::Disk { doing: "list the buffer", source };
    let names = storage.list().map_err(io)?;
    // Renames of a killed process are in memory only until now. A read-only disk may refuse this and has none.
    if let Err(error) = storage.sync_dir() {
        warn!(%error, "cannot sync the directory of the buffer");
    }
    let slot = cursor::read(storage).map_err(|unreadable| newer("cursor", unreadable))?;
    let mut spares = Vec::new();
    let mut headers = Vec::new();
    let mut unreadable = Vec::new();
    let mut withheld = Vec::new();
    for name in names {
        if name.starts_with("new-") {
            remove(storage, &name);
        } else if name.starts_with("free-") {
            match storage.open_to_read(&name).and_then(|file| file.size()) {
                Ok(size) if size == u64::from(segment_bytes) => spares.push(name),
                _ => remove(storage, &name),
            }
        } else if let Some(number) = segment_number(&name) {
            match SegmentReader::open(storage, number) {
                // Opened again where it is scanned: there may be more segments than a process may open.
                Ok(reader) if reader.header.number == number => headers.push(reader.header),
                Ok(_) => remove(storage, &name),
                Err(SegmentError::Header(version @ Unreadable::Newer { .. })) => return Err(newer(&name, version)),
                Err(SegmentError::Header(Unreadable::Damaged)) => {
                    error!(file = name, "both headers of a segment are damaged: nothing in it can be read");
                    remove(storage, &name);
                    unreadable.push(number);
                }
                Err(SegmentError::Io(error)) => {
                    error!(segment = number, %error, "a segment cannot be read now and is kept");
                    unreadable.push(number);
                    let size = storage.open_to_read(&name).and_then(|file| file.size());
                    let size = size.ok().and_then(|size| u32::try_from(size).ok()).unwrap_or(segment_bytes);
                    withheld.push((number, size));
                }
            }
        }
    }
    headers.sort_unstable_by_key(|header| header.number);
    let unread = Unread { numbers: unreadable, withheld };
    let mut recovered = assemble(storage, &headers, &unread, slot, segment_bytes, now);
    recovered.spares = spares;
    Ok(recovered)
}

/// What the records say of the numbering.
#[derive(Default)]
struct Numbers {
    last: BTreeMap<Cri, u64>,
    /// Up to where the samples of each resource's source are taken. The latest word counts: epochs have no order.
    marks: BTreeMap<Cri, (Origin, Timestamp)>,
    /// Latest time of measurement.
    latest: Option<Timestamp>,
}

/// Segments whose headers are not known.
struct Unread {
    numbers: Vec<u64>,
    /// Those of them that the disk may hand out later, with their sizes.
    withheld: Vec<(u64, u32)>,
}

fn assemble(
    storage: &dyn Storage,
    headers: &[SegmentHeader],
    unread: &Unread,
    slot: Option<CursorSlot>,
    segment_bytes: u32,
    now: Timestamp,
) -> Recovered {
    let newest = headers.last().copied();
    let epoch = newest.map(|header| header.epoch);
    let slot = slot.filter(|slot| Some(slot.epoch) == epoch);
    let proven = slot.as_ref().map_or(Position::ORIGIN, |slot| slot.durable);

    let mut numbers = Numbers::default();
    let mut numbered = false;
    let mut lost = Vec::new();
    let mut segments = VecDeque::new();
    let mut destroyed = 0;
    for (place, header) in headers.iter().enumerate() {
        let is_newest = place + 1 == headers.len();
        let after = headers.get(place + 1).filter(|after| after.previous == header.number);
        let mut entry = Entry {
            number: header.number,
            size: header.size,
            first: HEADER_LEN,
            end: after.map_or(header.frames_end(), |after| after.previous_end.min(header.frames_end())),
            synced: after.map_or(header.frames_end(), |after| after.previous_synced),
        };
        let carries = after.is_none() || place + 2 >= headers.len();
        if carries {
            let (reader, scan) = match SegmentReader::open(storage, header.number) {
                Ok(mut reader) => {
                    let scan = Scan::of(&mut reader, entry.end, &mut numbers);
                    (Some(reader), scan)
                }
                Err(error) => (None, Scan::refused(format!("{error:?}"))),
            };
            let known = if proven.segment == header.number { proven.offset } else { 0 };
            numbered |= scan.starts_whole || header.previous == 0;
            entry.first = scan.first;
            if let Some(error) = &scan.refused {
                error!(segment = header.number, error, "a segment cannot be read now and is kept");
                if after.is_none() {
                    // All of it is left to the outlet, which cannot tell what a power cut took from what is damaged.
                    entry.synced = scan.synced.max(known);
                    if is_newest {
                        destroyed += u64::from(entry.end.saturating_sub(scan.end) / MIN_OBSERVATION);
                    }
                }
            } else if after.is_none() {
                entry.end = scan.end;
                entry.synced = scan.end;
                if is_newest && let Some(reader) = reader {
                    entry.synced = scan.synced.max(known.min(scan.end));
                    scan.report(header.number, entry.synced);
                    if let Err(error) = reader.settle(storage, entry.synced.min(scan.end), scan.end) {
                        warn!(segment = header.number, %error, "what the last run wrote may not survive a power cut");
                    }
                    destroyed += scan.destroyed(entry.synced);
                    destroyed += u64::from(known.saturating_sub(scan.end) / MIN_OBSERVATION);
                }
            }
        }
        segments.push_back(entry);
    }
    for (number, size) in unread.withheld.iter().copied() {
        let after = headers.iter().find(|after| after.previous == number);
        let place = segments.partition_point(|entry: &Entry| entry.number < number);
        segments.insert(place, withheld(number, size, after, proven));
    }
    let last = newest.map_or(0, |header| header.number);
    // Segments that were durable and whose numbers nobody has carried on.
    let beyond = unread.numbers.iter().copied().chain([proven.segment]).filter(|number| *number > last);
    let highest = beyond.clone().max().unwrap_or(last);
    if beyond.count() > 0 && newest.is_some() {
        destroyed += (highest - last).saturating_mul(u64::from(segment_bytes / MIN_OBSERVATION));
    }
    if destroyed > 0 {
        error!(
            skipped = destroyed,
            "durable observations are destroyed or not read; numbers that they may have had are skipped"
        );
        let span = (numbers.latest.unwrap_or(now), now);
        for (resource, number) in &mut numbers.last {
            lost.extend(Gap::whole(*resource, (*number + 1, *number + destroyed), span, LossCause::Damaged));
            *number += destroyed;
        }
    }
    if newest.is_some() && !numbered {
        error!("the numbers of all resources are damaged; the store gets a new epoch");
    }
    let first = segments.front().map_or(Position::start_of(highest + 1), |entry| Position::start_of(entry.number));
    let mut delivered = slot.as_ref().map(|slot| slot.delivered.clone()).unwrap_or_default();
    delivered.add(Span { from: Position::ORIGIN, to: first });
    Recovered {
        epoch: epoch.filter(|_| numbered),
        segments,
        numbers: numbers.last,
        marks: numbers.marks,
        next_segment: highest + 1,
        spares: Vec::new(),
        cursor: slot,
        delivered,
        lost,
    }
}

/// Returns the place of a segment that the disk does not hand out: whole, until it is read.
fn withheld(number: u64, size: u32, after: Option<&SegmentHeader>, proven: Position) -> Entry {
    let frames_end = size.saturating_sub(HEADER_LEN);
    let known = if proven.segment == number { proven.offset } else { 0 };
    Entry {
        number,
        size,
        first: HEADER_LEN,
        end: after.map_or(frames_end, |after| after.previous_end.min(frames_end)),
        synced: after.map_or(known, |after| after.previous_synced),
    }
}

/// One pass over a segment.
struct Scan {
    /// Behind the last whole frame.
    end: u32,
    /// Behind the frame that carries the numbers over.
    first: u32,
    /// Up to where the frames themselves say that everything was durable.
    synced: u32,
    starts_whole: bool,
    /// Stretches that cannot be read, or not for want of a shape: from, to, most observations.
    holes: Vec<(u32, u32, u64)>,
    /// Why it ended early.
    refused: Option<String>,
}

impl Scan {
    fn new() -> Self {
        let start = HEADER_LEN;
        Self { end: start, first: start, synced: start, starts_whole: false, holes: Vec::new(), refused: None }
    }

    fn refused(error: String) -> Self {
        Self { refused: Some(error), ..Self::new() }
    }

    fn of(reader: &mut SegmentReader, end: u32, numbers: &mut Numbers) -> Self {
        let mut scan = Self::new();
        let mut resources = BTreeMap::new();
        let mut at = HEADER_LEN;
        loop {
            at = match reader.step(at, end) {
                Err(error) => {
                    scan.refused = Some(error.to_string());
                    break;
                }
                Ok(Step::End) => break,
                Ok(Step::Hole { next, observations }) => {
                    scan.holes.push((at, next, observations));
                    next
                }
                Ok(Step::Frame { head, records: frame, next }) => {
                    let unnamed = note_numbers(frame, &mut resources, numbers);
                    if unnamed > 0 {
                        scan.holes.push((at, next, unnamed));
                    }
                    if at == HEADER_LEN {
                        scan.starts_whole = true;
                        scan.first = if head.count == 0 { next } else { at };
                    }
                    scan.synced = scan.synced.max(head.synced);
                    scan.end = next;
                    next
                }
            };
        }
        scan
    }

    fn report(&self, segment: u64, synced: u32) {
        for (from, to, _) in self.holes.iter().filter(|(from, ..)| *from >= synced && *from < self.end) {
            warn!(segment, from, bytes = to - from, "a stretch written just before the stop is lost");
        }
        if self.end > self.first {
            info!(segment, end = self.end, "sealed the newest segment of the last run");
        }
    }

    fn destroyed(&self, synced: u32) -> u64 {
        let held = |(from, _, observations): &(u32, u32, u64)| if *from < synced { *observations } else { 0 };
        self.holes.iter().map(held).sum::<u64>()
    }
}

/// Raises `numbers` by what a frame says; returns how many observations have no name.
fn note_numbers(frame: &[u8], resources: &mut BTreeMap<u32, Cri>, numbers: &mut Numbers) -> u64 {
    let mut unnamed = 0;
    for record in records(frame) {
        let (resource, seq) = match record {
            Ok(Record::Shape(shape)) => {
                resources.insert(shape.id.0, shape.resource);
                continue;
            }
            Ok(Record::LastSeq { resource, seq }) => (resource, seq),
            Ok(Record::Gap(gap)) => (gap.resource(), gap.last()),
            Ok(Record::Mark { resource, origin, t }) => {
                numbers.marks.insert(resource, (origin, t));
                continue;
            }
            Ok(Record::Observation(observation)) => {
                numbers.latest = numbers.latest.max(Some(observation.t));
                match resources.get(&observation.shape.0) {
                    Some(resource) => (*resource, observation.seq),
                    None => {
                        unnamed += 1;
                        continue;
                    }
                }
            }
            // The outlet reports it when it gets there.
            Err(_) => break,
        };
        let last = numbers.last.entry(resource).or_insert(0);
        *last = seq.max(*last);
    }
    unnamed
}

fn newer(file: &str, unreadable: Unreadable) -> OpenError {
    let got = if let Unreadable::Newer { got } = unreadable { got } else { VERSION };
    OpenError::NewerFormat { file: file.to_owned(), got, known: VERSION }
}

fn remove(storage: &dyn Storage, name: &str) {
    if let Err(error) = storage.remove(name) {
        warn!(file = name, %error, "cannot remove a file of the buffer");
    }
}

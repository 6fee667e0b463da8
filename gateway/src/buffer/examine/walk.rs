//! Every frame and record of a log, oldest first.

use std::io;
use std::ops::ControlFlow;

use ganglion_protocols::record::Record;

use super::super::format::{HEADER_LEN, MIN_OBSERVATION, Position, saturate};
use super::super::scan::{SegmentError, SegmentReader, Shapes, Step, records};
use super::{Finding, Seen, SegmentFile, StoredLog, Trouble};

impl StoredLog {
    /// Reads every segment to its end and tells `visit` what is there, until it breaks.
    pub fn walk(&self, mut visit: impl FnMut(Seen<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut shapes = Shapes::default();
        let mut before = 0;
        for segment in &self.segments {
            // The oldest names one that was reclaimed in its time.
            if before != 0 && segment.header.previous > before {
                let (from, to) = (before + 1, segment.header.previous);
                let delivered = self.delivered.holds_segments(from, to);
                visit(Seen::Missing { from, to, delivered })?;
            }
            before = segment.number;
            visit(Seen::Segment(segment))?;
            shapes = shapes.of_next_segment();
            self.walk_segment(segment, &mut shapes, &mut visit)?;
        }
        ControlFlow::Continue(())
    }

    fn walk_segment(
        &self,
        segment: &SegmentFile,
        shapes: &mut Shapes,
        visit: &mut impl FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let finding = |offset: u32, trouble| Seen::Finding(Finding::at(&segment.name, u64::from(offset), trouble));
        let mut reader = match SegmentReader::open(&*self.storage, segment.number) {
            Ok(reader) if reader.header == segment.header => reader,
            Err(SegmentError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                visit(finding(0, Trouble::Withheld { error: error.to_string() }))?;
                return visit(Seen::Hole { observations: 0 });
            }
            // Its header was read a moment ago.
            Ok(_) | Err(_) => return recycled(segment, 0, visit),
        };
        let known = self.delivered.durable_in(segment.number);
        let (end, told) = segment.end.unwrap_or((segment.header.frames_end(), known));
        let mut synced = told.max(known);
        let mut doubts: Vec<Doubt> = Vec::new();
        let mut last = HEADER_LEN;
        let mut at = HEADER_LEN;
        loop {
            at = match reader.step(at, end) {
                Err(error) => {
                    visit(finding(at, Trouble::Withheld { error: error.to_string() }))?;
                    visit(Seen::Hole { observations: 0 })?;
                    break;
                }
                Ok(Step::End) => break,
                Ok(Step::Hole { next, observations }) => {
                    if !self.is_there(&segment.name) {
                        return recycled(segment, at, visit);
                    }
                    doubts.push(Doubt { offset: at, bytes: next - at, observations, unnamed: false });
                    next
                }
                Ok(Step::Frame { head, records: frame, next }) => {
                    if doubts.last().is_some_and(|doubt| !doubt.unnamed && doubt.offset >= last) {
                        let held = doubts.iter().filter(|doubt| doubt.offset >= last);
                        visit(Seen::Hole { observations: held.map(|doubt| doubt.observations).sum() })?;
                    }
                    let place = Position { segment: segment.number, offset: at };
                    let mut tally = Tally::default();
                    each_record(frame, shapes, self.delivered.holds(place), at, &mut tally, visit)?;
                    if let Some(error) = tally.refused {
                        visit(finding(at, Trouble::Record { error, bytes: saturate(frame.len()) }))?;
                    } else if tally.observations != head.count {
                        visit(finding(at, Trouble::Count { told: head.count, held: tally.observations }))?;
                    }
                    if tally.unnamed > 0 {
                        let (bytes, observations) = (next - at, u64::from(tally.unnamed));
                        doubts.push(Doubt { offset: at, bytes, observations, unnamed: true });
                        visit(Seen::Hole { observations })?;
                    }
                    synced = synced.max(head.synced);
                    last = next;
                    next
                }
            };
        }
        if segment.end.is_none() {
            // The newest: behind its last whole frame is nothing, unless something vouches for the place, or a frame's head.
            doubts.retain(|doubt| doubt.offset < last.max(synced) || doubt.offset + doubt.bytes < end);
            if let Some(doubt) = doubts.last_mut().filter(|doubt| doubt.offset >= last && doubt.offset < synced) {
                doubt.bytes = doubt.bytes.min(synced - doubt.offset);
                doubt.observations = doubt.observations.min(u64::from(doubt.bytes / MIN_OBSERVATION));
            }
        }
        if doubts.iter().any(|doubt| doubt.offset >= last) {
            visit(Seen::Hole { observations: 0 })?;
        }
        for Doubt { offset, bytes, observations, unnamed } in doubts {
            visit(finding(
                offset,
                match (offset < synced, unnamed) {
                    (false, _) => Trouble::Torn { bytes, observations },
                    (true, true) => Trouble::Unnamed { observations },
                    (true, false) => Trouble::Hole { bytes, observations },
                },
            ))?;
        }
        ControlFlow::Continue(())
    }
}

/// Tells that the daemon took a segment away, of which everything from `offset` on is not known.
fn recycled(
    segment: &SegmentFile,
    offset: u32,
    visit: &mut impl FnMut(Seen<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    visit(Seen::Finding(Finding::at(&segment.name, u64::from(offset), Trouble::Recycled)))?;
    visit(Seen::Missing { from: segment.number, to: segment.number, delivered: true })
}

/// A stretch that is damage or what a power cut left: the end of the segment tells.
struct Doubt {
    offset: u32,
    bytes: u32,
    observations: u64,
    /// The frame is whole and its shapes are not known.
    unnamed: bool,
}

/// What a frame was found to hold.
#[derive(Default)]
struct Tally {
    observations: u32,
    unnamed: u32,
    refused: Option<String>,
}

/// Goes through the records of a frame: the one place here that knows their kinds.
fn each_record(
    frame: &[u8],
    shapes: &mut Shapes,
    delivered: bool,
    offset: u32,
    tally: &mut Tally,
    visit: &mut impl FnMut(Seen<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for record in records(frame) {
        match record {
            Ok(Record::Shape(shape)) => shapes.learn(&shape),
            Ok(Record::LastSeq { resource, seq }) => visit(Seen::LastSeq { resource, seq })?,
            Ok(Record::Gap(gap)) => visit(Seen::Gap(gap))?,
            Ok(Record::Mark { resource, origin, .. }) => visit(Seen::Mark { resource, origin })?,
            Ok(Record::Observation(observation)) => {
                tally.observations += 1;
                match shapes.join(&observation) {
                    Some(stored) => visit(Seen::Observation { offset, delivered, stored })?,
                    None => tally.unnamed += 1,
                }
            }
            Err(error) => tally.refused = Some(error.to_string()),
        }
    }
    ControlFlow::Continue(())
}

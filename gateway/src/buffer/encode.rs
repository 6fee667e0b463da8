//! Puts observations into frames, in a buffer that is used again and again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use ganglion_protocols::bytes::{Full, Writer};
use ganglion_protocols::record::{ShapeId, put_gap, put_last_seq, put_mark, put_observation, put_shape};
use ganglion_protocols::{Cri, Gap, Origin, Property, Shape, Timestamp};

use super::format::{ALIGN, FRAME_HEAD_LEN, FrameHead, HEADER_LEN, SegmentHeader, saturate};
use crate::pipeline::{LostOfStream, Offered};
use crate::site::{Stream, StreamId};

/// Bytes after which a frame is complete; one that holds a single longer observation is longer.
const FRAME_BYTES: usize = 64 * 1024;
const HEAD: usize = FRAME_HEAD_LEN as usize;
/// In how many frames of a segment a shape is written: a damaged frame then takes no other frame's meaning with it.
pub(super) const SHAPE_COPIES: u8 = 2;
/// Longest last-number record: kind, resource, varint.
pub(super) const LAST_SEQ_BYTES: usize = 1 + 8 + 10;
/// Longest mark: kind, resource, two varints of 32 bits, time.
const MARK_BYTES: usize = 1 + 8 + 5 + 5 + 8;

/// A numbered observation, or a loss that uses numbers up, that is not durable yet.
pub(super) struct Pending {
    pub(super) offered: Offered,
    pub(super) resource: Cri,
    /// Its number, or the first one that is lost.
    pub(super) seq: u64,
    /// Whether it was in a segment already.
    pub(super) accepted: bool,
}

impl Pending {
    /// Returns where it stands among the samples of its source.
    pub(super) fn origin(&self) -> Option<Origin> {
        match &self.offered {
            Offered::Observation(observation) => observation.origin,
            Offered::Lost(lost) => lost.origin,
        }
    }

    /// Returns when it was measured, or the last that is lost.
    pub(super) fn t(&self) -> Timestamp {
        match &self.offered {
            Offered::Observation(observation) => observation.t,
            Offered::Lost(lost) => lost.to,
        }
    }

    /// Returns how many numbers it uses up.
    pub(super) fn count(&self) -> u64 {
        match &self.offered {
            Offered::Observation(_) => 1,
            Offered::Lost(lost) => lost.count.get(),
        }
    }

    /// Returns the last number it uses up.
    pub(super) fn last(&self) -> u64 {
        self.seq.saturating_add(self.count() - 1)
    }

    /// Returns the declaration of a loss.
    pub(super) fn gap(&self) -> Option<Gap> {
        match self.offered {
            Offered::Observation(_) => None,
            Offered::Lost(LostOfStream { from, to, cause, .. }) => {
                Gap::whole(self.resource, (self.seq, self.last()), (from, to), cause)
            }
        }
    }
}

/// What became of waiting observations.
pub(super) enum Encoded {
    /// The first ones are in a frame, which waits for [`Encoder::seal`].
    Frame { count: usize },
    /// Not even one fits the room there is.
    NoRoom,
}

/// Knows the streams, and which shapes the present segment holds.
pub(super) struct Encoder {
    streams: Arc<[Stream]>,
    directory: String,
    /// One for each stream.
    known: Vec<Known>,
    /// Streams whose shape is in the frame being put.
    shaped: Vec<usize>,
    buf: Vec<u8>,
    /// Bytes of `buf` in use.
    len: usize,
    observations: u32,
}

#[derive(Clone, Default)]
struct Known {
    /// How often its shape stands in the segment.
    copies: u8,
    /// Whether its shape is in the frame being put.
    shaped: bool,
}

impl Encoder {
    /// Prepares for a log's streams, whose properties an edition of the code directory names.
    pub(super) fn new(streams: Arc<[Stream]>, directory: String) -> Self {
        Self {
            known: vec![Known::default(); streams.len()],
            streams,
            directory,
            shaped: Vec::new(),
            buf: vec![0; FRAME_BYTES],
            len: 0,
            observations: 0,
        }
    }

    /// Returns the resource of a stream.
    pub(super) fn resource(&self, stream: StreamId) -> Option<Cri> {
        self.streams.get(stream.0).map(|stream| stream.resource)
    }

    /// Puts as many of the waiting observations as one frame takes.
    pub(super) fn encode(&mut self, waiting: &[Pending], room: u32) -> Encoded {
        let room = room as usize;
        self.each_shaped(|_| {});
        self.observations = 0;
        self.len = HEAD;
        self.buf.resize(FRAME_BYTES, 0);
        self.buf.shrink_to(FRAME_BYTES);
        // A loss stands in a frame without observations, as every declaration does.
        let losses = waiting.first().is_some_and(|pending| pending.gap().is_some());
        let mut count = 0;
        for pending in waiting.iter().take_while(|pending| pending.gap().is_some() == losses) {
            let fits = self.put(pending, room.min(FRAME_BYTES)).or_else(|Full| {
                let alone = count == 0 && room > FRAME_BYTES;
                if alone { self.put(pending, room) } else { Err(Full) }
            });
            match fits {
                Ok(()) => count += 1,
                Err(Full) => break,
            }
        }
        if !losses {
            self.observations = saturate(count);
        }
        if count == 0 { Encoded::NoRoom } else { Encoded::Frame { count } }
    }

    /// Completes the frame for its place.
    pub(super) fn seal(&mut self, salt: u32, offset: u32, synced: u32) -> &[u8] {
        let end = self.len.next_multiple_of(ALIGN as usize);
        if self.buf.len() < end {
            self.buf.resize(end, 0);
        }
        let frame = self.buf.get_mut(..end).unwrap_or_default();
        FrameHead::seal(frame, self.len, salt, offset, self.observations, synced);
        frame
    }

    /// Notes that the shapes of the last frame stand in the segment.
    pub(super) fn keep_shapes(&mut self) {
        self.each_shaped(|known| known.copies = known.copies.saturating_add(1));
    }

    /// Notes that a segment without shapes begins.
    pub(super) fn forget_shapes(&mut self) {
        self.known.iter_mut().for_each(|known| known.copies = 0);
    }

    /// Returns the first frame of a segment: the last number of every resource, and up to where the samples of their sources
    /// are taken.
    pub(super) fn numbers(
        &mut self,
        numbers: &BTreeMap<Cri, u64>,
        marks: &BTreeMap<Cri, (Origin, Timestamp)>,
        header: &SegmentHeader,
    ) -> io::Result<&[u8]> {
        let longest = HEAD + numbers.len() * LAST_SEQ_BYTES + marks.len() * MARK_BYTES;
        self.buf.resize(longest.max(FRAME_BYTES), 0);
        self.len = HEAD;
        self.observations = 0;
        for (resource, seq) in numbers {
            let mut out = Writer::new(self.buf.get_mut(self.len..).unwrap_or_default());
            let put = put_last_seq(&mut out, *resource, *seq);
            self.len += out.len();
            put.map_err(|Full| io::Error::other("the numbers of all resources do not fit"))?;
        }
        for (resource, (origin, t)) in marks {
            let mut out = Writer::new(self.buf.get_mut(self.len..).unwrap_or_default());
            let put = put_mark(&mut out, *resource, *origin, *t);
            self.len += out.len();
            put.map_err(|Full| io::Error::other("the marks of all sources do not fit"))?;
        }
        if numbers.is_empty() {
            return Ok(&[]);
        }
        let frame = self.seal(header.salt, HEADER_LEN, HEADER_LEN);
        if saturate(frame.len()) > header.frames_end() - HEADER_LEN {
            return Err(io::Error::other("the numbers of all resources are longer than a segment"));
        }
        Ok(frame)
    }

    /// Puts as many losses as one frame takes; returns how many. The frame waits for [`Encoder::seal`].
    pub(super) fn gaps<'a>(&mut self, gaps: impl Iterator<Item = &'a Gap>, room: u32) -> usize {
        self.each_shaped(|_| {});
        self.observations = 0;
        self.len = HEAD;
        self.buf.resize(FRAME_BYTES, 0);
        let end = FRAME_BYTES.min(room as usize);
        let mut count = 0;
        for gap in gaps {
            let mut out = Writer::new(self.buf.get_mut(self.len..end).unwrap_or_default());
            if put_gap(&mut out, gap).is_err() {
                break;
            }
            self.len += out.len();
            count += 1;
        }
        count
    }

    /// Forgets which shapes the last frame held, having done something to each.
    fn each_shaped(&mut self, act: impl Fn(&mut Known)) {
        for stream in self.shaped.drain(..) {
            if let Some(known) = self.known.get_mut(stream) {
                known.shaped = false;
                act(known);
            }
        }
    }

    /// Puts one observation behind its shape, if the segment needs that, or one loss, and its mark behind it, up to `end` of
    /// the buffer. Puts nothing if it does not all fit: a mark without what it speaks of would lose it, and the other way
    /// round it would come twice.
    fn put(&mut self, pending: &Pending, end: usize) -> Result<(), Full> {
        let observation = match &pending.offered {
            Offered::Observation(observation) => observation,
            Offered::Lost(_) => return self.put_loss(pending, end),
        };
        let stream = observation.stream.0;
        let (Some(known), Some(own)) = (self.known.get_mut(stream), self.streams.get(stream)) else {
            return Err(Full);
        };
        if self.buf.len() < end {
            self.buf.resize(end, 0);
        }
        let id = ShapeId(saturate(observation.stream.0));
        let mut out = Writer::new(self.buf.get_mut(self.len..end).ok_or(Full)?);
        let with_shape = known.copies < SHAPE_COPIES && !known.shaped;
        if with_shape {
            put_shape_of(&mut out, id, own, &self.directory)?;
        }
        put_observation(&mut out, id, pending.seq, observation.t, observation.clock, &observation.readings)?;
        if let Some(origin) = observation.origin {
            put_mark(&mut out, pending.resource, origin, pending.t())?;
        }
        self.len += out.len();
        if with_shape {
            known.shaped = true;
            self.shaped.push(observation.stream.0);
        }
        Ok(())
    }
}

impl Encoder {
    fn put_loss(&mut self, pending: &Pending, end: usize) -> Result<(), Full> {
        if self.buf.len() < end {
            self.buf.resize(end, 0);
        }
        let mut out = Writer::new(self.buf.get_mut(self.len..end).ok_or(Full)?);
        put_gap(&mut out, &pending.gap().ok_or(Full)?)?;
        if let Some(origin) = pending.origin() {
            put_mark(&mut out, pending.resource, origin, pending.t())?;
        }
        self.len += out.len();
        Ok(())
    }
}

fn put_shape_of(out: &mut Writer<'_>, id: ShapeId, stream: &Stream, directory: &str) -> Result<(), Full> {
    let properties: Vec<_> =
        stream.properties.iter().map(|own| Property { name: &own.name, unit: &own.unit }).collect();
    let shape = Shape { resource: stream.resource, domain: &stream.domain, directory, properties: &properties };
    put_shape(out, id, &shape)
}

//! The bytes of segments and of the cursor; written down for people in `gateway/docs/buffer-format.md`.

use crc32c::{crc32c, crc32c_append};

use super::spans::{Span, Spans};

/// Format version that this edition writes in segments and cursors; it reads the older ones too and refuses newer ones.
/// Version 2 brought gap records and cursors of several stretches, version 3 marks of sources.
pub(super) const VERSION: u16 = 3;
/// Length of a segment's header, which stands at its start and once more at its end.
pub(super) const HEADER_LEN: u32 = 64;
/// Length of a frame's head.
pub(super) const FRAME_HEAD_LEN: u32 = 20;
/// Segments are a multiple of this, and cursor slots are this far apart.
pub(super) const PAGE: u32 = 4096;
/// Frames begin at multiples of this.
pub(super) const ALIGN: u32 = 8;
/// Fewest bytes an observation record can have: bounds how many a damaged stretch can have held.
pub(super) const MIN_OBSERVATION: u32 = 14;

const SEGMENT_MAGIC: [u8; 8] = *b"GNGLNLOG";
const CURSOR_MAGIC: [u8; 8] = *b"GNGLNCUR";
const CRC_AT: usize = 60;
/// Stretches that a cursor holds behind everything that is delivered without a break. What is more is delivered again
/// after a restart.
pub(super) const CURSOR_SPANS: usize = 64;
/// Length of one stretch in a cursor slot.
const SPAN_LEN: usize = 24;
/// Longest cursor slot: head, stretches and their checksum.
pub(super) const SLOT_LEN: usize = HEADER_LEN as usize + CURSOR_SPANS * SPAN_LEN + 4;

/// A place in the log: before the frame that begins at `offset` of segment `segment`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u32,
}

impl Position {
    /// The place before every other.
    pub(super) const ORIGIN: Self = Self { segment: 0, offset: 0 };

    /// Returns the place of the first frame of a segment.
    pub(super) const fn start_of(segment: u64) -> Self {
        Self { segment, offset: HEADER_LEN }
    }
}

/// Why 64 bytes are no header or cursor slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unreadable {
    /// Wrong magic or checksum.
    Damaged,
    /// Whole, but of a newer format version.
    Newer {
        /// The version found.
        got: u16,
    },
}

/// Header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    /// Random seed of every checksum in the segment: frames of its earlier life never verify.
    pub(super) salt: u32,
    /// Identity of the store.
    pub(super) epoch: u64,
    /// Number of the segment, from 1, rising.
    pub(super) number: u64,
    /// Number of the segment before it, 0 for the first.
    pub(super) previous: u64,
    /// Where the segment before it ends; bytes after that are void.
    pub(super) previous_end: u32,
    /// Up to where the segment before it is known to have been durable: damage below is corruption, damage above is
    /// what a power cut left.
    pub(super) previous_synced: u32,
    /// Length of the segment in bytes.
    pub(super) size: u32,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN as usize] {
        let mut out = [0; HEADER_LEN as usize];
        out[0..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.salt.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..40].copy_from_slice(&self.previous.to_le_bytes());
        out[40..44].copy_from_slice(&self.previous_end.to_le_bytes());
        out[44..48].copy_from_slice(&self.previous_synced.to_le_bytes());
        out[48..52].copy_from_slice(&self.size.to_le_bytes());
        seal(&mut out);
        out
    }

    pub(super) fn decode(bytes: &[u8; HEADER_LEN as usize]) -> Result<Self, Unreadable> {
        check(bytes, SEGMENT_MAGIC)?;
        Ok(Self {
            salt: u32_at(bytes, 12),
            epoch: u64_at(bytes, 16),
            number: u64_at(bytes, 24),
            previous: u64_at(bytes, 32),
            previous_end: u32_at(bytes, 40),
            previous_synced: u32_at(bytes, 44),
            size: u32_at(bytes, 48),
        })
    }

    /// Returns where frames must have ended: before the second copy of the header.
    pub(super) const fn frames_end(&self) -> u32 {
        self.size.saturating_sub(HEADER_LEN)
    }
}

/// One slot of the cursor file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CursorSlot {
    /// Identity of the store.
    pub(super) epoch: u64,
    /// Rises with every write; the slot with the higher one counts.
    pub(super) generation: u64,
    /// What is delivered: from the origin without a break, then at most [`CURSOR_SPANS`] stretches.
    pub(super) delivered: Spans,
    /// Everything before was durable, without a hole left by a power cut, when the slot was written.
    pub(super) durable: Position,
}

impl CursorSlot {
    pub(super) fn encode(&self) -> Vec<u8> {
        let acked = self.delivered.end_of(Position::ORIGIN).unwrap_or(Position::ORIGIN);
        let spans: Vec<Span> = self.delivered.iter().filter(|span| span.from >= acked).take(CURSOR_SPANS).collect();
        let mut out = [0; HEADER_LEN as usize];
        out[0..8].copy_from_slice(&CURSOR_MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out[24..32].copy_from_slice(&self.generation.to_le_bytes());
        out[32..40].copy_from_slice(&acked.segment.to_le_bytes());
        out[40..48].copy_from_slice(&self.durable.segment.to_le_bytes());
        out[48..52].copy_from_slice(&acked.offset.to_le_bytes());
        out[52..56].copy_from_slice(&self.durable.offset.to_le_bytes());
        out[56..60].copy_from_slice(&saturate(spans.len()).to_le_bytes());
        seal(&mut out);
        let mut slot = out.to_vec();
        for span in spans {
            slot.extend_from_slice(&span.from.segment.to_le_bytes());
            slot.extend_from_slice(&span.to.segment.to_le_bytes());
            slot.extend_from_slice(&span.from.offset.to_le_bytes());
            slot.extend_from_slice(&span.to.offset.to_le_bytes());
        }
        let crc = crc32c(&slot);
        slot.extend_from_slice(&crc.to_le_bytes());
        slot
    }

    pub(super) fn decode(slot: &[u8; SLOT_LEN]) -> Result<Self, Unreadable> {
        let Some((head, rest)) = slot.split_first_chunk::<{ HEADER_LEN as usize }>() else {
            return Err(Unreadable::Damaged);
        };
        let version = check(head, CURSOR_MAGIC)?;
        let count = if version < 2 { 0 } else { u32_at(head, 56) as usize };
        let (Some(spans), Some(crc)) =
            (rest.get(..count.saturating_mul(SPAN_LEN)), rest.get(count.saturating_mul(SPAN_LEN)..))
        else {
            return Err(Unreadable::Damaged);
        };
        if version >= 2 && crc.first_chunk() != Some(&crc32c_append(crc32c(head), spans).to_le_bytes()) {
            return Err(Unreadable::Damaged);
        }
        let acked = Position { segment: u64_at(head, 32), offset: u32_at(head, 48) };
        let stretches = spans.as_chunks::<SPAN_LEN>().0.iter().map(|bytes| Span {
            from: Position { segment: u64_at(bytes, 0), offset: u32_at(bytes, 16) },
            to: Position { segment: u64_at(bytes, 8), offset: u32_at(bytes, 20) },
        });
        Ok(Self {
            epoch: u64_at(head, 16),
            generation: u64_at(head, 24),
            delivered: Spans::of(stretches.chain([Span { from: Position::ORIGIN, to: acked }])),
            durable: Position { segment: u64_at(head, 40), offset: u32_at(head, 52) },
        })
    }
}

/// Head of a frame: one group of records, written at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHead {
    /// Bytes of records.
    pub(super) len: u32,
    /// Observations among the records.
    pub(super) count: u32,
    /// Bytes of this segment that were durable when the frame was written.
    pub(super) synced: u32,
    payload_crc: u32,
}

impl FrameHead {
    /// Fills in the head of a frame whose records end at `end`, and zeros what is behind them.
    pub(super) fn seal(frame: &mut [u8], end: usize, salt: u32, offset: u32, count: u32, synced: u32) {
        let Some((head, records)) = frame.split_first_chunk_mut::<{ FRAME_HEAD_LEN as usize }>() else { return };
        let Some((records, padding)) = records.split_at_mut_checked(end.saturating_sub(head.len())) else { return };
        padding.fill(0);
        head[0..4].copy_from_slice(&saturate(records.len()).to_le_bytes());
        head[4..8].copy_from_slice(&count.to_le_bytes());
        head[8..12].copy_from_slice(&synced.to_le_bytes());
        head[12..16].copy_from_slice(&crc32c_append(salt, records).to_le_bytes());
        let crc = head_crc(head, salt, offset);
        head[16..20].copy_from_slice(&crc.to_le_bytes());
    }

    /// Takes the head of a frame at `offset`, or `None` when there is none.
    pub(super) fn decode(head: &[u8; FRAME_HEAD_LEN as usize], salt: u32, offset: u32) -> Option<Self> {
        let found = Self {
            len: u32_at(head, 0),
            count: u32_at(head, 4),
            synced: u32_at(head, 8),
            payload_crc: u32_at(head, 12),
        };
        // The cheap half first: this runs at every place of a damaged stretch.
        let plausible = found.len > 0 && found.count <= found.len && found.synced <= offset;
        (plausible && u32_at(head, 16) == head_crc(head, salt, offset)).then_some(found)
    }

    /// Says whether the records are those the frame was written with.
    pub(super) fn verifies(&self, records: &[u8], salt: u32) -> bool {
        crc32c_append(salt, records) == self.payload_crc
    }

    /// Returns the length of the whole frame with its padding; `None` when no segment is that long.
    pub(super) fn frame_len(&self) -> Option<u32> {
        self.len.checked_add(FRAME_HEAD_LEN)?.checked_next_multiple_of(ALIGN)
    }
}

/// Returns the checksum of a frame's head: of its place and everything in it but the checksum.
fn head_crc(head: &[u8; FRAME_HEAD_LEN as usize], salt: u32, offset: u32) -> u32 {
    crc32c_append(crc32c_append(salt, &offset.to_le_bytes()), &head[..16])
}

fn seal(out: &mut [u8; HEADER_LEN as usize]) {
    let crc = crc32c(&out[..CRC_AT]);
    out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
}

/// Magic, version and checksum keep their places in every version, so that a flipped bit is never taken for one.
fn check(bytes: &[u8; HEADER_LEN as usize], magic: [u8; 8]) -> Result<u16, Unreadable> {
    if bytes[..8] != magic || u32_at(bytes, CRC_AT) != crc32c(&bytes[..CRC_AT]) {
        return Err(Unreadable::Damaged);
    }
    let got = u16::from_le_bytes([bytes[8], bytes[9]]);
    if got > VERSION { Err(Unreadable::Newer { got }) } else { Ok(got) }
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

/// Lengths inside a segment fit 32 bits because its size does.
pub(super) fn saturate(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Returns the file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("seg-{number:016x}")
}

/// Returns the number in the file name of a segment; `None` for a name that no store can have come to.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("seg-").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|number| *number <= HIGHEST_SEGMENT)
}

/// Highest number that a file name is believed: with one segment a second it is reached after 136 years. Without a limit
/// one stray name would use up the numbers of all segments and observations.
const HIGHEST_SEGMENT: u64 = u32::MAX as u64;

//! The form observations have on disk.
//!
//! A segment of the buffer is read without its configuration, so it explains itself: a [`Record::Shape`] names a
//! resource and its properties before the first observation that refers to it, and a [`Record::LastSeq`] carries the
//! numbering over from the segments before. A [`Record::Mark`] stands in the same frame as what it speaks of. The byte layout is written down in `gateway/docs/buffer-format.md`.
//!
//! ```text
//! record      = kind u8, body
//! shape       = 0x01, shape varint, cri u64 LE, domain, directory, count varint, count x run
//! run         = name, unit, channels varint, [first varint]
//!               0 channels: the one property `name`; n channels: `name.first` to `name.(first + n - 1)`
//!               domain, directory, name, unit = len u8, UTF-8
//! observation = 0x02, shape varint, seq varint, t i64 LE, clock source u8, error varint (0 unknown, else ms + 1),
//!               count varint, count x reading
//! reading     = tag u8, [reason varint], [value]     tag = value kind (low 4 bits) | quality << 4
//! last seq    = 0x03, cri u64 LE, seq varint
//! gap         = 0x04, cri u64 LE, first varint, last - first varint, count varint, from i64 LE, to i64 LE, cause u8
//! mark        = 0x05, cri u64 LE, epoch varint, seq varint, t i64 LE
//! ```

use crate::bytes::{Full, Reader, Truncated, Writer};
use crate::cri::{Cri, CriError};
use crate::gap::{Gap, LossCause};
use crate::observation::{Property, Reading, Shape, Value};
use crate::origin::Origin;
use crate::quality::{Quality, Reason};
use crate::time::{Clock, ClockSource, Timestamp};

const SHAPE: u8 = 0x01;
const OBSERVATION: u8 = 0x02;
const LAST_SEQ: u8 = 0x03;
const GAP: u8 = 0x04;
const MARK: u8 = 0x05;

/// Number of a shape within one segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShapeId(pub u32);

/// One record, as read from a segment.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    /// Says what observations of this shape mean.
    Shape(ShapeRecord<'a>),
    /// One observation.
    Observation(ObservationRecord<'a>),
    /// The last number given to a resource before this segment began.
    LastSeq {
        /// The resource.
        resource: Cri,
        /// Its last number.
        seq: u64,
    },
    /// Observations that are lost.
    Gap(Gap),
    /// Up to where a source's own samples of a resource are taken, with this frame and those before it.
    Mark {
        /// The resource.
        resource: Cri,
        /// The last of the source's samples that is taken.
        origin: Origin,
        /// When it was measured.
        t: Timestamp,
    },
}

/// Why bytes are no record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// The bytes end inside the record, or a length in it is impossible.
    Truncated,
    /// The kind is not of this format version.
    Kind {
        /// The kind found.
        got: u8,
    },
    /// A value kind or quality is not of this format version.
    Tag {
        /// The tag found.
        got: u8,
    },
    /// The resource is no identifier.
    Resource(CriError),
    /// A shape of more than 65 535 properties, or a channel above 32 bits.
    Channels {
        /// The number found.
        got: u64,
    },
    /// A shape number above 32 bits.
    ShapeId {
        /// The number found.
        got: u64,
    },
    /// A gap of no numbers, or of more than it spans.
    Gap {
        /// The first number found.
        first: u64,
        /// The count found.
        count: u64,
    },
    /// An epoch or a number of a source above 32 bits.
    Origin {
        /// The number found.
        got: u64,
    },
}

impl From<Truncated> for RecordError {
    fn from(Truncated: Truncated) -> Self {
        Self::Truncated
    }
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Truncated => f.write_str("the record ends early"),
            Self::Kind { got } => write!(f, "record kind 0x{got:02x} is unknown"),
            Self::Tag { got } => write!(f, "reading tag 0x{got:02x} is unknown"),
            Self::Resource(error) => write!(f, "resource: {error}"),
            Self::Channels { got } => write!(f, "channel or count of channels {got} is too large"),
            Self::ShapeId { got } => write!(f, "shape number {got} is above 32 bits"),
            Self::Gap { first, count } => write!(f, "a gap of {count} numbers from {first} is none"),
            Self::Origin { got } => write!(f, "epoch or number {got} of a source is above 32 bits"),
        }
    }
}

impl core::error::Error for RecordError {}

impl<'a> Record<'a> {
    /// Takes one record from the front of `bytes`.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn take(bytes: &mut Reader<'a>) -> Result<Self, RecordError> {
        match bytes.u8()? {
            SHAPE => ShapeRecord::take(bytes).map(Self::Shape),
            OBSERVATION => ObservationRecord::take(bytes).map(Self::Observation),
            LAST_SEQ => {
                let resource = take_cri(bytes)?;
                Ok(Self::LastSeq { resource, seq: bytes.varint()? })
            }
            GAP => take_gap(bytes).map(Self::Gap),
            MARK => {
                let resource = take_cri(bytes)?;
                let (epoch, seq) = (take_u32(bytes)?, take_u32(bytes)?);
                let t = Timestamp::from_unix_nanos(i64::from_le_bytes(bytes.array()?));
                Ok(Self::Mark { resource, origin: Origin { epoch, seq }, t })
            }
            got => Err(RecordError::Kind { got }),
        }
    }
}

/// Puts a shape record.
///
/// # Errors
/// [`Full`] when the buffer is too short, a name or unit has more than 255 bytes, or there are more than 65 535
/// properties, which no reader would take.
pub fn put_shape(out: &mut Writer<'_>, id: ShapeId, shape: &Shape<'_>) -> Result<(), Full> {
    if u16::try_from(shape.properties.len()).is_err() {
        return Err(Full);
    }
    out.put(&[SHAPE])?;
    out.varint(u64::from(id.0))?;
    out.put(&shape.resource.to_bits().to_le_bytes())?;
    out.short_text(shape.domain)?;
    out.short_text(shape.directory)?;
    out.varint(Runs { rest: shape.properties }.count() as u64)?;
    for run in (Runs { rest: shape.properties }) {
        out.short_text(run.name)?;
        out.short_text(run.unit)?;
        match run.channels {
            None => out.varint(0)?,
            Some(Channels { first, count }) => {
                out.varint(u64::from(count))?;
                out.varint(u64::from(first))?;
            }
        }
    }
    Ok(())
}

/// Puts an observation record.
///
/// # Errors
/// [`Full`] when the buffer is too short.
pub fn put_observation(
    out: &mut Writer<'_>,
    shape: ShapeId,
    seq: u64,
    t: Timestamp,
    clock: Clock,
    readings: &[Reading],
) -> Result<(), Full> {
    out.put(&[OBSERVATION])?;
    out.varint(u64::from(shape.0))?;
    out.varint(seq)?;
    out.put(&t.unix_nanos().to_le_bytes())?;
    out.put(&[clock.source.code()])?;
    out.varint(clock.error_ms.map_or(0, |ms| u64::from(ms).saturating_add(1)))?;
    out.varint(readings.len() as u64)?;
    readings.iter().try_for_each(|reading| put_reading(out, reading))
}

/// Puts a last-number record.
///
/// # Errors
/// [`Full`] when the buffer is too short.
pub fn put_last_seq(out: &mut Writer<'_>, resource: Cri, seq: u64) -> Result<(), Full> {
    out.put(&[LAST_SEQ])?;
    out.put(&resource.to_bits().to_le_bytes())?;
    out.varint(seq)
}

/// Puts a gap record.
///
/// # Errors
/// [`Full`] when the buffer is too short.
pub fn put_gap(out: &mut Writer<'_>, gap: &Gap) -> Result<(), Full> {
    let (from, to) = gap.span();
    out.put(&[GAP])?;
    out.put(&gap.resource().to_bits().to_le_bytes())?;
    out.varint(gap.first())?;
    out.varint(gap.last().saturating_sub(gap.first()))?;
    out.varint(gap.count())?;
    out.put(&from.unix_nanos().to_le_bytes())?;
    out.put(&to.unix_nanos().to_le_bytes())?;
    out.put(&[gap.cause().code()])
}

/// Puts a mark record.
///
/// # Errors
/// [`Full`] when the buffer is too short.
pub fn put_mark(out: &mut Writer<'_>, resource: Cri, origin: Origin, t: Timestamp) -> Result<(), Full> {
    out.put(&[MARK])?;
    out.put(&resource.to_bits().to_le_bytes())?;
    out.varint(u64::from(origin.epoch))?;
    out.varint(u64::from(origin.seq))?;
    out.put(&t.unix_nanos().to_le_bytes())
}

/// Properties that differ in nothing but their channel, or a single one without.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PropertyRun<'a> {
    /// Name without the channel.
    pub name: &'a str,
    /// UCUM unit of each.
    pub unit: &'a str,
    /// The channels, or `None` for the one property of that name.
    pub channels: Option<Channels>,
}

/// Consecutive channels, all below `u32::MAX`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channels {
    /// The first channel.
    pub first: u32,
    /// How many there are, 1 to 65 535.
    pub count: u16,
}

impl PropertyRun<'_> {
    /// Returns how many properties it stands for.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.channels.map_or(1, |channels| channels.count)
    }
}

/// Splits properties into runs.
struct Runs<'a> {
    rest: &'a [Property<'a>],
}

impl<'a> Iterator for Runs<'a> {
    type Item = PropertyRun<'a>;

    fn next(&mut self) -> Option<PropertyRun<'a>> {
        let (front, mut rest) = self.rest.split_first()?;
        let unit = front.unit;
        let run = match split_channel(front.name) {
            None => PropertyRun { name: front.name, unit, channels: None },
            Some((name, first)) => {
                let mut count = 1_u16;
                while let Some((next, after)) = rest.split_first()
                    && let Some(wanted) = first.checked_add(u32::from(count))
                    && next.unit == unit
                    && split_channel(next.name) == Some((name, wanted))
                    && let Some(more) = count.checked_add(1)
                {
                    (count, rest) = (more, after);
                }
                PropertyRun { name, unit, channels: Some(Channels { first, count }) }
            }
        };
        self.rest = rest;
        Some(run)
    }
}

/// Splits `name.7` into name and channel; a channel that would be written otherwise is part of the name.
fn split_channel(name: &str) -> Option<(&str, u32)> {
    let (base, digits) = name.rsplit_once('.')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let channel = if plain { digits.parse().ok()? } else { return None };
    (channel < u32::MAX).then_some((base, channel))
}

/// A shape, as read from a segment; its properties are taken run by run.
#[derive(Clone, Debug)]
pub struct ShapeRecord<'a> {
    /// Number by which the segment's observations refer to it.
    pub id: ShapeId,
    /// The resource observed.
    pub resource: Cri,
    /// Domain of its class.
    pub domain: &'a str,
    /// Edition of the code directory.
    pub directory: &'a str,
    /// How many properties it has.
    pub width: u16,
    /// The record behind its number: equal bytes say the same.
    pub meaning: &'a [u8],
    /// The end of `meaning` that lists the properties: equal bytes list the same.
    pub properties: &'a [u8],
    runs: Run<'a>,
}

impl<'a> ShapeRecord<'a> {
    fn take(bytes: &mut Reader<'a>) -> Result<Self, RecordError> {
        let id = take_shape_id(bytes)?;
        let behind = bytes.rest();
        let resource = take_cri(bytes)?;
        let (domain, directory) = (bytes.short_text()?, bytes.short_text()?);
        let list = bytes.rest();
        let mut width = 0_u16;
        let runs = Run::take(bytes, |bytes| {
            let run = take_property_run(bytes)?;
            width = width.checked_add(run.width()).ok_or(RecordError::Channels { got: u64::from(run.width()) })?;
            Ok(())
        })?;
        let taken = |from: &'a [u8]| {
            from.split_at_checked(from.len().saturating_sub(bytes.rest().len())).map_or(from, |(taken, _)| taken)
        };
        Ok(Self { id, resource, domain, directory, width, meaning: taken(behind), properties: taken(list), runs })
    }

    /// Returns the properties in the order of the readings.
    pub fn runs(&self) -> impl Iterator<Item = PropertyRun<'a>> {
        self.runs.iter(take_property_run)
    }
}

/// An observation, as read from a segment; its readings are taken one by one.
#[derive(Clone, Debug)]
pub struct ObservationRecord<'a> {
    /// The shape it refers to.
    pub shape: ShapeId,
    /// Its number among its resource's observations.
    pub seq: u64,
    /// Time of measurement.
    pub t: Timestamp,
    /// State of the clock then.
    pub clock: Clock,
    readings: Run<'a>,
}

impl<'a> ObservationRecord<'a> {
    fn take(bytes: &mut Reader<'a>) -> Result<Self, RecordError> {
        let shape = take_shape_id(bytes)?;
        let seq = bytes.varint()?;
        let t = Timestamp::from_unix_nanos(i64::from_le_bytes(bytes.array()?));
        let source = ClockSource::from_code(bytes.u8()?);
        let error_ms = match bytes.varint()? {
            0 => None,
            ms => Some(u32::try_from(ms.saturating_sub(1)).unwrap_or(u32::MAX)),
        };
        let readings = Run::take(bytes, |bytes| take_reading(bytes).map(|_| ()))?;
        Ok(Self { shape, seq, t, clock: Clock { source, error_ms }, readings })
    }

    /// Returns the readings in the order of the shape's properties.
    pub fn readings(&self) -> impl Iterator<Item = Reading> {
        self.readings.iter(take_reading)
    }
}

/// A counted run of items that has been checked to hold as many as it says.
#[derive(Clone, Debug)]
struct Run<'a> {
    count: u64,
    bytes: Reader<'a>,
}

impl<'a> Run<'a> {
    fn take(
        bytes: &mut Reader<'a>,
        mut skip: impl FnMut(&mut Reader<'a>) -> Result<(), RecordError>,
    ) -> Result<Self, RecordError> {
        let count = bytes.varint()?;
        let run = Self { count, bytes: bytes.clone() };
        for _ in 0..count {
            skip(bytes)?;
        }
        Ok(run)
    }

    fn iter<T>(&self, take: impl Fn(&mut Reader<'a>) -> Result<T, RecordError>) -> impl Iterator<Item = T> {
        // Every item was taken once when the record was, so none is refused here.
        let mut bytes = self.bytes.clone();
        (0..self.count).map_while(move |_| take(&mut bytes).ok())
    }
}

fn take_gap(bytes: &mut Reader<'_>) -> Result<Gap, RecordError> {
    let resource = take_cri(bytes)?;
    let (first, more, count) = (bytes.varint()?, bytes.varint()?, bytes.varint()?);
    let from = Timestamp::from_unix_nanos(i64::from_le_bytes(bytes.array()?));
    let to = Timestamp::from_unix_nanos(i64::from_le_bytes(bytes.array()?));
    let cause = LossCause::from_code(bytes.u8()?);
    let last = first.checked_add(more).ok_or(RecordError::Gap { first, count })?;
    Gap::new(resource, (first, last), count, (from, to), cause).ok_or(RecordError::Gap { first, count })
}

fn take_cri(bytes: &mut Reader<'_>) -> Result<Cri, RecordError> {
    Cri::from_bits(u64::from_le_bytes(bytes.array()?)).map_err(RecordError::Resource)
}

fn take_u32(bytes: &mut Reader<'_>) -> Result<u32, RecordError> {
    let got = bytes.varint()?;
    u32::try_from(got).map_err(|_| RecordError::Origin { got })
}

fn take_shape_id(bytes: &mut Reader<'_>) -> Result<ShapeId, RecordError> {
    let got = bytes.varint()?;
    u32::try_from(got).map(ShapeId).map_err(|_| RecordError::ShapeId { got })
}

fn take_property_run<'a>(bytes: &mut Reader<'a>) -> Result<PropertyRun<'a>, RecordError> {
    let (name, unit) = (bytes.short_text()?, bytes.short_text()?);
    let got = bytes.varint()?;
    let count = u16::try_from(got).map_err(|_| RecordError::Channels { got })?;
    if count == 0 {
        return Ok(PropertyRun { name, unit, channels: None });
    }
    let got = bytes.varint()?;
    let first = u32::try_from(got).map_err(|_| RecordError::Channels { got })?;
    match first.checked_add(u32::from(count)) {
        Some(_) => Ok(PropertyRun { name, unit, channels: Some(Channels { first, count }) }),
        None => Err(RecordError::Channels { got }),
    }
}

const NO_VALUE: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const UINT: u8 = 3;
const INT: u8 = 4;
const SINGLE: u8 = 5;
const DOUBLE: u8 = 6;

const GOOD: u8 = 0;
const UNCERTAIN: u8 = 1;
const BAD: u8 = 2;

fn put_reading(out: &mut Writer<'_>, reading: &Reading) -> Result<(), Full> {
    let quality = match reading.quality {
        Quality::Good => GOOD,
        Quality::Uncertain(_) => UNCERTAIN,
        Quality::Bad(_) => BAD,
    };
    let kind = match reading.value {
        None => NO_VALUE,
        Some(Value::Bool(false)) => FALSE,
        Some(Value::Bool(true)) => TRUE,
        Some(Value::Uint(_)) => UINT,
        Some(Value::Int(_)) => INT,
        Some(Value::Single(_)) => SINGLE,
        Some(Value::Double(_)) => DOUBLE,
    };
    out.put(&[kind | (quality << 4)])?;
    if let Some(reason) = reading.quality.reason() {
        out.varint(u64::from(reason.code()))?;
    }
    match reading.value {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::Uint(value)) => out.varint(value),
        Some(Value::Int(value)) => out.varint(zigzag(value)),
        Some(Value::Single(value)) => out.put(&value.to_le_bytes()),
        Some(Value::Double(value)) => out.put(&value.to_le_bytes()),
    }
}

fn take_reading(bytes: &mut Reader<'_>) -> Result<Reading, RecordError> {
    let tag = bytes.u8()?;
    let quality = match tag >> 4 {
        GOOD => Quality::Good,
        UNCERTAIN => Quality::Uncertain(take_reason(bytes)?),
        BAD => Quality::Bad(take_reason(bytes)?),
        _ => return Err(RecordError::Tag { got: tag }),
    };
    let value = match tag & 0x0F {
        NO_VALUE => None,
        FALSE => Some(Value::Bool(false)),
        TRUE => Some(Value::Bool(true)),
        UINT => Some(Value::Uint(bytes.varint()?)),
        INT => Some(Value::Int(unzigzag(bytes.varint()?))),
        SINGLE => Some(Value::Single(f32::from_le_bytes(bytes.array()?))),
        DOUBLE => Some(Value::Double(f64::from_le_bytes(bytes.array()?))),
        _ => return Err(RecordError::Tag { got: tag }),
    };
    Ok(Reading { value, quality })
}

fn take_reason(bytes: &mut Reader<'_>) -> Result<Reason, RecordError> {
    let code = bytes.varint()?;
    Ok(Reason::from_code(u16::try_from(code).map_err(|_| RecordError::Truncated)?))
}

#[allow(clippy::cast_sign_loss, reason = "zigzag moves the sign to the lowest bit")]
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[allow(clippy::cast_possible_wrap, reason = "zigzag moves the sign back from the lowest bit")]
const fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ (value & 1).wrapping_neg() as i64
}

//! What a site will write, before it ever ran: pure, from the site file alone. For `ganglion check`.
//!
//! Every stream is taken to be written at each poll, which is the most it can be: a device that reports on change writes
//! less, and so does a bus that is asked for more than it can carry. An observation is as long as one that
//! [`normalize`](crate::normalize) makes of registers in the middle of their range, really encoded; it stands in a frame
//! of its own, since the writer takes what has come and seldom waits for a second one.
//!
//! Bytes that the device writes, a day:
//!
//! | what | bytes |
//! |---|---|
//! | frames, and what each segment repeats | as appended |
//! | each fsync | [`PAGE_OF_A_SYNC`] on top: the page it begins in is written again |
//! | each cursor | [`PAGE_OF_A_SYNC`], at most one a second, while something is delivered |
//! | the file system's journal | [`JOURNAL_BYTES`] every [`JOURNAL_EVERY`], for the time of the last write |
//! | each segment begun | [`SEGMENT_BEGIN`] |
//!
//! The zeros a new segment is filled with come once, until `max_bytes` are reached, and are told apart. What the card does
//! inside itself is not known and not counted.

use std::time::Duration;

use ganglion_protocols::bytes::Writer;
use ganglion_protocols::record::{ShapeId, put_observation, put_shape};
use ganglion_protocols::{Clock, ClockSource, Property, Reading, Shape, Timestamp, Value};

use super::encode::LAST_SEQ_BYTES;
use super::format::{ALIGN, FRAME_HEAD_LEN, HEADER_LEN, PAGE};
use super::outlook::in_f64;
use crate::normalize;
use crate::pipeline::{Sample, Unnumbered};
use crate::site::{DeviceId, Site, Stream};

/// An fsync writes whole pages. A stretch that begins anywhere in a page touches, on average, one page more than its
/// length fills.
const PAGE_OF_A_SYNC: f64 = 4096.0;
/// ext4 keeps the time of the last write in the inode: a descriptor, the inode's block and a commit block in the journal,
/// and the inode's block in its place. Estimated from above: on a loop device some half of it was seen.
const JOURNAL_BYTES: f64 = 4.0 * 4096.0;
/// ext4 commits its journal this often (`commit=`, 5 s unless mounted otherwise).
const JOURNAL_EVERY: Duration = Duration::from_secs(5);
/// Two headers, the numbers, and the journal of a rename. Estimated; once a segment, so it hardly counts.
const SEGMENT_BEGIN: f64 = 10.0 * 4096.0;
/// The cursor is written at most this often.
const CURSOR_EVERY: Duration = Duration::from_secs(1);
/// Card that wear is told for: the smallest that is still sold.
const CARD_BYTES: f64 = 8e9;
/// Times that each of its cells can be erased: the usual promise for MLC eMMC; TLC cards promise 500 to 3000.
const CARD_CYCLES: f64 = 3000.0;
/// A register in the middle: 16706 as a number, 4142 as BCD, 12.1 in binary32.
const REGISTER: u16 = 0x4142;
/// A number that a resource reaches in months.
const SEQ: u64 = 10_000_000;

/// What a site will write.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prediction {
    /// Observations a second.
    pub observations_per_s: f64,
    /// Bytes of segments taken a second.
    pub bytes_per_s: f64,
    /// Fsyncs a second.
    pub syncs_per_s: f64,
    /// Bytes that the device writes a day.
    pub device_bytes_per_day: f64,
    /// Zeros written once while the log grows to its quota.
    pub zeros: u64,
}

impl Prediction {
    /// Predicts for a site.
    #[must_use]
    pub fn of(site: &Site) -> Self {
        let (mut observations, mut frames, mut polls) = (0.0, 0.0, 0.0);
        for (place, device) in site.devices.iter().enumerate() {
            for group in 0..device.groups.len() {
                let Some(every) = device.groups.get(group).map(|group| group.interval.as_secs_f64()) else { continue };
                if every <= 0.0 {
                    continue;
                }
                let made = example(site, DeviceId(place), group);
                polls += 1.0 / every;
                observations += in_f64(made.len() as u64) / every;
                frames += made.iter().map(|observation| in_f64(frame_bytes(observation))).sum::<f64>() / every;
            }
        }
        let settings = &site.buffer;
        let segment = f64::from(settings.segment_bytes);
        let repeated = in_f64(repeated(site));
        // A segment that holds nothing but what it repeats is no segment; whoever sets it so small sees it here.
        let bytes = frames * segment / (segment - repeated).max(segment / 100.0);
        // A commit waits its interval from the first write. Polls may lie so that no two of them share one.
        let in_time = polls.min(1.0 / settings.commit_interval.as_secs_f64());
        let by_bytes = bytes / f64::from(settings.commit_bytes.max(1));
        let syncs = in_time.max(by_bytes);
        let cursors = syncs.min(1.0 / CURSOR_EVERY.as_secs_f64());
        let journal = if polls > 0.0 { JOURNAL_BYTES / JOURNAL_EVERY.as_secs_f64() } else { 0.0 };
        let device = bytes + (syncs + cursors) * PAGE_OF_A_SYNC + journal + bytes / segment * SEGMENT_BEGIN;
        Self {
            observations_per_s: observations,
            bytes_per_s: bytes,
            syncs_per_s: syncs,
            device_bytes_per_day: device * 86_400.0,
            zeros: settings.max_bytes,
        }
    }

    /// Returns how many years a card of 8 GB and 3,000 program/erase cycles lasts; infinite when nothing is written.
    #[must_use]
    pub fn years_of_a_card(&self) -> f64 {
        CARD_BYTES * CARD_CYCLES / self.device_bytes_per_day / 365.25
    }
}

/// Returns the observations of one poll, all good.
fn example(site: &Site, device: DeviceId, group: usize) -> Vec<Unnumbered> {
    let wants = site.devices.get(device.0).and_then(|device| device.groups.get(group)).map(|group| &group.wants);
    let ends = || wants.iter().flat_map(|wants| wants.iter()).map(|want| want.offset + usize::from(want.read.count));
    let sample = Sample {
        device,
        group,
        t: Timestamp::default(),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(20) },
        words: vec![REGISTER; ends().max().unwrap_or(0)],
        states: vec![None; wants.map_or(0, |wants| wants.len())],
        origin: None,
    };
    let mut made = normalize::observe(site, &sample);
    for reading in made.iter_mut().flat_map(|observation| &mut observation.readings) {
        // These registers may be out of a range, or no value at all.
        let value = reading.value.unwrap_or(Value::Double(0.1));
        *reading = Reading { value: Some(value), quality: ganglion_protocols::Quality::Good };
    }
    made
}

/// Returns the length of a frame with one observation.
fn frame_bytes(observation: &Unnumbered) -> u64 {
    let stream = ShapeId(u32::try_from(observation.stream.0).unwrap_or(u32::MAX));
    let record =
        encoded(|out| put_observation(out, stream, SEQ, observation.t, observation.clock, &observation.readings));
    (record + u64::from(FRAME_HEAD_LEN)).next_multiple_of(u64::from(ALIGN))
}

/// Returns the bytes that each segment repeats: its headers, the last number of every resource, each shape twice.
fn repeated(site: &Site) -> u64 {
    let shape = |(place, stream): (usize, &Stream)| {
        let properties: Vec<Property<'_>> =
            stream.properties.iter().map(|own| Property { name: &own.name, unit: &own.unit }).collect();
        let (domain, directory) = (stream.domain.as_str(), site.directory.as_str());
        let shape = Shape { resource: stream.resource, domain, directory, properties: &properties };
        encoded(|out| put_shape(out, ShapeId(u32::try_from(place).unwrap_or(u32::MAX)), &shape))
    };
    let shapes: u64 = site.streams.iter().enumerate().map(shape).sum();
    let numbers = u64::from(FRAME_HEAD_LEN) + (LAST_SEQ_BYTES * site.streams.len()) as u64;
    2 * u64::from(HEADER_LEN) + numbers + shapes * u64::from(super::encode::SHAPE_COPIES)
}

/// Returns how many bytes a record takes.
fn encoded(put: impl Fn(&mut Writer<'_>) -> Result<(), ganglion_protocols::bytes::Full>) -> u64 {
    let mut buf = vec![0; PAGE as usize];
    loop {
        let mut out = Writer::new(&mut buf);
        match put(&mut out) {
            Ok(()) => return out.len() as u64,
            // No record has so many properties: one that never fits is not written either.
            Err(_) if buf.len() > 1 << 24 => return 0,
            Err(_) => buf.resize(buf.len() * 4, 0),
        }
    }
}

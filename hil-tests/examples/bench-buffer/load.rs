//! The observations: what is stored, and how long each is as a record.

use clap::ValueEnum;
use ganglion::pipeline::Unnumbered;
use ganglion::site::{NamedProperty, Stream, StreamId};
use ganglion_hil::site_file::resource;
use ganglion_protocols::bytes::Writer;
use ganglion_protocols::record::{ShapeId, put_observation};
use ganglion_protocols::{Clock, ClockSource, Quality, Reading, Timestamp, Value};

/// Resources, each with one stream.
pub(crate) const RESOURCES: usize = 100;
/// Readings of an observation of some 100 bytes.
const HUNDRED: usize = 9;

/// How long the observations are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Size {
    /// One, two or three readings.
    Small,
    /// Some 100 bytes as a record.
    Hundred,
}

impl Size {
    /// Returns how many readings the observations of a stream have.
    fn readings(self, stream: usize) -> usize {
        match self {
            Self::Small => 1 + stream % 3,
            Self::Hundred => HUNDRED,
        }
    }

    /// Returns the streams of a site.
    pub(crate) fn streams(self) -> Vec<Stream> {
        (0..RESOURCES).map(|place| self.stream(place)).collect()
    }

    fn stream(self, place: usize) -> Stream {
        let serial = u32::try_from(place + 1).unwrap_or(u32::MAX);
        let names = (1..=self.readings(place)).map(|channel| format!("pressure.{channel}"));
        Stream {
            resource: resource(620_602, 9601, serial).parse().expect("the identifier has its check digits"),
            domain: "water".to_owned(),
            properties: names.map(|name| NamedProperty { name, unit: "MPa".to_owned() }).collect(),
        }
    }

    /// Returns the observation of this number, from 0, over all resources in turn.
    pub(crate) fn observation(self, number: u64) -> Unnumbered {
        let place = usize::try_from(number).unwrap_or(usize::MAX) % RESOURCES;
        let reading = |channel: usize| {
            let digits = number.wrapping_mul(7919).wrapping_add(channel as u64 * 31) % 4000;
            Reading {
                value: Some(Value::Double(f64::from(u16::try_from(digits).unwrap_or(0)) / 100.0)),
                quality: Quality::Good,
            }
        };
        Unnumbered {
            stream: StreamId(place),
            t: Timestamp::from_unix_nanos(1_795_330_435_000_000_000 + i64::try_from(number).unwrap_or(0) * 1_000_000),
            clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
            readings: (0..self.readings(place)).map(reading).collect(),
            origin: None,
        }
    }

    /// Writes the record that the observation of this number becomes; this is the payload of every engine.
    pub(crate) fn record(self, number: u64, into: &mut [u8; 256]) -> usize {
        let Unnumbered { stream, t, clock, readings, .. } = self.observation(number);
        let shape = ShapeId(u32::try_from(stream.0).unwrap_or(u32::MAX));
        let mut out = Writer::new(into);
        let seq = 1 + number / RESOURCES as u64;
        put_observation(&mut out, shape, seq, t, clock, &readings).expect("256 bytes hold nine readings");
        out.len()
    }

    /// Returns the bytes of the records of so many observations from a number on.
    pub(crate) fn payload(self, from: u64, count: u64) -> u64 {
        let mut record = [0; 256];
        (from..from + count).map(|number| self.record(number, &mut record) as u64).sum()
    }
}

//! How large observations are, from the codecs that the daemon uses.

use std::sync::LazyLock;

use ganglion_protocols::bytes::Writer;
use ganglion_protocols::envelope::Envelope;
use ganglion_protocols::record::{ShapeId, put_observation};
use ganglion_protocols::topic::{ResourceSubject, ResourceTopic};
use ganglion_protocols::{
    Class, Clock, ClockSource, Cri, Division, Observation, Property, Quality, Reading, Serial, Shape, Timestamp, Value,
};

/// The limit of a payload by default, `max_payload_bytes`.
const PAYLOAD: usize = 65_536;
/// Fixed header, lengths, packet identifier and content type of a PUBLISH. Source: MQTT 5.0 §3.3.
const PUBLISH: usize = 1 + 3 + 2 + 2 + 1 + 3 + "application/json".len();
/// A gateway reads so many resources, each once a second.
pub(crate) const RESOURCES: u32 = 10;

const PROPERTIES: [Property<'static>; 2] =
    [Property { name: "pressure", unit: "MPa" }, Property { name: "flow_rate", unit: "m3/h" }];

/// Sizes in bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Sizes {
    /// One observation on disk.
    pub(crate) record: usize,
    /// A live message: one observation, with its topic.
    pub(crate) live: usize,
    /// The text of a backfill message.
    pub(crate) batch: usize,
    /// Observations in it.
    pub(crate) in_batch: usize,
}

/// Returns the sizes for a resource of two readings; measured once.
pub(crate) fn sizes() -> Sizes {
    *SIZES
}

static SIZES: LazyLock<Sizes> = LazyLock::new(|| {
    let one = [readings(0)];
    let topic = ResourceTopic { resource: resource(0), domain: "water", about: ResourceSubject::Observations }
        .to_string()
        .len();
    let live = envelope(&one).len() + topic + PUBLISH;
    let mut room = [0; 256];
    let mut out = Writer::new(&mut room);
    put_observation(&mut out, ShapeId(3), SEQ, moment(0), CLOCK, &one[0])
        .expect("an observation of two readings is short");
    let record = out.len();
    let mut in_batch = 1;
    let mut step = 256;
    while step > 0 {
        if backfill(in_batch + step).len() <= PAYLOAD {
            in_batch += step;
        } else {
            step /= 2;
        }
    }
    Sizes { record, live, batch: backfill(in_batch).len(), in_batch }
});

/// Returns the text of a backfill message of so many observations.
pub(crate) fn backfill(observations: usize) -> Vec<u8> {
    envelope(&(0..observations).map(readings).collect::<Vec<_>>())
}

const SEQ: u64 = 1_000_000;
const CLOCK: Clock = Clock { source: ClockSource::Ntp, error_ms: Some(12) };

/// A pressure and a flow that wander, with the digits a binary32 of a meter has.
fn readings(index: usize) -> [Reading; 2] {
    let chance = |salt: u64| fastrand::Rng::with_seed(index as u64 * 2 + salt).f32();
    let of = |value: f32| Reading { value: Some(Value::Single(value)), quality: Quality::Good };
    let round = |value: f32, digits: f32| (value * digits).round() / digits;
    [of(round(0.38 + 0.05 * chance(0), 1000.0)), of(round(120.0 + 15.0 * chance(1), 10.0))]
}

fn envelope(readings: &[[Reading; 2]]) -> Vec<u8> {
    let observations: Vec<_> = readings
        .iter()
        .enumerate()
        .map(|(index, readings)| Observation {
            shape: Shape {
                resource: resource(u32::try_from(index).unwrap_or(0) % RESOURCES),
                domain: "water",
                directory: "2026-11",
                properties: &PROPERTIES,
            },
            seq: SEQ + index as u64 / u64::from(RESOURCES),
            t: moment(index as u64),
            readings,
        })
        .collect();
    let gateway = cri(9101, 1);
    let envelope = Envelope {
        gateway,
        epoch: 0x3f9a_71c0_55d2_8e46,
        directory: "2026-11",
        clock: CLOCK,
        observations: &observations,
    };
    serde_json::to_vec(&envelope).expect("an envelope has a JSON form")
}

fn resource(index: u32) -> Cri {
    cri(9601, 7 + index)
}

fn cri(class: u16, serial: u32) -> Cri {
    let division = Division::new(620_602).expect("a division of six digits");
    Cri::new(division, Class::new(class).expect("a class of four digits"), Serial::new(serial).expect("six digits"))
}

fn moment(index: u64) -> Timestamp {
    let nanos = 1_795_330_435_000_000_000 + i64::try_from(index * 100_371_113).unwrap_or(0);
    Timestamp::from_unix_nanos(nanos)
}

//! The constant text around the values of an observation, made once for each list of properties.
//!
//! What is constant is taken from the serializers of [`ganglion_protocols::envelope`], which stay the one description of
//! the payload: an empty reading is serialized and cut where its value stands. Writing a good reading is then three copies.

use std::sync::Arc;

use ganglion_protocols::envelope::ReadingInUnit;
use ganglion_protocols::{Observation, Quality, Reading, Shape};

use crate::buffer::Stored;
use crate::site::NamedProperty;

/// An empty reading begins with this.
const BEFORE_VALUE: &str = "{\"v\":";
const NO_VALUE: &str = "null";
const EMPTY: Reading = Reading { value: None, quality: Quality::Good };

/// The text around the values of one list of properties.
#[derive(Debug)]
struct Skeleton {
    list: Arc<[NamedProperty]>,
    text: String,
    pieces: Vec<Piece>,
}

/// Ends, in the skeleton's text, of what stands before and behind one value; the first begins where the last piece ends.
#[derive(Debug)]
struct Piece {
    key: usize,
    before: usize,
    behind: usize,
}

/// The skeletons in use.
#[derive(Debug, Default)]
pub(super) struct Skeletons {
    known: Vec<Skeleton>,
}

impl Skeletons {
    /// Writes one observation as the contract has it.
    ///
    /// # Errors
    /// When a number has no JSON form.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, stored: &Stored) -> serde_json::Result<()> {
        let shape = &stored.shape;
        let empty =
            Shape { resource: shape.resource, domain: &shape.domain, directory: &shape.directory, properties: &[] };
        serde_json::to_writer(&mut *out, &Observation { shape: empty, seq: stored.seq, t: stored.t, readings: &[] })?;
        out.truncate(out.len().saturating_sub(AFTER_READINGS.len()));
        self.of(&shape.properties)?.write(out, &stored.readings)?;
        out.extend_from_slice(AFTER_READINGS);
        Ok(())
    }

    fn of(&mut self, list: &Arc<[NamedProperty]>) -> serde_json::Result<&Skeleton> {
        if let Some(place) = self.known.iter().position(|known| Arc::ptr_eq(&known.list, list)) {
            return Ok(&self.known[place]);
        }
        self.known.retain(|known| Arc::strong_count(&known.list) > 1);
        self.known.push(Skeleton::new(list)?);
        Ok(&self.known[self.known.len() - 1])
    }
}

/// What closes the readings and the observation.
const AFTER_READINGS: &[u8] = b"}}";

impl Skeleton {
    fn new(list: &Arc<[NamedProperty]>) -> serde_json::Result<Self> {
        let mut skeleton = Self { list: Arc::clone(list), text: String::new(), pieces: Vec::with_capacity(list.len()) };
        for property in list.iter() {
            let empty = serde_json::to_string(&ReadingInUnit { unit: &property.unit, reading: &EMPTY })?;
            let text = &mut skeleton.text;
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&serde_json::to_string(&property.name)?);
            text.push(':');
            let key = text.len();
            text.push_str(BEFORE_VALUE);
            let before = text.len();
            text.push_str(empty.get(BEFORE_VALUE.len() + NO_VALUE.len()..).unwrap_or_default());
            skeleton.pieces.push(Piece { key, before, behind: text.len() });
        }
        Ok(skeleton)
    }

    fn write(&self, out: &mut Vec<u8>, readings: &[Reading]) -> serde_json::Result<()> {
        let text = self.text.as_bytes();
        let mut from = 0;
        for ((piece, reading), property) in self.pieces.iter().zip(readings).zip(self.list.iter()) {
            match reading {
                Reading { value: Some(value), quality: Quality::Good } => {
                    out.extend_from_slice(&text[from..piece.before]);
                    serde_json::to_writer(&mut *out, value)?;
                    out.extend_from_slice(&text[piece.before..piece.behind]);
                }
                reading => {
                    out.extend_from_slice(&text[from..piece.key]);
                    serde_json::to_writer(&mut *out, &ReadingInUnit { unit: &property.unit, reading })?;
                }
            }
            from = piece.behind;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ganglion_protocols::modbus::ExceptionCode;
    use ganglion_protocols::{Clock, Property, Reason, Timestamp, Value};
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::StoredShape;

    fn any_reading() -> impl Strategy<Value = Reading> {
        let value = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Uint),
            any::<f32>().prop_map(Value::Single),
            any::<f64>().prop_map(Value::Double),
        ];
        let quality = prop_oneof![
            3 => Just(Quality::Good),
            1 => Just(Quality::Uncertain(Reason::OutOfRange)),
            1 => Just(Quality::Bad(Reason::Exception(ExceptionCode::SERVER_DEVICE_BUSY))),
        ];
        (prop::option::of(value), quality).prop_map(|(value, quality)| Reading { value, quality })
    }

    proptest! {
        #[test]
        fn the_text_is_the_same_as_that_of_the_serializers(
            properties in prop::collection::vec(("\\PC{0,8}|[\"\\\\\n]", "[a-z0-9/%\"]{0,4}", any_reading()), 0..12),
            seq: u64,
        ) {
            let named: Vec<_> = properties
                .iter()
                .map(|(name, unit, _)| NamedProperty { name: name.clone(), unit: unit.clone() })
                .collect();
            let stored = Stored {
                shape: Arc::new(StoredShape {
                    resource: "620602-9101-000007-05".parse().unwrap(),
                    domain: "water".to_owned(),
                    directory: "2026.11".to_owned(),
                    properties: named.into(),
                }),
                seq,
                t: Timestamp::from_unix_nanos(1_795_330_435_123_456_789),
                clock: Clock::default(),
                readings: properties.iter().map(|(_, _, reading)| *reading).collect(),
            };
            let view: Vec<_> = stored.shape.properties.iter().map(|p| Property { name: &p.name, unit: &p.unit }).collect();
            let shape = Shape {
                resource: stored.shape.resource,
                domain: &stored.shape.domain,
                directory: &stored.shape.directory,
                properties: &view,
            };
            let expected =
                serde_json::to_vec(&Observation { shape, seq, t: stored.t, readings: &stored.readings }).unwrap();
            let mut skeletons = Skeletons::default();
            for _ in 0..2 {
                let mut text = Vec::new();
                skeletons.write(&mut text, &stored).unwrap();
                prop_assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&expected));
            }
        }
    }
}

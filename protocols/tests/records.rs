//! The form of observations on disk, from outside.

use ganglion_protocols::bytes::{Full, Reader, Writer};
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::record::{
    Channels, Record, RecordError, ShapeId, put_gap, put_last_seq, put_mark, put_observation, put_shape,
};
use ganglion_protocols::{
    Clock, ClockSource, Cri, CriError, Gap, LossCause, Origin, Property, Quality, Reading, Reason, Shape, Timestamp,
    Value,
};
use proptest::prelude::*;

/// A record with everything it holds, to compare and to put again.
#[derive(Clone, PartialEq, Debug)]
enum Owned {
    Shape { id: ShapeId, resource: Cri, domain: String, directory: String, properties: Vec<(String, String)> },
    Observation { shape: ShapeId, seq: u64, t: Timestamp, clock: Clock, readings: Vec<Reading> },
    LastSeq { resource: Cri, seq: u64 },
    Gap(Gap),
    Mark { resource: Cri, origin: Origin, t: Timestamp },
}

impl Owned {
    fn put(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        match self {
            Self::Shape { id, resource, domain, directory, properties } => {
                let properties: Vec<_> = properties.iter().map(|(name, unit)| Property { name, unit }).collect();
                put_shape(out, *id, &Shape { resource: *resource, domain, directory, properties: &properties })
            }
            Self::Observation { shape, seq, t, clock, readings } => {
                put_observation(out, *shape, *seq, *t, *clock, readings)
            }
            Self::LastSeq { resource, seq } => put_last_seq(out, *resource, *seq),
            Self::Gap(gap) => put_gap(out, gap),
            Self::Mark { resource, origin, t } => put_mark(out, *resource, *origin, *t),
        }
    }

    fn take(bytes: &mut Reader<'_>) -> Result<Self, RecordError> {
        Record::take(bytes).map(|record| match record {
            Record::Shape(shape) => Self::Shape {
                id: shape.id,
                resource: shape.resource,
                domain: shape.domain.to_owned(),
                directory: shape.directory.to_owned(),
                properties: shape
                    .runs()
                    .flat_map(|run| {
                        let channels = run.channels.map(|Channels { first, count }| first..first + u32::from(count));
                        let names = match channels {
                            None => vec![run.name.to_owned()],
                            Some(channels) => channels.map(|channel| format!("{}.{channel}", run.name)).collect(),
                        };
                        names.into_iter().map(move |name| (name, run.unit.to_owned()))
                    })
                    .collect(),
            },
            Record::Observation(observation) => Self::Observation {
                shape: observation.shape,
                seq: observation.seq,
                t: observation.t,
                clock: observation.clock,
                readings: observation.readings().collect(),
            },
            Record::LastSeq { resource, seq } => Self::LastSeq { resource, seq },
            Record::Gap(gap) => Self::Gap(gap),
            Record::Mark { resource, origin, t } => Self::Mark { resource, origin, t },
        })
    }

    /// Puts the record into a buffer of junk and checks that nothing else was touched.
    fn bytes(&self) -> Vec<u8> {
        let mut buffer = vec![0xA5; 4 * 1024];
        let mut out = Writer::new(&mut buffer);
        self.put(&mut out).expect("it fits");
        let len = out.len();
        assert!(buffer[len..].iter().all(|byte| *byte == 0xA5), "bytes behind the record were touched");
        buffer.truncate(len);
        buffer
    }
}

fn take_whole(bytes: &[u8]) -> Result<Owned, RecordError> {
    let mut reader = Reader::new(bytes);
    let record = Owned::take(&mut reader)?;
    assert!(reader.is_empty(), "bytes are left over");
    Ok(record)
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

fn pump() -> Cri {
    "620602-9101-000007-05".parse().expect("an identifier")
}

#[test]
fn a_shape_record_is_these_bytes() {
    let record = Owned::Shape {
        id: ShapeId(300),
        resource: pump(),
        domain: "water".to_owned(),
        directory: "2026.1".to_owned(),
        properties: [("flow", "m3/h"), ("总", "1"), ("speed.7", "km/h"), ("speed.8", "km/h"), ("speed.08", "km/h")]
            .map(|(name, unit)| (name.to_owned(), unit.to_owned()))
            .to_vec(),
    };
    let bytes = hex("01  ac 02  47 e5 07 c0 59 0c 16 00 \
         05 77 61 74 65 72  06 32 30 32 36 2e 31  04 \
         04 66 6c 6f 77  04 6d 33 2f 68  00 \
         03 e6 80 bb  01 31  00 \
         05 73 70 65 65 64  04 6b 6d 2f 68  02 07 \
         08 73 70 65 65 64 2e 30 38  04 6b 6d 2f 68  00");
    assert_eq!(record.bytes(), bytes);
    assert_eq!(take_whole(&bytes), Ok(record));
}

#[test]
fn an_observation_record_is_these_bytes() {
    let good = |value| Reading { value: Some(value), quality: Quality::Good };
    let record = Owned::Observation {
        shape: ShapeId(1),
        seq: 300,
        t: Timestamp::from_unix_nanos(1_795_330_435_123_456_789),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        readings: vec![
            good(Value::Bool(false)),
            good(Value::Bool(true)),
            good(Value::Uint(u64::MAX)),
            good(Value::Int(-1)),
            good(Value::Int(i64::MIN)),
            good(Value::Single(221.4)),
            good(Value::Double(0.412)),
            Reading { value: Some(Value::Uint(5)), quality: Quality::Uncertain(Reason::OutOfRange) },
            Reading { value: None, quality: Quality::Bad(Reason::Timeout) },
            Reading {
                value: None,
                quality: Quality::Bad(Reason::Exception(ExceptionCode::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND)),
            },
        ],
    };
    let bytes = hex("02  01  ac 02  15 2b fb c7 84 4b ea 18  02  0d  0a \
         01  02  03 ff ff ff ff ff ff ff ff ff 01  04 01  04 ff ff ff ff ff ff ff ff ff 01 \
         05 66 66 5d 43  06 91 ed 7c 3f 35 5e da 3f \
         13 08 05  20 01  20 8b 02");
    assert_eq!(record.bytes(), bytes);
    assert_eq!(take_whole(&bytes), Ok(record));
}

#[test]
fn a_clock_whose_error_nobody_knows_is_a_zero() {
    let record = Owned::Observation {
        shape: ShapeId(0),
        seq: 1,
        t: Timestamp::from_unix_nanos(-1),
        clock: Clock::default(),
        readings: vec![],
    };
    let bytes = hex("02  00  01  ff ff ff ff ff ff ff ff  00  00  00");
    assert_eq!(record.bytes(), bytes);
    assert_eq!(take_whole(&bytes), Ok(record));
}

#[test]
fn a_last_number_record_is_these_bytes() {
    let record = Owned::LastSeq { resource: pump(), seq: 128 };
    let bytes = hex("03  47 e5 07 c0 59 0c 16 00  80 01");
    assert_eq!(record.bytes(), bytes);
    assert_eq!(take_whole(&bytes), Ok(record));
}

#[test]
fn a_gap_record_is_these_bytes() {
    let at = |second: i64| Timestamp::from_unix_nanos(second * 1_000_000_000);
    let gap = Gap::new(pump(), (300, 427), 100, (at(1), at(2)), LossCause::Quota).expect("a gap");
    let bytes = hex("04  47 e5 07 c0 59 0c 16 00  ac 02  7f  64  00 ca 9a 3b 00 00 00 00  00 94 35 77 00 00 00 00  01");
    assert_eq!(Owned::Gap(gap).bytes(), bytes);
    assert_eq!(take_whole(&bytes), Ok(Owned::Gap(gap)));
}

#[test]
fn a_mark_record_is_these_bytes() {
    let t = Timestamp::from_unix_nanos(0x0102_0304_0506_0708);
    let record = Owned::Mark { resource: pump(), origin: Origin { epoch: 300, seq: u32::MAX }, t };
    let bytes = hex("05  47 e5 07 c0 59 0c 16 00  ac 02  ff ff ff ff 0f  08 07 06 05 04 03 02 01");
    assert_eq!(record.bytes(), bytes);
    assert_eq!(take_whole(&bytes), Ok(record));
}

#[test]
fn a_mark_beyond_32_bits_is_none() {
    for bytes in ["05  47 e5 07 c0 59 0c 16 00  80 80 80 80 10  01", "05  47 e5 07 c0 59 0c 16 00  01  80 80 80 80 10"]
    {
        assert_eq!(take_whole(&hex(bytes)), Err(RecordError::Origin { got: 1 << 32 }), "{bytes}");
    }
}

#[test]
fn causes_have_these_codes_and_names() {
    for (cause, code, name) in [
        (LossCause::NodeFull, 0x0C, "node-full"),
        (LossCause::NodeRestart, 0x0D, "node-restart"),
        (LossCause::Undated, 0x0E, "undated"),
        (LossCause::NodeDamaged, 0x0F, "node-damaged"),
    ] {
        assert_eq!((cause.code(), LossCause::from_code(code)), (code, cause));
        assert_eq!(cause.to_string(), name);
    }
    assert_eq!(LossCause::from_code(0x10).to_string(), "other-10");
}

#[test]
fn a_gap_of_nothing_or_of_more_than_it_spans_is_none() {
    let span = (Timestamp::default(), Timestamp::default());
    for (first, last, count) in [(0, 5, 1), (5, 4, 1), (1, 5, 0), (1, 5, 6), (0, u64::MAX, 1)] {
        assert_eq!(Gap::new(pump(), (first, last), count, span, LossCause::Damaged), None, "{first}..={last}: {count}");
    }
    assert!(Gap::whole(pump(), (1, u64::MAX), span, LossCause::Damaged).is_some());
    let refused = hex("04  47 e5 07 c0 59 0c 16 00  05 01 03  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  01");
    assert_eq!(take_whole(&refused), Err(RecordError::Gap { first: 5, count: 3 }));
}

#[test]
fn gaps_of_one_resource_and_cause_become_one_and_overlaps_count_once() {
    let at = |second: i64| Timestamp::from_unix_nanos(second * 1_000_000_000);
    let gap =
        |first, last, from, to, cause| Gap::whole(pump(), (first, last), (at(from), at(to)), cause).expect("a gap");
    let (early, late) = (gap(5, 9, 5, 9, LossCause::Quota), gap(20, 21, 20, 21, LossCause::Quota));
    let both = early.merged(&late).expect("one");
    assert_eq!((both.first(), both.last(), both.count(), both.span()), (5, 21, 7, (at(5), at(21))));
    let overlap = early.merged(&gap(8, 12, 8, 12, LossCause::Quota)).expect("one");
    assert_eq!((overlap.first(), overlap.last(), overlap.count()), (5, 12, 8));
    assert_eq!(early.merged(&early), Some(early));
    assert_eq!(early.merged(&gap(10, 11, 10, 11, LossCause::Damaged)), None, "another cause");
}

#[test]
fn an_error_names_what_is_wrong_with_the_bytes() {
    for (bytes, error, message) in [
        ("", RecordError::Truncated, "the record ends early"),
        ("06", RecordError::Kind { got: 6 }, "record kind 0x06 is unknown"),
        ("05 47 e5 07 c0 59 0c 16 00 01", RecordError::Truncated, "the record ends early"),
        ("00", RecordError::Kind { got: 0 }, "record kind 0x00 is unknown"),
        (
            "03 00 00 00 00 00 00 00 80 01",
            RecordError::Resource(CriError::Namespace { got: 512 }),
            "resource: namespace 512 is not assigned, only 0 is",
        ),
        ("02 80 80 80 80 10 01", RecordError::ShapeId { got: 1 << 32 }, "shape number 4294967296 is above 32 bits"),
        ("02 00 01 00 00 00 00 00 00 00 00 00 00 01 07", RecordError::Tag { got: 0x07 }, "reading tag 0x07 is unknown"),
        ("02 00 01 00 00 00 00 00 00 00 00 00 00 01 30", RecordError::Tag { got: 0x30 }, "reading tag 0x30 is unknown"),
        // A count that no memory could hold ends with the bytes.
        ("02 00 01 00 00 00 00 00 00 00 00 00 00 ff ff ff ff ff ff ff ff ff 01", RecordError::Truncated, ""),
        // A number of more than 64 bits, and a text that is no UTF-8.
        ("03 47 e5 07 c0 59 0c 16 00 ff ff ff ff ff ff ff ff ff 02", RecordError::Truncated, ""),
        ("03 47 e5 07 c0 59 0c 16 00 80 80 80 80 80 80 80 80 80 80 00", RecordError::Truncated, ""),
        ("01 00 47 e5 07 c0 59 0c 16 00 01 ff 00 00", RecordError::Truncated, ""),
    ] {
        assert_eq!(take_whole(&hex(bytes)), Err(error), "{bytes}");
        if !message.is_empty() {
            assert_eq!(error.to_string(), message);
        }
    }
}

#[test]
fn a_text_of_more_than_255_bytes_does_not_fit() {
    let shape = |name: &str| Owned::Shape {
        id: ShapeId(1),
        resource: pump(),
        domain: "water".to_owned(),
        directory: "1".to_owned(),
        properties: vec![(name.to_owned(), "1".to_owned())],
    };
    let longest = shape(&"x".repeat(255));
    assert_eq!(take_whole(&longest.bytes()), Ok(longest));
    let mut buffer = [0; 1024];
    assert_eq!(shape(&"x".repeat(256)).put(&mut Writer::new(&mut buffer)), Err(Full));
}

fn edges_u64() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u32..64).prop_map(|shift| 1 << shift),
        (0_u32..64).prop_map(|shift| (1 << shift) - 1),
        Just(u64::MAX)
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let single = prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO;
    let double = prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO;
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        edges_u64().prop_map(Value::Uint),
        edges_u64().prop_map(|bits| Value::Int(bits.cast_signed())),
        prop_oneof![single, Just(f32::MAX), Just(f32::MIN), Just(f32::MIN_POSITIVE)].prop_map(Value::Single),
        prop_oneof![double, Just(f64::MAX), Just(f64::MIN), Just(f64::MIN_POSITIVE)].prop_map(Value::Double),
    ]
}

fn any_reading() -> impl Strategy<Value = Reading> {
    let reason = || prop_oneof![0_u16..0x210, any::<u16>()].prop_map(Reason::from_code);
    let quality =
        prop_oneof![Just(Quality::Good), reason().prop_map(Quality::Uncertain), reason().prop_map(Quality::Bad)];
    (prop::option::of(any_value()), quality).prop_map(|(value, quality)| Reading { value, quality })
}

fn any_record() -> impl Strategy<Value = Owned> {
    let cri = || {
        (110_000_u64..=919_999, 1_u64..=99, 1_u64..=99, 0_u64..=999_999).prop_map(|(division, major, minor, serial)| {
            Cri::from_bits(((division * 100 + major) * 100 + minor) * 1_000_000 + serial).expect("in range")
        })
    };
    let id = || prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)].prop_map(ShapeId);
    let clock = (0_u8..4, prop::option::of(prop_oneof![any::<u32>(), Just(u32::MAX)]))
        .prop_map(|(source, error_ms)| Clock { source: ClockSource::from_code(source), error_ms });
    let text = || "\\PC{0,20}";
    let name = || prop_oneof!["\\PC{0,20}", "[ab]?\\.0?[0-3]", Just("a.4294967295".to_owned())];
    prop_oneof![
        (id(), cri(), text(), text(), prop::collection::vec((name(), prop_oneof![text(), Just("1".to_owned())]), 0..9))
            .prop_map(|(id, resource, domain, directory, properties)| Owned::Shape {
                id,
                resource,
                domain,
                directory,
                properties
            }),
        (
            id(),
            edges_u64(),
            edges_u64().prop_map(|bits| Timestamp::from_unix_nanos(bits.cast_signed())),
            clock,
            prop::collection::vec(any_reading(), 0..40)
        )
            .prop_map(|(shape, seq, t, clock, readings)| Owned::Observation { shape, seq, t, clock, readings }),
        (cri(), edges_u64()).prop_map(|(resource, seq)| Owned::LastSeq { resource, seq }),
        (cri(), any::<(u32, u32, i64)>()).prop_map(|(resource, (epoch, seq, t))| Owned::Mark {
            resource,
            origin: Origin { epoch, seq },
            t: Timestamp::from_unix_nanos(t)
        }),
        (cri(), edges_u64(), edges_u64(), edges_u64(), any::<(i64, i64)>(), any::<u8>()).prop_map(
            |(resource, first, more, count, (from, to), cause)| {
                let first = first.max(1);
                let last = first.saturating_add(more);
                let count = (count % (last - first).saturating_add(1)).max(1);
                let span = (Timestamp::from_unix_nanos(from), Timestamp::from_unix_nanos(to));
                let cause = LossCause::from_code(cause);
                Owned::Gap(Gap::new(resource, (first, last), count, span, cause).expect("in range"))
            }
        ),
    ]
}

/// Checks that bytes which hold a record hold one that can be put and taken again, whatever they are.
fn check_any_bytes(bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut reader = Reader::new(bytes);
    if let Ok(record) = Owned::take(&mut reader) {
        let again = record.bytes();
        prop_assert!(again.len() <= bytes.len(), "the canonical form is never longer");
        // Compared as text: a float that is no number does not equal itself.
        prop_assert_eq!(format!("{:?}", take_whole(&again)), format!("{:?}", Ok::<_, RecordError>(record)));
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_record_that_was_put_is_taken_whole(record in any_record()) {
        prop_assert_eq!(take_whole(&record.bytes()), Ok(record));
    }

    #[test]
    fn records_in_a_row_are_taken_one_by_one(records in prop::collection::vec(any_record(), 0..5)) {
        let bytes: Vec<u8> = records.iter().flat_map(Owned::bytes).collect();
        let mut reader = Reader::new(&bytes);
        for record in records {
            prop_assert_eq!(Owned::take(&mut reader), Ok(record));
        }
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn a_record_cut_short_anywhere_is_refused(record in any_record()) {
        let bytes = record.bytes();
        for len in 0..bytes.len() {
            prop_assert_eq!(Owned::take(&mut Reader::new(&bytes[..len])), Err(RecordError::Truncated), "{} bytes", len);
        }
    }

    #[test]
    fn a_buffer_that_is_too_short_is_full_at_every_length(record in any_record()) {
        let len = record.bytes().len();
        let mut buffer = vec![0xA5; len];
        for short in 0..len {
            prop_assert_eq!(record.put(&mut Writer::new(&mut buffer[..short])), Err(Full), "{} bytes", short);
        }
        prop_assert_eq!(record.put(&mut Writer::new(&mut buffer)), Ok(()));
    }

    #[test]
    fn a_record_with_a_damaged_byte_is_refused_or_is_another_record(
        record in any_record(),
        place in any::<prop::sample::Index>(),
        flip in 1_u8..=255,
    ) {
        let mut bytes = record.bytes();
        let place = place.index(bytes.len());
        bytes[place] ^= flip;
        check_any_bytes(&bytes)?;
    }

    #[test]
    fn any_bytes_are_refused_or_are_a_record(kind in 0_u8..6, bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        check_any_bytes(&bytes)?;
        // With a kind that exists and an identifier in place, random bytes come further.
        let mut deep = vec![kind];
        if kind == 1 {
            deep.push(0);
        }
        deep.extend(pump().to_bits().to_le_bytes());
        deep.extend(&bytes);
        check_any_bytes(&deep)?;
    }
}

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::{BitField, ExceptionCode, Table, UnitId, ValueType, WordOrder};
use ganglion_protocols::{Class, Clock, Cri, Division, Serial, Timestamp};

use super::*;
use crate::site::{BrokerSettings, BufferSettings, Device, DeviceId, NamedProperty, Stream, StreamId};

fn cri(serial: u32) -> Cri {
    Cri::new(Division::new(330_502).unwrap(), Class::new(9601).unwrap(), Serial::new(serial).unwrap())
}

fn point(request: usize, offset: usize, value_type: ValueType) -> Point {
    Point {
        part: 0,
        place: 0,
        request,
        offset,
        value_type,
        word_order: WordOrder::Abcd,
        scale: None,
        missing: None,
        range: None,
    }
}

/// A site of one device whose points each fill one property of one stream, or of the stream they name.
fn site(points: Vec<Point>, streams: usize) -> Site {
    let properties = |stream| {
        let count = points.iter().filter(|point| point.part == stream).count();
        (0..count).map(|n| NamedProperty { name: format!("p{n}"), unit: "1".to_owned() }).collect()
    };
    Site {
        gateway: cri(1),
        directory: "test".to_owned(),
        data_dir: PathBuf::new(),
        buses: Vec::new(),
        streams: (0..streams)
            .map(|n| Stream {
                resource: cri(u32::try_from(n).unwrap()),
                domain: "water".to_owned(),
                properties: properties(n),
            })
            .collect(),
        devices: vec![Device {
            name: "d".to_owned(),
            unit: UnitId(1),
            poll_interval: Duration::from_secs(1),
            requests: vec![ReadRequest { table: Table::HoldingRegister, address: 0, count: 4 }],
            points: points.into(),
            streams: (0..streams).map(StreamId).collect(),
        }],
        buffer: BufferSettings { max_bytes: 0, segment_bytes: 0, commit_interval: Duration::ZERO, commit_bytes: 0 },
        broker: BrokerSettings {
            host: String::new(),
            port: 0,
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            client_id: String::new(),
            keep_alive: Duration::ZERO,
            retry: (Duration::ZERO, Duration::ZERO),
            max_payload: 0,
            user_properties: BTreeMap::new(),
        },
    }
}

fn sample(answers: Vec<Result<Vec<u16>, Reason>>) -> Sample {
    Sample { device: DeviceId(0), t: Timestamp::from_unix_nanos(7), clock: Clock::default(), answers }
}

fn only_reading(point: Point, answer: Result<Vec<u16>, Reason>) -> Reading {
    let site = site(vec![point], 1);
    let observations = observe(&site, &sample(vec![answer]));
    assert_eq!(observations.len(), 1);
    observations[0].readings[0]
}

#[test]
fn a_decimal_scale_gives_the_digits_a_person_expects() {
    let scale = Some(Scale { multiply: 1.0, divide: 1000.0, offset: 0.0 });
    let point = Point { scale, ..point(0, 1, ValueType::U16) };
    let reading = only_reading(point, Ok(vec![0, 412, 0, 0]));
    assert_eq!(reading.value, Some(Value::Double(0.412)));
    assert_eq!(reading.quality, Quality::Good);
}

#[test]
fn an_unscaled_counter_keeps_all_its_64_bits() {
    let reading = only_reading(point(0, 0, ValueType::U64), Ok(vec![0xFFFF, 0xFFFF, 0xFFFF, 0xFFFD]));
    assert_eq!(reading.value, Some(Value::Uint(u64::MAX - 2)));
}

#[test]
fn a_physically_impossible_value_is_shown_and_called_bad() {
    let point = Point { range: Some((0.0, 2.5)), ..point(0, 0, ValueType::I16) };
    let reading = only_reading(point, Ok(vec![0xFFFF, 0, 0, 0]));
    assert_eq!(reading.value, Some(Value::Int(-1)));
    assert_eq!(reading.quality, Quality::Bad(Reason::OutOfRange));
}

#[test]
fn the_limits_of_the_range_are_possible_values() {
    let point = Point { range: Some((0.0, 100.0)), ..point(0, 0, ValueType::U16) };
    assert_eq!(only_reading(point.clone(), Ok(vec![0, 0, 0, 0])).quality, Quality::Good);
    assert_eq!(only_reading(point, Ok(vec![100, 0, 0, 0])).quality, Quality::Good);
}

#[test]
fn the_marker_for_no_value_is_missing_even_where_it_is_no_value_of_the_type() {
    let point = Point { missing: Some(0xFFFF), ..point(0, 0, ValueType::Bcd16) };
    let reading = only_reading(point.clone(), Ok(vec![0xFFFF, 0, 0, 0]));
    assert_eq!(reading, Reading { value: None, quality: Quality::Bad(Reason::Missing) });
    let reading = only_reading(point, Ok(vec![0xFFFE, 0, 0, 0]));
    assert_eq!(reading, Reading { value: None, quality: Quality::Bad(Reason::NotAValue) });
}

#[test]
fn a_request_without_an_answer_makes_only_its_own_points_bad() {
    let mut second = point(1, 0, ValueType::U16);
    second.place = 1;
    let site = site(vec![point(0, 0, ValueType::U16), second], 1);
    let exception = Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS);
    let observations = observe(&site, &sample(vec![Ok(vec![5, 0, 0, 0]), Err(exception)]));
    assert_eq!(observations[0].readings[0], Reading { value: Some(Value::Uint(5)), quality: Quality::Good });
    assert_eq!(observations[0].readings[1], Reading { value: None, quality: Quality::Bad(exception) });
}

#[test]
fn a_short_answer_never_lends_a_value_from_elsewhere() {
    let reading = only_reading(point(0, 3, ValueType::U32), Ok(vec![1, 2, 3, 4]));
    assert_eq!(reading, Reading { value: None, quality: Quality::Bad(Reason::WrongLength) });
}

#[test]
fn each_resource_of_a_device_gets_its_own_observation_of_the_same_time() {
    let mut other = point(0, 1, ValueType::U16);
    other.part = 1;
    let site = site(vec![point(0, 0, ValueType::U16), other], 2);
    let observations = observe(&site, &sample(vec![Ok(vec![10, 20, 0, 0])]));
    let seen: Vec<_> = observations.iter().map(|o| (o.stream, o.t.unix_nanos(), o.readings[0].value)).collect();
    assert_eq!(seen, [(StreamId(0), 7, Some(Value::Uint(10))), (StreamId(1), 7, Some(Value::Uint(20)))]);
}

#[test]
fn a_marker_of_a_bit_field_is_looked_for_in_the_field_and_nowhere_else() {
    let field = ValueType::Bits(BitField::new(4, 4).unwrap());
    let point = Point { missing: Some(15), ..point(0, 0, field) };
    let reading = only_reading(point.clone(), Ok(vec![0x12F4, 0, 0, 0]));
    assert_eq!(reading, Reading { value: None, quality: Quality::Bad(Reason::Missing) });
    let reading = only_reading(point, Ok(vec![0xFF3F, 0, 0, 0]));
    assert_eq!(reading, Reading { value: Some(Value::Uint(3)), quality: Quality::Good });
}

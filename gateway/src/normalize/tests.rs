use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::{BitField, ExceptionCode, Table, UnitId, ValueType, WordOrder};
use ganglion_protocols::{Class, Clock, Cri, Division, Serial, Timestamp};

use super::*;
use crate::site::{
    BrokerSettings, BufferSettings, Device, DeviceId, DeviceLimits, MqttVersion, NamedProperty, Stream, StreamId, Term,
    Want, WhenFull,
};

pub(super) fn cri(serial: u32) -> Cri {
    Cri::new(Division::new(330_502).unwrap(), Class::new(9601).unwrap(), Serial::new(serial).unwrap())
}

/// A point of a want, both by their places.
pub(super) fn point(want: usize, first: usize, value_type: ValueType) -> Point {
    Point {
        part: 0,
        place: 0,
        want,
        first,
        value_type,
        word_order: WordOrder::Abcd,
        terms: Vec::new(),
        scale: None,
        missing: None,
        range: None,
        deadband: None,
    }
}

/// A site of one device with two wants of four registers, whose points each fill one property of one stream, or of the stream they name.
pub(super) fn site(points: Vec<Point>, streams: usize) -> Site {
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
            template: "t".to_owned(),
            unit: UnitId(1),
            request_gap: Duration::ZERO,
            limits: Arc::new(DeviceLimits { max_registers: 125, max_bits: 2000, bridge: 0, forbidden: Vec::new() }),
            identity: None,
            groups: vec![Group {
                interval: Duration::from_secs(1),
                wants: [want(0, 0), want(100, 4)].into(),
                points: points.into(),
                streams: (0..streams).map(StreamId).collect(),
                heartbeat: None,
                alarms: Vec::new(),
            }],
            reachable: Vec::new(),
        }],
        event_streams: Vec::new(),
        buffer: NO_BUFFER,
        event_buffer: NO_BUFFER,
        broker: BrokerSettings {
            host: String::new(),
            port: 0,
            alternatives: Vec::new(),
            fail_back: Duration::from_secs(1),
            mqtt: MqttVersion::V5,
            ca: PathBuf::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            certificate_check: Duration::from_secs(1),
            client_id: String::new(),
            keep_alive: Duration::ZERO,
            retry: (Duration::ZERO, Duration::ZERO),
            max_payload: 0,
            backfill_percent: 50,
            backfill_max_per_s: 0,
            user_properties: BTreeMap::new(),
        },
    }
}

fn want(address: u16, offset: usize) -> Want {
    Want { read: ReadRequest { table: Table::HoldingRegister, address, count: 4 }, offset }
}

/// A sample whose answers are of four registers each.
pub(super) fn sample(answers: Vec<Result<Vec<u16>, Reason>>) -> Sample {
    let states = answers.iter().map(|answer| answer.as_ref().err().copied()).collect();
    let words = answers.into_iter().flat_map(|answer| answer.unwrap_or(vec![0xDEAD; 4])).collect();
    let t = Timestamp::from_unix_nanos(7);
    Sample { device: DeviceId(0), group: 0, t, clock: Clock::default(), words, states, origin: None }
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
fn a_value_that_leaves_its_want_never_takes_registers_from_the_next() {
    let site = site(vec![point(0, 3, ValueType::U32)], 1);
    let observations = observe(&site, &sample(vec![Ok(vec![1, 2, 3, 4]), Ok(vec![5, 6, 7, 8])]));
    let wrong = Reading { value: None, quality: Quality::Bad(Reason::WrongLength) };
    assert_eq!(observations[0].readings[0], wrong);
    let mut short = sample(vec![Ok(vec![1, 2, 3, 4])]);
    short.words.truncate(1);
    assert_eq!(observe(&self::site(vec![point(0, 1, ValueType::U16)], 1), &short)[0].readings[0], wrong);
    short.states.clear();
    assert_eq!(observe(&self::site(vec![point(0, 0, ValueType::U16)], 1), &short)[0].readings[0], wrong);
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

fn term(role: Role, want: usize, first: usize, value_type: ValueType) -> Term {
    Term { role, want, first, value_type, word_order: WordOrder::Abcd }
}

#[test]
fn a_decimal_exponent_in_its_own_register_gives_the_digits_a_person_expects() {
    let point = Point { terms: vec![term(Role::Exponent, 0, 1, ValueType::I16)], ..point(0, 0, ValueType::U16) };
    for (exponent, expected) in [(0xFFFD_u16, 0.412), (0, 412.0), (2, 41_200.0), (0xFFEA, 412e-22)] {
        let reading = only_reading(point.clone(), Ok(vec![412, exponent, 0, 0]));
        assert_eq!(reading, Reading { value: Some(Value::Double(expected)), quality: Quality::Good }, "{exponent:04x}");
    }
    let thousandths = Some(Scale { multiply: 1.0, divide: 1000.0, offset: 0.0 });
    let reading = only_reading(Point { scale: thousandths, ..point }, Ok(vec![7, 1, 0, 0]));
    assert_eq!(reading.value, Some(Value::Double(0.07)));
}

#[test]
fn an_exponent_that_no_device_means_makes_no_value() {
    for (value_type, registers) in [
        (ValueType::I16, [23, 0]),
        (ValueType::I16, [0x8000, 0]),
        (ValueType::U16, [0xFFFF, 0]),
        (ValueType::F32, [0x3FC0, 0]),
        (ValueType::F32, [0x7FC0, 0]),
    ] {
        let point = Point { terms: vec![term(Role::Exponent, 0, 1, value_type)], ..point(0, 0, ValueType::U16) };
        let reading = only_reading(point, Ok(vec![412, registers[0], registers[1], 0]));
        let wrong = Reading { value: None, quality: Quality::Bad(Reason::NotAValue) };
        assert_eq!(reading, wrong, "{value_type:?} {registers:?}");
    }
}

#[test]
fn a_value_of_several_registers_is_the_sum_of_its_parts_times_factors_and_exponents() {
    let terms = vec![
        term(Role::Exponent, 1, 0, ValueType::I16),
        term(Role::Factor, 1, 1, ValueType::U16),
        term(Role::Part, 0, 2, ValueType::F32),
    ];
    let site = site(vec![Point { terms, ..point(0, 0, ValueType::I32) }], 1);
    let (first, second) = (vec![0xFFFF, 0xFFFE, 0xBF00, 0], vec![0xFFFF, 80, 0, 0]);
    let reading = observe(&site, &sample(vec![Ok(first.clone()), Ok(second)]))[0].readings[0];
    assert_eq!(reading, Reading { value: Some(Value::Double(-20.0)), quality: Quality::Good }, "(-2 - 0.5) * 80 / 10");
    let reading = observe(&site, &sample(vec![Ok(first), Err(Reason::Timeout)]))[0].readings[0];
    assert_eq!(reading, Reading { value: None, quality: Quality::Bad(Reason::Timeout) });
}

#[test]
fn a_device_that_reports_on_change_is_silent_until_a_value_leaves_its_deadband_or_the_heartbeat_is_due() {
    let mut second = point(0, 1, ValueType::U16);
    second.place = 1;
    let first = Point { deadband: Some(Deadband { absolute: 5.0, percent: 0.0 }), ..point(0, 0, ValueType::U16) };
    let mut site = site(vec![first, second], 1);
    site.devices[0].groups[0].heartbeat = Some(Duration::from_secs(60));
    let mut reports = Reports::new(&site);
    let mut worth = |seconds, answer: Result<Vec<u16>, Reason>| {
        let observations = observe(&site, &sample(vec![answer]));
        reports.worth(Duration::from_secs(seconds), &observations[0])
    };
    assert!(worth(1, Ok(vec![100, 7, 0, 0])), "the first");
    assert!(!worth(2, Ok(vec![105, 7, 9, 9])), "within the deadband, and registers that are no point");
    assert!(worth(3, Ok(vec![106, 7, 0, 0])), "6 from what was reported");
    assert!(worth(4, Ok(vec![106, 8, 0, 0])), "a point without a deadband");
    assert!(!worth(63, Ok(vec![106, 8, 0, 0])));
    assert!(worth(64, Ok(vec![106, 8, 0, 0])), "the heartbeat");
    assert!(worth(65, Err(Reason::Timeout)), "another quality");
    assert!(!worth(66, Err(Reason::Timeout)));
}

#[test]
fn a_device_without_a_heartbeat_reports_every_poll() {
    let site = site(vec![point(0, 0, ValueType::U16)], 1);
    let mut reports = Reports::new(&site);
    let observations = observe(&site, &sample(vec![Ok(vec![1, 0, 0, 0])]));
    assert!((0..3).all(|_| reports.worth(Duration::ZERO, &observations[0])));
}

const NO_BUFFER: BufferSettings = BufferSettings {
    max_bytes: 0,
    segment_bytes: 0,
    commit_interval: Duration::ZERO,
    commit_bytes: 0,
    when_full: WhenFull::EvictOldest,
};

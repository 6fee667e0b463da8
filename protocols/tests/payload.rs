//! What the city brain receives, from outside: envelope, times, reasons and topics.

use std::collections::HashSet;

use ganglion_protocols::envelope::{Envelope, GapEnvelope};
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::topic::{GatewaySubject, GatewayTopic, ResourceSubject, ResourceTopic};
use ganglion_protocols::{
    Clock, ClockSource, Cri, Gap, LossCause, Observation, Property, Quality, Reading, Reason, Shape, Timestamp, Value,
};
use proptest::prelude::*;

fn cri(text: &str) -> Cri {
    text.parse().expect("an identifier")
}

fn json(value: impl serde::Serialize) -> String {
    serde_json::to_string(&value).expect("it has a JSON form")
}

#[test]
fn an_envelope_is_this_text() {
    let shape = Shape {
        resource: cri("330502-0103-000123-33"),
        domain: "water",
        directory: "2026.1",
        properties: &[
            Property { name: "voltage", unit: "V" },
            Property { name: "pressure", unit: "kPa" },
            Property { name: "energy", unit: "W.h" },
            Property { name: "pump", unit: "1" },
        ],
    };
    let first = [
        Reading { value: Some(Value::Single(221.4)), quality: Quality::Good },
        Reading { value: Some(Value::Double(0.412)), quality: Quality::Uncertain(Reason::OutOfRange) },
        Reading { value: Some(Value::Uint(u64::MAX)), quality: Quality::Good },
        Reading { value: Some(Value::Bool(true)), quality: Quality::Good },
    ];
    let second = [Reading { value: None, quality: Quality::Bad(Reason::Exception(ExceptionCode::new(0x0B))) }; 4];
    let envelope = Envelope {
        gateway: cri("330502-9101-000001-31"),
        epoch: 0x1D,
        directory: "2026.1",
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        observations: &[
            Observation { shape, seq: 41, t: Timestamp::from_unix_nanos(1_795_330_435_123_456_789), readings: &first },
            Observation { shape, seq: 42, t: Timestamp::from_unix_nanos(1_795_330_436_000_000_000), readings: &second },
        ],
    };
    let expected = concat!(
        r#"{"v":1,"gw":"330502-9101-000001-31","epoch":"000000000000001d","dir":"2026.1","#,
        r#""clock":{"src":"ntp","err_ms":12},"obs":["#,
        r#"{"id":"330502-0103-000123-33","seq":41,"t":"2026-11-22T06:53:55.123Z","p":{"#,
        r#""voltage":{"v":221.4,"u":"V","q":"good"},"#,
        r#""pressure":{"v":0.412,"u":"kPa","q":"uncertain","r":"out-of-range"},"#,
        r#""energy":{"v":18446744073709551615,"u":"W.h","q":"good"},"#,
        r#""pump":{"v":true,"u":"1","q":"good"}}},"#,
        r#"{"id":"330502-0103-000123-33","seq":42,"t":"2026-11-22T06:53:56.000Z","p":{"#,
        r#""voltage":{"v":null,"u":"V","q":"bad","r":"exception-0b"},"#,
        r#""pressure":{"v":null,"u":"kPa","q":"bad","r":"exception-0b"},"#,
        r#""energy":{"v":null,"u":"W.h","q":"bad","r":"exception-0b"},"#,
        r#""pump":{"v":null,"u":"1","q":"bad","r":"exception-0b"}}}]}"#,
    );
    assert_eq!(json(envelope), expected);
}

#[test]
fn an_envelope_without_observations_and_with_an_unknown_clock_is_this_text() {
    let envelope = Envelope {
        gateway: cri("330502-9101-000001-31"),
        epoch: u64::MAX,
        directory: "",
        clock: Clock::default(),
        observations: &[],
    };
    let expected =
        r#"{"v":1,"gw":"330502-9101-000001-31","epoch":"ffffffffffffffff","dir":"","clock":{"src":"none"},"obs":[]}"#;
    assert_eq!(json(envelope), expected);
}

#[test]
fn a_value_is_written_with_the_digits_it_has() {
    for (value, text) in [
        (Value::Bool(false), "false"),
        (Value::Int(i64::MIN), "-9223372036854775808"),
        (Value::Uint(u64::MAX), "18446744073709551615"),
        (Value::Single(221.4), "221.4"),
        (Value::Single(0.1), "0.1"),
        (Value::Single(5.0), "5.0"),
        (Value::Single(-0.0), "-0.0"),
        (Value::Double(0.1), "0.1"),
        (Value::Double(1e300), "1e+300"),
    ] {
        assert_eq!(json(value), text);
    }
}

#[test]
fn every_clock_source_has_its_name_and_its_code() {
    for (source, name, code) in [
        (ClockSource::None, "none", 0),
        (ClockSource::Gnss, "gnss", 1),
        (ClockSource::Ntp, "ntp", 2),
        (ClockSource::Rtc, "rtc", 3),
    ] {
        assert_eq!((source.as_str(), source.code()), (name, code));
        assert_eq!(ClockSource::from_code(code), source);
        assert_eq!(json(Clock { source, error_ms: Some(0) }), format!(r#"{{"src":"{name}","err_ms":0}}"#));
    }
    assert!((4..=255).all(|code| ClockSource::from_code(code) == ClockSource::None));
}

#[test]
fn a_time_is_written_in_utc_with_milliseconds_cut_off() {
    for (nanos, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (1, "1970-01-01T00:00:00.000Z"),
        (999_999, "1970-01-01T00:00:00.000Z"),
        (1_000_000, "1970-01-01T00:00:00.001Z"),
        (999_999_999, "1970-01-01T00:00:00.999Z"),
        (1_795_330_435_123_456_789, "2026-11-22T06:53:55.123Z"),
        (1_795_330_435_000_000_000, "2026-11-22T06:53:55.000Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
        (i64::MAX, "2262-04-11T23:47:16.854Z"),
        // Before 1970 too, cutting off leads back in time.
        (-1, "1969-12-31T23:59:59.999Z"),
        (-1_000_000, "1969-12-31T23:59:59.999Z"),
        (-1_000_001, "1969-12-31T23:59:59.998Z"),
        (-1_000_000_000, "1969-12-31T23:59:59.000Z"),
        (i64::MIN, "1677-09-21T00:12:43.145Z"),
    ] {
        let t = Timestamp::from_unix_nanos(nanos);
        assert_eq!(t.to_string(), text, "{nanos}");
        assert_eq!(json(t), format!("\"{text}\""));
        assert_eq!(t.unix_nanos(), nanos);
    }
}

#[test]
fn every_reason_has_its_code_and_its_text() {
    for (reason, code, text) in [
        (Reason::Timeout, 0x01, "timeout"),
        (Reason::Disconnected, 0x02, "disconnected"),
        (Reason::Malformed, 0x03, "malformed"),
        (Reason::WrongReply, 0x04, "wrong-reply"),
        (Reason::WrongLength, 0x05, "wrong-length"),
        (Reason::Missing, 0x06, "missing"),
        (Reason::NotAValue, 0x07, "not-a-value"),
        (Reason::OutOfRange, 0x08, "out-of-range"),
        (Reason::WrongDevice, 0x09, "wrong-device"),
        (Reason::BrokenWire, 0x0A, "broken-wire"),
        (Reason::SensorOverRange, 0x0B, "sensor-over-range"),
        (Reason::SensorUnderRange, 0x0C, "sensor-under-range"),
        (Reason::SensorSilent, 0x0D, "sensor-silent"),
        (Reason::SensorGarbled, 0x0E, "sensor-garbled"),
        (Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS), 0x102, "exception-02"),
        (Reason::Exception(ExceptionCode::new(0x54)), 0x154, "exception-54"),
        (Reason::Exception(ExceptionCode::new(0)), 0x100, "exception-00"),
        (Reason::Exception(ExceptionCode::new(0xFF)), 0x1FF, "exception-ff"),
    ] {
        assert_eq!(reason.code(), code);
        assert_eq!(Reason::from_code(code), reason);
        assert_eq!(reason.to_string(), text);
    }
    for (code, text) in [(0x00, "other-00"), (0x0F, "other-0f"), (0x200, "other-200"), (0xFFFF, "other-ffff")] {
        assert_eq!(Reason::from_code(code).to_string(), text);
    }
}

#[test]
fn no_two_reasons_share_a_code_or_a_text() {
    let all: Vec<Reason> = (0..=u16::MAX).map(Reason::from_code).collect();
    assert!(all.iter().map(|reason| reason.code()).eq(0..=u16::MAX));
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    assert_eq!(all.iter().map(Reason::to_string).collect::<HashSet<_>>().len(), all.len());
}

#[test]
fn a_quality_has_its_name_and_its_reason() {
    for (quality, name, reason) in [
        (Quality::Good, "good", None),
        (Quality::Uncertain(Reason::OutOfRange), "uncertain", Some(Reason::OutOfRange)),
        (Quality::Bad(Reason::Timeout), "bad", Some(Reason::Timeout)),
    ] {
        assert_eq!((quality.as_str(), quality.reason()), (name, reason));
    }
}

#[test]
fn topics_are_these_texts() {
    let of_resource =
        |about| ResourceTopic { resource: cri("330902-0310-000004-95"), domain: "drainage", about }.to_string();
    assert_eq!(of_resource(ResourceSubject::Observations), "city/v1/330902/drainage/0310/000004/obs");
    assert_eq!(of_resource(ResourceSubject::Events), "city/v1/330902/drainage/0310/000004/event");
    let of_gateway = |about| GatewayTopic { gateway: cri("330502-9101-000001-31"), about }.to_string();
    assert_eq!(of_gateway(GatewaySubject::Status), "city/v1/330502/gateway/000001/status");
    assert_eq!(of_gateway(GatewaySubject::Backfill), "city/v1/330502/gateway/000001/backfill");
    assert_eq!(of_gateway(GatewaySubject::Gap), "city/v1/330502/gateway/000001/gap");
}

#[test]
fn a_gap_is_declared_in_this_form() {
    let at = |ms: i64| Timestamp::from_unix_nanos(ms * 1_000_000);
    let span = (at(1_795_330_435_123), at(1_795_330_495_123));
    let gap = Gap::whole(cri("330902-0310-000004-95"), (12, 71), span, LossCause::Quota).expect("a gap");
    let envelope = GapEnvelope { gateway: cri("330502-9101-000001-31"), epoch: 7, gaps: &[gap] };
    assert_eq!(
        json(envelope),
        r#"{"v":1,"gw":"330502-9101-000001-31","epoch":"0000000000000007","gap":[{"id":"330902-0310-000004-95","first":12,"last":71,"n":60,"from":"2026-11-22T06:53:55.123Z","to":"2026-11-22T06:54:55.123Z","r":"quota"}]}"#
    );
}

proptest! {
    #[test]
    fn a_measured_value_is_read_back_as_it_was(
        single in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
        double in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO,
    ) {
        prop_assert_eq!(json(Value::Single(single)).parse::<f32>(), Ok(single));
        prop_assert_eq!(json(Value::Double(double)).parse::<f64>(), Ok(double));
    }

    #[test]
    fn times_are_ordered_as_their_texts(a in any::<i64>(), b in any::<i64>()) {
        let (a, b) = (Timestamp::from_unix_nanos(a), Timestamp::from_unix_nanos(b));
        prop_assert_eq!(a.to_string().len(), 24);
        let (earlier, later) = if a <= b { (a, b) } else { (b, a) };
        prop_assert!(earlier.to_string() <= later.to_string());
    }
}

//! The examples of `docs/contract.md` are what this code writes. The first one is compared with a real broker's relay by
//! `hil-tests/tests/uplink/main.rs`.

use std::sync::Arc;

use ganglion_protocols::{Clock, ClockSource, Cri, Gap, LossCause, Quality, Reading, Reason, Timestamp, Value};
use serde_json::Value as Json;

use super::message::{Batch, Encoder, Limits};
use super::share::Lane;
use super::status::Status;
use super::{Content, Epochs};
use crate::buffer::{Stored, StoredShape};
use crate::site::NamedProperty;

const CONTRACT: &str = include_str!("../../../docs/contract.md");
const EPOCHS: Epochs = Epochs { telemetry: 7, events: 0xA9 };
const PRESSURE: &str = "620602-9601-000007-51";
const FLOW: &str = "620602-9305-000012-53";

/// Returns the JSON values of the first example under a heading.
fn example(heading: &str) -> Vec<Json> {
    let section = CONTRACT.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let text = section.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect()
}

fn gateway() -> Cri {
    "620602-9101-000001-23".parse().unwrap()
}

fn t(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().unwrap();
    Timestamp::from_unix_nanos(i64::try_from(instant.as_nanosecond()).unwrap())
}

fn stored(resource: &str, seq: u64, at: &str, readings: &[(&str, &str, Reading)]) -> Stored {
    let named =
        |(name, unit, _): &(&str, &str, _)| NamedProperty { name: (*name).to_owned(), unit: (*unit).to_owned() };
    let shape = StoredShape {
        resource: resource.parse().unwrap(),
        domain: "water".to_owned(),
        directory: "2026-11".to_owned(),
        properties: readings.iter().map(named).collect(),
    };
    let clock = Clock { source: ClockSource::Ntp, error_ms: Some(12) };
    let readings = readings.iter().map(|&(_, _, reading)| reading).collect();
    Stored { shape: Arc::new(shape), seq, t: t(at), clock, readings }
}

fn good(value: Value) -> Reading {
    Reading { value: Some(value), quality: Quality::Good }
}

/// Returns the payloads that a lane makes, and their topics.
fn sent(lane: Lane, epoch: u64, content: Content) -> (Vec<String>, Vec<Json>) {
    let mut encoder = Encoder::new(gateway(), epoch, lane);
    let mut batch = Batch::new((), content, lane, |_, _| false);
    let limits = Limits { payload: 64 * 1024, packet: 256 * 1024 };
    let messages = std::iter::from_fn(|| batch.next(&mut encoder, limits)).map(|message| {
        let payload = message.payload.unwrap();
        let plain =
            if payload.compressed { zstd::bulk::decompress(&payload.bytes, 1 << 20).unwrap() } else { payload.bytes };
        (message.topic.to_string(), serde_json::from_slice(&plain).unwrap())
    });
    messages.unzip()
}

#[test]
fn the_example_of_backfill_is_what_is_sent() {
    let pressure = |value| ("pressure", "MPa", good(Value::Double(value)));
    let no_flow = Reading { value: None, quality: Quality::Bad(Reason::Timeout) };
    let observations = vec![
        stored(PRESSURE, 3, "2026-11-22T06:54:00.123Z", &[pressure(0.411)]),
        stored(FLOW, 17, "2026-11-22T06:54:00.410Z", &[("flow", "m3/h", no_flow)]),
        stored(PRESSURE, 4, "2026-11-22T06:54:01.123Z", &[pressure(0.412)]),
    ];
    let (topics, payloads) = sent(Lane::Backfill, EPOCHS.telemetry, (observations, Vec::new()));
    assert_eq!(payloads, example("Backfill"));
    assert_eq!(topics, ["city/v1/620602/gateway/000001/backfill"]);
    assert!(CONTRACT.contains(&format!("Topic `{}`", topics[0])));
}

#[test]
fn the_example_of_a_gap_is_what_is_sent() {
    let lost = |resource: &str, numbers, count, from, to, cause| {
        Gap::new(resource.parse().unwrap(), numbers, count, (t(from), t(to)), cause).unwrap()
    };
    let (from, to) = ("2026-11-23T01:10:00.123Z", "2026-11-23T01:21:15.123Z");
    let quota = lost(PRESSURE, (412, 1087), 676, from, to, LossCause::Quota);
    let (from, to) = ("2026-11-23T02:00:00.410Z", "2026-11-23T02:00:22.410Z");
    let refused = lost(FLOW, (9, 31), 4, from, to, LossCause::DiskFull);
    let (topics, payloads) = sent(Lane::Live, EPOCHS.telemetry, (Vec::new(), vec![quota, refused]));
    assert_eq!(payloads, example("Gap"));
    assert_eq!(topics, ["city/v1/620602/gateway/000001/gap"]);
    assert!(CONTRACT.contains(&format!("Topic `{}`", topics[0])));
}

#[test]
fn every_cause_of_a_loss_is_explained() {
    let causes = (1..=u8::MAX).map(LossCause::from_code).filter(|cause| !matches!(cause, LossCause::Other(_)));
    let section = CONTRACT.split("\n## Gap\n").nth(1).unwrap();
    let missing: Vec<String> =
        causes.map(|cause| cause.to_string()).filter(|cause| !section.contains(&format!("`{cause}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_examples_of_events_are_what_is_sent() {
    let above = ("pressure.above", "1", good(Value::Bool(true)));
    let away = Reading { value: Some(Value::Bool(false)), quality: Quality::Uncertain(Reason::Timeout) };
    let events = vec![
        stored(PRESSURE, 1, "2026-11-22T06:53:55.123Z", &[("pressure", "MPa", good(Value::Double(1.214))), above]),
        stored(PRESSURE, 2, "2026-11-22T07:02:10.100Z", &[("reachable", "1", away)]),
    ];
    let (topics, payloads) = sent(Lane::Event, EPOCHS.events, (events, Vec::new()));
    assert_eq!(payloads, example("Events"));
    assert_eq!(topics, ["city/v1/620602/water/9601/000007/event"; 2]);
    assert!(CONTRACT.contains(&format!("Topic `{}`", topics[0])));
}

#[test]
fn the_examples_of_the_status_are_what_is_sent() {
    let since = t("2026-11-22T06:53:55.123Z");
    let statuses = [
        Status::online(gateway(), EPOCHS, since, None),
        Status::online(gateway(), EPOCHS, since, Some("disk full")),
        Status::ended(gateway(), EPOCHS, t("2026-11-22T07:10:02.004Z")),
        Status::will(gateway(), EPOCHS),
    ];
    let sent = statuses.map(|status| serde_json::from_str::<Json>(&status.to_json()).unwrap());
    assert_eq!(example("Status"), sent);
}

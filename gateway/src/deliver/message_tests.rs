use ganglion_protocols::{
    Clock, ClockSource, Observation, Property, Quality, Reading, Reason, Shape, Timestamp, Value,
};

use super::*;
use crate::buffer::StoredShape;
use crate::site::NamedProperty;

const WIDE: Limits = Limits { payload: 64 * 1024, packet: 256 * 1024 };
const PUMP: &str = "620602-9101-000007-05";
const VALVE: &str = "330502-0103-000123-33";

fn shape(resource: &str, properties: &[(&str, &str)]) -> Arc<StoredShape> {
    Arc::new(StoredShape {
        resource: resource.parse().unwrap(),
        domain: "water".to_owned(),
        directory: "2026.11".to_owned(),
        properties: properties
            .iter()
            .map(|&(name, unit)| NamedProperty { name: name.to_owned(), unit: unit.to_owned() })
            .collect(),
    })
}

fn pressure(resource: &str) -> Arc<StoredShape> {
    shape(resource, &[("pressure", "MPa")])
}

fn stored(shape: &Arc<StoredShape>, seq: u64) -> Stored {
    let value = Some(Value::Double(0.412));
    Stored {
        shape: Arc::clone(shape),
        seq,
        t: Timestamp::from_unix_nanos(1_795_330_435_123_000_000 + i64::try_from(seq).unwrap()),
        clock: Clock { source: ClockSource::Ntp, error_ms: Some(12) },
        readings: vec![Reading { value, quality: Quality::Good }; shape.properties.len()],
    }
}

fn encoder(lane: Lane) -> Encoder {
    Encoder::new("620602-9101-000001-23".parse().unwrap(), 0x0123_4567_89ab_cdef, lane)
}

fn messages(observations: Vec<Stored>, limits: Limits) -> Vec<Message> {
    messages_of(Lane::Live, (observations, Vec::new()), limits)
}

fn messages_of(lane: Lane, content: (Vec<Stored>, Vec<Gap>), limits: Limits) -> Vec<Message> {
    let mut encoder = encoder(lane);
    let mut batch = Batch::new(0, content, lane, |_, _| false);
    std::iter::from_fn(|| batch.next(&mut encoder, limits)).collect()
}

/// The JSON text of a message, whether or not it is compressed.
fn text(message: &Message) -> String {
    let Payload { bytes, compressed } = message.payload.as_ref().unwrap();
    let bytes = if *compressed { zstd::bulk::decompress(bytes, 1 << 20).unwrap() } else { bytes.clone() };
    String::from_utf8(bytes).unwrap()
}

fn seqs(message: &Message) -> Vec<u64> {
    let payload: serde_json::Value = serde_json::from_str(&text(message)).unwrap();
    payload["obs"].as_array().unwrap().iter().map(|obs| obs["seq"].as_u64().unwrap()).collect()
}

#[test]
fn the_payload_is_the_envelope_of_the_contract() {
    let shape = shape(PUMP, &[("pressure", "MPa"), ("running", "1")]);
    let mut observations = vec![stored(&shape, 41), stored(&shape, 42)];
    observations[1].readings[1] = Reading { value: None, quality: Quality::Bad(Reason::Timeout) };
    let encoder = encoder(Lane::Live);
    let properties = [Property { name: "pressure", unit: "MPa" }, Property { name: "running", unit: "1" }];
    let view = Shape { resource: shape.resource, domain: "water", directory: "2026.11", properties: &properties };
    let views: Vec<Observation<'_>> =
        observations.iter().map(|o| Observation { shape: view, seq: o.seq, t: o.t, readings: &o.readings }).collect();
    let envelope = Envelope {
        gateway: encoder.gateway,
        epoch: encoder.epoch,
        directory: "2026.11",
        clock: observations[0].clock,
        observations: &views,
    };
    let expected = serde_json::to_string(&envelope).unwrap();
    let messages = messages(observations.clone(), WIDE);
    assert_eq!(messages.len(), 1);
    assert_eq!(text(&messages[0]), expected);
    assert_eq!(&*messages[0].topic, "city/v1/620602/water/9101/000007/obs");
    assert_eq!((messages[0].spans[0].count, messages[0].spans[0].last), (2, 42));
}

#[test]
fn interleaved_resources_become_one_message_each_in_order() {
    let (a, b) = (pressure(PUMP), pressure(VALVE));
    let messages = messages(vec![stored(&a, 1), stored(&b, 9), stored(&a, 2), stored(&b, 10), stored(&a, 3)], WIDE);
    let got: Vec<_> = messages.iter().map(|m| (m.spans[0].resource.to_string(), seqs(m))).collect();
    assert_eq!(got, [(PUMP.to_owned(), vec![1, 2, 3]), (VALVE.to_owned(), vec![9, 10])]);
}

#[test]
fn another_clock_or_directory_starts_another_message() {
    let old = pressure(PUMP);
    let new = Arc::new(StoredShape { directory: "2027.01".to_owned(), ..(*old).clone() });
    let mut unsure = stored(&old, 2);
    unsure.clock = Clock { source: ClockSource::None, error_ms: None };
    let messages = messages(vec![stored(&old, 1), unsure, stored(&old, 3), stored(&new, 4)], WIDE);
    assert_eq!(messages.iter().map(seqs).collect::<Vec<_>>(), [[1], [2], [3], [4]]);
}

#[test]
fn equal_shapes_of_two_segments_share_a_message() {
    let messages = messages(vec![stored(&pressure(PUMP), 1), stored(&pressure(PUMP), 2)], WIDE);
    assert_eq!(messages.iter().map(seqs).collect::<Vec<_>>(), [[1, 2]]);
}

#[test]
fn no_message_of_several_observations_passes_the_payload_limit() {
    let shape = pressure(PUMP);
    let all: Vec<Stored> = (1..=100).map(|seq| stored(&shape, seq)).collect();
    let limits = Limits { payload: 1_000, ..WIDE };
    let messages = messages(all, limits);
    let sizes: Vec<usize> = messages.iter().map(|m| m.payload.as_ref().unwrap().bytes.len()).collect();
    assert!(sizes.iter().all(|&size| size <= 1_000), "{sizes:?}");
    assert!(sizes[..sizes.len() - 1].iter().all(|&size| size > 850), "one more would have fitted: {sizes:?}");
    assert_eq!(messages.iter().flat_map(seqs).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
}

#[test]
fn an_observation_above_the_payload_limit_goes_alone() {
    let shape = pressure(PUMP);
    let limits = Limits { payload: 10, ..WIDE };
    let messages = messages(vec![stored(&shape, 1), stored(&shape, 2)], limits);
    assert_eq!(messages.iter().map(seqs).collect::<Vec<_>>(), [[1], [2]]);
}

#[test]
fn an_observation_above_the_brokers_packet_size_is_undeliverable_and_the_next_one_is_not() {
    let wide = shape(PUMP, &[("pressure", "MPa"); 20]);
    let limits = Limits { payload: 400, packet: 400 };
    let messages = messages(vec![stored(&wide, 1), stored(&pressure(VALVE), 5)], limits);
    let Err(Undeliverable::TooLarge { payload, limit }) = &messages[0].payload else { panic!("{:?}", messages[0]) };
    assert!(payload.len() > *limit && *limit < 400, "{} {limit}", payload.len());
    assert_eq!((messages[0].spans[0].count, messages[0].spans[0].last), (1, 1));
    assert_eq!(seqs(&messages[1]), [5]);
}

#[test]
fn the_whole_packet_fits_the_brokers_packet_size() {
    let shape = pressure(PUMP);
    let all: Vec<Stored> = (1..=50).map(|seq| stored(&shape, seq)).collect();
    for message in messages(all, Limits { payload: 64 * 1024, packet: 700 }) {
        let payload = message.payload.unwrap();
        let mut publish = rumqttc::v5::mqttbytes::v5::Publish::new(
            &*message.topic,
            rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
            payload.bytes,
            None,
        );
        publish.pkid = 1;
        assert!(publish.size() <= 700, "{}", publish.size());
    }
}

#[test]
fn a_domain_with_a_wildcard_is_undeliverable() {
    let shape = Arc::new(StoredShape { domain: "wa+er".to_owned(), ..(*pressure(PUMP)).clone() });
    let messages = messages(vec![stored(&shape, 1)], WIDE);
    assert!(matches!(messages[0].payload, Err(Undeliverable::Topic { .. })));
}

#[test]
fn settled_observations_are_left_out() {
    let (a, b) = (pressure(PUMP), pressure(VALVE));
    let all = vec![stored(&a, 1), stored(&a, 2), stored(&b, 1), stored(&a, 3)];
    let mut batch = Batch::new(0, (all, Vec::new()), Lane::Live, |resource, seq| resource == a.resource && seq <= 2);
    let mut encoder = encoder(Lane::Live);
    let left: Vec<_> = std::iter::from_fn(|| batch.next(&mut encoder, WIDE)).map(|m| seqs(&m)).collect();
    assert_eq!(left, [[1], [3]]);
    assert!(batch.is_empty());
}

#[test]
fn a_change_of_domain_changes_the_topic() {
    let old = pressure(PUMP);
    let new = Arc::new(StoredShape { domain: "drainage".to_owned(), ..(*old).clone() });
    let messages = messages(vec![stored(&old, 1), stored(&new, 2)], WIDE);
    assert_eq!(&*messages[1].topic, "city/v1/620602/drainage/9101/000007/obs");
}

#[test]
fn backfill_holds_all_resources_in_the_order_of_the_log_and_is_compressed() {
    let (a, b) = (pressure(PUMP), pressure(VALVE));
    let all: Vec<Stored> = (1..=300).flat_map(|seq| [stored(&a, seq), stored(&b, seq + 7)]).collect();
    let limits = Limits { payload: 2_000, ..WIDE };
    let messages = messages_of(Lane::Backfill, (all, Vec::new()), limits);
    assert!(messages.iter().all(|m| &*m.topic == "city/v1/620602/gateway/000001/backfill"));
    let sizes: Vec<usize> = messages.iter().map(|m| m.payload.as_ref().unwrap().bytes.len()).collect();
    assert!(sizes.iter().all(|&size| size <= 2_000), "{sizes:?}");
    let plain: usize = messages.iter().map(|m| text(m).len()).sum();
    assert!(sizes.iter().sum::<usize>() * 4 < plain, "{sizes:?} of {plain}");
    let expected: Vec<u64> = (1..=300).flat_map(|seq| [seq, seq + 7]).collect();
    assert_eq!(messages.iter().flat_map(seqs).collect::<Vec<_>>(), expected);
    for shape in [&a, &b] {
        let of_one = messages.iter().flat_map(|m| &m.spans).filter(|span| span.resource == shape.resource);
        assert_eq!(of_one.map(|span| span.count).sum::<u64>(), 300);
    }
}

#[test]
fn losses_go_first_on_their_own_topic_in_messages_that_fit() {
    let shape = pressure(PUMP);
    let t = Timestamp::from_unix_nanos(1_795_330_435_123_000_000);
    let gaps: Vec<Gap> =
        (1..=20).map(|n| Gap::whole(shape.resource, (10 * n, 10 * n + 3), (t, t), LossCause::Quota).unwrap()).collect();
    let limits = Limits { payload: 1_000, ..WIDE };
    let messages = messages_of(Lane::Live, (vec![stored(&shape, 1)], gaps.clone()), limits);
    let (last, losses) = messages.split_last().unwrap();
    assert_eq!(seqs(last), [1]);
    assert!(losses.len() > 1);
    let mut firsts = Vec::new();
    for message in losses {
        assert_eq!((&*message.topic, message.spans.len()), ("city/v1/620602/gateway/000001/gap", 0));
        assert!(message.payload.as_ref().unwrap().bytes.len() <= 1_000);
        let payload: serde_json::Value = serde_json::from_str(&text(message)).unwrap();
        firsts.extend(payload["gap"].as_array().unwrap().iter().map(|gap| gap["first"].as_u64().unwrap()));
    }
    assert_eq!(firsts, gaps.iter().map(Gap::first).collect::<Vec<_>>());
}

#[test]
fn events_have_their_own_topic() {
    let messages = messages_of(Lane::Event, (vec![stored(&pressure(PUMP), 1)], Vec::new()), WIDE);
    assert_eq!(&*messages[0].topic, "city/v1/620602/water/9101/000007/event");
}

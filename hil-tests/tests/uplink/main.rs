//! The uplink against a real broker, over mutual TLS.
//! Needs: mosquitto, mosquitto_sub (`cargo xtask setup`).
#![allow(clippy::unwrap_used, reason = "a bench that does not stand is a failed test")]

mod arrived;
mod bench;
mod brokers;
mod chaos;
mod hostile;
mod lanes;
mod nat;
mod refusals;
mod reload;
mod slow;
mod station;
mod storm;

use std::fs;
use std::time::Duration;

use bench::{Bench, GATEWAY, PUMP, VALVE, arrivals, first, first_arrivals, observation, observation_of, within};
use ganglion::monitor::LogName;
use ganglion::site::{MqttVersion, NamedProperty};
use ganglion_hil::pki::Validity;
use hostile::{Hostile, Treatment};
use lanes::{
    after_an_outage_what_is_new_and_an_alarm_come_before_what_waited_and_all_of_it_joins,
    what_the_quota_took_during_an_outage_is_declared_to_the_number,
};
use nat::{
    a_keep_alive_above_the_networks_memory_notices_the_loss_within_one_and_a_half,
    a_keep_alive_below_the_networks_memory_keeps_a_silent_connection,
};
use slow::a_backlog_an_event_and_what_is_new_come_through_a_link_of_2_kb_a_second;

/// Makes a test of each sentence for each version of MQTT.
macro_rules! in_both_versions {
    ($($sentence:ident,)*) => {
        mod mqtt_5 {
            $(#[tokio::test] async fn $sentence() { super::$sentence(super::MqttVersion::V5).await })*
        }
        mod mqtt_3_1_1 {
            $(#[tokio::test] async fn $sentence() { super::$sentence(super::MqttVersion::V4).await })*
        }
    };
}

in_both_versions![
    a_keep_alive_below_the_networks_memory_keeps_a_silent_connection,
    a_keep_alive_above_the_networks_memory_notices_the_loss_within_one_and_a_half,
    observations_reach_the_subscriber_in_order_once_and_with_their_terms,
    the_status_is_retained_and_follows_the_gateway,
    a_broker_that_is_stopped_and_started_again_misses_nothing,
    everything_unacknowledged_is_sent_again_in_order_after_the_broker_is_killed,
    an_expired_gateway_certificate_is_named_and_a_new_one_mends_it,
    a_broker_of_an_unknown_authority_is_named_and_the_right_authority_mends_it,
    a_broker_that_does_not_listen_is_named_and_its_start_mends_it,
    acknowledgements_in_any_order_and_breaks_at_any_time_lose_nothing_and_count_once,
    a_peer_that_answers_nothing_is_left_after_the_connect_timeout,
    a_broker_that_falls_silent_is_left_and_what_it_was_sent_is_sent_again,
    a_broker_that_no_longer_reads_is_left_though_the_client_waits_in_a_write,
    a_backlog_an_event_and_what_is_new_come_through_a_link_of_2_kb_a_second,
    after_an_outage_what_is_new_and_an_alarm_come_before_what_waited_and_all_of_it_joins,
    what_the_quota_took_during_an_outage_is_declared_to_the_number,
];

async fn observations_reach_the_subscriber_in_order_once_and_with_their_terms(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let subscriber = bench.subscribe("reader");
    bench.start_deliver();
    for seq in 0..100 {
        let pair = |n: u64| [observation(PUMP, 2 * seq + n), observation(VALVE, 2 * seq + n)];
        bench.log.push([pair(1), pair(2)].concat());
    }
    bench.finish().await;
    let count = || arrivals(&subscriber, PUMP).len() + arrivals(&subscriber, VALVE).len();
    within(|| count() == 400, || format!("400 observations arrive, {} did", count())).await;
    for resource in [PUMP, VALVE] {
        assert_eq!(arrivals(&subscriber, resource), (1..=200).collect::<Vec<_>>());
        assert_eq!((bench.ledger(resource).delivered, bench.ledger(resource).dropped), (200, 0));
    }
    assert_eq!(bench.log.acknowledged(), 100);
    assert_eq!(bench.seen().uplink.connections, 1);
    let received = subscriber.received().unwrap();
    let first = received.iter().find(|message| message.topic.ends_with("/9601/000007/obs")).unwrap();
    assert_eq!(first.topic, "city/v1/620602/water/9601/000007/obs");
    let contract = include_str!("../../../docs/contract.md");
    let example = contract.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&first.payload), json(example), "as docs/contract.md prints it");
    assert!(first.payload.starts_with(&format!(r#"{{"v":1,"gw":"{GATEWAY}","epoch":"0000000000000007","dir":"#)));
}

async fn the_status_is_retained_and_follows_the_gateway(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let subscriber = bench.subscribe("reader");
    let states = |of: &ganglion_hil::peers::mosquitto::Subscriber| -> Vec<String> {
        let messages = of.received().unwrap().into_iter();
        let status = messages.filter(|m| m.topic == "city/v1/620602/gateway/000001/status");
        status.map(|m| m.payload).collect()
    };
    let expect = async |count: usize, what: &str| {
        within(|| states(&subscriber).len() >= count, || format!("{what}: {:?}", states(&subscriber))).await;
        states(&subscriber).pop().unwrap()
    };
    bench.start_deliver();
    let online = expect(1, "an online message").await;
    assert!(online.contains(r#""state":"online","since":""#) && !online.contains("trouble"), "{online}");
    bench.monitor.store_of(LogName::Telemetry, |store| store.trouble = Some("disk full".to_owned()));
    let troubled = expect(2, "a message about the trouble").await;
    assert!(troubled.contains(r#""state":"online""#) && troubled.contains(r#""trouble":"disk full""#), "{troubled}");
    let late = bench.subscribe("late");
    within(|| !states(&late).is_empty(), || "the retained status arrives".to_owned()).await;
    assert_eq!(states(&late), [troubled]);
    bench.finish().await;
    let offline = expect(3, "an offline message").await;
    assert!(offline.contains(r#""state":"offline","since":""#), "{offline}");
    assert_eq!(states(&subscriber).len(), 3, "an orderly end publishes no last will");
}

async fn a_broker_that_is_stopped_and_started_again_misses_nothing(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let subscriber = bench.subscribe("reader");
    bench.start_deliver();
    for round in 0..3 {
        bench.log.push_pump(round * 200 + 1..=round * 200 + 100);
        within(|| bench.log.acknowledged() as u64 > round * 200, || "something is delivered".to_owned()).await;
        bench.broker.stop().unwrap();
        bench.log.push_pump(round * 200 + 101..=round * 200 + 200);
        within(|| !bench.seen().uplink.connected, || "the loss is seen".to_owned()).await;
        bench.broker.run().unwrap();
    }
    bench.finish().await;
    let all: Vec<u64> = (1..=600).collect();
    within(
        || first_arrivals(&subscriber, PUMP).len() == 600,
        || format!("600 arrive, {} did", first_arrivals(&subscriber, PUMP).len()),
    )
    .await;
    assert_eq!(first_arrivals(&subscriber, PUMP), all);
    assert_eq!(bench.ledger(PUMP).delivered, 600, "counted once, however often sent");
    assert_eq!(bench.log.acknowledged(), 600);
    assert!(bench.seen().uplink.connections >= 4);
}

async fn everything_unacknowledged_is_sent_again_in_order_after_the_broker_is_killed(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    bench.start_deliver();
    bench.log.push_pump(1..=10);
    bench.expect_delivered(PUMP, 10).await;
    bench.broker.freeze().unwrap();
    bench.log.push_pump(11..=200);
    // As many as a new connection may have in flight before it knows the link.
    within(|| bench.log.outstanding() >= 5, || format!("some are in flight, {} are", bench.log.outstanding())).await;
    assert_eq!(bench.log.acknowledged(), 10);
    bench.broker.kill().unwrap();
    // By another authority deliver cannot be back before the new subscriber listens.
    bench.give_gateway(&bench.stranger().ca, &bench.pki.gateway);
    bench.broker.run().unwrap();
    let subscriber = bench.subscribe("after");
    bench.expect_cause("certificate authority unknown").await;
    bench.give_gateway(&bench.pki.ca, &bench.pki.gateway);
    bench.finish().await;
    within(|| arrivals(&subscriber, PUMP).last() == Some(&200), || "the last arrives".to_owned()).await;
    assert_eq!(arrivals(&subscriber, PUMP), (11..=200).collect::<Vec<_>>());
    assert_eq!(bench.ledger(PUMP).delivered, 200);
    assert_eq!(bench.log.acknowledged(), 200);
}

#[tokio::test]
async fn a_message_that_may_not_be_published_is_dropped_and_the_rest_flows() {
    let folder = tempfile::tempdir().unwrap();
    let acl = folder.path().join("acl");
    fs::write(&acl, "topic readwrite city/v1/620602/#\n").unwrap();
    let Some(mut bench) = Bench::with_options(&[&format!("acl_file {}", acl.display())]) else { return };
    bench.start_deliver();
    for seq in 1..=10 {
        bench.log.push(vec![observation(VALVE, seq), observation(PUMP, seq)]);
    }
    bench.finish().await;
    assert_eq!((bench.ledger(PUMP).delivered, bench.ledger(PUMP).dropped), (10, 0));
    assert_eq!((bench.ledger(VALVE).delivered, bench.ledger(VALVE).dropped), (0, 10));
    assert_eq!(bench.log.acknowledged(), 10);
    assert_eq!(bench.seen().uplink.connections, 1);
    assert!(bench.seen().uplink.refused > 0, "the gateway tells that its broker refuses messages");
}

#[tokio::test]
async fn observations_above_the_brokers_packet_size_are_dropped_and_the_rest_flows() {
    let Some(mut bench) = Bench::with_options(&["max_packet_size 600"]) else { return };
    let subscriber = bench.subscribe("reader");
    bench.start_deliver();
    let mut large = observation(VALVE, 1);
    let mut shape = (*large.shape).clone();
    shape.properties = (0..30).map(|n| NamedProperty { name: format!("p.{n}"), unit: "1".into() }).collect();
    large.readings = vec![large.readings[0]; 30];
    large.shape = shape.into();
    bench.log.push(vec![observation(PUMP, 1), large, observation(PUMP, 2), observation(PUMP, 3), observation(PUMP, 4)]);
    bench.finish().await;
    assert_eq!(bench.ledger(VALVE).dropped, 1);
    within(|| arrivals(&subscriber, PUMP).len() == 4, || "the rest arrives".to_owned()).await;
    assert_eq!(arrivals(&subscriber, PUMP), [1, 2, 3, 4]);
    assert_eq!(bench.seen().uplink.connections, 1);
}

/// Delivers something once the trouble is mended, without a restart of deliver.
async fn resumes(mut bench: Bench) {
    bench.expect_delivered(PUMP, 1).await;
    bench.finish().await;
    assert!(bench.seen().uplink.connections >= 1);
}

fn troubled(mut bench: Bench) -> Bench {
    bench.log.push_pump(1..=1);
    bench.start_deliver();
    bench
}

async fn a_broker_of_an_unknown_authority_is_named_and_the_right_authority_mends_it(version: MqttVersion) {
    let Some(bench) = Bench::speaking(version) else { return };
    bench.give_gateway(&bench.stranger().ca, &bench.pki.gateway);
    let bench = troubled(bench);
    bench.expect_cause("certificate authority unknown: the broker's certificate is not signed by").await;
    bench.give_gateway(&bench.pki.ca, &bench.pki.gateway);
    resumes(bench).await;
}

#[tokio::test]
async fn a_broker_whose_certificate_names_another_host_is_named_and_a_new_certificate_mends_it() {
    let Some(mut bench) = Bench::new() else { return };
    bench.broker.stop().unwrap();
    bench.pki.issue("broker", &["broker.example"], Validity::Now).unwrap();
    bench.broker.run().unwrap();
    let mut bench = troubled(bench);
    bench.expect_cause("broker certificate does not name localhost").await;
    bench.broker.stop().unwrap();
    bench.pki.issue("broker", &["localhost"], Validity::Now).unwrap();
    bench.broker.run().unwrap();
    resumes(bench).await;
}

#[tokio::test]
async fn an_expired_broker_certificate_is_named_and_a_new_one_mends_it() {
    let Some(mut bench) = Bench::new() else { return };
    bench.broker.stop().unwrap();
    bench.pki.issue("broker", &["localhost"], Validity::Expired).unwrap();
    bench.broker.run().unwrap();
    let mut bench = troubled(bench);
    bench.expect_cause("broker certificate expired").await;
    bench.broker.stop().unwrap();
    bench.pki.issue("broker", &["localhost"], Validity::Now).unwrap();
    bench.broker.run().unwrap();
    resumes(bench).await;
}

async fn an_expired_gateway_certificate_is_named_and_a_new_one_mends_it(version: MqttVersion) {
    let Some(bench) = Bench::speaking(version) else { return };
    let expired = bench.pki.issue("old", &["gateway"], Validity::Expired).unwrap();
    bench.give_gateway(&bench.pki.ca, &expired);
    let bench = troubled(bench);
    bench.expect_cause("broker refused our certificate").await;
    bench.expect_cause("expired").await;
    bench.give_gateway(&bench.pki.ca, &bench.pki.gateway);
    resumes(bench).await;
}

#[tokio::test]
async fn a_gateway_certificate_of_an_unknown_authority_is_named_and_a_known_one_mends_it() {
    let Some(bench) = Bench::new() else { return };
    bench.give_gateway(&bench.pki.ca, &bench.stranger().gateway);
    let bench = troubled(bench);
    bench.expect_cause("broker refused our certificate").await;
    bench.expect_cause("unknown authority").await;
    bench.give_gateway(&bench.pki.ca, &bench.pki.gateway);
    resumes(bench).await;
}

#[tokio::test]
async fn a_key_that_does_not_belong_to_the_certificate_is_named_and_the_right_one_mends_it() {
    let Some(bench) = Bench::new() else { return };
    fs::copy(&bench.pki.subscriber.key, &bench.settings.key).unwrap();
    let bench = troubled(bench);
    bench.expect_cause("does not belong to certificate").await;
    bench.give_gateway(&bench.pki.ca, &bench.pki.gateway);
    resumes(bench).await;
}

#[tokio::test]
async fn files_that_are_missing_empty_or_damaged_are_named_and_the_right_ones_mend_it() {
    let Some(bench) = Bench::new() else { return };
    fs::remove_file(&bench.settings.key).unwrap();
    let bench = troubled(bench);
    bench.expect_cause("cannot read").await;
    fs::write(&bench.settings.key, "").unwrap();
    bench.expect_cause("own-gateway.key holds no key").await;
    fs::write(&bench.settings.certificate, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    bench.expect_cause("own-gateway.pem is no PEM file: a section does not end").await;
    fs::copy(&bench.settings.certificate, &bench.settings.ca).unwrap();
    bench.expect_cause("own-ca.pem is no PEM file").await;
    bench.give_gateway(&bench.pki.ca, &bench.pki.gateway);
    resumes(bench).await;
}

async fn a_broker_that_does_not_listen_is_named_and_its_start_mends_it(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    bench.broker.stop().unwrap();
    let mut bench = troubled(bench);
    bench.expect_cause("connection refused: nothing listens on localhost:").await;
    bench.broker.run().unwrap();
    resumes(bench).await;
}

#[tokio::test]
async fn a_client_that_the_broker_does_not_know_is_told_so_and_a_permission_mends_it() {
    let Some(mut bench) = Bench::with_options(&["allow_anonymous false"]) else { return };
    bench = troubled(bench);
    bench.expect_cause("broker refused the connection: not authorized (0x87)").await;
    bench.broker.stop().unwrap();
    bench.broker.configure(&bench.pki.ca, &bench.pki.broker, &[]).unwrap();
    bench.broker.run().unwrap();
    resumes(bench).await;
}

#[tokio::test]
async fn a_refusal_of_the_older_version_is_told_by_its_own_code() {
    let Some(mut bench) = Bench::with_options(&["allow_anonymous false"]) else { return };
    bench.settings.mqtt = MqttVersion::V4;
    let bench = troubled(bench);
    bench.expect_cause("broker refused the connection: not authorized (0x05)").await;
}

#[tokio::test]
async fn a_message_larger_than_the_clients_default_limit_is_published_in_the_older_version() {
    let Some(mut bench) = Bench::speaking(MqttVersion::V4) else { return };
    bench.settings.max_payload = 65_536;
    let subscriber = bench.subscribe("reader");
    bench.start_deliver();
    bench.log.push(vec![observation_of(PUMP, 1, 25_000)]);
    bench.finish().await;
    within(|| arrivals(&subscriber, PUMP).len() == 1, || "it arrives".to_owned()).await;
    let longest = subscriber.received().unwrap().iter().map(|message| message.payload.len()).max();
    assert!(longest > Some(20_000), "{longest:?} bytes");
    assert_eq!(bench.seen().uplink.connections, 1);
}

#[tokio::test]
async fn deliver_without_work_returns_though_no_broker_was_ever_reached() {
    let Some(mut bench) = Bench::new() else { return };
    bench.broker.stop().unwrap();
    bench.start_deliver();
    bench.finish().await;
    assert_eq!(bench.seen().uplink.connections, 0);
}

#[tokio::test]
async fn deliver_with_work_does_not_return_before_it_is_done() {
    let Some(mut bench) = Bench::new() else { return };
    bench.broker.stop().unwrap();
    bench = troubled(bench);
    bench.expect_cause("connection refused").await;
    bench.log.end();
    let early = tokio::time::timeout(Duration::from_secs(1), async { bench.finish().await });
    assert!(early.await.is_err(), "something is still undelivered");
}

async fn acknowledgements_in_any_order_and_breaks_at_any_time_lose_nothing_and_count_once(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let broker = Hostile::start(&bench.pki.broker, |_| Treatment::Chaos).await;
    bench.settings.port = broker.port;
    bench.settings.retry = (Duration::from_millis(1), Duration::from_millis(5));
    bench.settings.max_payload = 600;
    bench.start_deliver();
    for seq in (1..=1_200).step_by(4) {
        // Two resources, and two observations a message at most: four messages a chunk.
        let all = (seq..seq + 4).flat_map(|seq| [observation(PUMP, seq), observation(VALVE, seq)]);
        bench.log.push(all.collect());
    }
    bench.finish().await;
    assert_eq!(bench.log.acknowledged(), 300);
    for resource in [PUMP, VALVE] {
        let arrived = broker.arrivals(resource);
        assert_eq!(first(arrived), (1..=1_200).collect::<Vec<_>>(), "all, and the first time in order");
        assert_eq!(bench.ledger(resource).delivered, 1_200, "counted once");
    }
    assert!(broker.connections() > 10, "{} connections", broker.connections());
    assert_eq!(broker.left_by_client(), 0, "no packet identifier met its like, no connection ended by our own doing");
}

async fn a_peer_that_answers_nothing_is_left_after_the_connect_timeout(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let silent_once = |number| if number == 0 { Treatment::Silence } else { Treatment::Courtesy };
    let broker = Hostile::start(&bench.pki.broker, silent_once).await;
    bench.settings.port = broker.port;
    let bench = troubled(bench);
    bench.expect_cause("no answer from localhost:").await;
    resumes(bench).await;
}

async fn a_broker_that_falls_silent_is_left_and_what_it_was_sent_is_sent_again(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let silent_once = |number| if number == 0 { Treatment::SilenceAfterConnAck } else { Treatment::Courtesy };
    let broker = Hostile::start(&bench.pki.broker, silent_once).await;
    bench.settings.port = broker.port;
    let mut bench = troubled(bench);
    within(|| bench.seen().uplink.connected, || "the broker accepts".to_owned()).await;
    bench.expect_cause("no answer to a ping within").await;
    bench.log.push_pump(2..=50);
    bench.expect_delivered(PUMP, 50).await;
    bench.finish().await;
    assert_eq!(broker.arrivals(PUMP), (1..=50).collect::<Vec<_>>());
}

async fn a_broker_that_no_longer_reads_is_left_though_the_client_waits_in_a_write(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let silent_once = |number| if number == 0 { Treatment::SilenceAfterConnAck } else { Treatment::Courtesy };
    let broker = Hostile::start(&bench.pki.broker, silent_once).await;
    bench.settings.port = broker.port;
    // One message of 16 MB: more than the sockets between hold.
    bench.log.push(vec![observation_of(PUMP, 1, 16_000_000)]);
    bench.start_deliver();
    bench.expect_cause("the connection is stuck").await;
    bench.expect_delivered(PUMP, 1).await;
    bench.finish().await;
    assert_eq!(broker.arrivals(PUMP), [1]);
}

//! A broker that refuses messages: for now, or for good.

use std::time::Duration;

use crate::bench::{Bench, PUMP, VALVE, first, observation, within};
use crate::hostile::{Hostile, Treatment};

/// The pause that a refusal for now costs at least.
const PAUSE: Duration = Duration::from_millis(400);

/// The broker refuses the status and the first two observations for now, and takes the rest.
async fn refused_for_now(code: u8, words: &str) {
    let Some(mut bench) = Bench::new() else { return };
    let broker = Hostile::start(&bench.pki.broker, move |_| Treatment::RefuseFirst(code, 3)).await;
    bench.settings.port = broker.port;
    bench.settings.retry = (PAUSE, PAUSE);
    bench.log.push_pump(1..=200);
    bench.start_deliver();
    let told = || bench.seen().uplink.last_error.is_some_and(|error| error.contains(words));
    within(told, || format!("{words:?} is told: {:?}", bench.seen().uplink)).await;
    bench.finish().await;
    assert_eq!(bench.ledger(PUMP).delivered, 200, "counted once");
    assert_eq!((bench.ledger(PUMP).dropped, bench.log.acknowledged()), (0, 200));
    assert_eq!((broker.connections(), bench.seen().uplink.connections), (1, 1), "the connection is kept");
    let arrivals = broker.arrivals(PUMP);
    let again = arrivals.iter().rposition(|&seq| seq == 1).unwrap();
    assert!((2..=64).contains(&again), "what was on its way is answered, nothing more is sent: {again} messages");
    assert_eq!(arrivals[again..], (1..=200).collect::<Vec<_>>(), "from the refused one on, in order");
    assert!(broker.longest_silence() >= PAUSE, "{:?}", broker.longest_silence());
    assert_eq!(bench.seen().uplink.retry_at, None, "the pause is over");
}

/// The broker refuses the status and the first two observations for good, and takes the rest.
async fn refused_for_good(code: u8) {
    let Some(mut bench) = Bench::new() else { return };
    let broker = Hostile::start(&bench.pki.broker, move |_| Treatment::RefuseFirst(code, 3)).await;
    bench.settings.port = broker.port;
    bench.log.push_pump(1..=200);
    bench.start_deliver();
    bench.finish().await;
    assert_eq!((bench.ledger(PUMP).delivered, bench.ledger(PUMP).dropped), (198, 2));
    assert_eq!(broker.taken(PUMP), (3..=200).collect::<Vec<_>>());
    assert_eq!(bench.log.acknowledged(), 200);
    assert_eq!(broker.arrivals(PUMP), (1..=200).collect::<Vec<_>>(), "each is sent once");
    assert_eq!((broker.connections(), bench.seen().uplink.last_error), (1, None));
}

#[tokio::test]
async fn a_quota_that_is_exceeded_pauses_delivery() {
    refused_for_now(0x97, "quota exceeded (0x97)").await;
}

#[tokio::test]
async fn an_implementation_specific_error_pauses_delivery() {
    refused_for_now(0x83, "implementation specific error (0x83)").await;
}

#[tokio::test]
async fn an_unspecified_error_pauses_delivery() {
    refused_for_now(0x80, "unspecified error (0x80)").await;
}

#[tokio::test]
async fn a_packet_identifier_in_use_pauses_delivery() {
    refused_for_now(0x91, "packet identifier in use (0x91)").await;
}

#[tokio::test]
async fn a_message_that_is_not_authorized_is_given_up() {
    refused_for_good(0x87).await;
}

#[tokio::test]
async fn a_message_with_a_topic_name_that_is_invalid_is_given_up() {
    refused_for_good(0x90).await;
}

#[tokio::test]
async fn a_message_with_a_payload_format_that_is_invalid_is_given_up() {
    refused_for_good(0x99).await;
}

#[tokio::test]
async fn a_message_that_nobody_subscribes_to_is_delivered() {
    let Some(mut bench) = Bench::new() else { return };
    let broker = Hostile::start(&bench.pki.broker, |_| Treatment::RefuseFirst(0x10, usize::MAX)).await;
    bench.settings.port = broker.port;
    bench.log.push_pump(1..=200);
    bench.start_deliver();
    bench.finish().await;
    assert_eq!((bench.ledger(PUMP).delivered, bench.ledger(PUMP).dropped), (200, 0));
}

#[tokio::test]
async fn refusals_between_breaks_and_acknowledgements_in_any_order_lose_nothing_and_count_once() {
    let Some(mut bench) = Bench::new() else { return };
    let broker = Hostile::start(&bench.pki.broker, |_| Treatment::Moods).await;
    bench.settings.port = broker.port;
    bench.settings.retry = (Duration::from_millis(1), Duration::from_millis(5));
    bench.settings.max_payload = 600;
    bench.start_deliver();
    for seq in (1..=600).step_by(4) {
        bench.log.push((seq..seq + 4).flat_map(|seq| [observation(PUMP, seq), observation(VALVE, seq)]).collect());
    }
    bench.finish().await;
    for resource in [PUMP, VALVE] {
        assert_eq!(first(broker.arrivals(resource)), (1..=600).collect::<Vec<_>>(), "all, and the first time in order");
        assert_eq!(broker.taken(resource), (1..=600).collect::<Vec<_>>(), "none counts as delivered that was refused");
        assert_eq!((bench.ledger(resource).delivered, bench.ledger(resource).dropped), (600, 0), "counted once");
    }
    assert_eq!(broker.left_by_client(), 0, "no packet identifier met its like over a pause");
}

#[tokio::test]
async fn a_broker_that_refuses_for_long_is_asked_ever_more_rarely_and_left_in_order_when_all_is_to_end() {
    let Some(mut bench) = Bench::new() else { return };
    let broker = Hostile::start(&bench.pki.broker, |_| Treatment::RefuseFirst(0x97, 20)).await;
    bench.settings.port = broker.port;
    bench.settings.retry = (Duration::from_millis(10), Duration::from_millis(200));
    bench.log.push_pump(1..=3);
    bench.start_deliver();
    bench.expect_delivered(PUMP, 3).await;
    bench.finish().await;
    assert_eq!((broker.connections(), broker.left_by_client()), (1, 0));
}

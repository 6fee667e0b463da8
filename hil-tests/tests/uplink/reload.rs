//! New settings and new certificates for a deliver that runs.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use ganglion_hil::pki::Validity;
use tokio::task::JoinHandle;

use crate::bench::{Bench, Log, PUMP, arrivals, within};
use crate::brokers::{address, connected_with};

/// Something is in flight at every moment.
fn plant(log: &Log) -> JoinHandle<()> {
    let log = log.clone();
    tokio::spawn(async move {
        for seq in 1_u64.. {
            log.push_pump(seq..=seq);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

async fn stopped(plant: JoinHandle<()>) {
    plant.abort();
    assert!(plant.await.is_err_and(|end| end.is_cancelled()));
}

async fn connections(bench: &Bench, count: u64) {
    let there = || bench.seen().uplink.connections == count && bench.seen().uplink.connected;
    within(there, || format!("connection {count}: {:?}", bench.seen().uplink)).await;
    let acknowledged = bench.log.acknowledged();
    within(|| bench.log.acknowledged() > acknowledged + 50, || "it delivers".to_owned()).await;
}

#[tokio::test]
async fn a_new_broker_is_connected_with_and_the_old_one_left_in_order_while_observations_flow() {
    let Some(mut bench) = Bench::new() else { return };
    let second = bench.another_broker("second");
    let readers = [bench.subscribe("reader"), bench.subscribe_to(&second, "reader-2")];
    bench.start_deliver();
    let plant = plant(&bench.log);
    connections(&bench, 1).await;
    bench.settings.port = second.port();
    bench.reload();
    connected_with(&bench, &address(&second)).await;
    connections(&bench, 2).await;
    stopped(plant).await;
    bench.finish().await;
    let all: BTreeSet<u64> = (1..=bench.log.pushed() as u64).collect();
    let arrived = || readers.iter().flat_map(|reader| arrivals(reader, PUMP)).collect::<Vec<u64>>();
    within(|| arrived().len() >= all.len(), || format!("{} of {} arrive", arrived().len(), all.len())).await;
    assert_eq!(arrived().into_iter().collect::<BTreeSet<_>>(), all);
    assert_eq!(arrived().len(), all.len(), "none twice: nothing was in flight when the first was left");
    let states = readers.map(|reader| {
        let status = reader.received().unwrap().into_iter().rfind(|message| message.topic.ends_with("/status"));
        status.unwrap().payload
    });
    assert!(states[0].contains(r#""state":"offline","since":""#), "the old broker was told: {}", states[0]);
}

#[tokio::test]
async fn a_connection_that_is_left_again_and_again_loses_nothing_and_sends_nothing_twice() {
    let Some(mut bench) = Bench::new() else { return };
    let subscriber = bench.subscribe("reader");
    bench.start_deliver();
    let plant = plant(&bench.log);
    for round in 1..=20 {
        connections(&bench, round).await;
        bench.settings.max_payload += 1;
        bench.reload();
    }
    connections(&bench, 21).await;
    stopped(plant).await;
    bench.finish().await;
    let all: Vec<u64> = (1..=bench.log.pushed() as u64).collect();
    within(|| arrivals(&subscriber, PUMP).len() >= all.len(), || "all arrive".to_owned()).await;
    assert_eq!(arrivals(&subscriber, PUMP), all);
}

#[tokio::test]
async fn settings_that_cannot_be_used_change_nothing_and_the_same_once_more_is_no_reason_to_reconnect() {
    let Some(mut bench) = Bench::new() else { return };
    bench.start_deliver();
    let plant = plant(&bench.log);
    connections(&bench, 1).await;
    let good = bench.settings.clone();
    bench.settings.key = "/no/such/key".into();
    bench.reload();
    bench.settings = good;
    bench.reload();
    connections(&bench, 1).await;
    // What is refused or known is looked at at once, so this one comes after them.
    bench.settings.max_payload = 1_000;
    bench.reload();
    connections(&bench, 2).await;
    stopped(plant).await;
    bench.finish().await;
    assert_eq!(bench.log.acknowledged(), bench.log.pushed());
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_being_told_and_nothing_is_lost() {
    let Some(mut bench) = Bench::new() else { return };
    let subscriber = bench.subscribe("reader");
    bench.start_deliver();
    let plant = plant(&bench.log);
    connections(&bench, 1).await;
    let renewed = bench.pki.issue("renewed", &["gateway"], Validity::Now).unwrap();
    bench.give_gateway(&bench.pki.ca, &renewed);
    connections(&bench, 2).await;
    stopped(plant).await;
    bench.finish().await;
    let all: Vec<u64> = (1..=bench.log.pushed() as u64).collect();
    within(|| arrivals(&subscriber, PUMP).len() >= all.len(), || "all arrive".to_owned()).await;
    assert_eq!(arrivals(&subscriber, PUMP), all, "once and in order: nothing was in flight when it was left");
}

#[tokio::test]
async fn a_key_that_does_not_belong_to_the_new_certificate_is_refused_and_the_old_pair_serves_on() {
    let Some(mut bench) = Bench::new() else { return };
    bench.start_deliver();
    let plant = plant(&bench.log);
    connections(&bench, 1).await;
    fs::copy(&bench.pki.subscriber.key, &bench.settings.key).unwrap();
    // Even over a break: the broker asks for the certificate again.
    bench.broker.stop().unwrap();
    within(|| !bench.seen().uplink.connected, || "the loss is seen".to_owned()).await;
    bench.broker.run().unwrap();
    connections(&bench, 2).await;
    // The other half arrives.
    bench.give_gateway(&bench.pki.ca, &bench.pki.subscriber);
    connections(&bench, 3).await;
    stopped(plant).await;
    bench.finish().await;
    assert_eq!(bench.log.acknowledged(), bench.log.pushed());
}

//! More than one broker: fail-over, and back again.

use std::collections::BTreeSet;
use std::time::Duration;

use ganglion::site::Address;
use ganglion_hil::peers::mosquitto::Mosquitto;

use crate::bench::{Bench, PUMP, arrivals, first_arrivals, within};

pub(crate) fn address(broker: &Mosquitto) -> Address {
    Address { host: "localhost".to_owned(), port: broker.port() }
}

/// Waits until this broker is the one that is connected.
pub(crate) async fn connected_with(bench: &Bench, broker: &Address) {
    let there = || {
        let uplink = bench.seen().uplink;
        uplink.connected && uplink.broker == Some(broker.to_string())
    };
    within(there, || format!("{broker} is connected: {:?}", bench.seen().uplink)).await;
}

#[tokio::test]
async fn a_killed_broker_is_replaced_by_the_next_and_taken_back_when_it_answers_again_and_nothing_is_missing() {
    let Some(mut bench) = Bench::new() else { return };
    let second = bench.another_broker("second");
    let (preferred, alternative) = (address(&bench.broker), address(&second));
    bench.settings.alternatives = vec![alternative.clone()];
    let readers = [bench.subscribe("reader"), bench.subscribe_to(&second, "reader-2")];
    // In order, so that its database knows the subscription when it is killed later.
    bench.broker.stop().unwrap();
    bench.broker.run().unwrap();
    bench.start_deliver();
    bench.log.push_pump(1..=100);
    connected_with(&bench, &preferred).await;
    within(|| arrivals(&readers[0], PUMP).len() >= 100, || "the first hundred arrive".to_owned()).await;
    bench.broker.kill().unwrap();
    bench.log.push_pump(101..=200);
    connected_with(&bench, &alternative).await;
    let uplink = bench.seen().uplink;
    assert_eq!(uplink.last_error_broker, Some(preferred.to_string()), "{uplink:?}");
    bench.expect_delivered(PUMP, 200).await;
    assert_eq!(first_arrivals(&readers[1], PUMP).last(), Some(&200));
    // Something is in flight at every moment while the first comes back.
    let log = bench.log.clone();
    let plant = tokio::spawn(async move {
        for seq in 201_u64.. {
            log.push_pump(seq..=seq);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    bench.broker.run().unwrap();
    connected_with(&bench, &preferred).await;
    let returned = bench.log.pushed();
    within(|| bench.log.acknowledged() > returned + 50, || "the preferred one is used".to_owned()).await;
    plant.abort();
    assert!(plant.await.is_err_and(|end| end.is_cancelled()));
    bench.finish().await;
    let all: BTreeSet<u64> = (1..=bench.log.pushed() as u64).collect();
    let arrived = || readers.iter().flat_map(|reader| arrivals(reader, PUMP)).collect::<BTreeSet<u64>>();
    within(|| arrived() == all, || format!("{:?} are missing", all.difference(&arrived()).collect::<Vec<_>>())).await;
    assert_eq!(bench.ledger(PUMP).delivered, all.len() as u64, "counted once");
    assert_eq!(arrivals(&readers[1], PUMP), first_arrivals(&readers[1], PUMP), "left in order: nothing was in flight");
    for reader in &readers {
        assert!(first_arrivals(reader, PUMP).is_sorted(), "in order on each");
    }
}

#[tokio::test]
async fn when_no_broker_is_there_each_failure_and_the_time_of_the_next_try_are_told() {
    let Some(mut bench) = Bench::new() else { return };
    let mut second = bench.another_broker("second");
    let (preferred, alternative) = (address(&bench.broker), address(&second));
    bench.settings.alternatives = vec![alternative.clone()];
    bench.settings.retry = (Duration::from_secs(2), Duration::from_secs(4));
    bench.broker.stop().unwrap();
    second.stop().unwrap();
    bench.log.push_pump(1..=1);
    bench.start_deliver();
    for (failed, next) in [(&preferred, &alternative), (&alternative, &preferred)] {
        let told = || {
            let uplink = bench.seen().uplink;
            uplink.last_error_broker == Some(failed.to_string()) && uplink.broker == Some(next.to_string())
        };
        within(told, || format!("{failed}, then {next}: {:?}", bench.seen().uplink)).await;
        bench.expect_cause(&format!("connection refused: nothing listens on {failed}")).await;
    }
    let uplink = bench.seen().uplink;
    assert!(uplink.retry_in_ms.is_some_and(|pause| pause >= 2_000), "after a round there is a pause: {uplink:?}");
    let in_a_while = ganglion::clock::now() < uplink.retry_at.unwrap();
    assert!(in_a_while && uplink.retry_at.unwrap() <= ganglion::clock::after(Duration::from_secs(4)), "{uplink:?}");
    second.run().unwrap();
    bench.finish().await;
    assert_eq!(bench.log.acknowledged(), 1);
}

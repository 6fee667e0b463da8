//! What a subscriber sees of the three lanes and of declared losses, behind a real broker that was away.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use ganglion::site::{MqttVersion, Stream};
use tokio::time;

use crate::arrived::{Arrived, Content, Lane};
use crate::bench::{Bench, VALVE, id, within};
use crate::station::{Plan, Station, buffer_of, stream};

/// Longer than what became durable is called new.
const AWAY: Duration = Duration::from_millis(6_500);

fn plan() -> Plan {
    Plan {
        streams: (1..=20).map(|serial| stream(serial, 3)).collect(),
        event_streams: (1..=3).map(|serial| stream(serial, 1)).collect(),
        buffer: buffer_of(64, 64 * 1024),
        event_buffer: buffer_of(16, 64 * 1024),
    }
}

/// Waits until every number is taken or declared lost.
async fn complete(station: &Station, subscriber: &ganglion_hil::peers::mosquitto::Subscriber) -> Arrived {
    let missing = || station.missing(&Arrived::of(subscriber));
    within(|| missing().is_empty(), || format!("{:?}, {:?}", station.monitor.snapshot().uplink, missing())).await;
    Arrived::of(subscriber)
}

async fn connected(station: &Station, is: bool) {
    let uplink = || station.monitor.snapshot().uplink;
    within(|| uplink().connected == is, || format!("connected is {is}: {:?}", uplink())).await;
}

pub(crate) async fn after_an_outage_what_is_new_and_an_alarm_come_before_what_waited_and_all_of_it_joins(
    version: MqttVersion,
) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let subscriber = bench.subscribe("reader");
    let mut station = Station::open(&bench.path("data"), &plan(), &bench.settings);
    station.start_deliver(&bench.settings);
    for place in 0..100 {
        station.observe(place % 20, 0.4).await;
    }
    complete(&station, &subscriber).await;
    bench.broker.stop().unwrap();
    connected(&station, false).await;
    let before = station.pushed.clone();
    for place in 0..4_000 {
        station.observe(place % 20, 0.001 * place as f64).await;
    }
    station.raise(0, true).await;
    // The age is what is tested.
    time::sleep(AWAY).await;
    let waited = station.pushed.clone();
    for place in 0..40 {
        station.observe(place % 20, 0.4).await;
    }
    bench.broker.run().unwrap();
    let arrived = complete(&station, &subscriber).await;

    assert_eq!((&arrived.reordered, arrived.declared_count()), (&Vec::new(), 0));
    let messages = subscriber.received().unwrap();
    let of = |lane| {
        let read = messages.iter().enumerate().map(|(place, own)| (place, Content::read(&own.topic, &own.bytes), own));
        read.filter(|(_, content, _)| content.lane == Some(lane)).collect::<Vec<_>>()
    };
    let (live, backfill, events) = (of(Lane::Live), of(Lane::Backfill), of(Lane::Event));
    let last_backfill = backfill.last().unwrap().0;
    for (_, content, _) in &live {
        for (series, seq) in &content.observations {
            assert!(*seq <= before[series] || *seq > waited[series], "{seq} of {series:?} is history");
        }
    }
    for (_, content, _) in &backfill {
        for (series, seq) in &content.observations {
            assert!(*seq > before[series] && *seq <= waited[series], "{seq} of {series:?} is no history");
        }
    }
    let encoding = "content-encoding:zstd";
    for (_, content, own) in &backfill {
        let told = version == MqttVersion::V5 && content.compressed;
        assert_eq!(own.user_properties.contains(encoding), told, "{:?}", own.user_properties);
    }
    assert!(backfill.iter().filter(|(_, content, _)| content.compressed).count() * 10 >= backfill.len() * 9);
    assert!(live.iter().chain(&events).all(|(_, _, own)| !own.user_properties.contains(encoding)));
    let ahead = backfill.iter().filter(|(place, ..)| *place < events[0].0).count();
    let new = live.last().unwrap().0;
    let behind = backfill.iter().filter(|(place, ..)| *place > new).count();
    println!(
        "{version:?}: 4000 that waited in {} messages of backfill; {ahead} of them before the event, {behind} behind the \
         last of the 40 new ones",
        backfill.len()
    );
    assert!(events[0].0 < last_backfill, "the alarm came before the backfill was through");
    assert!(new < last_backfill, "what is new came before the backfill was through");
    let left = station.finish().await;
    assert_eq!(left.resources.values().map(|ledger| ledger.delivered).sum::<u64>(), 4_140);
}

pub(crate) async fn what_the_quota_took_during_an_outage_is_declared_to_the_number(version: MqttVersion) {
    let Some(mut bench) = Bench::speaking(version) else { return };
    let subscriber = bench.subscribe("reader");
    let plan = Plan { buffer: buffer_of(6, 16 * 1024), ..plan() };
    let mut station = Station::open(&bench.path("data"), &plan, &bench.settings);
    station.start_deliver(&bench.settings);
    for place in 0..100 {
        station.observe(place % 20, 0.4).await;
    }
    complete(&station, &subscriber).await;
    bench.broker.stop().unwrap();
    connected(&station, false).await;
    for place in 0..3_000 {
        station.observe(place % 20, 0.001 * place as f64).await;
    }
    let evicted = || station.monitor.snapshot().resources.values().map(|ledger| ledger.dropped).sum::<u64>();
    within(|| evicted() > 500, || format!("the quota is spent: {}", evicted())).await;
    bench.broker.run().unwrap();
    let arrived = complete(&station, &subscriber).await;
    let (mut declared, mut seen) = (0, 0);
    for (series, &last) in &station.pushed {
        let numbers = arrived.numbers(series);
        let gaps = arrived.gaps(series);
        let lost: BTreeSet<u64> = gaps.iter().flat_map(|gap| gap.first..=gap.last).collect();
        assert!(gaps.iter().all(|gap| gap.cause == "quota" && gap.last - gap.first + 1 == gap.count), "{gaps:?}");
        assert_eq!(numbers.intersection(&lost).count(), 0, "{series:?}: declared and seen");
        assert_eq!(numbers.union(&lost).copied().collect::<Vec<_>>(), (1..=last).collect::<Vec<_>>(), "{series:?}");
        (declared, seen) = (declared + lost.len(), seen + numbers.len());
    }
    println!("{version:?}: {seen} seen and {declared} declared of {}", station.total());
    let left = station.finish().await;
    let sum = |of: fn(&ganglion::monitor::Ledger) -> u64| left.resources.values().map(of).sum::<u64>();
    assert_eq!(sum(|own| own.dropped), declared as u64);
    assert_eq!(sum(|own| own.delivered), seen as u64);
    assert_eq!(arrived.reordered, []);
}

#[tokio::test]
async fn what_the_broker_may_not_take_is_declared_and_kept_for_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let acl = folder.path().join("acl");
    fs::write(&acl, "topic readwrite city/v1/620602/#\n").unwrap();
    let Some(bench) = Bench::with_options(&[&format!("acl_file {}", acl.display())]) else { return };
    let subscriber = bench.subscribe("reader");
    let mut plan = plan();
    plan.streams.push(Stream { resource: id(VALVE), ..stream(1, 1) });
    let mut station = Station::open(&bench.path("data"), &plan, &bench.settings);
    station.start_deliver(&bench.settings);
    for place in 0..200 {
        station.observe(if place % 10 == 0 { 20 } else { place % 10 }, 0.4).await;
    }
    let arrived = complete(&station, &subscriber).await;
    let valve = (station.telemetry(1).0, VALVE.to_owned());
    let gaps = arrived.gaps(&valve);
    assert!(gaps.iter().all(|gap| gap.cause == "not-authorised"), "{gaps:?}");
    assert_eq!((arrived.declared_count(), arrived.numbers(&valve).len()), (20, 0));
    let letters = bench.path("data/dead-letter/letters.jsonl");
    let lines = || fs::read_to_string(&letters).unwrap_or_default();
    let kept = || lines().matches(&format!("\\\"id\\\":\\\"{VALVE}\\\"")).count();
    within(|| kept() == 20, || format!("{} of 20 are kept: {}", kept(), lines())).await;
    let first: serde_json::Value = serde_json::from_str(lines().lines().next().unwrap()).unwrap();
    assert_eq!(first["topic"], "city/v1/330502/water/0103/000123/obs");
    assert!(first["reason"].as_str().unwrap().contains("0x87"), "{first}");
    let left = station.finish().await;
    let ledger = left.resources[&id(VALVE)];
    assert_eq!((ledger.delivered, ledger.dropped), (0, 20));
}

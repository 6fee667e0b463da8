//! The proof of the uplink: a plant of some dozens of streams, the buffer on disk, deliver, and a broker at its worst.
//!
//! What a run does comes from a seed, which it prints: `UPLINK_CHAOS_SEED` plays it again, as far as the scheduler
//! allows. `UPLINK_CHAOS_MESSAGES` asks for another number of messages.

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, Instant};

use fastrand::Rng;
use ganglion::monitor::Ledger;
use ganglion::site::MqttVersion;

use crate::arrived::{Lane, Series};
use crate::bench::Bench;
use crate::hostile::{Hostile, Treatment};
use crate::station::{Plan, Station, buffer_of, stream};
use crate::storm::Storm;

/// Resources with observations, from 1; the first two are of their own kind.
const RESOURCES: u64 = 36;
/// Its observations are longer than what the broker takes.
const WIDE: u64 = 1;
/// Its topic may not be published to.
const FORBIDDEN: u64 = 2;
const FORBIDDEN_TOPIC: &str = "/9601/000002/obs";
/// Resources with events, from 1.
const ALARMED: u64 = 12;
/// Largest packet that the broker takes.
const LARGEST: usize = 4_096;
/// Observations that the plant is ahead of the broker, at most.
const AHEAD: u64 = 3_000;
/// Longest time without a message that came: a peer that answers nothing is left after the connect timeout, 10 s, or one
/// and a half keep-alives, 5 s each; a busy machine takes its time.
const WEDGED: Duration = Duration::from_secs(25);

fn chosen<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What the connection of this number is treated to.
fn treatment(random: &mut Rng, number: usize) -> Treatment {
    // A black hole costs some ten seconds, so there is one of each kind, early enough for any run.
    if number == 6 {
        return Treatment::Silence;
    }
    // One that takes a message at a time is slow, so it is short too.
    let (receive_max, most) = if random.u8(..8) == 0 { (random.u8(1..8), 300) } else { (random.u8(8..=100), 3_000) };
    Treatment::Storm(Storm {
        seed: random.u64(..),
        breaks_after: random.u32(1..=most),
        swallows: number == 3,
        receive_max,
        largest: LARGEST,
        announces: random.u8(..4) == 0,
        patience: *random.choice(&[0, 0, 0, 1, 3]).unwrap(),
        refuses: if random.u8(..4) == 0 { 4_000 } else { 0 },
        loses: if random.u8(..4) == 0 { 1_000 } else { 0 },
        forbids: FORBIDDEN_TOPIC,
    })
}

fn plan() -> Plan {
    let own = |serial| stream(serial, if serial == WIDE { 120 } else { 1 });
    // Some are read at two periods: two streams, numbered together.
    let second = (3..=6).map(|serial| stream(serial, 3));
    Plan {
        streams: (1..=RESOURCES).map(own).chain(second).collect(),
        event_streams: (1..=ALARMED).map(|serial| stream(serial, 1)).collect(),
        buffer: buffer_of(64, 256 * 1024),
        event_buffer: buffer_of(16, 64 * 1024),
    }
}

/// One observation or event of the plant.
async fn happen(station: &mut Station, random: &mut Rng) {
    let value = random.f64() * 2.0;
    match random.u32(..2_000) {
        0 => station.observe(0, value).await,
        1..=5 => station.observe(1, value).await,
        6..=150 => station.raise(random.usize(..usize::try_from(ALARMED).unwrap()), value > 1.0).await,
        _ => station.observe(random.usize(2..usize::try_from(RESOURCES).unwrap() + 4), value).await,
    }
}

/// Until so many messages came.
async fn survive(version: MqttVersion, messages: u64) {
    let Some(bench) = Bench::speaking(version) else { return };
    let seed = chosen("UPLINK_CHAOS_SEED", fastrand::u64(..));
    let messages = chosen("UPLINK_CHAOS_MESSAGES", messages);
    println!("UPLINK_CHAOS_SEED={seed} UPLINK_CHAOS_MESSAGES={messages} {version:?}");
    let (mut of_plant, of_broker) = (Rng::with_seed(seed), Rng::with_seed(!seed));
    let of_broker = std::sync::Mutex::new(of_broker);
    let broker =
        Hostile::start(&bench.pki.broker, move |number| treatment(&mut of_broker.lock().unwrap(), number)).await;
    let mut settings = bench.settings.clone();
    settings.port = broker.port;
    settings.retry = (Duration::from_millis(1), Duration::from_millis(5));
    settings.max_payload = 600;
    let data = bench.path("data");
    let mut station = Station::open(&data, &plan(), &settings);
    let start = Instant::now();
    station.start_deliver(&settings);

    let at_work = |station: &Station| {
        let (silence, accounted, came) = broker.look(|seen| {
            let silence = seen.last_arrival.unwrap_or(start).elapsed();
            (silence, seen.arrived.accounted(), seen.arrived.messages)
        });
        assert!(silence < WEDGED, "nothing for {silence:?}, {came} messages: {:?}", station.monitor.snapshot().uplink);
        (accounted, came)
    };
    loop {
        let (accounted, came) = at_work(&station);
        if came >= messages {
            break;
        }
        if station.total() < accounted + AHEAD {
            for _ in 0..64 {
                happen(&mut station, &mut of_plant).await;
            }
        } else {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    while at_work(&station).0 < station.total() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (pushed, epochs) = (station.pushed.clone(), station.epochs);
    let missing = broker.look(|seen| station.missing(&seen.arrived));
    let left = station.finish().await;
    let took = start.elapsed();

    let (connections, left_by_client) = (broker.connections(), broker.left_by_client());
    let mut gaps: BTreeMap<(String, String), u64> = BTreeMap::new();
    broker.look(|seen| {
        for ((_, id), gap) in seen.arrived.all_gaps() {
            *gaps.entry((id.clone(), gap.cause.clone())).or_default() += gap.count;
        }
        let arrived = &seen.arrived;
        println!(
            "{} messages {:?} with {} observations in {:.1} s over {} connections: missing {}, duplicates {} ({:.2} %), \
             reordered {}",
            arrived.messages,
            arrived.by_lane,
            arrived.observations,
            took.as_secs_f64(),
            connections,
            missing.len(),
            arrived.repeated,
            arrived.repeated as f64 * 100.0 / arrived.messages as f64,
            arrived.reordered.len(),
        );
        println!(
            "refused for now {}, for good {}, too large {}, acknowledgements lost {}, left by the client {}, longest \
             silence {:?}, declared {gaps:?}",
            seen.refused.0, seen.refused.1, seen.oversize, seen.stalled, left_by_client, seen.longest_silence,
        );
        assert_eq!(missing, [], "neither taken nor declared");
        assert_eq!(arrived.reordered, [], "each lane of each resource is in order by first arrival");
        assert!(arrived.repeated * 50 < arrived.messages, "fewer than 2 % came again: {}", arrived.repeated);
        assert!([Lane::Live, Lane::Backfill, Lane::Event].iter().all(|lane| arrived.by_lane.contains_key(lane)));
    });
    for ((id, cause), count) in &gaps {
        let own = match cause.as_str() {
            "packet-too-large" => WIDE,
            "not-authorised" if version == MqttVersion::V5 => FORBIDDEN,
            _ => panic!("{count} of {id} are declared lost: {cause}"),
        };
        assert_eq!(*id, crate::station::resource(own).to_string(), "{cause}");
    }
    let ledgers = |series: &Series| -> Ledger {
        let ledgers =
            if series.0 == format!("{:016x}", epochs.events) { &left.event_resources } else { &left.resources };
        ledgers[&series.1.parse().unwrap()]
    };
    for (series, &last) in &pushed {
        let ledger = ledgers(series);
        assert_eq!((ledger.accepted, ledger.durable, ledger.last_seq), (last, last, last), "{series:?}");
        assert_eq!(ledger.delivered + ledger.dropped, last, "counted once: {series:?} {ledger:?}");
        let declared: u64 = gaps.iter().filter(|((id, _), _)| *id == series.1).map(|(_, count)| count).sum();
        if series.0 == format!("{:016x}", epochs.telemetry) {
            assert_eq!(ledger.dropped, declared, "{series:?} {ledger:?}");
        } else {
            assert_eq!(ledger.dropped, 0, "{series:?} {ledger:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_at_its_worst_gets_everything_in_order_or_is_told_what_is_lost() {
    survive(MqttVersion::V5, 200_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_of_the_older_version_at_its_worst_gets_everything_in_order_or_is_told_what_is_lost() {
    survive(MqttVersion::V4, 20_000).await;
}

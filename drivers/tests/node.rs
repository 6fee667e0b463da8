//! The engine of a bus of nodes on a virtual line of 19200 Bd, with faults from a seed: whatever is dropped, flipped, doubled
//! or late, whoever starts anew, each number of a node's store is told once, as a sample or as lost.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "so is a number that does not fit")]

use std::collections::BTreeMap;
use std::time::Duration;

use ganglion_drivers::breaker::Policy;
use ganglion_drivers::node::{Event, Lost, LostCause, Moment, NodeBus, Settings, Taken, UnitSettings};
use ganglion_protocols::Origin;
use ganglion_protocols::node_link::{
    Answer, Ask, Batch, Channel, ChannelKind, Head, Hello, Lost as NodeLost, MAX_FRAME, MAX_PAYLOAD, NodeLossCause,
    NodeReading, Refusal, ResetCause, SchemaHash, Speaker, VERSION, Version, open, put_sample, seal,
};
use proptest::prelude::*;

const CHARACTER: Duration = Duration::from_micros(573);
const CRI: u64 = 77;
const UTC: u64 = 1_800_000_000_000;
const PERIOD_MS: u64 = 1_000;
const CAPACITY: usize = 20;
/// How far a time may be from the true one and still tell a sample from its neighbours.
const SLACK_MS: u64 = 400;

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

fn channel() -> Channel<'static> {
    Channel {
        index: 0,
        property: "pressure",
        unit: "MPa",
        exponent: -3,
        register: 10,
        kind: ChannelKind::Gauge,
        low: 0,
        high: 1000,
        period_s: 1,
    }
}

/// A node of one channel whose value is the number of the sample over all its lives.
struct Fake {
    unit: u8,
    persistent: bool,
    epoch: u32,
    boot: u32,
    started_ms: u64,
    anchors: BTreeMap<u32, u64>,
    last: u32,
    acked: u32,
    dropped_to: u32,
    /// Number, boot, uptime, value.
    kept: Vec<(u32, u32, u64, i32)>,
    next_ms: u64,
    made: i32,
    /// Value and true time of each sample taken.
    truth: BTreeMap<i32, u64>,
    /// The first value of each life.
    lives: Vec<i32>,
    /// Numbers that went with a life, by value.
    gone: Vec<i32>,
}

impl Fake {
    fn new(unit: u8, persistent: bool) -> Self {
        Self {
            unit,
            persistent,
            epoch: 0,
            boot: 1,
            started_ms: 0,
            anchors: BTreeMap::new(),
            last: 0,
            acked: 0,
            dropped_to: 0,
            kept: Vec::new(),
            next_ms: PERIOD_MS,
            made: 0,
            truth: BTreeMap::new(),
            lives: vec![1],
            gone: Vec::new(),
        }
    }

    fn live(&mut self, now_ms: u64) {
        while self.next_ms <= now_ms {
            self.made += 1;
            self.last += 1;
            self.truth.insert(self.made, UTC + self.next_ms);
            self.kept.push((self.last, self.boot, self.next_ms - self.started_ms, self.made));
            if self.kept.len() > CAPACITY {
                self.dropped_to = self.kept.remove(0).0;
            }
            self.next_ms += PERIOD_MS;
        }
    }

    fn cut(&mut self, now_ms: u64) {
        self.started_ms = now_ms;
        self.next_ms = now_ms + PERIOD_MS;
        self.boot += 1;
        self.lives.push(self.made + 1);
        if !self.persistent {
            self.gone.extend(self.kept.drain(..).map(|kept| kept.3));
            (self.epoch, self.boot, self.last, self.acked, self.dropped_to) = (0, 1, 0, 0, 0);
            self.anchors.clear();
        }
    }

    fn answer(&mut self, now_ms: u64, frame: &mut [u8]) -> Option<Vec<u8>> {
        let (head, payload) = open(frame).ok()?;
        if head.unit != self.unit || head.speaker != Speaker::Gateway {
            return None;
        }
        let ask = Ask::parse(payload).ok()?;
        let uptime = now_ms - self.started_ms;
        let mut samples = [0; 150];
        let answer = match ask {
            Ask::Describe => Answer::Hello(Hello {
                cri: CRI,
                serial: u64::from(self.unit),
                board: "fake",
                firmware: Version { major: 1, minor: 0, patch: 0 },
                schema: SchemaHash::of([channel()]),
                channels: 1,
                epoch: self.epoch,
                boot: self.boot,
                reset: ResetCause::Power,
                capacity: CAPACITY as u16,
                persistent: self.persistent,
            }),
            Ask::Channel { .. } => Answer::Channel(channel()),
            Ask::Time { utc_ms, epoch, .. } => {
                if let Some(utc) = utc_ms {
                    self.anchors.entry(self.boot).or_insert(utc - uptime);
                }
                if self.epoch == 0 {
                    self.epoch = epoch;
                }
                let anchor_ms = self.anchors.get(&self.boot).copied();
                Answer::Time { boot: self.boot, uptime_ms: uptime, anchor_ms, epoch: self.epoch }
            }
            Ask::Fetch { .. } if self.epoch == 0 => Answer::Refused(Refusal::Unnamed),
            Ask::Fetch { ack, most } => {
                if let Some(ack) = ack.filter(|ack| ack.epoch == self.epoch) {
                    assert!(ack.seq <= self.last, "an acknowledgement of what was never given");
                    self.acked = self.acked.max(ack.seq);
                    self.kept.retain(|kept| kept.0 > self.acked);
                }
                let lost = (self.dropped_to > self.acked).then_some(NodeLost {
                    first: self.acked + 1,
                    last: self.dropped_to,
                    cause: NodeLossCause::Full,
                });
                let first = self.kept.first().copied();
                let boot = first.map_or(self.boot, |first| first.1);
                let (mut used, mut count, mut before) = (0, 0, first.map_or(0, |first| first.2));
                for kept in self.kept.iter().take_while(|kept| kept.1 == boot).take(usize::from(most)) {
                    let step = kept.2 - before;
                    let Ok(more) = put_sample(step, &[NodeReading::Value(kept.3)], &mut samples[used..]) else { break };
                    (used, count, before) = (used + more, count + 1, kept.2);
                }
                Answer::Batch(Batch {
                    epoch: self.epoch,
                    schema: SchemaHash::of([channel()]),
                    first: first.map_or(self.last + 1, |first| first.0),
                    waiting: (self.kept.len() - count) as u16,
                    lost,
                    alarm: false,
                    boot,
                    anchor_ms: self.anchors.get(&boot).copied(),
                    base_ms: first.map_or(0, |first| first.2),
                    now: (self.boot, uptime),
                    samples: &samples[..used],
                })
            }
            _ => Answer::Refused(Refusal::Unable),
        };
        let mut payload = [0; MAX_PAYLOAD];
        let (version, used) = answer.emit(&mut payload).unwrap();
        let mut out = [0; MAX_FRAME];
        let head = Head { version, speaker: Speaker::Node, ..head };
        let used = seal(head, &payload[..used], &mut out).unwrap();
        assert_eq!(version, VERSION);
        Some(out[..used].to_vec())
    }
}

/// Up to where, and the sample or the loss that was told.
type Told = (Taken, Option<(i32, u64)>, Option<Lost>);

/// What a gateway keeps over its restarts, and what it was told.
#[derive(Default)]
struct Store {
    durable: Option<Taken>,
    /// Value, and the time it came with.
    samples: Vec<(i32, u64)>,
    lost: Vec<Lost>,
    /// Told and not durable yet: goes with the gateway.
    open: Vec<Told>,
}

impl Store {
    fn commit(&mut self) -> Option<Origin> {
        for (taken, sample, lost) in self.open.drain(..) {
            let utc_ms = taken.utc_ms.or(self.durable.and_then(|durable| durable.utc_ms));
            self.durable = Some(Taken { utc_ms, ..taken });
            self.samples.extend(sample);
            self.lost.extend(lost);
        }
        self.durable.map(|durable| durable.origin)
    }
}

const POLICY: Policy = Policy { share_percent: 20, trip_after: 6, longest_pause: Duration::from_secs(5) };

fn engine(now: Duration, nodes: &[Fake], stores: &[Store], seed: u64, breaker: Policy) -> NodeBus {
    let unit = |(node, store): (&Fake, &Store)| UnitSettings {
        unit: node.unit,
        cri: CRI,
        period: Duration::from_secs(2),
        taken: store.durable,
    };
    let mut bus = NodeBus::new(
        now,
        Settings {
            character: CHARACTER,
            gap: CHARACTER * 4,
            response_timeout: Duration::from_millis(300),
            shortest_wait: Duration::from_millis(50),
            answer_slack: Duration::from_millis(30),
            retries: 2,
            breaker,
            discover_every: Some(Duration::from_secs(60)),
            seed,
            nodes: nodes.iter().zip(stores).map(unit).collect(),
        },
    );
    bus.connected(now);
    bus
}

/// Returns how many samples came and how many were told lost.
fn run(seed: u64, faults: u64, persistent: &[bool]) -> (usize, usize) {
    let mut random = Random(seed);
    let mut nodes: Vec<Fake> = (1..).zip(persistent).map(|(unit, persistent)| Fake::new(unit, *persistent)).collect();
    let mut stores: Vec<Store> = nodes.iter().map(|_| Store::default()).collect();
    let mut now = Duration::ZERO;
    let mut bus = engine(now, &nodes, &stores, seed, POLICY);
    let mut arriving: Vec<(Duration, Vec<u8>)> = Vec::new();
    let end = Duration::from_secs(300);
    while now < end + Duration::from_secs(90) {
        let troubled = now < end && faults > 0;
        let now_ms = u64::try_from(now.as_millis()).unwrap();
        let moment = Moment { now, utc_ms: UTC + now_ms, sure: true };
        // Behind the last fault a few more: only with the first sample of a new life the end of the one before is known.
        if now < end + Duration::from_secs(10) {
            nodes.iter_mut().for_each(|node| node.live(now_ms));
        }
        while let Some(place) = arriving.iter().position(|(at, _)| *at <= now) {
            let (_, bytes) = arriving.remove(place);
            bytes.chunks(16).for_each(|lump| bus.handle_bytes(moment, lump));
        }
        bus.handle_timeout(moment);
        while let Some(frame) = bus.poll_transmit(moment) {
            let mut frame = frame.to_vec();
            let heard = now + CHARACTER * u32::try_from(frame.len()).unwrap();
            let fault = if troubled { random.below(100) } else { 100 };
            if fault < faults {
                let place = random.below(frame.len() as u64) as usize;
                frame[place] ^= 1 << random.below(8);
            }
            let heard_ms = u64::try_from(heard.as_millis()).unwrap();
            for node in &mut nodes {
                let Some(mut answer) = node.answer(heard_ms, &mut frame.clone()) else { continue };
                let at = heard + CHARACTER * u32::try_from(answer.len()).unwrap() + Duration::from_millis(10);
                let fault = if troubled { random.below(100) } else { 100 };
                match fault {
                    f if f < faults => continue,
                    f if f < 2 * faults => {
                        let place = random.below(answer.len() as u64) as usize;
                        answer[place] ^= 1 << random.below(8);
                    }
                    f if f < 3 * faults => arriving.push((at + Duration::from_millis(3), answer.clone())),
                    f if f < 4 * faults => {
                        arriving.push((at + Duration::from_millis(random.below(2_000)), answer.clone()));
                        continue;
                    }
                    _ => {}
                }
                arriving.push((at, answer));
            }
        }
        while let Some(event) = bus.poll_event() {
            match event {
                Event::Sample(sample) => {
                    let &[NodeReading::Value(value)] = &sample.readings[..] else { panic!("{sample:?}") };
                    let taken = Taken { origin: sample.origin, utc_ms: Some(sample.utc_ms) };
                    stores[sample.node].open.push((taken, Some((value, sample.utc_ms)), None));
                }
                Event::Lost(lost) => {
                    assert!(lost.count > 0 && lost.span_ms.0 <= lost.span_ms.1);
                    let taken = Taken { origin: lost.origin, utc_ms: None };
                    stores[lost.node].open.push((taken, None, Some(lost)));
                }
                Event::SameUnit { .. } | Event::WrongCri { .. } | Event::Unsupported { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
        if random.below(40) == 0 {
            for (node, store) in stores.iter_mut().enumerate() {
                if let Some(origin) = store.commit() {
                    bus.durable(now, node, origin);
                }
            }
        }
        if troubled && random.below(4_000) == 0 {
            let place = random.below(nodes.len() as u64) as usize;
            nodes[place].cut(now_ms);
        }
        if troubled && random.below(3_000) == 0 {
            stores.iter_mut().for_each(|store| store.open.clear());
            bus = engine(now, &nodes, &stores, random.below(u64::MAX >> 33), POLICY);
        }
        now += Duration::from_millis(5);
    }
    for (node, store) in nodes.iter().zip(&stores) {
        let mut told = BTreeMap::new();
        for (value, at) in &store.samples {
            assert_eq!(told.insert(*value, *at), None, "sample {value} of unit {} came twice", node.unit);
            let off = node.truth[value].abs_diff(*at);
            assert!(off <= 2_000, "sample {value} of unit {} is dated {off} ms off", node.unit);
        }
        let mut clocks = BTreeMap::new();
        for (value, at) in &told {
            let life = node.lives.partition_point(|first| first <= value);
            let zero = at.wrapping_sub(node.truth[value]);
            assert_eq!(
                *clocks.entry(life).or_insert(zero),
                zero,
                "sample {value} of unit {}: a clock a life",
                node.unit
            );
        }
        let missing: Vec<_> = node.truth.keys().filter(|value| !told.contains_key(value)).collect();
        let declared =
            |cause| store.lost.iter().filter(|lost| lost.cause == cause).map(|lost| u64::from(lost.count)).sum::<u64>();
        let restart = declared(LostCause::Restart);
        let known = declared(LostCause::Full) + declared(LostCause::Undated) + declared(LostCause::Damaged);
        // A life of which nothing was ever taken is not known to have been.
        let unheard = |value: &i32| told.keys().next().is_none_or(|first| first > value);
        for value in &missing {
            let at = node.truth[value];
            let tells = |lost: &Lost| lost.span_ms.0 <= at + SLACK_MS && at <= lost.span_ms.1 + SLACK_MS;
            let is_told = unheard(value) || store.lost.iter().any(tells);
            assert!(is_told, "sample {value} of unit {}, taken at {at}, is in no loss: {:?}", node.unit, store.lost);
        }
        let lives = missing.iter().filter(|value| node.gone.contains(value)).count() as u64;
        if node.persistent {
            assert_eq!((missing.len() as u64, restart), (known, 0), "unit {}: {:?}", node.unit, store.lost);
        } else {
            // What went with a life is guessed; what a store says it dropped is exact.
            assert!(known <= missing.len() as u64, "unit {}: {:?}", node.unit, store.lost);
            let lives = lives - node.gone.iter().filter(|value| unheard(value)).count() as u64;
            assert!(lives == 0 || restart > 0, "unit {}: {lives} gone, {:?}", node.unit, store.lost);
        }
    }
    let came = stores.iter().map(|store| store.samples.len()).sum();
    let lost = stores.iter().map(|store| store.lost.len()).sum();
    println!("seed {seed}, faults {faults}: {came} came, {lost} losses told");
    (came, lost)
}

#[test]
fn without_faults_every_sample_comes_once_with_its_own_time() {
    assert_eq!(run(1, 0, &[true, true, false]), (3 * 309, 0));
}

/// A cut of an hour makes pauses of minutes; those nodes have no memory for them.
#[test]
fn a_line_that_is_mended_is_found_within_seconds_and_all_its_nodes_are_asked() {
    let questions = mended_after(Duration::from_secs(3_600), 3);
    assert!((600..2_000).contains(&questions), "one in three seconds, and who is there: {questions}");
}

/// Some of its nodes are given up, others not yet.
#[test]
fn a_line_that_is_mended_soon_has_all_its_nodes_asked_at_once() {
    for seconds in 1..30 {
        mended_after(Duration::from_secs(seconds), seconds);
    }
}

/// Cuts a line for so long; all nodes that were given up must be back soon after. Returns the questions asked meanwhile.
fn mended_after(outage: Duration, seed: u64) -> usize {
    let mut nodes: Vec<Fake> = (1..=3).map(|unit| Fake::new(unit, false)).collect();
    let stores: Vec<Store> = nodes.iter().map(|_| Store::default()).collect();
    let policy = Policy { share_percent: 5, longest_pause: Duration::from_secs(300), ..POLICY };
    let mut bus = engine(Duration::ZERO, &nodes, &stores, seed, policy);
    let (cut, mended) = (Duration::from_secs(20), Duration::from_secs(20) + outage);
    let mut arriving: Vec<(Duration, Vec<u8>)> = Vec::new();
    let (mut silent, mut back, mut questions_while_cut) = (Vec::new(), Vec::new(), 0);
    let mut now = Duration::ZERO;
    while now < mended + Duration::from_secs(30) {
        let now_ms = u64::try_from(now.as_millis()).unwrap();
        let moment = Moment { now, utc_ms: UTC + now_ms, sure: true };
        for (_, bytes) in arriving.extract_if(.., |(at, _)| *at <= now) {
            bus.handle_bytes(moment, &bytes);
        }
        bus.handle_timeout(moment);
        while let Some(frame) = bus.poll_transmit(moment) {
            if (cut..mended).contains(&now) {
                questions_while_cut += 1;
                continue;
            }
            let frame = frame.to_vec();
            let answers = nodes.iter_mut().filter_map(|node| node.answer(now_ms + 40, &mut frame.clone()));
            arriving.extend(answers.map(|answer| (now + CHARACTER * 200, answer)));
        }
        while let Some(event) = bus.poll_event() {
            match event {
                Event::Silent { node } => silent.push(node),
                Event::Back { node } => back.push((node, now.saturating_sub(mended))),
                _ => {}
            }
        }
        now += Duration::from_millis(5);
    }
    silent.sort_unstable();
    back.sort_unstable();
    let came_back: Vec<usize> = back.iter().map(|(node, _)| *node).collect();
    assert_eq!(came_back, silent, "each that was given up is back, once: {back:?}");
    assert!(back.iter().all(|(_, after)| *after < Duration::from_secs(5)), "{outage:?}: {back:?}");
    questions_while_cut
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_happens_each_number_is_told_once_as_a_sample_or_as_lost(seed: u64, faults in 1_u64..20) {
        let (came, _) = run(seed, faults, &[true, false, true]);
        prop_assert!(came > 0);
    }
}

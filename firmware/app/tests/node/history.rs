//! Long histories: every sample taken is delivered once, or declared lost, whatever happens to line, node and memory.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use ganglion_protocols::node_link::{Ack, Answer, Ask, Batch, ResetCause, Samples};
use ganglion_protocols::node_settings::NodeSettings;

use super::rig::{CHANNELS, Rig};

const HOUR: Duration = Duration::from_secs(3600);
/// UTC when a history begins.
const BEGIN: u64 = 1_790_000_000_000;
/// A sample each ten seconds.
const PERIOD_S: u16 = 10;
/// How far the time of a sample may be from the truth: what a late answer makes of the clock.
const CLOCK_MS: u64 = 4_000;

/// A gateway that acknowledges what it has, and remembers what it was told of the rest.
#[derive(Default)]
struct Gateway {
    epoch: u32,
    /// The boot that was given the time.
    boot: Option<u32>,
    /// Everything up to it is taken or declared lost.
    mark: u32,
    /// UTC and first value of each sample of an epoch.
    taken: BTreeMap<(u32, u32), (u64, usize)>,
    lost: Vec<(u32, RangeInclusive<u32>)>,
}

impl Gateway {
    fn take(&mut self, batch: &Batch<'_>) {
        if Some(batch.now.0) != self.boot {
            // It started since it was told the time.
            self.boot = None;
        }
        if batch.epoch != self.epoch {
            (self.epoch, self.mark) = (batch.epoch, 0);
        }
        if let Some(lost) = batch.lost {
            assert!(lost.first <= self.mark + 1 && lost.last >= lost.first, "{lost:?} behind {}", self.mark);
            if lost.last > self.mark {
                self.lost.push((self.epoch, self.mark + 1..=lost.last));
                self.mark = lost.last;
            }
        }
        let Some(anchor) = batch.anchor_ms else { return };
        let samples = Samples::new(batch.samples, CHANNELS.len() as u8, batch.base_ms);
        for (seq, sample) in (batch.first..).zip(samples) {
            let sample = sample.expect("a sample");
            let dated = (anchor + sample.at_ms, sample.readings().count());
            if seq <= self.mark {
                assert_eq!(self.taken.get(&(self.epoch, seq)), Some(&dated), "sent again, it is the same sample");
                continue;
            }
            assert_eq!(seq, self.mark + 1, "there is no hole that was not declared");
            assert!(self.taken.insert((self.epoch, seq), dated).is_none());
            self.mark = seq;
        }
    }
}

struct History {
    rig: Rig,
    gateway: Gateway,
    random: fastrand::Rng,
    /// UTC at which the node started.
    started: u64,
    /// Line faults of a thousand frames each.
    faults: u32,
    /// Memories that were lost, and the epoch that each life of the store was given.
    epochs: Vec<u32>,
    /// What was taken: life and number to UTC.
    truth: BTreeMap<(usize, u32), u64>,
    seen: usize,
    persistent: bool,
}

impl History {
    fn new(seed: u64, persistent: bool) -> Self {
        let settings = NodeSettings { sample_period_s: PERIOD_S, ..NodeSettings::DEFAULT };
        Self {
            rig: Rig::with_memory(settings, 2048, persistent),
            gateway: Gateway::default(),
            random: fastrand::Rng::with_seed(seed),
            started: BEGIN,
            faults: 100,
            epochs: vec![0],
            truth: BTreeMap::new(),
            seen: 0,
            persistent,
        }
    }

    fn utc(&self) -> u64 {
        self.started + u64::try_from(self.rig.now.as_millis()).unwrap()
    }

    fn happens(&mut self, in_a_thousand: u32) -> bool {
        self.random.u32(..1000) < in_a_thousand
    }

    /// Notes what was taken, and starts the node again if its power went.
    fn look(&mut self) {
        let life = self.epochs.len() - 1;
        for stored in &self.rig.taken[self.seen..] {
            let before = self.truth.insert((life, stored.seq), self.started + stored.at_ms);
            assert_eq!(before, None, "number {} of life {life} was given twice", stored.seq);
        }
        self.seen = self.rig.taken.len();
        if self.rig.node.epoch() != 0 && !self.rig.is_dead() {
            self.epochs[life] = self.rig.node.epoch();
        }
        if self.rig.is_dead() {
            self.start(ResetCause::Power);
        }
    }

    fn start(&mut self, cause: ResetCause) {
        let mut cause = cause;
        loop {
            self.started = self.utc() + self.random.u64(50..5_000);
            let life_ends = cause == ResetCause::Power && !self.persistent;
            if life_ends {
                self.epochs.push(0);
                let noise: Vec<u8> = (0..64).map(|_| self.random.u8(..)).collect();
                let mut ram = self.rig.chip.0.borrow_mut();
                let place = self.random.usize(..ram.bytes.len() - noise.len());
                ram.bytes[place..place + noise.len()].copy_from_slice(&noise);
            }
            self.rig.chip.0.borrow_mut().left =
                if self.random.u32(..10) == 0 { self.random.usize(..500) } else { usize::MAX };
            if self.rig.restart(cause) {
                break;
            }
            cause = ResetCause::Power;
        }
        self.rig.chip.0.borrow_mut().left = usize::MAX;
    }

    fn pass(&mut self, time: Duration) {
        self.rig.pass(time);
        self.look();
    }

    /// Asks over the line as it is; what comes back may be nothing, or nonsense.
    fn ask(&mut self, ask: &Ask<'_>) -> Option<Vec<u8>> {
        let mut frame = self.rig.question(1, ask);
        if self.happens(self.faults) {
            self.pass(Duration::from_millis(500));
            return None;
        }
        if self.happens(self.faults) {
            let place = self.random.usize(..frame.len());
            frame[place] ^= 1 << self.random.u32(..8);
        }
        if self.happens(self.faults) {
            let before = self.started;
            let _heard_twice = self.rig.asked(&frame);
            self.look();
            if self.started != before {
                return None;
            }
        }
        let said = self.rig.asked(&frame).map(|said| said.bytes);
        self.look();
        if self.happens(self.faults) {
            // Lost, or too late: then its token fits no question any more.
            return None;
        }
        let mut said = said?;
        if self.happens(self.faults) {
            let place = self.random.usize(..said.len());
            said[place] ^= 1 << self.random.u32(..8);
        }
        let mut copy = said;
        let (head, payload) = ganglion_protocols::node_link::open(&mut copy).ok()?;
        (head.token == self.rig.token() && head.version == 1).then(|| payload.to_vec())
    }

    /// One round of the gateway: time where it must be told, then whatever waits.
    fn poll(&mut self) {
        for _ in 0..20 {
            if self.gateway.boot.is_none() {
                let epoch = self.random.u32(1..);
                let utc_ms = Some(self.utc());
                let Some(answer) = self.ask(&Ask::Time { utc_ms, error_ms: 50, epoch }) else { return };
                let Ok(Answer::Time { boot, .. }) = Answer::parse(1, &answer) else { return };
                self.gateway.boot = Some(boot);
            }
            let (epoch, seq) = (self.gateway.epoch, self.gateway.mark);
            let ack = (epoch != 0).then_some(Ack { epoch, seq });
            let most = self.random.u8(1..40);
            let Some(answer) = self.ask(&Ask::Fetch { ack, most }) else { return };
            match Answer::parse(1, &answer) {
                Ok(Answer::Batch(batch)) => {
                    self.gateway.take(&batch);
                    if batch.samples.is_empty() && batch.lost.is_none() && batch.waiting == 0 {
                        return;
                    }
                }
                _ => self.gateway.boot = None,
            }
        }
    }

    fn live(&mut self, time: Duration) {
        let end = self.utc() + u64::try_from(time.as_millis()).unwrap();
        while self.utc() < end {
            let rest = if self.happens(30) { self.random.u64(200..2_000) } else { self.random.u64(1..40) };
            let more = self.random.u64(..1000);
            self.pass(Duration::from_millis(rest * 1000 + more));
            if self.happens(30) {
                let causes = [ResetCause::Order, ResetCause::Watchdog, ResetCause::Fault, ResetCause::Pin];
                let cause = causes[self.random.usize(..causes.len())];
                self.start(cause);
            }
            if self.happens(30) {
                self.start(ResetCause::Power);
            }
            if self.happens(50) {
                self.rig.chip.0.borrow_mut().left = self.random.usize(..400);
            }
            if self.happens(50) {
                // The gateway starts anew: what is durable stays.
                self.gateway.boot = None;
            }
            self.poll();
        }
    }

    /// Ends the history over a good line, and counts: taken, delivered, declared lost, gone with the memory.
    fn account(mut self) -> [usize; 4] {
        self.faults = 0;
        self.rig.chip.0.borrow_mut().left = usize::MAX;
        for _ in 0..20 {
            self.poll();
            if self.truth.keys().next_back().is_none_or(|(_, seq)| *seq == self.gateway.mark) {
                break;
            }
        }
        let last_life = self.epochs.len() - 1;
        let mut counts = [self.truth.len(), 0, 0, 0];
        let mut delivered = self.gateway.taken.clone();
        for (&(life, seq), &at) in &self.truth {
            let epoch = self.epochs[life];
            let lost = self.gateway.lost.iter().any(|(of, range)| *of == epoch && range.contains(&seq));
            match delivered.remove(&(epoch, seq)) {
                Some((dated, readings)) => {
                    assert!(!lost, "{seq} was delivered and declared lost");
                    assert!(dated.abs_diff(at) <= CLOCK_MS, "{seq} was taken at {at} and is dated {dated}");
                    assert_eq!(readings, CHANNELS.len());
                    counts[1] += 1;
                }
                None if lost => counts[2] += 1,
                None => {
                    assert!(life < last_life, "number {seq} of the last life is neither here nor lost");
                    counts[3] += 1;
                }
            }
        }
        assert!(delivered.is_empty(), "nobody took {delivered:?}");
        counts
    }
}

fn histories(seeds: RangeInclusive<u64>, persistent: bool) -> [usize; 4] {
    seeds.fold([0; 4], |mut sum, seed| {
        let mut history = History::new(seed, persistent);
        history.live(HOUR * 3);
        let counts = history.account();
        assert_eq!(counts[0], counts[1] + counts[2] + counts[3], "seed {seed}");
        sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        sum
    })
}

#[test]
fn a_memory_that_outlives_the_power_loses_nothing_but_what_it_declares() {
    let [taken, delivered, lost, gone] = histories(1..=20, true);
    println!("{taken} taken, {delivered} delivered, {lost} declared lost");
    assert_eq!(gone, 0);
    assert!(taken > 10_000 && lost > 100 && delivered > lost, "the histories are worth something");
}

#[test]
fn a_memory_that_goes_with_the_power_loses_nothing_but_what_it_declares_and_the_end_of_a_life() {
    let [taken, delivered, lost, gone] = histories(101..=120, false);
    println!("{taken} taken, {delivered} delivered, {lost} declared lost, {gone} gone with the memory");
    assert!(taken > 10_000 && lost > 100 && gone > 100 && delivered > lost, "the histories are worth something");
}

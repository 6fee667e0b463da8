//! Seeded random histories, in lock-step with a model that knows what each answer of the buffer promised.
//!
//! `GANGLION_BUFFER_SEED=n` replays history `n` alone; `GANGLION_BUFFER_HISTORIES=n` runs another number of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ganglion_protocols::{Cri, Value};

use super::sim_disk::{Faults, SimDisk};
use super::{observation, resource, site};
use crate::buffer::log::Log;
use crate::buffer::{Outlet, Position, open_on};
use crate::monitor::{Ledger, Monitor};
use crate::site::Site;

const HISTORIES: u64 = 2000;
const STEPS: u32 = 50;

#[test]
fn nothing_durable_is_lost_or_numbered_twice_in_any_history() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, count) = match number("GANGLION_BUFFER_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("GANGLION_BUFFER_HISTORIES").unwrap_or(HISTORIES)),
    };
    let mut seen = Seen::default();
    for seed in first..first + count {
        // Printed only when the test fails.
        println!("GANGLION_BUFFER_SEED={seed}");
        let mut history = History::new(seed);
        for _ in 0..STEPS {
            history.step();
        }
        history.finish();
        seen.add(&history.seen);
    }
    println!("{seen:?}");
    if count >= HISTORIES {
        let Seen { durable, read, evicted, refused, power_cuts, kills, flips, skipped_numbers } = seen;
        let all = [durable, read, evicted, refused, power_cuts, kills, flips, skipped_numbers];
        assert!(all.iter().all(|times| *times > 0), "the histories are to reach everything: {all:?}");
    }
}

/// How often what happened.
#[derive(Default, Debug)]
struct Seen {
    durable: u64,
    read: u64,
    evicted: u64,
    refused: u64,
    power_cuts: u64,
    kills: u64,
    flips: u64,
    skipped_numbers: u64,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.durable += other.durable;
        self.read += other.read;
        self.evicted += other.evicted;
        self.refused += other.refused;
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.flips += other.flips;
        self.skipped_numbers += other.skipped_numbers;
    }
}

/// What the model knows of one resource.
#[derive(Default)]
struct Known {
    /// Last number given.
    last: u64,
    /// Marks ever given a number, by number: more than one where the first was never durable.
    given: BTreeMap<u64, Vec<u64>>,
    /// Accepted and not durable, oldest first.
    accepted: Vec<u64>,
    /// Durable by word of the buffer.
    durable: BTreeSet<u64>,
    /// Acknowledged to the buffer.
    acknowledged: u64,
    /// Evicted by word of the buffer.
    evicted: u64,
    ledger: Ledger,
}

struct History {
    rng: fastrand::Rng,
    disk: SimDisk,
    site: Site,
    monitor: Arc<Monitor>,
    log: Option<Log>,
    outlet: Option<Outlet>,
    now: Instant,
    epoch: u64,
    faults: Faults,
    mark: u64,
    known: BTreeMap<Cri, Known>,
    /// Last number read of each resource since the last rewind or restart.
    last_read: BTreeMap<Cri, u64>,
    /// Ends of chunks read, with what they acknowledge.
    chunks: Vec<(Position, BTreeMap<Cri, u64>)>,
    /// Whether a bit was ever flipped: then what it hit may be missing.
    damaged: bool,
    seen: Seen,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let site = site(Path::new(""), rng.u64(3..8));
        let disk = SimDisk::new();
        let mut history = Self {
            monitor: Arc::new(Monitor::new(&site)),
            rng,
            disk,
            site,
            log: None,
            outlet: None,
            now: Instant::now(),
            epoch: 0,
            faults: Faults::default(),
            mark: 0,
            known: (1..=3).map(|serial| (resource(serial), Known::default())).collect(),
            last_read: BTreeMap::new(),
            chunks: Vec::new(),
            damaged: false,
            seen: Seen::default(),
        };
        history.open();
        history
    }

    fn step(&mut self) {
        let action = self.rng.u32(..100);
        match action {
            0..40 => self.append(),
            40..52 => self.with_log(|log, now| log.commit(now)),
            52..67 => {
                self.read();
            }
            67..75 => self.acknowledge(),
            75..79 => self.with_log(|log, now| log.save_cursor(now)),
            79..82 => self.rewind(),
            82..87 => self.wait(),
            87..91 => self.change_faults(),
            91..94 => self.kill(),
            94..98 => self.cut_power(),
            _ => self.flip(),
        }
        self.check_bytes();
    }

    /// Ends the faults, then reads everything that is left.
    fn finish(&mut self) {
        self.set_faults(Faults::default());
        self.wait();
        self.with_log(|log, now| log.commit(now));
        self.read_to_end();
    }

    fn append(&mut self) {
        let count = if self.rng.u8(..4) == 0 { self.rng.usize(1..30) } else { self.rng.usize(1..6) };
        let mut batch = Vec::new();
        let mut numbered = Vec::new();
        for _ in 0..count {
            self.mark += 1;
            let stream = self.rng.usize(..self.site.streams.len());
            let made = observation(&self.site, stream, self.mark);
            let resource = self.site.streams[stream].resource;
            let known = self.known.get_mut(&resource).unwrap();
            known.last += 1;
            known.given.entry(known.last).or_default().push(self.mark);
            numbered.push((resource, known.last));
            batch.push(made);
        }
        let mut offered: BTreeMap<Cri, Vec<u64>> = BTreeMap::new();
        for (resource, seq) in numbered {
            offered.entry(resource).or_default().push(seq);
        }
        let (mut log, now) = (self.log.take().unwrap(), self.now);
        log.append(&mut batch, now);
        self.log = Some(log);
        self.account(&offered);
    }

    fn with_log(&mut self, act: impl FnOnce(&mut Log, Instant)) {
        let mut log = self.log.take().unwrap();
        act(&mut log, self.now);
        self.log = Some(log);
        self.account(&BTreeMap::new());
    }

    /// Takes what the ledgers say: each number offered was accepted or dropped, and the oldest accepted became durable.
    fn account(&mut self, offered: &BTreeMap<Cri, Vec<u64>>) {
        for (resource, ledger) in self.monitor.snapshot().resources {
            let known = self.known.get_mut(&resource).unwrap();
            let none = Vec::new();
            let offered = offered.get(&resource).unwrap_or(&none);
            let accepted = usize::try_from(ledger.accepted - known.ledger.accepted).unwrap();
            let dropped = ledger.dropped - known.ledger.dropped;
            assert!(accepted <= offered.len(), "{accepted} of {} accepted", offered.len());
            let refused = (offered.len() - accepted) as u64;
            assert!(dropped >= refused, "{refused} refused, {dropped} counted");
            known.evicted += dropped - refused;
            self.seen.evicted += dropped - refused;
            self.seen.refused += refused;
            // What is refused is the end of the batch.
            known.accepted.extend(&offered[..accepted]);
            if let Some(last) = offered[..accepted].last() {
                assert_eq!(ledger.last_seq, *last);
            }
            let durable = usize::try_from(ledger.durable - known.ledger.durable).unwrap();
            known.durable.extend(known.accepted.drain(..durable));
            self.seen.durable += durable as u64;
            known.ledger = ledger;
        }
    }

    /// Reads one chunk and returns its numbers.
    fn read(&mut self) -> Option<Vec<(Cri, u64)>> {
        let chunk = self.outlet.as_mut().unwrap().try_next().unwrap()?;
        for stored in &chunk.observations {
            let resource = stored.shape.resource;
            let known = self.known.get_mut(&resource).unwrap();
            let Some(Value::Uint(mark)) = stored.readings[0].value else { panic!("{stored:?}") };
            let given = known.given.get(&stored.seq).unwrap_or_else(|| panic!("{resource} {} never given", stored.seq));
            assert!(given.contains(&mark), "{resource} {}: {mark} is none of {given:?}", stored.seq);
            let stream = (0..self.site.streams.len()).find(|stream| {
                let stream = &self.site.streams[*stream];
                stream.resource == resource && stream.properties == stored.shape.properties
            });
            let made = observation(&self.site, stream.expect("a shape of the site"), mark);
            assert_eq!((made.t, made.clock, &made.readings), (stored.t, stored.clock, &stored.readings));
            let last = self.last_read.entry(resource).or_insert(0);
            assert!(*last < stored.seq, "{resource}: {} after {last}", stored.seq);
            *last = stored.seq;
            // What the outlet shows is durable: its number is bound to this mark for ever.
            known.durable.insert(stored.seq);
            known.given.insert(stored.seq, vec![mark]);
            self.seen.read += 1;
        }
        self.chunks.push((chunk.end, self.last_read.clone()));
        Some(chunk.observations.iter().map(|stored| (stored.shape.resource, stored.seq)).collect())
    }

    /// Reads what is left and checks it against everything durable and not acknowledged.
    fn read_to_end(&mut self) {
        self.rewind();
        let mut read: BTreeMap<Cri, BTreeSet<u64>> = BTreeMap::new();
        while let Some(numbers) = self.read() {
            for (resource, seq) in numbers {
                read.entry(resource).or_default().insert(seq);
            }
        }
        for (resource, known) in &self.known {
            let read = read.remove(resource).unwrap_or_default();
            let due: Vec<u64> = known.durable.range(known.acknowledged + 1..).copied().collect();
            let missing: Vec<u64> = due.iter().filter(|seq| !read.contains(seq)).copied().collect();
            if self.damaged {
                continue;
            }
            assert!(
                missing.len() as u64 <= known.evicted,
                "{resource}: {missing:?} missing, {} evicted",
                known.evicted
            );
            assert!(due.starts_with(&missing), "{resource}: {missing:?} is not the oldest of {due:?}");
        }
    }

    fn acknowledge(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        let chosen = self.rng.usize(..self.chunks.len());
        let (end, numbers) = self.chunks.drain(..=chosen).next_back().unwrap();
        for (resource, seq) in numbers {
            let known = self.known.get_mut(&resource).unwrap();
            known.acknowledged = known.acknowledged.max(seq);
        }
        self.outlet.as_ref().unwrap().acknowledge(end);
        self.with_log(Log::acknowledged);
    }

    fn rewind(&mut self) {
        self.outlet.as_mut().unwrap().rewind();
        self.last_read.clear();
        self.chunks.clear();
    }

    fn wait(&mut self) {
        self.now += Duration::from_millis(self.rng.u64(5..1500));
        self.with_log(Log::tick);
    }

    fn change_faults(&mut self) {
        let chance = |rng: &mut fastrand::Rng| rng.u8(..4) == 0;
        let rng = &mut self.rng;
        let faults = if rng.bool() {
            Faults::default()
        } else {
            Faults {
                full: chance(rng),
                full_for_all: chance(rng),
                read_only: chance(rng),
                failing_syncs: if chance(rng) { rng.u32(1..4) } else { 0 },
                failing_writes: if chance(rng) { rng.u32(1..4) } else { 0 },
                ..Faults::default()
            }
        };
        self.set_faults(faults);
    }

    fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.disk.set_faults(faults);
    }

    /// The process dies; the page cache does not.
    fn kill(&mut self) {
        self.seen.kills += 1;
        let forgets = self.faults.failing_syncs > 0;
        self.close();
        self.set_faults(Faults::default());
        if !forgets && !self.damaged {
            // Nothing accepted is lost, so all of it counts as durable once the store is open again.
            for known in self.known.values_mut() {
                let accepted = std::mem::take(&mut known.accepted);
                known.durable.extend(accepted);
            }
        }
        self.open();
    }

    fn cut_power(&mut self) {
        self.seen.power_cuts += 1;
        self.close();
        self.set_faults(Faults::default());
        self.disk.cut_power(&mut self.rng);
        self.open();
    }

    fn flip(&mut self) {
        use crate::buffer::Storage;
        let names: Vec<String> = self.disk.list().unwrap();
        if names.is_empty() || self.rng.bool() {
            return;
        }
        self.seen.flips += 1;
        self.damaged = true;
        let name = &names[self.rng.usize(..names.len())];
        let len = self.disk.contents(name).len().max(1);
        self.disk.flip(name, self.rng.usize(..len), self.rng.u8(..8));
    }

    fn close(&mut self) {
        self.log = None;
        self.outlet = None;
        self.last_read.clear();
        self.chunks.clear();
        for known in self.known.values_mut() {
            known.ledger = Ledger::default();
        }
    }

    fn open(&mut self) {
        self.monitor = Arc::new(Monitor::new(&self.site));
        let rng = fastrand::Rng::with_seed(self.rng.u64(..));
        let (log, outlet) =
            open_on(self.disk.clone(), &Arc::new(self.site.clone()), Arc::clone(&self.monitor), rng).unwrap();
        let epoch_is_new = log.epoch != self.epoch;
        let first_durable = self.known.values().any(|known| !known.durable.is_empty());
        if first_durable && !self.damaged {
            assert!(!epoch_is_new, "a store with durable observations has a new epoch");
        }
        self.epoch = log.epoch;
        self.log = Some(log);
        self.outlet = Some(outlet);
        for (resource, ledger) in self.monitor.snapshot().resources {
            let known = self.known.get_mut(&resource).unwrap();
            known.accepted.clear();
            known.ledger = ledger;
            let durable = known.durable.last().copied().unwrap_or(0);
            if !epoch_is_new && !self.damaged {
                assert!(ledger.last_seq >= durable, "{resource}: {durable} would be given again");
                assert!(ledger.last_seq <= known.last, "{resource}: {} numbers skipped", ledger.last_seq - known.last);
            }
            self.seen.skipped_numbers += u64::from(ledger.last_seq > known.last);
            known.last = ledger.last_seq;
            if epoch_is_new {
                known.durable.clear();
                known.acknowledged = 0;
            }
        }
        self.read_to_end();
        self.rewind();
    }

    fn check_bytes(&self) {
        let (bytes, most) = (self.disk.bytes(), self.site.buffer.max_bytes);
        assert!(bytes <= most, "{bytes} bytes on disk, {most} allowed");
    }
}

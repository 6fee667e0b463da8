//! Seeded random histories of the telemetry log with its two lanes, in lock-step with a model that knows what each answer
//! of the buffer promised.
//!
//! `GANGLION_BUFFER_SEED=n` replays history `n` alone; `GANGLION_BUFFER_HISTORIES=n` runs another number of them.

use std::collections::{BTreeMap, BTreeSet};
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ganglion_protocols::{Cri, Value};

use super::sim_disk::{Faults, SimDisk};
use super::{observation, open_log, resource, site};
use crate::buffer::log::Log;
use crate::buffer::shared::Lane;
use crate::buffer::{Outlet, Span};
use crate::monitor::{Ledger, Monitor};
use crate::site::{Site, WhenFull};

const SEED: &str = "GANGLION_BUFFER_SEED";
const HISTORIES: u64 = 4000;
const STEPS: u32 = 50;
/// Histories run at once.
const THREADS: u64 = 2;

#[test]
fn nothing_durable_is_lost_or_numbered_twice_in_any_history() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, count) = match number(SEED) {
        Some(seed) => (seed, 1),
        None => (0, number("GANGLION_BUFFER_HISTORIES").unwrap_or(HISTORIES)),
    };
    let run = |part: u64| {
        let mut seen = Seen::default();
        for seed in (first + part..first + count).step_by(usize::try_from(THREADS).unwrap()) {
            let ran = panic::catch_unwind(|| {
                let mut history = History::new(seed);
                (0..STEPS).for_each(|_| history.step());
                history.finish();
                history
            });
            let history = ran.unwrap_or_else(|failure| {
                println!("replay it alone with {SEED}={seed}");
                panic::resume_unwind(failure)
            });
            seen.add(&history.seen);
        }
        seen
    };
    let mut seen = run(0);
    thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS).map(|part| scope.spawn(move || run(part))).collect();
        others.into_iter().for_each(|part| seen.add(&part.join().expect("no history fails")));
    });
    println!("{count} histories: {seen:?}");
    if count >= HISTORIES {
        assert!(seen.all().iter().all(|times| *times > 0), "the histories are to reach everything: {seen:?}");
    }
}

/// How often what happened.
#[derive(Default, Debug)]
struct Seen {
    durable: u64,
    live: u64,
    backfill: u64,
    evicted: u64,
    refused: u64,
    declared: u64,
    power_cuts: u64,
    kills: u64,
    flips: u64,
    skipped_numbers: u64,
    /// Histories in which every number was read or declared lost in the end.
    complete: u64,
}

impl Seen {
    fn all(&self) -> [u64; 11] {
        let Self { durable, live, backfill, evicted, refused, declared, .. } = *self;
        let Self { power_cuts, kills, flips, skipped_numbers, complete, .. } = *self;
        [durable, live, backfill, evicted, refused, declared, power_cuts, kills, flips, skipped_numbers, complete]
    }

    fn add(&mut self, other: &Self) {
        self.durable += other.durable;
        self.live += other.live;
        self.backfill += other.backfill;
        self.evicted += other.evicted;
        self.refused += other.refused;
        self.declared += other.declared;
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.flips += other.flips;
        self.skipped_numbers += other.skipped_numbers;
        self.complete += other.complete;
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
    acknowledged: BTreeSet<u64>,
    /// Evicted by word of the buffer.
    evicted: u64,
    /// Read once, or declared lost: nobody waits for them any more.
    settled: BTreeSet<u64>,
    ledger: Ledger,
}

/// One lane of the buffer, with what it handed out on this connection.
struct Reader {
    outlet: Outlet,
    /// Last number read of each resource.
    last: BTreeMap<Cri, u64>,
    /// Chunks read and not acknowledged, with their numbers.
    chunks: Vec<(Span, Vec<(Cri, u64)>)>,
}

struct History {
    rng: fastrand::Rng,
    disk: SimDisk,
    site: Site,
    monitor: Arc<Monitor>,
    log: Option<Log>,
    /// Live and backfill, in the order in which they begin a connection.
    readers: Vec<Reader>,
    /// Handed out on this connection, by whichever lane.
    handed: BTreeSet<(Cri, u64)>,
    now: Instant,
    epoch: u64,
    faults: Faults,
    mark: u64,
    known: BTreeMap<Cri, Known>,
    /// Whether a bit was ever flipped: then what it hit may be missing.
    damaged: bool,
    /// Whether a crash took a loss that could not be declared before.
    undeclared: bool,
    told: bool,
    seen: Seen,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut site = site(Path::new(""), rng.u64(3..8));
        if rng.u8(..8) == 0 {
            site.buffer.when_full = WhenFull::RefuseNewest;
        }
        let disk = SimDisk::new();
        let mut history = Self {
            monitor: Arc::new(Monitor::new(&site)),
            rng,
            disk,
            site,
            log: None,
            readers: Vec::new(),
            handed: BTreeSet::new(),
            now: Instant::now(),
            epoch: 0,
            faults: Faults::default(),
            mark: 0,
            known: (1..=3).map(|serial| (resource(serial), Known::default())).collect(),
            damaged: false,
            undeclared: false,
            told: std::env::var_os(SEED).is_some(),
            seen: Seen::default(),
        };
        history.open();
        history
    }

    fn step(&mut self) {
        let action = self.rng.u32(..100);
        self.tell(|| format!("action {action}"));
        match action {
            0..40 => self.append(),
            40..52 => self.with_log(|log, now| log.commit(now)),
            52..67 => {
                let lane = self.rng.usize(..2);
                self.read(lane);
            }
            67..75 => self.acknowledge(),
            75..79 => self.with_log(|log, now| log.save_cursor(now)),
            79..82 => self.reconnect(),
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
        // A log that refuses the newest says so when there is room again.
        self.acknowledge_all();
        self.with_log(|log, now| log.save_cursor(now));
        self.now += Duration::from_secs(2);
        self.with_log(Log::tick);
        self.with_log(|log, now| log.commit(now));
        self.read_to_end();
        self.check_complete();
    }

    /// Says what happens, where one history is replayed.
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            println!("{}", what());
        }
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
        self.tell(|| format!("offered {offered:?}"));
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

    /// Reads one chunk of a lane; says whether there was one.
    fn read(&mut self, lane: usize) -> bool {
        let reader = &mut self.readers[lane];
        let Some(chunk) = reader.outlet.try_next(self.now).unwrap() else { return false };
        let mut numbers = Vec::new();
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
            let last = reader.last.entry(resource).or_insert(0);
            assert!(*last < stored.seq, "{resource}: {} after {last} in lane {lane}", stored.seq);
            *last = stored.seq;
            assert!(self.handed.insert((resource, stored.seq)), "{resource} {} is handed out twice", stored.seq);
            // What the outlet shows is durable: its number is bound to this mark for ever.
            known.durable.insert(stored.seq);
            known.given.insert(stored.seq, vec![mark]);
            known.settled.insert(stored.seq);
            numbers.push((resource, stored.seq));
        }
        for gap in &chunk.gaps {
            let known = self.known.get_mut(&gap.resource()).unwrap();
            assert!(gap.last() <= known.last, "{gap:?} of numbers never given, the last is {}", known.last);
            known.settled.extend(gap.first()..=gap.last());
            self.seen.declared += 1;
        }
        let count = numbers.len() as u64;
        if lane == 0 {
            self.seen.live += count
        } else {
            self.seen.backfill += count
        }
        let told = format_args!("lane {lane}: {:?}, {numbers:?}, {:?}", chunk.span, chunk.gaps).to_string();
        reader.chunks.push((chunk.span, numbers));
        self.tell(|| told);
        true
    }

    /// Reads what is left in all lanes and checks it against everything durable and not acknowledged.
    fn read_to_end(&mut self) {
        self.reconnect();
        // What is found missing on the way is declared, which is read then.
        loop {
            while self.read(0) || self.read(1) {}
            self.with_log(Log::acknowledged);
            self.with_log(|log, now| log.commit(now));
            if !self.read(0) && !self.read(1) {
                break;
            }
        }
        if self.damaged {
            return;
        }
        for (resource, known) in &self.known {
            let due = known.durable.iter().filter(|seq| !known.acknowledged.contains(seq));
            let missing: Vec<u64> = due.copied().filter(|seq| !self.handed.contains(&(*resource, *seq))).collect();
            assert!(
                missing.len() as u64 <= known.evicted,
                "{resource}: {missing:?} missing, {} evicted",
                known.evicted
            );
        }
    }

    /// Checks that each number was read once or declared lost.
    fn check_complete(&mut self) {
        if self.damaged || self.undeclared {
            return;
        }
        for (resource, known) in &self.known {
            let missing: Vec<u64> = (1..=known.last).filter(|seq| !known.settled.contains(seq)).collect();
            assert!(missing.is_empty(), "{resource}: {missing:?} never came and nobody said so");
        }
        self.seen.complete += 1;
    }

    fn acknowledge(&mut self) {
        let lane = self.rng.usize(..2);
        let count = self.rng.usize(..=self.readers[lane].chunks.len());
        self.acknowledge_chunks(lane, count);
        self.with_log(Log::acknowledged);
    }

    fn acknowledge_all(&mut self) {
        for lane in 0..2 {
            self.acknowledge_chunks(lane, self.readers[lane].chunks.len());
        }
    }

    fn acknowledge_chunks(&mut self, lane: usize, count: usize) {
        let reader = &mut self.readers[lane];
        for (span, numbers) in reader.chunks.drain(..count) {
            for (resource, seq) in numbers {
                self.known.get_mut(&resource).unwrap().acknowledged.insert(seq);
            }
            reader.outlet.acknowledge(span);
        }
    }

    fn reconnect(&mut self) {
        self.handed.clear();
        let now = self.now;
        for reader in &mut self.readers {
            reader.outlet.rewind_at(now);
            reader.last.clear();
            reader.chunks.clear();
        }
    }

    fn wait(&mut self) {
        // Sometimes so long that live falls behind, or that what is new has become old.
        let longest = if self.rng.u8(..6) == 0 { 60_000 } else { 1500 };
        self.now += Duration::from_millis(self.rng.u64(5..longest));
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
        self.tell(|| format!("{faults:?}"));
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
        self.undeclared |= self.log.take().is_some_and(|log| log.late > 0);
        self.readers.clear();
        for known in self.known.values_mut() {
            known.ledger = Ledger::default();
        }
    }

    fn open(&mut self) {
        self.monitor = Arc::new(Monitor::new(&self.site));
        let seed = self.rng.u64(..);
        let (log, shelf) = open_log(&self.disk, &self.site, &self.monitor, seed, self.now).unwrap();
        let epoch_is_new = log.epoch != self.epoch;
        let first_durable = self.known.values().any(|known| !known.durable.is_empty());
        if first_durable && !self.damaged {
            assert!(!epoch_is_new, "a store with durable observations has a new epoch");
        }
        self.epoch = log.epoch;
        self.log = Some(log);
        let reader = |lane| Reader { outlet: shelf.outlet(lane), last: BTreeMap::new(), chunks: Vec::new() };
        self.readers = [Lane::Live, Lane::Backfill].map(reader).into();
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
                known.acknowledged.clear();
                known.settled.clear();
            }
        }
        self.read_to_end();
        self.reconnect();
    }

    fn check_bytes(&self) {
        let (bytes, most) = (self.disk.bytes(), self.site.buffer.max_bytes);
        assert!(bytes <= most, "{bytes} bytes on disk, {most} allowed");
    }
}

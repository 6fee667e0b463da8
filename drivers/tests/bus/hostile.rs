//! Whatever the settings, the line, the wire and the owner do: nothing panics, every task goes on making samples, every
//! order ends once, time is never waited for in vain, and no value is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use ganglion_drivers::breaker::Policy;
use ganglion_drivers::bus::order::{Deed, Order, OrderId, Write};
use ganglion_drivers::bus::{Bus, Event, IdentityCheck, LineCost, Settings, TaskSettings, UnitSettings};
use ganglion_drivers::client::{Framing, Timing, character_time, frame_gap};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::{Table, UnitId, ValueType, WordOrder};

use super::bench::{holding, ms, secs};
use super::line::{Faults, Line, Random, Speed, Unit};

/// Steps at one instant beyond which a bus runs in circles.
const STEPS: u32 = 5_000;

/// How long a calm line has to serve every task once.
const CALM: Duration = secs(75);

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len())]
}

fn number(random: &mut Random, limit: u16) -> u16 {
    u16::try_from(random.below(usize::from(limit))).expect("below")
}

fn any_wants(random: &mut Random) -> Vec<ReadRequest> {
    let most = pick(random, &[0, 1, 3, 20, 60]);
    let mut wants: Vec<ReadRequest> = (0..random.below(most + 1))
        .map(|_| ReadRequest {
            table: if random.chance(700_000) { Table::HoldingRegister } else { pick(random, &Table::ALL) },
            address: if random.chance(20_000) { 65_535 } else { number(random, 128) },
            count: pick(random, &[1, 1, 1, 2, 2, 4, 8, 130, 2001]),
        })
        .collect();
    wants.sort_unstable();
    wants.dedup();
    wants
}

fn any_unit(random: &mut Random, unit: u8) -> UnitSettings {
    UnitSettings {
        unit: UnitId(unit),
        request_gap: pick(random, &[ms(0), ms(0), ms(5), ms(100), secs(2)]),
        max_registers: pick(random, &[0, 1, 2, 16, 125, 125, 125, 60_000]),
        max_bits: pick(random, &[0, 1, 2000, 2000]),
        bridge: pick(random, &[0, 4, 124, 60_000]),
        forbidden: if random.chance(200_000) { vec![holding(number(random, 128), 3)] } else { Vec::new() },
        identity: random.chance(200_000).then(|| IdentityCheck {
            want: holding(number(random, 128), 1),
            value_type: ValueType::Bits(ganglion_protocols::modbus::BitField::new(13, 3).expect("three bits")),
            word_order: WordOrder::Abcd,
            equals: if random.chance(700_000) { u64::from(unit & 7) } else { 0 },
        }),
    }
}

fn any_settings(random: &mut Random) -> (Settings, Speed) {
    let baud = pick(random, &[1_200, 9_600, 9_600, 115_200]);
    let (character, gap) = (character_time(baud, 10), frame_gap(baud, 10));
    let lump = pick(random, &[ms(0), ms(0), ms(16)]);
    let timing =
        Timing { character, gap, late_reply: pick(random, &[ms(300), ms(300), secs(2)]), answer_slack: ms(50) };
    let ids: Vec<u8> = (0..random.below(6)).map(|_| pick(random, &[1, 2, 3, 4, 5, 6, 7, 0])).collect();
    let mut tasks = Vec::new();
    for unit in 0..ids.len() {
        for _ in 0..random.below(4) {
            let often = random.chance(20_000);
            let interval = if often {
                ms(random.bits() % 2)
            } else {
                pick(random, &[ms(100), ms(100), secs(1), secs(1), secs(10), secs(60)])
            };
            tasks.push(TaskSettings { unit, interval, wants: any_wants(random) });
        }
    }
    let units = ids.iter().map(|&id| any_unit(random, id)).collect();
    let breaker = Policy {
        share_percent: pick(random, &[0, 1, 5, 5, 50, 100]),
        trip_after: pick(random, &[0, 1, 3, 6, 20]),
        longest_pause: pick(random, &[secs(1), secs(60)]),
    };
    let settings = Settings {
        framing: Framing::Rtu(timing),
        line: LineCost::Rtu { character, gap },
        response_timeout: pick(random, &[ms(100), ms(500), secs(1)]),
        usual_turnaround: ms(10),
        shortest_wait: pick(random, &[ms(50), ms(50), secs(5)]),
        retries: pick(random, &[0, 1, 2, 2, 5, 10]),
        breaker,
        units,
        tasks,
    };
    (settings, Speed { character, lump })
}

fn any_faults(random: &mut Random) -> Faults {
    let mut some = || pick(random, &[0, 0, 0, 10_000, 100_000]);
    let faults = Faults {
        drop_request: some(),
        flip_request: some(),
        drop: some(),
        late: some(),
        late_by: (ms(20), ms(120)),
        duplicate: some(),
        flip: some(),
        truncate: some(),
        wrong_unit: some(),
        wrong_length: some(),
        stray: some(),
        foreign: some(),
        foreign_within: ms(100),
        rude: some(),
        ..Faults::default()
    };
    Faults { echo: random.chance(300_000), ..faults }
}

fn any_line_unit(random: &mut Random, id: u8) -> Unit {
    let slow = random.chance(100_000);
    let hole = number(random, 120);
    Unit {
        turnaround: if slow { (ms(40), ms(150)) } else { (ms(1), ms(12)) },
        most: pick(random, &[125, 125, 16, 1, 0]),
        hole: if random.chance(300_000) { hole..hole + 5 } else { 0..0 },
        busy: pick(random, &[0, 0, 10_000, 500_000]),
        dead: random.chance(150_000),
        ..Unit::new(id)
    }
}

fn any_deed(random: &mut Random) -> Deed {
    let address = number(random, 130);
    match random.below(9) {
        0 | 1 => Deed::Read(ReadRequest {
            table: pick(random, &Table::ALL),
            address,
            count: pick(random, &[0, 1, 2, 125, 126, 60_000]),
        }),
        2 => Deed::Identify { level: random.byte(), object: 0 },
        3 => Deed::ServerId,
        4 => Deed::Write { write: Write::Coil { address, on: true }, verify: random.chance(500_000) },
        5 => Deed::Write { write: Write::Mask { address, and: 1, or: 2 }, verify: random.chance(500_000) },
        6 => {
            let values = vec![1; pick(random, &[0, 1, 2, 123, 124, 300])];
            Deed::Write { write: Write::Registers { address, values }, verify: random.chance(500_000) }
        }
        7 => {
            let (packed, count) = (vec![1; random.below(4)], number(random, 30));
            Deed::Write { write: Write::Coils { address, packed, count }, verify: random.chance(500_000) }
        }
        _ => Deed::Write { write: Write::Register { address, value: 7 }, verify: random.chance(500_000) },
    }
}

/// A bus, its line, and an owner who is not gentle.
struct Ordeal {
    bus: Bus,
    line: Line,
    now: Duration,
    open: bool,
    random: Random,
    settings: Settings,
    orders: BTreeMap<u64, u32>,
    samples: Vec<u64>,
    asked: BTreeMap<u8, Vec<(Duration, ReadRequest)>>,
    seed: u64,
    wrong: Vec<String>,
}

impl Ordeal {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (settings, speed) = any_settings(&mut random);
        let faults = any_faults(&mut random);
        let units = (1..=7).map(|id| any_line_unit(&mut random, id)).collect();
        let start = secs(random.bits() % 100);
        Self {
            bus: Bus::new(start, settings.clone()),
            line: Line::new(speed, units, faults, seed),
            now: start,
            open: false,
            samples: vec![0; settings.tasks.len()],
            settings,
            random,
            orders: BTreeMap::new(),
            asked: BTreeMap::new(),
            seed,
            wrong: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.bus.poll_event() {
            match event {
                Event::Sampled(sampled) => {
                    self.samples[sampled.task] += 1;
                    let task = &self.settings.tasks[sampled.task];
                    assert_eq!(sampled.states.len(), task.wants.len(), "seed {}", self.seed);
                    let width: usize = task.wants.iter().map(|want| usize::from(want.count)).sum();
                    assert_eq!(sampled.words.len(), width, "seed {}", self.seed);
                    assert!(sampled.at <= self.now, "seed {}: from the future", self.seed);
                    self.check(&sampled);
                }
                Event::Ordered { id, .. } => {
                    let ends = self.orders.get_mut(&id.0).expect("an order that was given");
                    *ends += 1;
                    assert_eq!(*ends, 1, "seed {}: order {} ended twice", self.seed, id.0);
                }
                Event::Replace { .. } => panic!("seed {}: a serial line cannot be replaced", self.seed),
                _ => {}
            }
        }
    }

    fn check(&mut self, sampled: &ganglion_drivers::bus::Sampled) {
        let task = &self.settings.tasks[sampled.task];
        let unit = self.settings.units[task.unit].unit.0;
        let mut words = sampled.words.iter();
        for (want, state) in task.wants.iter().zip(&sampled.states) {
            let values: Vec<u16> = words.by_ref().take(usize::from(want.count)).copied().collect();
            if state.is_some() {
                continue;
            }
            let none = Vec::new();
            let asked = self.asked.get(&unit).unwrap_or(&none);
            let asked: Vec<Duration> = asked
                .iter()
                .rev()
                .filter(|(at, read)| read.covers(*want) && *at <= sampled.at)
                .map(|(at, _)| *at)
                .take(4)
                .collect();
            let function = want.table.read_function();
            for (address, value) in (want.address..).zip(values) {
                let right = asked.iter().any(|&at| Line::is_true(function, unit, address, value, at, at + ms(450)));
                if !right {
                    self.wrong.push(format!("unit {unit} {want:?} {address}: {value:#x} at {:?}", sampled.at));
                }
            }
        }
    }

    /// Lets time pass.
    fn run(&mut self, until: Duration) {
        let mut steps = 0;
        loop {
            while let Some(frame) = self.bus.poll_transmit(self.now) {
                let frame = frame.to_vec();
                assert!(self.open, "seed {}: sent without a wire", self.seed);
                steps += 1;
                assert!(steps < STEPS, "seed {}: sends in circles", self.seed);
                if let [unit, function @ 1..=4, a, b, c, d, ..] = *frame {
                    let table = Table::ALL.into_iter().find(|t| t.read_function() == function).expect("1 to 4");
                    let read =
                        ReadRequest { table, address: u16::from_be_bytes([a, b]), count: u16::from_be_bytes([c, d]) };
                    let asked = self.asked.entry(unit).or_default();
                    asked.push((self.now, read));
                    if asked.len() > 4096 {
                        asked.drain(..2048);
                    }
                }
                self.line.transmit(self.now, &frame);
            }
            self.drain();
            let timeout = self.bus.poll_timeout();
            assert!(timeout.is_some() || self.settings.tasks.is_empty(), "seed {}: sleeps for ever", self.seed);
            let heard = self.line.next().filter(|_| self.open);
            let next = heard.into_iter().chain(timeout).min().unwrap_or(until).max(self.now);
            if next >= until {
                self.now = until;
                return;
            }
            steps = if next > self.now { 0 } else { steps + 1 };
            assert!(steps < STEPS, "seed {}: runs in circles at {:?}", self.seed, self.now);
            self.now = next;
            if self.open {
                let bytes = self.line.deliver(self.now).to_vec();
                if !bytes.is_empty() {
                    self.bus.handle_bytes(self.now, &bytes);
                }
            }
            if self.bus.poll_timeout().is_some_and(|at| at <= self.now) {
                self.bus.handle_timeout(self.now);
            }
        }
    }

    fn harass(&mut self) {
        let now = self.now;
        match self.random.below(12) {
            0 => {
                self.bus.lost(now);
                self.open = false;
            }
            1 => {
                self.bus.disconnected(now);
                self.open = false;
            }
            2..=4 => {
                // What was on its way went to the old wire.
                self.line.deliver(now + secs(3));
                self.bus.connected(now);
                self.open = true;
            }
            5 if self.open => {
                let noise = self.random.bytes(40);
                self.bus.handle_bytes(now, &noise);
            }
            6 => self.bus.handle_timeout(now),
            7 | 8 => {
                let id = u64::try_from(self.orders.len()).expect("few");
                let unit = pick(&mut self.random, &[0, 1, 2, 3, 4, 5, 6, 7, 99, 255]);
                let deed = any_deed(&mut self.random);
                self.orders.insert(id, 0);
                self.bus.order(Order { id: OrderId(id), unit: UnitId(unit), deed });
            }
            9 => {
                let _ = self.bus.overview(now);
            }
            10 => {
                for unit in 0..self.settings.units.len() {
                    let facts: Vec<_> = self.bus.facts(now, unit).collect();
                    self.bus.restore(now, unit, facts.into_iter());
                }
            }
            _ => {}
        }
    }
}

fn ordeal(seed: u64) {
    let mut ordeal = Ordeal::new(seed);
    for _ in 0..ordeal.random.below(120) {
        ordeal.harass();
        let pause = pick(&mut ordeal.random, &[ms(0), ms(1), ms(30), ms(150), ms(150), secs(1), secs(5)]);
        ordeal.run(ordeal.now + pause);
    }
    ordeal.line.calm();
    ordeal.line.deliver(ordeal.now + secs(3));
    ordeal.bus.connected(ordeal.now);
    ordeal.open = true;
    // What cannot be carried is stretched, and silence that a unit needs is not in that account.
    let load = ordeal.bus.overview(ordeal.now).load_permille;
    let slow = ordeal.settings.units.iter().any(|unit| unit.request_gap >= ms(100));
    let patient = if load > 900 || slow { 10 } else { 1 };
    ordeal.samples.iter_mut().for_each(|count| *count = 0);
    ordeal.run(ordeal.now + CALM * patient);
    for (place, count) in ordeal.samples.iter().enumerate() {
        assert!(*count > 0, "seed {seed}: task {place} {:?} starves", ordeal.settings.tasks[place]);
    }
    let open: Vec<_> = ordeal.orders.iter().filter(|(_, ends)| **ends == 0).collect();
    assert!(open.is_empty(), "seed {seed}: orders without an end: {open:?}");
    assert!(ordeal.wrong.is_empty(), "seed {seed}: {:?}", &ordeal.wrong[..ordeal.wrong.len().min(5)]);
}

#[test]
fn no_settings_no_line_and_no_owner_brings_a_bus_down() {
    let from: u64 = std::env::var("ORDEAL_FROM").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let count: u64 = std::env::var("ORDEAL_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(12);
    let mut failures = 0;
    for seed in from..from + count {
        if std::panic::catch_unwind(|| ordeal(seed)).is_err() {
            failures += 1;
        }
    }
    assert_eq!(failures, 0);
}

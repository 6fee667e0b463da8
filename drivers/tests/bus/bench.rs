//! An engine on a virtual line, and what it did there.

use std::time::Duration;

use ganglion_drivers::breaker::Policy;
use ganglion_drivers::bus::{Bus, Event, LineCost, Sampled, Settings, TaskSettings, UnitSettings};
use ganglion_drivers::client::{Framing, Timing, character_time, frame_gap};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::{Table, UnitId};

use crate::line::{Faults, Line, Speed, Unit};

pub(crate) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const BAUD: u32 = 9600;
pub(crate) const LATE_REPLY: Duration = ms(300);

/// One character of 8N1.
pub(crate) fn character() -> Duration {
    character_time(BAUD, 10)
}

pub(crate) fn gap() -> Duration {
    frame_gap(BAUD, 10)
}

pub(crate) fn holding(address: u16, count: u16) -> ReadRequest {
    ReadRequest { table: Table::HoldingRegister, address, count }
}

/// Single registers of a range.
pub(crate) fn registers(range: std::ops::Range<u16>) -> Vec<ReadRequest> {
    range.map(|address| holding(address, 1)).collect()
}

/// Settings of a line of 9600 Bd with these units and tasks: unit, interval, wants.
pub(crate) fn settings(units: &[u8], tasks: Vec<(usize, Duration, Vec<ReadRequest>)>) -> Settings {
    let timing = Timing { character: character(), gap: gap(), late_reply: LATE_REPLY, answer_slack: ms(50) };
    Settings {
        framing: Framing::Rtu(timing),
        line: LineCost::Rtu { character: character(), gap: gap() },
        response_timeout: ms(500),
        shortest_wait: ms(50),
        usual_turnaround: ms(10),
        retries: 2,
        breaker: Policy { share_percent: 5, trip_after: 6, longest_pause: secs(60) },
        units: units.iter().map(|&unit| unit_settings(unit)).collect(),
        tasks: tasks.into_iter().map(|(unit, interval, wants)| TaskSettings { unit, interval, wants }).collect(),
    }
}

pub(crate) fn unit_settings(unit: u8) -> UnitSettings {
    UnitSettings {
        unit: UnitId(unit),
        request_gap: Duration::ZERO,
        max_registers: 125,
        max_bits: 2000,
        bridge: 124,
        forbidden: Vec::new(),
        identity: None,
    }
}

/// A request the engine sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) unit: u8,
    pub(crate) read: ReadRequest,
}

/// The engine at work.
pub(crate) struct Bench {
    pub(crate) bus: Bus,
    pub(crate) line: Line,
    pub(crate) now: Duration,
    pub(crate) settings: Settings,
    pub(crate) samples: Vec<Sampled>,
    pub(crate) events: Vec<Event>,
    pub(crate) sent: Vec<Sent>,
    /// Values believed, and those that were never true.
    pub(crate) values: u64,
    pub(crate) wrong: u64,
    keep: bool,
}

impl Bench {
    pub(crate) fn new(settings: Settings, units: Vec<Unit>, faults: Faults, seed: u64) -> Self {
        let speed = Speed { character: character(), lump: Duration::ZERO };
        let mut bus = Bus::new(Duration::ZERO, settings.clone());
        bus.connected(Duration::ZERO);
        Self {
            bus,
            line: Line::new(speed, units, faults, seed),
            now: Duration::ZERO,
            settings,
            samples: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
            values: 0,
            wrong: 0,
            keep: true,
        }
    }

    /// Keeps no samples: for long runs.
    pub(crate) fn forgetful(mut self) -> Self {
        self.keep = false;
        self
    }

    /// Lets time pass. Returns the number of samples made.
    pub(crate) fn run(&mut self, until: Duration) -> u64 {
        let mut made = 0;
        loop {
            while let Some(frame) = self.bus.poll_transmit(self.now) {
                let frame = frame.to_vec();
                self.note(&frame);
                self.line.transmit(self.now, &frame);
            }
            while let Some(event) = self.bus.poll_event() {
                if let Event::Sampled(sampled) = event {
                    made += 1;
                    self.check(&sampled);
                    if self.keep {
                        self.samples.push(sampled);
                    }
                } else if self.keep {
                    self.events.push(event);
                }
            }
            let next = self.line.next().into_iter().chain(self.bus.poll_timeout()).min();
            let next = next.unwrap_or(until).max(self.now);
            if next >= until {
                self.now = until;
                return made;
            }
            self.now = next;
            let bytes = self.line.deliver(self.now).to_vec();
            if !bytes.is_empty() {
                self.bus.handle_bytes(self.now, &bytes);
            }
            if self.bus.poll_timeout().is_some_and(|at| at <= self.now) {
                self.bus.handle_timeout(self.now);
            }
        }
    }

    fn note(&mut self, frame: &[u8]) {
        if let [unit, function @ 1..=4, a, b, c, d, ..] = *frame {
            let table = Table::ALL.into_iter().find(|table| table.read_function() == function).expect("1 to 4");
            let read = ReadRequest { table, address: u16::from_be_bytes([a, b]), count: u16::from_be_bytes([c, d]) };
            if !self.keep && self.sent.len() > 4096 {
                self.sent.drain(..2048);
            }
            self.sent.push(Sent { at: self.now, unit, read });
        }
    }

    /// A value must have been true between one of the last requests for it and the time of the sample.
    fn check(&mut self, sampled: &Sampled) {
        let task = &self.settings.tasks[sampled.task];
        let unit = self.settings.units[task.unit].unit.0;
        let mut words = sampled.words.iter();
        for (want, state) in task.wants.iter().zip(&sampled.states) {
            let values: Vec<u16> = words.by_ref().take(usize::from(want.count)).copied().collect();
            if state.is_some() {
                continue;
            }
            let asked: Vec<Duration> = self
                .sent
                .iter()
                .rev()
                .filter(|sent| sent.unit == unit && sent.read.covers(*want) && sent.at <= sampled.at)
                .map(|sent| sent.at)
                .take(3)
                .collect();
            let function = want.table.read_function();
            for (address, value) in (want.address..).zip(values) {
                self.values += 1;
                let right = asked
                    .iter()
                    .any(|&at| Line::is_true(function, unit, address, value, at, (at + ms(400)).min(sampled.at)));
                self.wrong += u64::from(!right);
            }
        }
    }

    /// Samples of a task since a time of which every want has its items.
    pub(crate) fn good(&self, task: usize) -> impl Iterator<Item = &Sampled> {
        let whole = |sampled: &&Sampled| sampled.states.iter().all(Option::is_none);
        self.samples.iter().filter(move |sampled| sampled.task == task).filter(whole)
    }

    /// Share of the seconds from `from` to `to` in which the task has a good sample.
    pub(crate) fn covered(&self, task: usize, from: u64, to: u64) -> f64 {
        let seconds: std::collections::BTreeSet<u64> =
            self.good(task).map(|sampled| sampled.at.as_secs()).filter(|second| (from..to).contains(second)).collect();
        f64::from(u32::try_from(seconds.len()).expect("few")) / f64::from(u32::try_from(to - from).expect("few"))
    }
}

/// Time of the line that one exchange takes at least.
pub(crate) fn exchange(registers: u64, turnaround: Duration) -> Duration {
    let characters = u32::try_from(8 + 5 + 2 * registers).expect("short");
    character() * characters + turnaround + gap()
}

/// The least time in which sorted single registers can be read, by trying every place to cut: no part of the product.
pub(crate) fn least(wants: &[ReadRequest], turnaround: Duration) -> Duration {
    let mut best = vec![Duration::ZERO];
    for last in 0..wants.len() {
        let end = wants[last].address + wants[last].count;
        let cost = (0..=last)
            .filter(|&first| end - wants[first].address <= 125)
            .map(|first| best[first] + exchange(u64::from(end - wants[first].address), turnaround))
            .min()
            .expect("a want fits a request");
        best.push(cost);
    }
    best[wants.len()]
}

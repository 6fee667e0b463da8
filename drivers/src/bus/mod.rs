//! One bus: what is asked next, of whom, and what its answers mean. Bytes and time in, requests and samples out.
//!
//! The owner carries bytes between the wire and the bus and calls it when time has passed:
//!
//! 1. [`Bus::connected`], [`Bus::lost`] and [`Bus::disconnected`] when the wire opens, is lost and cannot be opened;
//! 2. [`Bus::handle_bytes`] for whatever arrives, [`Bus::handle_timeout`] when [`Bus::poll_timeout`] says so;
//! 3. then [`Bus::poll_transmit`] for a frame to send, and [`Bus::poll_event`] until there is none.
//!
//! Of what could be asked the following goes first: orders ([`order`]), then the request whose job has the earliest
//! deadline. A job is one poll of one unit for the tasks that fell due together; between two of its requests a more
//! urgent job may go. A request that must wait, because its answer could be mistaken for a late one, waits alone: it is
//! asked in another shape, or others go meanwhile.
//!
//! | file | what it owns |
//! |---|---|
//! | `settings.rs` | what a bus is made of |
//! | `unit.rs` | what is known of a unit, and its plans |
//! | `job.rs` | a poll under way |
//! | `order.rs`, `errand.rs` | reads and writes on demand |
//! | `answers.rs` | what an outcome does to job and unit |
//! | `event.rs`, `overview.rs` | what the owner is told |

mod answers;
mod errand;
mod event;
mod job;
pub mod order;
mod overview;
mod settings;
mod unit;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Reason;

pub use event::{Event, Sampled};
pub use overview::{Overview, TaskView, UnitView};
pub use settings::{IdentityCheck, LineCost, Settings, TaskSettings, UnitSettings};
pub use unit::UnitCounts;

use self::errand::Errand;
use self::job::{Ask, Job, Part, Purpose, Task, span};
use self::order::Order;
use self::unit::Unit;
use crate::breaker::Permit;
use crate::client::{Client, Counts, Framing};
use crate::learn::Fact;
use crate::plan::ReadRequest;
use crate::schedule::{Schedule, Slot, stretch_floor};
use crate::turnaround::Turnaround;

/// Time after which a unit's identity is checked again.
const IDENTITY_EVERY: Duration = Duration::from_secs(60);

/// How long what is due waits for a wire that was just lost, so that one lost connection need not cost a sample.
const REOPENING: Duration = Duration::from_secs(1);

/// Requests in a row without a byte for an answer after which a TCP connection is replaced.
const SILENCES: u8 = 2;

/// How long, and twice the time of a late reply, a request waits for the time when its answer cannot be mistaken.
const LONGEST_HOLD: Duration = Duration::from_secs(5);

/// How long a unit waits on a fresh wire if the last one was lost while it was asked: a gateway that hangs up on the
/// requests to one unit shall not keep the others from being read.
const OTHERS_FIRST: Duration = Duration::from_millis(100);

/// The engine of one bus. Times are durations since any one start, the same for every call.
pub struct Bus {
    framing: Framing,
    line: LineCost,
    response_timeout: Duration,
    retries: u8,
    client: Client,
    units: Vec<Unit>,
    tasks: Vec<Task>,
    schedule: Schedule<Vec<Slot>>,
    floor: Option<Duration>,
    jobs: Vec<Job>,
    errands: VecDeque<Errand>,
    flight: Option<Flight>,
    /// The frame of the exchange under way.
    frame: Vec<u8>,
    events: VecDeque<Event>,
    wire: Wire,
    wake: Option<Duration>,
    /// Requests without an answer since the connection last carried anything from the other side.
    silences: u8,
}

/// What the bus knows of its wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wire {
    Open,
    /// Lost or not opened yet; what is due waits this long for it.
    Awaited {
        until: Duration,
    },
    Down,
}

/// What waits for an answer.
enum Flight {
    Job { job: Job, ask: Ask, sent: Duration },
    Errand { errand: Errand, sent: Duration },
}

/// What could be sent now.
enum Choice {
    Errand(usize),
    Job(usize),
    Task(usize),
}

impl Bus {
    /// Begins with nothing known and not connected; the first slots of the tasks are spread from `now` on.
    #[must_use]
    pub fn new(now: Duration, settings: Settings) -> Self {
        let Settings {
            framing,
            line,
            response_timeout,
            shortest_wait,
            usual_turnaround,
            retries,
            breaker,
            units,
            tasks,
        } = settings;
        let unit =
            |settings| Unit::new(settings, breaker, Turnaround::new(response_timeout, shortest_wait), usual_turnaround);
        let mut units: Vec<Unit> = units.into_iter().map(unit).collect();
        for (place, task) in tasks.iter().enumerate() {
            if let Some(unit) = units.get_mut(task.unit) {
                unit.tasks.push(place);
            }
        }
        let slots: Vec<Slot> = tasks.iter().map(|task| Slot::every(task.interval)).collect();
        let mut bus = Self {
            framing,
            line,
            response_timeout,
            retries,
            client: Client::new(now, framing),
            units,
            tasks: tasks.into_iter().map(Task::new).collect(),
            schedule: Schedule::new(slots, now),
            floor: None,
            jobs: Vec::new(),
            errands: VecDeque::new(),
            flight: None,
            frame: Vec::new(),
            events: VecDeque::new(),
            wire: Wire::Awaited { until: now.saturating_add(REOPENING) },
            wake: None,
            silences: 0,
        };
        bus.stretch(now);
        bus
    }

    /// Takes up what an earlier run has learnt about a unit.
    pub fn restore(&mut self, now: Duration, unit: usize, facts: impl Iterator<Item = Fact>) {
        if let Some(unit) = self.units.get_mut(unit) {
            facts.for_each(|fact| unit.memory.restore(now, fact));
            unit.told = unit.memory.learnt();
        }
        self.stretch(now);
    }

    /// Returns what is known about a unit and worth keeping.
    pub fn facts(&self, now: Duration, unit: usize) -> impl Iterator<Item = Fact> + use<'_> {
        self.units.get(unit).into_iter().flat_map(move |unit| unit.memory.facts(now))
    }

    /// The wire is open, and nothing is known of what is under way on it. If one was open before, this one took its place.
    pub fn connected(&mut self, now: Duration) {
        self.lost(now);
        self.client = Client::new(now, self.framing);
        self.wire = Wire::Open;
        self.silences = 0;
        for unit in &mut self.units {
            unit.check_at = unit.settings.identity.map(|_| now);
            if unit.hung_up {
                unit.ready_at = unit.ready_at.max(now.saturating_add(OTHERS_FIRST));
            }
        }
        for job in &mut self.jobs {
            let identity = self.units.get(job.unit).and_then(|unit| unit.settings.identity);
            if let (Some(identity), Some(Purpose::Points)) = (identity, job.asks.front().map(|ask| ask.purpose)) {
                job.asks.push_front(Ask::new(identity.want, Purpose::Identity));
            }
        }
        for (place, task) in self.tasks.iter().enumerate() {
            if task.missed_out {
                self.schedule.call(place, now);
            }
        }
    }

    /// The wire was lost. What is under way and what falls due waits a second for it to open again. A request on which it
    /// is lost again and again is given up: some servers hang up on a request they dislike.
    pub fn lost(&mut self, now: Duration) {
        match self.flight.take() {
            Some(Flight::Job { job, ask, sent }) => self.hung_up(now, job, ask, sent),
            Some(Flight::Errand { errand, .. }) => self.again(errand, Reason::Disconnected),
            None => {}
        }
        self.wire = Wire::Awaited { until: now.saturating_add(REOPENING) };
    }

    /// The wire cannot be opened at present. Tasks go on making samples that say so.
    pub fn disconnected(&mut self, now: Duration) {
        self.lost(now);
        self.wire = Wire::Down;
        for mut job in core::mem::take(&mut self.jobs) {
            job.fail_rest(Reason::Disconnected);
            self.finish_parts(now, &mut job);
        }
        self.fail_errands(Reason::Disconnected);
    }

    /// Asks the owner for another wire, and sends nothing more over this one.
    fn replace(&mut self, now: Duration, reason: Reason) {
        if self.wire == Wire::Open {
            self.wire = Wire::Awaited { until: now.saturating_add(REOPENING) };
            self.events.push_back(Event::Replace { reason });
        }
    }

    /// Takes an order; it ends with [`Event::Ordered`].
    pub fn order(&mut self, order: Order) {
        self.errands.push_back(Errand::new(order));
        if self.wire == Wire::Down {
            self.fail_errands(Reason::Disconnected);
        }
    }

    /// Takes what was received.
    pub fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) {
        self.silences = 0;
        if let Some(outcome) = self.client.handle_bytes(now, bytes) {
            self.settle(now, outcome);
        }
        if self.client.desynchronised() {
            self.replace(now, Reason::Malformed);
        }
    }

    /// Returns when to come back if nothing is received; after [`poll_transmit`](Self::poll_transmit) returned `None`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.flight.is_some() { self.client.poll_timeout() } else { self.wake }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Duration) {
        if let Some(outcome) = self.client.handle_timeout(now) {
            self.settle(now, outcome);
        }
    }

    /// Returns what happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns a frame to be sent at once, if there is one.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<&[u8]> {
        self.wake = None;
        if self.flight.is_some() {
            return None;
        }
        self.expire(now);
        match self.wire {
            Wire::Open => {}
            Wire::Awaited { until } if now < until => {
                self.look_again(Some(until));
                return None;
            }
            Wire::Awaited { .. } => self.disconnected(now),
            Wire::Down => {}
        }
        self.answer_for_the_unreachable(now);
        if self.wire == Wire::Down {
            self.look_again(self.schedule.wake_after(now));
            return None;
        }
        self.probe(now);
        self.let_go(now);
        loop {
            let choice = self.choose(now)?;
            // Ends by itself: the client waits only so long for a line on which somebody talks without end.
            let silent_at = self.client.silent_at();
            if silent_at > now {
                self.look_again(Some(silent_at));
                return None;
            }
            let flown = match choice {
                Choice::Errand(place) => self.send_errand(now, place),
                Choice::Job(place) => self.send_job(now, place),
                Choice::Task(place) => {
                    self.begin(now, place);
                    false
                }
            };
            if flown {
                return Some(&self.frame);
            }
        }
    }

    /// Returns what the client has seen since the wire was opened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.client.counts()
    }

    fn look_again(&mut self, at: Option<Duration>) {
        self.wake = self.wake.into_iter().chain(at).min();
    }

    fn expire(&mut self, now: Duration) {
        for place in 0..self.units.len() {
            if self.units.get_mut(place).is_some_and(|unit| unit.memory.expire(now)) {
                self.note_learning(now, place);
            }
        }
    }

    /// Makes the samples of due tasks whose unit cannot be asked.
    fn answer_for_the_unreachable(&mut self, now: Duration) {
        let (open, units, tasks) = (self.wire == Wire::Open, &self.units, &self.tasks);
        let reason = |place: usize| {
            let unit = tasks.get(place).and_then(|task| units.get(task.settings.unit))?;
            if !open { Some(Reason::Disconnected) } else { unit.refrains(now).then_some(unit.trouble) }
        };
        let mut parts = Vec::new();
        while let Some(due) = self.schedule.first(now, |place| reason(place).is_some()) {
            let missed = self.schedule.take(due.place, now);
            let Some(task) = tasks.get(due.place) else { break };
            let mut part = Part::new(due.place, task, due.deadline, missed);
            part.fail_rest(reason(due.place).unwrap_or(Reason::Timeout));
            self.schedule.finish(due.place, now);
            parts.push(part);
        }
        for part in parts {
            self.finish_part(now, part, None);
        }
    }

    /// Asks for a sign of life of silent units whose pause is over and of whom no task is due.
    fn probe(&mut self, now: Duration) {
        for (place, unit) in self.units.iter().enumerate() {
            match unit.breaker.permit(now) {
                Permit::Ask => {}
                Permit::NotBefore(until) => self.wake = self.wake.into_iter().chain([until]).min(),
                Permit::Probe => {
                    // A poll that is due is as good.
                    if unit.tasks.iter().any(|&task| self.schedule.due(task, now)) {
                        continue;
                    }
                    let first = unit.tasks.iter().find_map(|&task| self.tasks.get(task)?.settings.wants.first());
                    let asked = self.jobs.iter().any(|job| job.unit == place);
                    if let (Some(&want), false) = (first, asked) {
                        self.jobs.push(Job {
                            unit: place,
                            parts: Vec::new(),
                            asks: [Ask::new(want, Purpose::Probe)].into(),
                            not_before: Duration::ZERO,
                            answered_at: None,
                            replans: 0,
                        });
                    }
                }
            }
        }
    }

    /// Returns what goes next, if anything can go now; notes when to look again if not.
    fn choose(&mut self, now: Duration) -> Option<Choice> {
        if let Some(place) = self.next_errand(now) {
            return Some(Choice::Errand(place));
        }
        let mut best: Option<(Duration, Choice)> = None;
        for place in 0..self.jobs.len() {
            let Some(ready) = self.ready(now, place) else { continue };
            let Some(job) = self.jobs.get(place) else { continue };
            if ready > now {
                self.wake = self.wake.into_iter().chain([ready]).min();
            } else if best.as_ref().is_none_or(|(deadline, _)| job.deadline() < *deadline) {
                best = Some((job.deadline(), Choice::Job(place)));
            }
        }
        let (units, tasks) = (&self.units, &self.tasks);
        let unit = |place: usize| tasks.get(place).and_then(|task| units.get(task.settings.unit));
        let due = self.schedule.first(now, |place| unit(place).is_some_and(|unit| unit.ready_at <= now));
        if let Some(due) = due.filter(|due| best.as_ref().is_none_or(|(deadline, _)| due.deadline < *deadline)) {
            best = Some((due.deadline, Choice::Task(due.place)));
        }
        if best.is_none() {
            // What is due already waits for the silence its unit needs.
            let rested = self.units.iter().map(|unit| unit.ready_at).filter(|&at| at > now).min();
            let overdue = self.schedule.wake().is_some_and(|begin| begin <= now);
            self.look_again(rested.filter(|_| overdue));
            self.look_again(self.schedule.wake_after(now));
        }
        best.map(|(_, choice)| choice)
    }

    /// Returns when to look at a job again, which is now if its first request may go; brings one forward that may go now
    /// if there is one.
    fn ready(&mut self, now: Duration, place: usize) -> Option<Duration> {
        let Self { jobs, units, tasks, client, .. } = self;
        let job = jobs.get_mut(place)?;
        let unit = units.get(job.unit)?;
        let earliest = job.not_before.max(unit.ready_at).max(client.silent_at());
        let usable = |request: ReadRequest| client.usable_at(unit.id(), &read_pdu(request));
        let front = job.asks.front_mut()?;
        let at = usable(front.request);
        front.held = (at > client.silent_at().max(now)).then(|| front.held.unwrap_or(now));
        let front = *front;
        // Until then nothing can go, in whatever shape.
        if earliest > now {
            return Some(earliest);
        }
        if at <= now || front.purpose != Purpose::Points {
            return Some(at);
        }
        if let Some(other) = job.asks.iter().position(|ask| usable(ask.request) <= now) {
            job.asks.swap(0, other);
            return Some(now);
        }
        // The late answer to this request would look like its own: ask for a part of it, whose answer has another length.
        let wants = job.open(tasks, Some(front.request));
        for split in (1..wants.len()).rev() {
            let Some((low, high)) = wants.split_at_checked(split) else { continue };
            let (Some(low), Some(high)) = (span(low), span(high)) else { continue };
            if usable(low) <= now {
                job.asks.pop_front();
                job.asks.push_front(Ask { request: high, ..front });
                job.asks.push_front(Ask { request: low, ..front });
                return Some(now);
            }
        }
        Some(at)
    }

    /// Gives up what could not be asked for long because an answer like the one to it was due all the time: another client
    /// asks the same, again and again.
    fn let_go(&mut self, now: Duration) {
        let Framing::Rtu(timing) = self.framing else { return };
        let limit = LONGEST_HOLD.saturating_add(timing.late_reply.saturating_mul(2));
        let too_long = |held: Option<Duration>| held.is_some_and(|since| now.saturating_sub(since) > limit);
        while let Some(place) = self.errands.iter().position(|errand| too_long(errand.held())) {
            self.end_held(place);
        }
        let held = |job: &mut Job| too_long(job.asks.front().and_then(|ask| ask.held));
        for mut job in self.jobs.extract_if(.., held).collect::<Vec<_>>() {
            match job.asks.pop_front() {
                Some(Ask { purpose: Purpose::Points, request, .. }) => job.fail(&self.tasks, request, Reason::Timeout),
                _ => job.fail_rest(Reason::Timeout),
            }
            self.keep_or_finish(now, job);
        }
    }

    /// Ends every poll of a unit that waits for its turn.
    fn fail_jobs(&mut self, now: Duration, unit: usize, reason: Reason) {
        for mut job in self.jobs.extract_if(.., |job| job.unit == unit).collect::<Vec<_>>() {
            job.fail_rest(reason);
            self.finish_parts(now, &mut job);
        }
    }

    /// Makes a job of a due task and of the other due tasks of its unit.
    fn begin(&mut self, now: Duration, place: usize) {
        let Some(unit_place) = self.tasks.get(place).map(|task| task.settings.unit) else { return };
        let Some(unit) = self.units.get_mut(unit_place) else { return };
        // In place of a probe that had no turn yet.
        self.jobs.retain(|job| job.unit != unit_place || !job.parts.is_empty());
        let mut parts = Vec::new();
        for &task_place in &unit.tasks {
            let Some(task) = self.tasks.get(task_place) else { continue };
            if task_place == place || self.schedule.due(task_place, now) {
                let deadline = self.schedule.deadline(task_place);
                let missed = self.schedule.take(task_place, now);
                parts.push(Part::new(task_place, task, deadline, missed));
            }
        }
        let mut job = Job {
            unit: unit_place,
            parts,
            asks: VecDeque::new(),
            not_before: Duration::ZERO,
            answered_at: None,
            replans: 0,
        };
        let asked: Vec<usize> = job.parts.iter().map(|part| part.task).collect();
        let wants = job.open(&self.tasks, None);
        let planned = unit.planned(now, &asked, &wants, self.line);
        for &want in planned.unreadable.iter() {
            job.fail(&self.tasks, want, REFUSED);
        }
        job.asks.extend(planned.requests.iter().map(|&request| Ask::new(request, Purpose::Points)));
        if let Some(identity) = unit.settings.identity
            && unit.check_at.is_some_and(|at| at <= now)
        {
            job.asks.push_front(Ask::new(identity.want, Purpose::Identity));
        }
        self.finish_parts(now, &mut job);
        if !job.parts.is_empty() {
            self.jobs.push(job);
        }
    }

    /// Sends the first request of a job. Returns whether a frame is there.
    fn send_job(&mut self, now: Duration, place: usize) -> bool {
        if place >= self.jobs.len() {
            return false;
        }
        let mut job = self.jobs.swap_remove(place);
        let Some(mut ask) = job.asks.pop_front() else {
            job.fail_rest(REFUSED);
            self.finish_parts(now, &mut job);
            return false;
        };
        ask.held = None;
        let Some(unit) = self.units.get_mut(job.unit) else { return false };
        match self.client.start(now, unit.id(), &read_pdu(ask.request), unit.turnaround.patience()) {
            Ok(frame) => {
                self.frame.clear();
                self.frame.extend_from_slice(frame);
                unit.counts.requests = unit.counts.requests.saturating_add(1);
                self.flight = Some(Flight::Job { job, ask, sent: now });
                true
            }
            Err(_) => {
                job.fail(&self.tasks, ask.request, REFUSED);
                self.keep_or_finish(now, job);
                false
            }
        }
    }

    /// Puts a job back, or ends it.
    fn keep_or_finish(&mut self, now: Duration, mut job: Job) {
        let probing = job.asks.front().is_some_and(|ask| ask.purpose != Purpose::Points);
        if job.asks.is_empty() {
            // Every open want is in an ask; none is left when the asks are.
            job.fail_rest(REFUSED);
        }
        self.finish_parts(now, &mut job);
        if probing || !job.parts.is_empty() {
            self.jobs.push(job);
        }
    }

    fn finish_parts(&mut self, now: Duration, job: &mut Job) {
        let answered_at = job.answered_at;
        let parts: Vec<Part> = job.finished().collect();
        for part in parts {
            self.schedule.finish(part.task, now);
            self.finish_part(now, part, answered_at);
        }
    }

    fn finish_part(&mut self, now: Duration, part: Part, answered_at: Option<Duration>) {
        let (task, missed) = (part.task, part.missed);
        let (words, states, answered) = part.finish();
        if let Some(task) = self.tasks.get_mut(task) {
            task.missed_out = !answered;
        }
        let at = answered_at.unwrap_or(now);
        self.events.push_back(Event::Sampled(Sampled { task, at, missed, words, states }));
    }

    /// Finds out anew whether the bus can carry what is asked, and tells when that changed.
    fn stretch(&mut self, now: Duration) {
        let Self { units, tasks, line, .. } = self;
        let mut costs = Vec::with_capacity(tasks.len());
        for (place, task) in tasks.iter().enumerate() {
            let Some(unit) = units.get_mut(task.settings.unit) else { continue };
            let silent = unit.breaker.is_open();
            let cost = unit.planned(now, &[place], &task.settings.wants, *line).cost;
            costs.push((if silent { Duration::ZERO } else { cost }, task.settings.interval));
        }
        // A bus on the edge does not change its word with every cost: it is relieved only with a twentieth to spare.
        let spared = |cost: Duration| cost.saturating_add(cost.checked_div(20).unwrap_or_default());
        let nearly = || stretch_floor(costs.iter().map(|&(cost, interval)| (spared(cost), interval)));
        let floor = stretch_floor(costs.iter().copied()).or_else(|| self.floor.filter(|_| nearly().is_some()));
        let tenth = |floor: Duration| floor.checked_div(10).unwrap_or_default();
        let same = match (floor, self.floor) {
            (None, None) => true,
            (Some(new), Some(old)) => new.abs_diff(old) <= tenth(old),
            _ => false,
        };
        if !same {
            self.floor = floor;
            self.schedule.stretch(floor);
            self.events.push_back(Event::Stretched(floor));
        }
    }
}

/// What a point reads as that is not asked any more, for it was always refused.
const REFUSED: Reason = Reason::Exception(ganglion_protocols::modbus::ExceptionCode::ILLEGAL_DATA_ADDRESS);

/// Returns the PDU of a read request.
///
/// Source: Application Protocol V1.1b3 §6.1 to §6.4.
fn read_pdu(request: ReadRequest) -> [u8; 5] {
    let [a, b] = request.address.to_be_bytes();
    let [c, d] = request.count.to_be_bytes();
    [request.table.read_function(), a, b, c, d]
}

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
//! | `choice.rs` | what goes next: orders, jobs, due tasks, probes |
//! | `answers.rs` | what an outcome does to job and unit |
//! | `event.rs`, `overview.rs` | what the owner is told |

mod answers;
mod choice;
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

use self::choice::Choice;
use self::errand::Errand;
use self::job::{Ask, Job, Part, Purpose, Task};
use self::order::Order;
use self::unit::Unit;
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

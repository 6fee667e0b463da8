//! One serial line with sensor nodes: who is asked what next, and what the answers mean. Bytes and time in, frames and
//! samples out.
//!
//! The owner carries bytes between the wire and the bus and calls it when time has passed, as with [`bus`](crate::bus):
//!
//! 1. [`NodeBus::connected`], [`NodeBus::lost`] and [`NodeBus::disconnected`] when the wire opens, is lost and cannot be opened;
//! 2. [`NodeBus::handle_bytes`] for whatever arrives, [`NodeBus::handle_timeout`] when [`NodeBus::poll_timeout`] says so;
//! 3. then [`NodeBus::poll_transmit`] for a frame to send, and [`NodeBus::poll_event`] until there is none;
//! 4. [`NodeBus::durable`] when samples, or losses that were told, are durable. Nothing else is acknowledged.
//!
//! Orders go first; then the nodes take turns, one question each, so that one with a backlog starves no other; now and
//! then a question goes to nodes that nobody configured.
//!
//! **Invariants.** Each number of a node's store is told once, as a sample or as lost. An answer counts only with unit and
//! token of the question that waits.
//!
//! | file | what it owns |
//! |---|---|
//! | `settings.rs` | what a bus is made of; what time it is |
//! | `unit.rs` | what is known of a node: what it is asked next, up to where its samples are taken |
//! | `exchange.rs` | one question on the line: what it is, how long it is waited for, what its answer does |
//! | `receiver.rs` | bytes to frames |
//! | `order.rs` | what is asked on demand |
//! | `event.rs` | what the owner is told |

mod event;
mod exchange;
pub mod order;
mod receiver;
mod settings;
mod unit;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::node_link::MAX_FRAME;
use ganglion_protocols::{Origin, Reason};

pub use event::{ChannelInfo, Event, Lost, LostCause, NodeInfo, Sample};
pub use settings::{Moment, Settings, Taken, UnitSettings};

use self::exchange::{Flight, Purpose};
use self::order::{Order, OrderError};
use self::receiver::Receiver;
use self::unit::{Step, Unit};
use crate::breaker::Breaker;
use crate::turnaround::Turnaround;

/// While no node answers it may be the line that is cut, and a pause protects nobody: so often one of them is asked. A node
/// without a memory has room for minutes.
const LINE_PROBE: Duration = Duration::from_secs(3);

/// Rounds of questions of one scan, each with other slots.
const SCAN_ROUNDS: u8 = 4;

/// The engine of one line.
pub struct NodeBus {
    settings: Settings,
    units: Vec<Unit>,
    /// With how often each was asked, and the number of its command.
    orders: VecDeque<(Order, u8, u32)>,
    flight: Option<Flight>,
    receiver: Receiver,
    frame: [u8; MAX_FRAME],
    events: VecDeque<Event>,
    open: bool,
    /// The node that is looked at first.
    turn: usize,
    /// When a node answered last.
    heard_at: Duration,
    /// When a line on which no node answers is probed next.
    line_probe_at: Duration,
    /// No frame goes out before.
    quiet_until: Duration,
    wake: Option<Duration>,
    discover_at: Option<Duration>,
    scan_rounds: u8,
    found: BTreeMap<u64, NodeInfo>,
    /// Who answered in the round of discovery under way.
    round: BTreeMap<u8, u64>,
    random: u64,
    token: u8,
    order_number: u32,
    counts: Counts,
}

/// What was heard beside the answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Questions sent.
    pub questions: u64,
    /// Answers taken.
    pub answers: u64,
    /// Frames of the line's own: what was sent and came back.
    pub echoes: u64,
    /// Answers to another question, or to none.
    pub strangers: u64,
    /// Stretches between two delimiters that are no frame.
    pub broken: u64,
    /// Frames that are no message of this version.
    pub unknown: u64,
    /// Questions without an answer in time.
    pub timeouts: u64,
}

impl NodeBus {
    /// Begins with nothing known and not connected.
    #[must_use]
    pub fn new(now: Duration, settings: Settings) -> Self {
        let unit = |unit: &UnitSettings| {
            let breaker = Breaker::new(settings.breaker).spread_by(u32::from(unit.unit));
            Unit::new(unit.clone(), breaker, Turnaround::new(settings.response_timeout, settings.shortest_wait))
        };
        let mut bus = Self {
            units: settings.nodes.iter().map(unit).collect(),
            orders: VecDeque::new(),
            flight: None,
            receiver: Receiver::new(),
            frame: [0; MAX_FRAME],
            events: VecDeque::new(),
            open: false,
            turn: 0,
            heard_at: now,
            line_probe_at: now,
            quiet_until: now,
            wake: None,
            discover_at: settings.discover_every.map(|_| now),
            scan_rounds: 0,
            found: BTreeMap::new(),
            round: BTreeMap::new(),
            random: settings.seed,
            token: 0,
            order_number: 0,
            counts: Counts::default(),
            settings,
        };
        bus.token = u8::try_from(bus.draw() & 0xFF).unwrap_or_default();
        bus.order_number = bus.draw_u32();
        bus
    }

    /// The wire is open, and nothing is known of what is under way on it.
    pub fn connected(&mut self, now: Duration) {
        self.lost(now);
        self.open = true;
        self.quiet_until = now.saturating_add(self.settings.gap);
    }

    /// The wire was lost. Nodes keep what they measure; the question under way is asked again.
    pub fn lost(&mut self, _now: Duration) {
        match self.flight.take().map(|flight| flight.purpose) {
            Some(Purpose::Order { order, tries, number }) => self.orders.push_front((order, tries, number)),
            Some(Purpose::Who { all: true }) => self.scan_rounds = self.scan_rounds.saturating_add(1),
            Some(Purpose::Who { all: false } | Purpose::Node { .. }) | None => {}
        }
        self.receiver.clear();
        self.open = false;
    }

    /// The wire cannot be opened at present.
    pub fn disconnected(&mut self, now: Duration) {
        self.lost(now);
        for (order, ..) in core::mem::take(&mut self.orders) {
            self.events.push_back(Event::Ordered { id: order.id, outcome: Err(OrderError::Disconnected) });
        }
        for node in 0..self.units.len() {
            self.events.push_back(Event::Failed { node, reason: Reason::Disconnected });
        }
    }

    /// Takes an order; it ends with [`Event::Ordered`].
    pub fn order(&mut self, order: Order) {
        self.order_number = self.order_number.wrapping_add(1);
        self.orders.push_back((order, 0, self.order_number));
    }

    /// Asks every node of the line who it is, configured or not: [`Event::Found`] for each, then [`Event::Scanned`].
    pub fn scan(&mut self) {
        self.found.clear();
        self.scan_rounds = SCAN_ROUNDS;
    }

    /// Everything of a node up to `origin` is durable, samples and losses alike.
    pub fn durable(&mut self, now: Duration, node: usize, origin: Origin) {
        if let Some(unit) = self.units.get_mut(node) {
            unit.made_durable(now, origin);
        }
    }

    /// Takes what was received.
    pub fn handle_bytes(&mut self, moment: Moment, bytes: &[u8]) {
        self.quiet_until = self.quiet_until.max(moment.now.saturating_add(self.settings.gap));
        for &byte in bytes {
            if let Some(flight) = &mut self.flight {
                flight.heard(moment.now, &self.settings);
            }
            self.heard(moment, byte);
        }
    }

    /// Returns when to come back if nothing is received; after [`poll_transmit`](Self::poll_transmit) returned `None`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.flight.as_ref().map(|flight| flight.deadline).or(self.wake)
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, moment: Moment) {
        if self.flight.as_ref().is_some_and(|flight| flight.deadline <= moment.now) {
            self.give_up(moment);
        }
    }

    /// Returns what happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns a frame to be sent at once, if there is one.
    pub fn poll_transmit(&mut self, moment: Moment) -> Option<&[u8]> {
        self.wake = None;
        if self.flight.is_some() || !self.open {
            return None;
        }
        if moment.now < self.quiet_until {
            self.wake = Some(self.quiet_until);
            return None;
        }
        // An order that fits no frame has ended, and the next is looked at.
        loop {
            let purpose = self.choose(moment.now)?;
            if let Some(used) = self.send(moment, purpose) {
                return self.frame.get(..used);
            }
        }
    }

    /// Returns what a node said of itself, and what it measures.
    #[must_use]
    pub fn node(&self, node: usize) -> Option<(&NodeInfo, &[ChannelInfo])> {
        let unit = self.units.get(node)?;
        Some((unit.info.as_ref()?, &unit.channels))
    }

    /// Returns up to where the samples of a node are taken, durable or not.
    #[must_use]
    pub fn taken(&self, node: usize) -> Option<Taken> {
        self.units.get(node)?.taken()
    }

    /// Returns what was heard since the start.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn choose(&mut self, now: Duration) -> Option<Purpose> {
        if let Some((order, tries, number)) = self.orders.pop_front() {
            return Some(Purpose::Order { order, tries, number });
        }
        if self.scan_rounds > 0 {
            self.scan_rounds = self.scan_rounds.saturating_sub(1);
            return Some(Purpose::Who { all: true });
        }
        if self.discover_at.is_some_and(|at| at <= now) {
            self.discover_at = self.settings.discover_every.map(|every| now.saturating_add(every));
            return Some(Purpose::Who { all: false });
        }
        let count = self.units.len();
        let places = (self.turn..count).chain(0..self.turn.min(count));
        let mut earliest = self.discover_at;
        let line_probe = self.is_dead().then_some(self.line_probe_at);
        for place in places {
            let Some(unit) = self.units.get(place) else { continue };
            let (step, at) = unit.next(now);
            let at = line_probe.map_or(at, |probe| at.min(probe));
            if at <= now {
                self.turn = place.saturating_add(1);
                self.line_probe_at = now.saturating_add(LINE_PROBE);
                return Some(Purpose::Node { node: place, step });
            }
            earliest = earliest.into_iter().chain([at]).min();
        }
        self.wake = earliest;
        None
    }

    /// No node of the line answers.
    fn is_dead(&self) -> bool {
        !self.units.is_empty() && self.units.iter().all(|unit| unit.breaker.is_open())
    }

    /// Draws a number: SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let number = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        number ^ (number >> 31)
    }

    /// Draws a number that is not 0.
    fn draw_u32(&mut self) -> u32 {
        u32::try_from(self.draw() >> 32).unwrap_or(u32::MAX).max(1)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

//! One question on the line: what it is, how long it is waited for, and what its answer does.

use core::time::Duration;

use ganglion_protocols::Reason;
use ganglion_protocols::node_link::{
    Ack, Answer, Ask, Head, Hello, MAX_FRAME, MAX_PAYLOAD, Refusal, SchemaHash, Speaker, VERSION, seal,
};

use super::order::{Order, OrderError};
use super::{ChannelInfo, Event, Moment, NodeBus, NodeInfo, Settings, Step};

/// Samples asked for at once: as many as fit.
const MOST: u8 = u8::MAX;

/// Slots of a question to everybody.
const SLOTS: u8 = 8;

/// Longest `Hello` on the line, in characters: its strings are short.
const HELLO_CHARACTERS: u32 = 96;

/// What a node may be late with its slot, and a port with its bytes.
const SLOT_SLACK: Duration = Duration::from_millis(25);

/// A node that is another one, or not understood, is asked again after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Something asked, waiting for its answer.
pub(super) struct Flight {
    pub(super) purpose: Purpose,
    unit: u8,
    token: u8,
    /// When the last byte of the question has left.
    ended: Duration,
    sent: Duration,
    /// When that began which may be the answer.
    first_byte: Option<Duration>,
    pub(super) deadline: Duration,
    /// The deadline is not moved beyond.
    limit: Duration,
    /// Something came that was no answer.
    garbled: bool,
}

/// Why something is asked.
pub(super) enum Purpose {
    Node { node: usize, step: Step },
    Order { order: Order, tries: u8, number: u32 },
    Who { all: bool },
}

impl Flight {
    /// Bytes arrive: they are given the time that a frame takes.
    pub(super) fn heard(&mut self, now: Duration, settings: &Settings) {
        self.first_byte.get_or_insert(now);
        if !matches!(self.purpose, Purpose::Who { .. }) {
            self.deadline = now.saturating_add(settings.frame_time()).min(self.limit).max(self.deadline);
        }
    }
}

impl Settings {
    /// The longest time that an answer takes from its first byte on.
    fn frame_time(&self) -> Duration {
        let bare = self.character.saturating_mul(u32::try_from(MAX_FRAME).unwrap_or(u32::MAX));
        bare.saturating_add(bare.checked_div(2).unwrap_or_default()).saturating_add(self.answer_slack)
    }

    fn characters(&self, count: usize) -> Duration {
        self.character.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// How long a slot of a question to everybody is.
    fn slot(&self) -> Duration {
        self.character.saturating_mul(HELLO_CHARACTERS).saturating_add(self.gap).saturating_add(SLOT_SLACK)
    }
}

impl NodeBus {
    /// Writes the question and waits for its answer; returns the frame's length. `None` when it fits no frame: then it
    /// has ended.
    pub(super) fn send(&mut self, moment: Moment, purpose: Purpose) -> Option<usize> {
        // A node that speaks unasked says 0.
        self.token = self.token.wrapping_add(1).max(1);
        let token = self.token;
        let unit = match &purpose {
            Purpose::Node { node, .. } => self.units.get(*node)?.settings.unit,
            Purpose::Order { order, .. } => order.unit,
            Purpose::Who { .. } => 0,
        };
        let epoch = self.draw_u32();
        let salt = u16::try_from(self.draw() & 0xFFFF).unwrap_or_default();
        let slot_ms = u16::try_from(super::millis(self.settings.slot())).unwrap_or(u16::MAX);
        let head = Head { version: VERSION, speaker: Speaker::Gateway, unit, token };
        // What a time is for is known only with the length of the frame that says it, which hardly depends on it.
        let mut used = 0;
        for _ in 0..2 {
            let ended = moment.now.saturating_add(self.settings.characters(used));
            let ask = match &purpose {
                Purpose::Node { node, step } => match *step {
                    Step::Describe => Ask::Describe,
                    Step::Channel(index) => Ask::Channel { index },
                    Step::Time => Ask::Time { utc_ms: moment.sure.then(|| moment.utc_of(ended)), error_ms: 0, epoch },
                    Step::Fetch => {
                        let durable = self.units.get(*node).and_then(super::Unit::durable);
                        let ack = durable.map(|origin| Ack { epoch: origin.epoch, seq: origin.seq });
                        Ask::Fetch { ack, most: MOST }
                    }
                },
                Purpose::Order { order, number, .. } => order.deed.ask(*number),
                Purpose::Who { all } => Ask::Who { salt, slots: SLOTS, slot_ms, all: *all },
            };
            let mut payload = [0; MAX_PAYLOAD];
            let sealed = ask
                .emit(&mut payload)
                .ok()
                .and_then(|length| seal(head, payload.get(..length).unwrap_or_default(), &mut self.frame).ok());
            let Some(length) = sealed else {
                if let Purpose::Order { order, .. } = purpose {
                    self.events.push_back(Event::Ordered { id: order.id, outcome: Err(OrderError::TooLong) });
                }
                return None;
            };
            used = length;
        }
        let ended = moment.now.saturating_add(self.settings.characters(used));
        let wait = match &purpose {
            Purpose::Node { node, .. } => {
                self.units.get(*node).map_or(self.settings.response_timeout, |unit| unit.pace.patience())
            }
            Purpose::Order { .. } => self.settings.response_timeout,
            Purpose::Who { .. } => {
                self.round.clear();
                self.settings.slot().saturating_mul(u32::from(SLOTS)).saturating_add(self.settings.shortest_wait)
            }
        };
        let deadline = ended.saturating_add(self.settings.gap).saturating_add(wait);
        let limit = deadline.saturating_add(self.settings.frame_time());
        self.receiver.clear();
        self.counts.questions = self.counts.questions.saturating_add(1);
        let sent = moment.now;
        self.quiet_until = ended.saturating_add(self.settings.gap);
        self.flight =
            Some(Flight { purpose, unit, token, ended, sent, first_byte: None, deadline, limit, garbled: false });
        Some(used)
    }

    /// Takes one byte of the line.
    pub(super) fn heard(&mut self, moment: Moment, byte: u8) {
        let (head, payload) = match self.receiver.take(byte) {
            None => return,
            Some(Err(_)) => {
                self.counts.broken = self.counts.broken.saturating_add(1);
                self.not_the_answer(true);
                return;
            }
            Some(Ok((head, payload))) => (head, payload),
        };
        if head.speaker == Speaker::Gateway {
            self.counts.echoes = self.counts.echoes.saturating_add(1);
            self.not_the_answer(false);
            return;
        }
        // The answer must not borrow the receiver, which belongs to the engine that takes it.
        let mut kept = [0; MAX_FRAME];
        let length = payload.len();
        if let Some(space) = kept.get_mut(..length) {
            space.copy_from_slice(payload);
        }
        let Ok(answer) = Answer::parse(head.version, kept.get(..length).unwrap_or_default()) else {
            self.counts.unknown = self.counts.unknown.saturating_add(1);
            self.not_the_answer(true);
            return;
        };
        self.answered(moment, head, &answer);
    }

    /// What came is not the answer, which begins behind it.
    fn not_the_answer(&mut self, garbled: bool) {
        if let Some(flight) = &mut self.flight {
            flight.first_byte = None;
            flight.garbled |= garbled;
        }
    }

    fn answered(&mut self, moment: Moment, head: Head, answer: &Answer<'_>) {
        let fits = |flight: &Flight| {
            flight.token == head.token && (flight.unit == head.unit || matches!(flight.purpose, Purpose::Who { .. }))
        };
        if !self.flight.as_ref().is_some_and(fits) {
            self.unasked(head, answer);
            return;
        }
        if matches!(self.flight, Some(Flight { purpose: Purpose::Who { .. }, .. })) {
            if let Answer::Hello(hello) = answer {
                self.counts.answers = self.counts.answers.saturating_add(1);
                self.found(head.unit, hello, true);
            }
            return;
        }
        let Some(flight) = self.flight.take() else { return };
        self.counts.answers = self.counts.answers.saturating_add(1);
        let began = flight.first_byte.unwrap_or(moment.now);
        match flight.purpose {
            Purpose::Order { order, tries, number } => match order.deed.outcome(head.unit, number, answer) {
                Some(outcome) => self.events.push_back(Event::Ordered { id: order.id, outcome }),
                None => self.retry_order(order, tries, number),
            },
            Purpose::Node { node, step } => {
                let heard_before = core::mem::replace(&mut self.heard_at, moment.now);
                self.units.iter_mut().for_each(|unit| unit.line_answers(moment.now, heard_before));
                if let Some(unit) = self.units.get_mut(node) {
                    unit.tries = 0;
                    unit.pace.answered(began.saturating_sub(flight.ended));
                    if unit.breaker.answered() {
                        self.events.push_back(Event::Back { node });
                    }
                }
                self.step_answered((moment, began), node, step, answer);
            }
            Purpose::Who { .. } => {}
        }
    }

    /// A node speaks though nobody waits for it: late, or because something begins.
    fn unasked(&mut self, head: Head, answer: &Answer<'_>) {
        self.counts.strangers = self.counts.strangers.saturating_add(1);
        self.not_the_answer(false);
        if let Answer::Hello(hello) = answer {
            self.found(head.unit, hello, false);
            let changed = |info: &NodeInfo| *info != NodeInfo::new(head.unit, hello);
            let unit = self.units.iter_mut().find(|unit| unit.settings.unit == head.unit);
            if let Some(unit) = unit.filter(|unit| unit.info.as_ref().is_some_and(changed)) {
                unit.forget();
            }
        }
    }

    /// Notes who said hello; in a round of discovery two may have one address.
    fn found(&mut self, unit: u8, hello: &Hello<'_>, in_round: bool) {
        if in_round && let Some(other) = self.round.insert(unit, hello.serial).filter(|other| *other != hello.serial) {
            self.events.push_back(Event::SameUnit { unit, serials: [other, hello.serial] });
        }
        let configured = self.units.iter().any(|known| known.settings.unit == unit);
        let scanning = matches!(&self.flight, Some(Flight { purpose: Purpose::Who { all: true }, .. }));
        let info = NodeInfo::new(unit, hello);
        let known = self.found.get(&hello.serial) == Some(&info);
        if !known && (scanning || !configured) {
            self.found.insert(hello.serial, info.clone());
            self.events.push_back(Event::Found(info));
        }
    }

    fn step_answered(&mut self, (moment, began): (Moment, Duration), node: usize, step: Step, answer: &Answer<'_>) {
        let Some(unit) = self.units.get_mut(node) else { return };
        let address = unit.settings.unit;
        match (step, answer) {
            (_, Answer::Unsupported { lowest, highest }) => {
                unit.forget();
                unit.ready_at = moment.now.saturating_add(LOOK_AGAIN);
                let (lowest, highest) = (*lowest, *highest);
                self.events.push_back(Event::Unsupported { unit: address, lowest, highest });
            }
            (Step::Describe, Answer::Hello(hello)) => {
                let info = NodeInfo::new(address, hello);
                let life = (info.boot, info.epoch);
                if unit.told.replace(life).is_some_and(|before| before != life) {
                    self.events.push_back(Event::Restarted { node, boot: info.boot, reset: info.reset });
                }
                let described = unit.info.as_ref().is_some_and(|before| before.schema == info.schema);
                let known = SchemaHash::of((0_u8..).zip(&unit.channels).map(|(place, channel)| channel.at(place)));
                if known != info.schema {
                    unit.channels.clear();
                }
                let wrong = info.cri != unit.settings.cri;
                if wrong && !unit.wrong_cri {
                    self.events.push_back(Event::WrongCri { node, found: info.cri });
                } else if !wrong && unit.wrong_cri {
                    self.events.push_back(Event::RightCri { node });
                }
                unit.wrong_cri = wrong;
                if wrong {
                    unit.ready_at = moment.now.saturating_add(LOOK_AGAIN);
                }
                let complete = unit.channels.len() == usize::from(info.channels);
                unit.info = Some(info);
                if complete && !described && !wrong {
                    self.events.push_back(Event::Described { node });
                }
            }
            (Step::Channel(index), Answer::Channel(channel)) if channel.index == index => {
                unit.channels.push(ChannelInfo::new(channel));
                let Some(info) = &unit.info else { return };
                if unit.channels.len() < usize::from(info.channels) {
                    return;
                }
                let said = SchemaHash::of((0_u8..).zip(&unit.channels).map(|(place, channel)| channel.at(place)));
                if said == info.schema {
                    self.events.push_back(Event::Described { node });
                } else {
                    unit.channels.clear();
                    unit.forget();
                    unit.ready_at = moment.now.saturating_add(LOOK_AGAIN);
                    self.events.push_back(Event::Undescribed { node });
                }
            }
            (Step::Time, Answer::Time { boot, uptime_ms, epoch, .. }) => {
                unit.timed(moment.now, (*boot, *uptime_ms), *epoch);
            }
            (Step::Fetch, Answer::Batch(batch)) => {
                let verdict = unit.batch(node, batch, (moment, began), &mut self.events);
                if verdict.restarted || verdict.changed {
                    unit.doubt(moment.now);
                }
                if verdict.malformed {
                    self.step_failed(moment.now, node, Reason::Malformed, Duration::ZERO);
                } else {
                    self.events.push_back(Event::Answered { node });
                }
            }
            (Step::Fetch | Step::Time, Answer::Refused(Refusal::Unnamed)) => unit.doubt(moment.now),
            _ => self.step_failed(moment.now, node, Reason::WrongReply, Duration::ZERO),
        }
    }

    /// The time for an answer is over.
    pub(super) fn give_up(&mut self, moment: Moment) {
        let Some(flight) = self.flight.take() else { return };
        match flight.purpose {
            Purpose::Who { all } => {
                if all && self.scan_rounds == 0 {
                    self.events.push_back(Event::Scanned);
                }
            }
            Purpose::Order { order, tries, number } => {
                self.counts.timeouts = self.counts.timeouts.saturating_add(1);
                self.retry_order(order, tries, number);
            }
            Purpose::Node { node, .. } => {
                self.counts.timeouts = self.counts.timeouts.saturating_add(1);
                if let Some(unit) = self.units.get_mut(node) {
                    unit.pace.missed();
                }
                let reason =
                    if flight.garbled || self.receiver.has_begun() { Reason::Malformed } else { Reason::Timeout };
                self.step_failed(moment.now, node, reason, moment.now.saturating_sub(flight.sent));
            }
        }
    }

    fn retry_order(&mut self, order: Order, tries: u8, number: u32) {
        if tries < self.settings.retries {
            self.orders.push_front((order, tries.saturating_add(1), number));
        } else {
            self.events.push_back(Event::Ordered { id: order.id, outcome: Err(OrderError::NoAnswer) });
        }
    }

    fn step_failed(&mut self, now: Duration, node: usize, reason: Reason, cost: Duration) {
        let Some(unit) = self.units.get_mut(node) else { return };
        unit.tries = unit.tries.saturating_add(1);
        if unit.breaker.failed(now, cost) {
            self.events.push_back(Event::Silent { node });
        }
        if unit.tries > self.settings.retries {
            unit.tries = 0;
            unit.ready_at = now.saturating_add(unit.settings.period);
            self.events.push_back(Event::Failed { node, reason });
        }
    }
}

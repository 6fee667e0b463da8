//! An order under way: asked, asked again, read back.

use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Reason;
use ganglion_protocols::modbus::pdu::{MAX_PDU, Request};
use ganglion_protocols::modbus::{ExceptionCode, Table};

use super::answers::{busy_pause, is_busy, items};
use super::order::{Deed, Done, Order, OrderError, Write};
use super::{Bus, Event, Flight, read_pdu};
use crate::client::{Framing, Outcome};
use crate::plan::{Limits, ReadRequest};

/// How long everybody gets to carry a broadcast out before the next request.
///
/// Source: MODBUS over Serial Line V1.02 §2.4.1: 100 ms to 200 ms.
const BROADCAST_PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Errand {
    order: Order,
    step: Step,
    attempts: u8,
    busy: u8,
    not_before: Duration,
    /// Since when it waits because its answer could be mistaken for another.
    held: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Ask,
    /// Reads back what was written: `confirmed` says whether the unit has answered the write.
    ReadBack {
        request: ReadRequest,
        confirmed: Result<(), Reason>,
    },
}

impl Errand {
    pub(super) const fn new(order: Order) -> Self {
        Self { order, step: Step::Ask, attempts: 0, busy: 0, not_before: Duration::ZERO, held: None }
    }

    pub(super) const fn held(&self) -> Option<Duration> {
        self.held
    }

    /// Writes the PDU of the next request; `None` if no such request exists.
    fn pdu<'a>(&self, out: &'a mut [u8; MAX_PDU]) -> Option<&'a [u8]> {
        let read = |request: ReadRequest, out: &mut [u8; MAX_PDU]| {
            Limits::STANDARD.allow(request).ok()?;
            out.get_mut(..5)?.copy_from_slice(&read_pdu(request));
            Some(5)
        };
        let len = match (&self.step, &self.order.deed) {
            (Step::ReadBack { request, .. }, _) | (Step::Ask, Deed::Read(request)) => read(*request, out)?,
            (Step::Ask, Deed::Write { write, .. }) => write.emit(out)?,
            (Step::Ask, Deed::Identify { level, object }) => {
                Request::ReadDeviceId { level: *level, object: *object }.emit(out).ok()?
            }
            (Step::Ask, Deed::ServerId) => Request::ReportServerId.emit(out).ok()?,
        };
        out.get(..len)
    }
}

impl Bus {
    /// Returns the errand that may go now: the first of its unit, in the order they were given.
    pub(super) fn next_errand(&mut self, now: Duration) -> Option<usize> {
        let mut wake = None;
        let mut seen = Vec::new();
        let mut found = None;
        for (place, errand) in self.errands.iter_mut().enumerate() {
            let unit = errand.order.unit;
            if seen.contains(&unit) {
                continue;
            }
            seen.push(unit);
            let rested =
                self.units.iter().find(|known| known.id() == unit).map_or(Duration::ZERO, |known| known.ready_at);
            let mut buffer = [0; MAX_PDU];
            // One that cannot be asked goes at once, to be refused.
            let usable = errand.pdu(&mut buffer).map_or(now, |pdu| self.client.usable_at(unit, pdu));
            errand.held = (usable > self.client.silent_at().max(now)).then(|| errand.held.unwrap_or(now));
            let ready = errand.not_before.max(rested).max(usable);
            if ready <= now {
                found = Some(place);
                break;
            }
            wake = wake.into_iter().chain([ready]).min();
        }
        self.look_again(wake);
        found
    }

    /// Sends the next request of an errand. Returns whether a frame is there.
    pub(super) fn send_errand(&mut self, now: Duration, place: usize) -> bool {
        let Some(mut errand) = self.errands.remove(place) else { return false };
        errand.held = None;
        let unit = errand.order.unit;
        let known = self.units.iter_mut().find(|known| known.id() == unit);
        let broadcast = unit.0 == 0 && matches!(self.framing, Framing::Rtu(_));
        let patience = match &known {
            _ if broadcast => BROADCAST_PAUSE,
            Some(known) => known.turnaround.patience(),
            None => self.response_timeout,
        };
        let mut buffer = [0; MAX_PDU];
        let started = match errand.pdu(&mut buffer) {
            Some(pdu) => match self.client.start(now, unit, pdu, patience) {
                Ok(frame) => {
                    self.frame.clear();
                    self.frame.extend_from_slice(frame);
                    true
                }
                Err(_) => false,
            },
            None => false,
        };
        if started {
            if let Some(known) = known {
                known.counts.requests = known.counts.requests.saturating_add(1);
            }
            self.flight = Some(Flight::Errand { errand, sent: now });
        } else {
            self.end(&errand, Err(OrderError::Impossible));
        }
        started
    }

    pub(super) fn settle_errand(&mut self, now: Duration, errand: Errand, sent: Duration, outcome: Outcome) {
        if let Some(place) = self.units.iter().position(|unit| unit.id() == errand.order.unit) {
            self.judge(now, place, sent, outcome);
        }
        match (outcome, errand.step) {
            (Outcome::Sent, _) => self.end(&errand, Ok(Done::Broadcast)),
            (Outcome::Answered { .. }, Step::Ask) => self.asked(errand),
            (Outcome::Answered { .. }, Step::ReadBack { request, confirmed }) => {
                let found = items(request, self.client.answer());
                let result = match &errand.order.deed {
                    Deed::Write { write, .. } => match (write.compare(&found), confirmed) {
                        (Ok(()), _) => Ok(Done::Written),
                        (Err(differs), Ok(())) => Err(differs),
                        (Err(_), Err(reason)) => Err(OrderError::Failed(reason)),
                    },
                    _ => Ok(Done::Items(found)),
                };
                self.end(&errand, result);
            }
            (Outcome::Refused(code), _) => self.refused_errand(now, errand, code),
            (Outcome::Failed(failure), _) => self.again(errand, failure.into()),
        }
    }

    /// The request itself was answered as it should be.
    fn asked(&mut self, mut errand: Errand) {
        let answer = self.client.answer();
        let done = match &errand.order.deed {
            Deed::Read(request) => Done::Items(items(*request, answer)),
            Deed::Write { write, verify } => {
                if let (true, Some(request)) = (*verify, write.read_back()) {
                    errand.step = Step::ReadBack { request, confirmed: Ok(()) };
                    errand.attempts = 0;
                    self.errands.push_front(errand);
                    return;
                }
                match write {
                    Write::ReadWrite { read: (address, count), .. } => {
                        let table = Table::HoldingRegister;
                        Done::Items(items(ReadRequest { table, address: *address, count: *count }, answer))
                    }
                    _ => Done::Written,
                }
            }
            Deed::Identify { .. } | Deed::ServerId => Done::Answer(answer.to_vec()),
        };
        self.end(&errand, Ok(done));
    }

    fn refused_errand(&mut self, now: Duration, mut errand: Errand, code: ExceptionCode) {
        errand.busy = errand.busy.saturating_add(1);
        match busy_pause(errand.busy).filter(|_| is_busy(code)) {
            Some(pause) => {
                errand.not_before = now.saturating_add(pause);
                self.errands.push_front(errand);
            }
            None => self.fail(&errand, Reason::Exception(code)),
        }
    }

    /// No usable answer: asks again, and looks at last whether a write was carried out all the same.
    pub(super) fn again(&mut self, mut errand: Errand, reason: Reason) {
        if errand.attempts < self.retries {
            errand.attempts = errand.attempts.saturating_add(1);
            self.errands.push_front(errand);
            return;
        }
        let look = match (&errand.order.deed, errand.step) {
            (Deed::Write { write, verify: true }, Step::Ask) => write.read_back(),
            _ => None,
        };
        match look {
            Some(request) => {
                errand.step = Step::ReadBack { request, confirmed: Err(reason) };
                errand.attempts = 0;
                self.errands.push_front(errand);
            }
            None => self.fail(&errand, reason),
        }
    }

    pub(super) fn fail_errands(&mut self, reason: Reason) {
        for errand in core::mem::take(&mut self.errands) {
            self.fail(&errand, reason);
        }
    }

    /// Ends an errand whose last request had no usable answer: what a unit has confirmed stays confirmed.
    fn fail(&mut self, errand: &Errand, reason: Reason) {
        let error = match errand.step {
            Step::Ask => OrderError::Failed(reason),
            Step::ReadBack { confirmed: Ok(()), .. } => OrderError::NotReadBack(reason),
            // The write itself went wrong; that is what is told, not how looking after it did.
            Step::ReadBack { confirmed: Err(first), .. } => OrderError::Failed(first),
        };
        self.end(errand, Err(error));
    }

    /// Ends an order that could not be asked for too long.
    pub(super) fn end_held(&mut self, place: usize) {
        if let Some(errand) = self.errands.remove(place) {
            self.end(&errand, Err(OrderError::Failed(Reason::Timeout)));
        }
    }

    fn end(&mut self, errand: &Errand, result: Result<Done, OrderError>) {
        self.events.push_back(Event::Ordered { id: errand.order.id, result });
    }
}

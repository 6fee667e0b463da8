//! What an outcome does to the job that asked and to what is known of the unit.

use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Reason;
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::pdu::{Bits, Words};

use super::job::{Ask, Job, Purpose};
use super::{Bus, Event, Flight, IDENTITY_EVERY, SILENCES, Unit};
use crate::client::{Failure, Framing, Outcome};
use crate::learn::Verdict;
use crate::plan::ReadRequest;

/// Pause before a unit that said it is busy is asked again; it doubles with each time.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// How often a busy unit is asked again before it is given up: for 1.5 s in all.
const BUSY_TRIES: u8 = 5;

/// How often what is left of one poll is planned anew because a block was refused; more is no device but noise.
const MOST_REPLANS: usize = 256;

impl Bus {
    /// Deals with the end of the exchange under way.
    pub(super) fn settle(&mut self, now: Duration, outcome: Outcome) {
        match self.flight.take() {
            None => {}
            Some(Flight::Errand { errand, sent }) => self.settle_errand(now, errand, sent, outcome),
            Some(Flight::Job { job, ask, sent }) => self.settle_job(now, job, ask, sent, outcome),
        }
    }

    fn settle_job(&mut self, now: Duration, mut job: Job, ask: Ask, sent: Duration, outcome: Outcome) {
        self.judge(now, job.unit, sent, outcome);
        let known = self.memory_state(job.unit);
        let mut outdated = false;
        match outcome {
            Outcome::Answered { .. } => {
                job.answered_at = Some(now);
                let items = items(ask.request, self.client.answer());
                self.take_items(now, &mut job, ask, &items);
            }
            Outcome::Refused(code) => {
                job.answered_at = Some(now);
                outdated = self.refused(now, &mut job, ask, code);
            }
            Outcome::Failed(failure) => self.unanswered(now, &mut job, ask, failure),
            // Nobody polls everybody.
            Outcome::Sent => job.fail(&self.tasks, ask.request, Reason::Timeout),
        }
        if let Some(unit) = self.units.get(job.unit).filter(|unit| unit.refrains(now)) {
            job.fail_rest(unit.trouble);
        }
        outdated |= self.memory_state(job.unit) != known;
        if outdated && job.replans < MOST_REPLANS {
            self.replan(now, &mut job);
        }
        let unit = job.unit;
        self.keep_or_finish(now, job);
        self.note_learning(now, unit);
    }

    /// Notes what an outcome says about the unit itself.
    pub(super) fn judge(&mut self, now: Duration, place: usize, sent: Duration, outcome: Outcome) {
        let cost = now.saturating_sub(sent);
        let silent_units = self.units.iter().filter(|unit| unit.breaker.is_open()).count();
        let Some(unit) = self.units.get_mut(place) else { return };
        unit.ready_at = now.saturating_add(unit.settings.request_gap);
        unit.hung_up = false;
        let counts = &mut unit.counts;
        counts.bus_time = counts.bus_time.saturating_add(cost);
        let trouble = match outcome {
            Outcome::Answered { turnaround } => {
                unit.turnaround.answered(turnaround);
                counts.answered = counts.answered.saturating_add(1);
                None
            }
            Outcome::Refused(code) => {
                counts.exceptions = counts.exceptions.saturating_add(1);
                // A gateway in between answers in place of a unit that it cannot reach.
                let unreached = code == ExceptionCode::GATEWAY_PATH_UNAVAILABLE
                    || code == ExceptionCode::GATEWAY_TARGET_DEVICE_FAILED_TO_RESPOND;
                unreached.then_some(Reason::Exception(code))
            }
            Outcome::Failed(Failure::Timeout) => {
                unit.turnaround.missed();
                counts.timeouts = counts.timeouts.saturating_add(1);
                Some(Reason::Timeout)
            }
            Outcome::Failed(failure) => {
                counts.unusable = counts.unusable.saturating_add(1);
                Some(failure.into())
            }
            Outcome::Sent => return,
        };
        if let Some(trouble) = trouble {
            unit.trouble = trouble;
            let with_this = silent_units.saturating_add(usize::from(!unit.breaker.is_open()));
            unit.breaker.share_among(u32::try_from(with_this).unwrap_or(u32::MAX));
            if unit.breaker.failed(now, cost) {
                unit.check_at = unit.settings.identity.map(|_| now);
                self.events.push_back(Event::Silent { unit: place });
                self.stretch(now);
            }
            if self.units.get(place).is_some_and(|unit| unit.refrains(now)) {
                self.fail_jobs(now, place, trouble);
            }
            match trouble {
                Reason::Timeout => self.doubt_connection(now),
                // What follows an answer that was cut short or garbled on TCP may be anything.
                Reason::Malformed if self.framing == Framing::Tcp => self.replace(now, Reason::Malformed),
                _ => {}
            }
        } else if unit.answered() {
            for &task in &unit.tasks {
                if self.tasks.get(task).is_some_and(|task| task.missed_out) {
                    self.schedule.call(task, now);
                }
            }
            self.events.push_back(Event::Back { unit: place });
            self.stretch(now);
        }
    }

    /// Gives a TCP connection up over which nothing comes any more: whatever a server or gateway is busy with, or however
    /// long the other side has been gone, a fresh one is served. One silence is no reason yet, it may be the unit's.
    fn doubt_connection(&mut self, now: Duration) {
        self.silences = self.silences.saturating_add(1);
        if self.framing == Framing::Tcp && self.silences >= SILENCES {
            self.silences = 0;
            self.replace(now, Reason::Timeout);
        }
    }

    fn take_items(&mut self, now: Duration, job: &mut Job, ask: Ask, items: &[u16]) {
        let Some(unit) = self.units.get_mut(job.unit) else { return };
        unit.memory.answered(now, ask.request);
        match ask.purpose {
            Purpose::Points => job.fill(&self.tasks, ask.request, items),
            Purpose::Probe => {}
            Purpose::Identity => {
                let holds = unit.settings.identity.is_none_or(|identity| identity.holds(items));
                let found = unit
                    .settings
                    .identity
                    .and_then(|identity| identity.value_type.bits(items, identity.word_order).ok());
                self.identified(now, job, holds, found);
            }
        }
    }

    /// Takes the values of the right device only.
    fn identified(&mut self, now: Duration, job: &mut Job, holds: bool, found: Option<u64>) {
        let Some(unit) = self.units.get_mut(job.unit) else { return };
        let was_wrong = core::mem::replace(&mut unit.wrong, !holds);
        if holds {
            unit.check_at = Some(now.saturating_add(IDENTITY_EVERY));
            if was_wrong {
                self.events.push_back(Event::RightDevice { unit: job.unit });
            }
        } else {
            unit.check_at = Some(now);
            job.fail_rest(Reason::WrongDevice);
            if !was_wrong {
                self.events.push_back(Event::WrongDevice { unit: job.unit, found });
            }
            // A more urgent poll may have found it out between the requests of another one.
            self.fail_jobs(now, job.unit, Reason::WrongDevice);
        }
    }

    /// Returns whether what is left must be planned anew, for the request is no longer what the plan would ask.
    fn refused(&mut self, now: Duration, job: &mut Job, mut ask: Ask, code: ExceptionCode) -> bool {
        let reason = Reason::Exception(code);
        if is_busy(code) {
            ask.busy = ask.busy.saturating_add(1);
            match busy_pause(ask.busy) {
                Some(pause) => {
                    job.not_before = now.saturating_add(pause);
                    job.asks.push_front(ask);
                }
                None => job.fail(&self.tasks, ask.request, reason),
            }
            return false;
        }
        ask.attempts = ask.attempts.saturating_add(1);
        match ask.purpose {
            Purpose::Probe => return false,
            Purpose::Identity => {
                if ask.attempts > self.retries {
                    self.identified(now, job, false, None);
                } else {
                    job.asks.push_front(ask);
                }
                return false;
            }
            Purpose::Points => {}
        }
        let wants = job.open(&self.tasks, Some(ask.request));
        let Some(unit) = self.units.get_mut(job.unit) else { return false };
        match unit.memory.refused(now, ask.request, code, &wants) {
            Verdict::Cut if job.replans < MOST_REPLANS => return true,
            Verdict::Cut => job.fail(&self.tasks, ask.request, reason),
            Verdict::Point => {
                // Noise can look like an exception; a point is not given up for one.
                if ask.attempts > self.retries || unit.memory.parked(now, ask.request) {
                    job.fail(&self.tasks, ask.request, reason);
                } else {
                    job.asks.push_front(ask);
                }
            }
            Verdict::Nothing if ask.attempts > self.retries => job.fail(&self.tasks, ask.request, reason),
            Verdict::Nothing => {
                job.not_before = now.saturating_add(BUSY_PAUSE);
                job.asks.push_front(ask);
            }
        }
        false
    }

    /// Tells what was learnt about a unit, and what it does to the bus's load.
    pub(super) fn note_learning(&mut self, now: Duration, place: usize) {
        if self.units.get(place).is_some_and(Unit::outdated) {
            self.stretch(now);
        }
        let Some(unit) = self.units.get_mut(place) else { return };
        let learnt = unit.memory.learnt();
        if core::mem::replace(&mut unit.told, learnt) != learnt {
            self.events.push_back(Event::Learnt { unit: place });
        }
    }

    fn memory_state(&self, unit: usize) -> Option<u32> {
        self.units.get(unit).map(|unit| unit.memory.changed())
    }

    /// Plans what is left of a job anew; what was tried in vain stays tried.
    fn replan(&mut self, now: Duration, job: &mut Job) {
        job.replans = job.replans.saturating_add(1);
        let wants: Vec<ReadRequest> = job.open(&self.tasks, None);
        let Some(unit) = self.units.get(job.unit) else { return };
        let (requests, unreadable, _) = unit.plan(now, &wants, self.line);
        for want in unreadable {
            job.fail(&self.tasks, want, super::REFUSED);
        }
        let before = core::mem::take(&mut job.asks);
        let attempts = |request: ReadRequest| {
            before.iter().filter(|ask| ask.request.overlaps(request)).map(|ask| ask.attempts).max().unwrap_or(0)
        };
        let ask = |request| Ask { attempts: attempts(request), ..Ask::new(request, Purpose::Points) };
        job.asks.extend(before.iter().filter(|ask| ask.purpose != Purpose::Points));
        job.asks.extend(requests.into_iter().map(ask));
    }

    /// The wire was lost while an answer was awaited. Others are asked first, for they may be answered.
    pub(super) fn hung_up(&mut self, now: Duration, mut job: Job, mut ask: Ask, sent: Duration) {
        let Some(unit) = self.units.get_mut(job.unit) else { return };
        unit.hung_up = true;
        ask.attempts = ask.attempts.saturating_add(1);
        // A connection closed while idle may have taken the first try with it.
        let again = ask.attempts <= self.retries.max(1);
        match ask.purpose {
            Purpose::Probe => {
                unit.breaker.failed(now, now.saturating_sub(sent));
                return;
            }
            Purpose::Identity if again => job.asks.push_front(ask),
            Purpose::Identity => job.fail_rest(Reason::Disconnected),
            Purpose::Points if again => job.asks.push_back(ask),
            Purpose::Points => job.fail(&self.tasks, ask.request, Reason::Disconnected),
        }
        self.keep_or_finish(now, job);
    }

    fn unanswered(&mut self, now: Duration, job: &mut Job, mut ask: Ask, failure: Failure) {
        if ask.purpose == Purpose::Probe {
            return;
        }
        ask.attempts = ask.attempts.saturating_add(1);
        let silent = failure == Failure::Timeout;
        if silent && ask.purpose == Purpose::Points {
            let Some(unit) = self.units.get_mut(job.unit) else { return };
            unit.memory.silent(now, ask.request);
        }
        if ask.attempts > self.retries {
            if ask.purpose == Purpose::Identity {
                job.fail_rest(failure.into());
            } else {
                job.fail(&self.tasks, ask.request, failure.into());
            }
        } else if ask.purpose == Purpose::Points {
            // Others first: a unit that has no usable answer for one block may have one for the next, and is no dead unit.
            job.asks.push_back(ask);
        } else {
            job.asks.push_front(ask);
        }
    }
}

/// Says whether a unit wants to be asked again later.
pub(super) fn is_busy(code: ExceptionCode) -> bool {
    code == ExceptionCode::SERVER_DEVICE_BUSY || code == ExceptionCode::ACKNOWLEDGE
}

/// Returns how long to leave a unit alone that has said so many times, 1 or more, that it is busy; `None` when that is
/// often enough.
pub(super) fn busy_pause(times: u8) -> Option<Duration> {
    let doubled = 1_u32.checked_shl(u32::from(times.saturating_sub(1))).unwrap_or(u32::MAX);
    (times <= BUSY_TRIES).then(|| BUSY_PAUSE.saturating_mul(doubled))
}

/// Takes the items out of the answer to a read; the client has checked its length.
pub(super) fn items(request: ReadRequest, answer: &[u8]) -> Vec<u16> {
    let data = answer.get(2..).unwrap_or_default();
    let count = usize::from(request.count);
    if request.table.is_bits() {
        Bits::padded(data).iter().take(count).map(u16::from).collect()
    } else {
        Words::new(data).unwrap_or_default().iter().take(count).collect()
    }
}

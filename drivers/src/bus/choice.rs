//! What goes next: the order, the job or the due task whose turn it is, and what is done with a request that must wait.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Reason;

use super::job::{Ask, Job, Part, Purpose, span};
use super::{Bus, Flight, REFUSED, read_pdu};
use crate::breaker::Permit;
use crate::client::Framing;
use crate::plan::ReadRequest;

/// How long, and twice the time of a late reply, a request waits for the time when its answer cannot be mistaken.
const LONGEST_HOLD: Duration = Duration::from_secs(5);

/// What could be sent now.
pub(super) enum Choice {
    Errand(usize),
    Job(usize),
    Task(usize),
}

impl Bus {
    /// Asks for a sign of life of silent units whose pause is over and of whom no task is due.
    pub(super) fn probe(&mut self, now: Duration) {
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
    pub(super) fn choose(&mut self, now: Duration) -> Option<Choice> {
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
    pub(super) fn let_go(&mut self, now: Duration) {
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
    pub(super) fn fail_jobs(&mut self, now: Duration, unit: usize, reason: Reason) {
        for mut job in self.jobs.extract_if(.., |job| job.unit == unit).collect::<Vec<_>>() {
            job.fail_rest(reason);
            self.finish_parts(now, &mut job);
        }
    }

    /// Makes a job of a due task and of the other due tasks of its unit.
    pub(super) fn begin(&mut self, now: Duration, place: usize) {
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
    pub(super) fn send_job(&mut self, now: Duration, place: usize) -> bool {
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
}

//! What is known of one unit.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Reason;
use ganglion_protocols::modbus::UnitId;

use super::settings::{LineCost, UnitSettings};
use crate::breaker::{Breaker, Permit, Policy};
use crate::learn::Memory;
use crate::plan::{ReadRequest, Step, plan};
use crate::turnaround::Turnaround;

/// Plans kept; the set of tasks that fall due together changes.
const MOST_PLANS: usize = 32;

/// Counters of one unit since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UnitCounts {
    /// Requests sent.
    pub requests: u64,
    /// Requests answered as asked.
    pub answered: u64,
    /// Requests without an answer in time.
    pub timeouts: u64,
    /// Answers that could not be believed.
    pub unusable: u64,
    /// Exception answers.
    pub exceptions: u64,
    /// Time the line was taken by requests to it, up to their end.
    pub bus_time: Duration,
}

pub(super) struct Unit {
    pub(super) settings: UnitSettings,
    /// Places of its tasks.
    pub(super) tasks: Vec<usize>,
    pub(super) memory: Memory,
    pub(super) breaker: Breaker,
    /// The breaker's policy from the first answer on.
    policy: Option<Policy>,
    pub(super) turnaround: Turnaround,
    /// What it is taken to need as long as it has not answered.
    usual_turnaround: Duration,
    /// End of the silence it needs.
    pub(super) ready_at: Duration,
    /// When its identity is to be checked next.
    pub(super) check_at: Option<Duration>,
    /// Whether another device answered in its place.
    pub(super) wrong: bool,
    /// Why it had no usable answer last.
    pub(super) trouble: Reason,
    /// Whether the wire was lost when it was asked last.
    pub(super) hung_up: bool,
    pub(super) counts: UnitCounts,
    /// What the owner knows of what is worth keeping in the memory.
    pub(super) told: u32,
    plans: Vec<Planned>,
    /// The turnaround that the plans count with.
    planned_with: Duration,
    /// The state of the memory that they rest on.
    planned_on: u32,
}

/// What a set of tasks reads, and how.
#[derive(Clone)]
pub(super) struct Planned {
    tasks: Vec<usize>,
    pub(super) requests: Arc<[ReadRequest]>,
    /// Wants that no request can read.
    pub(super) unreadable: Arc<[ReadRequest]>,
    pub(super) cost: Duration,
}

impl Unit {
    pub(super) fn new(settings: UnitSettings, policy: Policy, turnaround: Turnaround, usual: Duration) -> Self {
        let seed = u32::from(settings.unit.0);
        Self {
            check_at: settings.identity.map(|_| Duration::ZERO),
            settings,
            tasks: Vec::new(),
            memory: Memory::new(),
            breaker: Breaker::new(first_impression(policy)).spread_by(seed),
            policy: Some(policy),
            turnaround,
            usual_turnaround: usual,
            ready_at: Duration::ZERO,
            wrong: false,
            trouble: Reason::Timeout,
            hung_up: false,
            counts: UnitCounts::default(),
            told: 0,
            plans: Vec::new(),
            planned_with: Duration::ZERO,
            planned_on: 0,
        }
    }

    pub(super) const fn id(&self) -> UnitId {
        self.settings.unit
    }

    /// It has answered, be it with an exception. Returns whether it had been left alone until then.
    pub(super) fn answered(&mut self) -> bool {
        let back = self.breaker.answered();
        if let Some(policy) = self.policy.take() {
            self.breaker = Breaker::new(policy).spread_by(u32::from(self.settings.unit.0));
        }
        back
    }

    /// Says whether it must not be asked at present.
    pub(super) fn refrains(&self, now: Duration) -> bool {
        matches!(self.breaker.permit(now), Permit::NotBefore(_))
    }

    /// Returns how long it usually takes to begin its answer.
    pub(super) fn typical(&self) -> Duration {
        if self.counts.answered == 0 { self.usual_turnaround } else { self.turnaround.typical() }
    }

    /// Says whether the plans rest on what is no longer so.
    pub(super) fn outdated(&self) -> bool {
        let tenth = self.planned_with.checked_div(10).unwrap_or_default();
        let otherwise = self.typical().abs_diff(self.planned_with) > tenth.max(Duration::from_millis(1));
        otherwise || self.planned_on != self.memory.changed()
    }

    /// Returns the plan of a set of tasks; the same until something is learnt or the unit's turnaround changes by a tenth.
    pub(super) fn planned(&mut self, now: Duration, tasks: &[usize], wants: &[ReadRequest], line: LineCost) -> Planned {
        if self.outdated() {
            self.planned_with = self.typical();
            self.planned_on = self.memory.changed();
            self.plans.clear();
        }
        if let Some(known) = self.plans.iter().find(|planned| planned.tasks == tasks) {
            return known.clone();
        }
        let (requests, unreadable, cost) = self.plan(now, wants, line);
        let planned = Planned { tasks: tasks.to_vec(), requests: requests.into(), unreadable: unreadable.into(), cost };
        if self.plans.len() >= MOST_PLANS {
            self.plans.clear();
        }
        self.plans.push(planned.clone());
        planned
    }

    /// Plans sorted wants with all that is known now. Returns the requests, the wants that none can read, and the time.
    pub(super) fn plan(
        &self,
        now: Duration,
        wants: &[ReadRequest],
        line: LineCost,
    ) -> (Vec<ReadRequest>, Vec<ReadRequest>, Duration) {
        let own = self.settings.limits();
        let limits = self.memory.limits(&own);
        let cost = line.with(self.planned_with);
        let (mut unreadable, asked): (Vec<_>, Vec<_>) =
            wants.iter().partition(|want| self.memory.parked(now, **want) || limits.allow(**want).is_err());
        let mut steps = alloc::vec![Step::EMPTY; asked.len()];
        let planned = plan(&asked, &limits, &cost, &mut steps);
        let requests: Vec<ReadRequest> = planned.into_iter().flatten().flatten().collect();
        // Nothing is left out that is allowed; were it, its points would rather have no value than be waited for.
        unreadable.extend(asked.iter().filter(|want| !requests.iter().any(|request| request.covers(**want))));
        let total = requests.iter().map(|&request| cost.of(request)).sum();
        (requests, unreadable, total)
    }
}

/// Silences in a row after which a unit that has not answered since the start is left alone: each costs the whole response
/// timeout, for nothing is known of its turnaround.
const STRANGER_TRIPS_AFTER: u8 = 2;

fn first_impression(policy: Policy) -> Policy {
    Policy { trip_after: policy.trip_after.min(STRANGER_TRIPS_AFTER), ..policy }
}

//! What a bus knows about itself: for `ganglion plan`, the status and the tests.

use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::modbus::UnitId;

use super::unit::UnitCounts;
use super::{Bus, Unit};
use crate::breaker;
use crate::plan::ReadRequest;

/// A bus at one instant.
#[derive(Clone, PartialEq, Debug)]
pub struct Overview {
    /// The tasks, as in the settings.
    pub tasks: Vec<TaskView>,
    /// The units, as in the settings.
    pub units: Vec<UnitView>,
    /// Shortest interval that the bus can carry; tasks that ask for a shorter one are stretched to it.
    pub floor: Option<Duration>,
    /// Share of the line's time that is asked for, in thousandths; above 1000 the bus is overloaded.
    pub load_permille: u64,
}

/// One task and how it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskView {
    /// Place of its unit.
    pub unit: usize,
    /// Interval asked for.
    pub interval: Duration,
    /// Interval it gets by the plan.
    pub effective: Duration,
    /// The requests of one poll on its own.
    pub requests: Vec<ReadRequest>,
    /// Wants that are not asked for: always refused, or longer than the unit answers.
    pub unreadable: Vec<ReadRequest>,
    /// Time on the line of one poll, as planned.
    pub cost: Duration,
}

/// One unit and what is known of it.
#[derive(Clone, PartialEq, Debug)]
pub struct UnitView {
    /// Its unit id.
    pub unit: UnitId,
    /// Whether it is asked, probed or left alone.
    pub state: breaker::State,
    /// How long the next request to it is waited for.
    pub patience: Duration,
    /// How long it usually takes to begin its answer.
    pub turnaround: Duration,
    /// Whether its identity register holds something else than it should.
    pub wrong_device: bool,
    /// Most registers of one request, as learnt and documented.
    pub max_registers: u16,
    /// Most bits of one request, as learnt and documented.
    pub max_bits: u16,
    /// Counters since the start.
    pub counts: UnitCounts,
}

impl Bus {
    /// Returns what the bus knows about itself.
    pub fn overview(&mut self, now: Duration) -> Overview {
        let Self { units, tasks, schedule, line, .. } = self;
        let mut views = Vec::with_capacity(tasks.len());
        let mut load = 0_u128;
        for (place, task) in tasks.iter().enumerate() {
            let Some(unit) = units.get_mut(task.settings.unit) else { continue };
            let planned = unit.planned(now, &[place], &task.settings.wants, *line);
            let share = planned.cost.as_nanos().saturating_mul(1000).checked_div(task.settings.interval.as_nanos());
            // A unit that is left alone takes its share of the dead units, and no more.
            load = load.saturating_add(share.filter(|_| !unit.breaker.is_open()).unwrap_or(0));
            views.push(TaskView {
                unit: task.settings.unit,
                interval: task.settings.interval,
                effective: schedule.effective(place),
                requests: planned.requests.to_vec(),
                unreadable: planned.unreadable.to_vec(),
                cost: planned.cost,
            });
        }
        Overview {
            tasks: views,
            units: units.iter().map(Unit::view).collect(),
            floor: self.floor,
            load_permille: u64::try_from(load).unwrap_or(u64::MAX),
        }
    }
}

impl Unit {
    fn view(&self) -> UnitView {
        let own = self.settings.limits();
        let limits = self.memory.limits(&own);
        UnitView {
            unit: self.id(),
            state: self.breaker.state(),
            patience: self.turnaround.patience(),
            turnaround: self.typical(),
            wrong_device: self.wrong,
            max_registers: limits.max_registers,
            max_bits: limits.max_bits,
            counts: self.counts,
        }
    }
}

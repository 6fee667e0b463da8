//! A poll under way: the tasks it serves and the requests it still has to make.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Reason;

use super::settings::TaskSettings;
use crate::plan::ReadRequest;

/// A task of the bus, with the place of each want's items in its samples.
pub(super) struct Task {
    pub(super) settings: TaskSettings,
    /// First place of each want's items; the items of all wants follow each other.
    offsets: Vec<usize>,
    /// Items of one sample.
    width: usize,
    /// Whether its last sample had no answer at all.
    pub(super) missed_out: bool,
}

impl Task {
    pub(super) fn new(settings: TaskSettings) -> Self {
        let mut width = 0_usize;
        let offsets = settings.wants.iter().map(|want| {
            let offset = width;
            width = width.saturating_add(usize::from(want.count));
            offset
        });
        let offsets = offsets.collect();
        Self { settings, offsets, width, missed_out: false }
    }

    /// Returns the places of the wants that lie whole inside a request.
    fn inside(&self, request: ReadRequest) -> impl Iterator<Item = usize> + use<'_> {
        let key = |want: &ReadRequest| (want.table, want.address);
        let first = self.settings.wants.partition_point(|want| key(want) < key(&request));
        let wants = self.settings.wants.iter().enumerate().skip(first);
        wants
            .take_while(move |(_, want)| want.table == request.table && u32::from(want.address) < request.end())
            .filter(move |(_, want)| request.covers(**want))
            .map(|(place, _)| place)
    }
}

/// What is known of one want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    Read,
    Failed(Reason),
}

/// One task's share of a poll.
pub(super) struct Part {
    pub(super) task: usize,
    pub(super) deadline: Duration,
    pub(super) missed: u64,
    words: Vec<u16>,
    states: Vec<State>,
    open: usize,
    answered: bool,
}

impl Part {
    pub(super) fn new(place: usize, task: &Task, deadline: Duration, missed: u64) -> Self {
        let wants = task.settings.wants.len();
        Self {
            task: place,
            deadline,
            missed,
            words: vec![0; task.width],
            states: vec![State::Open; wants],
            open: wants,
            answered: false,
        }
    }

    fn settle(&mut self, want: usize, state: State) {
        if let Some(slot) = self.states.get_mut(want).filter(|slot| **slot == State::Open) {
            *slot = state;
            self.open = self.open.saturating_sub(1);
        }
    }

    fn fill(&mut self, task: &Task, request: ReadRequest, items: &[u16]) {
        self.answered = true;
        for place in task.inside(request) {
            let (Some(want), Some(&offset)) = (task.settings.wants.get(place), task.offsets.get(place)) else {
                continue;
            };
            let from = usize::from(want.address.saturating_sub(request.address));
            let count = usize::from(want.count);
            let source = items.get(from..from.saturating_add(count));
            let target = self.words.get_mut(offset..offset.saturating_add(count));
            if let (Some(source), Some(target)) = (source, target) {
                target.copy_from_slice(source);
                self.settle(place, State::Read);
            }
        }
    }

    /// Fails every want that is still open.
    pub(super) fn fail_rest(&mut self, reason: Reason) {
        for state in self.states.iter_mut().filter(|state| **state == State::Open) {
            *state = State::Failed(reason);
        }
        self.open = 0;
    }

    /// Returns the items, why each want has none, and whether the unit answered anything at all.
    pub(super) fn finish(self) -> (Vec<u16>, Vec<Option<Reason>>, bool) {
        let reason = |state| match state {
            State::Read => None,
            State::Failed(reason) => Some(reason),
            State::Open => Some(Reason::Timeout),
        };
        (self.words, self.states.into_iter().map(reason).collect(), self.answered)
    }
}

/// Why something is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// For the points.
    Points,
    /// To see whether the unit is the device it should be.
    Identity,
    /// To see whether a silent unit is back.
    Probe,
}

/// A request to be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ask {
    pub(super) request: ReadRequest,
    pub(super) purpose: Purpose,
    /// Tries without a usable answer.
    pub(super) attempts: u8,
    /// How often the unit said that it is busy.
    pub(super) busy: u8,
    /// Since when it waits because its answer could be mistaken for another.
    pub(super) held: Option<Duration>,
}

impl Ask {
    pub(super) const fn new(request: ReadRequest, purpose: Purpose) -> Self {
        Self { request, purpose, attempts: 0, busy: 0, held: None }
    }
}

/// A poll of one unit.
pub(super) struct Job {
    pub(super) unit: usize,
    pub(super) parts: Vec<Part>,
    pub(super) asks: VecDeque<Ask>,
    /// Not asked before: the unit said that it is busy.
    pub(super) not_before: Duration,
    /// When the unit last answered in this job.
    pub(super) answered_at: Option<Duration>,
    /// How often what is left was planned anew.
    pub(super) replans: usize,
}

impl Job {
    /// Returns when the most urgent of its tasks must be done.
    pub(super) fn deadline(&self) -> Duration {
        self.parts.iter().map(|part| part.deadline).min().unwrap_or(Duration::MAX)
    }

    pub(super) fn fill(&mut self, tasks: &[Task], request: ReadRequest, items: &[u16]) {
        for part in &mut self.parts {
            if let Some(task) = tasks.get(part.task) {
                part.fill(task, request, items);
            }
        }
    }

    /// Fails the open wants inside a request.
    pub(super) fn fail(&mut self, tasks: &[Task], request: ReadRequest, reason: Reason) {
        for part in &mut self.parts {
            let Some(task) = tasks.get(part.task) else { continue };
            for place in task.inside(request) {
                part.settle(place, State::Failed(reason));
            }
        }
    }

    pub(super) fn fail_rest(&mut self, reason: Reason) {
        self.asks.clear();
        self.parts.iter_mut().for_each(|part| part.fail_rest(reason));
    }

    /// Returns the wants without a result, sorted, each once; those inside `within` only, if it is given.
    pub(super) fn open(&self, tasks: &[Task], within: Option<ReadRequest>) -> Vec<ReadRequest> {
        let mut wants = Vec::new();
        for part in self.parts.iter().filter(|part| part.open > 0) {
            let Some(task) = tasks.get(part.task) else { continue };
            let open = task.settings.wants.iter().zip(&part.states).filter(|(_, state)| **state == State::Open);
            wants.extend(open.map(|(want, _)| *want).filter(|want| within.is_none_or(|request| request.covers(*want))));
        }
        if self.parts.len() > 1 {
            wants.sort_unstable();
            wants.dedup();
        }
        wants
    }

    /// Takes out the parts of which nothing is open.
    pub(super) fn finished(&mut self) -> impl Iterator<Item = Part> + use<'_> {
        self.parts.extract_if(.., |part| part.open == 0)
    }
}

/// Returns the request that reads from the first to the last of some sorted wants of one table.
pub(super) fn span(wants: &[ReadRequest]) -> Option<ReadRequest> {
    let first = wants.first()?;
    let end = wants.iter().map(|want| want.end()).max()?;
    let count = u16::try_from(end.saturating_sub(u32::from(first.address))).ok()?;
    Some(ReadRequest { count, ..*first })
}

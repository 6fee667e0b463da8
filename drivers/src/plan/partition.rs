//! The cheapest partition of sorted wants into requests.

use core::fmt;

use super::cost::Bytes;
use super::{Cost, Limits, PlanError, ReadRequest};

/// Working memory of [`plan`] for one want: 40 bytes where addresses have 64 bits.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Place of the want.
    want: usize,
    /// Place of the last want of the run that begins here; the want's own if it is read alone.
    last: usize,
    alone: bool,
    /// What runs that end here have in common: the cost of all after it, and of the data up to its end.
    key: u64,
    /// Neighbours in the queue of its lane, or [`NONE`].
    older: usize,
    newer: usize,
}

impl Step {
    /// Memory not used yet.
    pub const EMPTY: Self = Self { want: 0, last: 0, alone: false, key: 0, older: NONE, newer: NONE };
}

const NONE: usize = usize::MAX;

/// The working memory is too short: [`plan`] needs one [`Step`] for each want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepsTooFew {
    /// Steps needed.
    pub needed: usize,
    /// Steps given.
    pub given: usize,
}

impl fmt::Display for StepsTooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a plan of {} wants does not fit {} steps", self.needed, self.given)
    }
}

impl core::error::Error for StepsTooFew {}

/// Finds the requests that read all `wants` in the least bus time.
///
/// `wants` are sorted (by table, address, count: the order of [`ReadRequest`]); out of order they are still all read,
/// in more requests than needed. `steps` is working memory, at least as long as `wants`. Each want lies whole inside
/// a request and no request breaks a limit. A want that no request can read comes out as an error in its place, and
/// the others are unharmed. Of plans that cost the same, the one with the longest first request is taken.
///
/// ```
/// use core::time::Duration;
/// use ganglion_drivers::plan::{Cost, Limits, ReadRequest, Step, plan};
/// use ganglion_protocols::modbus::Table::HoldingRegister;
/// let want = |address, count| ReadRequest { table: HoldingRegister, address, count };
/// let wants = [want(0, 2), want(2, 2), want(10, 1), want(90, 1)];
/// let limits = Limits { bridge: 100, ..Limits::STANDARD };
/// // 9600 Bd: six registers in between cost less than another exchange, seventy-nine cost more.
/// let cost = Cost::rtu(Duration::from_micros(1146), Duration::from_millis(4), Duration::from_millis(20));
/// let mut steps = [Step::EMPTY; 4];
/// let requests: Vec<_> = plan(&wants, &limits, &cost, &mut steps)?.filter_map(Result::ok).collect();
/// assert_eq!(requests, [want(0, 11), want(90, 1)]);
/// # Ok::<(), ganglion_drivers::plan::StepsTooFew>(())
/// ```
///
/// # Errors
/// [`StepsTooFew`] if `steps` is shorter than `wants`; nothing is planned then.
pub fn plan<'a>(
    wants: &'a [ReadRequest],
    limits: &Limits<'a>,
    cost: &Cost,
    steps: &'a mut [Step],
) -> Result<Plan<'a>, StepsTooFew> {
    if steps.len() < wants.len() {
        return Err(StepsTooFew { needed: wants.len(), given: steps.len() });
    }
    let kept = keep(wants, limits, steps);
    part(wants, limits, cost, kept);
    Ok(Plan { wants, steps: kept, limits: *limits, place: 0, read: None })
}

/// The requests of [`plan`], in the order of the wants; each [`PlanError`] at the place of its want.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    wants: &'a [ReadRequest],
    /// Those of the wants from `place` on.
    steps: &'a [Step],
    limits: Limits<'a>,
    place: usize,
    /// The last want that the runs so far read.
    read: Option<usize>,
}

impl Iterator for Plan<'_> {
    type Item = Result<ReadRequest, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let place = self.place;
            let want = *self.wants.get(place)?;
            self.place = place.saturating_add(1);
            if let Err(error) = self.limits.allow(want) {
                return Some(Err(error));
            }
            let Some((step, rest)) = self.steps.split_first() else { continue };
            if step.want != place {
                continue;
            }
            self.steps = rest;
            if step.alone {
                return Some(Ok(want));
            }
            if self.read.is_some_and(|read| place <= read) {
                continue;
            }
            self.read = Some(step.last);
            if let Some(request) = self.wants.get(step.last).and_then(|&last| want.hull(last)) {
                return Some(Ok(request));
            }
        }
    }
}

/// Leaves out wants that cannot be read, are there twice, or lie inside another one that is not read alone.
fn keep<'s>(wants: &[ReadRequest], limits: &Limits<'_>, steps: &'s mut [Step]) -> &'s mut [Step] {
    let mut kept = 0_usize;
    let mut previous: Option<ReadRequest> = None;
    // The last one that is not read alone, and where its step is.
    let mut shared: Option<(ReadRequest, usize)> = None;
    for (place, &want) in wants.iter().enumerate() {
        if previous == Some(want) || limits.allow(want).is_err() {
            continue;
        }
        let alone = limits.reads_alone(want);
        if !alone && let Some((other, step)) = shared {
            if other.covers(want) {
                continue;
            }
            if want.covers(other) && step.saturating_add(1) == kept {
                kept = step;
            }
        }
        previous = Some(want);
        if !alone {
            shared = Some((want, kept));
        }
        if let Some(step) = steps.get_mut(kept) {
            *step = Step { want: place, last: place, alone, ..Step::EMPTY };
        }
        kept = kept.saturating_add(1);
    }
    steps.get_mut(..kept).unwrap_or_default()
}

/// Finds for each step the end of the run that begins there, from the last step to the first.
fn part(wants: &[ReadRequest], limits: &Limits<'_>, cost: &Cost, steps: &mut [Step]) {
    let want_of = |step: &Step| wants.get(step.want).copied();
    let mut window = Window::EMPTY;
    let mut following: Option<ReadRequest> = None;
    let mut after = 0_u64;
    for place in (0..steps.len()).rev() {
        let Some(want) = steps.get(place).filter(|step| !step.alone).and_then(want_of) else { continue };
        let bytes = Bytes::of(want.table);
        if following.is_some_and(|high| !limits.joins(want, high)) {
            window = Window::EMPTY;
        }
        let key = after.saturating_add(cost.byte.saturating_mul(bytes.after(want.end())));
        window.push(steps, bytes.lane(want.end()), place, key);
        let reach = u32::from(want.address).saturating_add(u32::from(limits.max_joined(want.table)));
        let mut best: Option<(u64, usize)> = None;
        for lane in 0..Bytes::LANES {
            let first = window.first(steps, lane, |step| want_of(step).is_some_and(|last| last.end() <= reach));
            let Some((key, last)) = first else { continue };
            let data_before = cost.byte.saturating_mul(bytes.before(want.address, lane));
            let total = cost.exchange.saturating_add(key.saturating_sub(data_before));
            if best.is_none_or(|(least, longest)| total < least || (total == least && last > longest)) {
                best = Some((total, last));
            }
        }
        if let Some((total, last)) = best {
            let last = steps.get(last).map_or(place, |step| step.want);
            if let Some(step) = steps.get_mut(place) {
                step.last = last;
            }
            after = total;
        }
        following = Some(want);
    }
}

/// The steps at which a run may end, in a queue for each lane. The oldest are the furthest, which leave first, so one
/// that is no better than a newer one is of no use: keys rise from the oldest to the newest.
#[derive(Clone, Copy, Debug)]
struct Window {
    oldest: [usize; Bytes::LANES],
    newest: [usize; Bytes::LANES],
}

impl Window {
    const EMPTY: Self = Self { oldest: [NONE; Bytes::LANES], newest: [NONE; Bytes::LANES] };

    fn push(&mut self, steps: &mut [Step], lane: usize, place: usize, key: u64) {
        let (Some(oldest), Some(newest)) = (self.oldest.get_mut(lane), self.newest.get_mut(lane)) else { return };
        while let Some(worse) = steps.get(*newest).filter(|step| step.key > key) {
            *newest = worse.older;
        }
        match steps.get_mut(*newest) {
            Some(older) => older.newer = place,
            None => *oldest = place,
        }
        if let Some(step) = steps.get_mut(place) {
            *step = Step { key, older: *newest, newer: NONE, ..*step };
        }
        *newest = place;
    }

    /// Returns key and place of the best in a lane, after those that `reach` denies have left.
    fn first(&mut self, steps: &mut [Step], lane: usize, reach: impl Fn(&Step) -> bool) -> Option<(u64, usize)> {
        let (oldest, newest) = (self.oldest.get_mut(lane)?, self.newest.get_mut(lane)?);
        while let Some(&step) = steps.get(*oldest) {
            if reach(&step) {
                return Some((step.key, *oldest));
            }
            *oldest = step.newer;
            match steps.get_mut(step.newer) {
                Some(newer) => newer.older = NONE,
                None => *newest = NONE,
            }
        }
        None
    }
}

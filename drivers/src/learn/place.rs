//! Cuts that refused blocks were given, and what each of them turned out to be.

use core::time::Duration;

use super::term::Term;
use crate::plan::{Cut, ReadRequest};

/// Where a block can be parted: between two neighbours among its wants, or from items at its ends that nobody wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Joint {
    /// First item of the right side, where the cut is.
    pub(super) at: u16,
    /// The sides end and begin within `low..=high`; equal without a gap.
    low: u16,
    high: u16,
    /// Unwanted items between.
    gap: u16,
    /// Sides that nobody wants, and nobody will ask for alone.
    left_empty: bool,
    right_empty: bool,
}

impl Joint {
    fn between(left_end: u16, right_start: u16) -> Self {
        Self {
            at: right_start,
            low: left_end.min(right_start),
            high: left_end.max(right_start),
            gap: right_start.saturating_sub(left_end),
            left_empty: false,
            right_empty: false,
        }
    }

    /// A joint without a gap.
    pub(super) fn at(at: u16) -> Self {
        Self::between(at, at)
    }

    /// A joint that was stored.
    pub(super) fn restored(at: u16, gap: bool) -> Self {
        Self { gap: gap.into(), ..Self::at(at) }
    }

    /// Finds the best joint of `block`: in its largest gap, the one nearest its middle if there are several; else
    /// nearest its middle.
    ///
    /// `wants` are sorted. Those equal to the block leave the edges of the others to cut at: they are read apart
    /// then.
    pub(super) fn of(block: ReadRequest, wants: &[ReadRequest]) -> Option<Self> {
        let middle = u32::from(block.address).saturating_add(u32::from(block.count / 2));
        let mut best: Option<Self> = None;
        let mut offer = |joint: Self| {
            let rank = |joint: &Self| (joint.gap, core::cmp::Reverse(joint.place().abs_diff(middle)));
            let inside = block.address < joint.at && u32::from(joint.at) < block.end();
            if inside && best.as_ref().is_none_or(|other| rank(other) < rank(&joint)) {
                best = Some(joint);
            }
        };
        let inside = || wants.iter().copied().filter(|want| block.covers(*want));
        if inside().any(|want| want == block) {
            for want in inside().filter(|want| *want != block) {
                offer(Self::at(want.address));
                u16::try_from(want.end()).into_iter().for_each(|end| offer(Self::at(end)));
            }
            return best;
        }
        let mut top: Option<ReadRequest> = None;
        for want in inside() {
            match top {
                None => {
                    let unwanted = want.address.saturating_sub(block.address);
                    offer(Self { gap: unwanted, left_empty: true, ..Self::at(want.address) });
                }
                Some(top) if want.end() <= top.end() => continue,
                Some(top) if want.address == top.address => {}
                Some(top) => {
                    u16::try_from(top.end()).into_iter().for_each(|end| offer(Self::between(end, want.address)))
                }
            }
            top = Some(want);
        }
        if let Some(end) = top.and_then(|top| u16::try_from(top.end()).ok()) {
            let unwanted = u16::try_from(block.end().saturating_sub(u32::from(end))).unwrap_or(u16::MAX);
            offer(Self { gap: unwanted, right_empty: true, ..Self::at(end) });
        }
        best
    }

    fn place(&self) -> u32 {
        u32::from(self.low).saturating_add(u32::from(self.high)) / 2
    }

    /// Says whether `request`, of the same table, reads from one side to the other.
    pub(super) fn is_crossed_by(&self, request: ReadRequest) -> bool {
        request.address < self.low && request.end() > u32::from(self.high)
    }
}

/// What is known about a cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Its sides were not both heard yet; `left` and `right` say which was.
    Open { left: bool, right: bool },
    /// A part of its block was refused as well, so this cut itself says nothing until that is explained.
    Explained,
    /// Both sides answer and the block does not: it stays until its term ends.
    Settled,
}

/// One cut, with the block whose refusal made it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) block: ReadRequest,
    pub(super) joint: Joint,
    /// The refusal spoke of the value (0x03), not of an address (0x02).
    pub(super) value: bool,
    pub(super) state: State,
    pub(super) term: Term,
}

impl Place {
    pub(super) fn new(now: Duration, block: ReadRequest, joint: Joint, value: bool) -> Self {
        let state = State::Open { left: joint.left_empty, right: joint.right_empty };
        Self { block, joint, value, state, term: Term::begin(now) }
    }

    /// The same place again in a block that was refused. The smaller of the blocks says more.
    pub(super) fn again(self, now: Duration, block: ReadRequest, value: bool) -> Self {
        let block = if self.block.count < block.count { self.block } else { block };
        Self { term: self.term.confirmed(now), ..Self::new(now, block, self.joint, value) }
    }

    pub(super) fn cut(&self) -> Cut {
        Cut { table: self.block.table, at: self.joint.at }
    }

    /// The cut, and until its refusal is explained those at the ends of the block.
    pub(super) fn cuts(&self) -> impl Iterator<Item = Cut> {
        let Cut { table, at } = self.cut();
        let ends = (self.state != State::Settled).then_some([u32::from(self.block.address), self.block.end()]);
        let ends = ends.into_iter().flatten().filter_map(|end| u16::try_from(end).ok().filter(|end| *end > 0));
        core::iter::once(at).chain(ends).map(move |at| Cut { table, at })
    }

    pub(super) fn in_gap(&self) -> bool {
        self.joint.gap > 0
    }

    pub(super) fn is_crossed_by(&self, request: ReadRequest) -> bool {
        self.block.table == request.table && self.joint.is_crossed_by(request)
    }

    /// Takes note of an answer that ends or begins here.
    pub(super) fn hear(&mut self, request: ReadRequest) {
        let (low, high) = (u32::from(self.joint.low), u32::from(self.joint.high));
        let (start, end) = (u32::from(request.address), request.end());
        if let State::Open { left, right } = &mut self.state
            && self.block.table == request.table
        {
            *left |= start < low && (low..=high).contains(&end);
            *right |= end > high && (low..=high).contains(&start);
        }
    }

    pub(super) fn is_heard(&self) -> bool {
        self.term.is_running() && self.state == (State::Open { left: true, right: true })
    }

    /// Says whether the block of this place is more than, and holds, `block`.
    pub(super) fn encloses(&self, block: ReadRequest) -> bool {
        self.block.covers(block) && self.block != block
    }
}

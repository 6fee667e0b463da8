//! Wants that were refused alone, and items that ever answered.

use core::time::Duration;

use heapless::Vec;

use super::RANGES;
use super::term::Term;
use crate::plan::{Cut, ReadRequest};

/// Refusals after which a point that never answered is parked.
pub(super) const STRIKES: u8 = 3;

/// A want that was refused alone and has not answered since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Point {
    pub(super) want: ReadRequest,
    pub(super) strikes: u8,
    pub(super) term: Term,
}

impl Point {
    pub(super) fn new(now: Duration, want: ReadRequest) -> Self {
        Self { want, strikes: 0, term: Term::begin(now) }
    }

    pub(super) fn strike(&mut self, now: Duration) {
        self.term = if self.strikes < STRIKES { Term::begin(now) } else { self.term.confirmed(now) };
        self.strikes = self.strikes.saturating_add(1).min(STRIKES);
    }

    pub(super) fn is_parked(&self) -> bool {
        self.strikes >= STRIKES && self.term.is_running()
    }

    /// Cuts that keep the want alone: on both its sides, and one inside, so that no want within relies on it.
    pub(super) fn cuts(&self) -> impl Iterator<Item = Cut> {
        let (start, end) = (u32::from(self.want.address), self.want.end());
        let inside = start.saturating_add(1);
        [Some(start), Some(inside).filter(|inside| *inside < end), Some(end)]
            .into_iter()
            .flatten()
            .filter_map(|at| u16::try_from(at).ok().filter(|at| *at > 0))
            .map(|at| Cut { table: self.want.table, at })
    }
}

/// Ranges that ever answered. When there are more than fit, the two nearest become one with what is between: an item
/// too many in here is asked for nothing now and then, one too few could be lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answered {
    ranges: Vec<ReadRequest, RANGES>,
}

impl Answered {
    pub(super) const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ReadRequest> {
        self.ranges.iter().copied()
    }

    /// Says whether there is any.
    pub(super) fn any(&self) -> bool {
        !self.ranges.is_empty()
    }

    pub(super) fn holds(&self, want: ReadRequest) -> bool {
        self.ranges.iter().any(|range| range.covers(want))
    }

    /// Says whether anything of `range` is new.
    pub(super) fn add(&mut self, range: ReadRequest) -> bool {
        if self.holds(range) {
            return false;
        }
        let mut range = range;
        while let Some((place, joined)) = self.nearest(range, 0) {
            self.ranges.swap_remove(place);
            range = joined;
        }
        while let Err(left_over) = self.ranges.push(range) {
            range = self.coarsen(left_over);
        }
        true
    }

    /// Joins the two nearest of all ranges and `more`, and returns one that has room now.
    fn coarsen(&mut self, more: ReadRequest) -> ReadRequest {
        let spread = |range: ReadRequest, hull: ReadRequest| hull.count.saturating_sub(range.count);
        let own = self.nearest(more, u32::MAX);
        let pairs = self.ranges.iter().enumerate().filter_map(|(place, range)| {
            let (other, hull) = self.nearest(*range, u32::MAX)?;
            Some((spread(*range, hull), place, other, hull))
        });
        let tightest = pairs.min();
        match (own, tightest) {
            (own, Some((gap, place, other, hull))) if own.is_none_or(|(_, joined)| gap < spread(more, joined)) => {
                self.ranges.swap_remove(place.max(other));
                if let Some(slot) = self.ranges.get_mut(place.min(other)) {
                    *slot = more;
                }
                hull
            }
            (Some((place, joined)), _) => {
                self.ranges.swap_remove(place);
                joined
            }
            (None, _) => {
                self.ranges.pop();
                more
            }
        }
    }

    /// Returns the range at most `reach` items away that makes the shortest hull with `range`, and that hull.
    fn nearest(&self, range: ReadRequest, reach: u32) -> Option<(usize, ReadRequest)> {
        let near = |other: &ReadRequest| {
            let gap = u32::from(range.address.max(other.address)).saturating_sub(range.end().min(other.end()));
            (range.table == other.table && range != *other && gap <= reach).then(|| range.hull(*other)).flatten()
        };
        let hulls = self.ranges.iter().enumerate().filter_map(|(place, other)| Some((place, near(other)?)));
        hulls.min_by_key(|(_, hull)| hull.count)
    }
}

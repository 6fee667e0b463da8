//! What is kept over a restart.

use core::time::Duration;

use crate::plan::ReadRequest;

/// One thing known about a unit, for the owner to store and give back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fact {
    /// What is known.
    pub kind: FactKind,
    /// About which items: the refused block of a cut or a length, the refused point, the range that answered.
    pub request: ReadRequest,
    /// How long it still holds; zero if it is to be tried again. [`FactKind::Longest`] and [`FactKind::Answered`]
    /// hold for good and have zero.
    pub left: Duration,
    /// How often it was confirmed after its time was over, 0 to 8; each doubles the next time.
    pub confirmations: u8,
}

/// The kinds of facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FactKind {
    /// No request may hold both the item before `at` and the one there.
    Cut {
        /// First item after the cut.
        at: u16,
        /// The cut is in a gap between what is wanted.
        gap: bool,
    },
    /// The point was refused alone so often, 0 to 3; with 3 it is parked.
    Refused {
        /// Refusals; those of a point that ever answered do not count.
        strikes: u8,
    },
    /// A request of as many items is too long.
    TooLong,
    /// A request of as many items answered.
    Longest,
    /// Each item answered once.
    Answered,
}

//! What a unit cannot do: registers it does not have, requests too long for it, or no answer at all.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::unit::Table;

/// How a unit refuses a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// An exception of this code.
    Exception(u8),
    /// No answer.
    Silence,
}

/// Exception 0x02, illegal data address.
pub(super) const ILLEGAL_DATA_ADDRESS: Refusal = Refusal::Exception(0x02);

/// The defects of one unit, switched at run time. Without any it answers as the standard says.
#[derive(Debug, Default)]
pub struct Defects(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    dead: bool,
    holes: Vec<(Table, RangeInclusive<u16>)>,
    longest: Option<(u16, Refusal)>,
}

impl Defects {
    /// Lets the unit answer nothing at all, or answer again.
    pub fn set_dead(&self, dead: bool) {
        self.lock().dead = dead;
    }

    /// Takes items out of a table: every read that touches one of them is refused with exception 0x02.
    pub fn add_hole(&self, table: Table, addresses: RangeInclusive<u16>) {
        self.lock().holes.push((table, addresses));
    }

    /// Lets the unit refuse every read of more items than `longest`, below the standard's maximum.
    pub fn set_longest(&self, longest: u16, refusal: Refusal) {
        self.lock().longest = Some((longest, refusal));
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Returns how a read is refused, if it is: for its length before its addresses, as most devices check them.
    pub(super) fn refusal(&self, table: Table, address: u16, count: u16) -> Option<Refusal> {
        let state = self.lock();
        if let Some((_, refusal)) = state.longest.filter(|(longest, _)| count > *longest) {
            return Some(refusal);
        }
        let last = address.saturating_add(count.saturating_sub(1));
        let touched =
            |(of, hole): &(Table, RangeInclusive<u16>)| *of == table && *hole.start() <= last && address <= *hole.end();
        state.holes.iter().any(touched).then_some(ILLEGAL_DATA_ADDRESS)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_refused_when_it_touches_a_hole_of_its_table() {
        let defects = Defects::default();
        defects.add_hole(Table::Holding, 10..=12);
        let refused = |address, count| defects.refusal(Table::Holding, address, count);
        assert_eq!([refused(0, 10), refused(13, 5)], [None, None]);
        for (address, count) in [(0, 11), (12, 1), (11, 1), (5, 100), (12, 9)] {
            assert_eq!(refused(address, count), Some(Refusal::Exception(2)), "{address} {count}");
        }
        assert_eq!(defects.refusal(Table::Input, 10, 3), None);
    }

    #[test]
    fn a_read_that_is_too_long_is_refused_in_the_way_chosen() {
        for refusal in [Refusal::Exception(3), Refusal::Exception(2), Refusal::Silence] {
            let defects = Defects::default();
            defects.set_longest(16, refusal);
            assert_eq!(defects.refusal(Table::Input, 7, 16), None);
            assert_eq!(defects.refusal(Table::Input, 7, 17), Some(refusal));
        }
    }
}

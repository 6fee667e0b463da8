//! Where a source that numbers its own samples stands.

/// A place in the samples of one source: everything of this epoch of its store up to this number.
///
/// Epochs are compared for equality only: a store that begins anew takes another epoch, not a higher one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Origin {
    /// Epoch of the source's store.
    pub epoch: u32,
    /// Number of the sample in that epoch, from 1; 0 stands before the first.
    pub seq: u32,
}

impl Origin {
    /// Says whether what stands at `other` is among what stands up to here; of another epoch nothing is.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.epoch == other.epoch && self.seq >= other.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_covers_itself_and_what_is_before_it_in_its_own_epoch_only() {
        let place = |epoch, seq| Origin { epoch, seq };
        assert!(place(7, 5).covers(place(7, 5)) && place(7, 5).covers(place(7, 0)));
        assert!(!place(7, 5).covers(place(7, 6)));
        assert!(!place(7, 5).covers(place(6, 1)) && !place(7, 5).covers(place(8, 1)));
    }
}

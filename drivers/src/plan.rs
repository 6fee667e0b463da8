//! Which requests read a device's points.
//!
//! [`merge`] goes over the wants once, from low to high, and joins neighbours while the device allows it. It splits no
//! want over two requests: a device may change a 32-bit value between them.

use core::fmt;

use ganglion_protocols::modbus::Table;

/// One read request: `count` items of `table` from `address`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadRequest {
    /// The table, which gives the function code.
    pub table: Table,
    /// First item, from 0 as on the wire.
    pub address: u16,
    /// Items, 1 to the table's maximum.
    pub count: u16,
}

impl ReadRequest {
    /// Returns the address after the last item, up to 65536 for a request that ends with the table.
    #[must_use]
    pub const fn end(self) -> u32 {
        (self.address as u32).saturating_add(self.count as u32)
    }

    /// Says whether every item of `other` is among the items of this request.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.table == other.table && self.address <= other.address && other.end() <= self.end()
    }

    /// Says whether an item is in both.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let (low, high) = (self.address.max(other.address), self.end().min(other.end()));
        self.table == other.table && u32::from(low) < high
    }
}

/// What a device allows one request to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits<'a> {
    /// Most registers of one request; above 125 counts as 125.
    pub max_registers: u16,
    /// Most coils or discrete inputs of one request; above 2000 counts as 2000.
    pub max_bits: u16,
    /// Most unwanted items between two wants that may be read along to save a request; 0 joins contiguous wants only.
    pub bridge: u16,
    /// Items that must never be asked for.
    pub forbidden: &'a [ReadRequest],
}

impl Limits<'_> {
    /// The limits of the standard: 125 registers, 2000 bits, nothing forbidden, nothing bridged.
    pub const STANDARD: Self = Self { max_registers: 125, max_bits: 2000, bridge: 0, forbidden: &[] };

    /// Returns the most items one request of `table` may ask for.
    #[must_use]
    pub fn max_items(&self, table: Table) -> u16 {
        let device = if table.is_bits() { self.max_bits } else { self.max_registers };
        device.min(table.max_items())
    }

    /// Says whether one request may read exactly `want`.
    ///
    /// # Errors
    /// Every variant of [`PlanError`].
    pub fn allow(&self, want: ReadRequest) -> Result<(), PlanError> {
        let limit = self.max_items(want.table);
        if want.count == 0 {
            Err(PlanError::Empty { want })
        } else if want.end() > 65_536 {
            Err(PlanError::PastEnd { want })
        } else if want.count > limit {
            Err(PlanError::TooLong { want, limit })
        } else if self.forbids(want) {
            Err(PlanError::Forbidden { want })
        } else {
            Ok(())
        }
    }

    fn forbids(&self, request: ReadRequest) -> bool {
        self.forbidden.iter().any(|&hole| hole.overlaps(request))
    }

    /// Joins two requests if the device allows the result.
    fn join(&self, low: ReadRequest, high: ReadRequest) -> Option<ReadRequest> {
        let reach = low.end().saturating_add(u32::from(self.bridge));
        let adjoins = low.table == high.table && low.address <= high.address && u32::from(high.address) <= reach;
        if !adjoins || high.count == 0 {
            return None;
        }
        let end = low.end().max(high.end());
        let count = u16::try_from(end.saturating_sub(u32::from(low.address))).ok()?;
        let joined = ReadRequest { count, ..low };
        self.allow(joined).is_ok().then_some(joined)
    }
}

/// Why no request can read a want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanError {
    /// It has no items.
    Empty {
        /// The want.
        want: ReadRequest,
    },
    /// Its last item would be past 65535.
    PastEnd {
        /// The want.
        want: ReadRequest,
    },
    /// It is longer than the device allows.
    TooLong {
        /// The want.
        want: ReadRequest,
        /// Most items of one request.
        limit: u16,
    },
    /// It holds an item that must never be asked for.
    Forbidden {
        /// The want.
        want: ReadRequest,
    },
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { want } => write!(f, "nothing to read at {}", want.address),
            Self::PastEnd { want } => write!(f, "{} items from {} go past 65535", want.count, want.address),
            Self::TooLong { want, limit } => {
                write!(f, "{} items from {} do not fit a request of {limit}", want.count, want.address)
            }
            Self::Forbidden { want } => {
                write!(f, "{} items from {} touch a forbidden range", want.count, want.address)
            }
        }
    }
}

impl core::error::Error for PlanError {}

/// Joins wants into requests: those that touch or overlap, and those with a gap of at most [`Limits::bridge`] between.
///
/// `wants` are sorted (by table, address, count: the order of [`ReadRequest`]); out of order they are still all read, in
/// more requests than needed. Each want lies whole inside a request, and no request breaks a limit. A want that no
/// request can read comes out as an error in its place, and the others are unharmed.
///
/// ```
/// use ganglion_drivers::plan::{Limits, ReadRequest, merge};
/// use ganglion_protocols::modbus::Table::HoldingRegister;
/// let want = |address, count| ReadRequest { table: HoldingRegister, address, count };
/// let wants = [want(0, 2), want(2, 2), want(10, 1)];
/// let requests: Vec<_> = merge(&wants, Limits::STANDARD).collect::<Result<_, _>>().unwrap();
/// assert_eq!(requests, [want(0, 4), want(10, 1)]);
/// ```
#[must_use]
pub const fn merge<'a>(wants: &'a [ReadRequest], limits: Limits<'a>) -> Merge<'a> {
    Merge { wants, limits }
}

/// The requests of [`merge`], in the order of the wants.
#[derive(Clone, Debug)]
pub struct Merge<'a> {
    wants: &'a [ReadRequest],
    limits: Limits<'a>,
}

impl Iterator for Merge<'_> {
    type Item = Result<ReadRequest, PlanError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&first, mut rest) = self.wants.split_first()?;
        if let Err(error) = self.limits.allow(first) {
            self.wants = rest;
            return Some(Err(error));
        }
        let mut request = first;
        while let Some((&want, after)) = rest.split_first() {
            let Some(joined) = self.limits.join(request, want) else { break };
            request = joined;
            rest = after;
        }
        self.wants = rest;
        Some(Ok(request))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use ganglion_protocols::modbus::Table::{Coil, DiscreteInput, HoldingRegister, InputRegister};
    use proptest::prelude::*;

    use super::*;

    const fn want(table: Table, address: u16, count: u16) -> ReadRequest {
        ReadRequest { table, address, count }
    }

    fn requests(wants: &[ReadRequest], limits: Limits<'_>) -> Vec<ReadRequest> {
        merge(wants, limits).map(|request| request.expect("every want is allowed")).collect()
    }

    #[test]
    fn contiguous_and_overlapping_wants_become_one_request() {
        let wants = [want(HoldingRegister, 0, 2), want(HoldingRegister, 1, 2), want(HoldingRegister, 3, 1)];
        assert_eq!(requests(&wants, Limits::STANDARD), [want(HoldingRegister, 0, 4)]);
    }

    #[test]
    fn a_thousand_registers_become_eight_requests() {
        let wants: Vec<_> = (0..1000).map(|address| want(HoldingRegister, address, 1)).collect();
        let requests = requests(&wants, Limits::STANDARD);
        assert_eq!(requests.len(), 8);
        assert!(requests.iter().all(|request| request.count == 125));
    }

    #[test]
    fn a_gap_is_read_along_only_when_allowed() {
        let wants = [want(InputRegister, 0, 1), want(InputRegister, 3, 1)];
        assert_eq!(requests(&wants, Limits::STANDARD), wants);
        let bridged = Limits { bridge: 2, ..Limits::STANDARD };
        assert_eq!(requests(&wants, bridged), [want(InputRegister, 0, 4)]);
        let hole = [want(InputRegister, 2, 1)];
        assert_eq!(requests(&wants, Limits { forbidden: &hole, ..bridged }), wants);
    }

    #[test]
    fn a_range_without_items_overlaps_nothing() {
        let whole = want(HoldingRegister, 0, 10);
        assert!(whole.overlaps(want(HoldingRegister, 9, 5)) && !whole.overlaps(want(HoldingRegister, 10, 5)));
        assert!(!whole.overlaps(want(HoldingRegister, 5, 0)) && !want(HoldingRegister, 5, 0).overlaps(whole));
        assert!(!whole.overlaps(want(Coil, 5, 1)));
    }

    #[test]
    fn a_value_of_two_registers_is_not_split_at_the_limit() {
        let wants = [want(HoldingRegister, 0, 2), want(HoldingRegister, 2, 2)];
        let limits = Limits { max_registers: 3, ..Limits::STANDARD };
        assert_eq!(requests(&wants, limits), wants);
    }

    #[test]
    fn tables_are_never_mixed() {
        let wants = [want(Coil, 0, 1), want(DiscreteInput, 1, 1), want(HoldingRegister, 2, 1)];
        assert_eq!(requests(&wants, Limits::STANDARD), wants);
    }

    #[test]
    fn the_last_register_can_be_read_and_none_after_it() {
        let last = want(HoldingRegister, 65_535, 1);
        assert_eq!(requests(&[last], Limits::STANDARD), [last]);
        let past = want(HoldingRegister, 65_535, 2);
        assert_eq!(merge(&[past], Limits::STANDARD).next(), Some(Err(PlanError::PastEnd { want: past })));
    }

    #[test]
    fn a_want_that_cannot_be_read_is_named_and_the_others_are_read() {
        let hole = [want(HoldingRegister, 5, 5)];
        let limits = Limits { max_registers: 4, forbidden: &hole, ..Limits::STANDARD };
        let wants = [
            want(HoldingRegister, 0, 5),
            want(HoldingRegister, 1, 0),
            want(HoldingRegister, 4, 2),
            want(HoldingRegister, 10, 1),
        ];
        let got: Vec<_> = merge(&wants, limits).collect();
        assert_eq!(
            got,
            [
                Err(PlanError::TooLong { want: wants[0], limit: 4 }),
                Err(PlanError::Empty { want: wants[1] }),
                Err(PlanError::Forbidden { want: wants[2] }),
                Ok(wants[3]),
            ]
        );
    }

    fn any_table() -> impl Strategy<Value = Table> {
        prop::sample::select(&[Coil, DiscreteInput, HoldingRegister, InputRegister][..])
    }

    fn any_request(address: core::ops::RangeInclusive<u16>) -> impl Strategy<Value = ReadRequest> {
        (any_table(), address, 0_u16..6).prop_map(|(table, address, count)| want(table, address, count))
    }

    proptest! {
        #[test]
        fn every_allowed_want_is_read_and_no_request_breaks_a_limit(
            mut wants in prop::collection::vec(prop_oneof![any_request(0..=80), any_request(65_500..=65_535)], 0..60),
            forbidden in prop::collection::vec(any_request(0..=80), 0..4),
            max_registers in 1_u16..140,
            max_bits in 1_u16..2100,
            bridge in 0_u16..8,
            sorted in any::<bool>(),
        ) {
            if sorted {
                wants.sort_unstable();
            }
            let limits = Limits { max_registers, max_bits, bridge, forbidden: &forbidden };
            let got: Vec<_> = merge(&wants, limits).collect();
            let requests: Vec<_> = got.iter().filter_map(|request| request.ok()).collect();
            for request in &requests {
                prop_assert!(request.count <= limits.max_items(request.table) && request.count <= request.table.max_items());
                prop_assert!(request.end() <= 65_536);
                prop_assert!(!forbidden.iter().any(|hole| hole.overlaps(*request)), "{request:?} reads a forbidden item");
            }
            let refused = wants.iter().filter(|want| limits.allow(**want).is_err()).count();
            prop_assert_eq!(got.iter().filter(|request| request.is_err()).count(), refused);
            for want in wants.iter().filter(|want| limits.allow(**want).is_ok()) {
                prop_assert!(requests.iter().any(|request| request.covers(*want)), "{want:?} is not read");
            }
        }

        #[test]
        fn wants_that_do_not_overlap_are_each_read_once(
            steps in prop::collection::vec((0_u16..4, 1_u16..5), 0..60),
            max_registers in 4_u16..30,
            bridge in 0_u16..6,
        ) {
            let mut wants = Vec::new();
            let mut address = 0;
            for (gap, count) in steps {
                wants.push(want(HoldingRegister, gap.saturating_add(address), count));
                address = address.saturating_add(gap).saturating_add(count);
            }
            let requests = requests(&wants, Limits { max_registers, bridge, ..Limits::STANDARD });
            for want in &wants {
                prop_assert_eq!(requests.iter().filter(|request| request.covers(*want)).count(), 1);
            }
        }
    }
}

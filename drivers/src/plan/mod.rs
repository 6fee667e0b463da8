//! Which requests read a device's points in the least bus time.
//!
//! [`plan`] is exact: no other requests that obey the same [`Limits`] read the same wants cheaper under the same
//! [`Cost`]. It splits no want over two requests: a device may change a 32-bit value between them.
//!
//! **Why it is exact.** A want inside another one costs nothing, so it is left out; then addresses and ends of the
//! rest rise together. Of two requests that overlap, one can be trimmed to the wants the other does not hold without
//! breaking a limit, so some cheapest plan parts the sorted wants into runs, and dynamic programming over the end of
//! the first run finds it. Runs that may begin at a want end in a window that only moves on, and what is compared
//! within it does not depend on where the run begins (for bits: once for each place in a byte), so a queue that keeps
//! its smallest first answers in constant time: the whole takes time in proportion to the wants.
//!
//! **Wants that are read alone.** A want that spans a [`Cut`], or is longer than what may be joined, is still read:
//! by a request of exactly its items. Such a request may well be refused, so no other want relies on it, not even one
//! whose items are all among its own.

mod cost;
mod partition;

pub use cost::Cost;
pub use partition::{Plan, Step, StepsTooFew, plan};

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

    /// Returns the request for the items of both and all between, or nothing if no count can say so many.
    pub(crate) fn hull(self, other: Self) -> Option<Self> {
        let address = self.address.min(other.address);
        let count = self.end().max(other.end()).saturating_sub(u32::from(address));
        Some(Self { table: self.table, address, count: u16::try_from(count).ok()? })
    }
}

/// A place no request spans: none holds both `at - 1` and `at`, unless one want alone does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cut {
    /// The table.
    pub table: Table,
    /// First item after the cut.
    pub at: u16,
}

impl Cut {
    /// Says whether `request` holds items on both sides.
    #[must_use]
    pub fn is_inside(self, request: ReadRequest) -> bool {
        self.table == request.table && request.address < self.at && u32::from(self.at) < request.end()
    }
}

/// Says whether one of the sorted `cuts` is inside `request`.
pub(crate) fn is_parted(request: ReadRequest, cuts: &[Cut]) -> bool {
    let edge = Cut { table: request.table, at: request.address };
    cuts.get(cuts.partition_point(|cut| *cut <= edge)).is_some_and(|cut| cut.is_inside(request))
}

/// What a device allows one request to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits<'a> {
    /// Most registers of one request; above 125 counts as 125.
    pub max_registers: u16,
    /// Most coils or discrete inputs of one request; above 2000 counts as 2000.
    pub max_bits: u16,
    /// Most registers of a request that reads several wants; a want with more is read alone.
    pub joined_registers: u16,
    /// Most coils or discrete inputs of a request that reads several wants; a want with more is read alone.
    pub joined_bits: u16,
    /// Most unwanted items between two wants that may be read along to save a request; 0 joins contiguous wants only.
    pub bridge: u16,
    /// Items that must never be asked for.
    pub forbidden: &'a [ReadRequest],
    /// Places no request spans, sorted.
    pub cuts: &'a [Cut],
}

impl Limits<'_> {
    /// The limits of the standard: 125 registers, 2000 bits, nothing forbidden, nothing bridged, nothing cut.
    pub const STANDARD: Self = Self {
        max_registers: 125,
        max_bits: 2000,
        joined_registers: u16::MAX,
        joined_bits: u16::MAX,
        bridge: 0,
        forbidden: &[],
        cuts: &[],
    };

    /// Returns the most items one request of `table` may ask for.
    #[must_use]
    pub fn max_items(&self, table: Table) -> u16 {
        let device = if table.is_bits() { self.max_bits } else { self.max_registers };
        device.min(table.max_items())
    }

    /// Returns the most items a request of `table` that reads several wants may ask for.
    #[must_use]
    pub fn max_joined(&self, table: Table) -> u16 {
        let joined = if table.is_bits() { self.joined_bits } else { self.joined_registers };
        joined.min(self.max_items(table))
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

    /// Says whether a request of exactly `want` serves no other want: a cut is inside, or it is longer than what may
    /// be joined.
    #[must_use]
    pub fn reads_alone(&self, want: ReadRequest) -> bool {
        want.count > self.max_joined(want.table) || is_parted(want, self.cuts)
    }

    fn forbids(&self, request: ReadRequest) -> bool {
        self.forbidden.iter().any(|&hole| hole.overlaps(request))
    }

    /// Says whether one request may hold the neighbours `low` and `high`, apart from its length.
    fn joins(&self, low: ReadRequest, high: ReadRequest) -> bool {
        let gap = u32::from(high.address).saturating_sub(low.end());
        low.table == high.table
            && low.address <= high.address
            && gap <= u32::from(self.bridge)
            && low.hull(high).is_some_and(|hull| !self.forbids(hull) && !is_parted(hull, self.cuts))
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

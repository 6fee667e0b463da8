//! What a bus tells its owner.

use alloc::vec::Vec;
use core::time::Duration;

use ganglion_protocols::Reason;

use super::order::{Done, OrderError, OrderId};

/// Something happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A task was polled, or could not be.
    Sampled(Sampled),
    /// An order has ended.
    Ordered {
        /// Which.
        id: OrderId,
        /// How.
        result: Result<Done, OrderError>,
    },
    /// A unit is asked only now and then, for it does not answer.
    Silent {
        /// Place of the unit in the settings.
        unit: usize,
    },
    /// A silent unit answers again.
    Back {
        /// Place of the unit in the settings.
        unit: usize,
    },
    /// The identity register says that another device answers; its values are not taken.
    WrongDevice {
        /// Place of the unit in the settings.
        unit: usize,
        /// What the register holds, `None` when it was refused.
        found: Option<u64>,
    },
    /// The identity register says that the right device answers, after it was wrong.
    RightDevice {
        /// Place of the unit in the settings.
        unit: usize,
    },
    /// Something was learnt or unlearnt about a unit, and is worth keeping.
    Learnt {
        /// Place of the unit in the settings.
        unit: usize,
    },
    /// The bus cannot carry what is asked: tasks with a shorter interval than this are read at this one. `None` when it
    /// can again.
    Stretched(Option<Duration>),
    /// The connection can no longer be trusted, or nothing comes over it: the owner replaces it.
    Replace {
        /// Why.
        reason: Reason,
    },
}

/// One poll of one task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sampled {
    /// Place of the task in the settings.
    pub task: usize,
    /// When the last answer arrived, or when the poll was given up.
    pub at: Duration,
    /// Polls of this task that the bus had no time for since the last.
    pub missed: u64,
    /// The items of all wants, one want after the other; zeros where there are none.
    pub words: Vec<u16>,
    /// For each want why it has no items.
    pub states: Vec<Option<Reason>>,
}

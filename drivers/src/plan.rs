//! Which requests read a device's points.

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

//! The simulated site: Modbus servers on a paced serial line and on TCP, whose values follow a day and whose answers can
//! be spoiled.
//!
//! | file | what it owns |
//! |---|---|
//! | `day.rs` | what is true at a time |
//! | `unit.rs` | register maps, as data |
//! | `pdu.rs` | requests to answers |
//! | `faults.rs` | what goes wrong with an answer |
//! | `defects.rs` | what a unit cannot do |
//! | `noise.rs` | bit errors of a line |
//! | `line.rs`, `wire.rs` | a pty that is as slow as its baud rate |
//! | `tcp.rs` | Modbus TCP |
//! | `dtu.rs` | a serial server before a line: RTU over TCP |

mod day;
mod defects;
mod dtu;
mod faults;
mod line;
mod noise;
mod pdu;
mod tcp;
mod unit;
mod wire;

pub use day::{Quantity, TICK, Tick};
pub use defects::{Defects, Refusal};
pub use dtu::{Call, Dtu};
pub use faults::{Fault, Faults};
pub use line::{Line, LineSettings, Parity};
pub(crate) use line::{Port, character};
pub use noise::Noise;
pub use pdu::crc;
pub use tcp::{Endpoint, Host};
pub use unit::{Cell, Form, Model, Table, Unit, named_age, named_register, named_second};
pub use wire::{LineCounts, Seconds};

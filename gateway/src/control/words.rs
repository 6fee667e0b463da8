//! What is said over the control socket.

use ganglion_drivers::bus::order::{Deed, Done, OrderError, Write};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::Table;
use ganglion_protocols::modbus::pdu::Bits;
use serde::{Deserialize, Serialize};

use crate::acquire::CallError;

/// One request line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Name of the bus in the site file.
    pub bus: String,
    /// Unit id; 0 is everybody on a serial line.
    pub unit: u8,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked of a unit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Reads items of one table.
    Read {
        /// The table.
        table: TableName,
        /// First item, from 0.
        address: u16,
        /// Items.
        count: u16,
    },
    /// Writes.
    Write {
        /// What is written.
        write: Writing,
        /// Whether it is read back and compared.
        #[serde(default = "yes")]
        verify: bool,
        /// Whether unit 0 is meant.
        #[serde(default)]
        broadcast: bool,
    },
    /// Asks for identification objects, 0x2B/0x0E.
    Identify {
        /// 1 basic, 2 regular, 3 extended, 4 one object.
        level: u8,
        /// First object.
        object: u8,
    },
    /// Asks for the server id, 0x11.
    ServerId {},
}

const fn yes() -> bool {
    true
}

/// A write.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Writing {
    /// 0x05.
    Coil {
        /// Address, from 0.
        address: u16,
        /// On or off.
        on: bool,
    },
    /// 0x06.
    Register {
        /// Address, from 0.
        address: u16,
        /// Value.
        value: u16,
    },
    /// 0x0F.
    Coils {
        /// First address, from 0.
        address: u16,
        /// 1 to 1968 states.
        on: Vec<bool>,
    },
    /// 0x10.
    Registers {
        /// First address, from 0.
        address: u16,
        /// 1 to 123 values.
        values: Vec<u16>,
    },
    /// 0x16: the register becomes `(register & and) | (or & !and)`.
    Mask {
        /// Address, from 0.
        address: u16,
        /// Bits that stay.
        and: u16,
        /// What the others become.
        or: u16,
    },
}

/// A table by its short name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableName {
    /// Coils.
    Coil,
    /// Discrete inputs.
    Discrete,
    /// Input registers.
    Input,
    /// Holding registers.
    Holding,
}

/// One answer line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// What was read; a coil or discrete input is 0 or 1.
    Items(Vec<u16>),
    /// Written, confirmed, and read back where that was asked for.
    Written,
    /// Sent to everybody.
    Broadcast,
    /// The answer to 0x11 or 0x2B, function code included.
    Bytes(Vec<u8>),
    /// It was not done.
    Error(Refusal),
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub kind: Kind,
    /// For people.
    pub message: String,
    /// The reason as [`Reason::code`] gives it, where a unit or the wire was the cause that nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<u16>,
}

/// Kinds of [`Refusal`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The line is no request.
    BadRequest,
    /// Too many clients.
    Busy,
    /// No bus has this name.
    NoBus,
    /// The bus has too many orders waiting.
    Full,
    /// The bus is being stopped.
    Stopped,
    /// A write to unit 0 that does not say broadcast.
    Broadcast,
    /// No such request exists.
    Impossible,
    /// Confirmed, but read back otherwise.
    Differs,
    /// Confirmed, but it could not be read back.
    NotReadBack,
    /// No usable answer, or an exception: see the reason.
    Failed,
    /// The bus has not come to it in time.
    Overdue,
}

impl Ask {
    /// Returns the deed for the engine.
    ///
    /// # Errors
    /// [`Kind::Impossible`] when no request has so many items.
    pub fn into_deed(self) -> Result<Deed, Refusal> {
        Ok(match self {
            Self::Read { table, address, count } => Deed::Read(ReadRequest { table: table.into(), address, count }),
            Self::Write { write, verify, .. } => Deed::Write { write: write.into_write()?, verify },
            Self::Identify { level, object } => Deed::Identify { level, object },
            Self::ServerId {} => Deed::ServerId,
        })
    }

    /// Returns what to ask for a deed; `None` for 0x17, which the socket does not carry.
    #[must_use]
    pub fn of(deed: &Deed, broadcast: bool) -> Option<Self> {
        Some(match deed {
            Deed::Read(ReadRequest { table, address, count }) => {
                Self::Read { table: (*table).into(), address: *address, count: *count }
            }
            Deed::Write { write, verify } => Self::Write { write: Writing::of(write)?, verify: *verify, broadcast },
            Deed::Identify { level, object } => Self::Identify { level: *level, object: *object },
            Deed::ServerId => Self::ServerId {},
        })
    }
}

impl Writing {
    fn into_write(self) -> Result<Write, Refusal> {
        Ok(match self {
            Self::Coil { address, on } => Write::Coil { address, on },
            Self::Register { address, value } => Write::Register { address, value },
            Self::Coils { address, on } => Write::coils(address, &on)
                .ok_or_else(|| Refusal::new(Kind::Impossible, OrderError::Impossible.to_string()))?,
            Self::Registers { address, values } => Write::Registers { address, values },
            Self::Mask { address, and, or } => Write::Mask { address, and, or },
        })
    }

    fn of(write: &Write) -> Option<Self> {
        Some(match write {
            Write::Coil { address, on } => Self::Coil { address: *address, on: *on },
            Write::Register { address, value } => Self::Register { address: *address, value: *value },
            Write::Coils { address, packed, count } => {
                Self::Coils { address: *address, on: Bits::new(packed, usize::from(*count))?.iter().collect() }
            }
            Write::Registers { address, values } => Self::Registers { address: *address, values: values.clone() },
            Write::Mask { address, and, or } => Self::Mask { address: *address, and: *and, or: *or },
            Write::ReadWrite { .. } => return None,
        })
    }
}

impl Refusal {
    /// Makes one.
    #[must_use]
    pub fn new(kind: Kind, message: String) -> Self {
        Self { kind, message, reason: None }
    }
}

impl From<&CallError> for Refusal {
    fn from(error: &CallError) -> Self {
        let (kind, reason) = match error {
            CallError::NoBus(_) => (Kind::NoBus, None),
            CallError::Full(_) => (Kind::Full, None),
            CallError::Stopped(_) => (Kind::Stopped, None),
            CallError::Order(OrderError::Impossible) => (Kind::Impossible, None),
            CallError::Order(OrderError::Differs { .. }) => (Kind::Differs, None),
            CallError::Order(OrderError::NotReadBack(_)) => (Kind::NotReadBack, None),
            CallError::Order(OrderError::Failed(reason)) => (Kind::Failed, Some(reason.code())),
        };
        Self { kind, message: error.to_string(), reason }
    }
}

impl Refusal {
    /// Returns the reason, where a unit or the wire was the cause.
    #[must_use]
    pub fn cause(&self) -> Option<Reason> {
        self.reason.map(Reason::from_code)
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Error(refusal)
    }
}

impl From<Done> for Answer {
    fn from(done: Done) -> Self {
        match done {
            Done::Items(items) => Self::Items(items),
            Done::Written => Self::Written,
            Done::Broadcast => Self::Broadcast,
            Done::Answer(bytes) => Self::Bytes(bytes),
        }
    }
}

impl From<Answer> for Result<Done, Refusal> {
    fn from(answer: Answer) -> Self {
        Ok(match answer {
            Answer::Items(items) => Done::Items(items),
            Answer::Written => Done::Written,
            Answer::Broadcast => Done::Broadcast,
            Answer::Bytes(bytes) => Done::Answer(bytes),
            Answer::Error(refusal) => return Err(refusal),
        })
    }
}

impl From<Table> for TableName {
    fn from(table: Table) -> Self {
        match table {
            Table::Coil => Self::Coil,
            Table::DiscreteInput => Self::Discrete,
            Table::InputRegister => Self::Input,
            Table::HoldingRegister => Self::Holding,
        }
    }
}

impl From<TableName> for Table {
    fn from(name: TableName) -> Self {
        match name {
            TableName::Coil => Self::Coil,
            TableName::Discrete => Self::DiscreteInput,
            TableName::Input => Self::InputRegister,
            TableName::Holding => Self::HoldingRegister,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_over_the_socket_is_what_the_engine_gets() {
        let writes = [
            Write::Coil { address: 7, on: true },
            Write::Register { address: 7, value: 8 },
            Write::Coils { address: 7, packed: vec![0b1000_0001, 0b10], count: 10 },
            Write::Registers { address: 7, values: vec![1, 2, 3] },
            Write::Mask { address: 7, and: 0xF0, or: 1 },
        ];
        let mut deeds: Vec<Deed> = writes.into_iter().map(|write| Deed::Write { write, verify: false }).collect();
        deeds.push(Deed::Read(ReadRequest { table: Table::DiscreteInput, address: 1, count: 9 }));
        deeds.push(Deed::Identify { level: 4, object: 0x80 });
        deeds.push(Deed::ServerId);
        for deed in deeds {
            let ask = Ask::of(&deed, false).unwrap();
            let line = serde_json::to_string(&Request { bus: "b".to_owned(), unit: 3, ask }).unwrap();
            let request: Request = serde_json::from_str(&line).unwrap();
            assert_eq!(request.ask.into_deed(), Ok(deed), "{line}");
        }
    }

    #[test]
    fn a_write_is_verified_and_no_broadcast_unless_it_says_otherwise() {
        let line = r#"{"bus":"b","unit":0,"ask":{"write":{"write":{"register":{"address":1,"value":2}}}}}"#;
        let request: Request = serde_json::from_str(line).unwrap();
        assert!(matches!(request.ask, Ask::Write { verify: true, broadcast: false, .. }));
    }

    #[test]
    fn a_refusal_keeps_its_reason() {
        let refusal = Refusal::from(&CallError::Order(OrderError::Failed(Reason::WrongLength)));
        let line = serde_json::to_string(&Answer::from(refusal)).unwrap();
        assert_eq!(line, r#"{"error":{"kind":"failed","message":"wrong-length","reason":5}}"#);
        let answer: Answer = serde_json::from_str(&line).unwrap();
        let Err(refusal) = Result::<Done, Refusal>::from(answer) else { panic!("an error") };
        assert_eq!(refusal.cause(), Some(Reason::WrongLength));
    }
}

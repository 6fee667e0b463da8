//! Whom a tool asks: the running daemon, or the wire itself.

use std::fmt;
use std::io;

use ganglion_drivers::bus::order::{Deed, Done, OrderError};
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::UnitId;

use super::line::{Line, LineError};
use crate::acquire::trace::Trace;
use crate::control::{Ask, Client, ClientError, Kind, Refusal, Request};
use crate::site::{Bus, Site};

/// The way to the units of one bus.
pub enum Way {
    /// Through the daemon, whose port it is.
    Daemon {
        /// The connection to it.
        client: Box<Client>,
        /// Name of the bus.
        bus: String,
    },
    /// The wire, opened for this tool.
    Own(Box<Line>),
}

/// Why a tool has no answer.
#[derive(Debug)]
pub enum AskError {
    /// The wire cannot be opened.
    Open(io::Error),
    /// On a wire of its own.
    Line(LineError),
    /// The control socket.
    Client(ClientError),
    /// The daemon refused.
    Refused(Refusal),
    /// No request does this.
    Impossible,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => {
                write!(f, "{error}")?;
                match error.kind() {
                    io::ErrorKind::ResourceBusy => f.write_str(
                        "; is that a daemon with another data_dir? stop it, or use its site file to ask through it",
                    ),
                    _ => Ok(()),
                }
            }
            Self::Line(LineError::Order(error)) => f.write_str(&in_words(*error)),
            Self::Line(error) => write!(f, "{error}"),
            Self::Client(error) => write!(f, "{error}"),
            Self::Refused(refusal) => match refusal.cause() {
                Some(reason) => f.write_str(&reason_in_words(reason)),
                None => f.write_str(&refusal.message),
            },
            Self::Impossible => write!(f, "{}", OrderError::Impossible),
        }
    }
}

impl std::error::Error for AskError {}

impl AskError {
    /// Returns why a unit gave no items; `None` when it was not even asked.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Line(LineError::Order(OrderError::Failed(reason))) => Some(*reason),
            Self::Refused(refusal) => refusal.cause(),
            _ => None,
        }
    }

    /// Says whether the arguments are wrong, rather than the world.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Impossible | Self::Line(LineError::Order(OrderError::Impossible)) => true,
            Self::Refused(refusal) => matches!(refusal.kind, Kind::Impossible | Kind::Broadcast | Kind::NoBus),
            _ => false,
        }
    }
}

fn in_words(error: OrderError) -> String {
    match error {
        OrderError::Failed(reason) => reason_in_words(reason),
        OrderError::Differs { .. } | OrderError::NotReadBack(_) | OrderError::Impossible => error.to_string(),
    }
}

/// Says what a reason means to a person at the cabinet.
#[must_use]
pub fn reason_in_words(reason: Reason) -> String {
    match reason {
        Reason::Timeout => "timeout: the unit did not answer in time".to_owned(),
        Reason::Disconnected => "disconnected: the wire is not open".to_owned(),
        Reason::Malformed => "malformed: what came was damaged (noise, or another speed or parity)".to_owned(),
        Reason::WrongReply => "wrong-reply: another unit or function answered".to_owned(),
        Reason::WrongLength => "wrong-length: the answer holds another count of items".to_owned(),
        Reason::Exception(code) => match code.name() {
            Some(name) => format!("exception 0x{:02X}: {name}", code.code()),
            None => format!("exception 0x{:02X}", code.code()),
        },
        Reason::WrongDevice => "wrong-device: another device answers at this unit id".to_owned(),
        other => other.to_string(),
    }
}

impl Way {
    /// Finds the way to a bus: the daemon's if it runs, else the wire, opened now. `trace` gets the bytes of an own wire.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn find(site: &Site, bus: &Bus, trace: Trace) -> Result<Self, AskError> {
        match Client::connect(&site.data_dir).await.map_err(AskError::Client)? {
            Some(client) => Ok(Self::Daemon { client: Box::new(client), bus: bus.name.clone() }),
            None => {
                let line = Line::open(site, bus, trace).await.map_err(AskError::Open)?;
                Ok(Self::Own(Box::new(line)))
            }
        }
    }

    /// Says which way it is, for people.
    #[must_use]
    pub const fn describe(&self) -> &'static str {
        match self {
            Self::Daemon { .. } => "asked through the running daemon",
            Self::Own(_) => "no daemon runs, asked directly",
        }
    }

    /// Has something done and waits for the answer. A write to unit 0 goes out only with `broadcast`.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn call(&mut self, unit: UnitId, deed: Deed, broadcast: bool) -> Result<Done, AskError> {
        match self {
            Self::Own(line) => line.call(unit, deed).await.map_err(AskError::Line),
            Self::Daemon { client, bus } => {
                let ask = Ask::of(&deed, broadcast).ok_or(AskError::Impossible)?;
                let answer = client.ask(&Request { bus: bus.clone(), unit: unit.0, ask }).await;
                Result::from(answer.map_err(AskError::Client)?).map_err(AskError::Refused)
            }
        }
    }
}

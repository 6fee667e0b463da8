//! A gateway with its power switch: the daemon as a process of this machine, or on an emulated one ([`crate::guest`]).
//!
//! Both work in a *seat*: a folder that holds what an engineer brings to the cabinet. All paths in the site file are
//! relative to it, so that one file serves every gateway.
//!
//! | in the seat | |
//! |---|---|
//! | `site.toml` | the site file |
//! | `directory/`, `templates/`, `pki/` | what it names |
//! | `rs485` | the serial port: a pty, whatever is behind it |
//! | `data/` | where the daemon writes |

mod host;

use std::time::Duration;

pub use host::Host;

use crate::demo::Snapshot;
use crate::peers::PeerError;

/// Name of the site file in a seat.
pub const SITE_FILE: &str = "site.toml";
/// Name of the serial port in a seat.
pub const PORT: &str = "rs485";
/// Name of the daemon's data directory in a seat.
pub const DATA: &str = "data";

/// Arguments after which the daemon says what it sees.
const STATUS: [&str; 4] = ["status", "--config", SITE_FILE, "--json"];
/// What the daemon prints when it runs.
pub(crate) const RUNNING: &str = "running";
/// What it leaves when it ends, in the seat.
pub(crate) const LAST_STATUS: &str = "data/last-status.json";
/// How long the daemon may take to drain and end: it gives itself ten seconds.
pub(crate) const END: Duration = Duration::from_secs(30);

/// What a command printed, and how it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Its exit code, 128 and more when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// A gateway with its power switch; dropping it cuts the power.
pub trait Gateway {
    /// Returns the host name by which it reaches a broker that listens on this machine's loopback.
    fn broker_host(&self) -> &'static str;

    /// Turns the power on and returns how long it took until the daemon ran. What the seat holds then is what it runs
    /// with; its data are those of before.
    ///
    /// # Errors
    /// [`PeerError::Ended`] and [`PeerError::Late`] with what it printed when it does not come to run.
    fn start(&mut self) -> Result<Duration, PeerError>;

    /// Cuts the power: nothing that runs has a chance to do anything more.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the system refuses.
    fn cut(&mut self) -> Result<(), PeerError>;

    /// Runs `ganglion` with these arguments in the seat, beside the daemon.
    ///
    /// # Errors
    /// When there is no answer, such as when the power is off.
    fn command(&mut self, arguments: &[&str]) -> Result<Answer, PeerError>;

    /// Ends the daemon in order and returns the status it left; then the power is off.
    ///
    /// # Errors
    /// [`PeerError::Late`] when it runs on, [`PeerError::Ended`] when it ends without success.
    fn stop(&mut self) -> Result<Snapshot, PeerError>;

    /// Returns what the daemon, and the machine around it, printed since the last start.
    fn printed(&self) -> String;

    /// Asks the running daemon what it sees.
    ///
    /// # Errors
    /// As for [`command`](Self::command), and when the answer is none.
    fn status(&mut self) -> Result<Snapshot, PeerError> {
        let answer = self.command(&STATUS)?;
        snapshot(&answer.out).map_err(|error| match error {
            PeerError::Io { peer, error } => {
                PeerError::Io { peer, error: std::io::Error::other(format!("{error} in {answer:?}")) }
            }
            error => error,
        })
    }
}

pub(crate) fn snapshot(json: &str) -> Result<Snapshot, PeerError> {
    serde_json::from_str(json).map_err(|error| PeerError::Io { peer: "ganglion status", error: error.into() })
}

/// The error of a gateway that is asked for something while its power is off.
pub(crate) fn off(peer: &'static str) -> PeerError {
    PeerError::Io { peer, error: std::io::Error::other("its power is off") }
}

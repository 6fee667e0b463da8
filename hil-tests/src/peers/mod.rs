//! Peers: programs that talk to the daemon, started and ended by pid.
//!
//! Each writes what it prints to a file of its own, which a test can wait on, and ends when its value is dropped. All
//! listen on the loopback interface only.

pub mod cable;
pub mod daemon;
pub mod libmodbus;
pub mod mosquitto;
pub mod process;
pub mod pymodbus;
pub mod quirks;

use std::env;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a peer is not there or did not do what was waited for.
#[derive(Debug)]
pub enum PeerError {
    /// It is not installed or not built.
    Missing {
        /// The peer.
        peer: &'static str,
        /// What is not there, and what would bring it.
        why: String,
    },
    /// A file or the process could not be used.
    Io {
        /// The peer.
        peer: &'static str,
        /// Why.
        error: io::Error,
    },
    /// It did not do in time what was waited for.
    Late {
        /// The peer.
        peer: &'static str,
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// The end of what it printed.
        printed: String,
    },
    /// It ended while something else was waited for.
    Ended {
        /// The peer.
        peer: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        printed: String,
    },
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { peer, why } => write!(f, "{peer} is missing: {why}"),
            Self::Io { peer, error } => write!(f, "{peer}: {error}"),
            Self::Late { peer, what, within, printed } => {
                write!(f, "{peer}: no {what} within {within:?}; it printed:\n{printed}")
            }
            Self::Ended { peer, status, printed } => write!(f, "{peer} ended ({status}); it printed:\n{printed}"),
        }
    }
}

impl std::error::Error for PeerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Gives a test its peer, or `None` when the peer is missing: the test then returns at once, and `skipped: <why>` is
/// printed past the test runner's capture.
///
/// # Panics
/// When the peer is missing and the environment says `CI=true`, and on every other error.
#[must_use]
#[track_caller]
pub fn require<T>(peer: Result<T, PeerError>) -> Option<T> {
    let strict = env::var_os("CI").is_some_and(|value| value == "true");
    match verdict(peer, strict) {
        Ok(peer) => Some(peer),
        Err(Verdict::Skip(why)) => {
            // Not `eprintln!`, which the test runner keeps to itself when a test passes; a closed stderr loses no verdict.
            drop(writeln!(io::stderr(), "skipped: {why}"));
            None
        }
        Err(Verdict::Fail(why)) => panic!("{why}"),
    }
}

#[derive(PartialEq, Debug)]
enum Verdict {
    Skip(String),
    Fail(String),
}

fn verdict<T>(peer: Result<T, PeerError>, strict: bool) -> Result<T, Verdict> {
    peer.map_err(|error| match error {
        PeerError::Missing { .. } if !strict => Verdict::Skip(error.to_string()),
        _ => Verdict::Fail(error.to_string()),
    })
}

/// Returns a TCP port of the loopback interface that was free a moment ago, for a peer that cannot choose one and tell
/// it.
///
/// It lies below the ports that systems give to outgoing connections, so that a peer finds it free again after a restart
/// though many clients have come and gone in between.
///
/// # Errors
/// As for [`TcpListener::bind`], when none of many is free.
pub fn free_port() -> io::Result<u16> {
    const PORTS: std::ops::Range<u16> = 16_384..32_768;
    let mut refused = None;
    for _ in 0..100 {
        let port = fastrand::u16(PORTS);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// Finds an installed program, also where only root's search path would look: Debian keeps the broker there.
///
/// # Errors
/// [`PeerError::Missing`] when it is nowhere.
pub fn installed(peer: &'static str, program: &str) -> Result<PathBuf, PeerError> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = env::split_paths(&path).chain(system).map(|folder| folder.join(program));
    places.find(|place| place.is_file()).ok_or_else(|| {
        let why = format!("{program} is not installed (`cargo xtask setup`)");
        PeerError::Missing { peer, why }
    })
}

/// Returns the folder of the programs built with this one, such as `target/debug`.
pub(crate) fn built() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().unwrap_or(&program);
    // A test program lies one deeper than the programs it tests.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> PeerError {
        PeerError::Missing { peer: "mosquitto", why: "not installed".into() }
    }

    #[test]
    fn a_missing_peer_skips_a_test_at_a_desk_and_fails_it_where_everything_must_be_there() {
        let why = || "mosquitto is missing: not installed".to_owned();
        assert_eq!(verdict::<()>(Err(missing()), false), Err(Verdict::Skip(why())));
        assert_eq!(verdict::<()>(Err(missing()), true), Err(Verdict::Fail(why())));
        assert_eq!(verdict(Ok(1), true), Ok(1));
    }

    #[test]
    fn a_program_that_is_not_installed_is_a_missing_peer() {
        assert!(installed("shell", "sh").expect("every system has one").is_absolute());
        let error = installed("mosquitto", "no-such-broker").expect_err("nobody has one");
        let text = error.to_string();
        assert_eq!(text, "mosquitto is missing: no-such-broker is not installed (`cargo xtask setup`)");
        assert!(matches!(verdict::<()>(Err(error), false), Err(Verdict::Skip(_))));
    }

    #[test]
    fn a_peer_that_is_there_and_fails_is_never_skipped() {
        let error = PeerError::Io { peer: "mosquitto", error: io::Error::other("address in use") };
        assert_eq!(verdict::<()>(Err(error), false), Err(Verdict::Fail("mosquitto: address in use".into())));
    }
}

//! The daemon as a child process.

use std::env;
use std::ffi::OsStr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::Process;
use super::{PeerError, built};

/// The daemon, running; see [`Process`] for what can be done with it.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
}

const NAME: &str = "ganglion";

impl Daemon {
    /// Starts the daemon with these arguments; what it prints goes to the new file `log`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when it is not built, [`PeerError::Io`] when it cannot be started.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>, log: &Path) -> Result<Self, PeerError> {
        let process = Process::start(NAME, Command::new(program()?).args(arguments).stdin(Stdio::null()), log)?;
        Ok(Self { process })
    }
}

impl Deref for Daemon {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Finds the daemon's program: `GANGLION_BIN` in the environment, or the one built beside the running test.
///
/// # Errors
/// [`PeerError::Missing`] when it is not there.
pub fn program() -> Result<PathBuf, PeerError> {
    let path = match env::var_os("GANGLION_BIN") {
        Some(path) => path.into(),
        None => built().map_err(|error| PeerError::Io { peer: NAME, error })?.join(NAME),
    };
    if path.is_file() {
        Ok(path)
    } else {
        let why = format!("{} is not there (`cargo build -p ganglion`)", path.display());
        Err(PeerError::Missing { peer: NAME, why })
    }
}

//! The daemon as a process of this machine. Its power switch is SIGKILL: what the process had in memory is gone, what it
//! had written and not fsynced is not, as the machine itself runs on.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Answer, END, Gateway, LAST_STATUS, RUNNING, SITE_FILE, off, snapshot};
use crate::demo::Snapshot;
use crate::peers::process::Process;
use crate::peers::{PeerError, daemon};

const NAME: &str = "ganglion";
/// How long the daemon may take to run, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A gateway of this machine.
#[derive(Debug)]
pub struct Host {
    seat: PathBuf,
    program: PathBuf,
    log: PathBuf,
    daemon: Option<Process>,
}

impl Host {
    /// Prepares a gateway in a seat, its power off; what it prints goes to a file in `folder`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when the daemon is not built.
    pub fn new(seat: &Path, folder: &Path) -> Result<Self, PeerError> {
        let program = daemon::program()?;
        Ok(Self { seat: seat.to_owned(), program, log: folder.join("gateway.log"), daemon: None })
    }

    fn ganglion(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.seat).stdin(Stdio::null());
        command
    }
}

impl Gateway for Host {
    fn broker_host(&self) -> &'static str {
        "localhost"
    }

    fn start(&mut self) -> Result<Duration, PeerError> {
        let begun = Instant::now();
        let process = Process::start(NAME, self.ganglion().args(["run", "--config", SITE_FILE]), &self.log)?;
        self.daemon.insert(process).wait_for_line(RUNNING, START)?;
        Ok(begun.elapsed())
    }

    fn cut(&mut self) -> Result<(), PeerError> {
        self.daemon.take().map_or(Ok(()), |mut daemon| daemon.kill().map(drop))
    }

    fn command(&mut self, arguments: &[&str]) -> Result<Answer, PeerError> {
        let output = self.ganglion().args(arguments).output();
        let output = output.map_err(|error| PeerError::Io { peer: NAME, error })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal)).unwrap_or_default();
        Ok(Answer { code, out: text(&output.stdout), err: text(&output.stderr) })
    }

    fn stop(&mut self) -> Result<Snapshot, PeerError> {
        let mut daemon = self.daemon.take().ok_or_else(|| off(NAME))?;
        let status = daemon.terminate(END)?;
        if !status.success() {
            return Err(PeerError::Ended { peer: NAME, status, printed: daemon.printed()? });
        }
        let left = fs::read_to_string(self.seat.join(LAST_STATUS));
        snapshot(&left.map_err(|error| PeerError::Io { peer: NAME, error })?)
    }

    fn printed(&self) -> String {
        self.daemon.as_ref().and_then(|daemon| daemon.printed().ok()).unwrap_or_default()
    }
}

//! The daemon as a child process, and what it says about itself.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

/// Pause between two questions to the status socket.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What the daemon says about itself: the parts that the demo shows.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// The wire to the broker.
    pub uplink: Uplink,
    /// The observations, by resource.
    pub resources: BTreeMap<String, Counts>,
}

/// State of the wire to the broker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Uplink {
    /// Whether it stands.
    pub connected: bool,
    /// How often it was accepted.
    pub connections: u64,
    /// Why it last ended or was refused.
    pub last_error: Option<String>,
}

/// What became of the observations of one resource.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Made.
    pub sampled: u64,
    /// Safe from a power cut.
    pub durable: u64,
    /// Acknowledged by the broker.
    pub delivered: u64,
    /// Refused or evicted by the buffer.
    pub dropped: u64,
    /// Number of the last one.
    pub last_seq: u64,
}

/// A running daemon; dropping it ends it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    data_dir: PathBuf,
    status: Option<Snapshot>,
    asked: Option<Instant>,
}

impl Daemon {
    /// Starts `<binary> run --config <site_file>`; what it prints goes to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(binary: &Path, site_file: &Path, data_dir: &Path, log: &Path) -> io::Result<Self> {
        let log = File::create(log)?;
        let child = Command::new(binary)
            .args(["run", "--config"])
            .arg(site_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for the demo; the daemon gets its SIGTERM in time.
            .process_group(0)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", binary.display())))?;
        Ok(Self { child, data_dir: data_dir.to_owned(), status: None, asked: None })
    }

    /// Says whether it runs.
    ///
    /// # Errors
    /// When the child cannot be asked.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Returns its newest status, asked for once a second; `None` before the first.
    pub fn status(&mut self) -> Option<&Snapshot> {
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            self.asked = Some(Instant::now());
            // It may not listen yet, or no more: then the last one stands.
            self.status = ask(&self.data_dir.join("status.sock")).ok().or(self.status.take());
        }
        self.status.as_ref()
    }

    /// Returns the status that it left behind when it ended, or else the last one it told.
    #[must_use]
    pub fn last_status(&self) -> Option<Snapshot> {
        let left = std::fs::read(self.data_dir.join("last-status.json")).ok();
        left.and_then(|json| serde_json::from_slice(&json).ok()).or_else(|| self.status.clone())
    }

    /// Tells it to stop polling, drain and end.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn terminate(&mut self) -> io::Result<()> {
        if self.is_running()? {
            kill(self.pid()?, Signal::SIGTERM)?;
        }
        Ok(())
    }

    /// Ends it for good; says whether it had ended by itself, with success.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn end(&mut self) -> io::Result<bool> {
        let ended = self.child.try_wait()?;
        if ended.is_none() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(ended.is_some_and(|status: ExitStatus| status.success()))
    }

    fn pid(&self) -> io::Result<Pid> {
        i32::try_from(self.child.id()).map(Pid::from_raw).map_err(io::Error::other)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!("the daemon could not be ended: {error}");
        }
    }
}

fn ask(socket: &Path) -> io::Result<Snapshot> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut json = Vec::new();
    stream.read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

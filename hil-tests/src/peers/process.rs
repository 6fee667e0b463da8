//! A child process whose output goes to a file that can be waited on.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PeerError;

/// A running child process; it is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    peer: &'static str,
    child: Child,
    log: PathBuf,
    /// Bytes of the log before the end of the last line found.
    seen: usize,
}

/// How often a condition is looked at while it is waited for.
const GLANCE: Duration = Duration::from_millis(5);

impl Process {
    /// Starts a program; what it prints, on both outputs, goes to the new file `log`.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the file cannot be made or the program cannot be started.
    pub fn start(peer: &'static str, command: &mut Command, log: &Path) -> Result<Self, PeerError> {
        let mut start = || spawn(command, File::create(log)?);
        let child = start().map_err(|error| PeerError::Io { peer, error })?;
        Ok(Self { peer, child, log: log.to_owned(), seen: 0 })
    }

    /// Starts a program whose output goes to the end of the file `log`, after what programs before it printed; only what
    /// is new is waited for.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub(crate) fn start_after(peer: &'static str, command: &mut Command, log: &Path) -> Result<Self, PeerError> {
        let mut start = || -> io::Result<(Child, usize)> {
            let file = File::options().create(true).append(true).open(log)?;
            let seen = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
            Ok((spawn(command, file)?, seen))
        };
        let (child, seen) = start().map_err(|error| PeerError::Io { peer, error })?;
        Ok(Self { peer, child, log: log.to_owned(), seen })
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns everything printed so far.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the file cannot be read.
    pub fn printed(&self) -> Result<String, PeerError> {
        match fs::read(&self.log) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => Err(self.io(error)),
        }
    }

    /// Waits for a whole line that contains `text` and returns it. The next wait looks at the lines after it.
    ///
    /// # Errors
    /// [`PeerError::Late`] when there is none in time, [`PeerError::Ended`] as soon as the process has ended without
    /// one.
    pub fn wait_for_line(&mut self, text: &str, within: Duration) -> Result<String, PeerError> {
        let deadline = Instant::now() + within;
        loop {
            // Asked before reading: what a process printed before it ended is all in the file then.
            let ended = self.status()?;
            let bytes = fs::read(&self.log).map_err(|error| self.io(error))?;
            let new = bytes.get(self.seen..).unwrap_or_default();
            let mut at = self.seen;
            for line in new.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
                at += line.len();
                let line = String::from_utf8_lossy(line);
                if line.contains(text) {
                    self.seen = at;
                    return Ok(line.trim_end().to_owned());
                }
            }
            if let Some(status) = ended {
                return Err(PeerError::Ended { peer: self.peer, status, printed: self.tail()? });
            }
            if Instant::now() >= deadline {
                return Err(self.late(format!("line with {text:?}"), within)?);
            }
            thread::sleep(GLANCE);
        }
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// [`PeerError::Late`] when it runs on.
    pub fn wait_for_end(&mut self, within: Duration) -> Result<ExitStatus, PeerError> {
        let deadline = Instant::now() + within;
        loop {
            match self.status()? {
                Some(status) => return Ok(status),
                None if Instant::now() >= deadline => return Err(self.late("end".to_owned(), within)?),
                None => thread::sleep(GLANCE),
            }
        }
    }

    /// Returns how the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the system cannot say.
    pub fn status(&mut self) -> Result<Option<ExitStatus>, PeerError> {
        self.child.try_wait().map_err(|error| PeerError::Io { peer: self.peer, error })
    }

    /// Asks the process to end, by SIGTERM, and waits until it has.
    ///
    /// # Errors
    /// [`PeerError::Late`] when it runs on.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus, PeerError> {
        self.signal(Signal::SIGTERM)?;
        self.wait_for_end(within)
    }

    /// Ends the process at once, by SIGKILL: it has no chance to do anything more.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus, PeerError> {
        let peer = self.peer;
        self.child.kill().and_then(|()| self.child.wait()).map_err(|error| PeerError::Io { peer, error })
    }

    /// Sends a signal, such as SIGSTOP or SIGHUP; nothing happens if the process has ended.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<(), PeerError> {
        // A child that has not been waited for keeps its number, so no other process can get the signal.
        if self.status()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, signal).map_err(|error| self.io(error.into()))
    }

    /// Returns the end of what was printed, for a message.
    fn tail(&self) -> Result<String, PeerError> {
        const LINES: usize = 30;
        let printed = self.printed()?;
        let lines: Vec<&str> = printed.lines().collect();
        Ok(lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n"))
    }

    fn late(&self, what: String, within: Duration) -> Result<PeerError, PeerError> {
        Ok(PeerError::Late { peer: self.peer, what, within, printed: self.tail()? })
    }

    fn io(&self, error: io::Error) -> PeerError {
        PeerError::Io { peer: self.peer, error }
    }
}

fn spawn(command: &mut Command, output: File) -> io::Result<Child> {
    command.stdout(Stdio::from(output.try_clone()?)).stderr(Stdio::from(output)).spawn()
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when the process is gone already.
        drop(self.kill());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> (tempfile::TempDir, Process) {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let process = Process::start("shell", Command::new("sh").args(["-c", script]), &log).expect("sh starts");
        (folder, process)
    }

    #[test]
    fn lines_are_found_in_their_order_on_both_outputs() {
        let (_folder, mut process) = shell("echo one; echo two >&2; echo one more; exec sleep 60");
        assert_eq!(process.wait_for_line("one", SOON).expect("first"), "one");
        assert_eq!(process.wait_for_line("one", SOON).expect("second"), "one more");
        let error = process.wait_for_line("two", Duration::ZERO).expect_err("passed already");
        assert!(matches!(&error, PeerError::Late { printed, .. } if printed == "one\ntwo\none more"), "{error}");
    }

    #[test]
    fn a_line_that_is_not_complete_is_not_taken() {
        let (_folder, mut process) = shell("printf 'port 12'; read -r _ < /dev/null; exit 3");
        let error = process.wait_for_line("port", SOON).expect_err("no line end");
        assert!(matches!(&error, PeerError::Ended { status, .. } if status.code() == Some(3)), "{error}");
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_late_and_can_be_killed() {
        let (_folder, mut process) = shell("trap '' TERM; echo deaf; while :; do sleep 1; done");
        process.wait_for_line("deaf", SOON).expect("started");
        let error = process.terminate(Duration::from_millis(50)).expect_err("it ignores the signal");
        assert!(matches!(error, PeerError::Late { .. }), "{error}");
        let status = process.kill().expect("killed");
        assert!(!status.success());
    }

    #[test]
    fn a_program_started_after_another_prints_behind_it_and_is_heard_alone() {
        let (folder, mut process) = shell("echo one");
        process.wait_for_end(SOON).expect("it ends");
        let log = folder.path().join("log");
        let mut next =
            Process::start_after("shell", Command::new("sh").args(["-c", "echo one more"]), &log).expect("sh");
        assert_eq!(next.wait_for_line("one", SOON).expect("its own line"), "one more");
        assert_eq!(next.printed().expect("the file"), "one\none more\n");
    }

    #[test]
    fn dropping_ends_the_process() {
        let (_folder, process) = shell("exec sleep 60");
        let pid = Pid::from_raw(process.pid().cast_signed());
        assert!(kill(pid, None).is_ok(), "it runs");
        drop(process);
        assert_eq!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
    }
}

//! Runs a worker and kills it at a boundary of a system call that touches its data directory.
//!
//! The thread that opens the store and the threads it starts are traced (`ptrace`); what they do to files of the data
//! directory stops them twice, before and after. At such a stop the worker's other thread is asked what was promised up
//! to there, and then the whole process gets SIGKILL: a call that was about to begin is never made.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use ganglion_hil::peers::PeerError;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::buffer::Log;
use crate::promises::{Numbers, Promises};

/// Before or behind a system call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Side {
    Before,
    Behind,
}

/// A place where the worker can be killed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Boundary {
    pub(crate) call: &'static str,
    /// The file, relative to the data directory; of a rename its former name.
    pub(crate) file: String,
    pub(crate) side: Side,
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == Side::Before { "before" } else { "behind" };
        write!(f, "{side} {}({})", self.call, self.file)
    }
}

/// Where a worker was killed, and what was promised at that moment.
#[derive(Debug)]
pub(crate) struct Killed {
    pub(crate) boundary: Boundary,
    pub(crate) promises: Promises,
}

/// Runs a worker until `here` says of a boundary, and how many were before it, that it is to be killed there. `None` when it
/// ended by itself.
///
/// # Errors
/// When tracing is not allowed, or the worker failed.
pub(crate) fn run(
    worker: &mut Command,
    socket: &Path,
    (data_dir, log): (&Path, Log),
    here: impl FnMut(usize, &Boundary) -> bool,
) -> Result<Option<Killed>, PeerError> {
    let io = |error| PeerError::Io { peer: WORKER, error };
    let listener = UnixListener::bind(socket).map_err(io)?;
    listener.set_nonblocking(true).map_err(io)?;
    let mut child = worker.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().map_err(io)?;
    Tracer::begin(&mut child, &listener, data_dir, log)?.run(here)
}

const WORKER: &str = "traced worker";

struct Tracer {
    process: Pid,
    data_dir: PathBuf,
    log: Log,
    memory: File,
    stream: BufReader<UnixStream>,
    /// Calls that threads are in.
    inside: HashMap<Pid, Option<(&'static str, String)>>,
    /// What was acknowledged when the cursor was last about to be written, not known to be in place.
    writing: [Numbers; 3],
    /// What the cursor is known to hold.
    kept: [Numbers; 3],
}

impl Tracer {
    fn begin(child: &mut Child, listener: &UnixListener, data_dir: &Path, log: Log) -> Result<Self, PeerError> {
        let io = |error| PeerError::Io { peer: WORKER, error };
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(io(error)),
            }
            if let Some(status) = child.try_wait().map_err(io)? {
                return Err(io(io::Error::other(format!("it ended before it said anything: {status}"))));
            }
        };
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).map_err(io)?;
        let process = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        let thread = Pid::from_raw(line.trim().parse().expect("a thread"));
        let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD;
        let seized = ptrace::seize(thread, options).and_then(|()| ptrace::interrupt(thread));
        if let Err(error) = seized {
            end(process)?;
            let why = format!("tracing another process is not permitted: {error}");
            return Err(PeerError::Missing { peer: "ptrace", why });
        }
        let memory = File::open(format!("/proc/{process}/mem")).map_err(io)?;
        let data_dir = data_dir.canonicalize().map_err(io)?;
        stream.get_ref().set_read_timeout(Some(Duration::from_millis(1))).map_err(io)?;
        waitpid(thread, Some(WaitPidFlag::__WALL)).map_err(os)?;
        ptrace::syscall(thread, None).map_err(os)?;
        stream.get_mut().write_all(b"go\n").map_err(io)?;
        let (writing, kept, inside) = Default::default();
        Ok(Self { process, data_dir, log, memory, stream, inside, writing, kept })
    }

    fn run(mut self, mut here: impl FnMut(usize, &Boundary) -> bool) -> Result<Option<Killed>, PeerError> {
        let mut boundaries = 0;
        loop {
            // Of this thread's children only: others trace workers of their own.
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).map_err(os)? {
                WaitStatus::PtraceSyscall(thread) => {
                    if let Some(boundary) = self.boundary(thread)? {
                        if here(boundaries, &boundary) {
                            let promises = self.ask()?;
                            end(self.process)?;
                            return Ok(Some(Killed { boundary, promises }));
                        }
                        boundaries += 1;
                        self.note(&boundary)?;
                    }
                    go_on(thread, None)?;
                }
                WaitStatus::Exited(who, 0) if who == self.process => return Ok(None),
                WaitStatus::Exited(who, _) | WaitStatus::Signaled(who, ..) if who == self.process => {
                    return Err(PeerError::Io { peer: WORKER, error: io::Error::other("it failed") });
                }
                other => pass(other)?,
            }
        }
    }

    /// Says where a stopped thread stands, if it is at a call that touches the data directory.
    fn boundary(&mut self, thread: Pid) -> Result<Option<Boundary>, PeerError> {
        let operation = ptrace::syscall_info(thread).map_err(os)?.op;
        let (side, call) = if operation == libc::PTRACE_SYSCALL_INFO_ENTRY {
            let call = self.call(thread);
            self.inside.insert(thread, call.clone());
            (Side::Before, call)
        } else {
            (Side::Behind, self.inside.remove(&thread).flatten())
        };
        Ok(call.map(|(call, file)| Boundary { call, file, side }))
    }

    /// Reads the call that a thread is about to make.
    fn call(&self, thread: Pid) -> Option<(&'static str, String)> {
        let text = fs::read_to_string(format!("/proc/{}/task/{thread}/syscall", self.process)).ok()?;
        let mut words = text.split_whitespace();
        let number: i64 = words.next()?.parse().ok()?;
        let arguments: Vec<u64> =
            words.map_while(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()).collect();
        let (_, name, place) = CALLS.iter().find(|(own, ..)| *own == number)?;
        let path = match place {
            Place::Descriptor => {
                let link = format!("/proc/{}/fd/{}", self.process, arguments.first()?);
                fs::read_link(link).ok()?
            }
            Place::Path(argument) => self.path_at(*arguments.get(*argument)?)?,
        };
        let file = path.strip_prefix(&self.data_dir).ok()?;
        Some((name, file.display().to_string()))
    }

    fn path_at(&self, address: u64) -> Option<PathBuf> {
        let mut bytes = [0; 512];
        let read = self.memory.read_at(&mut bytes, address).ok()?;
        let text = bytes[..read].split(|byte| *byte == 0).next()?;
        Some(PathBuf::from(str::from_utf8(text).ok()?))
    }

    /// Follows what the cursor holds: a kill leaves what was written, synced or not.
    fn note(&mut self, boundary: &Boundary) -> Result<(), PeerError> {
        let Boundary { call, file, side } = boundary;
        let Some(file) = file.strip_prefix(self.log.folder()) else { return Ok(()) };
        match (*call, *side, file) {
            ("pwrite64", Side::Before, "/cursor" | "/new-cursor") => {
                self.writing = self.ask()?.0.map(|promise| promise.acknowledged);
            }
            ("pwrite64", Side::Behind, "/cursor") | ("rename", Side::Behind, "/new-cursor") => {
                self.kept = self.writing.clone();
            }
            _ => {}
        }
        Ok(())
    }

    /// Asks what was promised, while the thread that stands at a boundary waits and the others go on.
    fn ask(&mut self) -> Result<Promises, PeerError> {
        let io = |error| PeerError::Io { peer: WORKER, error };
        self.stream.get_mut().write_all(b"tell\n").map_err(io)?;
        let mut line = String::new();
        loop {
            match self.stream.read_line(&mut line) {
                Ok(_) if line.ends_with('\n') => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Err(io(io::Error::other(format!("told {line:?}, {other:?}")))),
            }
            // The one that answers may wait for a lock that another holds who stands at a call.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
            match waitpid(None, Some(flags)).map_err(os)? {
                WaitStatus::PtraceSyscall(thread) => {
                    self.boundary(thread)?;
                    go_on(thread, None)?;
                }
                other => pass(other)?,
            }
        }
        let mut promises = Promises::parse(&line).ok_or_else(|| io(io::Error::other(format!("told {line:?}"))))?;
        for (promise, kept) in promises.0.iter_mut().zip(&self.kept) {
            promise.kept.0.extend(&kept.0);
        }
        Ok(promises)
    }
}

/// What of a call names the file.
enum Place {
    Descriptor,
    Path(usize),
}

/// Calls that change what a later start finds, or make it last.
const CALLS: &[(i64, &str, Place)] = &[
    (libc::SYS_openat, "openat", Place::Path(1)),
    (libc::SYS_pwrite64, "pwrite64", Place::Descriptor),
    (libc::SYS_write, "write", Place::Descriptor),
    (libc::SYS_fdatasync, "fdatasync", Place::Descriptor),
    (libc::SYS_fsync, "fsync", Place::Descriptor),
    (libc::SYS_ftruncate, "ftruncate", Place::Descriptor),
    (libc::SYS_fallocate, "fallocate", Place::Descriptor),
    (libc::SYS_flock, "flock", Place::Descriptor),
    (libc::SYS_renameat, "rename", Place::Path(1)),
    (libc::SYS_renameat2, "rename", Place::Path(1)),
    (libc::SYS_unlinkat, "unlink", Place::Path(1)),
    (libc::SYS_mkdirat, "mkdir", Place::Path(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", Place::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename", Place::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink", Place::Path(0)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir", Place::Path(0)),
];

/// Lets a thread go on whose stop says nothing here.
fn pass(status: WaitStatus) -> Result<(), PeerError> {
    match status {
        WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal)),
        WaitStatus::PtraceEvent(thread, ..) | WaitStatus::PtraceSyscall(thread) => go_on(thread, None),
        _ => Ok(()),
    }
}

fn go_on(thread: Pid, signal: Option<Signal>) -> Result<(), PeerError> {
    match ptrace::syscall(thread, signal) {
        // The process is ending.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(os(error)),
    }
}

/// Kills the process and waits until nothing of it is left.
fn end(process: Pid) -> Result<(), PeerError> {
    kill(process, Signal::SIGKILL).map_err(os)?;
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).map_err(os)? {
            WaitStatus::Exited(who, _) | WaitStatus::Signaled(who, ..) if who == process => return Ok(()),
            _ => {}
        }
    }
}

fn os(error: Errno) -> PeerError {
    PeerError::Io { peer: WORKER, error: error.into() }
}

//! A serial line behind a pty, in a thread of its own.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use super::day::Tick;
use super::noise::Noise;
use super::unit::Unit;
use super::wire::{LineCounts, Seconds, Wire};

/// Longest wait before the thread looks for a command.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Parity of a line; it decides how long a character takes and is not checked, as a pty has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even parity.
    Even,
    /// Odd parity.
    Odd,
}

/// A line's port and speed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LineSettings {
    /// Where the link to the port is made; what is there before is replaced.
    pub path: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// Parity bit.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop_bits: u8,
    /// How long a unit thinks before it answers, beyond the silence that ends the request.
    pub turnaround: Duration,
    /// Whether the client's adapter hears what it sends itself.
    pub echo: bool,
}

impl LineSettings {
    /// Returns settings for a path, with units that think for 2 ms.
    #[must_use]
    pub fn new(path: &Path, baud: u32, parity: Parity, stop_bits: u8) -> Self {
        Self { path: path.to_owned(), baud, parity, stop_bits, turnaround: Duration::from_millis(2), echo: false }
    }

    /// Returns how long one character takes: a start bit, eight data bits, the parity bit if there is one, stop bits.
    #[must_use]
    pub fn character(&self) -> Duration {
        character(self.baud, self.parity, self.stop_bits)
    }

    /// Returns the silence that ends a frame: 3.5 characters, above 19 200 Bd fixed at 1.75 ms.
    ///
    /// Source: MODBUS over Serial Line V1.02 §2.5.1.1.
    #[must_use]
    pub fn silence(&self) -> Duration {
        if self.baud > 19_200 { Duration::from_micros(1750) } else { self.character() * 7 / 2 }
    }
}

/// Returns how long one character takes: a start bit, eight data bits, the parity bit if there is one, stop bits.
pub(crate) fn character(baud: u32, parity: Parity, stop_bits: u8) -> Duration {
    let bits = 9 + u64::from(parity != Parity::None) + u64::from(stop_bits);
    Duration::from_nanos(bits * 1_000_000_000 / u64::from(baud.max(1)))
}

impl FromStr for Parity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "N" => Ok(Self::None),
            "E" => Ok(Self::Even),
            "O" => Ok(Self::Odd),
            _ => Err(format!("{text:?} is no parity, one of N, E, O")),
        }
    }
}

/// A running line; dropping it ends it and removes its link.
#[derive(Debug)]
pub struct Line {
    path: PathBuf,
    commands: Option<mpsc::Sender<Command>>,
    counts: Arc<Mutex<LineCounts>>,
    noise: Arc<Noise>,
    seconds: Arc<Mutex<Seconds>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Command {
    order: Order,
    done: mpsc::Sender<io::Result<()>>,
}

#[derive(Debug)]
enum Order {
    Plug,
    Unplug,
    Say(Vec<u8>),
}

impl Line {
    /// Starts the line, plugged in.
    ///
    /// # Errors
    /// When there is no pty, or the link cannot be made.
    pub fn start(settings: LineSettings, units: Vec<Arc<Unit>>) -> io::Result<Self> {
        let mut wire = Wire::new(settings.character(), settings.silence(), settings.turnaround, units);
        wire.echo = settings.echo;
        let (noise, seconds) = (Arc::clone(&wire.noise), Arc::clone(&wire.seconds));
        let port = Port::open(&settings.path)?;
        let (commands, inbox) = mpsc::channel();
        let counts = Arc::new(Mutex::new(LineCounts::default()));
        let (path, shown) = (settings.path.clone(), Arc::clone(&counts));
        let thread = std::thread::Builder::new()
            .name("line".to_owned())
            .spawn(move || run(wire, Some(port), &settings.path, &inbox, &shown))?;
        Ok(Self { path, commands: Some(commands), counts, noise, seconds, thread: Some(thread) })
    }

    /// Returns the path of the port.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Pulls the adapter out: the port is gone, and so is its path. Returns when it is done.
    ///
    /// # Errors
    /// When the line has ended.
    pub fn unplug(&self) -> io::Result<()> {
        self.command(Order::Unplug)
    }

    /// Plugs the adapter in again: another port at the same path. Returns when it is done.
    ///
    /// # Errors
    /// When there is no pty, or the link cannot be made.
    pub fn plug(&self) -> io::Result<()> {
        self.command(Order::Plug)
    }

    /// Lets somebody else talk on the line: another client or a unit that is none of ours. Whoever talks at that time is
    /// spoiled. Returns when it has begun.
    ///
    /// # Errors
    /// When the line has ended.
    pub fn say(&self, bytes: &[u8]) -> io::Result<()> {
        self.command(Order::Say(bytes.to_vec()))
    }

    /// Returns the bit errors, to be switched.
    #[must_use]
    pub fn noise(&self) -> &Noise {
        &self.noise
    }

    /// Returns the good exchanges of each second and unit.
    #[must_use]
    pub fn seconds(&self) -> Seconds {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what happened so far.
    #[must_use]
    pub fn counts(&self) -> LineCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, order: Order) -> io::Result<()> {
        let (done, answer) = mpsc::channel();
        let ended = || io::Error::other("the line has ended");
        self.commands.as_ref().ok_or_else(ended)?.send(Command { order, done }).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; there is nothing to add.
            drop(thread.join());
        }
    }
}

/// Both ends of a pty; the far end is held open so that reading never fails while no client has it.
#[derive(Debug)]
pub(crate) struct Port {
    near: PtyMaster,
    _far: OwnedFd,
    path: PathBuf,
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.near.as_fd()
    }
}

impl Port {
    /// Opens a pty and links its far end to `path`; what is there before is replaced.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Not `openpty`, whose ends every child process inherits: one of them, such as the daemon, would keep a pulled
        // port alive. `O_CLOEXEC` from the first moment, for other threads start processes too.
        let near = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let name = ptsname_r(&near)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let far = nix::fcntl::open(name.as_str(), flags, Mode::empty())?;
        let mut mode = tcgetattr(&far)?;
        cfmakeraw(&mut mode);
        tcsetattr(&far, SetArg::TCSANOW, &mode)?;
        if path.is_symlink() {
            fs::remove_file(path)?;
        }
        std::os::unix::fs::symlink(name, path)?;
        Ok(Self { near, _far: far, path: path.to_owned() })
    }

    /// Waits for bytes, at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) -> nix::Result<bool> {
        let mut wanted = [PollFd::new(self.near.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut wanted, Some(timeout.into()), None) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there, at most a buffer full.
    pub(crate) fn read<'a>(&self, buffer: &'a mut [u8]) -> nix::Result<&'a [u8]> {
        let count = nix::unistd::read(&self.near, buffer)?;
        Ok(buffer.get(..count).unwrap_or_default())
    }

    /// Writes bytes, as many as the far end has room for.
    pub(crate) fn write(&self, bytes: &[u8]) -> nix::Result<()> {
        match nix::unistd::write(&self.near, bytes) {
            // A full pty loses characters, as a UART does when nobody reads it.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!("{}: {error}", self.path.display());
        }
    }
}

fn run(
    mut wire: Wire,
    mut port: Option<Port>,
    path: &Path,
    commands: &mpsc::Receiver<Command>,
    shown: &Mutex<LineCounts>,
) {
    // The system may wake a thread 50 us late on purpose; half a character at 115 200 Bd.
    if let Err(error) = nix::sys::prctl::set_timerslack(1) {
        tracing::debug!("the line's thread wakes late: {error}");
    }
    let mut buffer = [0_u8; 512];
    loop {
        let command = match (&port, commands.try_recv()) {
            (None, Err(TryRecvError::Empty)) => commands.recv().ok(),
            (_, Ok(command)) => Some(command),
            (_, Err(TryRecvError::Disconnected)) => return,
            (Some(_), Err(TryRecvError::Empty)) => None,
        };
        match command {
            Some(Command { order: Order::Plug, done }) => {
                let opened = if port.is_none() { Port::open(path).map(|opened| port = Some(opened)) } else { Ok(()) };
                // Whoever asked may have gone.
                drop(done.send(opened));
            }
            Some(Command { order: Order::Unplug, done }) => {
                wire.silence();
                port = None;
                drop(done.send(Ok(())));
            }
            Some(Command { order: Order::Say(bytes), done }) => {
                wire.say(Instant::now(), bytes);
                drop(done.send(Ok(())));
            }
            None if port.is_none() => return,
            None => {}
        }
        let Some(open) = &port else { continue };
        let until = wire.next().map_or(LOOK_UP, |next| next.saturating_duration_since(Instant::now()).min(LOOK_UP));
        let outcome = open.wait(until).and_then(|ready| {
            if ready {
                wire.hear(Instant::now(), open.read(&mut buffer)?);
            }
            let out = wire.advance(Instant::now(), Tick::now());
            // Before the client has the answer, so that it never sees more than was counted.
            *shown.lock().unwrap_or_else(PoisonError::into_inner) = wire.counts;
            if out.is_empty() { Ok(()) } else { open.write(&out) }
        });
        match outcome {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => {
                tracing::error!("{}: {error}", path.display());
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! An emulated RS-485 pair with its ends, in a thread of its own.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};

use super::plug::{Plug, Read};
use super::trace::Trace;
use super::wire::{End, Heard, MOST_ENDS, PairCounts, Wire};
use crate::site::{Parity, Port, character};

/// Longest wait before the thread looks for a machine that has power again.
const LOOK_UP: Duration = Duration::from_millis(20);
/// An end that has so many characters to send is not read: who writes there has to wait, as at a UART.
const ENOUGH: usize = 512;

/// What a pair consists of.
#[derive(Debug)]
pub struct Plan {
    character: Duration,
    seed: u64,
    trace: Option<PathBuf>,
    ends: Vec<(String, Wanted)>,
}

#[derive(Debug)]
enum Wanted {
    Pty(PathBuf),
    Machine(PathBuf),
    Bench,
}

impl Plan {
    /// Begins a pair of this speed, without ends.
    #[must_use]
    pub fn new(baud: u32, parity: Parity, stop_bits: u8) -> Self {
        Self { character: character(baud, parity, stop_bits), seed: 0, trace: None, ends: Vec::new() }
    }

    /// Adds a serial port for a program on this computer: a pty, linked at `path`. `name` stands in the trace.
    pub fn pty(&mut self, name: &str, path: &Path) -> End {
        self.add(name, Wanted::Pty(path.to_owned()))
    }

    /// Adds a serial port of a machine that listens on the Unix socket `path` while it has power.
    pub fn machine(&mut self, name: &str, path: &Path) -> End {
        self.add(name, Wanted::Machine(path.to_owned()))
    }

    /// Adds an end at which the bench itself talks ([`Pair::say`]).
    pub fn bench(&mut self, name: &str) -> End {
        self.add(name, Wanted::Bench)
    }

    /// Draws noise from this seed; otherwise it is 0.
    pub fn seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Writes everything that is on the pair to the new file `path`.
    pub fn trace(&mut self, path: &Path) {
        self.trace = Some(path.to_owned());
    }

    fn add(&mut self, name: &str, wanted: Wanted) -> End {
        self.ends.push((name.to_owned(), wanted));
        End(self.ends.len() - 1)
    }
}

/// A running pair; dropping it ends it and removes the links of its ptys.
#[derive(Debug)]
pub struct Pair {
    shared: Arc<Shared>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
    ends: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
}

#[derive(Debug)]
struct State {
    wire: Wire,
    connected: Vec<bool>,
}

impl Pair {
    /// Lays the pair. Machines are connected to when they have power, and again whenever it comes back.
    ///
    /// # Errors
    /// When there is no pty, a link or the trace cannot be made, or there are more than 63 ends.
    pub fn start(plan: Plan) -> io::Result<Self> {
        let ends = plan.ends.len();
        if ends > MOST_ENDS {
            return Err(io::Error::other(format!("{ends} ends on a pair, at most {MOST_ENDS}")));
        }
        let mut names = Vec::new();
        let mut plugs = Vec::new();
        for (name, wanted) in plan.ends {
            names.push(name);
            plugs.push(match wanted {
                Wanted::Pty(path) => Plug::Pty(Port::open(&path)?),
                Wanted::Machine(path) => Plug::Machine { path, stream: None },
                Wanted::Bench => Plug::Bench,
            });
        }
        let start = Instant::now();
        let trace = plan.trace.map(File::create).transpose()?;
        let trace = trace.map(|file| Trace::new(file, names, start, plan.character));
        let wire = Wire::new(plan.character, ends, plan.seed);
        let connected = plugs.iter().map(Plug::is_connected).collect();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { wire, connected }),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let runner = Runner { shared: Arc::clone(&shared), plugs, woken, trace };
        let thread = thread::Builder::new().name("pair".to_owned()).spawn(move || runner.run())?;
        Ok(Self { shared, wake, thread: Some(thread), ends })
    }

    /// Cuts the wire of one end: it hears nothing and is not heard.
    pub fn cut(&self, end: End) {
        self.shared.lock().wire.set_cut(end, true);
    }

    /// Mends the wire of one end.
    pub fn mend(&self, end: End) {
        self.shared.lock().wire.set_cut(end, false);
    }

    /// Cuts the wires of all ends.
    pub fn cut_all(&self) {
        (0..self.ends).for_each(|end| self.cut(End(end)));
    }

    /// Mends the wires of all ends.
    pub fn mend_all(&self) {
        (0..self.ends).for_each(|end| self.mend(End(end)));
    }

    /// Lets an end hear what it says itself, as many RS-485 adapters do, or not, as it is at first.
    pub fn set_echo(&self, end: End, echo: bool) {
        self.shared.lock().wire.set_echo(end, echo);
    }

    /// Sets the noise: shares of bits that flip, of characters that get lost and of characters that come from nowhere
    /// before another, each 0 to 1; at first all are 0.
    pub fn set_noise(&self, flips: f64, drops: f64, inserts: f64) {
        self.shared.lock().wire.set_noise(flips, drops, inserts);
    }

    /// Lets an end say something from now on, behind what it still says.
    pub fn say(&self, end: End, bytes: &[u8]) {
        self.shared.lock().wire.say(Instant::now(), end, bytes);
        // Full means that it is being woken already.
        drop((&self.wake).write(&[0]));
    }

    /// Waits until a machine is connected, or is not, as `connected` says; returns whether it came to that in time.
    #[must_use]
    pub fn wait_connected(&self, end: End, connected: bool, within: Duration) -> bool {
        let differs = |state: &mut State| state.connected.get(end.0).copied() != Some(connected);
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), within, differs);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !differs(&mut state)
    }

    /// Returns what happened so far.
    #[must_use]
    pub fn counts(&self) -> PairCounts {
        self.shared.lock().wire.counts()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop((&self.wake).write(&[0]));
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; there is nothing to add.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Runner {
    shared: Arc<Shared>,
    plugs: Vec<Plug>,
    woken: UnixStream,
    trace: Option<Trace<File>>,
}

impl Runner {
    fn run(mut self) {
        // Otherwise the kernel may wake a thread 50 us late on purpose; half a character at 115 200 Bd.
        if let Err(error) = nix::sys::prctl::set_timerslack(1) {
            tracing::debug!("the pair's thread wakes late: {error}");
        }
        while !self.shared.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.turn() {
                tracing::error!("the pair is broken: {error}");
                return;
            }
        }
        if let Some(Err(error)) = self.trace.as_mut().map(Trace::end_line) {
            tracing::error!("the pair's trace is cut short: {error}");
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        self.connect()?;
        self.wait()?;
        self.read()?;
        let now = Instant::now();
        let mut state = self.shared.lock();
        let heard = state.wire.advance(now);
        // Lists first, then writes: nobody waits for the lock while the kernel copies.
        let ear =
            |end| heard.iter().filter(|one| state.wire.hears(End(end), one)).map(|one: &Heard| one.byte).collect();
        let lists: Vec<Vec<u8>> = (0..self.plugs.len()).map(ear).collect();
        drop(state);
        for (plug, bytes) in self.plugs.iter_mut().zip(&lists).filter(|(_, bytes)| !bytes.is_empty()) {
            plug.write(bytes)?;
        }
        if let Some(trace) = &mut self.trace {
            heard.iter().try_for_each(|one| trace.note(one))?;
            trace.settle(now)?;
        }
        Ok(())
    }

    fn connect(&mut self) -> io::Result<()> {
        for (end, plug) in self.plugs.iter_mut().enumerate() {
            if plug.connect()? {
                self.shared.connected(end, true);
            }
        }
        Ok(())
    }

    /// Waits until somebody says something or a character is over.
    fn wait(&self) -> io::Result<()> {
        let state = self.shared.lock();
        let left = |next: Instant| next.saturating_duration_since(Instant::now());
        let until = state.wire.next().map_or(LOOK_UP, |next| left(next).min(LOOK_UP));
        let open = self.plugs.iter().enumerate().filter(|(end, _)| state.wire.waiting(End(*end)) < ENOUGH);
        let mut wanted: Vec<PollFd<'_>> =
            open.filter_map(|(_, plug)| plug.fd()).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        drop(state);
        wanted.push(PollFd::new(self.woken.as_fd(), PollFlags::POLLIN));
        match ppoll(&mut wanted, Some(until.into()), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0_u8; 256];
        // Empties it, or there is nothing to read.
        while matches!((&self.woken).read(&mut buffer), Ok(1..)) {}
        for (end, plug) in self.plugs.iter_mut().enumerate() {
            if self.shared.lock().wire.waiting(End(end)) >= ENOUGH {
                continue;
            }
            match plug.read(&mut buffer)? {
                Read::Bytes(bytes) => self.shared.lock().wire.say(Instant::now(), End(end), bytes),
                Read::Nothing => {}
                Read::Gone => {
                    self.shared.lock().wire.hush(End(end));
                    self.shared.connected(end, false);
                }
            }
        }
        Ok(())
    }
}

impl Shared {
    fn connected(&self, end: usize, connected: bool) {
        if let Some(flag) = self.lock().connected.get_mut(end) {
            *flag = connected;
        }
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;

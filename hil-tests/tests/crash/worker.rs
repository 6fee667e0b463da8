//! The process that is killed: this program, started again with a data directory and a socket to tell on.
//!
//! It works in lockstep: an observation is handed over when the one before it is accepted. So the same history makes the
//! same system calls every time. What the buffer has promised is told when it is asked for, by a thread of its own that
//! looks at the ledgers at that moment: whoever stopped the buffer's thread learns what it has promised up to there.
//!
//! A third thread does nothing but open the store, which starts the buffer's thread. These two alone are traced.

use std::env;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::gettid;

use crate::buffer::{Ledgers, Limits, Log, Mark, NARROW, RARE, Resource, Store, WIDE};
use crate::known::Known;
use crate::promises::Promises;

const SOCKET: &str = "GANGLION_CRASH_SOCKET";
const DATA_DIR: &str = "GANGLION_CRASH_DATA_DIR";
const HISTORY: &str = "GANGLION_CRASH_HISTORY";
const LOG: &str = "GANGLION_CRASH_LOG";
const BEFORE: &str = "GANGLION_CRASH_BEFORE";

/// A commit at every third long observation, and none by time: it would come at another place every time.
pub(crate) const LIMITS: Limits =
    Limits { segment_bytes: 4096, segments: 6, commit_interval: Duration::from_secs(3600), commit_bytes: 1000 };

/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum History {
    /// Begins a store; accepts, commits, acknowledges, rotates, recycles, evicts, removes; closes it and goes on with it.
    Whole,
    /// Goes on with a store that another process left.
    Restart,
}

/// Returns the command that starts the process, with its data directory and its socket; it runs the test `name`, which must call [`run_if_asked`] first.
pub(crate) fn command(name: &str, place: (&Path, &Path), log: Log, history: History, before: &Promises) -> Command {
    let (data_dir, socket) = place;
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args(["--exact", name, "--nocapture"])
        .env(SOCKET, socket)
        .env(DATA_DIR, data_dir)
        .env(HISTORY, format!("{history:?}"))
        .env(LOG, format!("{log:?}"))
        .env(BEFORE, before.to_string());
    command
}

/// Is the process that is killed, if this is that one; then it does not return.
pub(crate) fn run_if_asked() {
    let Some(socket) = env::var_os(SOCKET) else { return };
    let var = |name| env::var(name).expect("told by whoever started it");
    let before = Promises::parse(&var(BEFORE)).expect("promises");
    let mut worker =
        Worker::start(Path::new(&socket), &PathBuf::from(var(DATA_DIR)), Log::named(&var(LOG)).expect("a log"), before);
    if var(HISTORY) == format!("{:?}", History::Whole) {
        worker.whole()
    } else {
        worker.restart()
    }
    process::exit(0);
}

struct Worker {
    log: Log,
    known: Arc<Mutex<Known>>,
    /// To the thread that opens the store.
    ledgers: mpsc::Sender<Ledgers>,
    stores: mpsc::Receiver<Store>,
}

impl Worker {
    /// Tells which thread opens the store, and waits for the word to go.
    fn start(socket: &Path, data_dir: &Path, log: Log, before: Promises) -> Self {
        let known = Arc::new(Mutex::new(Known::new(log, before)));
        let mut stream = UnixStream::connect(socket).expect("whoever started it listens");
        let (ledgers, wanted) = mpsc::channel();
        let (opened, stores) = mpsc::channel();
        let (thread, opener) = mpsc::channel();
        let data_dir = data_dir.to_owned();
        thread::spawn(move || {
            thread.send(gettid()).expect("it waits");
            for ledgers in wanted {
                let store = Store::open(&data_dir, &LIMITS, &ledgers).expect("opened");
                opened.send(store).expect("it waits");
            }
        });
        writeln!(stream, "{}", opener.recv().expect("its number")).expect("told");
        let (go, gone) = mpsc::channel();
        let teller = Arc::clone(&known);
        thread::spawn(move || {
            let asked = BufReader::new(stream.try_clone().expect("a handle"));
            for line in asked.lines() {
                match line.as_deref() {
                    Ok("go") => go.send(()).expect("it waits"),
                    Ok("tell") => {
                        let promises = teller.lock().expect("nobody panics").promises();
                        writeln!(stream, "{promises}").expect("told");
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        gone.recv().expect("the word to go");
        Self { log, known, ledgers, stores }
    }

    fn whole(&mut self) {
        let mut store = self.open();
        self.append(&store, RARE);
        // Delivery keeps up: what is delivered is recycled.
        for _ in 0..4 {
            self.append_mixed(&store, 4);
            self.deliver(&mut store);
        }
        // Nothing is delivered: spares are made as far as the quota goes, then the oldest segments are given up.
        while self.lock().evicted() < 12 {
            self.append_mixed(&store, 1);
        }
        // Delivered again: more segments come free than are kept spare.
        self.deliver(&mut store);
        self.append_mixed(&store, 8);
        self.close(store);
        let mut store = self.open();
        self.append_mixed(&store, 8);
        // What is new goes out, and behind it the rest of what the first run left.
        self.deliver_new(&mut store);
        self.append_mixed(&store, 4);
        self.deliver(&mut store);
        self.append_mixed(&store, 1);
        self.close(store);
    }

    fn restart(&mut self) {
        let mut store = self.open();
        self.append_mixed(&store, 5);
        self.deliver_new(&mut store);
        self.append_mixed(&store, 5);
        self.close(store);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics")
    }

    fn promises(&self) -> Promises {
        self.lock().promises()
    }

    fn open(&self) -> Store {
        let known = Known::new(self.log, self.promises());
        let ledgers = known.ledgers.clone();
        *self.lock() = known;
        self.ledgers.send(ledgers).expect("it waits");
        let store = self.stores.recv().expect("opened");
        self.lock().opened();
        store
    }

    fn append_mixed(&self, store: &Store, times: u32) {
        for _ in 0..times {
            [NARROW, WIDE].into_iter().for_each(|resource| self.append(store, resource));
        }
    }

    /// Hands over one observation and waits until it is accepted.
    fn append(&self, store: &Store, resource: Resource) {
        let number = self.promises().0[resource].accepted + 1;
        store.append(resource, Mark { maker: 1, number });
        let deadline = Instant::now() + PATIENCE;
        while self.promises().0[resource].accepted < number {
            assert!(Instant::now() < deadline, "not accepted in {PATIENCE:?}");
            thread::sleep(Duration::from_micros(20));
        }
    }

    /// Reads and acknowledges everything that is durable.
    fn deliver(&self, store: &mut Store) {
        while !store.is_all_delivered() {
            self.deliver_once(store, usize::MAX);
        }
    }

    /// Reads and acknowledges what is new, in the first lane.
    fn deliver_new(&self, store: &mut Store) {
        let durable = self.promises().0[WIDE].durable;
        while !self.promises().0[WIDE].acknowledged.0.contains(&durable) {
            self.deliver_once(store, 1);
        }
    }

    fn deliver_once(&self, store: &mut Store, lanes: usize) {
        let read = store.read(lanes).expect("the intake is open");
        self.lock().acknowledging(&read);
        store.acknowledge();
    }

    fn close(&self, store: Store) {
        store.close();
        self.lock().closed();
    }
}

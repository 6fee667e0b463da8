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
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use nix::unistd::gettid;

use crate::buffer::{Ledgers, Limits, Mark, NARROW, RARE, Resource, Store, WIDE};
use crate::known::Known;
use crate::promises::{Promises, RESOURCES};

const SOCKET: &str = "GANGLION_CRASH_SOCKET";
const DATA_DIR: &str = "GANGLION_CRASH_DATA_DIR";
const HISTORY: &str = "GANGLION_CRASH_HISTORY";
const BEFORE: &str = "GANGLION_CRASH_BEFORE";

/// A commit at every third long observation, and none by time: it would come at another place every time.
pub(crate) const LIMITS: Limits =
    Limits { segment_bytes: 4096, segments: 6, commit_interval: Duration::from_secs(3600), commit_bytes: 1000 };

/// What the process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum History {
    /// Begins a store; accepts, commits, acknowledges, rotates, recycles, evicts, removes; closes it and goes on with it.
    Whole,
    /// Goes on with a store that another process left.
    Restart,
}

/// Returns the command that starts the process; it runs the test `name`, which must call [`run_if_asked`] first.
pub(crate) fn command(name: &str, data_dir: &Path, socket: &Path, history: History, before: &Promises) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args(["--exact", name, "--nocapture"])
        .env(SOCKET, socket)
        .env(DATA_DIR, data_dir)
        .env(HISTORY, format!("{history:?}"))
        .env(BEFORE, before.to_string());
    command
}

/// Is the process that is killed, if this is that one; then it does not return.
pub(crate) fn run_if_asked() {
    let Some(socket) = env::var_os(SOCKET) else { return };
    let var = |name| env::var(name).expect("told by whoever started it");
    let before = Promises::parse(&var(BEFORE)).expect("promises");
    let mut worker = Worker::start(Path::new(&socket), &PathBuf::from(var(DATA_DIR)), &before);
    if var(HISTORY) == format!("{:?}", History::Whole) {
        worker.whole()
    } else {
        worker.restart()
    }
    process::exit(0);
}

struct Worker {
    known: Arc<Mutex<Known>>,
    /// To the thread that opens the store.
    ledgers: mpsc::Sender<Ledgers>,
    stores: mpsc::Receiver<Store>,
}

impl Worker {
    /// Tells which thread opens the store, and waits for the word to go.
    fn start(socket: &Path, data_dir: &Path, before: &Promises) -> Self {
        let known = Arc::new(Mutex::new(Known::new(*before)));
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
        Self { known, ledgers, stores }
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
        while self.promises().0[WIDE].evicted < 8 {
            self.append_mixed(&store, 1);
        }
        // Delivered again: more segments come free than are kept spare.
        self.deliver(&mut store);
        self.append_mixed(&store, 8);
        self.close(store);
        let mut store = self.open();
        self.append_mixed(&store, 2);
        self.deliver(&mut store);
        self.append_mixed(&store, 1);
        self.close(store);
    }

    fn restart(&mut self) {
        let mut store = self.open();
        self.append_mixed(&store, 5);
        self.deliver(&mut store);
        self.append_mixed(&store, 5);
        self.close(store);
    }

    fn promises(&self) -> Promises {
        self.known.lock().expect("nobody panics").promises()
    }

    fn open(&self) -> Store {
        let known = Known::new(self.promises());
        let ledgers = known.ledgers.clone();
        *self.known.lock().expect("nobody panics") = known;
        self.ledgers.send(ledgers).expect("it waits");
        let store = self.stores.recv().expect("opened");
        self.known.lock().expect("nobody panics").opened();
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
        while self.promises().0[resource].accepted < number {
            thread::sleep(Duration::from_micros(20));
        }
    }

    /// Reads and acknowledges everything that is durable.
    fn deliver(&self, store: &mut Store) {
        let durable = self.promises().0;
        while RESOURCES.iter().any(|own| self.promises().0[*own].acknowledged < durable[*own].durable) {
            // What the quota has taken by now is older than what is read next.
            let passed = self.known.lock().expect("nobody panics").taken();
            let seen = store.read().expect("the intake is open");
            // Noted before it is done: what was perhaps acknowledged need not be there any more.
            let mut known = self.known.lock().expect("nobody panics");
            for seen in seen {
                assert_eq!(seen.mark.number, seen.number, "{seen:?}");
                known.acknowledged[seen.resource] = seen.number;
            }
            known.passed = passed;
            drop(known);
            store.acknowledge();
        }
    }

    fn close(&self, store: Store) {
        store.close();
        self.known.lock().expect("nobody panics").closed();
    }
}

//! The first and only process of the virtual machine whose power is cut: this program, started by the kernel.
//!
//! It uses a buffer on the machine's disk, and writes what was promised to a sector of the same disk, behind the file
//! system, past the page cache and without a flush. So the log of the disk's writes holds each promise after everything
//! that it rests on, and the promise itself makes nothing durable.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::kmod::{ModuleInitFlags, finit_module};
use nix::libc::O_DIRECT;
use nix::mount::{MsFlags, mount};

use crate::buffer::{Limits, Log, Mark, NARROW, RARE, Store, WIDE};
use crate::known::Known;
use crate::promises::{Numbers, Promises};

/// On the kernel's command line, which gives it to its first process: the log that it uses.
pub(crate) const GUEST: &str = "GANGLION_CRASH_GUEST";

/// Short commits and small segments: much happens in a few seconds.
pub(crate) const LIMITS: Limits =
    Limits { segment_bytes: 16 * 1024, segments: 6, commit_interval: Duration::from_millis(40), commit_bytes: 6000 };

/// Where the file system ends and the promises are written.
pub(crate) const FILE_SYSTEM_BYTES: u64 = 16 << 20;
/// Length of a disk's sector.
pub(crate) const SECTOR: usize = 512;
/// Length of a promise: the longest text of it, in whole sectors.
const PROMISE: usize = 8 * SECTOR;
/// How a promise begins.
pub(crate) const MARK: &str = "promised ";

/// Name of the data directory in the file system.
pub(crate) const DATA_DIR: &str = "ganglion";
/// Folder of the kernel modules in the first file system; they are loaded in the order of their names.
pub(crate) const MODULES: &str = "/modules";
/// Where the disk is mounted.
pub(crate) const DISK: &str = "/disk";

/// What it says last; without it the machine failed.
pub(crate) const END: &str = "the guest has written its history";

/// How long the buffer is used.
const HISTORY: Duration = Duration::from_secs(9);
/// Parts of the history: in each the store is opened, used and closed.
const PARTS: u32 = 3;
/// The cursor is written within a second of an acknowledgement; the rest is for a slow machine's fsync.
const CURSOR_AGE: Duration = Duration::from_secs(3);
/// Between two promises.
const PAUSE: Duration = Duration::from_millis(4);

/// Is the guest, if this is that one; then it does not return.
pub(crate) fn run_if_asked() {
    if env::var_os(GUEST).is_none() {
        return;
    }
    mount_all();
    let disk = OpenOptions::new().write(true).custom_flags(O_DIRECT).open("/dev/vda").expect("the disk");
    let log = env::var(GUEST).ok().and_then(|log| Log::named(&log)).expect("the name of a log");
    let known = Arc::new(Mutex::new(Known::new(log, Promises::default())));
    let over = Arc::new(AtomicBool::new(false));
    let teller = {
        let (known, over) = (Arc::clone(&known), Arc::clone(&over));
        thread::spawn(move || tell(&disk, &known, &over))
    };
    let mut rng = fastrand::Rng::with_seed(1);
    for part in 0..PARTS {
        use_a_store(&known, log, &mut rng, part);
    }
    over.store(true, Ordering::Relaxed);
    teller.join().expect("told everything");
    // The log says how long it is when something is flushed.
    File::open(DISK).and_then(|folder| folder.sync_all()).expect("synced");
    fs::write(Path::new(DISK).join("end"), "").expect("written");
    nix::unistd::sync();
    println!("{END}");
    // The kernel panics when its first process ends, and the machine stops.
    process::exit(0);
}

fn mount_all() {
    let mut modules: Vec<OsString> =
        fs::read_dir(MODULES).expect("modules").map(|entry| entry.expect("readable").path().into()).collect();
    modules.sort();
    for module in modules {
        let file = File::open(&module).expect("a module");
        finit_module(&file, c"", ModuleInitFlags::empty()).unwrap_or_else(|error| panic!("{module:?}: {error}"));
    }
    let mount = |source: &str, target: &str, kind: &str| {
        mount(Some(source), target, Some(kind), MsFlags::empty(), None::<&str>)
            .unwrap_or_else(|error| panic!("{target}: {error}"));
    };
    mount("devtmpfs", "/dev", "devtmpfs");
    mount("/dev/vda", DISK, "ext4");
}

/// Writes every promise to the disk, each once the one before it is there.
fn tell(disk: &File, known: &Mutex<Known>, over: &AtomicBool) {
    // O_DIRECT wants memory that begins at a sector.
    let mut memory = vec![0; PROMISE + SECTOR];
    let start = memory.as_ptr().align_offset(SECTOR);
    let promise = &mut memory[start..start + PROMISE];
    let mut acknowledged: VecDeque<(Instant, [Numbers; 3])> = VecDeque::new();
    let mut kept: [Numbers; 3] = Default::default();
    loop {
        // Asked first: the last promise is told then.
        let last = over.load(Ordering::Relaxed);
        let mut promises = known.lock().expect("nobody panics").promises();
        let now = Instant::now();
        acknowledged.push_back((now, promises.0.clone().map(|promise| promise.acknowledged)));
        while let Some((_, old)) = acknowledged.pop_front_if(|(at, _)| *at + CURSOR_AGE < now) {
            kept = old;
        }
        for (promise, kept) in promises.0.iter_mut().zip(&kept) {
            promise.kept.0.extend(&kept.0);
        }
        let text = format!("{MARK}{promises}\n");
        promise.fill(0);
        promise[..text.len()].copy_from_slice(text.as_bytes());
        disk.write_all_at(promise, FILE_SYSTEM_BYTES).expect("written");
        if last {
            return;
        }
        thread::sleep(PAUSE);
    }
}

fn use_a_store(known: &Mutex<Known>, log: Log, rng: &mut fastrand::Rng, part: u32) {
    let lock = || known.lock().expect("nobody panics");
    let ledgers = {
        let mut known = lock();
        *known = Known::new(log, known.promises());
        known.ledgers.clone()
    };
    let mut store = Store::open(&Path::new(DISK).join(DATA_DIR), &LIMITS, &ledgers).expect("opened");
    lock().opened();
    let mut made = lock().promises().0.map(|promise| promise.accepted);
    let mut append = |store: &Store, resource: usize| {
        made[resource] += 1;
        store.append(resource, Mark { maker: 1, number: made[resource] });
    };
    if part == 0 {
        append(&store, RARE);
    }
    let begun = Instant::now();
    let whole = HISTORY / PARTS;
    while begun.elapsed() < whole {
        for _ in 0..rng.u32(1..4) {
            append(&store, if rng.bool() { NARROW } else { WIDE });
        }
        // The link is there at the beginning and at the end, and cut in between: long enough for the quota to be spent.
        let share = begun.elapsed().as_secs_f64() / whole.as_secs_f64();
        if !(0.3..0.8).contains(&share) && !store.is_all_delivered() {
            let read = store.read(usize::MAX).expect("the intake is open");
            lock().acknowledging(&read);
            store.acknowledge();
        }
        thread::sleep(Duration::from_millis(rng.u64(0..6)));
    }
    store.close();
    lock().closed();
}

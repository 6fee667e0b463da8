//! The demo: a site, a broker that is cut and comes back, the real daemon, and a subscriber that counts.
//!
//! | time | what happens |
//! |---|---|
//! | 0 | everything starts; the daemon polls and delivers |
//! | 1/3 | the broker is cut; the daemon goes on polling and keeps everything on disk |
//! | 1/2 | the broker is back; the backlog goes out, in order |
//! | 5/6 | SIGTERM to the daemon: it stops polling, delivers what is left and ends |
//! | end | the ledger: sampled, durable, delivered, received, duplicated, lost |
//!
//! Everything lives in a temporary folder and on 127.0.0.1, and is gone afterwards.

mod daemon;
mod ledger;
mod stage;
mod table;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use daemon::{Counts, Daemon, Snapshot, Uplink};
pub use ledger::{End, Ledger, Row};
pub use stage::{Simulated, Stage};

use table::Screen;

/// Pause between two looks at everything.
const STEP: Duration = Duration::from_millis(250);

/// Pause between two tables when the output is no terminal.
const TABLE_EVERY: Duration = Duration::from_secs(5);

/// How long the daemon may take to drain and end.
const DRAIN: Duration = Duration::from_secs(20);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon's binary.
    pub daemon: PathBuf,
    /// Folder with `directory` and `templates`.
    pub configs: PathBuf,
    /// How long it polls and drains, without starting up and counting.
    pub duration: Duration,
    /// Nothing but the ledger, as JSON.
    pub json: bool,
}

/// Runs the demo and prints the ledger; says whether nothing was lost.
///
/// # Errors
/// When something cannot be started, or the daemon ends by itself.
pub fn run(options: &Options) -> io::Result<bool> {
    let interrupts = watch_interrupts()?;
    let mut stage = Stage::set(&options.configs)?;
    let mut daemon = Daemon::start(&options.daemon, &stage.site_file, &stage.data_dir, &stage.log)?;
    let mut show = Show::new(options.json);
    let outage = match play(options, &mut stage, &mut daemon, &mut show, &interrupts) {
        Ok(outage) => outage,
        Err(error) => {
            // First give the terminal back, then say why.
            drop(show);
            stage.print_log_end();
            return Err(error);
        }
    };
    let interrupted = interrupts.load(Ordering::Relaxed) > 0;
    // Also when it was interrupted during the outage.
    stage.broker.restore()?;
    daemon.terminate()?;
    let deadline = Instant::now() + DRAIN;
    while daemon.is_running()? && Instant::now() < deadline && interrupts.load(Ordering::Relaxed) < 2 {
        show.tell("the daemon was told to stop: it delivers what is left", &stage, daemon.status())?;
        thread::sleep(STEP);
    }
    let drained = daemon.end()?;
    let last = daemon.last_status();
    // The broker may still be handing over what it acknowledged to the daemon.
    stage.wait_for_the_rest(last.as_ref(), Duration::from_secs(5));
    let ledger = stage
        .subscriber
        .look(|view| Ledger::draw(&stage.devices, &view.received, last.as_ref(), End { outage, drained, interrupted }));
    drop(show);
    let mut out = io::stdout().lock();
    if options.json {
        serde_json::to_writer_pretty(&mut out, &ledger)?;
        writeln!(out)?;
    } else {
        write!(out, "{ledger}")?;
    }
    if !drained {
        stage.print_log_end();
    }
    Ok(ledger.ok)
}

/// Plays the parts up to the daemon's end, or to an interrupt; returns how long the broker was away.
fn play(
    options: &Options,
    stage: &mut Stage,
    daemon: &mut Daemon,
    show: &mut Show,
    interrupts: &AtomicUsize,
) -> io::Result<Duration> {
    let begin = Instant::now();
    let mut away_since = None;
    let mut outage = Duration::ZERO;
    while begin.elapsed() < options.duration * 5 / 6 && interrupts.load(Ordering::Relaxed) == 0 {
        let cut = (options.duration / 3..options.duration / 2).contains(&begin.elapsed());
        match (cut, away_since) {
            (true, None) => {
                stage.broker.cut();
                away_since = Some(Instant::now());
            }
            (false, Some(since)) => {
                stage.broker.restore()?;
                outage = since.elapsed();
                away_since = None;
            }
            _ => {}
        }
        if !daemon.is_running()? {
            return Err(io::Error::other("the daemon ended by itself"));
        }
        let act = match (cut, outage.is_zero()) {
            (true, _) => "the broker is CUT: readings wait on disk",
            (false, true) => "polling and delivering",
            (false, false) => "the broker is back: the backlog went out in order",
        };
        show.tell(act, stage, daemon.status())?;
        thread::sleep(STEP);
    }
    Ok(away_since.map_or(outage, |since| since.elapsed()))
}

/// Counts Ctrl-C and SIGTERM from now on; the first one ends the demo in order, the second one stops waiting.
fn watch_interrupts() -> io::Result<Arc<AtomicUsize>> {
    use tokio::signal::unix::{SignalKind, signal};
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
    })?;
    Ok(count)
}

/// What is shown while it runs.
enum Show {
    Nothing,
    Screen(Screen),
    Log(Option<(Instant, String)>),
}

impl Show {
    fn new(quiet: bool) -> Self {
        match (quiet, io::stdout().is_terminal()) {
            (true, _) => Self::Nothing,
            (false, true) => Self::Screen(Screen::open()),
            (false, false) => Self::Log(None),
        }
    }

    fn tell(&mut self, act: &str, stage: &Stage, status: Option<&Snapshot>) -> io::Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Screen(screen) => screen.draw(&table::text(act, stage, status)),
            Self::Log(last) => {
                let told = last.as_ref().is_some_and(|(at, of)| of == act && at.elapsed() < TABLE_EVERY);
                if told {
                    return Ok(());
                }
                *last = Some((Instant::now(), act.to_owned()));
                writeln!(io::stdout().lock(), "{}", table::text(act, stage, status))
            }
        }
    }
}

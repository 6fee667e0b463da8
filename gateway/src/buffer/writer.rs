//! The thread that owns the disk: takes what arrives for both logs, commits what is due, ends when nothing is left to do.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::mpsc::Receiver;

use super::log::Log;
use super::shared::Shared;
use crate::pipeline::Offered;

/// Most observations of one batch; they become one frame unless they are long.
const BATCH: usize = 256;

/// A log with what feeds it.
pub(super) struct Served {
    log: Log,
    shared: Arc<Shared>,
    intake: Receiver<Offered>,
    batch: Vec<Offered>,
    open: bool,
}

impl Served {
    pub(super) fn new(log: Log, intake: Receiver<Offered>) -> Self {
        let shared = Arc::clone(&log.shared);
        Self { log, shared, intake, batch: Vec::with_capacity(BATCH), open: true }
    }

    /// Does the next thing that is to be done for this log when it is: takes a batch, or notes what the outlets say.
    /// Cancel-safe.
    async fn turn(&mut self) {
        // With the cursor due anyway, a word of every acknowledgement would only cost.
        let listens = !self.open || self.log.cursor_due.is_none() || self.shared.has_found();
        tokio::select! {
            count = self.intake.recv_many(&mut self.batch, BATCH), if self.open => {
                let now = Instant::now();
                if count == 0 {
                    self.open = false;
                    self.log.commit(now);
                    self.shared.close();
                } else {
                    self.log.append(&mut self.batch, now);
                }
            }
            () = self.shared.acked.notified(), if listens => self.log.acknowledged(Instant::now()),
            else => std::future::pending().await,
        }
    }

    /// Says whether nothing is left to do, having kept the last acknowledgements.
    fn is_done(&mut self) -> bool {
        let done = !self.open && self.shared.outlets_are_gone();
        if done {
            self.log.save_cursor(Instant::now());
        }
        done
    }
}

/// Starts the thread. It ends when both intakes are closed and all outlets dropped. `held` lives as long as it does.
pub(super) fn start(served: (Served, Served), held: impl Send + 'static) -> io::Result<JoinHandle<()>> {
    // A timer and nothing else: every disk operation blocks this thread, which is what it is for.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("buffer".to_owned()).spawn(move || {
        let _close = CloseOnDrop([Arc::clone(&served.0.shared), Arc::clone(&served.1.shared)]);
        runtime.block_on(run(served.0, served.1));
        drop(held);
    })
}

/// Serves both logs, the first one first.
async fn run(mut first: Served, mut second: Served) {
    loop {
        let due = [first.log.due(), second.log.due()].into_iter().flatten().min();
        tokio::select! {
            biased;
            () = first.turn() => {}
            () = second.turn() => {}
            () = until(due), if due.is_some() => {}
        }
        let now = Instant::now();
        first.log.tick(now);
        second.log.tick(now);
        if !first.open && !second.open && first.is_done() && second.is_done() {
            return;
        }
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}

/// Lets the outlets end whatever became of the thread.
struct CloseOnDrop([Arc<Shared>; 2]);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.iter().for_each(|shared| shared.close());
    }
}

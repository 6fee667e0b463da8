//! The thread that owns the disk: takes what arrives, commits what is due, ends when nothing is left to do.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::mpsc::Receiver;

use super::log::Log;
use super::shared::Shared;
use crate::pipeline::Unnumbered;

/// Most observations of one batch; they become one frame unless they are long.
const BATCH: usize = 256;

/// Starts the thread. It ends when the intake is closed and the outlet dropped. `held` lives as long as it does.
pub(super) fn start(log: Log, intake: Receiver<Unnumbered>, held: impl Send + 'static) -> io::Result<JoinHandle<()>> {
    // A timer and nothing else: every disk operation blocks this thread, which is what it is for.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new().name("buffer".to_owned()).spawn(move || {
        let _close = CloseOnDrop(Arc::clone(&log.shared));
        runtime.block_on(run(log, intake));
        drop(held);
    })
}

async fn run(mut log: Log, mut intake: Receiver<Unnumbered>) {
    let shared = Arc::clone(&log.shared);
    let mut batch = Vec::with_capacity(BATCH);
    let mut open = true;
    loop {
        let due = log.due();
        let listens = !open || log.cursor_due.is_none();
        tokio::select! {
            count = intake.recv_many(&mut batch, BATCH), if open => {
                let now = Instant::now();
                if count == 0 {
                    open = false;
                    log.commit(now);
                    shared.close();
                } else {
                    log.append(&mut batch, now);
                }
            }
            // With the cursor due anyway, a word of every acknowledgement would only cost.
            () = shared.acked.notified(), if listens => log.acknowledged(Instant::now()),
            () = until(due), if due.is_some() => {}
        }
        log.tick(Instant::now());
        if !open && shared.outlet_is_gone() {
            log.save_cursor(Instant::now());
            return;
        }
    }
}

async fn until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}

/// Lets the outlet end whatever became of the thread.
struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

//! Ends a group of tasks and waits until the last one has ended.

use std::sync::mpsc;

use tokio::sync::watch;

/// Held by whoever may end the tasks.
#[derive(Debug)]
pub(crate) struct Gate {
    open: watch::Sender<()>,
    ended: mpsc::Receiver<()>,
}

/// Held by each task until its end.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    open: watch::Receiver<()>,
    _alive: mpsc::Sender<()>,
}

impl Gate {
    pub(crate) fn new() -> (Self, Pass) {
        let (gate, open) = watch::channel(());
        let (alive, ended) = mpsc::channel();
        (Self { open: gate, ended }, Pass { open, _alive: alive })
    }

    /// Ends the tasks; returns when all have ended.
    pub(crate) fn close(self) {
        drop(self.open);
        // Nothing is ever sent: the channel ends when the last pass is gone.
        while self.ended.recv().is_ok() {}
    }
}

impl Pass {
    /// Waits until the gate closes.
    pub(crate) async fn closed(&mut self) {
        while self.open.changed().await.is_ok() {}
    }
}

//! The way of refused messages to the dead letters, past the uplink: a disk that takes its time delays no delivery.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tracing::{error, warn};

use super::dead_letter::{DeadLetters, Letter};
use crate::clock;
use crate::monitor::Monitor;

/// Letters that may wait for the disk; what is more is not kept.
const WAITING: usize = 64;
/// Most bytes of dead letters.
const MAX_BYTES: u64 = super::dead_letter::DEFAULT_MAX_BYTES;

/// Takes refused messages. Its thread starts with the first one.
#[derive(Debug)]
pub(super) struct LetterBox {
    data_dir: Option<PathBuf>,
    monitor: Arc<Monitor>,
    slot: Mutex<Option<SyncSender<(String, String, Vec<u8>)>>>,
}

impl LetterBox {
    /// Keeps letters under a data directory; without one there is nowhere to keep any.
    pub(super) const fn new(data_dir: Option<PathBuf>, monitor: Arc<Monitor>) -> Self {
        Self { data_dir, monitor, slot: Mutex::new(None) }
    }

    /// Keeps a message for a person. Never waits.
    pub(super) fn put(&self, topic: &str, reason: &str, payload: &[u8]) {
        let Some(data_dir) = self.data_dir.clone() else { return };
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = slot.get_or_insert_with(|| start(data_dir, Arc::clone(&self.monitor)));
        if sender.try_send((topic.to_owned(), reason.to_owned(), payload.to_vec())).is_err() {
            warn!(topic, "a refused message is not kept: the dead letters before it are not written yet");
        }
    }
}

fn start(data_dir: PathBuf, monitor: Arc<Monitor>) -> SyncSender<(String, String, Vec<u8>)> {
    let (sender, letters) = sync_channel::<(String, String, Vec<u8>)>(WAITING);
    // Ends with the box. Whoever cannot start a thread keeps no letters: the channel is closed then.
    let started = thread::Builder::new().name("dead-letters".to_owned()).spawn(move || {
        let mut kept = DeadLetters::open(&data_dir, MAX_BYTES);
        while let Ok((topic, reason, payload)) = letters.recv() {
            let letter = Letter { topic: &topic, reason: &reason, t: clock::now(), payload: &payload };
            if let Err(error) = kept.put(&letter) {
                warn!(topic, %error, "a refused message cannot be kept");
            }
            monitor.uplink(|state| state.dead_letters = Some(kept.stats()));
        }
    });
    if let Err(error) = started {
        error!(%error, "dead letters cannot be kept");
    }
    sender
}

//! What the buses have learnt about their devices, kept over restarts in `learned.json` of the data directory.
//!
//! The file is a convenience: a gateway without it, or with one that cannot be read, learns everything anew within a few
//! polls. It is written whole or not at all. What was learnt about a device is dropped when its template or unit id has
//! changed since: then it is another device.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ganglion_drivers::learn::Fact;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::fact::{StoredFact, from_stored, to_stored};
use crate::site::Device;

/// The file's format.
const VERSION: u32 = 1;

/// The store of one gateway, shared by its buses.
#[derive(Clone, Debug)]
pub struct Learned(Arc<Mutex<Store>>);

#[derive(Debug)]
struct Store {
    path: Option<PathBuf>,
    file: LearnedFile,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct LearnedFile {
    version: u32,
    devices: BTreeMap<String, DeviceFacts>,
}

/// What is known of one device.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct DeviceFacts {
    template: String,
    unit: u8,
    facts: Vec<StoredFact>,
}

/// Returns where the store of a data directory is.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("learned.json")
}

impl Learned {
    /// Opens the store of a data directory; what cannot be read is forgotten, with a warning.
    #[must_use]
    pub fn open(data_dir: &Path) -> Self {
        let path = path(data_dir);
        let file = match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice::<LearnedFile>(&bytes) {
                Ok(file) if file.version == VERSION => file,
                Ok(LearnedFile { version, .. }) => {
                    warn!(path = %path.display(), version, "what was learnt is of another version, it is learnt anew");
                    LearnedFile::default()
                }
                Err(error) => {
                    warn!(path = %path.display(), %error, "what was learnt cannot be read, it is learnt anew");
                    LearnedFile::default()
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => LearnedFile::default(),
            Err(error) => {
                warn!(path = %path.display(), %error, "what was learnt cannot be read, it is learnt anew");
                LearnedFile::default()
            }
        };
        Self(Arc::new(Mutex::new(Store { path: Some(path), file })))
    }

    /// Returns a store that keeps nothing beyond the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Arc::new(Mutex::new(Store { path: None, file: LearnedFile::default() })))
    }

    /// Returns what is known of a device.
    #[must_use]
    pub fn of(&self, device: &Device) -> Vec<Fact> {
        let store = self.lock();
        let known = store.file.devices.get(&device.name);
        let known = known.filter(|known| known.template == device.template && known.unit == device.unit.0);
        known.into_iter().flat_map(|known| known.facts.iter().filter_map(from_stored)).collect()
    }

    /// Keeps what is known of some devices. Not in an async task: it writes a file.
    ///
    /// # Errors
    /// When the file cannot be written; what is known stays known until the process ends.
    pub fn keep(&self, devices: impl IntoIterator<Item = (Device, Vec<Fact>)>) -> io::Result<()> {
        let mut store = self.lock();
        for (Device { name, template, unit, .. }, facts) in devices {
            let facts: Vec<_> = facts.into_iter().map(to_stored).collect();
            if facts.is_empty() {
                store.file.devices.remove(&name);
            } else {
                store.file.devices.insert(name, DeviceFacts { template, unit: unit.0, facts });
            }
        }
        store.file.version = VERSION;
        let Some(path) = &store.path else { return Ok(()) };
        let new = path.with_extension("json.new");
        let bytes = serde_json::to_vec_pretty(&store.file).map_err(io::Error::from)?;
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        // Before it takes the old one's place, or a power cut may leave an empty one there.
        file.sync_all()?;
        fs::rename(new, path)
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // Whoever panicked left a map of plain values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shortest time between two writes of one bus, for flash wears.
pub(super) const KEEP_EVERY: Duration = Duration::from_secs(10);

//! The status socket: whoever connects reads one JSON document, the monitor's snapshot, and the end of the stream.
//!
//! A Unix socket in the data directory, for the user of the daemon and root only: it asks nothing and takes nothing, so
//! there is nothing in it to attack. `ganglion status` and the tests read it. When the daemon ends, the last snapshot
//! stays beside it as a file.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tracing::warn;

use crate::monitor::Monitor;

/// Longest time a reader may take to read the document.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns the path of the status socket.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("status.sock")
}

/// Returns the path of the snapshot left when the daemon ended.
#[must_use]
pub fn last_path(data_dir: &Path) -> PathBuf {
    data_dir.join("last-status.json")
}

/// Opens the socket in place of one that an earlier daemon left. The caller holds the lock of the data directory.
///
/// # Errors
/// When the data directory cannot be written.
pub fn listen(data_dir: &Path) -> io::Result<UnixListener> {
    let path = socket_path(data_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers every connection until the task is ended.
pub async fn serve(listener: UnixListener, monitor: Arc<Monitor>) {
    loop {
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "status socket refuses connections for a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        let document = document(&monitor);
        tokio::spawn(async move {
            // A reader that leaves early or stalls misses its own answer and nobody else's.
            drop(tokio::time::timeout(PATIENCE, stream.write_all(&document)).await);
        });
    }
}

/// Leaves the last snapshot as a file, whole or not at all.
///
/// # Errors
/// When the data directory cannot be written.
pub fn leave(data_dir: &Path, monitor: &Monitor) -> io::Result<()> {
    let path = last_path(data_dir);
    let new = path.with_extension("json.new");
    fs::write(&new, document(monitor))?;
    fs::rename(new, path)
}

/// Reads the document of a running daemon.
///
/// # Errors
/// When no daemon listens there or it does not answer in time.
pub fn read(data_dir: &Path) -> io::Result<serde_json::Value> {
    let mut stream = UnixStream::connect(socket_path(data_dir))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut document = Vec::new();
    stream.read_to_end(&mut document)?;
    serde_json::from_slice(&document).map_err(io::Error::from)
}

fn document(monitor: &Monitor) -> Vec<u8> {
    // Maps with text keys, numbers and texts: nothing in a snapshot can be refused by JSON.
    serde_json::to_vec_pretty(&monitor.snapshot()).unwrap_or_default()
}

//! Disks of virtual machines: files with an ext4 in them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;

use crate::peers::{PeerError, installed};

const MKE2FS: &str = "mke2fs";

/// Makes the new file `disk`: an ext4 of `bytes`, as Debian's installer makes it, and `behind` bytes after it.
///
/// # Errors
/// [`PeerError::Missing`] when mke2fs is not installed, [`PeerError::Io`] when the file cannot be made.
pub fn make(disk: &Path, bytes: u64, behind: u64) -> Result<(), PeerError> {
    const BLOCK: u64 = 4096;
    let io = |error| PeerError::Io { peer: MKE2FS, error };
    let program = installed(MKE2FS, MKE2FS)?;
    File::create(disk).and_then(|file| file.set_len(bytes + behind)).map_err(io)?;
    let made = Command::new(program)
        .args(["-q", "-F", "-t", "ext4", "-b", &BLOCK.to_string()])
        .args(["-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"])
        .arg(disk)
        .arg((bytes / BLOCK).to_string())
        .output()
        .map_err(io)?;
    if made.status.success() {
        Ok(())
    } else {
        Err(io(io::Error::other(String::from_utf8_lossy(&made.stderr).into_owned())))
    }
}

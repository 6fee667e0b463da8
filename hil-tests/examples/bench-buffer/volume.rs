//! A file system of the bench's own: ext4 on a loop device, whose counters then say what this bench alone has written.
//!
//! It is mounted in a mount namespace of this process and detached with it, however that ends. Without root the present
//! file system is used, and said to be.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{major, minor};

/// Where the engines store.
pub(crate) struct Volume {
    folder: PathBuf,
    /// Whether it is mounted.
    private: bool,
    /// Holds the file of the loop device, if there is one; removed last.
    _image: tempfile::TempDir,
    /// What it is.
    pub(crate) what: String,
}

impl Volume {
    /// Makes one in `folder` that takes so many bytes.
    pub(crate) fn make(folder: &Path, bytes: u64) -> Result<Self, String> {
        let image = tempfile::tempdir_in(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(match private(image.path(), bytes) {
            Ok(folder) => {
                Self { folder, private: true, _image: image, what: "a private ext4 on a loop device".to_owned() }
            }
            Err(why) => {
                let what = format!("the present file system, whose device others write to also ({why})");
                Self { folder: image.path().to_owned(), private: false, _image: image, what }
            }
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Empties the page cache, where this user may.
    pub(crate) fn drop_caches(&self) -> bool {
        flush(&self.folder).is_ok() && fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // What cannot be unmounted goes with the namespace; only its file stays.
        if self.private
            && let Err(error) = typed("umount", &[&self.folder])
        {
            eprintln!("bench: {error}");
        }
    }
}

fn private(image: &Path, bytes: u64) -> Result<PathBuf, String> {
    let (file, folder) = (image.join("ext4"), image.join("mounted"));
    fs::create_dir(&folder).map_err(|error| error.to_string())?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("no mount namespace: {error}"))?;
    typed("mount --make-rprivate /", &[])?;
    fill(&file, bytes).map_err(|error| format!("{}: {error}", file.display()))?;
    // All of it now: what the kernel would write later is not the engines'. And without giving back what was filled.
    typed("mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0,nodiscard", &[&file])?;
    let device = typed("losetup --find --show", &[&file])?;
    let device = Path::new(device.trim());
    // Past the page cache of the file system below, where that can be; the figures mean the same without.
    drop(typed("losetup --direct-io=on", &[device]));
    let mounted = typed("mount -t ext4", &[device, &folder]);
    // Detached with the last mount, or at once where there is none.
    typed("losetup --detach", &[device])?;
    mounted.map(|_| folder)
}

/// Writes every block of a file: what the file system below would do at the first write to one is not the engines' either.
fn fill(file: &Path, bytes: u64) -> std::io::Result<()> {
    let mut out = fs::File::create(file)?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes.div_ceil(1 << 20) {
        out.write_all(&zeros)?;
    }
    out.sync_all()
}

/// Runs a command that is to succeed; returns what it prints.
fn typed(words: &str, paths: &[&Path]) -> Result<String, String> {
    let mut words_of = words.split_whitespace();
    let output = Command::new(words_of.next().unwrap_or_default()).args(words_of).args(paths).output();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(format!("`{words}`: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("`{words}`: {error}")),
    }
}

/// Makes everything on a folder's file system durable.
pub(crate) fn flush(folder: &Path) -> Result<(), String> {
    typed("sync --file-system", &[folder]).map(drop)
}

/// The block device below a folder.
pub(crate) struct Device {
    counters: PathBuf,
}

/// What a device has done so far.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) flushes: u64,
}

impl Written {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(before.bytes), flushes: self.flushes.saturating_sub(before.flushes) }
    }
}

impl Device {
    pub(crate) fn of(folder: &Path) -> Result<Self, String> {
        let number = fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?.dev();
        Ok(Self { counters: format!("/sys/dev/block/{}:{}/stat", major(number), minor(number)).into() })
    }

    pub(crate) fn written(&self) -> Result<Written, String> {
        let failed = |why: String| format!("{}: {why}", self.counters.display());
        let text = fs::read_to_string(&self.counters).map_err(|error| failed(error.to_string()))?;
        // Documentation/block/stat.rst: the seventh field counts sectors of 512 bytes, the sixteenth flushes.
        let field = |place: usize| text.split_whitespace().nth(place).and_then(|field| field.parse::<u64>().ok());
        let sectors = field(6).ok_or_else(|| failed(format!("it says {text:?}")))?;
        Ok(Written { bytes: sectors * 512, flushes: field(15).unwrap_or(0) })
    }
}

//! What the buffer asks of a disk: files at fixed places in one directory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One flat directory of files. Nothing is durable until the matching sync returned: contents by [`StorageFile::sync`],
/// names by [`Storage::sync_dir`].
pub trait Storage: Send + Sync {
    /// Makes an empty file, or empties the one of that name.
    ///
    /// # Errors
    /// Those of the operating system, as for every method here.
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Opens a file for reading and syncing, which a read-only file system allows too.
    ///
    /// # Errors
    /// Those of the operating system.
    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn StorageFile>>;

    /// Gives a file another name; a file that had it is gone.
    ///
    /// # Errors
    /// Those of the operating system.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the operating system.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns the names of all files, in any order.
    ///
    /// # Errors
    /// Those of the operating system.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes every create, rename and remove so far durable.
    ///
    /// # Errors
    /// Those of the operating system.
    fn sync_dir(&self) -> io::Result<()>;

    /// Returns the bytes that the file system leaves for more files; `None` when it does not say.
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

/// An open file, read and written at absolute places.
pub trait StorageFile: Send + Sync {
    /// Reads at most `buf.len()` bytes from `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// Those of the operating system, as for every method here.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`; part of it may be written when this fails.
    ///
    /// # Errors
    /// Those of the operating system.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written through any handle of this file durable (fdatasync).
    ///
    /// # Errors
    /// Those of the operating system. What was written since the last success must then be taken for lost: a second
    /// sync of the same file may succeed without it.
    fn sync(&self) -> io::Result<()>;

    /// Returns the length of the file in bytes.
    ///
    /// # Errors
    /// Those of the operating system.
    fn size(&self) -> io::Result<u64>;
}

/// A directory of the real disk.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// Takes a directory; makes it, and those above it, durably when it does not exist.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn new(dir: &Path) -> io::Result<Self> {
        create_dir_durably(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Takes a directory without touching it, to look at what is there.
    pub(super) fn as_it_is(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Creates a directory and syncs each one above it that got a new entry.
fn create_dir_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir_durably(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(parent)?.sync_all(),
    }
}

impl Storage for Disk {
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(self.path(name))?;
        Ok(Box::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.path(name))?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(File::open(self.path(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        // A name that is no UTF-8 is none of ours.
        let names = fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn free_bytes(&self) -> Option<u64> {
        free_bytes(&self.dir)
    }
}

/// Returns the bytes that the file system of a directory leaves to this user; `None` when it does not say.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    let says = nix::sys::statvfs::statvfs(dir).ok()?;
    #[allow(clippy::useless_conversion, reason = "both are 32 bits wide on some targets")]
    u64::from(says.blocks_available()).checked_mul(u64::from(says.fragment_size()))
}

impl StorageFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

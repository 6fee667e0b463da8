//! A disk that keeps what it promised and not one byte more.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use crate::buffer::format::segment_name;
use crate::buffer::{Storage, StorageFile};

const SECTOR: usize = 512;
const SECTORS_A_PAGE: usize = 8;

/// How the disk misbehaves at present.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Faults {
    /// No file can be made or grow.
    pub(super) full: bool,
    /// Not even a byte that was written before can be written over, as on a copy-on-write file system.
    pub(super) full_for_all: bool,
    /// Nothing can be changed.
    pub(super) read_only: bool,
    /// The next so many syncs of files fail and forget what they should have synced.
    pub(super) failing_syncs: u32,
    /// The next so many writes fail, half done.
    pub(super) failing_writes: u32,
    /// So many more writes are done and none after them: the process is killed there.
    pub(super) last_writes: Option<u32>,
    /// The next so many tries to open a file for reading fail.
    pub(super) failing_opens: u32,
    /// The segment of this number cannot be read from this place on.
    pub(super) unreadable: Option<(u64, u64)>,
}

/// Handle of the disk; it survives a crash of what stands on it.
#[derive(Clone)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

struct State {
    files: Vec<Contents>,
    /// Names as every process sees them.
    names: BTreeMap<String, usize>,
    /// Names as the platter has them.
    durable_names: BTreeMap<String, usize>,
    /// Changes of names since the last sync of the directory.
    renames: Vec<Change>,
    faults: Faults,
}

/// Gives a file another name, or its first, or takes the last.
struct Change {
    from: Option<String>,
    to: Option<String>,
    file: usize,
}

#[derive(Default)]
struct Contents {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
    /// Sectors that a failed sync forgot: in the page cache, never to be written.
    forgotten: BTreeSet<usize>,
}

impl SimDisk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renames: Vec::new(),
            faults: Faults::default(),
        })))
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.0.lock().unwrap().faults = faults;
    }

    /// Cuts the power: any subset of what was not synced survives, whole pages or torn ones.
    pub(super) fn cut_power(&self, rng: &mut fastrand::Rng) {
        let state = &mut *self.0.lock().unwrap();
        let mut names = state.durable_names.clone();
        let keep_all = rng.bool();
        for change in state.renames.drain(..) {
            let possible = change.from.as_ref().is_none_or(|from| names.get(from) == Some(&change.file));
            if possible && (keep_all || rng.bool()) {
                change.apply(&mut names);
            }
        }
        state.names = names.clone();
        state.durable_names = names;
        for file in &mut state.files {
            file.lose(rng);
        }
    }

    /// Flips a bit on the platter.
    pub(super) fn flip(&self, name: &str, offset: usize, bit: u8) {
        let state = &mut *self.0.lock().unwrap();
        let file = &mut state.files[state.names[name]];
        for image in [&mut file.now, &mut file.durable] {
            if let Some(byte) = image.get_mut(offset) {
                *byte ^= 1 << bit;
            }
        }
    }

    /// Puts a whole file there, durable.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let file = self.create(name).unwrap();
        file.write_at(bytes, 0).unwrap();
        file.sync().unwrap();
        self.sync_dir().unwrap();
    }

    /// Returns the names of all segments, oldest first.
    pub(super) fn segments(&self) -> Vec<String> {
        self.list().unwrap().into_iter().filter(|name| name.starts_with("seg-")).collect()
    }

    pub(super) fn bytes(&self) -> u64 {
        let state = self.0.lock().unwrap();
        let counted = state.names.iter().filter(|(name, _)| !name.ends_with("cursor"));
        counted.map(|(_, file)| state.files[*file].now.len() as u64).sum()
    }

    pub(super) fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        state.files[state.names[name]].now.clone()
    }

    fn file(&self, index: usize) -> Box<dyn StorageFile> {
        Box::new(SimFile { disk: self.clone(), index })
    }

    fn change(&self, from: Option<&str>, to: Option<&str>) -> io::Result<()> {
        let state = &mut *self.0.lock().unwrap();
        if state.faults.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        let file = match from {
            Some(from) => *state.names.get(from).ok_or(ErrorKind::NotFound)?,
            None if state.faults.full => return Err(ErrorKind::StorageFull.into()),
            None => {
                state.files.push(Contents::default());
                state.files.len() - 1
            }
        };
        let change = Change { from: from.map(str::to_owned), to: to.map(str::to_owned), file };
        change.apply(&mut state.names);
        state.renames.push(change);
        Ok(())
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.file);
        }
    }
}

impl Contents {
    fn write(&mut self, buf: &[u8], offset: usize) {
        let end = offset + buf.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(buf);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            self.dirty.insert(sector);
            self.forgotten.remove(&sector);
        }
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
    }

    fn keep(&mut self, sector: usize) {
        let range = sector * SECTOR..((sector + 1) * SECTOR).min(self.now.len());
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.now[range]);
    }

    fn lose(&mut self, rng: &mut fastrand::Rng) {
        self.forgotten.clear();
        let dirty = std::mem::take(&mut self.dirty);
        let pages: BTreeSet<usize> = dirty.iter().map(|sector| sector / SECTORS_A_PAGE).collect();
        for page in pages {
            let fate = rng.u8(..3);
            for sector in dirty.range(page * SECTORS_A_PAGE..(page + 1) * SECTORS_A_PAGE) {
                if fate == 0 || (fate == 1 && rng.bool()) {
                    self.keep(*sector);
                }
            }
        }
        self.now = self.durable.clone();
    }
}

impl Storage for SimDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        self.change(None, Some(name))?;
        self.open(name)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        if self.0.lock().unwrap().faults.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        self.open_to_read(name)
    }

    fn open_to_read(&self, name: &str) -> io::Result<Box<dyn StorageFile>> {
        let state = &mut *self.0.lock().unwrap();
        if state.faults.failing_opens > 0 {
            state.faults.failing_opens -= 1;
            return Err(io::Error::other("simulated lack of handles"));
        }
        let index = state.names.get(name).copied();
        Ok(self.file(index.ok_or(ErrorKind::NotFound)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Some(from), Some(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(Some(name), None)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let state = &mut *self.0.lock().unwrap();
        if state.faults.read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        state.durable_names = state.names.clone();
        state.renames.clear();
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    index: usize,
}

impl StorageFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.0.lock().unwrap();
        if let Some((segment, bad)) = state.faults.unreadable
            && state.names.get(&segment_name(segment)) == Some(&self.index)
            && offset + buf.len() as u64 > bad
        {
            return Err(io::Error::other("simulated read failure"));
        }
        let from = state.files[self.index].now.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = from.len().min(buf.len());
        buf[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let state = &mut *self.disk.0.lock().unwrap();
        let file = &mut state.files[self.index];
        let offset = usize::try_from(offset).unwrap();
        let grows = offset + buf.len() > file.now.len();
        let error: io::Error = if state.faults.read_only {
            ErrorKind::ReadOnlyFilesystem.into()
        } else if state.faults.full_for_all || (state.faults.full && grows) {
            ErrorKind::StorageFull.into()
        } else if state.faults.failing_writes > 0 {
            state.faults.failing_writes -= 1;
            io::Error::other("simulated bad sector")
        } else if state.faults.last_writes == Some(0) {
            return Err(io::Error::other("killed"));
        } else {
            state.faults.last_writes = state.faults.last_writes.map(|left| left - 1);
            file.write(buf, offset);
            return Ok(());
        };
        if !grows && !state.faults.read_only {
            file.write(&buf[..buf.len() / 2], offset);
        }
        Err(error)
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.0.lock().unwrap();
        let file = &mut state.files[self.index];
        if state.faults.failing_syncs > 0 {
            state.faults.failing_syncs -= 1;
            file.forgotten.append(&mut file.dirty);
            return Err(io::Error::other("simulated sync failure"));
        }
        if state.faults.read_only && !file.dirty.is_empty() {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        file.sync();
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.0.lock().unwrap().files[self.index].now.len() as u64)
    }
}

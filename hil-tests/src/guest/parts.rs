//! What an emulated gateway is made of, found where `cargo xtask setup --hil` and `cargo xtask cross` put it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Arch;
use crate::cpio::Archive;
use crate::gateway::DATA;
use crate::peers::{PeerError, built, installed};

/// Where the seat is in the guest.
const SEAT: &str = "seat";
const INIT: &str = include_str!("init");

/// Files that are all there.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) qemu: PathBuf,
    pub(super) kernel: PathBuf,
    shell: PathBuf,
    /// In the order of loading.
    modules: Vec<PathBuf>,
    daemon: PathBuf,
}

impl Parts {
    pub(super) fn find(arch: Arch) -> Result<Self, PeerError> {
        let peer = arch.name();
        let missing = |path: &Path, verb: &str| {
            let why = format!("{} is not there or not complete (`cargo xtask {verb}`)", path.display());
            PeerError::Missing { peer, why }
        };
        let qemu = installed(peer, arch.qemu())?;
        let built = built().map_err(|error| PeerError::Io { peer, error })?;
        let target = built.parent().unwrap_or(&built);
        let folder = target.join("peers").join(format!("guest-{peer}"));
        let files = complete(&folder).ok_or_else(|| missing(&folder, "setup --hil"))?;
        let (mut modules, rest): (Vec<PathBuf>, Vec<PathBuf>) =
            files.into_iter().partition(|file| file.starts_with(folder.join("modules")));
        modules.sort();
        let part = |name: &str| {
            let file = rest.iter().find(|file| file.ends_with(name)).cloned();
            file.ok_or_else(|| missing(&folder.join(name), "setup --hil"))
        };
        let daemon = target.join(arch.target()).join("release/ganglion");
        if !daemon.is_file() {
            return Err(missing(&daemon, &format!("cross {peer}")));
        }
        Ok(Self { qemu, kernel: part("vmlinuz")?, shell: part("busybox")?, modules, daemon })
    }

    /// Makes the guest's first file system: its programs, and what the seat holds now but for its data.
    pub(super) fn first_file_system(&self, seat: &Path, hosts: &str) -> io::Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "proc", "sys", "tmp", "etc", "modules"] {
            archive.folder(folder);
        }
        for module in &self.modules {
            let name = module.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("modules/{name}"), &fs::read(module)?);
        }
        archive.file("bin/busybox", &fs::read(&self.shell)?);
        archive.file("bin/ganglion", &fs::read(&self.daemon)?);
        archive.file("etc/hosts", hosts.as_bytes());
        archive.file("init", INIT.as_bytes());
        archive.folder(SEAT);
        archive.folder(&format!("{SEAT}/{DATA}"));
        add(&mut archive, seat, SEAT, &|name| name == DATA)?;
        Ok(archive.finish())
    }
}

/// Adds the files and folders in a folder, but for those left out; links are none of them.
fn add(archive: &mut Archive, folder: &Path, name: &str, left_out: &dyn Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (kind, file) = (entry.file_type()?, entry.file_name());
        let file = file.to_string_lossy();
        if left_out(&file) {
            continue;
        }
        let inside = format!("{name}/{file}");
        if kind.is_dir() {
            archive.folder(&inside);
            add(archive, &entry.path(), &inside, &|_| false)?;
        } else if kind.is_file() {
            archive.file(&inside, &fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// Returns the files of a folder whose list of contents was written, if each is there in its length.
fn complete(folder: &Path) -> Option<Vec<PathBuf>> {
    let contents = fs::read_to_string(folder.join("contents")).ok()?;
    let mut files = Vec::new();
    for line in contents.lines() {
        let (bytes, name) = line.split_once(' ')?;
        let file = folder.join(name);
        if fs::metadata(&file).ok()?.len() != bytes.parse::<u64>().ok()? {
            return None;
        }
        files.push(file);
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_used_only_when_all_of_them_are_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let within = |name: &str| folder.path().join(name);
        assert_eq!(complete(folder.path()), None, "no list");
        fs::write(within("vmlinuz"), "kernel").expect("written");
        fs::write(within("contents"), "6 vmlinuz\n7 busybox\n").expect("written");
        assert_eq!(complete(folder.path()), None, "one is missing");
        fs::write(within("busybox"), "a shell").expect("written");
        assert_eq!(complete(folder.path()), Some(vec![within("vmlinuz"), within("busybox")]));
        fs::write(within("busybox"), "a shel").expect("written");
        assert_eq!(complete(folder.path()), None, "one is cut short");
    }

    #[test]
    fn the_seat_is_taken_along_without_its_data_and_its_port() {
        let folder = tempfile::tempdir().expect("a folder");
        let within = |name: &str| folder.path().join(name);
        fs::create_dir(within("pki")).expect("a folder");
        fs::create_dir(within("data")).expect("a folder");
        fs::write(within("pki/data"), "not the daemon's").expect("written");
        fs::write(within("data/cursor"), "the daemon's").expect("written");
        std::os::unix::fs::symlink("/dev/null", within("rs485")).expect("a link");
        let mut archive = Archive::default();
        add(&mut archive, folder.path(), "seat", &|name| name == DATA).expect("read");
        let bytes = archive.finish();
        let holds = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
        assert_eq!([holds("seat/pki/data\0"), holds("cursor"), holds("rs485")], [true, false, false]);
    }
}

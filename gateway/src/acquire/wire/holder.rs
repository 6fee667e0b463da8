//! Who holds a serial port, as far as `/proc` tells.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A process that has a device open.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Holder {
    process: u32,
    name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.process, self.name)?;
        if self.process == std::process::id() { f.write_str(", this very one") } else { Ok(()) }
    }
}

/// Returns the error of a port that somebody else holds; it names the holder if this process may see it.
pub(super) fn held(path: &Path) -> io::Error {
    let holders = fs::metadata(path).map(|port| holders(Path::new("/proc"), port.rdev())).unwrap_or_default();
    let path = path.display();
    let message = if holders.is_empty() {
        format!("{path}: held by a process that this one may not see, `fuser {path}` as root names it")
    } else {
        let holders: Vec<String> = holders.iter().map(Holder::to_string).collect();
        format!("{path}: held by {}", holders.join(" and "))
    };
    io::Error::new(ErrorKind::ResourceBusy, message)
}

/// Returns the processes that have the character device open, in order; those it may not look into are left out.
fn holders(proc: &Path, device: u64) -> Vec<Holder> {
    let mut holders: Vec<Holder> = entries(proc)
        .filter_map(|process| {
            let number = process.file_name()?.to_str()?.parse().ok()?;
            entries(&process.join("fd")).any(|file| is_device(&file, device)).then(|| Holder {
                process: number,
                name: fs::read_to_string(process.join("comm")).unwrap_or_default().trim().to_owned(),
            })
        })
        .collect();
    holders.sort();
    holders
}

fn is_device(file: &Path, device: u64) -> bool {
    fs::metadata(file).is_ok_and(|target| target.file_type().is_char_device() && target.rdev() == device)
}

fn entries(directory: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

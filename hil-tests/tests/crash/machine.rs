//! The virtual machine whose every disk write is logged: QEMU, a kernel of Debian, and this program as its first process.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ganglion_hil::cpio::Archive;
use ganglion_hil::disk;
use ganglion_hil::peers::PeerError;
use ganglion_hil::peers::process::Process;

use crate::buffer::Log;
use crate::guest;

const QEMU: &str = "qemu-system-x86_64";
/// How long the machine may run; it is emulated, and others may want the same processor.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a machine has left.
pub(crate) struct Left {
    /// The disk before it started.
    pub(crate) disk: PathBuf,
    /// What it wrote.
    pub(crate) log: PathBuf,
}

/// Runs the guest's history in a machine whose files lie in `folder`; `name` is the test that becomes the guest.
///
/// # Errors
/// When something that the machine is made of is missing, or it did not run to its end.
pub(crate) fn run(folder: &Path, log: Log, name: &str) -> Result<Left, PeerError> {
    let io = |error| PeerError::Io { peer: QEMU, error };
    let (kernel, modules) = kernel()?;
    let disk = folder.join("before.img");
    make_file_system(&disk)?;
    let (running, writes, initrd) = (folder.join("disk.img"), folder.join("log.img"), folder.join("initrd"));
    fs::copy(&disk, &running).map_err(io)?;
    File::create(&writes).map_err(io)?;
    fs::write(&initrd, first_file_system(&modules)?).map_err(io)?;

    let blockdev = format!(
        "driver=blklogwrites,node-name=disk,file.driver=file,file.filename={},file.cache.no-flush=on,\
         log.driver=file,log.filename={},log.cache.no-flush=on",
        running.display(),
        writes.display()
    );
    let append = format!("console=ttyS0 quiet panic=-1 {}={log:?} -- --exact {name} --nocapture", guest::GUEST);
    let mut command = Command::new(QEMU);
    command
        .args(["-accel", "tcg", "-machine", "q35", "-m", "384", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-serial", "stdio", "-append", &append, "-blockdev", &blockdev, "-device", "virtio-blk-pci,drive=disk"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null());
    let mut machine =
        Process::start(QEMU, &mut command, &folder.join("console")).map_err(|error| missing(error, QEMU))?;
    machine.wait_for_end(PATIENCE)?;
    let console = machine.printed()?;
    if console.contains(guest::END) {
        Ok(Left { disk, log: writes })
    } else {
        Err(io(std::io::Error::other(format!("the guest did not come to its end:\n{console}"))))
    }
}

/// Says that a program is missing where it is, instead of what the operating system says.
fn missing(error: PeerError, program: &'static str) -> PeerError {
    match error {
        PeerError::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
            PeerError::Missing { peer: program, why: format!("it is not installed ({HINT})") }
        }
        error => error,
    }
}

const HINT: &str = "`cargo xtask setup --power-cut`";

/// Modules that a disk of the machine needs, in the order of their loading.
const MODULES: [&str; 6] =
    ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"];

/// Finds the kernel that `cargo xtask setup --power-cut` unpacked, and its modules.
fn kernel() -> Result<(PathBuf, Vec<PathBuf>), PeerError> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder");
    let folder = target.join("peers/kernel");
    let kernel = folder.join("vmlinuz");
    let modules: Vec<PathBuf> = MODULES.iter().map(|name| folder.join(format!("{name}.ko"))).collect();
    if kernel.is_file() && modules.iter().all(|module| module.is_file()) {
        Ok((kernel, modules))
    } else {
        let why = format!("{} is not complete ({HINT})", folder.display());
        Err(PeerError::Missing { peer: "kernel", why })
    }
}

/// Makes an ext4 with room behind it for the promises.
pub(crate) fn make_file_system(disk: &Path) -> Result<(), PeerError> {
    disk::make(disk, guest::FILE_SYSTEM_BYTES, 1 << 20)
}

/// Puts this program, the libraries it is linked with and the kernel's modules into an archive.
fn first_file_system(modules: &[PathBuf]) -> Result<Vec<u8>, PeerError> {
    let io = |error| PeerError::Io { peer: "guest", error };
    let program = env::current_exe().map_err(io)?;
    let mut archive = Archive::default();
    for folder in ["/dev", guest::DISK, guest::MODULES] {
        archive.folder(folder.trim_start_matches('/'));
    }
    for (place, module) in modules.iter().enumerate() {
        let name = format!("{}/{place}.ko", guest::MODULES.trim_start_matches('/'));
        archive.file(&name, &fs::read(module).map_err(io)?);
    }
    archive.file("init", &fs::read(&program).map_err(io)?);
    let listed = Command::new("ldd").arg(&program).output().map_err(|error| missing(io(error), "ldd"))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut made = Vec::new();
    // `name => path (address)` or `path (address)`; the kernel's own has no path.
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        for folder in Path::new(library).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let folder = folder.display().to_string().trim_start_matches('/').to_owned();
            if !folder.is_empty() && !made.contains(&folder) {
                archive.folder(&folder);
                made.push(folder);
            }
        }
        archive.file(library.trim_start_matches('/'), &fs::read(library).map_err(io)?);
    }
    Ok(archive.finish())
}

//! Gets what the virtual machine is made of whose power a test cuts: QEMU, and a kernel of Debian that is unpacked and
//! not installed (`hil-tests/tests/crash/machine.rs` runs it).

use std::fs;
use std::path::{Path, PathBuf};

use crate::setup::{installed, packages};
use crate::shell::{Failure, command, output, run, target_dir};

/// The kernel of machines that have nothing but virtual devices.
const KERNEL: &str = "linux-image-cloud-amd64";
/// What it has as modules and a disk of the machine needs. ext4 is built in.
const MODULES: [&str; 6] = [
    "drivers/virtio/virtio.ko",
    "drivers/virtio/virtio_ring.ko",
    "drivers/virtio/virtio_pci_legacy_dev.ko",
    "drivers/virtio/virtio_pci_modern_dev.ko",
    "drivers/virtio/virtio_pci.ko",
    "drivers/block/virtio_blk.ko",
];

/// Installs the programs that are missing, and fetches the kernel unless it is there.
pub(crate) fn set_up() -> Result<(), Failure> {
    packages(missing)?;
    let folder = target_dir()?.join("peers/kernel");
    // Copied last.
    if folder.join("vmlinuz").is_file() { Ok(()) } else { kernel(&folder) }
}

fn missing() -> Vec<&'static str> {
    let needed = [("qemu-system-x86", "qemu-system-x86_64"), ("e2fsprogs", "mke2fs")];
    needed.into_iter().filter(|(_, program)| !installed(program)).map(|(package, _)| package).collect()
}

fn kernel(folder: &Path) -> Result<(), Failure> {
    if !installed("apt-get") || !installed("dpkg") {
        let advice = format!(
            "a kernel with virtio and ext4 for x86-64, such as that of Debian's package {KERNEL}:\n    \
             its image as {0}/vmlinuz, its virtio modules beside it",
            folder.display()
        );
        return Err(Failure::Install { advice });
    }
    let scratch = folder.join("package");
    let io = |error| Failure::File { path: scratch.clone(), error };
    if scratch.exists() {
        fs::remove_dir_all(&scratch).map_err(io)?;
    }
    fs::create_dir_all(&scratch).map_err(io)?;
    // The package itself is empty and depends on the newest kernel.
    let depends = output(&mut command("apt-cache", ["depends", KERNEL]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned);
    let package = package.ok_or_else(|| Failure::Check(format!("apt-cache knows no {KERNEL}: `apt-get update`")))?;
    run(command("apt-get", ["download", "-q", &package]).current_dir(&scratch))?;
    let archive = only_file(&scratch)?;
    let unpacked = scratch.join("unpacked");
    run(command("dpkg", ["-x".as_ref(), archive.as_os_str(), unpacked.as_os_str()]).current_dir(&scratch))?;

    let version = package.trim_start_matches("linux-image-");
    let copy = |from: PathBuf, name: &str| match fs::copy(&from, folder.join(name)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::File { path: from, error }),
    };
    for module in MODULES {
        let name = module.rsplit('/').next().unwrap_or(module);
        copy(unpacked.join("lib/modules").join(version).join("kernel").join(module), name)?;
    }
    copy(unpacked.join("boot").join(format!("vmlinuz-{version}")), "vmlinuz")?;
    fs::remove_dir_all(&scratch).map_err(io)
}

fn only_file(folder: &Path) -> Result<PathBuf, Failure> {
    let io = |error| Failure::File { path: folder.to_owned(), error };
    let first = fs::read_dir(folder).map_err(io)?.next();
    let first = first.ok_or_else(|| Failure::Check(format!("nothing was fetched to {}", folder.display())))?;
    first.map(|entry| entry.path()).map_err(io)
}

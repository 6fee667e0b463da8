//! A gateway built for ARM, on an emulated ARM Linux: QEMU, a kernel of Debian, and the daemon as nearly all there is.
//!
//! Its only way to the bus is a USB adapter (an FT232B to the guest), which QEMU connects to the seat's pty. It reaches
//! this machine's loopback through QEMU's own network. Its data lie on a disk of its own, written through: what the guest
//! had in its page cache is gone when the power is cut, what it had fsynced is not.
//!
//! | file | owns |
//! |---|---|
//! | `parts.rs` | what it is made of, and its first file system |
//! | `init` | its first program |
//! | `shell.rs` | commands into it |
//!
//! Needs: `cargo xtask setup --hil`, `cargo xtask cross`.

mod parts;
mod shell;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::demo::Snapshot;
use crate::disk;
use crate::gateway::{Answer, END, Gateway, LAST_STATUS, PORT, RUNNING, off, snapshot};
use crate::peers::PeerError;
use crate::peers::process::Process;
use parts::Parts;
use shell::{Door, Shell};

/// How the guest calls this machine.
pub const HOST: &str = "host";
/// Where QEMU's network has this machine's loopback.
const HOST_ADDRESS: &str = "10.0.2.2";

/// Length of the guest's disk.
const DISK_BYTES: u64 = 64 << 20;
/// How long QEMU may take to open its channels.
const OPEN: Duration = Duration::from_secs(20);
/// How long the guest may take until the daemon runs: seconds, but others may want the processor.
const BOOT: Duration = Duration::from_secs(120);

/// An architecture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arch {
    /// 64-bit ARM, a Cortex-A53.
    Aarch64,
    /// 32-bit ARM, a Cortex-A15.
    Armv7,
}

impl Arch {
    /// Returns its name, as `cargo xtask cross` knows it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
        }
    }

    /// Rust's name of the target, as in `xtask/src/cross.rs`.
    const fn target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-musl",
            Self::Armv7 => "armv7-unknown-linux-gnueabihf",
        }
    }

    const fn qemu(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-system-aarch64",
            Self::Armv7 => "qemu-system-arm",
        }
    }

    /// Debian's kernel for 32-bit ARM sees no memory above 4 GiB, where QEMU would put PCI.
    const fn machine(self) -> [&'static str; 4] {
        match self {
            Self::Aarch64 => ["-M", "virt", "-cpu", "cortex-a53"],
            Self::Armv7 => ["-M", "virt,highmem=off", "-cpu", "cortex-a15"],
        }
    }
}

/// An emulated gateway.
#[derive(Debug)]
pub struct Guest {
    arch: Arch,
    parts: Parts,
    seat: PathBuf,
    folder: PathBuf,
    /// Of the channel into it: the path of a socket has at most 107 bytes, and `folder` may be deep.
    sockets: tempfile::TempDir,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    machine: Process,
    shell: Shell,
}

impl Guest {
    /// Prepares a gateway in a seat, its power off. Its disk, which is new, its first file system and what its console
    /// shows are in `folder`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when something it is made of is not there, [`PeerError::Io`] when its disk cannot be made.
    pub fn new(arch: Arch, seat: &Path, folder: &Path) -> Result<Self, PeerError> {
        let parts = Parts::find(arch)?;
        let sockets = tempfile::tempdir().map_err(|error| PeerError::Io { peer: arch.name(), error })?;
        let guest = Self { arch, parts, seat: seat.to_owned(), folder: folder.to_owned(), sockets, running: None };
        disk::make(&guest.file("disk.img"), DISK_BYTES, 0)?;
        Ok(guest)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn door(&self) -> PathBuf {
        self.sockets.path().join("shell")
    }

    fn io(&self, error: io::Error) -> PeerError {
        PeerError::Io { peer: self.arch.name(), error }
    }

    fn command_line(&self) -> Command {
        let path = |name: &str| self.file(name).display().to_string();
        let drive = format!("file={},if=none,id=disk,format=raw,cache=writethrough", path("disk.img"));
        let bus = format!("serial,id=bus,path={}", self.seat.join(PORT).display());
        let channel = format!("socket,id=shell,path={}", self.door().display());
        let mut command = Command::new(&self.parts.qemu);
        command
            .args(self.arch.machine())
            .args(["-m", "256", "-no-reboot", "-display", "none", "-monitor", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(&self.parts.kernel)
            .args(["-initrd", &path("initrd"), "-append", "console=ttyAMA0 quiet panic=-1"])
            .args(["-drive", &drive, "-device", "virtio-blk-pci,drive=disk"])
            .args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-chardev", &bus, "-device", "qemu-xhci"])
            .args(["-device", "usb-serial,chardev=bus,always-plugged=on"])
            .args(["-chardev", &channel, "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=shell"])
            .stdin(Stdio::null());
        command
    }
}

impl Gateway for Guest {
    fn broker_host(&self) -> &'static str {
        HOST
    }

    fn start(&mut self) -> Result<Duration, PeerError> {
        let hosts = format!("127.0.0.1 localhost\n{HOST_ADDRESS} {HOST}\n");
        let archive = self.parts.first_file_system(&self.seat, &hosts).map_err(|error| self.io(error))?;
        fs::write(self.file("initrd"), archive).map_err(|error| self.io(error))?;
        let door = Door::open(&self.door()).map_err(|error| self.io(error))?;
        let begun = Instant::now();
        let mut machine = Process::start(self.arch.name(), &mut self.command_line(), &self.file("console.log"))?;
        let shell = door.wait(OPEN).map_err(|error| {
            let printed = machine.printed().unwrap_or_default();
            self.io(io::Error::other(format!("QEMU did not connect: {error}; it printed:\n{printed}")))
        })?;
        machine.wait_for_line(RUNNING, BOOT)?;
        self.running = Some(Running { machine, shell });
        Ok(begun.elapsed())
    }

    fn cut(&mut self) -> Result<(), PeerError> {
        self.running.take().map_or(Ok(()), |mut running| running.machine.kill().map(drop))
    }

    fn command(&mut self, arguments: &[&str]) -> Result<Answer, PeerError> {
        let peer = self.arch.name();
        let running = self.running.as_mut().ok_or_else(|| off(peer))?;
        let words: Vec<&str> = std::iter::once(&"ganglion").chain(arguments).copied().collect();
        running.shell.run(&words).map_err(|error| PeerError::Io { peer, error })
    }

    fn stop(&mut self) -> Result<Snapshot, PeerError> {
        let peer = self.arch.name();
        let io = |error| PeerError::Io { peer, error };
        let mut running = self.running.take().ok_or_else(|| off(peer))?;
        running.shell.run(&["killall", "-TERM", "ganglion"]).map_err(io)?;
        let ended = running.machine.wait_for_line("init: the daemon ended with", END)?;
        if !ended.ends_with(" 0") {
            return Err(io(io::Error::other(format!("{ended}:\n{}", running.machine.printed()?))));
        }
        let left = running.shell.run(&["cat", LAST_STATUS]).map_err(io)?;
        running.machine.kill()?;
        snapshot(&left.out)
    }

    fn printed(&self) -> String {
        fs::read(self.file("console.log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

//! A Modbus server by libmodbus: the library that most devices and gateways in C are built on.
//!
//! What its registers hold is written down in `c/libmodbus_site.c`, which is compiled when it is needed.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::Process;
use super::quirks::Quirks;
use super::{PeerError, installed};

const NAME: &str = "libmodbus";
const START: Duration = Duration::from_secs(30);

/// A running server of one unit; it ends when this value is dropped.
#[derive(Debug)]
pub struct Libmodbus {
    process: Process,
    ready: String,
}

/// The unit that a server is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Its unit id. Over TCP every id is answered.
    pub id: u8,
    /// Holding registers, from address 0.
    pub registers: u16,
    /// What it refuses.
    pub quirks: Quirks,
}

impl Libmodbus {
    /// Starts a server on a free TCP port and waits until it can be asked; its program and what it prints go to `folder`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when there is no C compiler or no libmodbus, otherwise as for [`Process`].
    pub fn tcp(unit: &Unit, folder: &Path) -> Result<Self, PeerError> {
        Self::start(unit, &["tcp".as_ref()], folder)
    }

    /// Starts a server on a serial port, 8N1, and waits until it can be asked; its program and what it prints go to
    /// `folder`.
    ///
    /// # Errors
    /// As for [`Libmodbus::tcp`].
    pub fn rtu(unit: &Unit, port: &Path, baud: u32, folder: &Path) -> Result<Self, PeerError> {
        Self::start(unit, &["rtu".as_ref(), port.as_os_str(), baud.to_string().as_ref()], folder)
    }

    /// Returns where it listens; `None` on a serial port.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        let port: u16 = self.ready.strip_prefix("ready tcp ")?.parse().ok()?;
        Some((Ipv4Addr::LOCALHOST, port).into())
    }

    /// Returns the process, to stop or kill it and to see what it printed.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn start(unit: &Unit, link: &[&OsStr], folder: &Path) -> Result<Self, PeerError> {
        let Unit { id, registers, quirks } = unit;
        let numbers = [u16::from(*id), *registers, quirks.longest, u16::from(quirks.too_long)];
        let arguments = numbers.iter().map(ToString::to_string).chain(quirks.hole_arguments()).map(OsString::from);
        let mut command = Command::new(compile(folder)?);
        // A pipe that nobody writes to: it closes when this program ends, however it ends, and the server ends with it.
        command.args(link).args(arguments).stdin(Stdio::piped());
        let mut process = Process::start(NAME, &mut command, &folder.join("libmodbus.log"))?;
        let ready = process.wait_for_line("ready ", START)?;
        Ok(Self { process, ready })
    }
}

/// Compiles the server's program into `folder`.
fn compile(folder: &Path) -> Result<PathBuf, PeerError> {
    let compiler = installed(NAME, "cc")?;
    let output = |command: &mut Command| command.output().map_err(|error| PeerError::Io { peer: NAME, error });
    let header = ["-fsyntax-only", "-include", "modbus/modbus.h", "-x", "c", "/dev/null"];
    if !output(Command::new(&compiler).args(header))?.status.success() {
        let why = "modbus/modbus.h is not installed (`cargo xtask setup`)".to_owned();
        return Err(PeerError::Missing { peer: NAME, why });
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/libmodbus_site.c");
    let program = folder.join("libmodbus_site");
    let mut command = Command::new(compiler);
    command.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source);
    let compiled = output(command.args(["-lmodbus", "-lpthread"]))?;
    if compiled.status.success() {
        Ok(program)
    } else {
        let error = std::io::Error::other(String::from_utf8_lossy(&compiled.stderr).into_owned());
        Err(PeerError::Io { peer: NAME, error })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::super::quirks::{Asked, asked};
    use super::super::require;
    use super::*;
    use crate::site::{Tick, named_age};

    #[test]
    fn registers_name_themselves_and_long_reads_and_holes_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let quirks = Quirks { longest: 16, too_long: 3, holes: vec![20..=21] };
        let unit = Unit { id: 7, registers: 100, quirks };
        let Some(mut server) = require(Libmodbus::tcp(&unit, folder.path())) else { return };
        let mut wire = TcpStream::connect(server.address().expect("an address")).expect("connected");
        wire.set_read_timeout(Some(START)).expect("a timeout");
        let mut ask = |address: u8, count: u8| {
            wire.write_all(&[0, 9, 0, 0, 0, 6, 7, 3, 0, address, 0, count]).expect("asked");
            let mut head = [0; 7];
            wire.read_exact(&mut head).expect("answered");
            let mut pdu = vec![0; usize::from(head[5]) - 1];
            wire.read_exact(&mut pdu).expect("answered");
            pdu
        };
        let pdu = ask(30, 16);
        let after = Tick::now();
        assert_eq!((pdu.len(), &pdu[..2]), (34, &[3, 32][..]));
        for (address, pair) in (30..).zip(pdu[2..].chunks_exact(2)) {
            assert!(named_age(7, address, u16::from_be_bytes([pair[0], pair[1]]), after) < 50, "{address}");
        }
        assert_eq!([ask(30, 17), ask(19, 2), ask(95, 6)], [[0x83, 3], [0x83, 2], [0x83, 2]]);
        let printed = server.process().printed().expect("its output");
        let read = |address, count, exception| Asked { address, count, exception };
        assert_eq!(
            asked(&printed),
            [read(30, 16, None), read(30, 17, Some(3)), read(19, 2, Some(2)), read(95, 6, Some(2))]
        );
    }
}

//! A Modbus server by pymodbus: a second opinion beside this repository's own simulated site.
//!
//! Every register names the time at which it was read; what it holds is written down in `python/pymodbus_site.py`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::process::Process;
use super::quirks::Quirks;
use super::{PeerError, built};
use crate::site::{Tick, named_register};

const NAME: &str = "pymodbus";
const START: Duration = Duration::from_secs(30);

/// A running server with units 1 to N; it ends when this value is dropped.
#[derive(Debug)]
pub struct Pymodbus {
    process: Process,
    address: SocketAddr,
}

/// A running server on a serial port; it ends when this value is dropped.
#[derive(Debug)]
pub struct PymodbusRtu {
    process: Process,
}

/// What a server serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    /// Units, from 1; at most 247.
    pub units: u8,
    /// Holding registers and input registers of each unit, from address 0.
    pub registers: u16,
}

impl Pymodbus {
    /// Starts a server on a free TCP port and waits until it can be asked; what it prints goes to the new file `log`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when pymodbus is not installed, otherwise as for [`Process`].
    pub fn start(served: Served, log: &Path) -> Result<Self, PeerError> {
        Self::tcp(served, log, &[])
    }

    /// As [`Pymodbus::start`], refusing what `quirks` says and printing each read.
    ///
    /// # Errors
    /// As for [`Pymodbus::start`].
    pub fn start_quirky(served: Served, quirks: &Quirks, log: &Path) -> Result<Self, PeerError> {
        Self::tcp(served, log, &quirk_options(quirks))
    }

    fn tcp(served: Served, log: &Path, options: &[OsString]) -> Result<Self, PeerError> {
        let (process, ready) = start(served, log, options)?;
        let port = ready.strip_prefix("ready tcp ").and_then(|port| port.parse().ok());
        let Some(port) = port else {
            return Err(PeerError::Io { peer: NAME, error: std::io::Error::other(format!("no port in {ready:?}")) });
        };
        Ok(Self { process, address: (Ipv4Addr::LOCALHOST, port).into() })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the process, to stop or kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl PymodbusRtu {
    /// Starts a server on a serial port, 8N1, and waits until it can be asked; what it prints goes to the new file
    /// `log`.
    ///
    /// # Errors
    /// As for [`Pymodbus::start`].
    pub fn start(served: Served, port: &Path, baud: u32, log: &Path) -> Result<Self, PeerError> {
        Self::rtu(served, port, baud, log, Vec::new())
    }

    /// As [`PymodbusRtu::start`], refusing what `quirks` says and printing each read.
    ///
    /// # Errors
    /// As for [`Pymodbus::start`].
    pub fn start_quirky(
        served: Served,
        quirks: &Quirks,
        port: &Path,
        baud: u32,
        log: &Path,
    ) -> Result<Self, PeerError> {
        Self::rtu(served, port, baud, log, quirk_options(quirks))
    }

    fn rtu(served: Served, port: &Path, baud: u32, log: &Path, mut options: Vec<OsString>) -> Result<Self, PeerError> {
        options.extend(["--rtu".into(), port.into(), "--baud".into(), baud.to_string().into()]);
        let (process, _) = start(served, log, &options)?;
        Ok(Self { process })
    }

    /// Returns the process, to stop or kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// One of the two tables served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Registers {
    /// Holding registers, function code 0x03.
    Holding,
    /// Input registers, function code 0x04.
    Input,
}

/// Returns the tick that a register's value names. All registers of one answer name the same tick, and it lies between
/// [`tick`] before the request and [`tick`] after the answer.
#[must_use]
pub fn tick_of(registers: Registers, unit: u8, register: u16, value: u16) -> u16 {
    let table = match registers {
        Registers::Holding => 0,
        Registers::Input => 0x8000,
    };
    value.wrapping_sub(named_register(unit, register, Tick(0))).wrapping_sub(table)
}

/// Returns the present tick: Unix time in units of 100 ms, modulo 65536; it comes round every 109 minutes.
///
/// # Panics
/// When the system's clock stands before 1970.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "a tick is the low sixteen bits")]
pub fn tick() -> u16 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970");
    (now.as_millis() / 100) as u16
}

fn quirk_options(quirks: &Quirks) -> Vec<OsString> {
    let Quirks { longest, too_long, .. } = quirks;
    let limits = ["--trace".to_owned(), format!("--longest={longest}"), format!("--too-long={too_long}")];
    limits.into_iter().chain(quirks.hole_arguments().map(|hole| format!("--hole={hole}"))).map(OsString::from).collect()
}

fn start(served: Served, log: &Path, options: &[OsString]) -> Result<(Process, String), PeerError> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/pymodbus_site.py");
    let mut command = Command::new(python()?);
    command.arg(script).args(options).arg("--units").arg(served.units.to_string());
    command.arg("--registers").arg(served.registers.to_string());
    // A pipe that nobody writes to: it closes when this program ends, however it ends, and the server ends with it.
    let mut process = Process::start(NAME, command.stdin(Stdio::piped()), log)?;
    let ready = process.wait_for_line("ready ", START)?;
    Ok((process, ready))
}

/// Finds the Python that `cargo xtask setup` made for the peers.
fn python() -> Result<PathBuf, PeerError> {
    let built = built().map_err(|error| PeerError::Io { peer: NAME, error })?;
    let venv = built.parent().unwrap_or(&built).join("peers/venv");
    // Written by setup when everything is installed.
    if venv.join("requirements.txt").is_file() {
        Ok(venv.join("bin/python"))
    } else {
        let why = format!("{} is not complete (`cargo xtask setup`)", venv.display());
        Err(PeerError::Missing { peer: NAME, why })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::mpsc;
    use std::thread;

    use nix::fcntl::OFlag;
    use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

    use super::super::quirks::{Asked, asked};
    use super::super::require;
    use super::*;

    const SERVED: Served = Served { units: 3, registers: 300 };
    const COUNT: u8 = 125;

    /// Checks an answer's PDU to a read of [`COUNT`] registers from `first`, taken between two ticks.
    fn check(pdu: &[u8], registers: Registers, unit: u8, first: u16, before: u16) {
        let after = tick();
        assert_eq!(pdu.len(), 2 + 2 * usize::from(COUNT), "{pdu:02x?}");
        let values = pdu[2..].chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        let ticks: Vec<u16> =
            (first..).zip(values).map(|(register, value)| tick_of(registers, unit, register, value)).collect();
        assert!(ticks.iter().all(|tick| *tick == ticks[0]), "one answer, one tick: {ticks:?}");
        assert!(ticks[0].wrapping_sub(before) <= after.wrapping_sub(before), "{before} <= {} <= {after}", ticks[0]);
    }

    #[test]
    fn every_register_served_over_tcp_names_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let Some(server) = require(Pymodbus::start(SERVED, &folder.path().join("log"))) else { return };
        let mut wire = TcpStream::connect(server.address()).expect("connected");
        wire.set_read_timeout(Some(START)).expect("a timeout");
        for (unit, registers, function, first) in
            [(1, Registers::Holding, 3, 0), (3, Registers::Input, 4, 175), (2, Registers::Holding, 3, 40)]
        {
            let before = tick();
            let [high, low] = u16::to_be_bytes(first);
            wire.write_all(&[0, 9, 0, 0, 0, 6, unit, function, high, low, 0, COUNT]).expect("asked");
            let mut answer = [0; 9 + 250];
            wire.read_exact(&mut answer).expect("answered");
            assert_eq!(answer[..9], [0, 9, 0, 0, 0, 253, unit, function, 250]);
            check(&answer[7..], registers, unit, first, before);
        }
        // Beyond the last register: exception 0x02, and no silence.
        wire.write_all(&[0, 9, 0, 0, 0, 6, 1, 3, 1, 44, 0, 1]).expect("asked");
        let mut answer = [0; 9];
        wire.read_exact(&mut answer).expect("answered");
        assert_eq!(answer, [0, 9, 0, 0, 0, 3, 1, 0x83, 0x02]);
    }

    #[test]
    fn long_reads_and_holes_are_refused_and_each_read_is_printed() {
        let folder = tempfile::tempdir().expect("a folder");
        let quirks = Quirks { longest: 16, too_long: 2, holes: vec![20..=21, 50..=50] };
        let server = Pymodbus::start_quirky(SERVED, &quirks, &folder.path().join("log"));
        let Some(mut server) = require(server) else { return };
        let mut wire = TcpStream::connect(server.address()).expect("connected");
        wire.set_read_timeout(Some(START)).expect("a timeout");
        let reads = [(0, 17), (19, 2), (50, 1), (22, 16), (51, 1)].map(|(address, count)| {
            wire.write_all(&[0, 9, 0, 0, 0, 6, 1, 3, 0, address, 0, count]).expect("asked");
            let mut head = [0; 7];
            wire.read_exact(&mut head).expect("answered");
            let mut pdu = vec![0; usize::from(head[5]) - 1];
            wire.read_exact(&mut pdu).expect("answered");
            let exception = (pdu[0] == 0x83).then(|| pdu[1]);
            Asked { address: u16::from(address), count: u16::from(count), exception }
        });
        assert_eq!(reads.map(|read| read.exception), [Some(2), Some(2), Some(2), None, None]);
        server.process().wait_for_line("request 51 1 0", START).expect("printed");
        assert_eq!(asked(&server.process().printed().expect("its output")), reads);
    }

    #[test]
    fn every_register_served_over_rtu_names_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY).expect("a pseudo-terminal");
        grantpt(&line).and_then(|()| unlockpt(&line)).expect("its other end");
        let port = PathBuf::from(ptsname_r(&line).expect("its name"));
        let Some(mut server) = require(PymodbusRtu::start(SERVED, &port, 19_200, &folder.path().join("log"))) else {
            return;
        };
        let mut wire = File::from(std::os::fd::OwnedFd::from(line));
        let before = tick();
        let mut request = vec![2, 4, 0, 10, 0, COUNT];
        request.extend(crc(&request).to_le_bytes());
        wire.write_all(&request).expect("asked");
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let mut answer = vec![0; 3 + 250 + 2];
            send.send(wire.read_exact(&mut answer).map(|()| answer))
        });
        let answer = receive.recv_timeout(START).expect("answered in time").expect("answered");
        assert_eq!((answer[..3].to_vec(), crc(&answer)), (vec![2, 4, 250], 0), "unit, function, bytes; CRC");
        check(&answer[1..253], Registers::Input, 2, 10, before);
        assert!(server.process().status().expect("its state").is_none(), "it serves on");
    }

    /// CRC of a serial frame, low byte first on the wire; over a frame with its CRC it is 0.
    ///
    /// Source: MODBUS over Serial Line V1.02 §6.2.2.
    fn crc(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0xFFFF, |crc, &byte| {
            (0..8).fold(crc ^ u16::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xA001 } else { 0 })
        })
    }
}

//! A sensor node as a machine of QEMU's, with a power switch.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::hex::intel_hex;
use super::qmp::{Qmp, QmpError};
use super::truth::Truth;
use crate::peers::process::Process;
use crate::peers::{PeerError, built, installed};

/// A board that QEMU has a model of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Board {
    /// NUCLEO-L476RG: QEMU's `b-l475e-iot01a` runs the very same binary.
    NucleoL476rg,
    /// Stellaris LM3S6965 evaluation board: tmp105 and FRAM on its I2C bus, a watchdog that resets.
    Lm3s6965evb,
}

impl Board {
    /// Returns its name, as firmware and documents have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NucleoL476rg => "nucleo-l476rg",
            Self::Lm3s6965evb => "lm3s6965evb",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::NucleoL476rg => "thumbv7em-none-eabihf",
            Self::Lm3s6965evb => "thumbv7m-none-eabi",
        }
    }

    /// Returns the name of what starts before its firmware, and lies beside it.
    fn bootloader(self) -> Option<&'static str> {
        match self {
            Self::NucleoL476rg => Some("nucleo-boot"),
            Self::Lm3s6965evb => None,
        }
    }

    fn machine(self) -> &'static str {
        match self {
            Self::NucleoL476rg => "b-l475e-iot01a",
            Self::Lm3s6965evb => "lm3s6965evb",
        }
    }

    /// Returns its serial ports in QEMU's order, up to the last one used.
    fn serial_ports(self) -> &'static [&'static str] {
        match self {
            // USART1, USART2, USART3, UART4.
            Self::NucleoL476rg => &["null", "chardev:log", "null", "chardev:bus"],
            // UART0, UART1.
            Self::Lm3s6965evb => &["chardev:log", "chardev:bus"],
        }
    }
}

/// Finds the firmware of a board: a variable of the environment, `GANGLION_FIRMWARE_` and the board's name in capitals with
/// `_`, or what `cargo xtask firmware` built.
///
/// # Errors
/// [`PeerError::Missing`] when there is none.
pub fn firmware(board: Board) -> Result<PathBuf, PeerError> {
    let variable = format!("GANGLION_FIRMWARE_{}", board.name().to_uppercase().replace('-', "_"));
    let path = if let Some(path) = env::var_os(&variable) {
        PathBuf::from(path)
    } else {
        let built = built().map_err(io_error)?;
        let target = built.parent().unwrap_or(&built);
        target.join("firmware").join(board.target()).join("release").join(board.name())
    };
    if path.is_file() {
        return Ok(path);
    }
    let why = format!("no firmware for {}: {} is not there (`cargo xtask firmware`)", board.name(), path.display());
    Err(PeerError::Missing { peer: PEER, why })
}

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The board.
    pub board: Board,
    /// Its name on the bench: its files begin with it.
    pub name: String,
    /// The firmware, an ELF file.
    pub firmware: PathBuf,
    /// What it is provisioned with: a copy of its settings, as `ganglion_protocols::node_settings` writes it.
    pub provisioned: Option<Vec<u8>>,
}

/// A node; dropping it takes its power.
#[derive(Debug)]
pub struct NodeMachine {
    settings: NodeSettings,
    folder: PathBuf,
    /// Its sockets: the path of one has at most 107 bytes, and the folder of a test may be deeper.
    sockets: tempfile::TempDir,
    program: PathBuf,
    /// Words for QEMU besides.
    options: Vec<OsString>,
    running: Option<(Process, Qmp)>,
}

const PEER: &str = "node";
const SOON: Duration = Duration::from_secs(20);
/// How often a machine that starts is looked at.
const GLANCE: Duration = Duration::from_millis(5);
/// Size of the FRAM: as an FM24CL256, 32 KiB.
const FRAM_BYTES: u64 = 32_768;
/// The first of the two pages of flash that hold the settings of the NUCLEO-L476RG.
const SETTINGS_PAGE: u32 = 0x080F_F000;
const FRAM_ADDRESS: &str = "0x50";
const TMP105_ADDRESS: &str = "0x48";
/// Ends what a power cut left of a line: the rest of a number could pass for a number.
const POWER_CUT: &str = " <power cut>\n";

impl NodeMachine {
    /// Assembles a node without power; its log and its FRAM are files in `folder`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when there is no QEMU for ARM, [`PeerError::Io`] when a file cannot be made.
    pub fn assemble(settings: NodeSettings, folder: &Path) -> Result<Self, PeerError> {
        let program = installed(PEER, "qemu-system-arm")?;
        let sockets = tempfile::tempdir().map_err(io_error)?;
        let node = Self { settings, folder: folder.to_owned(), sockets, program, options: Vec::new(), running: None };
        let provisioned = node.settings.provisioned.as_deref().unwrap_or_default();
        match node.settings.board {
            Board::NucleoL476rg => fs::write(node.hex(), intel_hex(SETTINGS_PAGE, provisioned)).map_err(io_error)?,
            Board::Lm3s6965evb => {
                fs::write(node.fram(), provisioned).map_err(io_error)?;
                File::options()
                    .write(true)
                    .open(node.fram())
                    .and_then(|file| file.set_len(FRAM_BYTES))
                    .map_err(io_error)?;
            }
        }
        Ok(node)
    }

    /// Puts a file of `ganglion node provision` where the node takes its settings from at its next start.
    ///
    /// # Errors
    /// [`PeerError::Io`] when it cannot be copied.
    pub fn provision(&self, file: &Path) -> Result<(), PeerError> {
        let place = match self.settings.board {
            Board::NucleoL476rg => self.hex(),
            Board::Lm3s6965evb => self.fram(),
        };
        fs::copy(file, place).map(drop).map_err(io_error)
    }

    /// Gives QEMU more words from the next start on.
    pub fn options(&mut self, words: &[&str]) {
        self.options.extend(words.iter().map(OsString::from));
    }

    /// Returns `size` bytes of its memory from `address` on.
    ///
    /// # Errors
    /// [`PeerError`] when it has no power or does not obey.
    pub fn memory(&mut self, address: u32, size: u32) -> Result<Vec<u8>, PeerError> {
        let file = self.file("memory");
        self.order("pmemsave", json!({ "val": address, "size": size, "filename": file }))?;
        fs::read(file).map_err(io_error)
    }

    /// Returns the socket of its port on the pair.
    #[must_use]
    pub fn bus(&self) -> PathBuf {
        self.sockets.path().join("bus")
    }

    /// Returns the file of its log; every life follows the one before.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.file("log")
    }

    /// Returns the file that is its FRAM, on a board that has one.
    #[must_use]
    pub fn fram(&self) -> PathBuf {
        self.file("fram")
    }

    /// Gives it power; returns when the machine runs. Nothing happens if it has.
    ///
    /// # Errors
    /// [`PeerError`] when it does not start.
    pub fn power_on(&mut self) -> Result<(), PeerError> {
        if self.running.is_some() {
            return Ok(());
        }
        // The last one's, which had no chance to remove it.
        match fs::remove_file(self.control()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(error)),
            _ => {}
        }
        let mut command = Command::new(&self.program);
        command.args(self.arguments()).stdin(Stdio::null());
        let mut process = Process::start_after(PEER, &mut command, &self.log())?;
        let deadline = Instant::now() + SOON;
        let qmp = loop {
            match Qmp::connect(&self.control(), SOON) {
                Ok(qmp) => break qmp,
                Err(QmpError::Io(_)) if Instant::now() < deadline => {}
                Err(error) => return Err(io_error(io::Error::other(error))),
            }
            if let Some(status) = process.status()? {
                return Err(PeerError::Ended { peer: PEER, status, printed: process.printed()? });
            }
            thread::sleep(GLANCE);
        };
        self.running = Some((process, qmp));
        Ok(())
    }

    /// Takes its power at once; what its FRAM holds stays. Nothing happens if it has none.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the machine cannot be ended.
    pub fn power_off(&mut self) -> Result<(), PeerError> {
        let Some((mut process, _)) = self.running.take() else { return Ok(()) };
        process.kill()?;
        let printed = fs::read(self.log()).map_err(io_error)?;
        if printed.last().is_some_and(|&last| last != b'\n') {
            let log = File::options().append(true).open(self.log());
            log.and_then(|mut log| log.write_all(POWER_CUT.as_bytes())).map_err(io_error)?;
        }
        Ok(())
    }

    /// Pushes its reset button.
    ///
    /// # Errors
    /// [`PeerError`] when it has no power or does not obey.
    pub fn reset(&mut self) -> Result<(), PeerError> {
        self.order("system_reset", json!({}))
    }

    /// Sets what its tmp105 measures, in thousandths of a degree Celsius; only the LM3S6965 board has one. The sensor
    /// forgets it with the power.
    ///
    /// # Errors
    /// [`PeerError`] when it has no power or no such sensor.
    pub fn set_temperature(&mut self, millicelsius: i32) -> Result<(), PeerError> {
        let property =
            json!({ "path": "/machine/peripheral/tmp105", "property": "temperature", "value": millicelsius });
        self.order("qom-set", property)
    }

    /// Waits for a whole line of its log that contains `text`, behind the one waited for before, and returns it.
    ///
    /// # Errors
    /// [`PeerError::Late`] when there is none in time; [`PeerError::Io`] when it has no power.
    pub fn wait_for_line(&mut self, text: &str, within: Duration) -> Result<String, PeerError> {
        self.powered()?.0.wait_for_line(text, within)
    }

    /// Returns what it said so far of its samples, in all its lives.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the log cannot be read.
    pub fn truth(&self) -> Result<Truth, PeerError> {
        let printed = fs::read(self.log()).map_err(io_error)?;
        Ok(Truth::of(&String::from_utf8_lossy(&printed)))
    }

    fn order(&mut self, command: &str, arguments: serde_json::Value) -> Result<(), PeerError> {
        let (_, qmp) = self.powered()?;
        qmp.execute(command, arguments).map(drop).map_err(|error| io_error(io::Error::other(error)))
    }

    fn powered(&mut self) -> Result<&mut (Process, Qmp), PeerError> {
        let name = &self.settings.name;
        self.running.as_mut().ok_or_else(|| io_error(io::Error::other(format!("{name} has no power"))))
    }

    fn arguments(&self) -> Vec<OsString> {
        let board = self.settings.board;
        let socket = |path: &Path| format!("socket,path={},server=on,wait=off", path.display());
        let mut words: Vec<OsString> = Vec::new();
        let mut give = |words_of_one: &[&str]| words.extend(words_of_one.iter().map(OsString::from));
        give(&["-M", board.machine(), "-display", "none", "-monitor", "none", "-kernel"]);
        let firmware = self.settings.firmware.display().to_string();
        match board.bootloader() {
            Some(bootloader) => {
                give(&[&self.settings.firmware.with_file_name(bootloader).display().to_string()]);
                give(&["-device", &format!("loader,file={firmware}")]);
                give(&["-device", &format!("loader,file={}", self.hex().display())]);
            }
            None => give(&[&firmware]),
        }
        // Its log is its standard output; what it hears there is nothing.
        give(&["-chardev", "stdio,id=log,signal=off"]);
        give(&["-chardev", &format!("{},id=bus", socket(&self.bus()))]);
        for port in board.serial_ports() {
            give(&["-serial", port]);
        }
        give(&["-qmp", &format!("unix:{},server=on,wait=off", self.control().display())]);
        if board == Board::Lm3s6965evb {
            give(&["-device", &format!("tmp105,id=tmp105,address={TMP105_ADDRESS},bus=i2c")]);
            // Written through at once: power that is cut takes nothing back.
            let file = self.fram();
            give(&["-drive", &format!("file={},if=none,id=fram,format=raw,cache=writethrough", file.display())]);
            give(&[
                "-device",
                &format!("at24c-eeprom,bus=i2c,address={FRAM_ADDRESS},rom-size={FRAM_BYTES},address-size=2,drive=fram"),
            ]);
        }
        words.extend(self.options.iter().cloned());
        words
    }

    fn control(&self) -> PathBuf {
        self.sockets.path().join("qmp")
    }

    fn hex(&self) -> PathBuf {
        self.file("hex")
    }

    fn file(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", self.settings.name))
    }
}

fn io_error(error: io::Error) -> PeerError {
    PeerError::Io { peer: PEER, error }
}

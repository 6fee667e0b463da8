//! A node on a desk: nobody else on its line, and the line as fast as QEMU hands bytes over.

use std::error::Error;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use ganglion_hil::node::{Board, NodeMachine, NodeSettings};
use ganglion_protocols::modbus::rtu::crc;
use ganglion_protocols::node_link::{Ask, Head, Speaker, seal};

/// What a node has before anybody set anything.
const UNIT: u8 = 1;
/// Bits per second of such a node's line; ten bits are a character.
pub(crate) const BAUD: u32 = 9600;
const SOON: Duration = Duration::from_secs(20);
/// The longest wait for the first character of an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// The end of an answer: no character for so long.
const QUIET: Duration = Duration::from_millis(400);

/// A board, as it is called in documents.
#[derive(Clone, Copy, ValueEnum, Debug)]
pub(crate) enum BoardName {
    /// The one with an STM32L476.
    NucleoL476rg,
    /// The one with a Stellaris.
    Lm3s6965evb,
}

impl BoardName {
    /// Returns the bench's board.
    pub(crate) fn board(self) -> Board {
        match self {
            Self::NucleoL476rg => Board::NucleoL476rg,
            Self::Lm3s6965evb => Board::Lm3s6965evb,
        }
    }

    /// Returns its clock in Hz.
    pub(crate) fn hz(self) -> u32 {
        match self {
            Self::NucleoL476rg => 16_000_000,
            Self::Lm3s6965evb => 12_500_000,
        }
    }
}

/// A running node and the two ends of its line.
pub(crate) struct Desk {
    pub(crate) node: NodeMachine,
    line: UnixStream,
    token: u8,
    _folder: tempfile::TempDir,
}

impl Desk {
    /// Starts a node with more words for QEMU and waits until it says what it is.
    pub(crate) fn start(board: BoardName, firmware: &Path, options: &[&str]) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let settings = NodeSettings {
            board: board.board(),
            name: "node".to_owned(),
            firmware: PathBuf::from(firmware),
            // A number of its own, or it would ask the chip, which QEMU has not.
            provisioned: matches!(board, BoardName::NucleoL476rg).then(settings),
        };
        let mut node = NodeMachine::assemble(settings, folder.path())?;
        node.options(options);
        node.power_on()?;
        node.wait_for_line("node ", SOON)?;
        let line = UnixStream::connect(node.bus())?;
        Ok(Self { node, line, token: 0, _folder: folder })
    }

    /// Sends a PDU to the Modbus server and returns what comes back, without checking it: empty where nothing does.
    pub(crate) fn modbus(&mut self, pdu: &[u8]) -> io::Result<Vec<u8>> {
        let mut frame = [&[UNIT], pdu].concat();
        frame.extend(crc(&frame).to_le_bytes());
        self.exchange(&frame)
    }

    /// Asks over the node link.
    pub(crate) fn link(&mut self, ask: &Ask<'_>) -> Result<Vec<u8>, Box<dyn Error>> {
        let (mut payload, mut frame) = ([0; 256], [0; 300]);
        let used = ask.emit(&mut payload).map_err(|_| "the question is too long")?;
        self.token = self.token.wrapping_add(1);
        let head = Head { version: 1, speaker: Speaker::Gateway, unit: UNIT, token: self.token };
        let length =
            seal(head, payload.get(..used).unwrap_or_default(), &mut frame).map_err(|_| "no frame is so long")?;
        Ok(self.exchange(frame.get(..length).unwrap_or_default())?)
    }

    /// Sends bytes and returns what comes until the line is quiet.
    pub(crate) fn exchange(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.line.write_all(bytes)?;
        self.line.set_read_timeout(Some(PATIENCE))?;
        let (mut answer, mut some) = (Vec::new(), [0; 300]);
        loop {
            match self.line.read(&mut some) {
                Ok(0) => return Ok(answer),
                Ok(count) => {
                    answer.extend(some.iter().take(count));
                    self.line.set_read_timeout(Some(QUIET))?;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn settings() -> Vec<u8> {
    use ganglion_protocols::node_settings as form;
    let mut bytes = [0; form::MAX_COPY];
    let settings = form::NodeSettings { serial: 1, sample_period_s: 1, ..form::NodeSettings::DEFAULT };
    let used = settings.emit(1, &mut bytes).unwrap_or(0);
    bytes.iter().take(used).copied().collect()
}

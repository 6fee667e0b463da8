//! How much of its stack a node uses: painted before the start, looked at after everything was asked.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use ganglion_hil::node::hex::intel_hex;
use ganglion_protocols::node_link::{Ack, Ask, Command, FirmwareAsk};

use super::desk::{BoardName, Desk};

#[derive(Args)]
pub(crate) struct Options {
    /// The board
    #[arg(long)]
    board: BoardName,
    /// Its firmware, an ELF file
    #[arg(long, value_name = "PATH")]
    firmware: PathBuf,
    /// First address behind what has a place in RAM
    #[arg(long)]
    from: u32,
    /// Address at which the stack begins, downwards
    #[arg(long)]
    to: u32,
}

/// No byte that a node writes often.
const PAINT: u8 = 0xC5;

pub(crate) fn measure(options: &Options) -> Result<String, Box<dyn Error>> {
    let Options { board, firmware, from, to } = options;
    let size = to.checked_sub(*from).filter(|size| *size > 0).ok_or("the stack begins below its end")?;
    let paint = tempfile::NamedTempFile::new()?;
    // As Intel HEX: QEMU's loader takes bare bytes for no board that has memory of its own.
    std::fs::write(paint.path(), intel_hex(*from, &vec![PAINT; usize::try_from(size)?]))?;
    let load = format!("loader,file={}", paint.path().display());
    let mut desk = Desk::start(*board, firmware, &["-device", &load])?;
    work(&mut desk)?;
    let held = desk.node.memory(*from, size)?;
    let free = held.iter().take_while(|byte| **byte == PAINT).count();
    if free == held.len() || free == 0 {
        return Err(format!("{free} of {size} bytes still have their paint: nothing was measured").into());
    }
    Ok(format!("{}\n", held.len() - free))
}

/// Asks for everything once on both faces, rightly and wrongly.
fn work(desk: &mut Desk) -> Result<(), Box<dyn Error>> {
    let mut header = vec![0; 160];
    header.fill(0x47);
    let asks = [
        Ask::Who { salt: 1, slots: 1, slot_ms: 100, all: true },
        Ask::Describe,
        Ask::Channel { index: 0 },
        Ask::Channel { index: 9 },
        Ask::Time { utc_ms: Some(1_795_000_000_000), error_ms: 100, epoch: 7 },
        Ask::Do { id: 1, command: Command::Set { key: 6, value: 0 } },
        Ask::Do { id: 2, command: Command::Get { key: 6 } },
        Ask::Do { id: 3, command: Command::Identify { seconds: 1 } },
        Ask::Do { id: 4, command: Command::Adopt { cri: 1 } },
        Ask::Log { from: 0 },
        Ask::Fetch { ack: None, most: 100 },
        Ask::Fetch { ack: Some(Ack { epoch: 7, seq: 1 }), most: 100 },
        Ask::Firmware(FirmwareAsk::State),
        Ask::Firmware(FirmwareAsk::Begin { header: &header, downgrade: false }),
        Ask::Firmware(FirmwareAsk::Write { offset: 160, data: &[0; 128] }),
        Ask::Firmware(FirmwareAsk::Install),
        Ask::Firmware(FirmwareAsk::Abandon),
        Ask::Do { id: 5, command: Command::ClearLog },
    ];
    let mut answered = 0;
    for ask in &asks {
        answered += usize::from(!desk.link(ask)?.is_empty());
    }
    let pdus: [&[u8]; 8] = [
        &[0x04, 0, 0, 0, 125],
        &[0x04, 0, 0, 0, 16],
        &[0x03, 0, 0, 0, 16],
        &[0x06, 0, 6, 0, 0],
        &[0x10, 0, 6, 0, 1, 2, 0, 0],
        &[0x2B, 0x0E, 0x01, 0x00],
        &[0x15, 9, 6, 0, 1, 0, 0, 0, 1, 0, 0],
        &[0x55],
    ];
    for pdu in pdus {
        answered += usize::from(!desk.modbus(pdu)?.is_empty());
    }
    desk.exchange(&[0xFF; 300])?;
    let asked = asks.len() + pdus.len();
    if answered != asked {
        return Err(format!("{answered} answers to {asked} questions").into());
    }
    Ok(())
}

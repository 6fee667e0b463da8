//! How long an answer takes. The node says it itself, in cycles: since the last byte of the request, and since it woke.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::desk::{BAUD, BoardName, Desk};

#[derive(Args)]
pub(crate) struct Options {
    /// The board
    #[arg(long)]
    board: BoardName,
    /// Its firmware, an ELF file built with the feature `measure`
    #[arg(long, value_name = "PATH")]
    firmware: PathBuf,
    /// Requests of each kind
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

/// The instruction takes 2^6 ns: the nearest power of two to a cycle of 62.5 ns, and 4/5 of one of 80 ns.
const SHIFT: &str = "shift=6,sleep=on";
const NS_PER_INSTRUCTION: f64 = 64.0;
const SOON: Duration = Duration::from_secs(10);

/// Requests, and whether the answer is an exception.
const KINDS: [(&str, &[u8], bool); 6] = [
    ("read 1 input register", &[0x04, 0, 0, 0, 1], false),
    ("read 16 input registers", &[0x04, 0, 0, 0, 16], false),
    ("read 1 holding register", &[0x03, 0, 0, 0, 1], false),
    ("write 1 holding register", &[0x06, 0, 6, 0, 0], false),
    ("read device identification", &[0x2B, 0x0E, 0x01, 0x00], false),
    ("an exception: no such register", &[0x04, 0xFF, 0, 0, 1], true),
];

pub(crate) fn measure(options: &Options) -> Result<String, Box<dyn Error>> {
    let mut desk = Desk::start(options.board, &options.firmware, &["-icount", SHIFT])?;
    let hz = options.board.hz();
    // 3.5 characters of ten bits.
    let silence = hz / BAUD * 35;
    let mut text = format!(
        "{} at {hz} Hz, {BAUD} Bd: cycles, {} requests of each kind; the silence of 3.5 characters is {silence}\n{:34}{:^30}{:^30}\n{:34}",
        options.board.board().name(),
        options.count,
        "",
        "last byte to first, less silence",
        "of these, awake",
        ""
    );
    for word in ["p50", "p99", "max", "p50", "p99", "max"] {
        write!(text, "{word:>10}")?;
    }
    text.push('\n');
    for (name, pdu, exception) in KINDS {
        let (mut whole, mut awake) = (Vec::new(), Vec::new());
        for _ in 0..options.count {
            let answer = desk.modbus(pdu)?;
            if answer.get(1).is_none_or(|function| (function & 0x80 != 0) != exception) {
                return Err(format!("{name}: the answer is {answer:02x?}").into());
            }
            let line = desk.node.wait_for_line("turnaround ", SOON)?;
            let mut words = line.split_whitespace().skip(1).map(str::parse::<u32>);
            let (Some(Ok(since_heard)), Some(Ok(since_woken))) = (words.next(), words.next()) else {
                return Err(format!("the log says {line:?}").into());
            };
            whole.push(i64::from(since_heard) - i64::from(silence));
            awake.push(i64::from(since_woken));
        }
        write!(text, "{name:34}")?;
        for figures in [&mut whole, &mut awake] {
            figures.sort_unstable();
            for share in [50, 99, 100] {
                write!(text, "{:>10}", at(figures, share))?;
            }
        }
        text.push('\n');
    }
    let per_instruction = NS_PER_INSTRUCTION * f64::from(hz) / 1e9;
    writeln!(
        text,
        "QEMU counts instructions, not cycles: one is {per_instruction:.3} of a cycle here, of whatever kind"
    )?;
    Ok(text)
}

/// Returns the figure that this share of them, in percent, does not exceed.
fn at(sorted: &[i64], share: usize) -> i64 {
    let place = (sorted.len() * share).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

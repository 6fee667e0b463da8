//! The settings of a node that was never on a line, as the file with which its memory is filled.
//!
//! | board | file |
//! |---|---|
//! | nucleo-l476rg | Intel HEX, for a probe: both pages of flash that hold the settings |
//! | lm3s6965evb | the whole FRAM, for QEMU: settings, and an empty store behind them |
//!
//! Source: Intel, Hexadecimal Object File Format Specification, revision A, 1988.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use ganglion_protocols::Cri;
use ganglion_protocols::node_settings::{MAX_COPY, NodeLine, NodeParity, NodeSettings};

use super::Ended;
use crate::tools::scan::ParityArg;

/// The two pages of flash with the settings of a NUCLEO-L476RG, RM0351 §3.3. A copy that a node wrote in an earlier life
/// would be newer than ours, so that both are written.
const PAGES: [u32; 2] = [0x080F_F000, 0x080F_F800];
/// Size of the FRAM of the LM3S6965 board: an MB85RC256V.
const FRAM_BYTES: usize = 32_768;
/// A node counts on from here.
const FIRST_GENERATION: u32 = 1;

/// Bytes of data in a record.
const RECORD: usize = 16;
const DATA: u8 = 0x00;
const END_OF_FILE: u8 = 0x01;
const EXTENDED_LINEAR_ADDRESS: u8 = 0x04;

/// What a node is to be before it is on a line.
#[derive(Args, Clone, Debug)]
pub struct Provision {
    /// The board.
    #[arg(long)]
    board: BoardArg,
    /// Address on the line: 1 to 247.
    #[arg(long, value_name = "N")]
    unit: u8,
    /// The resource it measures: 330502-9601-000211-29.
    #[arg(long, value_name = "CRI")]
    resource: Cri,
    /// Number of the node, up to 16 hexadecimal digits; without it that of the chip, where the chip has one.
    #[arg(long, value_name = "HEX", value_parser = serial)]
    serial: Option<u64>,
    /// Bit rate of the line: 1200 to 115200, in hundreds.
    #[arg(long, default_value_t = 9600)]
    baud: u32,
    /// Parity of the line.
    #[arg(long, value_enum, default_value = "none")]
    parity: ParityArg,
    /// Stop bits of the line: 1 or 2.
    #[arg(long, value_name = "1|2", default_value_t = 1)]
    stop_bits: u8,
    /// From one sample to the next: 1 to 3600.
    #[arg(long, value_name = "S", default_value_t = 60)]
    sample_period: u16,
    /// A signal that says when it was measured in place of the sensors, to try a line before they are there.
    #[arg(long)]
    test_signal: bool,
    /// The file to write; one that is there with another content is kept.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// A board whose settings can be written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum BoardArg {
    /// NUCLEO-L476RG: Intel HEX for a probe.
    #[value(name = "nucleo-l476rg")]
    NucleoL476rg,
    /// QEMU's LM3S6965 board: an image of its FRAM.
    #[value(name = "lm3s6965evb")]
    Lm3s6965evb,
}

/// Writes the file.
pub(super) fn main(wanted: &Provision) -> Result<String, Ended> {
    let settings = settings(wanted).map_err(Ended::Refused)?;
    let mut copy = [0; MAX_COPY];
    let used = settings.emit(FIRST_GENERATION, &mut copy).expect("the longest copy has MAX_COPY bytes");
    let copy = copy.get(..used).unwrap_or_default();
    let (file, place) = match wanted.board {
        BoardArg::NucleoL476rg => {
            let [first, second] = PAGES;
            (intel_hex(&PAGES, copy).into_bytes(), format!("in flash at {first:#010x} and {second:#010x}"))
        }
        BoardArg::Lm3s6965evb => {
            let mut image = copy.to_vec();
            image.resize(FRAM_BYTES, 0);
            (image, format!("an FRAM of {FRAM_BYTES} bytes"))
        }
    };
    write(&wanted.output, &file).map_err(Ended::Failed)?;
    let NodeSettings { unit, line, sample_period_s, .. } = settings;
    let parity = match line.parity {
        NodeParity::None => 'N',
        NodeParity::Even => 'E',
        NodeParity::Odd => 'O',
    };
    let signal = if settings.test_signal { ", test signal" } else { "" };
    Ok(format!(
        "{}: {place}\nnode {unit} at {} 8{parity}{}, resource {}, a sample each {sample_period_s} s{signal}\n",
        wanted.output.display(),
        line.baud,
        line.stop_bits,
        wanted.resource,
    ))
}

/// Returns the settings that are wanted.
fn settings(wanted: &Provision) -> Result<NodeSettings, String> {
    if wanted.board == BoardArg::Lm3s6965evb && wanted.serial.is_none_or(|serial| serial == 0) {
        return Err("the chip of an lm3s6965evb has no number of its own: give one, as --serial 47410001".to_owned());
    }
    // A node says its bit rate in a register, in hundreds.
    if !wanted.baud.is_multiple_of(100) {
        return Err(format!("{} Bd is not 1200 to 115200 in hundreds", wanted.baud));
    }
    let parity = match wanted.parity {
        ParityArg::None => NodeParity::None,
        ParityArg::Even => NodeParity::Even,
        ParityArg::Odd => NodeParity::Odd,
    };
    let settings = NodeSettings {
        unit: wanted.unit,
        line: NodeLine { baud: wanted.baud, parity, stop_bits: wanted.stop_bits },
        cri: wanted.resource.to_bits(),
        serial: wanted.serial.unwrap_or(0),
        sample_period_s: wanted.sample_period,
        test_signal: wanted.test_signal,
        ..NodeSettings::DEFAULT
    };
    settings.checked().map_err(|error| error.to_string())
}

fn serial(text: &str) -> Result<u64, String> {
    let digits = text.len() <= 16 && text.chars().all(|c| c.is_ascii_hexdigit());
    let number = if digits { u64::from_str_radix(text, 16).ok() } else { None };
    number.ok_or_else(|| "a serial number has 1 to 16 hexadecimal digits, as 47410001".to_owned())
}

/// Writes a file; one with another content is never replaced.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    match fs::read(path) {
        Ok(there) if there == bytes => return Ok(()),
        Ok(_) => return Err(format!("{}: is there with another content and is kept", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{}: {error}", path.display())),
    }
    fs::write(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns the file that holds the same bytes at each of these addresses; none of them crosses into the next 64 KiB.
fn intel_hex(places: &[u32], bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut upper = None;
    for place in places {
        for (at, data) in (*place..).step_by(RECORD).zip(bytes.chunks(RECORD)) {
            let [high_a, high_b, low_a, low_b] = at.to_be_bytes();
            if upper != Some([high_a, high_b]) {
                upper = Some([high_a, high_b]);
                record(&mut text, [0, 0], EXTENDED_LINEAR_ADDRESS, &[high_a, high_b]);
            }
            record(&mut text, [low_a, low_b], DATA, data);
        }
    }
    record(&mut text, [0, 0], END_OF_FILE, &[]);
    text
}

fn record(text: &mut String, [high, low]: [u8; 2], kind: u8, data: &[u8]) {
    let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
    let bytes = [&[length, high, low, kind], data].concat();
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    text.push(':');
    bytes.iter().for_each(|byte| text.push_str(&format!("{byte:02X}")));
    text.push_str(&format!("{:02X}\n", sum.wrapping_neg()));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        wanted: Provision,
    }

    fn parse(board: &str, words: &[&str]) -> Result<Provision, String> {
        let always = ["provision", "--resource", "330502-9601-000211-29", "-o", "file", "--board", board];
        let words = always.iter().chain(words);
        Line::try_parse_from(words).map(|line| line.wanted).map_err(|error| error.to_string())
    }

    fn settings_of(board: &str, words: &[&str]) -> Result<NodeSettings, String> {
        settings(&parse(board, words)?)
    }

    #[test]
    fn what_is_not_said_is_as_a_node_is_delivered() {
        let cri = "330502-9601-000211-29".parse::<Cri>().unwrap().to_bits();
        let expected = NodeSettings { unit: 11, cri, ..NodeSettings::DEFAULT };
        assert_eq!(settings_of("nucleo-l476rg", &["--unit", "11"]), Ok(expected));
        let words = ["--unit", "247", "--serial", "4741beef", "--baud", "19200", "--parity", "even"];
        let line = NodeLine { baud: 19_200, parity: NodeParity::Even, stop_bits: 1 };
        let expected = NodeSettings { unit: 247, cri, serial: 0x4741_BEEF, line, ..NodeSettings::DEFAULT };
        assert_eq!(settings_of("lm3s6965evb", &words), Ok(expected));
    }

    #[test]
    fn a_wrong_value_is_answered_with_what_would_be_right() {
        for (words, right) in [
            (&["--unit", "0"][..], "address 0 is not 1 to 247"),
            (&["--unit", "248"], "address 248 is not 1 to 247"),
            (&["--unit", "1", "--baud", "1100"], "1100 Bd is not 1200 to 115200"),
            (&["--unit", "1", "--baud", "9650"], "9650 Bd is not 1200 to 115200 in hundreds"),
            (&["--unit", "1", "--stop-bits", "3"], "3 stop bits are not 1 or 2"),
            (&["--unit", "1", "--sample-period", "3601"], "a sample each 3601 s is not each 1 to 3600 s"),
            (&["--unit", "1", "--serial", "+1"], "1 to 16 hexadecimal digits"),
            (&["--unit", "1", "--serial", "00000000000000001"], "1 to 16 hexadecimal digits"),
            (&["--unit", "1", "--parity", "mark"], "[possible values: even, none, odd]"),
        ] {
            let message = settings_of("nucleo-l476rg", words).unwrap_err();
            assert!(message.contains(right), "{words:?}: {message}");
        }
        let message = settings_of("lm3s6965evb", &["--unit", "1"]).unwrap_err();
        assert!(message.contains("--serial 47410001"), "{message}");
        let message = settings_of("arduino", &["--unit", "1"]).unwrap_err();
        assert!(message.contains("[possible values: nucleo-l476rg, lm3s6965evb]"), "{message}");
    }

    #[test]
    fn a_hex_file_holds_a_copy_in_each_page() {
        let text = intel_hex(&PAGES, &[3; 17]);
        let heads: Vec<&str> = text.lines().map(|line| line.get(..9).unwrap_or(line)).collect();
        assert_eq!(heads, [":02000004", ":10F00000", ":01F01000", ":10F80000", ":01F81000", ":00000001"]);
        assert_eq!(intel_hex(&[0x080F_F800], &[3]), ":02000004080FE3\n:01F800000304\n:00000001FF\n");
    }

    #[test]
    fn a_file_with_another_content_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = |unit| Provision {
            output: folder.path().join("node.bin"),
            ..parse("lm3s6965evb", &["--unit", unit, "--serial", "1"]).unwrap()
        };
        assert!(main(&wanted("3")).is_ok() && main(&wanted("3")).is_ok());
        assert!(matches!(main(&wanted("4")), Err(Ended::Failed(why)) if why.contains("is kept")));
        let image = fs::read(folder.path().join("node.bin")).unwrap();
        assert_eq!(image.len(), FRAM_BYTES);
        assert_eq!(NodeSettings::parse(&image).map(|(generation, settings)| (generation, settings.unit)), Ok((1, 3)));
    }
}

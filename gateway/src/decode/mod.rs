//! `ganglion decode`: what the bytes of a field protocol say, or where they are wrong.
//!
//! A diagnostic tool beside the pipeline: it opens no port and takes part in no poll. It reads hexadecimal or text
//! ([`input`]), gives it to the decoder of a protocol ([`DECODERS`]), and prints the tree of fields ([`tree`]) for a
//! person or as JSON. [`vectors`] runs a file of published frames through the same decoders.
//!
//! **Add a protocol** with one row in [`DECODERS`]: a decoder always gives what it could read, and a [`Fault`] when that
//! is not all.

mod input;
mod modbus;
mod tree;
mod vectors;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::PossibleValuesParser;

pub use input::Form;
pub use tree::{Fields, Node};

/// Arguments of `ganglion decode`.
#[derive(Args, Debug)]
pub struct Options {
    /// The protocol of the frames.
    #[arg(value_parser = PossibleValuesParser::new(DECODERS.iter().map(|decoder| decoder.name)), required_unless_present = "vectors")]
    protocol: Option<String>,
    /// One frame: hexadecimal with spaces, colons or 0x as you like, or the text of a text protocol. Without it, or as
    /// "-", standard input, one frame a line.
    #[arg(value_name = "FRAME", conflicts_with = "file")]
    frame: Vec<String>,
    /// Read frames from a file, one a line.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print one JSON object a frame.
    #[arg(long)]
    json: bool,
    /// Say what the registers hold as values of a type: int16, uint32, float32, bcd32 and so on.
    #[arg(long = "as", value_name = "TYPE")]
    value_type: Option<String>,
    /// Order of the bytes of a value: ABCD, CDAB, BADC or DCBA.
    #[arg(long, value_name = "ORDER", requires = "value_type")]
    order: Option<String>,
    /// Run files of test vectors and say of each vector whether it passed.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["protocol", "frame", "file", "json", "value_type"])]
    vectors: Vec<PathBuf>,
}

/// One protocol.
pub struct Decoder {
    /// As on the command line; in a vector file with underscores.
    pub name: &'static str,
    /// How its frames are written down.
    pub form: Form,
    /// Reads one frame.
    pub decode: fn(&[u8], &Hints) -> Decoded,
    /// Fields of vectors that describe the frame to a reader and are in no byte of it.
    pub descriptive: &'static [&'static str],
    /// Other names that vectors may give to fields: theirs, ours.
    pub synonyms: &'static [(&'static str, &'static str)],
    /// Lists of bits of which a vector may leave out the padding of the last byte.
    pub padded: &'static [&'static str],
}

/// Every protocol that can be decoded.
pub const DECODERS: &[Decoder] = &[
    modbus::decoder("modbus-rtu", Form::Bytes, modbus::rtu),
    modbus::decoder("modbus-tcp", Form::Bytes, modbus::tcp),
    modbus::decoder("modbus-ascii", Form::Line, modbus::ascii),
    modbus::decoder("modbus-pdu", Form::Bytes, modbus::pdu),
    modbus::decoder("modbus-values", Form::Bytes, modbus::values),
];

/// What no frame says and a reader must know.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Hints {
    /// Type of the values that registers hold.
    pub value_type: Option<String>,
    /// Order of their bytes.
    pub order: Option<String>,
    /// Fields asked for by name that are another view of others: `values_as_float32`, `bits_20_to_38`.
    pub wanted: Vec<String>,
}

/// What a decoder found.
#[derive(Clone, PartialEq, Debug)]
pub struct Decoded {
    /// Everything that could be read.
    pub fields: Fields,
    /// Why that is not all, or not to be believed.
    pub fault: Option<Fault>,
}

/// What is wrong in a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Place of the first wrong byte or character, counted from 0; the length when something is missing.
    pub at: usize,
    /// What is there and what would be right.
    pub why: String,
}

/// Exit code when there was nothing to decode.
const NOTHING: u8 = 2;

/// Decodes what the arguments name and prints it: exit code 0 when every frame is right, 1 when one is not, 2 when there
/// is nothing to decode.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = match &options.protocol {
        Some(name) => frames(name, options, &mut out),
        None => vectors::run(&options.vectors, &mut out),
    };
    match outcome.and_then(|all_right| out.flush().map(|()| all_right).map_err(Failure::Output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A reader that left early is no failure.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(error)) => {
            eprintln!("error: standard output: {error}");
            ExitCode::FAILURE
        }
        Err(Failure::Nothing(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(NOTHING)
        }
    }
}

/// Why nothing could be decoded or shown.
enum Failure {
    /// Nothing to decode, and why.
    Nothing(String),
    /// Standard output is gone.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

fn frames(name: &str, options: &Options, out: &mut impl Write) -> Result<bool, Failure> {
    let decoder = DECODERS.iter().find(|decoder| decoder.name == name);
    let decoder = decoder.ok_or_else(|| Failure::Nothing(format!("{name:?} is no protocol")))?;
    let hints = Hints { value_type: options.value_type.clone(), order: options.order.clone(), wanted: Vec::new() };
    if let Some(why) = modbus::refuse(&hints) {
        return Err(Failure::Nothing(why));
    }
    let lines = input::lines(&options.frame, options.file.as_deref()).map_err(Failure::Nothing)?;
    let mut all_right = true;
    for line in lines {
        let (bytes, decoded) = match decoder.form.bytes(&line.text) {
            Ok(bytes) => {
                let decoded = (decoder.decode)(&bytes, &hints);
                (bytes, decoded)
            }
            Err(fault) => (Vec::new(), Decoded { fields: Fields::default(), fault: Some(fault) }),
        };
        all_right &= decoded.fault.is_none();
        if options.json {
            writeln!(out, "{}", tree::json(&decoded))?;
        } else {
            write!(out, "{}", tree::text(decoder, &bytes, &decoded))?;
            out.flush()?;
            if let Some(Fault { at, why }) = &decoded.fault {
                let (of, unit) = (line.place, decoder.form.unit());
                eprintln!("error: {of}{unit} {at}: {why}");
            }
        }
    }
    Ok(all_right)
}

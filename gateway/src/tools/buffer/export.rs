//! `ganglion buffer export`: observations as JSON Lines, one envelope of contract v1 a line, or as CSV.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ganglion_protocols::envelope::Envelope;
use ganglion_protocols::{Cri, Observation, Property, Shape, Timestamp};

use super::{Named, Where, counted};
use crate::buffer::Stored;
use crate::buffer::examine::{Finding, Seen, Weight};
use crate::status;
use crate::tools::refuse;

/// What to export.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    place: Where,
    /// Form of the output.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Observations of this resource only; may be given several times.
    #[arg(long, value_name = "ID")]
    resource: Vec<Cri>,
    /// Measured at or after this instant: 2026-11-28, or 2026-11-28T07:30:00+08:00.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Timestamp>,
    /// Measured before this instant.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    to: Option<Timestamp>,
    /// Those only that the broker has not acknowledged.
    #[arg(long)]
    undelivered: bool,
    /// Write to a new file instead of standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The gateway that the envelopes name, where neither a site file nor the daemon's last status says.
    #[arg(long, value_name = "ID")]
    gateway: Option<Cri>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    /// One envelope a line, as published on `obs`.
    Jsonl,
    /// t, id, property, value, unit, quality, reason, seq: one reading a line.
    Csv,
}

/// Takes an instant, or the beginning of a day in UTC.
fn instant(text: &str) -> Result<Timestamp, String> {
    let day = text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10);
    let instant = match day {
        Some(day) => jiff::tz::Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)).map_err(|error| error.to_string())?,
        None => text
            .parse::<jiff::Timestamp>()
            .map_err(|_| "neither a day nor an instant with its offset, as 2026-11-28T07:30:00Z".to_owned())?,
    };
    let nanos = i64::try_from(instant.as_nanosecond()).map_err(|_| "outside of 1677 to 2262".to_owned())?;
    Ok(Timestamp::from_unix_nanos(nanos))
}

/// Exports.
pub(super) fn main(options: &Options) -> ExitCode {
    let (data_dir, of_site) = match options.place.data_dir() {
        Ok(found) => found,
        Err(code) => return code,
    };
    let logs = match options.place.open(&data_dir) {
        Ok(logs) => logs,
        Err(code) => return code,
    };
    let gateway = options.gateway.or_else(|| of_site.and_then(|id| id.parse().ok())).or_else(|| left(&data_dir));
    let form = match (options.format, gateway) {
        (Format::Csv, _) => Form::Csv,
        (Format::Jsonl, Some(gateway)) => Form::Jsonl(gateway),
        (Format::Jsonl, None) => {
            return refuse("an envelope names its gateway, and nothing here does: say --gateway ID");
        }
    };
    match &options.out {
        None => run(&logs, options, form, BufWriter::new(io::stdout().lock()), |_| Ok(())),
        Some(path) => match File::create_new(path) {
            Ok(file) => run(&logs, options, form, BufWriter::new(file), |out| out.get_ref().sync_all()),
            Err(error) => refuse(format!("cannot make {}: {error}", path.display())),
        },
    }
}

/// Returns the gateway that the daemon's last status names.
fn left(data_dir: &Path) -> Option<Cri> {
    let status = std::fs::read(status::last_path(data_dir)).ok()?;
    serde_json::from_slice::<serde_json::Value>(&status).ok()?["gateway"].as_str()?.parse().ok()
}

#[derive(Clone, Copy)]
enum Form {
    Jsonl(Cri),
    Csv,
}

fn run<W: Write>(
    logs: &[Named],
    options: &Options,
    form: Form,
    mut out: BufWriter<W>,
    keep: impl FnOnce(&BufWriter<W>) -> io::Result<()>,
) -> ExitCode {
    let mut written = Written::default();
    let done = logs
        .iter()
        .try_for_each(|named| export(named, options, form, &mut out, &mut written))
        .and_then(|()| out.flush())
        .and_then(|()| keep(&out));
    match done {
        // Whoever reads has left.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write: {error}");
            ExitCode::FAILURE
        }
        Ok(()) => {
            if let Some(path) = &options.out {
                eprintln!("{} in {}", counted(written.observations, "observation"), path.display());
            }
            if written.unread { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
    }
}

#[derive(Default)]
struct Written {
    observations: u64,
    /// Whether the disk refused to hand out some of it.
    unread: bool,
    headed: bool,
}

fn export(named: &Named, options: &Options, form: Form, out: &mut impl Write, written: &mut Written) -> io::Result<()> {
    let Named { name, log } = named;
    let mut failed = None;
    let mut epoch = 0;
    let wanted = |stored: &Stored, delivered: bool| {
        let resource = options.resource.is_empty() || options.resource.contains(&stored.shape.resource);
        let after = options.from.is_none_or(|from| from <= stored.t);
        resource && after && options.to.is_none_or(|to| stored.t < to) && !(options.undelivered && delivered)
    };
    let tell = |finding: &Finding, written: &mut Written| {
        written.unread |= finding.weight() == Weight::Unread;
        eprintln!("{name}/{}:{}: {}", finding.file, finding.offset, finding.trouble);
    };
    log.findings().iter().for_each(|finding| tell(finding, written));
    let walked = log.walk(|seen| {
        let result = match seen {
            Seen::Segment(segment) => {
                epoch = segment.epoch();
                Ok(())
            }
            Seen::Finding(finding) => {
                tell(&finding, written);
                Ok(())
            }
            Seen::Observation { delivered, stored, .. } if wanted(&stored, delivered) => {
                written.observations += 1;
                match form {
                    Form::Jsonl(gateway) => envelope(out, gateway, epoch, &stored),
                    Form::Csv => rows(out, !std::mem::replace(&mut written.headed, true), &stored),
                }
            }
            Seen::Observation { .. }
            | Seen::Missing { .. }
            | Seen::LastSeq { .. }
            | Seen::Gap(_)
            | Seen::Mark { .. }
            | Seen::Hole { .. } => Ok(()),
        };
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    match (walked, failed) {
        (ControlFlow::Break(()), Some(error)) => Err(error),
        _ => Ok(()),
    }
}

fn envelope(out: &mut impl Write, gateway: Cri, epoch: u64, stored: &Stored) -> io::Result<()> {
    let shape = &stored.shape;
    let properties: Vec<Property<'_>> =
        shape.properties.iter().map(|own| Property { name: &own.name, unit: &own.unit }).collect();
    let (domain, directory) = (shape.domain.as_str(), shape.directory.as_str());
    let shape = Shape { resource: shape.resource, domain, directory, properties: &properties };
    let observation = Observation { shape, seq: stored.seq, t: stored.t, readings: &stored.readings };
    let envelope = Envelope { gateway, epoch, directory, clock: stored.clock, observations: &[observation] };
    serde_json::to_writer(&mut *out, &envelope).map_err(io::Error::from)?;
    out.write_all(b"\n")
}

/// Writes a line for each reading, the head of the table before the first.
fn rows(out: &mut impl Write, first: bool, stored: &Stored) -> io::Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    if first {
        table.write_record(["t", "id", "property", "value", "unit", "quality", "reason", "seq"])?;
    }
    let (t, id, seq) = (stored.t.to_string(), stored.shape.resource.to_string(), stored.seq.to_string());
    for (property, reading) in stored.shape.properties.iter().zip(&stored.readings) {
        let value = reading.value.map(|value| serde_json::to_string(&value)).transpose().map_err(io::Error::from)?;
        let reason = reading.quality.reason().map(|reason| reason.to_string());
        table.write_record([
            &t,
            &id,
            &property.name,
            value.as_deref().unwrap_or_default(),
            &property.unit,
            reading.quality.as_str(),
            reason.as_deref().unwrap_or_default(),
            &seq,
        ])?;
    }
    let rows = table.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
    out.write_all(&rows)
}

//! `ganglion buffer inspect`: what the disk holds, as a table for a person or as JSON.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use ganglion_protocols::{Cri, Gap, Origin, Timestamp};
use serde_json::{Value, json};

use super::{Named, Where, counted};
use crate::buffer::examine::{Numbering, Seen, SegmentFile, Weight};
use crate::buffer::outlook::{bytes_in_words, in_f64};
use crate::tools::say;

/// Rows of a table shown to a person: the first and the last half of them.
const MOST_ROWS: usize = 24;

/// What to inspect.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    place: Where,
    /// Print JSON, with every row.
    #[arg(long)]
    json: bool,
}

/// Inspects and prints.
pub(super) fn main(options: &Options) -> ExitCode {
    let data_dir = match options.place.data_dir() {
        Ok((data_dir, _)) => data_dir,
        Err(code) => return code,
    };
    let logs = match options.place.open(&data_dir) {
        Ok(logs) => logs,
        Err(code) => return code,
    };
    let views: Vec<View<'_>> = logs.iter().map(View::of).collect();
    let dead = DeadLetters::of(&data_dir.join("dead-letter"));
    if options.json {
        let mut document: serde_json::Map<String, Value> =
            views.iter().map(|view| (view.named.name.clone(), view.json())).collect();
        if let Some(dead) = dead {
            document.insert("dead_letter".to_owned(), json!({ "files": dead.files, "bytes": dead.bytes }));
        }
        return say(&format!("{:#}\n", Value::Object(document)));
    }
    let mut out = views.iter().map(View::text).collect::<Vec<_>>().join("\n");
    if let Some(DeadLetters { files, bytes }) = dead {
        out.push_str(&format!("\ndead-letter  {}, {}\n", counted(files, "file"), bytes_in_words(in_f64(bytes))));
    }
    say(&out)
}

/// What the broker would never take.
struct DeadLetters {
    files: u64,
    bytes: u64,
}

impl DeadLetters {
    fn of(dir: &Path) -> Option<Self> {
        let sizes = std::fs::read_dir(dir).ok()?.flatten().filter_map(|entry| entry.metadata().ok());
        let sizes: Vec<u64> = sizes.filter(std::fs::Metadata::is_file).map(|metadata| metadata.len()).collect();
        (!sizes.is_empty()).then(|| Self { files: sizes.len() as u64, bytes: sizes.iter().sum() })
    }
}

/// One log, looked through.
struct View<'a> {
    named: &'a Named,
    rows: Vec<Row<'a>>,
    resources: Vec<(Cri, crate::buffer::examine::Numbers, u64)>,
    /// What was declared lost, each once.
    gaps: Vec<Gap>,
    /// Up to where the samples of sources that number their own are taken.
    marks: BTreeMap<Cri, Origin>,
    findings: u64,
}

/// One segment.
struct Row<'a> {
    segment: &'a SegmentFile,
    span: Option<(Timestamp, Timestamp)>,
    observations: u64,
    undelivered: u64,
    holes: u64,
}

impl<'a> View<'a> {
    fn of(named: &'a Named) -> Self {
        let log = &named.log;
        let row = |segment| Row { segment, span: None, observations: 0, undelivered: 0, holes: 0 };
        let mut rows: Vec<Row<'_>> = log.segments().iter().map(row).collect();
        let mut at = None;
        let mut numbering = Numbering::default();
        let mut gaps: Vec<Gap> = Vec::new();
        let mut marks = BTreeMap::new();
        let mut undelivered = BTreeMap::<Cri, u64>::new();
        let damage = |finding: &crate::buffer::examine::Finding| u64::from(finding.weight() != Weight::Note);
        let mut findings: u64 = log.findings().iter().map(damage).sum();
        // Nothing breaks this walk.
        let _ended = log.walk(|seen| {
            match seen {
                Seen::Segment(segment) => {
                    numbering.segment(segment.epoch());
                    at = Some(at.map_or(0, |at| at + 1));
                }
                Seen::Missing { delivered: true, .. } => numbering.reclaimed(),
                Seen::Missing { delivered: false, .. } => {
                    findings += 1;
                    numbering.damage();
                }
                // One that an evicted segment held is written again.
                Seen::Gap(gap) if gaps.contains(&gap) => {}
                Seen::Gap(gap) => gaps.push(gap),
                Seen::Mark { resource, origin } => {
                    marks.insert(resource, origin);
                }
                Seen::Hole { .. } => numbering.damage(),
                Seen::LastSeq { resource, seq } => {
                    numbering.last_seq(resource, seq);
                }
                Seen::Observation { delivered, stored, .. } => {
                    numbering.observation(stored.shape.resource, stored.seq);
                    if !delivered {
                        *undelivered.entry(stored.shape.resource).or_default() += 1;
                    }
                    if let Some(row) = at.and_then(|at: usize| rows.get_mut(at)) {
                        let (first, last) = row.span.unwrap_or((stored.t, stored.t));
                        row.span = Some((first.min(stored.t), last.max(stored.t)));
                        row.observations += 1;
                        row.undelivered += u64::from(!delivered);
                    }
                }
                Seen::Finding(finding) => {
                    findings += damage(&finding);
                    if let Some(row) = at.and_then(|at: usize| rows.get_mut(at)) {
                        row.holes += damage(&finding);
                    }
                }
            }
            ControlFlow::Continue(())
        });
        numbering.finish();
        let of = |resource: &Cri| undelivered.get(resource).copied().unwrap_or(0);
        let resources = numbering.resources().map(|(resource, numbers)| (resource, numbers, of(&resource))).collect();
        Self { named, rows, resources, gaps, marks, findings }
    }

    fn total(&self, of: impl Fn(&Row<'_>) -> u64) -> u64 {
        self.rows.iter().map(of).sum()
    }

    fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let spans = || self.rows.iter().filter_map(|row| row.span);
        Some((spans().map(|span| span.0).min()?, spans().map(|span| span.1).max()?))
    }

    /// The format versions of the segments, the smallest first.
    fn versions(&self) -> Vec<u16> {
        let mut versions: Vec<u16> = self.rows.iter().map(|row| row.segment.version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }

    fn text(&self) -> String {
        let Named { name, log } = self.named;
        let mut out = format!("{name}  {}\n", log.dir().display());
        let Some(epoch) = log.epoch() else {
            let spares = counted(log.spares().len() as u64, "spare segment");
            out.push_str(&format!("  holds nothing: no segment that can be read, {spares}\n"));
            out.push_str(&self.verdict());
            return out;
        };
        let versions: Vec<String> = self.versions().iter().map(u16::to_string).collect();
        let cursor = log.cursor_version().map_or("none".to_owned(), |version| version.to_string());
        out.push_str(&format!(
            "  epoch     {epoch:016x}; format version {}, cursor {cursor}\n",
            versions.join(" and ")
        ));
        let bytes = self.total(|row| row.segment.bytes);
        out.push_str(&format!(
            "  segments  {}, {}; {} spare\n",
            self.rows.len(),
            bytes_in_words(in_f64(bytes)),
            log.spares().len()
        ));
        let span = self
            .span()
            .map_or(String::new(), |(first, last)| format!(", measured {} to {}", seconds(first), seconds(last)));
        let (held, undelivered) = (self.total(|row| row.observations), self.total(|row| row.undelivered));
        out.push_str(&format!("  holds     {}{span}\n", counted(held, "observation")));
        out.push_str(&format!("  cursor    {}; {undelivered} not delivered\n", log.delivered_in_words()));
        if !self.gaps.is_empty() {
            let lost = self.gaps.iter().map(Gap::count).sum();
            let declared = counted(self.gaps.len() as u64, "gap");
            out.push_str(&format!("  lost      {}, declared in {declared}\n", counted(lost, "observation")));
        }
        out.push_str(&self.verdict());
        out.push_str(&format!(
            "\n  {:>8}  {:>8}  {:<20}  {:<20}  {:>12}  {:>11}  {:>5}\n",
            "segment", "size", "first", "last", "observations", "undelivered", "holes"
        ));
        let rows = self.rows.iter().map(|row| {
            let (first, last) = row.span.map_or(("-".into(), "-".into()), |(a, b)| (seconds(a), seconds(b)));
            let size = bytes_in_words(in_f64(row.segment.bytes));
            let (number, holes) = (row.segment.number, row.holes);
            format!(
                "  {number:>8}  {size:>8}  {first:<20}  {last:<20}  {:>12}  {:>11}  {holes:>5}\n",
                row.observations, row.undelivered
            )
        });
        out.push_str(&some(rows.collect()));
        out.push_str(&format!(
            "\n  {:<22}  {:>10}  {:>10}  {:>12}  {:>11}  {:>7}\n",
            "resource", "first seq", "last seq", "observations", "undelivered", "missing"
        ));
        let numbered = self.resources.iter().filter(|(_, numbers, _)| numbers.last > 0);
        let rows = numbered.map(|(resource, numbers, undelivered)| {
            let first = if numbers.first == 0 { "-".to_owned() } else { numbers.first.to_string() };
            format!(
                "  {:<22}  {first:>10}  {:>10}  {:>12}  {undelivered:>11}  {:>7}\n",
                resource.to_string(),
                numbers.last,
                numbers.held,
                numbers.missing
            )
        });
        out.push_str(&some(rows.collect()));
        if !self.gaps.is_empty() {
            out.push_str(&format!(
                "\n  {:<22}  {:>10}  {:>10}  {:>12}  {:<20}  cause\n",
                "gap", "first seq", "last seq", "observations", "measured from"
            ));
            let rows = self.gaps.iter().map(|gap| {
                let (id, from) = (gap.resource().to_string(), seconds(gap.span().0));
                let (first, last, count, cause) = (gap.first(), gap.last(), gap.count(), gap.cause());
                format!("  {id:<22}  {first:>10}  {last:>10}  {count:>12}  {from:<20}  {cause}\n")
            });
            out.push_str(&some(rows.collect()));
        }
        if !self.marks.is_empty() {
            out.push_str(&format!("\n  {:<22}  {:>10}  {:>10}\n", "source of", "epoch", "taken to"));
            let rows = self.marks.iter().map(|(resource, origin)| {
                format!("  {:<22}  {:>10}  {:>10}\n", resource.to_string(), origin.epoch, origin.seq)
            });
            out.push_str(&some(rows.collect()));
        }
        out
    }

    fn verdict(&self) -> String {
        match self.findings {
            0 => "  damage    none\n".to_owned(),
            count => format!("  damage    {}: `ganglion buffer verify` says where\n", counted(count, "finding")),
        }
    }

    fn json(&self) -> Value {
        let log = &self.named.log;
        let row = |row: &Row<'_>| {
            json!({
                "number": row.segment.number, "bytes": row.segment.bytes, "version": row.segment.version,
                "first_t": row.span.map(|span| span.0), "last_t": row.span.map(|span| span.1),
                "observations": row.observations, "undelivered": row.undelivered, "holes": row.holes,
            })
        };
        let gap = |gap: &Gap| {
            json!({
                "id": gap.resource(), "first_seq": gap.first(), "last_seq": gap.last(), "observations": gap.count(),
                "first_t": gap.span().0, "last_t": gap.span().1, "cause": gap.cause().to_string(),
            })
        };
        let mark = |(resource, origin): (&Cri, &Origin)| {
            (resource.to_string(), json!({ "epoch": origin.epoch, "seq": origin.seq }))
        };
        let resources = self.resources.iter().map(|(resource, numbers, undelivered)| {
            let first = (numbers.first > 0).then_some(numbers.first);
            let row = json!({
                "first_seq": first, "last_seq": numbers.last, "observations": numbers.held,
                "undelivered": undelivered, "missing": numbers.missing,
            });
            (resource.to_string(), row)
        });
        json!({
            "dir": log.dir(),
            "epoch": log.epoch().map(|epoch| format!("{epoch:016x}")),
            "versions": self.versions(),
            "cursor_version": log.cursor_version(),
            "delivered": log.delivered_in_words(),
            "spares": log.spares().len(),
            "observations": self.total(|row| row.observations),
            "undelivered": self.total(|row| row.undelivered),
            "findings": self.findings,
            "marks": self.marks.iter().map(mark).collect::<serde_json::Map<_, _>>(),
            "gaps": self.gaps.iter().map(gap).collect::<Vec<_>>(),
            "segments": self.rows.iter().map(row).collect::<Vec<_>>(),
            "resources": resources.collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// Writes an instant to the second.
fn seconds(t: Timestamp) -> String {
    let text = t.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// Leaves the middle out of a long table.
fn some(rows: Vec<String>) -> String {
    if rows.len() <= MOST_ROWS {
        return rows.concat();
    }
    let (head, rest) = rows.split_at(MOST_ROWS / 2);
    let (middle, tail) = rest.split_at(rest.len() - MOST_ROWS / 2);
    format!("{}  … {} more, --json has them …\n{}", head.concat(), middle.len(), tail.concat())
}

//! The table, as text.

use std::fmt::Write as _;

use crate::load::{RESOURCES, Size};
use crate::part::{PER_COMMIT, Rate, Seen, as_f64};
use crate::volume::Volume;

/// Observations appended a second, at least.
const APPENDED: f64 = 500_000.0;
/// Bytes that the device may write per byte of payload at the largest commit.
const WRITTEN: f64 = 1.5;
/// Seconds that opening the backlog may take.
const OPENED: f64 = 1.0;

/// One line: a figure of each engine, and what is to be reached by the first.
struct Row {
    name: String,
    figures: Vec<Option<f64>>,
    /// What to reach, and whether more is better.
    target: Option<(f64, bool)>,
}

/// Returns what all figures have in common.
pub(crate) fn head(volume: &Volume, observations: u64, backlog: u64) -> String {
    let mean = |size: Size| as_f64(size.payload(0, 3 * RESOURCES as u64)) / as_f64(3 * RESOURCES as u64);
    format!(
        "on {}; {observations} observations for the rates, {RESOURCES} resources; payload is the record as stored:\n\
         small {:.0} bytes (1 to 3 readings), large {:.0} bytes (9 readings); backlog of {:.2} GB of payload.\n\
         ganglion: segments of 4 MiB; appended in groups, commits at 64 KiB. SQLite: WAL, synchronous FULL, 1000 observations\n\
         per transaction; what is delivered is deleted.",
        volume.what,
        mean(Size::Small),
        mean(Size::Hundred),
        as_f64(backlog) / 1e9,
    )
}

/// Returns the table of all engines, the buffer first.
pub(crate) fn of(seen: &[Seen]) -> String {
    let mut out = format!(
        "  {:<50} {:>10} {:>11} {:>11} {:>7} {:>7} {:>7}\n",
        "", "ganglion", "SQLite row", "SQLite BLOB", "of row", "of BLOB", "target"
    );
    let mut rows = Vec::new();
    let mut add = |name: String, figure: &dyn Fn(&Seen) -> Option<f64>, target: Option<(f64, bool)>| {
        rows.push(Row { name, figures: seen.iter().map(figure).collect(), target });
    };
    for (name, rate) in [("small", (|seen| seen.small) as fn(&Seen) -> Rate), ("large", |seen| seen.hundred)] {
        add(
            format!("{name}: appended and durable, 1000/s"),
            &|seen| Some(rate(seen).appended / 1e3),
            Some((APPENDED / 1e3, true)),
        );
        add(format!("{name}: drained and acknowledged, 1000/s"), &|seen| Some(rate(seen).drained / 1e3), None);
        add(format!("{name}: peak RSS of appending and draining, MB"), &|seen| Some(rate(seen).peak / 1e6), None);
    }
    for (place, records) in PER_COMMIT.into_iter().enumerate() {
        let target = (records == 1000).then_some((WRITTEN, false));
        add(
            format!("bytes written per byte, {records} per commit"),
            &|seen| Some(seen.wear.get(place)?.per_byte),
            target,
        );
    }
    for (place, records) in PER_COMMIT.into_iter().enumerate() {
        add(
            format!("flushes per append and delete, {records} per commit"),
            &|seen| Some(seen.wear.get(place)?.flushes),
            None,
        );
    }
    add("backlog on disk, GB".to_owned(), &|seen| Some(as_f64(seen.bytes) / 1e9), None);
    let target = Some((OPENED, false));
    add("open it, nothing in memory, s".to_owned(), &|seen| Some(seen.cold?.opened), target);
    add("… and read its first observations, s".to_owned(), &|seen| Some(seen.cold?.first), target);
    add("open it again, s".to_owned(), &|seen| Some(seen.warm.opened), target);
    add("… and read its first observations, s".to_owned(), &|seen| Some(seen.warm.first), target);
    rows.iter().for_each(|row| row.print(&mut out));
    out
}

impl Row {
    fn print(&self, out: &mut String) {
        let figure = |place: usize| self.figures.get(place).copied().flatten();
        let text =
            |figure: Option<f64>, digits: usize| figure.map_or("-".to_owned(), |figure| format!("{figure:.digits$}"));
        let ratio = |place: usize| Some(figure(0)? / figure(place)?);
        let verdict = match (figure(0), self.target) {
            (Some(own), Some((target, true))) => {
                if own >= target {
                    "met"
                } else {
                    "MISSED"
                }
            }
            (Some(own), Some((target, false))) => {
                if own <= target {
                    "met"
                } else {
                    "MISSED"
                }
            }
            _ => "",
        };
        let target = self.target.map(|(target, _)| target);
        let line = format!(
            "  {:<50} {:>10} {:>11} {:>11} {:>7} {:>7} {:>7}  {verdict}",
            self.name,
            text(figure(0), 3),
            text(figure(1), 3),
            text(figure(2), 3),
            text(ratio(1), 2),
            text(ratio(2), 2),
            text(target, 1),
        );
        writeln!(out, "{}", line.trim_end()).expect("a text grows");
    }
}

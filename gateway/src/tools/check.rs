//! `ganglion check`: whether a site file is good, and what the site will ask of the disk. Touches no wire.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use super::{REFUSED, load, say};
use crate::buffer::free_bytes;
use crate::buffer::outlook::{Outlook, Room, bytes_in_words, hours_in_words, in_f64};
use crate::buffer::predict::Prediction;
use crate::site::Site;

/// An outage that every site should last: a line that breaks at night is mended the next day.
const FEWEST_HOURS: f64 = 24.0;

/// Checks and prints.
#[must_use]
pub fn main(path: &Path) -> ExitCode {
    match load(path) {
        Ok((_, report)) if report.errors() > 0 => ExitCode::from(REFUSED),
        Ok((site, _)) => {
            let disk = OfDisk::at(&site);
            let prediction = Prediction::of(&site);
            let outlook = outlook(&site, &disk, &prediction);
            for warning in warnings(&site, &disk, &outlook) {
                eprintln!("warning: {warning}");
            }
            say(&summary(path, &site, &outlook, &prediction))
        }
        Err(code) => code,
    }
}

/// What the disk has and leaves.
struct OfDisk {
    /// Bytes of both logs' files that are there.
    files: u64,
    free: Option<u64>,
}

impl OfDisk {
    fn at(site: &Site) -> Self {
        let there = ["buffer", "events"].into_iter().flat_map(|log| std::fs::read_dir(site.data_dir.join(log)));
        let there = there.flatten().flatten();
        let files = there.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum();
        // A data directory that is not there yet will be made on the disk of the nearest that is.
        let free = site.data_dir.ancestors().find(|dir| dir.is_dir()).and_then(free_bytes);
        Self { files, free }
    }
}

fn outlook(site: &Site, disk: &OfDisk, prediction: &Prediction) -> Outlook {
    let quota = site.buffer.max_bytes;
    let room = Room { quota, held: 0, files: disk.files, disk: disk.free };
    Outlook { free: room.free(), rate: Some(prediction.bytes_per_s), used: (0, quota) }
}

fn warnings(site: &Site, disk: &OfDisk, outlook: &Outlook) -> Vec<String> {
    let mut warnings = Vec::new();
    let quota = site.buffer.max_bytes.saturating_add(site.event_buffer.max_bytes);
    if disk.free.is_some_and(|free| free.saturating_add(disk.files) < quota) {
        warnings.push(format!(
            "the file system of {} cannot hold the buffer: {} free, `max_bytes` of both logs are {}",
            site.data_dir.display(),
            bytes_in_words(in_f64(disk.free.unwrap_or(0))),
            bytes_in_words(in_f64(quota)),
        ));
    }
    if let Some(hours) = outlook.hours().filter(|hours| *hours < FEWEST_HOURS) {
        warnings.push(format!(
            "the buffer covers {} of outage, less than {FEWEST_HOURS:.0} h: raise `max_bytes` of [buffer], or poll less often",
            hours_in_words(hours),
        ));
    }
    warnings
}

fn summary(path: &Path, site: &Site, outlook: &Outlook, prediction: &Prediction) -> String {
    let points: usize = site.devices.iter().flat_map(|device| &device.groups).map(|group| group.points.len()).sum();
    let resources = site.streams.iter().map(|stream| stream.resource).collect::<BTreeSet<_>>().len();
    let brokers: Vec<String> = site.broker.brokers().iter().map(ToString::to_string).collect();
    let row = |name: &str, text: String| format!("  {name:<9}  {text}\n");
    [
        format!("{}: good\n", path.display()),
        row("gateway", site.gateway.to_string()),
        row("directory", site.directory.clone()),
        row("buses", site.buses.len().to_string()),
        row("devices", site.devices.len().to_string()),
        row("points", points.to_string()),
        row("resources", resources.to_string()),
        row("brokers", brokers.join(", ")),
        row("buffer", format!("{}; predicted", outlook.cover())),
        row("wear", wear(prediction)),
    ]
    .concat()
}

/// Writes `5.2 GB a day predicted; an 8 GB card of 3000 cycles lasts 12.6 years`.
fn wear(prediction: &Prediction) -> String {
    let years = prediction.years_of_a_card();
    if !years.is_finite() {
        return "nothing is polled, nothing is written".to_owned();
    }
    let lasts = if years > 100.0 { "more than 100 years".to_owned() } else { format!("{years:.1} years") };
    format!(
        "{} a day predicted; an 8 GB card of 3000 cycles lasts {lasts}",
        bytes_in_words(prediction.device_bytes_per_day)
    )
}

//! The observations as they come in, as a table.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::SystemTime;

use super::daemon::Snapshot;
use super::stage::Stage;
use crate::received::Reading;

/// A terminal that is drawn over; dropping it gives the terminal back as it was.
#[derive(Debug)]
pub(super) struct Screen(());

impl Screen {
    /// Changes to the second screen and hides the cursor.
    pub(super) fn open() -> Self {
        print!("\x1b[?1049h\x1b[?25l\x1b[2J");
        Self(())
    }

    /// Draws over what was there.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
        let mut frame = String::from("\x1b[H");
        for line in text.lines() {
            frame.push_str(line);
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str("\x1b[J");
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        print!("\x1b[?25h\x1b[?1049l");
        // Without a terminal there is nothing to give back.
        drop(io::stdout().flush());
    }
}

/// Returns what is known now: what happens, how much waits, and the newest reading of every property.
pub(super) fn text(act: &str, stage: &Stage, status: Option<&Snapshot>) -> String {
    let mut out = format!("{act}\n{}\n\n", counts(stage, status));
    let row = |[resource, property, value, unit, quality, age]: [&str; 6]| {
        format!("{resource:<22} {property:<16} {value:>12} {unit:<6} {quality:<22} {age:>6}\n")
    };
    out.push_str(&row(["resource", "property", "value", "unit", "quality", "age"]));
    stage.subscriber.look(|view| {
        for device in &stage.devices {
            let Some(latest) = view.received.resource(&device.resource).and_then(|seen| seen.latest()) else {
                out.push_str(&row([&device.resource, "-", "-", "", "", ""]));
                continue;
            };
            let age = age(&latest.t);
            for (property, reading) in &latest.readings {
                let (value, quality) = (value(reading), quality(reading));
                out.push_str(&row([&device.resource, property, &value, &reading.unit, &quality, &age]));
            }
        }
    });
    out
}

fn counts(stage: &Stage, status: Option<&Snapshot>) -> String {
    let (received, subscribed) = stage.subscriber.look(|view| (view.received.count(), view.subscribed));
    let mut out = String::new();
    match status {
        Some(status) => {
            let sum = |count: fn(&super::daemon::Counts) -> u64| status.resources.values().map(count).sum::<u64>();
            let (sampled, durable, delivered) =
                (sum(|counts| counts.sampled), sum(|counts| counts.durable), sum(|counts| counts.delivered));
            let uplink = if status.uplink.connected { "connected" } else { "not connected" };
            let waiting = durable.saturating_sub(delivered);
            let text = write!(
                out,
                "daemon {uplink}; sampled {sampled}, durable {durable}, delivered {delivered}, waiting {waiting}"
            );
            debug_assert!(text.is_ok(), "writing to a string cannot fail");
        }
        None => out.push_str("daemon starting"),
    }
    let subscriber = if subscribed { "" } else { " (not connected)" };
    out + &format!("; received {received}{subscriber}")
}

fn value(reading: &Reading) -> String {
    let text = reading.value.to_string();
    match reading.value.as_f64() {
        Some(number) if text.len() > 12 => format!("{number:.6}"),
        None if reading.value.is_null() => "-".to_owned(),
        _ => text,
    }
}

fn quality(reading: &Reading) -> String {
    match &reading.reason {
        Some(reason) => format!("{} ({reason})", reading.quality),
        None => reading.quality.clone(),
    }
}

/// Seconds since the time of measurement.
fn age(t: &str) -> String {
    let measured = t.parse::<jiff::Timestamp>().ok().map(SystemTime::from);
    let age = measured.and_then(|measured| SystemTime::now().duration_since(measured).ok());
    age.map_or_else(String::new, |age| format!("{:.1} s", age.as_secs_f64()))
}

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

    /// Draws over what was there, as much as the terminal is high.
    pub(super) fn draw(&self, text: &str) -> io::Result<()> {
        let height = terminal_size::terminal_size().map_or(24, |(_, height)| usize::from(height.0));
        let mut frame = String::from("\x1b[H");
        for line in fitting(text, height) {
            frame.push_str(&line);
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

/// Returns the lines that fit above the last line of a terminal; one says how many do not.
fn fitting(text: &str, height: usize) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let room = height.saturating_sub(1);
    if lines.len() > room {
        let hidden = lines.len() - room.saturating_sub(1);
        lines.truncate(room.saturating_sub(1));
        lines.push(format!("… and {hidden} more in a higher window"));
    }
    lines
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
        Some(number) if reading.value.is_f64() && text.len() > 12 => format!("{number:.6}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_the_terminal_is_counted_instead_of_shown() {
        assert_eq!(fitting("a\nb\nc", 4), ["a", "b", "c"]);
        assert_eq!(fitting("a\nb\nc\nd", 4), ["a", "b", "… and 2 more in a higher window"]);
    }

    #[test]
    fn values_keep_their_digits_and_long_ones_are_cut() {
        let shown = |value: serde_json::Value| {
            let (unit, quality) = (String::new(), "good".to_owned());
            super::value(&Reading { value, unit, quality, reason: None })
        };
        assert_eq!(shown(0.412.into()), "0.412");
        assert_eq!(shown(51.857_677_459_716_8.into()), "51.857677");
        assert_eq!(shown(u64::MAX.into()), "18446744073709551615");
        assert_eq!(shown(true.into()), "true");
        assert_eq!(shown(serde_json::Value::Null), "-");
    }
}

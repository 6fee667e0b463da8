//! How far a transfer is: a bar on a terminal, a line now and then elsewhere. On standard error.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Columns of the bar.
const BAR: usize = 30;
/// Time between two lines where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows a transfer.
pub(super) struct Progress {
    bar: bool,
    begin: Option<(Instant, u32)>,
    told: Instant,
    shown: bool,
}

impl Progress {
    /// Shows nothing yet.
    pub(super) fn new() -> Self {
        Self { bar: io::stderr().is_terminal(), begin: None, told: Instant::now(), shown: false }
    }

    /// Shows that so many bytes of so many are there.
    pub(super) fn at(&mut self, done: u32, all: u32) {
        let (since, first) = *self.begin.get_or_insert((Instant::now(), done));
        let text = text(done, all, done.saturating_sub(first), since.elapsed());
        if self.bar {
            eprint!("\r\x1b[K[{}] {text}", bar(done, all));
            io::stderr().flush().ok();
            self.shown = true;
        } else if self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            eprintln!("{text}");
        }
    }

    /// Tells something that stays.
    pub(super) fn say(&mut self, text: &str) {
        if std::mem::take(&mut self.shown) {
            eprintln!();
        }
        eprintln!("{text}");
    }
}

fn bar(done: u32, all: u32) -> String {
    let filled = usize::try_from(u64::from(done) * 30 / u64::from(all.max(1))).unwrap_or(BAR).min(BAR);
    format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled))
}

/// Writes bytes, share, rate and time left.
fn text(done: u32, all: u32, carried: u32, took: Duration) -> String {
    let percent = u64::from(done) * 100 / u64::from(all.max(1));
    let mut text = format!("{done} of {all} bytes, {percent} %");
    let rate = f64::from(carried) / took.as_secs_f64().max(0.001);
    if carried > 0 {
        let left = f64::from(all.saturating_sub(done)) / rate;
        text.push_str(&format!(", {rate:.0} bytes/s, {left:.0} s left"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_says_how_fast_it_is_and_when_it_ends() {
        assert_eq!(text(600, 1000, 400, Duration::from_secs(2)), "600 of 1000 bytes, 60 %, 200 bytes/s, 2 s left");
        assert_eq!(text(0, 1000, 0, Duration::ZERO), "0 of 1000 bytes, 0 %");
        assert_eq!(bar(500, 1000), format!("{}{}", "#".repeat(15), ".".repeat(15)));
        assert_eq!(bar(0, 0), ".".repeat(30));
    }
}

//! Adds up what the test programs of one `cargo test` report, each for itself.

use std::fmt;
use std::time::Duration;

/// Sum of the `test result:` lines seen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Totals {
    passed: u64,
    failed: u64,
    ignored: u64,
    measured: u64,
    filtered_out: u64,
    time: Duration,
}

impl Totals {
    /// Adds one line of output if it is a result.
    pub(crate) fn see(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ").and_then(|(_, result)| result.split_once(". ")) else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                "measured" => self.measured += number,
                "filtered out" => self.filtered_out += number,
                _ => {}
            }
        }
    }

    /// Adds the time one `cargo test` took.
    pub(crate) fn took(&mut self, time: Duration) {
        self.time += time;
    }
}

impl fmt::Display for Totals {
    /// Writes the sum as cargo writes each part.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, ignored, measured, filtered_out, time } = self;
        let verdict = if *failed == 0 { "ok" } else { "FAILED" };
        write!(f, "test result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; ")?;
        write!(f, "{measured} measured; {filtered_out} filtered out; finished in {:.2}s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_everything_else_is_passed_over() {
        let mut totals = Totals::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s",
            "test tests::a_test_result: ... ok",
            "test result: \u{1b}[31mFAILED\u{1b}[0m. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s",
        ] {
            totals.see(line);
        }
        totals.took(Duration::from_millis(2500));
        assert_eq!(
            totals.to_string(),
            "test result: FAILED. 7 passed; 1 failed; 1 ignored; 0 measured; 2 filtered out; finished in 2.50s"
        );
    }
}

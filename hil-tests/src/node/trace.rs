//! Everything that was on a pair, with times, as lines of text.
//!
//! A line is what one end said without a gap: milliseconds since the start of the pair at which its first character was
//! over, the end, the characters in hex. `!` behind a character: a collision spoiled it; `~`: noise hit it; `+` before
//! it: noise made it; `(..)`: noise took it; `[..]`: its end was cut off.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::wire::{End, Fate, Heard};

/// Writes a trace as it happens.
#[derive(Debug)]
pub(super) struct Trace<W> {
    out: W,
    names: Vec<String>,
    start: Instant,
    character: Duration,
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    from: End,
    last: Instant,
    line: String,
}

impl<W: Write> Trace<W> {
    pub(super) fn new(out: W, names: Vec<String>, start: Instant, character: Duration) -> Self {
        Self { out, names, start, character, said: None }
    }

    /// Notes a character.
    pub(super) fn note(&mut self, heard: &Heard) -> io::Result<()> {
        if self.said.as_ref().is_some_and(|said| said.from != heard.from || self.is_gap(said.last, heard.over)) {
            self.end_line()?;
        }
        let name = self.names.get(heard.from.0).map_or("?", String::as_str);
        let since = heard.over.saturating_duration_since(self.start).as_secs_f64() * 1000.0;
        let begin = || Said { from: heard.from, last: heard.over, line: format!("{since:12.3} {name:<12}") };
        let said = self.said.get_or_insert_with(begin);
        said.last = heard.over;
        let byte = heard.byte;
        match heard.fate {
            Fate::Whole => write!(said.line, " {byte:02X}"),
            Fate::Hit => write!(said.line, " {byte:02X}~"),
            Fate::Spoiled => write!(said.line, " {byte:02X}!"),
            Fate::Inserted => write!(said.line, " +{byte:02X}"),
            Fate::Dropped => write!(said.line, " ({byte:02X})"),
            Fate::Cut => write!(said.line, " [{byte:02X}]"),
        }
        .map_err(io::Error::other)
    }

    /// Writes the line under way if nothing has followed for a while.
    pub(super) fn settle(&mut self, now: Instant) -> io::Result<()> {
        match &self.said {
            Some(said) if self.is_gap(said.last, now) => self.end_line(),
            _ => Ok(()),
        }
    }

    /// Writes the line under way.
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        let Some(said) = self.said.take() else { return Ok(()) };
        writeln!(self.out, "{}", said.line)
    }

    /// 1.5 characters between two that are over: no frame has such a gap inside.
    ///
    /// Source: MODBUS over Serial Line V1.02 §2.5.1.1.
    fn is_gap(&self, last: Instant, over: Instant) -> bool {
        over.saturating_duration_since(last) > self.character * 5 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Wire;
    use super::*;

    #[test]
    fn a_line_of_a_trace_is_what_one_end_said_without_a_gap_and_marks_what_was_spoiled() {
        let character = Duration::from_millis(1);
        let mut wire = Wire::new(character, 2, 1);
        let start = Instant::now();
        wire.say(start, End(0), &[1, 2]);
        wire.say(start + 10 * character, End(0), &[3]);
        wire.say(start + 10 * character, End(1), &[4]);
        wire.say(start + 20 * character, End(1), &[5]);
        let mut heard = wire.advance(start + 15 * character);
        wire.set_cut(End(1), true);
        heard.extend(wire.advance(start + 30 * character));
        let names = vec!["gateway".to_owned(), "node".to_owned()];
        let mut trace = Trace::new(Vec::new(), names, start, character);
        for one in &heard {
            trace.note(one).expect("memory takes it");
        }
        trace.end_line().expect("memory takes it");
        let text = String::from_utf8(trace.out).expect("text");
        let lines = [
            "       1.000 gateway      01 02",
            "      11.000 gateway      59!",
            "      11.000 node         5E!",
            "      21.000 node         [05]",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }
}

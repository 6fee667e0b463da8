//! The raw bytes of every bus, as text that people read and tests replay.
//!
//! One line an event: seconds since the trace began, name of the bus, what happened, bytes in hex as they came:
//!
//! ```text
//! # ganglion trace 1
//! 0.000000412 pump-house started
//! 0.000812013 pump-house opened
//! 0.004120100 pump-house > 010300000002C40B
//! 0.021934977 pump-house < 010304
//! 0.022981451 pump-house < 890242C7009D
//! 0.251007800 pump-house .
//! 61.118232090 pump-house lost
//! 62.119104555 pump-house down
//! ```
//!
//! `.` is time that passed: the bus looked what is due. With these the trace holds all that the engine is told, to the
//! nanosecond, so that it can be told it again. `started` is the instant from which the bus counts its times, `lost` a wire that may be back at once, `down` one that
//! is not.
//!
//! Spaces in a bus's name are written as `_`. Bytes arrive as the driver hands them over, not frame by frame.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tracing::warn;

/// First line of a trace.
pub const HEADER: &str = "# ganglion trace 1";

/// Where the bytes of the buses are written down; without a destination nothing is.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Sink>>);

struct Sink {
    start: Instant,
    out: Mutex<Box<dyn Write + Send>>,
}

/// What happened on a bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment<'a> {
    /// The bus task was started; its polls are counted from here.
    Started,
    /// Time has passed.
    Woken,
    /// The wire was opened.
    Opened,
    /// The wire was lost; it may be back at once.
    Lost,
    /// The wire cannot be opened for the time being.
    Down,
    /// A frame was sent.
    Sent(&'a [u8]),
    /// Bytes were received.
    Received(&'a [u8]),
}

impl Trace {
    /// Writes to anything.
    #[must_use]
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self(Some(Arc::new(Sink { start: Instant::now(), out: Mutex::new(out) })))
    }

    /// Writes to a new file.
    ///
    /// # Errors
    /// When the file cannot be made or written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        writeln!(file, "{HEADER}")?;
        Ok(Self::to(Box::new(file)))
    }

    /// Writes one line for what happens now.
    pub(crate) fn record(&self, bus: &str, moment: Moment<'_>) {
        self.record_at(Instant::now(), bus, moment);
    }

    /// Writes one line. What cannot be written is said in the log, once for each line: a trace is switched on by a person
    /// who looks.
    pub(crate) fn record_at(&self, at: Instant, bus: &str, moment: Moment<'_>) {
        let Some(sink) = &self.0 else { return };
        let at = at.saturating_duration_since(sink.start);
        let bus = bus.replace(char::is_whitespace, "_");
        let mut line = format!("{}.{:09} {bus} ", at.as_secs(), at.subsec_nanos());
        let bytes = match moment {
            Moment::Started | Moment::Woken | Moment::Opened | Moment::Lost | Moment::Down => {
                line.push_str(moment.word());
                &[][..]
            }
            Moment::Sent(bytes) => {
                line.push_str("> ");
                bytes
            }
            Moment::Received(bytes) => {
                line.push_str("< ");
                bytes
            }
        };
        line.extend(bytes.iter().map(|byte| format!("{byte:02X}")));
        line.push('\n');
        let mut out = sink.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = out.write_all(line.as_bytes()) {
            warn!(bus, %error, "the trace cannot be written");
        }
    }
}

impl Moment<'_> {
    /// Returns the word, or the sign before the bytes, that stands for it in a trace.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Woken => ".",
            Self::Opened => "opened",
            Self::Lost => "lost",
            Self::Down => "down",
            Self::Sent(_) => ">",
            Self::Received(_) => "<",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_one_line_an_event() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        let trace = Trace::create(&path).unwrap();
        trace.record("pump house", Moment::Opened);
        trace.record("pump house", Moment::Sent(&[0x01, 0x03, 0xAB]));
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], HEADER);
        assert!(lines[1].ends_with(" pump_house opened") && lines[2].ends_with(" pump_house > 0103AB"), "{text}");
    }
}

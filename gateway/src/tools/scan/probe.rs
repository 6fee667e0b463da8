//! Single questions on a line that may be somebody else's.

use std::io;
use std::time::{Duration, Instant};

use ganglion_drivers::client::{Client, Counts, Failure, Framing, Outcome, StartError};
use ganglion_protocols::modbus::pdu::{MAX_PDU, Request};
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

use crate::acquire::trace::{Moment, Trace};
use crate::acquire::wire::{PreciseTimer, Wire};
use crate::tools::frames::{Joiner, What};

/// Name of the bus in a trace of a scan.
const BUS: &str = "scan";

/// A wire that is listened to before it is asked, and between two questions.
pub(super) struct Prober {
    wire: Wire,
    client: Client,
    timer: PreciseTimer,
    start: Instant,
    patience: Duration,
    trace: Trace,
}

/// What came of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// The PDU of its answer.
    Answer(Vec<u8>),
    /// Somebody is there and refuses.
    Exception(ExceptionCode),
    /// Nobody.
    Silence,
    /// Something came that is no answer: damaged, or of another shape.
    Spoiled,
}

/// What was heard without asking.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Overheard {
    /// Bytes.
    pub(super) bytes: usize,
    /// Whole frames, in words.
    pub(super) frames: Vec<String>,
}

impl Prober {
    pub(super) fn new(wire: Wire, framing: Framing, patience: Duration, trace: Trace) -> Self {
        trace.record(BUS, Moment::Opened);
        let (timer, start) = (PreciseTimer::new(), Instant::now());
        Self { wire, client: Client::new(Duration::ZERO, framing), timer, start, patience, trace }
    }

    pub(super) fn counts(&self) -> Counts {
        self.client.counts()
    }

    pub(super) fn desynchronised(&self) -> bool {
        self.client.desynchronised()
    }

    /// Listens for a while without asking anything.
    pub(super) async fn listen(&mut self, time: Duration) -> io::Result<Overheard> {
        let until = Instant::now() + time;
        let mut joiner = Joiner::default();
        let (mut buffer, mut heard) = ([0; 512], Overheard::default());
        let mut frames = Vec::new();
        loop {
            let read = tokio::select! {
                biased;
                read = self.wire.read(&mut buffer) => read?,
                () = self.timer.until(until) => break,
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            self.trace.record(BUS, Moment::Received(bytes));
            self.client.handle_bytes(self.start.elapsed(), bytes);
            heard.bytes += bytes.len();
            frames.extend(joiner.take(self.start.elapsed(), Moment::Received(bytes)));
        }
        frames.extend(joiner.flush());
        heard.frames = frames
            .into_iter()
            .filter_map(|seen| match seen.what {
                What::Received(words) => Some(words),
                _ => None,
            })
            .collect();
        Ok(heard)
    }

    /// Asks one question once the line is silent, and waits for its end. Returns also how soon the answer began.
    pub(super) async fn ask(&mut self, unit: UnitId, request: &Request<'_>) -> io::Result<(Heard, Duration)> {
        let mut pdu = [0; MAX_PDU];
        let length = request.emit(&mut pdu).map_err(io::Error::other)?;
        let pdu = pdu.get(..length).unwrap_or_default();
        let mut buffer = [0; 512];
        let (before, sent) = loop {
            self.take_what_came(&mut buffer).await?;
            let now = self.start.elapsed();
            let usable = self.client.usable_at(unit, pdu).max(self.client.silent_at());
            if usable > now {
                tokio::select! {
                    biased;
                    read = self.wire.read(&mut buffer) => drop(self.received(&buffer, read?)),
                    () = self.timer.until(self.start + usable) => {}
                }
                continue;
            }
            let before = self.client.counts();
            match self.client.start(now, unit, pdu, self.patience) {
                Ok(frame) => {
                    let sent = frame.len();
                    self.trace.record(BUS, Moment::Sent(frame));
                    self.wire.write(frame).await?;
                    break (before, sent);
                }
                Err(StartError::TooEarly { .. }) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        };
        let mut came = 0;
        loop {
            let until = self.client.poll_timeout().unwrap_or_else(|| self.start.elapsed());
            let outcome = tokio::select! {
                biased;
                read = self.wire.read(&mut buffer) => {
                    let read = read?;
                    came += read;
                    self.received(&buffer, read)
                }
                () = self.timer.until(self.start + until) => self.client.handle_timeout(self.start.elapsed()),
            };
            if let Some(outcome) = outcome {
                let (heard, turnaround) = self.heard(outcome);
                let unexplained = came > 0 && !self.explained(&before, came, sent);
                return Ok((if heard == Heard::Silence && unexplained { Heard::Spoiled } else { heard }, turnaround));
            }
        }
    }

    /// Says whether what came is the echo of what was sent, or frames of others.
    fn explained(&self, before: &Counts, came: usize, sent: usize) -> bool {
        let now = self.client.counts();
        let frames = |counts: &Counts| counts.foreign_requests + counts.unasked_answers + counts.late_answers;
        now.echoes > before.echoes && came <= sent || frames(&now) > frames(before)
    }

    /// Hands on what lies ready, so that it is not taken for an answer.
    async fn take_what_came(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let read = tokio::select! {
            biased;
            read = self.wire.read(buffer) => read?,
            () = std::future::ready(()) => return Ok(()),
        };
        self.received(buffer, read);
        Ok(())
    }

    fn received(&mut self, buffer: &[u8], read: usize) -> Option<Outcome> {
        let bytes = buffer.get(..read).unwrap_or_default();
        self.trace.record(BUS, Moment::Received(bytes));
        self.client.handle_bytes(self.start.elapsed(), bytes)
    }

    fn heard(&self, outcome: Outcome) -> (Heard, Duration) {
        match outcome {
            Outcome::Answered { turnaround } => (Heard::Answer(self.client.answer().to_vec()), turnaround),
            Outcome::Refused(code) => (Heard::Exception(code), Duration::ZERO),
            Outcome::Failed(Failure::Timeout) | Outcome::Sent => (Heard::Silence, Duration::ZERO),
            Outcome::Failed(_) => (Heard::Spoiled, Duration::ZERO),
        }
    }
}

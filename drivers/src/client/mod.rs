//! One exchange: a request out, its answer in.
//!
//! [`Client`] frames a request PDU for a serial line (RTU) or a TCP connection, and says of the bytes that come whether
//! they answer it. It waits for one answer at a time and retries nothing; what to ask, and when again, is its owner's.
//!
//! **RTU.** The answer's unit, function and length follow from the request; only a frame that fits in all three and has a
//! right CRC is believed, wherever in the bytes it begins, and the moment it is whole. Stray bytes, the echo of the
//! request, half frames and the traffic of other clients are stepped over and counted. A frame that began before the
//! request was sent never answers it. Pauses inside a frame end it only after [`Timing::answer_slack`]: the 1.5
//! characters of the standard cannot be seen behind a FIFO.
//!
//! After a request that was given up, an answer of its unit, function and length is *suspect* for [`Timing::late_reply`]:
//! no such request is sent until the late answer was heard, with no copy right behind it, or the time is over, and no exception answer of that unit and
//! function is believed. A request of another client makes its answer suspect in the same way. So a value is never taken
//! from the answer to another request, as long as no answer comes later than `late_reply`.
//!
//! Two things cannot be told apart. On a line with another client, its request for coils or inputs from 0x0300 to 0x03FF
//! reads as the answer to a request of 17 to 24 coils or inputs of that unit. And on a line that echoes, before the first
//! read has shown it, the echo of a request that may be answered by its own bytes (0x05, 0x06, 0x16, and functions whose
//! answers are not known here) reads as the answer.
//!
//! **TCP.** The transaction number tells late answers. When a header cannot be one, the place in the stream is lost:
//! [`Client::desynchronised`] tells the owner to replace the connection.
//!
//! **Invariants.** Every buffer is as large as the longest frame; what comes in never makes them grow, wrap or panic. The
//! outcome does not depend on the lumps in which bytes are handed over, if the times are the same.

mod counts;
mod expect;
mod heard;
mod rtu;
mod suspects;
mod tcp;
mod timing;

use core::fmt;
use core::time::Duration;

use ganglion_protocols::Reason;
use ganglion_protocols::modbus::{ExceptionCode, UnitId};

pub use counts::Counts;
pub use timing::{Timing, character_time, frame_gap};

/// How requests and answers are laid on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Unit, PDU, CRC; on a serial line or a stream that stands for one.
    Rtu(Timing),
    /// Modbus TCP.
    Tcp,
}

/// How an exchange ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The answer is in [`Client::answer`].
    Answered {
        /// From the end of the request, on TCP from its begin, to the first byte of the answer.
        turnaround: Duration,
    },
    /// The unit answered with an exception.
    Refused(ExceptionCode),
    /// There is no answer to believe.
    Failed(Failure),
    /// A broadcast and the time to obey it are over; nobody answers.
    Sent,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// Nothing that looks like a frame came in time.
    Timeout,
    /// What came was damaged, cut short or no frame.
    Malformed,
    /// A right frame came: of another unit or function, or one that could belong to another request.
    WrongReply,
    /// The answer had another length than the request demands.
    WrongLength,
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Timeout => Self::Timeout,
            Failure::Malformed => Self::Malformed,
            Failure::WrongReply => Self::WrongReply,
            Failure::WrongLength => Self::WrongLength,
        }
    }
}

/// Why a request was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// An exchange is in progress.
    Busy,
    /// The line is not silent yet, or an answer like the one to this request may still come.
    TooEarly {
        /// As of [`Client::usable_at`].
        until: Duration,
    },
    /// The PDU is no request of its function: its length or count is impossible.
    NotARequest {
        /// Function code, if there is any byte.
        function: Option<u8>,
    },
    /// Only writes may go to every unit of a serial line (MODBUS over Serial Line V1.02 §2.1).
    BroadcastRead {
        /// Function code.
        function: u8,
    },
    /// The place in the TCP stream is lost: the connection must be replaced.
    Desynchronised,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("an exchange is in progress"),
            Self::TooEarly { until } => write!(f, "the line may not be used before {} ms", until.as_millis()),
            Self::NotARequest { function: Some(function) } => {
                write!(f, "the PDU is no request of function 0x{function:02X}")
            }
            Self::NotARequest { function: None } => f.write_str("the PDU is empty"),
            Self::BroadcastRead { function } => write!(f, "function 0x{function:02X} cannot be broadcast"),
            Self::Desynchronised => f.write_str("the place in the stream is lost"),
        }
    }
}

impl core::error::Error for StartError {}

/// The client's side of one wire. Times are durations since any one start, the same for every call.
#[derive(Clone, Debug)]
pub struct Client {
    engine: Engine,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "there is no heap to put it on, and one client a wire")]
enum Engine {
    Rtu(rtu::Rtu),
    Tcp(tcp::Tcp),
}

impl Client {
    /// Takes a wire just opened. On a serial line somebody else may have asked before, so everything is suspect for
    /// `late_reply`.
    #[must_use]
    pub fn new(now: Duration, framing: Framing) -> Self {
        Self {
            engine: match framing {
                Framing::Rtu(timing) => Engine::Rtu(rtu::Rtu::new(now, timing)),
                Framing::Tcp => Engine::Tcp(tcp::Tcp::new()),
            },
        }
    }

    /// Returns the earliest time at which any request may go out, if nothing is heard until then: 3.5 characters after
    /// the last byte heard and after the own request has left the port. Zero on TCP.
    ///
    /// It is bounded: a line that never falls silent may be used again once it was loud for 512 characters and
    /// `late_reply`, counted in [`Counts::babbled`]; the CRC then has to find what the noise spoils.
    #[must_use]
    pub fn silent_at(&self) -> Duration {
        match &self.engine {
            Engine::Rtu(rtu) => rtu.silent_at(),
            Engine::Tcp(_) => Duration::ZERO,
        }
    }

    /// Returns the earliest time at which this request may go out, if nothing is heard until then: when the line is
    /// silent and no answer that could be taken for the one to this request is due any more.
    #[must_use]
    pub fn usable_at(&self, unit: UnitId, pdu: &[u8]) -> Duration {
        match &self.engine {
            Engine::Rtu(rtu) => rtu.usable_at(unit, pdu),
            Engine::Tcp(_) => Duration::ZERO,
        }
    }

    /// Begins an exchange and returns the frame, which must be sent at once.
    ///
    /// `patience` runs from the end of the request, computed from the line's speed, to the first byte of the answer; the
    /// rest of the frame then has half as much again as its characters take, and `answer_slack`. On TCP `patience` is for
    /// the whole answer, from now. For a broadcast (unit 0 on a serial line) it is the time the units have to obey.
    ///
    /// # Errors
    /// As [`StartError`] says; nothing has changed then.
    pub fn start(&mut self, now: Duration, unit: UnitId, pdu: &[u8], patience: Duration) -> Result<&[u8], StartError> {
        match &mut self.engine {
            Engine::Rtu(rtu) => rtu.start(now, unit, pdu, patience),
            Engine::Tcp(tcp) => tcp.start(now, unit, pdu, patience),
        }
    }

    /// Takes bytes just received, with or without an exchange in progress. Returns its outcome if they end it.
    pub fn handle_bytes(&mut self, now: Duration, bytes: &[u8]) -> Option<Outcome> {
        match &mut self.engine {
            Engine::Rtu(rtu) => rtu.handle_bytes(now, bytes),
            Engine::Tcp(tcp) => tcp.handle_bytes(now, bytes),
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), if no bytes come before; `None` without an exchange.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.engine {
            Engine::Rtu(rtu) => rtu.poll_timeout(),
            Engine::Tcp(tcp) => tcp.poll_timeout(),
        }
    }

    /// Says that it is `now` and everything received before was handed over. Returns the outcome of the exchange if this
    /// ends it.
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Outcome> {
        match &mut self.engine {
            Engine::Rtu(rtu) => rtu.handle_timeout(now),
            Engine::Tcp(tcp) => tcp.handle_timeout(now),
        }
    }

    /// Gives the exchange in progress up; its answer is suspect from now on.
    pub fn abandon(&mut self, now: Duration) {
        match &mut self.engine {
            Engine::Rtu(rtu) => rtu.abandon(now),
            Engine::Tcp(tcp) => tcp.abandon(),
        }
    }

    /// Returns the PDU of the last answer; empty after any other outcome.
    #[must_use]
    pub fn answer(&self) -> &[u8] {
        match &self.engine {
            Engine::Rtu(rtu) => rtu.answer(),
            Engine::Tcp(tcp) => tcp.answer(),
        }
    }

    /// Returns what was heard so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        match &self.engine {
            Engine::Rtu(rtu) => rtu.counts(),
            Engine::Tcp(tcp) => tcp.counts(),
        }
    }

    /// Says whether the adapter is known to hear what it sends.
    #[must_use]
    pub const fn echoes(&self) -> bool {
        match &self.engine {
            Engine::Rtu(rtu) => rtu.echoes(),
            Engine::Tcp(_) => false,
        }
    }

    /// Says whether the place in the TCP stream is lost and the connection must be replaced.
    #[must_use]
    pub const fn desynchronised(&self) -> bool {
        match &self.engine {
            Engine::Rtu(_) => false,
            Engine::Tcp(tcp) => tcp.desynchronised(),
        }
    }
}

//! One question at a time on a line with nodes: asked, waited for, asked again.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use ganglion_drivers::client::{character_time, frame_gap};
use ganglion_protocols::node_link::{Answer, Ask, Head, MAX_FRAME, MAX_PAYLOAD, Refusal, Speaker, VERSION, open, seal};

use crate::acquire::trace::{Moment, Trace};
use crate::acquire::wire::{PreciseTimer, Wire};
use crate::site::{LineSpeed, Link};
use crate::tools::plan;

/// Name of the bus in a trace.
const BUS: &str = "node";
/// How often a question is asked that nobody answers.
const TRIES: u8 = 3;
/// USB adapters hand bytes over in lumps up to 16 ms apart, so that much silence is needed to know that there is some.
const SLACK: Duration = Duration::from_millis(20);

/// An open line with nodes.
pub(super) struct NodeLine {
    wire: Wire,
    timer: PreciseTimer,
    trace: Trace,
    /// How it was opened, in words: what an error names.
    how: String,
    character: Duration,
    gap: Duration,
    patience: Duration,
    token: u8,
    /// What was heard since the last delimiter.
    heard: Vec<u8>,
    /// Bytes heard that were part of no frame, since the last question.
    noise: usize,
    /// When the line was last busy, as far as this side knows.
    busy: Instant,
}

/// The payload of an answer, which is a whole message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    /// Who answered.
    pub(super) unit: u8,
    version: u8,
    payload: Vec<u8>,
}

/// Why a node did not do what was asked.
#[derive(Debug)]
pub(super) enum NodeError {
    /// The wire was lost.
    Lost(io::Error),
    /// Nobody answered.
    Silent {
        /// Who was asked.
        unit: u8,
        /// How the line was open.
        how: String,
        /// For how long each of the tries was waited.
        patience: Duration,
        /// Bytes that came and were no frame.
        noise: usize,
    },
    /// The node refuses.
    Refused(Refusal),
    /// The node knows other versions of the node link only.
    Version {
        /// The lowest it knows.
        lowest: u8,
        /// The highest.
        highest: u8,
    },
    /// The node answered something else than what was asked.
    Strange {
        /// Who.
        unit: u8,
    },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(error) => write!(f, "the wire was lost: {error}"),
            Self::Silent { unit, how, patience, noise } => {
                let ms = patience.as_millis();
                writeln!(f, "node {unit} does not answer: asked {TRIES} times at {how}, waited {ms} ms each")?;
                f.write_str(match noise {
                    0 => {
                        "check: its address and speed (`ganglion node list` with other --baud), its supply, A and B \
                         (swap them), ground and termination"
                    }
                    _ => {
                        "something came that is no frame: another speed or parity, noise, or two nodes with this address \
                         (`ganglion node list` names both)"
                    }
                })
            }
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Version { lowest, highest } => {
                write!(f, "the node knows the node link in versions {lowest} to {highest}, this tool version {VERSION}")
            }
            Self::Strange { unit } => write!(f, "node {unit} answered something else than what was asked"),
        }
    }
}

impl std::error::Error for NodeError {}

impl From<io::Error> for NodeError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl Heard {
    /// Returns the message.
    ///
    /// # Errors
    /// [`NodeError::Refused`] and [`NodeError::Version`] where it is one of these.
    pub(super) fn answer(&self) -> Result<Answer<'_>, NodeError> {
        match Answer::parse(self.version, &self.payload) {
            Ok(Answer::Refused(refusal)) => Err(NodeError::Refused(refusal)),
            Ok(Answer::Unsupported { lowest, highest }) => Err(NodeError::Version { lowest, highest }),
            Ok(answer) => Ok(answer),
            Err(_) => Err(NodeError::Strange { unit: self.unit }),
        }
    }
}

impl NodeLine {
    /// Opens the line; `patience`: how long a node may take to begin its answer.
    ///
    /// # Errors
    /// Why there is none: who holds the port, if somebody does.
    pub(super) async fn open(link: &Link, patience: Duration, trace: Trace) -> io::Result<Self> {
        let wire = crate::tools::line::open(link).await?;
        trace.record(BUS, Moment::Opened);
        let speed = speed_of(link);
        let bits = speed.bits_per_character();
        Ok(Self {
            wire,
            timer: PreciseTimer::new(),
            trace,
            how: plan::link(link),
            character: character_time(speed.baud, bits),
            gap: frame_gap(speed.baud, bits),
            patience,
            token: fastrand::u8(..),
            heard: Vec::new(),
            noise: 0,
            busy: Instant::now(),
        })
    }

    /// Returns how the line is open, in words.
    pub(super) fn how(&self) -> &str {
        &self.how
    }

    /// Returns the time of so many characters on the line.
    pub(super) fn characters(&self, count: usize) -> Duration {
        self.character.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Returns how long the slowest answer may take from the end of the question.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Asks one node; asks again where nothing answers.
    ///
    /// # Errors
    /// [`NodeError`]; a refusal is one.
    pub(super) async fn ask(&mut self, unit: u8, ask: &Ask<'_>) -> Result<Heard, NodeError> {
        let mut noise = 0_usize;
        for _ in 0..TRIES {
            let (sent, token) = self.say(unit, ask).await?;
            let longest = self.characters(sent + MAX_FRAME) + self.patience + SLACK;
            let until = Instant::now() + longest;
            while let Some(heard) = self.hear(until).await? {
                if heard.0.unit == unit && heard.1 == token {
                    // Only a message is an answer; a refusal is an error here.
                    heard.0.answer()?;
                    return Ok(heard.0);
                }
            }
            noise += self.noise;
        }
        Err(NodeError::Silent { unit, how: self.how.clone(), patience: self.patience, noise })
    }

    /// Says something once the line is silent; returns the length of the frame and its token.
    pub(super) async fn say(&mut self, unit: u8, ask: &Ask<'_>) -> Result<(usize, u8), NodeError> {
        let mut payload = [0; MAX_PAYLOAD];
        let used = ask.emit(&mut payload).map_err(|_| too_long())?;
        self.token = self.token.wrapping_add(1);
        let head = Head { version: VERSION, speaker: Speaker::Gateway, unit, token: self.token };
        let mut frame = [0; MAX_FRAME];
        let sent = seal(head, payload.get(..used).unwrap_or_default(), &mut frame).map_err(|_| too_long())?;
        let frame = frame.get(..sent).unwrap_or_default();
        let silent = self.busy + self.gap * 2 + Duration::from_millis(2);
        while self.hear(silent).await?.is_some() {}
        self.heard.clear();
        self.noise = 0;
        self.trace.record(BUS, Moment::Sent(frame));
        self.wire.write(frame).await?;
        self.busy = Instant::now() + self.characters(sent);
        Ok((sent, self.token))
    }

    /// Waits for the next frame of a node; returns it with its token, or nothing when it is `until`.
    pub(super) async fn hear(&mut self, until: Instant) -> Result<Option<(Heard, u8)>, NodeError> {
        loop {
            while let Some(at) = self.heard.iter().position(|&byte| byte == 0) {
                let rest = self.heard.split_off(at + 1);
                let piece = std::mem::replace(&mut self.heard, rest);
                match framed(&piece) {
                    Some(heard) => return Ok(Some(heard)),
                    None if piece.len() > 1 && !is_ours(&piece) => self.noise += piece.len(),
                    None => {}
                }
            }
            if self.heard.len() > MAX_FRAME {
                self.noise += self.heard.len();
                self.heard.clear();
            }
            let mut buffer = [0; 512];
            tokio::select! {
                biased;
                read = self.wire.read(&mut buffer) => {
                    let bytes = buffer.get(..read?).unwrap_or_default();
                    self.trace.record(BUS, Moment::Received(bytes));
                    self.busy = self.busy.max(Instant::now());
                    self.heard.extend_from_slice(bytes);
                }
                () = self.timer.until(until) => {
                    self.noise += self.heard.len();
                    self.heard.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// Returns how many bytes came since the last question that were part of no frame.
    pub(super) fn noise(&self) -> usize {
        self.noise
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("the question has more than {MAX_PAYLOAD} bytes"))
}

/// Opens what came up to a delimiter, if a node said it.
fn framed(piece: &[u8]) -> Option<(Heard, u8)> {
    let (head, payload) = head(piece)?;
    let from_node = head.speaker == Speaker::Node;
    from_node.then_some((Heard { unit: head.unit, version: head.version, payload }, head.token))
}

/// Says whether what came is a frame of a gateway: the echo of an adapter that hears itself.
fn is_ours(piece: &[u8]) -> bool {
    head(piece).is_some_and(|(head, _)| head.speaker == Speaker::Gateway)
}

fn head(piece: &[u8]) -> Option<(Head, Vec<u8>)> {
    let mut burst = [&[0], piece].concat();
    open(&mut burst).ok().map(|(head, payload)| (head, payload.to_vec()))
}

/// Returns the speed of the line behind a link.
fn speed_of(link: &Link) -> LineSpeed {
    match link {
        Link::Serial(link) => link.speed,
        Link::RtuOverTcp { speed, .. } => *speed,
        Link::Tcp { .. } => LineSpeed { baud: 9_600, parity: crate::site::Parity::None, stop_bits: 1 },
    }
}

#[cfg(test)]
mod tests {
    use ganglion_protocols::node_link::Done;

    use super::*;

    fn frame(speaker: Speaker, token: u8) -> Vec<u8> {
        let (mut payload, mut frame) = ([0; MAX_PAYLOAD], [0; MAX_FRAME]);
        let (version, used) = Answer::Done { id: 7, outcome: Done::Yes }.emit(&mut payload).unwrap();
        let used = seal(Head { version, speaker, unit: 3, token }, &payload[..used], &mut frame).unwrap();
        frame[..used].to_vec()
    }

    #[test]
    fn what_a_node_said_is_heard_with_its_token_and_an_echo_is_not() {
        let (heard, token) = framed(&frame(Speaker::Node, 9)[1..]).unwrap();
        assert_eq!((heard.unit, token), (3, 9));
        assert!(matches!(heard.answer(), Ok(Answer::Done { id: 7, outcome: Done::Yes })));
        let echo = &frame(Speaker::Gateway, 9)[1..];
        assert_eq!(framed(echo), None);
        assert!(is_ours(echo));
    }

    #[test]
    fn damaged_bytes_are_noise() {
        let mut bytes = frame(Speaker::Node, 9);
        bytes[4] ^= 0x10;
        assert_eq!(framed(&bytes[1..]), None);
        assert!(!is_ours(&bytes[1..]));
    }
}

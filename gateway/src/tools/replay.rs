//! A saved trace against the engine, in virtual time: what the units said then is said again, and the engine must ask the
//! same again.
//!
//! For tests: a trace of a real bus, with the site it was made with, shows after each change of the engine that it still
//! asks the same and reads the same, in milliseconds instead of minutes. A trace holds all that the engine is told, so a
//! change that moves a request by a microsecond shows too: then the trace is to be made anew. Orders given while the trace was made are not in
//! it, so a trace with any cannot be replayed.

use std::fmt;
use std::time::Duration;

use ganglion_drivers::bus::{Bus as Engine, Event, Sampled};

use super::frames::hex_bytes;
use super::trace::{Entry, Happened};
use crate::acquire::observed::EVERY as LOOK_EVERY;
use crate::acquire::phase;
use crate::acquire::settings::settings;
use crate::site::Site;

/// What a replay gave.
#[derive(Clone, PartialEq, Debug)]
pub struct Replay {
    /// Requests, all as in the trace.
    pub requests: usize,
    /// The samples, in order; times from the start of the bus.
    pub samples: Vec<Sampled>,
}

/// Where the engine does something else than the trace tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Divergence {
    /// The site has no such bus, or the trace does not tell when the bus was started.
    NoStart,
    /// It asks something that the trace does not have there.
    Asks {
        /// Since the start of the bus.
        at: Duration,
        /// What it sends.
        sends: Vec<u8>,
        /// What the trace has next, if a request.
        trace: Option<Vec<u8>>,
    },
    /// It does not ask what the trace has.
    Silent {
        /// Since the start of the bus.
        at: Duration,
        /// What the trace has.
        trace: Vec<u8>,
    },
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoStart => f.write_str("the site has no such bus, or the trace does not hold its start"),
            Self::Asks { at, sends, trace } => {
                write!(f, "at {:.6} the engine sends {}", at.as_secs_f64(), hex_bytes(sends))?;
                match trace {
                    Some(trace) => write!(f, " where the trace has {}", hex_bytes(trace)),
                    None => f.write_str(" where the trace has no request"),
                }
            }
            Self::Silent { at, trace } => {
                write!(f, "at {:.6} the trace has {} and the engine nothing", at.as_secs_f64(), hex_bytes(trace))
            }
        }
    }
}

impl std::error::Error for Divergence {}

/// Replays what one bus of a trace received.
///
/// # Errors
/// The first place where the engine does something else.
pub fn replay(site: &Site, bus: &str, entries: &[Entry]) -> Result<Replay, Divergence> {
    let written = bus.replace(char::is_whitespace, "_");
    let ours = entries.iter().filter(|entry| entry.bus == written);
    let mut entries = ours.skip_while(|entry| entry.happened != Happened::Started).peekable();
    let place = site.buses.iter().position(|known| known.name == bus);
    let (Some(first), Some(place)) = (entries.next(), place) else { return Err(Divergence::NoStart) };
    let bus = site.buses.get(place).ok_or(Divergence::NoStart)?;
    let (settings, _) = settings(site, bus);
    let mut player = Player {
        engine: Engine::new(phase(site, place), settings),
        replay: Replay { requests: 0, samples: Vec::new() },
        look: Duration::ZERO,
    };
    while let Some(entry) = entries.next() {
        let sends_next = entries.peek().is_some_and(|next| matches!(next.happened, Happened::Sent(_)));
        player.play(entry.at.saturating_sub(first.at), &entry.happened, sends_next)?;
    }
    Ok(player.replay)
}

struct Player {
    engine: Engine,
    replay: Replay,
    /// When the bus task looks at its engine next, to show its state.
    look: Duration,
}

impl Player {
    /// Tells the engine what it was told then, and compares what it sends.
    fn play(&mut self, at: Duration, happened: &Happened, sends_next: bool) -> Result<(), Divergence> {
        match happened {
            Happened::Started => return Err(Divergence::NoStart),
            Happened::Woken => self.engine.handle_timeout(at),
            Happened::Opened => self.engine.connected(at),
            Happened::Lost => self.engine.lost(at),
            Happened::Down => self.engine.disconnected(at),
            Happened::Received(bytes) => self.engine.handle_bytes(at, bytes),
            Happened::Sent(bytes) => match self.engine.poll_transmit(at) {
                Some(sends) if sends == bytes => self.replay.requests += 1,
                Some(sends) => {
                    return Err(Divergence::Asks { at, sends: sends.to_vec(), trace: Some(bytes.clone()) });
                }
                None => return Err(Divergence::Silent { at, trace: bytes.clone() }),
            },
        }
        self.drain(at);
        // After each thing that happens the task asks for a frame; when there was one, it is the next in the trace.
        if !sends_next && let Some(sends) = self.engine.poll_transmit(at) {
            return Err(Divergence::Asks { at, sends: sends.to_vec(), trace: None });
        }
        self.drain(at);
        Ok(())
    }

    fn drain(&mut self, at: Duration) {
        if at >= self.look {
            // The look makes plans, as those for requests are made.
            self.engine.overview(at);
            self.look = at.saturating_add(LOOK_EVERY);
        }
        while let Some(event) = self.engine.poll_event() {
            if let Event::Sampled(sampled) = event {
                self.replay.samples.push(sampled);
            }
        }
    }
}

//! A saved trace against the engine, in virtual time: what the units said then is said again, and the engine must ask the
//! same again.
//!
//! For tests: a trace of a real bus, with the site it was made with, shows after each change of the engine that it still
//! asks the same and reads the same, in milliseconds instead of minutes. Orders given while the trace was made are not in
//! it, so a trace with any cannot be replayed.

use std::fmt;
use std::time::Duration;

use ganglion_drivers::bus::{Bus as Engine, Event, Sampled};

use super::frames::hex_bytes;
use super::trace::{Entry, Happened};
use crate::acquire::phase;
use crate::acquire::settings::settings;
use crate::site::Site;

/// How late the task that made the trace may have been woken: a request that the engine makes up to this long before it
/// went out in the trace is made then.
const WAKE_LATENCY: Duration = Duration::from_millis(30);

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
    let mut entries =
        entries.iter().filter(|entry| entry.bus == written).skip_while(|entry| entry.happened != Happened::Started);
    let place = site.buses.iter().position(|known| known.name == bus);
    let (Some(first), Some(place)) = (entries.next(), place) else { return Err(Divergence::NoStart) };
    let bus = site.buses.get(place).ok_or(Divergence::NoStart)?;
    let (settings, _) = settings(site, bus);
    let mut player = Player {
        engine: Engine::new(phase(site, place), settings),
        now: Duration::ZERO,
        replay: Replay { requests: 0, samples: Vec::new() },
    };
    for entry in entries {
        player.play(entry.at.saturating_sub(first.at), &entry.happened)?;
    }
    Ok(player.replay)
}

struct Player {
    engine: Engine,
    now: Duration,
    replay: Replay,
}

impl Player {
    /// Lets time pass until something of the trace happens, and that happen.
    fn play(&mut self, at: Duration, happened: &Happened) -> Result<(), Divergence> {
        let sent = match happened {
            Happened::Sent(bytes) => Some(bytes),
            _ => None,
        };
        self.pass(at, sent)?;
        self.now = self.now.max(at);
        match happened {
            Happened::Started => return Err(Divergence::NoStart),
            Happened::Opened => self.engine.connected(self.now),
            Happened::Lost => self.engine.lost(self.now),
            Happened::Down => self.engine.disconnected(self.now),
            Happened::Received(bytes) => self.engine.handle_bytes(self.now, bytes),
            Happened::Sent(bytes) => {
                self.engine.handle_timeout(self.now);
                self.drain();
                match self.engine.poll_transmit(self.now) {
                    Some(sends) if sends == bytes => self.replay.requests += 1,
                    Some(sends) => {
                        return Err(Divergence::Asks { at, sends: sends.to_vec(), trace: Some(bytes.clone()) });
                    }
                    None => return Err(Divergence::Silent { at, trace: bytes.clone() }),
                }
            }
        }
        self.drain();
        Ok(())
    }

    /// Wakes the engine whenever it wants to be, until `at`; a request that is next in the trace it makes only there.
    fn pass(&mut self, at: Duration, sent: Option<&Vec<u8>>) -> Result<(), Divergence> {
        loop {
            let due_soon = |now: Duration| sent.is_some() && now.saturating_add(WAKE_LATENCY) >= at;
            if due_soon(self.now) {
                return Ok(());
            }
            if let Some(sends) = self.engine.poll_transmit(self.now) {
                return Err(Divergence::Asks { at: self.now, sends: sends.to_vec(), trace: sent.cloned() });
            }
            self.drain();
            let wake = self.engine.poll_timeout().unwrap_or(Duration::MAX);
            if wake >= at || due_soon(wake) {
                return Ok(());
            }
            // A wake that changes nothing must not stop time.
            self.now = wake.max(self.now.saturating_add(Duration::from_micros(1)));
            self.engine.handle_timeout(self.now);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            if let Event::Sampled(sampled) = event {
                self.replay.samples.push(sampled);
            }
        }
    }
}

//! The node as a whole: bytes, time and measurements in; answers, wishes and a time to wake out.

use core::time::Duration;

use ganglion_drivers::client::frame_gap;
use ganglion_drivers::server::Burst;
use ganglion_protocols::modbus::rtu::Frame;
use ganglion_protocols::node_link::{
    self, Answer, Ask, Head, MAX_FRAME, MAX_PAYLOAD, Refusal, SensorFault, Speaker, VERSION,
};
use ganglion_protocols::node_settings::NodeSettings;
use heapless::Vec;

use crate::board::{Copies, Memory};
use crate::firmware::Firmware;
use crate::link::{self, Link, Reply};
use crate::modbus::Modbus;
use crate::state::{Identity, State, Wish};
use crate::store::{StoreError, Stored};

/// A sensor node.
///
/// **One line, two faces.** What comes between two silences is a burst, and a burst is what its checksum says: a node link
/// frame (CRC-32), else a Modbus frame (CRC-16), else noise. The node answers one question at a time; a new question takes
/// the place of an answer that was not sent yet.
#[derive(Debug)]
pub struct Node<M, C, U> {
    state: State<M, C, U>,
    burst: Burst,
    /// The silence that ends a burst.
    gap: Duration,
    modbus: Modbus,
    link: Link,
    answer: Vec<u8, MAX_FRAME>,
    due: Option<Duration>,
    /// Something is to be said unasked.
    announces: bool,
}

impl<M: Memory, C: Copies, U: Firmware> Node<M, C, U> {
    /// Starts the node at uptime `now`.
    ///
    /// # Errors
    /// When there is no room for samples in its memory, or the memory does not answer.
    pub fn new(identity: Identity, memory: M, copies: C, firmware: U, now: Duration) -> Result<Self, StoreError> {
        let state = State::new(identity, memory, copies, firmware, now)?;
        let line = state.settings().line;
        let gap = frame_gap(line.baud, line.bits_per_character());
        Ok(Self {
            burst: Burst::new(gap),
            gap,
            modbus: Modbus::new(state.settings().unit),
            link: Link::default(),
            state,
            answer: Vec::new(),
            due: None,
            announces: true,
        })
    }

    /// Returns the settings in force. Address and line hold from the start on only.
    #[must_use]
    pub fn settings(&self) -> &NodeSettings {
        self.state.settings()
    }

    /// Takes bytes that were heard on the line just now.
    pub fn hear(&mut self, now: Duration, bytes: &[u8]) {
        self.listen(now);
        self.burst.handle_bytes(now, bytes);
    }

    /// Measures and samples with `measure` if it is time to; returns the sample that was kept.
    pub fn sample(
        &mut self,
        now: Duration,
        mut measure: impl FnMut(usize) -> Result<i32, SensorFault>,
    ) -> Option<Result<&Stored, StoreError>> {
        let settings = *self.state.settings();
        // Of those that were measured just now: most calls measure nothing, which says nothing of a sensor.
        let mut said = [None; ganglion_protocols::node_settings::MAX_SENSORS];
        let taken = self.state.sampler.poll(now, &settings, |sensor| {
            let measured = measure(sensor);
            if let Some(place) = said.get_mut(sensor) {
                *place = Some(measured.err());
            }
            measured
        });
        for (sensor, said) in said.iter().enumerate() {
            if let Some(fault) = said {
                self.state.sensor_said(now, sensor, fault.map(SensorFault::code));
            }
        }
        let taken = taken?;
        self.announces |= taken.alarm;
        let kept = self.state.keep(&taken);
        Some(kept.and_then(|_| self.state.latest.as_ref().ok_or(StoreError::Exhausted)))
    }

    /// Returns the frame to send now, if there is one. The caller sends it whole before it hands over what it hears next.
    pub fn poll(&mut self, now: Duration) -> Option<&[u8]> {
        self.listen(now);
        self.announce(now);
        // Somebody else may have begun to talk while the answer was put off.
        if self.burst.poll_timeout().is_some() || self.due.is_none_or(|due| now < due) {
            return None;
        }
        self.due = None;
        Some(&self.answer)
    }

    /// Returns what only the board can do, once the answer to it was sent.
    pub fn wish(&mut self) -> Option<Wish> {
        if self.due.is_some() { None } else { self.state.wish.take() }
    }

    /// Says whether a person is to find the node by its lamp.
    #[must_use]
    pub fn identifies(&self, now: Duration) -> bool {
        now < self.state.identify_until
    }

    /// Returns how often it has started.
    #[must_use]
    pub fn boot(&self) -> u32 {
        self.state.store.boot()
    }

    /// Returns the epoch of the store, 0 as long as nobody has named it.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.state.store.epoch()
    }

    /// Returns the uptime at which [`sample`](Self::sample) or [`poll`](Self::poll) has something to do, if nothing is heard.
    #[must_use]
    pub fn wake(&self) -> Duration {
        // Nothing is sent into a burst.
        let line = self.burst.poll_timeout().or(self.due).unwrap_or(Duration::MAX);
        self.state.sampler.wake().min(line)
    }

    /// Speaks unasked where the node is alone on its line: after a start, and when an alarm begins.
    fn announce(&mut self, now: Duration) {
        let idle = self.due.is_none() && self.burst.poll_timeout().is_none();
        if self.announces && idle && self.state.settings().attention {
            let mut frame = [0; MAX_FRAME];
            let used = announcement(&self.state, &mut frame).unwrap_or_default();
            self.prepare(&frame, used, now);
        }
        self.announces &= !idle;
    }

    fn prepare(&mut self, frame: &[u8; MAX_FRAME], used: usize, due: Duration) {
        self.answer.clear();
        // It has the capacity of a frame.
        drop(self.answer.extend_from_slice(frame.get(..used).unwrap_or_default()));
        self.due = Some(due);
    }

    fn listen(&mut self, now: Duration) {
        let heard = self.burst.silent_at().saturating_sub(self.gap);
        let Some(burst) = self.burst.take(now) else { return };
        let delay = Duration::from_millis(u64::from(self.state.settings().answer_delay_ms));
        let mut copy: Vec<u8, MAX_FRAME> = burst.unwrap_or_default().iter().copied().take(MAX_FRAME).collect();
        let mut frame = [0; MAX_FRAME];
        let answer = match node_link::open(&mut copy) {
            Ok((head, payload)) => {
                // Other nodes in their slots ask nothing.
                self.due = self.due.filter(|_| head.speaker == Speaker::Node);
                answered(&mut self.link, &mut self.state, head, payload, (heard, now), &mut frame)
            }
            Err(_) => {
                let noise = burst.map_or(true, |frame| Frame::parse(frame).is_err());
                self.due = self.due.filter(|_| noise);
                self.modbus.answer(&mut self.state, burst, now, &mut frame).map(|used| (Duration::ZERO, used))
            }
        };
        if let Some((wait, used)) = answer {
            self.prepare(&frame, used, now.saturating_add(delay).saturating_add(wait));
        }
    }
}

/// Answers a frame of the node link; returns how long to wait and the length of the frame.
fn answered<M: Memory, C: Copies, U: Firmware>(
    link: &mut Link,
    state: &mut State<M, C, U>,
    head: Head,
    payload: &[u8],
    times: (Duration, Duration),
    frame: &mut [u8; MAX_FRAME],
) -> Option<(Duration, usize)> {
    let unit = state.unit;
    let everybody = head.unit == 0;
    if head.speaker != Speaker::Gateway || !(everybody || head.unit == unit) {
        return None;
    }
    let mut out = [0; MAX_PAYLOAD];
    let refuse = |answer: Answer<'_>, out: &mut [u8]| answer.emit(out).ok().filter(|_| !everybody);
    let (wait, version, used) = if head.version != VERSION {
        let (version, used) = refuse(Answer::Unsupported { lowest: VERSION, highest: VERSION }, &mut out)?;
        (Duration::ZERO, version, used)
    } else if let Ok(ask) = Ask::parse(payload) {
        match link.answer(state, &ask, everybody, times, &mut out) {
            Reply::Now(version, used) => (Duration::ZERO, version, used),
            Reply::In(wait, version, used) => (wait, version, used),
            Reply::None => return None,
        }
    } else {
        let (version, used) = refuse(Answer::Refused(Refusal::NotAMessage), &mut out)?;
        (Duration::ZERO, version, used)
    };
    let answer = Head { version, speaker: Speaker::Node, unit, token: head.token };
    let used = node_link::seal(answer, out.get(..used)?, frame).ok()?;
    Some((wait, used))
}

/// Returns the frame in which a node says unasked who it is.
fn announcement<M: Memory, C: Copies, U: Firmware>(
    state: &State<M, C, U>,
    frame: &mut [u8; MAX_FRAME],
) -> Option<usize> {
    let mut out = [0; MAX_PAYLOAD];
    let (version, used) = Answer::Hello(link::hello(state)).emit(&mut out).ok()?;
    let head = Head { version, speaker: Speaker::Node, unit: state.unit, token: 0 };
    node_link::seal(head, out.get(..used)?, frame).ok()
}

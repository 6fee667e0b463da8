//! A node with simulated memories and a virtual clock, and the two clients that ask it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ganglion_node::{
    ChannelSpec, Copies, Identity, Memory, MemoryError, NoUpdates, Node, Sensor, SensorKind, Statistic, Stored, Wish,
};
use ganglion_protocols::modbus::rtu::{Frame, crc};
use ganglion_protocols::node_link::{self, Answer, Ask, Head, MAX_FRAME, ResetCause, SensorFault, Speaker, Version};
use ganglion_protocols::node_settings::{MAX_COPY, NodeSettings};

pub const VERSION: Version = Version { major: 1, minor: 2, patch: 3 };
pub const SERIAL: u64 = 0x0123_4567_89AB_CDEF;
/// A character of 9600 Bd, ten bits.
pub const CHARACTER: Duration = Duration::from_nanos(1_041_666);
/// Longer than any answer takes that is not put off.
pub const PATIENCE: Duration = Duration::from_millis(1_500);

const SENSORS: &[Sensor] = &[
    Sensor { kind: SensorKind::Gauge, low: -1000, high: 100_000 },
    Sensor { kind: SensorKind::Counter, low: 0, high: i32::MAX },
];
const fn channel(sensor: usize, statistic: Statistic) -> ChannelSpec {
    ChannelSpec { sensor, statistic, property: "pressure", unit: "kPa", exponent: -2 }
}
pub const CHANNELS: &[ChannelSpec] =
    &[channel(0, Statistic::Last), channel(0, Statistic::Max), channel(1, Statistic::Last)];

/// Bytes that outlive the node, and a power supply that can end in the middle of a write.
#[derive(Clone)]
pub struct Chip(pub Rc<RefCell<Ram>>);

pub struct Ram {
    pub bytes: Vec<u8>,
    /// Bytes that are still written.
    pub left: usize,
    pub dead: bool,
}

impl Memory for Chip {
    fn size(&self) -> usize {
        self.0.borrow().bytes.len()
    }

    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), MemoryError> {
        let ram = self.0.borrow();
        out.copy_from_slice(ram.bytes.get(at..at + out.len()).ok_or(MemoryError { at })?);
        Ok(())
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let mut ram = self.0.borrow_mut();
        let kept = bytes.len().min(ram.left);
        ram.bytes.get_mut(at..at + kept).ok_or(MemoryError { at })?.copy_from_slice(&bytes[..kept]);
        ram.left -= kept;
        if kept < bytes.len() {
            ram.dead = true;
            return Err(MemoryError { at: at + kept });
        }
        Ok(())
    }
}

/// The two copies of the settings.
#[derive(Clone)]
pub struct Pages(pub Rc<RefCell<[[u8; MAX_COPY]; 2]>>);

impl Copies for Pages {
    fn read(&mut self, which: usize, out: &mut [u8; MAX_COPY]) {
        *out = self.0.borrow()[which];
    }

    fn write(&mut self, which: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        let page = &mut self.0.borrow_mut()[which];
        page.fill(0xFF);
        page[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// A frame that the node said, and when its first byte left.
#[derive(Clone, Debug)]
pub struct Said {
    pub at: Duration,
    pub bytes: Vec<u8>,
}

impl Said {
    /// Returns head and payload of a frame of the node link.
    pub fn opened(&self) -> (Head, Vec<u8>) {
        let mut copy = self.bytes.clone();
        let (head, payload) = node_link::open(&mut copy).expect("a frame of the node link");
        (head, payload.to_vec())
    }
}

/// A payload of the node link, and what it says.
pub struct Heard(pub Head, Vec<u8>);

impl Heard {
    pub fn answer(&self) -> Answer<'_> {
        Answer::parse(self.0.version, &self.1).expect("an answer")
    }
}

pub struct Rig {
    pub chip: Chip,
    pub pages: Pages,
    pub node: Node<Chip, Pages, NoUpdates>,
    persistent: bool,
    /// Uptime.
    pub now: Duration,
    /// What the sensors measure.
    pub sensors: [Result<i32, SensorFault>; 2],
    pub taken: Vec<Stored>,
    pub said: Vec<Said>,
    pub wishes: Vec<(Duration, Wish)>,
    speaks_until: Duration,
    token: u8,
    in_vain: u32,
}

impl Rig {
    pub fn new(settings: NodeSettings) -> Self {
        Self::with_memory(settings, 4096, false)
    }

    pub fn with_memory(settings: NodeSettings, size: usize, persistent: bool) -> Self {
        let chip = Chip(Rc::new(RefCell::new(Ram { bytes: vec![0xA5; size], left: usize::MAX, dead: false })));
        let mut pages = [[0xFF; MAX_COPY]; 2];
        settings.emit(1, &mut pages[0]).unwrap();
        let pages = Pages(Rc::new(RefCell::new(pages)));
        let node = started(&chip, &pages, persistent, ResetCause::Power).expect("it starts");
        Self {
            chip,
            pages,
            node,
            persistent,
            now: Duration::ZERO,
            sensors: [Ok(100), Ok(1)],
            taken: Vec::new(),
            said: Vec::new(),
            wishes: Vec::new(),
            speaks_until: Duration::ZERO,
            token: 0,
            in_vain: 0,
        }
    }

    /// Starts the node anew. False when it did not come up, because the power went again.
    pub fn restart(&mut self, cause: ResetCause) -> bool {
        self.now = Duration::ZERO;
        self.speaks_until = Duration::ZERO;
        self.chip.0.borrow_mut().dead = false;
        started(&self.chip, &self.pages, self.persistent, cause).map(|node| self.node = node).is_some()
    }

    pub fn is_dead(&self) -> bool {
        self.chip.0.borrow().dead
    }

    /// One turn of the loop of a board.
    fn turn(&mut self) {
        let sensors = self.sensors;
        let mut busy = false;
        if let Some(Ok(stored)) = self.node.sample(self.now, |sensor| sensors[sensor]) {
            let stored = stored.clone();
            if !self.is_dead() {
                self.taken.push(stored);
            }
            busy = true;
        }
        if self.now >= self.speaks_until {
            if let Some(frame) = self.node.poll(self.now) {
                let said = Said { at: self.now, bytes: frame.to_vec() };
                self.speaks_until = self.now + CHARACTER * said.bytes.len() as u32;
                if !self.is_dead() {
                    self.said.push(said);
                }
                busy = true;
            } else if let Some(wish) = self.node.wish() {
                self.wishes.push((self.now, wish));
                busy = true;
            }
        }
        self.in_vain = if busy || self.wake() > self.now { 0 } else { self.in_vain + 1 };
        assert!(self.in_vain < 2, "it wakes for nothing at {:?}", self.now);
    }

    fn wake(&self) -> Duration {
        if self.speaks_until > self.now { self.speaks_until } else { self.node.wake() }
    }

    /// Lets time pass, and the node act whenever it wants to, until `done` or the power goes.
    fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) {
        self.turn();
        while !self.is_dead() && !done(self) && self.wake() <= end {
            self.now = self.wake().max(self.now);
            self.turn();
        }
        if !done(self) && !self.is_dead() {
            self.now = end;
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.run_until(self.now + time, |_| false);
    }

    pub fn pass_s(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    /// Bytes come over the line, the last of them now.
    pub fn hears(&mut self, bytes: &[u8]) {
        self.node.hear(self.now, bytes);
    }

    /// Sends a frame and waits for what the node says to it.
    pub fn asked(&mut self, frame: &[u8]) -> Option<Said> {
        let before = self.said.len();
        self.hears(frame);
        self.run_until(self.now + PATIENCE, |rig| rig.said.len() > before);
        let said = self.said.get(before).cloned();
        if said.is_some() && !self.is_dead() {
            // Until the answer is out and the line was silent.
            self.pass(CHARACTER * 300);
        }
        said
    }

    pub fn token(&self) -> u8 {
        self.token
    }

    /// Lays a question of the node link out.
    pub fn question(&mut self, unit: u8, ask: &Ask<'_>) -> Vec<u8> {
        self.token = self.token.wrapping_add(1);
        let head = Head { version: node_link::VERSION, speaker: Speaker::Gateway, unit, token: self.token };
        question(head, ask)
    }

    pub fn link_to(&mut self, unit: u8, ask: &Ask<'_>) -> Option<Heard> {
        let frame = self.question(unit, ask);
        let (head, payload) = self.asked(&frame)?.opened();
        assert_eq!((head.token, head.speaker), (self.token, Speaker::Node));
        Some(Heard(head, payload))
    }

    /// Asks the node over the node link.
    pub fn link(&mut self, ask: &Ask<'_>) -> Heard {
        self.link_to(1, ask).unwrap_or_else(|| panic!("no answer to {ask:?}"))
    }

    /// Names the store and sets the clock.
    pub fn acquaint(&mut self, utc_ms: u64, epoch: u32) {
        let heard = self.link(&Ask::Time { utc_ms: Some(utc_ms), error_ms: 10, epoch });
        assert!(matches!(heard.answer(), Answer::Time { .. }), "{:?}", heard.answer());
    }

    /// Asks the node as a Modbus client; returns the PDU of the answer.
    pub fn modbus(&mut self, pdu: &[u8]) -> Option<Vec<u8>> {
        let said = self.asked(&rtu(1, pdu))?;
        let answer = Frame::parse(&said.bytes).expect("a Modbus frame");
        assert_eq!(answer.unit.0, 1);
        Some(answer.pdu.to_vec())
    }

    /// Reads one input register.
    pub fn input(&mut self, address: u16) -> u16 {
        let [high, low] = address.to_be_bytes();
        match self.modbus(&[0x04, high, low, 0, 1]).as_deref() {
            Some([0x04, 2, high, low]) => u16::from_be_bytes([*high, *low]),
            other => panic!("input register {address}: {other:?}"),
        }
    }
}

pub fn question(head: Head, ask: &Ask<'_>) -> Vec<u8> {
    let (mut payload, mut frame) = ([0; MAX_FRAME], [0; MAX_FRAME]);
    let used = ask.emit(&mut payload).unwrap();
    let used = node_link::seal(head, &payload[..used], &mut frame).unwrap();
    frame[..used].to_vec()
}

pub fn rtu(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[unit], pdu].concat();
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

fn started(chip: &Chip, pages: &Pages, persistent: bool, reset: ResetCause) -> Option<Node<Chip, Pages, NoUpdates>> {
    let identity = Identity {
        board: "host",
        serial: SERIAL,
        firmware: VERSION,
        reset,
        reset_detail: 0,
        persistent,
        sensors: SENSORS,
        channels: CHANNELS,
    };
    let node = Node::new(identity, chip.clone(), pages.clone(), NoUpdates { running: VERSION }, Duration::ZERO);
    node.ok().filter(|_| !chip.0.borrow().dead)
}

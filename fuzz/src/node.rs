//! What a node hears: any bytes, in any lumps, at any time, or any message in a right frame of either face; and what its
//! memory held before it started.

use std::time::Duration;

use ganglion_node::{ChannelSpec, Copies, Identity, MemoryError, NoUpdates, Node, Sensor, SensorKind, Statistic, Wish};
use ganglion_protocols::modbus::pdu::Response;
use ganglion_protocols::modbus::rtu::{Frame, crc};
use ganglion_protocols::node_link::{self, Ack, Answer, Ask, Command, FirmwareAsk, Head, ResetCause, Speaker, Version};
use ganglion_protocols::node_settings::{MAX_COPY, NodeSettings};

const RUNNING: Version = Version { major: 1, minor: 0, patch: 0 };
const SENSORS: &[Sensor] = &[Sensor { kind: SensorKind::Gauge, low: 0, high: 1000 }];
const CHANNELS: &[ChannelSpec] =
    &[ChannelSpec { sensor: 0, statistic: Statistic::Mean, property: "pressure", unit: "kPa", exponent: 0 }];
/// Longer than any answer may be put off.
const PATIENCE: Duration = Duration::from_secs(2);
/// Whole frame in a step: of the node link, with a right CRC.
const LINK: u8 = 0x80;
/// The same of Modbus.
const MODBUS: u8 = 0x40;

/// Two pages of settings.
struct Pages([[u8; MAX_COPY]; 2]);

impl Copies for Pages {
    fn read(&mut self, which: usize, out: &mut [u8; MAX_COPY]) {
        *out = self.0[which];
    }
    fn write(&mut self, which: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        self.0[which][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

struct Bench<'m> {
    node: Node<&'m mut [u8], Pages, NoUpdates>,
    now: Duration,
    said: Vec<Vec<u8>>,
}

impl Bench<'_> {
    fn turn(&mut self) {
        let measured = i32::try_from(self.now.as_secs() % 1000).unwrap_or(0);
        // What the memory held may be the last number there is.
        let _none_may_be_left = self.node.sample(self.now, |_| Ok(measured));
        while let Some(frame) = self.node.poll(self.now) {
            self.said.push(frame.to_vec());
        }
        let _only_a_board_can: Option<Wish> = self.node.wish();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.turn();
        let mut in_vain = 0;
        while self.node.wake() <= end {
            in_vain = if self.node.wake() <= self.now { in_vain + 1 } else { 0 };
            assert!(in_vain < 3, "it wakes for nothing at {:?}", self.now);
            self.now = self.node.wake().max(self.now);
            self.turn();
        }
        self.now = end;
    }

    /// Sends a frame and returns what was said last.
    fn ask(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        self.pass(PATIENCE);
        self.said.clear();
        self.node.hear(self.now, frame);
        self.pass(PATIENCE);
        self.said.pop()
    }
}

fn link(payload: &[u8]) -> Vec<u8> {
    let head = Head { version: node_link::VERSION, speaker: Speaker::Gateway, unit: 1, token: 7 };
    let mut frame = [0; node_link::MAX_FRAME];
    let used = node_link::seal(head, payload, &mut frame).unwrap_or_default();
    frame[..used].to_vec()
}

fn modbus(pdu: &[u8]) -> Vec<u8> {
    let mut frame = [&[1], pdu].concat();
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

fn asked(ask: &Ask<'_>) -> Vec<u8> {
    let mut payload = [0; node_link::MAX_FRAME];
    let used = ask.emit(&mut payload).expect("it fits");
    payload[..used].to_vec()
}

/// The first byte says how much of the input the memory held, in fours. Then steps: a length, a kind and pause (six bits: the
/// square of it in milliseconds), bytes. Whatever was heard, what is said is a frame, and both faces answer afterwards.
pub(crate) fn run(input: &[u8]) {
    let Some((&held, rest)) = input.split_first() else { return };
    let (held, mut rest) = rest.split_at((usize::from(held) * 4).min(rest.len()));
    let mut memory = vec![0xFF; 2048];
    memory[252..252 + held.len()].copy_from_slice(held);
    let identity = Identity {
        board: "fuzz",
        serial: 5,
        firmware: RUNNING,
        reset: ResetCause::Watchdog,
        reset_detail: 0,
        persistent: true,
        sensors: SENSORS,
        channels: CHANNELS,
    };
    let mut pages = Pages([[0xFF; MAX_COPY]; 2]);
    let settings = NodeSettings { sample_period_s: 1, attention: true, ..NodeSettings::DEFAULT };
    settings.emit(1, &mut pages.0[0]).expect("it fits");
    let firmware = NoUpdates { running: RUNNING };
    let node = Node::new(identity, memory.as_mut_slice(), pages, firmware, Duration::ZERO).expect("there is room");
    let mut bench = Bench { node, now: Duration::ZERO, said: Vec::new() };
    while let Some(([length, kind], after)) = rest.split_first_chunk::<2>() {
        let pause = u64::from(kind & 0x3F);
        bench.pass(Duration::from_millis(pause * pause));
        let (bytes, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let heard = match kind & (LINK | MODBUS) {
            LINK => link(bytes),
            MODBUS => modbus(bytes),
            _ => bytes.to_vec(),
        };
        bench.node.hear(bench.now, &heard);
    }
    bench.pass(PATIENCE);
    for said in &bench.said {
        let mut copy = said.clone();
        match node_link::open(&mut copy) {
            Ok((head, payload)) => {
                assert_eq!((head.speaker, head.unit), (Speaker::Node, 1));
                Answer::parse(head.version, payload).unwrap_or_else(|error| panic!("{error}: {said:02X?}"));
            }
            Err(_) => {
                let frame = Frame::parse(said).unwrap_or_else(|error| panic!("{error}: {said:02X?}"));
                Response::parse(frame.pdu).unwrap_or_else(|error| panic!("{error}: {said:02X?}"));
            }
        }
    }
    let hello = bench.ask(&link(&asked(&Ask::Describe))).expect("an answer on the link");
    let mut copy = hello;
    let (head, payload) = node_link::open(&mut copy).expect("a frame");
    assert!(matches!(Answer::parse(head.version, payload), Ok(Answer::Hello(_))));
    // Out of the listen only mode, if it came to that.
    bench.ask(&modbus(&[0x08, 0, 1, 0, 0]));
    assert_eq!(bench.ask(&modbus(&[0x03, 0, 0, 0, 1])).map(|frame| frame.len()), Some(7));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let asks = [
        Ask::Who { salt: 1, slots: 4, slot_ms: 50, all: true },
        Ask::Channel { index: 0 },
        Ask::Fetch { ack: Some(Ack { epoch: 3, seq: 1 }), most: 9 },
        Ask::Time { utc_ms: Some(1_790_000_000_000), error_ms: 5, epoch: 3 },
        Ask::Do { id: 1, command: Command::Set { key: 4, value: 2 } },
        Ask::Do { id: 2, command: Command::Reset },
        Ask::Do { id: 3, command: Command::ClearLog },
        Ask::Do { id: 4, command: Command::Adopt { cri: 3_305_029_601_000_131 } },
        Ask::Log { from: 1 },
        Ask::Firmware(FirmwareAsk::Write { offset: 4, data: &[1, 2] }),
    ];
    let pdus: [&[u8]; 7] = [
        &[0x02, 0, 0, 0, 1],
        &[0x04, 0, 0, 0, 28],
        &[0x05, 0, 1, 0xFF, 0],
        &[0x10, 0, 4, 0, 2, 4, 0, 5, 0, 50],
        &[0x15, 9, 6, 0, 1, 0, 99, 0, 1, 1, 2],
        &[0x17, 0, 0, 0, 2, 0, 4, 0, 1, 2, 0, 30],
        &[0x2B, 0x0E, 3, 0],
    ];
    let step = |kind: u8, bytes: &[u8]| [&[u8::try_from(bytes.len()).expect("short"), kind], bytes].concat();
    let links = asks.iter().map(|ask| step(LINK | 9, &asked(ask)));
    let steps: Vec<Vec<u8>> = links.chain(pdus.iter().map(|pdu| step(MODBUS | 9, pdu))).collect();
    let alone = steps.iter().map(|step| [&[0], step.as_slice()].concat());
    // With the time first, and two seconds for samples.
    let named = step(LINK | 45, &asked(&asks[3]));
    let fetched = [&[0], named.as_slice(), &step(LINK | 45, &asked(&asks[2]))].concat();
    alone.chain([fetched]).collect()
}

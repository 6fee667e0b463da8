//! A line of sensor nodes in virtual time whose other end a test writes: it takes the questions of the engine and says what
//! it likes, or lets [`Peer`]s answer for a while.

use std::time::Duration;

use ganglion_drivers::breaker::Policy;
use ganglion_drivers::node::{Event, Moment, NodeBus, Settings, UnitSettings};
use ganglion_protocols::node_link::{
    Ack, Answer, Ask, Batch, Channel, ChannelKind, Head, Hello, MAX_FRAME, MAX_PAYLOAD, NodeReading, ResetCause,
    SchemaHash, Speaker, Version, open, put_sample, seal, slot,
};

pub(crate) const CRI: u64 = 77;
pub(crate) const EPOCH: u32 = 9;
pub(crate) const UTC: u64 = 1_800_000_000_000;
pub(crate) const PERIOD: Duration = Duration::from_secs(2);
pub(crate) const RETRIES: usize = 2;
const CHARACTER: Duration = Duration::from_micros(573);
/// How long a node takes for its answer, unless a test says otherwise.
const USUAL: Duration = Duration::from_millis(10);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// No node is ever given up, so that what a test waits for is not a pause.
pub(crate) fn settings(units: &[u8]) -> Settings {
    let node = |unit: &u8| UnitSettings { unit: *unit, cri: CRI, period: PERIOD, taken: None };
    Settings {
        character: CHARACTER,
        gap: CHARACTER * 4,
        response_timeout: Duration::from_millis(300),
        shortest_wait: Duration::from_millis(50),
        answer_slack: Duration::from_millis(30),
        retries: u8::try_from(RETRIES).unwrap(),
        breaker: Policy { share_percent: 100, trip_after: 6, longest_pause: Duration::ZERO },
        discover_every: None,
        seed: 5,
        nodes: units.iter().map(node).collect(),
    }
}

pub(crate) struct Question {
    pub(crate) at: Duration,
    pub(crate) head: Head,
    pub(crate) frame: Vec<u8>,
    payload: Vec<u8>,
}

impl Question {
    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask::parse(&self.payload).unwrap()
    }

    pub(crate) fn is_fetch(&self) -> bool {
        matches!(self.ask(), Ask::Fetch { .. })
    }

    pub(crate) fn ack(&self) -> Option<Ack> {
        let Ask::Fetch { ack, .. } = self.ask() else { panic!("{:?}", self.ask()) };
        ack
    }
}

/// The frame of an answer to that question, as its own node would say it.
pub(crate) fn framed(head: Head, answer: &Answer<'_>) -> Vec<u8> {
    let (mut payload, mut out) = ([0; MAX_PAYLOAD], [0; MAX_FRAME]);
    let (version, used) = answer.emit(&mut payload).unwrap();
    let used = seal(Head { version, speaker: Speaker::Node, ..head }, &payload[..used], &mut out).unwrap();
    out[..used].to_vec()
}

/// What a node would say at present; a test changes it.
pub(crate) struct Peer {
    pub(crate) unit: u8,
    pub(crate) hello: Hello<'static>,
    pub(crate) channels: Vec<Channel<'static>>,
    /// What its batches say of its channels.
    pub(crate) schema: SchemaHash,
    pub(crate) anchor_ms: Option<u64>,
    /// Numbers in its store, each taken at as many milliseconds, each the value of all channels.
    pub(crate) kept: Vec<u32>,
}

impl Peer {
    /// A node of one channel with three samples.
    pub(crate) fn new(unit: u8) -> Self {
        let hello = Hello {
            cri: CRI,
            serial: 1_000 + u64::from(unit),
            board: "fake",
            firmware: Version { major: 1, minor: 0, patch: 0 },
            schema: SchemaHash(0),
            channels: 0,
            epoch: EPOCH,
            boot: 1,
            reset: ResetCause::Power,
            capacity: 100,
            persistent: true,
        };
        let (schema, anchor_ms) = (hello.schema, Some(UTC));
        let mut peer = Self { unit, hello, channels: Vec::new(), schema, anchor_ms, kept: vec![1, 2, 3] };
        peer.measure(&["pressure"]);
        peer
    }

    /// From now on it has these channels, and says so.
    pub(crate) fn measure(&mut self, properties: &[&'static str]) {
        let channel = |(index, property): (u8, &&'static str)| {
            let (kind, exponent, register) = (ChannelKind::Gauge, -3, 10 + 2 * u16::from(index));
            Channel { index, property, unit: "MPa", exponent, register, kind, low: 0, high: 1000, period_s: 1 }
        };
        self.channels = (0..).zip(properties).map(channel).collect();
        self.schema = SchemaHash::of(self.channels.iter().copied());
        self.hello.schema = self.schema;
        self.hello.channels = u8::try_from(self.channels.len()).unwrap();
    }

    /// Calls `with` with what it says to a question of its own at that uptime.
    fn answer<T>(&mut self, ask: &Ask<'_>, uptime_ms: u64, with: impl FnOnce(&Answer<'_>) -> T) -> T {
        let (boot, epoch, anchor_ms) = (self.hello.boot, self.hello.epoch, self.anchor_ms);
        let mut samples = Vec::new();
        with(&match *ask {
            Ask::Describe | Ask::Who { .. } => Answer::Hello(self.hello),
            Ask::Channel { index } => Answer::Channel(self.channels[usize::from(index)]),
            Ask::Time { .. } => Answer::Time { boot, uptime_ms, anchor_ms, epoch },
            Ask::Fetch { ack, .. } => {
                self.kept.retain(|seq| ack.is_none_or(|ack| ack.epoch != epoch || *seq > ack.seq));
                let first = self.kept.first().copied();
                let mut before = first.unwrap_or_default();
                for seq in &self.kept {
                    let mut sample = [0; MAX_PAYLOAD];
                    let readings = vec![NodeReading::Value(i32::try_from(*seq).unwrap()); self.channels.len()];
                    let used = put_sample(u64::from(seq - before), &readings, &mut sample).unwrap();
                    samples.extend_from_slice(&sample[..used]);
                    before = *seq;
                }
                Answer::Batch(Batch {
                    epoch,
                    schema: self.schema,
                    first: first.unwrap_or(4),
                    waiting: 0,
                    lost: None,
                    alarm: false,
                    boot,
                    anchor_ms,
                    base_ms: u64::from(first.unwrap_or_default()),
                    now: (boot, uptime_ms),
                    samples: &samples,
                })
            }
            _ => panic!("no peer is asked for {ask:?}"),
        })
    }
}

/// The engine, the time, and what was told.
pub(crate) struct Talk {
    pub(crate) bus: NodeBus,
    pub(crate) now: Duration,
    pub(crate) events: Vec<Event>,
    /// The owner knows what time it is.
    pub(crate) sure: bool,
    /// What the line repeats of a question comes back to who asked.
    pub(crate) echoes: bool,
    /// How long peers take for an answer.
    pub(crate) takes: Duration,
}

impl Talk {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut bus = NodeBus::new(Duration::ZERO, settings);
        bus.connected(Duration::ZERO);
        Self { bus, now: Duration::ZERO, events: Vec::new(), sure: true, echoes: false, takes: USUAL }
    }

    fn moment(&self) -> Moment {
        Moment { now: self.now, utc_ms: UTC + millis(self.now), sure: self.sure }
    }

    /// The next question before `end`; at `end` there is none.
    fn question_before(&mut self, end: Duration) -> Option<Question> {
        loop {
            let moment = self.moment();
            self.bus.handle_timeout(moment);
            let frame = self.bus.poll_transmit(moment).map(<[u8]>::to_vec);
            self.take_events();
            if let Some(frame) = frame {
                let (head, payload) = open(&mut frame.clone()).map(|(head, payload)| (head, payload.to_vec())).unwrap();
                self.now += CHARACTER * u32::try_from(frame.len()).unwrap();
                return Some(Question { at: moment.now, head, frame, payload });
            }
            let wake = self.bus.poll_timeout().filter(|wake| *wake < end);
            let Some(wake) = wake else {
                self.now = self.now.max(end);
                return None;
            };
            assert!(wake > self.now, "woken for nothing at {wake:?}");
            self.now = wake;
        }
    }

    /// The next question, which nobody has answered yet. What was asked before and had no answer is given up.
    #[track_caller]
    pub(crate) fn asked(&mut self) -> Question {
        self.question_before(self.now + secs(120)).expect("nothing is asked any more")
    }

    /// Bytes arrive at the speed of the line, the first one now.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let moment = self.moment();
            self.bus.handle_timeout(moment);
            self.bus.handle_bytes(moment, &[*byte]);
            self.now += CHARACTER;
        }
        self.take_events();
    }

    pub(crate) fn say(&mut self, head: Head, answer: &Answer<'_>) {
        self.now += self.takes;
        self.hear(&framed(head, answer));
    }

    /// The node that is asked answers; a question to all is answered by each, and those in one slot are not understood.
    pub(crate) fn let_answer(&mut self, question: &Question, peers: &mut [&mut Peer]) {
        if self.echoes {
            self.now = question.at;
            self.hear(&question.frame);
        }
        let Ask::Who { salt, slots, slot_ms, .. } = question.ask() else {
            let Some(peer) = peers.iter_mut().find(|peer| peer.unit == question.head.unit) else { return };
            let uptime_ms = millis(self.now + self.takes);
            return peer.answer(&question.ask(), uptime_ms, |answer| self.say(question.head, answer));
        };
        let begin = self.now;
        for place in 0..slots {
            let mut here = peers.iter_mut().filter(|peer| slot(peer.hello.serial, salt, slots) == place);
            let (Some(peer), None) = (here.next(), here.next()) else { continue };
            self.now = begin + Duration::from_millis(u64::from(slot_ms) * u64::from(place));
            let head = Head { unit: peer.unit, ..question.head };
            peer.answer(&question.ask(), 0, |answer| self.say(head, answer));
        }
    }

    /// Lets the peers answer for so long; returns what they were asked.
    pub(crate) fn run(&mut self, time: Duration, peers: &mut [&mut Peer]) -> Vec<Question> {
        let end = self.now + time;
        let mut questions = Vec::new();
        while let Some(question) = self.question_before(end) {
            self.let_answer(&question, peers);
            questions.push(question);
        }
        questions
    }

    /// Lets the node answer until it is asked for samples; that is not answered yet.
    #[track_caller]
    pub(crate) fn fetch(&mut self, peer: &mut Peer) -> Question {
        loop {
            let question = self.asked();
            if question.is_fetch() {
                return question;
            }
            self.let_answer(&question, &mut [peer]);
        }
    }

    fn take_events(&mut self) {
        self.events.extend(std::iter::from_fn(|| self.bus.poll_event()));
    }

    /// What was told since this was called last, but for samples and that questions were answered.
    pub(crate) fn told(&mut self) -> Vec<Event> {
        self.take_events();
        let is_news = |event: &Event| !matches!(event, Event::Sample(_) | Event::Answered { .. });
        std::mem::take(&mut self.events).into_iter().filter(is_news).collect()
    }

    /// The numbers of the samples that came, and how many readings each has. They are still there.
    pub(crate) fn samples(&self) -> Vec<(u32, usize)> {
        let sample = |event: &Event| match event {
            Event::Sample(sample) => Some((sample.origin.seq, sample.readings.len())),
            _ => None,
        };
        self.events.iter().filter_map(sample).collect()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

//! The node link: its messages, byte for byte as `docs/node-link.md` has them.

use std::collections::BTreeMap;

use ganglion_protocols::node_link::{
    Ack, Answer, Ask, Batch, Channel, ChannelKind, Command, Done, FirmwareAsk, FirmwarePhase, FirmwareState, Hello,
    Lost, NodeLossCause, NodeReading, NodeSample, NotAMessage, Refusal, ResetCause, Samples, SchemaHash, SensorFault,
    VERSION, Version, put_sample, slot,
};
use proptest::prelude::*;

const PAGE: &str = include_str!("../../docs/node-link.md");
const UTC: u64 = 1_800_000_000_000;
const SCHEMA: SchemaHash = SchemaHash(0x89AB_CDEF);
const RUNNING: Version = Version { major: 1, minor: 2, patch: 300 };
const SAMPLES: [u8; 12] = [0, 0, 9, 1, 3, 0xE0, 0xD4, 3, 0, 0x28, 0, 0];

/// The golden bytes of a block of the page, by name.
fn page(block: &str) -> BTreeMap<&'static str, Vec<u8>> {
    let lines = PAGE.lines().skip_while(|line| *line != format!("```golden {block}")).skip(1);
    lines
        .take_while(|line| *line != "```")
        .map(|line| {
            let (name, bytes) = line.split_once('=').expect("name = bytes");
            (name.trim(), bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect())
        })
        .collect()
}

fn asks() -> Vec<(&'static str, Ask<'static>)> {
    let order = |command| Ask::Do { id: 7, command };
    vec![
        ("who", Ask::Who { salt: 4660, slots: 8, slot_ms: 60, all: false }),
        ("describe", Ask::Describe),
        ("channel", Ask::Channel { index: 2 }),
        ("fetch nothing durable", Ask::Fetch { ack: None, most: 0 }),
        ("fetch", Ask::Fetch { ack: Some(Ack { epoch: 300, seq: 129 }), most: 20 }),
        ("time", Ask::Time { utc_ms: Some(UTC), error_ms: 20, epoch: 0x89AB_CDEF }),
        ("time unknown", Ask::Time { utc_ms: None, error_ms: 65535, epoch: 1 }),
        ("do reset", order(Command::Reset)),
        ("do identify", order(Command::Identify { seconds: 30 })),
        ("do set", order(Command::Set { key: 40, value: -5 })),
        ("do get", order(Command::Get { key: 40 })),
        ("do clear log", order(Command::ClearLog)),
        ("do adopt", order(Command::Adopt { cri: 300 })),
        ("log", Ask::Log { from: 5 }),
        ("firmware state", Ask::Firmware(FirmwareAsk::State)),
        ("firmware begin", Ask::Firmware(FirmwareAsk::Begin { header: &[0xAA, 0xBB, 0xCC], downgrade: true })),
        ("firmware write", Ask::Firmware(FirmwareAsk::Write { offset: 300, data: &[1, 2] })),
        ("firmware install", Ask::Firmware(FirmwareAsk::Install)),
        ("firmware abandon", Ask::Firmware(FirmwareAsk::Abandon)),
    ]
}

fn hello(reset: ResetCause) -> Answer<'static> {
    Answer::Hello(Hello {
        cri: 300,
        serial: 129,
        board: "lm3s",
        firmware: RUNNING,
        schema: SCHEMA,
        channels: 2,
        epoch: 9,
        boot: 3,
        reset,
        capacity: 1000,
        persistent: true,
    })
}

fn channel(kind: ChannelKind) -> Channel<'static> {
    let (property, unit) = ("level", "m");
    Channel { index: 0, property, unit, exponent: -3, register: 4, kind, low: -1000, high: 20000, period_s: 60 }
}

fn batch(cause: NodeLossCause) -> Batch<'static> {
    Batch {
        epoch: 9,
        schema: SCHEMA,
        first: 130,
        waiting: 5,
        lost: Some(Lost { first: 120, last: 129, cause }),
        alarm: true,
        boot: 3,
        anchor_ms: Some(UTC),
        base_ms: 60000,
        now: (3, 300),
        samples: &SAMPLES,
    }
}

fn answers() -> Vec<(&'static str, Answer<'static>)> {
    let firmware = |phase| Answer::Firmware(FirmwareState { running: RUNNING, phase });
    let empty = Batch { first: 1, waiting: 0, lost: None, alarm: false, ..batch(NodeLossCause::Full) };
    let version = Version { major: 1, minor: 3, patch: 0 };
    let time = |anchor_ms| Answer::Time { boot: 3, uptime_ms: 300, anchor_ms, epoch: 9 };
    let done = |outcome| Answer::Done { id: 7, outcome };
    vec![
        ("unsupported", Answer::Unsupported { lowest: 1, highest: 1 }),
        ("hello", hello(ResetCause::Power)),
        ("channel", Answer::Channel(channel(ChannelKind::Gauge))),
        ("batch", Answer::Batch(batch(NodeLossCause::Full))),
        ("batch empty", Answer::Batch(Batch { anchor_ms: None, base_ms: 0, samples: &[], ..empty })),
        ("time", time(Some(UTC))),
        ("time unknown", time(None)),
        ("done", done(Done::Yes)),
        ("done value", done(Done::Value(-5))),
        ("done not", done(Done::No(Refusal::BadSetting))),
        ("log", Answer::Log { from: 5, next: 6, text: "hot" }),
        ("firmware idle", firmware(FirmwarePhase::Idle)),
        ("firmware receiving", firmware(FirmwarePhase::Receiving { version, next: 300, size: 40000 })),
        ("firmware trial", firmware(FirmwarePhase::Trial)),
        ("firmware rolled back", firmware(FirmwarePhase::RolledBack)),
        ("refused", Answer::Refused(Refusal::Unnamed)),
    ]
}

fn emitted(answer: &Answer<'_>) -> (u8, Vec<u8>) {
    let mut out = [0xA5; 246];
    let (version, used) = answer.emit(&mut out).expect("it fits");
    (version, out[..used].to_vec())
}

#[test]
fn every_question_has_the_bytes_of_the_page() {
    let mut page = page("ask");
    for (name, ask) in asks() {
        let golden = page.remove(name).unwrap_or_else(|| panic!("the page has {name}"));
        let mut out = [0xA5; 246];
        let used = ask.emit(&mut out).unwrap();
        assert_eq!(out[..used], golden, "{name}");
        assert_eq!(Ask::parse(&golden), Ok(ask), "{name}");
        for end in 0..golden.len() {
            assert_eq!(Ask::parse(&golden[..end]), Err(NotAMessage), "{name} cut at {end}");
            assert!(ask.emit(&mut out[..end]).is_err(), "{name} in {end} bytes");
        }
        assert_eq!(Ask::parse(&[&golden[..], &[0]].concat()), Err(NotAMessage), "{name} and a byte");
    }
    assert!(page.is_empty(), "{page:?}");
}

#[test]
fn every_answer_has_the_bytes_of_the_page() {
    let mut page = page("answer");
    for (name, answer) in answers() {
        let golden = page.remove(name).unwrap_or_else(|| panic!("the page has {name}"));
        let (version, bytes) = emitted(&answer);
        assert_eq!(bytes, golden, "{name}");
        assert_eq!(version, if name == "unsupported" { 0 } else { VERSION });
        assert_eq!(Answer::parse(version, &golden), Ok(answer), "{name}");
        for end in 0..golden.len() {
            assert_eq!(Answer::parse(version, &golden[..end]), Err(NotAMessage), "{name} cut at {end}");
            assert!(answer.emit(&mut [0; 246][..end]).is_err(), "{name} in {end} bytes");
        }
        assert_eq!(Answer::parse(version, &[&golden[..], &[0]].concat()), Err(NotAMessage), "{name} and a byte");
        assert_eq!(Answer::parse(version ^ 1, &golden), Err(NotAMessage), "{name} in the other version");
        assert_eq!(Answer::parse(2, &golden), Err(NotAMessage), "{name} in version 2");
    }
    assert!(page.is_empty(), "{page:?}");
}

#[test]
fn every_word_of_a_list_has_the_number_of_the_page() {
    use {NodeLossCause as L, Refusal as R, ResetCause as C, SensorFault as F};
    let golden = page("answer");
    let is = |answer: Answer<'_>, name: &str, place: usize, number: usize| {
        let mut expected = golden[name].clone();
        expected[place] = u8::try_from(number).unwrap();
        assert_eq!(emitted(&answer), (VERSION, expected.clone()), "{answer:?}");
        assert_eq!(Answer::parse(VERSION, &expected), Ok(answer));
    };
    let causes = [C::Power, C::Pin, C::Order, C::Watchdog, C::Fault, C::BrownOut, C::Update, C::Unknown];
    causes.into_iter().enumerate().for_each(|(number, cause)| is(hello(cause), "hello", 22, number));
    for (number, kind) in [ChannelKind::Gauge, ChannelKind::Counter, ChannelKind::State].into_iter().enumerate() {
        is(Answer::Channel(channel(kind)), "channel", 12, number);
    }
    for (number, cause) in [L::Full, L::Damaged, L::Undated].into_iter().enumerate() {
        is(Answer::Batch(batch(cause)), "batch", 14, number);
    }
    let first = [R::NotAMessage, R::NoChannel, R::BadAck, R::Unnamed, R::BadSetting, R::OtherBoard, R::TooLarge];
    let rest = [R::Older, R::BadHeader, R::Hole, R::BadSignature, R::FlashFailed, R::Incomplete, R::Unable];
    for (number, refusal) in first.into_iter().chain(rest).enumerate() {
        is(Answer::Refused(refusal), "refused", 1, number);
    }
    let faults = [F::BrokenWire, F::OverRange, F::UnderRange, F::NoAnswer, F::BadAnswer, F::NoSample];
    for (number, fault) in faults.into_iter().enumerate() {
        let mut out = [0xA5; 3];
        assert_eq!(put_sample(0, &[NodeReading::Fault(fault)], &mut out), Ok(3));
        assert_eq!(out.map(usize::from), [0, 1, number]);
        assert_eq!((usize::from(fault.code()), SensorFault::from_code(fault.code())), (number, Some(fault)));
    }
}

#[test]
fn a_number_that_no_list_has_makes_it_no_message() {
    for bytes in [&[8][..], &[5, 7, 6], &[7, 5], &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], &[3, 2, 0]] {
        assert_eq!(Ask::parse(bytes), Err(NotAMessage), "{bytes:?}");
    }
    for bytes in [&[0, 1, 1][..], &[9], &[8, 14], &[5, 7, 3], &[7, 1, 2, 0, 4], &[6, 5, 6, 1, 0xFF]] {
        assert_eq!(Answer::parse(VERSION, bytes), Err(NotAMessage), "{bytes:?}");
    }
}

#[test]
fn samples_are_those_of_the_page() {
    let read: Vec<_> = Samples::new(&SAMPLES, 2, 60000)
        .map(|sample| sample.map(|sample| (sample.at_ms, sample.readings().collect::<Vec<_>>())).unwrap())
        .collect();
    let (value, fault) = (NodeReading::Value, NodeReading::Fault);
    let first = [value(-5), fault(SensorFault::NoAnswer)];
    assert_eq!(read, [(60000, first.to_vec()), (120_000, vec![value(20), value(0)])]);
}

#[test]
fn samples_of_other_channels_and_times_beyond_64_bits_end_the_batch() {
    fn last(bytes: &[u8], channels: u8, base: u64) -> Option<Result<NodeSample<'_>, NotAMessage>> {
        Samples::new(bytes, channels, base).last()
    }
    assert_eq!(last(&SAMPLES[..5], 3, 0), Some(Err(NotAMessage)), "a channel too many");
    assert_eq!(last(&SAMPLES[..5], 1, 0), Some(Err(NotAMessage)), "a channel too few");
    assert_eq!(last(&[1, 0, 0], 1, u64::MAX), Some(Err(NotAMessage)), "beyond 64 bits");
    assert_eq!(last(&[0, 1, 6], 1, 0), Some(Err(NotAMessage)), "a fault nobody knows");
    assert!(last(&[1, 0, 0], 1, u64::MAX - 1).unwrap().is_ok());
    assert_eq!(last(&[], 1, 0), None);
}

#[test]
fn the_schema_hash_and_the_slot_are_those_of_the_page() {
    let level = channel(ChannelKind::Gauge);
    assert_eq!(SchemaHash::of([level]), SchemaHash(0x74C8_2AD7));
    assert_eq!(SchemaHash::of([Channel { period_s: 5, ..level }]), SchemaHash(0x74C8_2AD7));
    assert_ne!(SchemaHash::of([level, level]), SchemaHash::of([level]));
    assert_eq!(slot(0x0123_4567_89AB_CDEF, 0x1234, 8), 5);
    assert_eq!(slot(0x0123_4567_89AB_CDEF, 0x1234, 0), 0);
}

proptest! {
    #[test]
    fn no_bytes_make_a_message_panic_and_what_is_read_is_written_alike(
        bytes in proptest::collection::vec(any::<u8>(), 0..250),
        first in 0_u8..10,
    ) {
        let bytes = [&[first], &bytes[..]].concat();
        let mut out = [0; 300];
        if let Ok(ask) = Ask::parse(&bytes) {
            let used = ask.emit(&mut out).unwrap();
            prop_assert_eq!(Ask::parse(&out[..used]), Ok(ask));
        }
        if let Ok(answer) = Answer::parse(VERSION, &bytes) {
            let (version, used) = answer.emit(&mut out).unwrap();
            prop_assert_eq!(Answer::parse(version, &out[..used]), Ok(answer));
        }
        Samples::new(&bytes, first, u64::MAX / 2).flatten().for_each(|sample| {
            assert_eq!(sample.readings().count(), usize::from(first));
        });
    }

    #[test]
    fn a_sample_is_read_as_it_was_written(step: u64, values in proptest::collection::vec(any::<i32>(), 0..20)) {
        let readings: Vec<_> = values.into_iter().map(NodeReading::Value).collect();
        let mut out = [0xA5; 200];
        let used = put_sample(step, &readings, &mut out).unwrap();
        let read = Samples::new(&out[..used], u8::try_from(readings.len()).unwrap(), 0).next().unwrap().unwrap();
        prop_assert_eq!((read.at_ms, read.readings().collect::<Vec<_>>()), (step, readings));
    }
}

//! Whatever comes, in whatever lumps.
#![allow(clippy::arithmetic_side_effects, reason = "an overflow in a test is a failed test")]

use std::time::Duration;

use ganglion_drivers::client::{Client, Framing, Outcome, StartError, Timing};
use ganglion_protocols::modbus::UnitId;
use ganglion_protocols::modbus::rtu::crc;
use proptest::prelude::*;
use proptest::sample::select;

const TIMING: Timing = Timing { character: ms(1), gap: ms(4), late_reply: ms(300), answer_slack: ms(30) };
const PATIENCE: Duration = ms(100);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Requests of which the answers are likely among [`frames`].
const REQUESTS: [&[u8]; 9] = [
    &[0x01, 0x03, 0x00, 0x00, 0x11],
    &[0x03, 0x00, 0x10, 0x00, 0x02],
    &[0x03, 0x04, 0x10, 0x00, 0x02],
    &[0x04, 0x00, 0x10, 0x00, 0x7D],
    &[0x06, 0x00, 0x20, 0x12, 0x34],
    &[0x10, 0x00, 0x20, 0x00, 0x01, 0x02, 0x00, 0x07],
    &[0x11],
    &[0x2B, 0x0E, 0x01, 0x00],
    &[0x41, 0x00],
];

fn with_crc(mut frame: Vec<u8>) -> Vec<u8> {
    let check = crc(&frame);
    frame.extend_from_slice(&check.to_le_bytes());
    frame
}

/// Answers, requests, exceptions, cut or spoiled or whole, and noise.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let answers = select(vec![
        vec![0x01, 3, 1, 2, 3],
        vec![0x03, 4, 1, 2, 3, 4],
        vec![0x03, 6, 1, 2, 3, 4, 5, 6],
        [&[0x04, 250][..], &[7; 250]].concat(),
        vec![0x10, 0x00, 0x20, 0x00, 0x01],
        vec![0x11, 2, 9, 0xFF],
        vec![0x2B, 0x0E, 1, 1, 0, 0, 1, 0, 2, b'a', b'b'],
        vec![0x41, 5, 6],
        vec![0x83, 2],
    ]);
    let pdus = prop_oneof![answers, select(REQUESTS.to_vec()).prop_map(<[u8]>::to_vec)];
    let whole = (1_u8..3, pdus).prop_map(|(unit, pdu)| with_crc([&[unit][..], &pdu].concat()));
    prop_oneof![
        4 => whole.clone(),
        1 => (whole.clone(), any::<prop::sample::Index>()).prop_map(|(frame, end)| frame[..end.index(frame.len())].to_vec()),
        1 => (whole, any::<prop::sample::Index>(), 1_u8..).prop_map(|(mut frame, place, flip)| {
            let place = place.index(frame.len());
            frame[place] ^= flip;
            frame
        }),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Ask { unit: u8, pdu: Vec<u8> },
    Hear(Vec<u8>),
    Pass(Duration),
    Abandon,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pdu = prop_oneof![4 => select(REQUESTS.to_vec()).prop_map(<[u8]>::to_vec), 1 => prop::collection::vec(any::<u8>(), 0..260)];
    let step = prop_oneof![
        3 => (0_u8..3, pdu).prop_map(|(unit, pdu)| Step::Ask { unit, pdu }),
        6 => frames().prop_map(Step::Hear),
        4 => (0_u64..400).prop_map(|time| Step::Pass(ms(time))),
        1 => Just(Step::Abandon),
    ];
    prop::collection::vec(step, 1..60)
}

/// How a request or an exchange ended, and its answer.
type End = (Result<Outcome, StartError>, Vec<u8>);

/// Takes the steps and returns how each request and exchange ended. `single`: bytes are handed over one by one.
fn play(framing: Framing, steps: &[Step], single: bool) -> (Client, Vec<End>) {
    let mut client = Client::new(ms(0), framing);
    let mut now = ms(1000);
    let mut outcomes = Vec::new();
    for step in steps {
        let outcome = match step {
            Step::Ask { unit, pdu } => client.start(now, UnitId(*unit), pdu, PATIENCE).err().map(Err),
            Step::Hear(bytes) if single => {
                bytes.iter().fold(None, |outcome, &byte| outcome.or(client.handle_bytes(now, &[byte]).map(Ok)))
            }
            Step::Hear(bytes) => client.handle_bytes(now, bytes).map(Ok),
            Step::Pass(time) => {
                now += *time;
                client.handle_timeout(now).map(Ok)
            }
            Step::Abandon => {
                client.abandon(now);
                None
            }
        };
        outcomes.extend(outcome.map(|outcome| (outcome, client.answer().to_vec())));
    }
    (client, outcomes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_lumps_in_which_bytes_come_do_not_matter(steps in steps()) {
        for framing in [Framing::Rtu(TIMING), Framing::Tcp] {
            let (lumps, outcomes) = play(framing, &steps, false);
            let (singles, same) = play(framing, &steps, true);
            prop_assert_eq!(outcomes, same);
            prop_assert_eq!(lumps.counts(), singles.counts());
        }
    }

    #[test]
    fn what_is_believed_was_heard_as_a_whole_frame_after_the_request(steps in steps()) {
        let mut client = Client::new(ms(0), Framing::Rtu(TIMING));
        let mut now = ms(1000);
        let (mut asked, mut since) = (0, Vec::new());
        for step in &steps {
            match step {
                Step::Ask { unit, pdu } => {
                    if client.start(now, UnitId(*unit), pdu, PATIENCE).is_ok() {
                        (asked, since) = (*unit, Vec::new());
                    }
                }
                Step::Hear(bytes) => {
                    since.extend_from_slice(bytes);
                    if let Some(Outcome::Answered { .. }) = client.handle_bytes(now, bytes) {
                        let frame = with_crc([&[asked], client.answer()].concat());
                        prop_assert!(since.windows(frame.len()).any(|window| window == frame));
                    }
                }
                Step::Pass(time) => {
                    now += *time;
                    let _ = client.handle_timeout(now);
                }
                Step::Abandon => client.abandon(now),
            }
        }
    }

    #[test]
    fn every_exchange_ends_however_loud_the_line_is(
        request in select(REQUESTS.to_vec()), noise in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let mut client = Client::new(ms(0), Framing::Rtu(TIMING));
        let mut now = ms(1000);
        client.start(now, UnitId(1), request, PATIENCE).expect("the line is silent");
        // The request, the patience, the longest frame half as long again, and the slack.
        let last = now + ms(11) + PATIENCE + ms(256 + 128) + TIMING.answer_slack;
        let mut ended = false;
        for &byte in noise.iter().cycle() {
            now += TIMING.character;
            ended |= client.handle_bytes(now, &[byte]).is_some();
            if client.poll_timeout().is_some_and(|at| at <= now) {
                ended |= client.handle_timeout(now).is_some();
            }
            if ended || now > last {
                break;
            }
        }
        prop_assert!(ended);
        prop_assert_eq!(client.poll_timeout(), None);
    }

    #[test]
    fn no_time_panics(a: Duration, b: Duration, c: Duration, patience: Duration) {
        let timing = Timing { character: a, gap: b, late_reply: c, answer_slack: a };
        for framing in [Framing::Rtu(timing), Framing::Tcp] {
            let mut client = Client::new(b, framing);
            prop_assert!(client.start(Duration::MAX, UnitId(1), REQUESTS[1], patience).is_ok());
            let _ = client.handle_bytes(c, &[1, 3, 4]);
            let _ = client.handle_bytes(Duration::MAX, &[0; 300]);
            client.abandon(a);
            let _ = client.handle_timeout(Duration::MAX);
            prop_assert!(client.poll_timeout().is_none());
        }
    }
}

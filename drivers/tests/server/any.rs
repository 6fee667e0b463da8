//! Whatever comes.

use std::time::Duration;

use ganglion_drivers::client::{character_time, frame_gap};
use ganglion_drivers::server::{Burst, Damage};
use ganglion_protocols::modbus::pdu::Response;
use ganglion_protocols::modbus::rtu::{Frame, MAX_FRAME};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::device::{Talk, UNIT, frame};

const BAUD: u32 = 19_200;
const BITS: u8 = 11;

fn gap() -> Duration {
    frame_gap(BAUD, BITS)
}

/// Bytes on the line, one a character, and what the unit answers to each burst.
struct Wire {
    talk: Talk,
    burst: Burst,
    now: Duration,
    answers: Vec<Vec<u8>>,
}

impl Wire {
    fn new() -> Self {
        Self { talk: Talk::new(), burst: Burst::new(gap()), now: Duration::ZERO, answers: Vec::new() }
    }

    /// Looks at the line as a board's loop does.
    fn poll(&mut self) {
        match self.burst.take(self.now) {
            Some(Ok(bytes)) => {
                let mut out = [0; MAX_FRAME];
                let answer = self.talk.server.handle_frame(&mut self.talk.device, bytes, &mut out);
                self.answers.extend(answer.map(<[u8]>::to_vec));
            }
            Some(Err(damage)) => self.talk.server.handle_damage(damage),
            None => {}
        }
    }

    /// Time passes; the unit looks when it asked to.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        if let Some(due) = self.burst.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.poll();
        }
        self.now = end;
    }

    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.pass(character_time(BAUD, BITS));
            self.burst.handle_bytes(self.now, &[*byte]);
        }
    }
}

/// Requests of every function, with good fields or any.
fn pdus() -> impl Strategy<Value = Vec<u8>> {
    let good = select(vec![
        vec![0x01, 0, 0, 0, 19],
        vec![0x02, 0, 0, 7, 0xD0],
        vec![0x03, 0, 0, 0, 125],
        vec![0x04, 0, 0x10, 0, 2],
        vec![0x05, 0, 1, 0xFF, 0],
        vec![0x06, 0, 1, 0, 3],
        vec![0x07],
        vec![0x08, 0, 0, 1, 2],
        vec![0x08, 0, 1, 0xFF, 0],
        vec![0x08, 0, 4, 0, 0],
        vec![0x08, 0, 0x0A, 0, 0],
        vec![0x0B],
        vec![0x0C],
        vec![0x0F, 0, 1, 0, 3, 1, 5],
        vec![0x10, 0, 1, 0, 1, 2, 0, 7],
        vec![0x11],
        vec![0x14, 14, 6, 0, 1, 0, 0, 0, 2, 6, 0, 2, 0, 9, 0, 1],
        vec![0x15, 9, 6, 0, 1, 0, 7, 0, 1, 1, 2],
        vec![0x16, 0, 4, 0, 0xF2, 0, 0x25],
        vec![0x17, 0, 0, 0, 2, 0, 1, 0, 1, 2, 0, 7],
        vec![0x2B, 0x0E, 3, 0],
    ]);
    let spoiled = (good.clone(), any::<Index>(), any::<u8>()).prop_map(|(mut pdu, place, byte)| {
        let place = place.index(pdu.len());
        pdu[place] = byte;
        pdu
    });
    let cut = (good.clone(), any::<Index>()).prop_map(|(pdu, end)| pdu[..end.index(pdu.len()) + 1].to_vec());
    prop_oneof![3 => good, 3 => spoiled, 1 => cut, 1 => prop::collection::vec(any::<u8>(), 1..=253)]
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 250..600),
        2 => (pdus(), any::<Index>()).prop_map(|(pdu, end)| {
            let frame = frame(UNIT.0, &pdu);
            frame[..end.index(frame.len())].to_vec()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_request_makes_it_panic_and_every_answer_is_one_that_a_client_reads(
        requests in prop::collection::vec((select(vec![0, UNIT.0, UNIT.0, UNIT.0, 18]), pdus()), 1..30)
    ) {
        let mut talk = Talk::new();
        for (unit, pdu) in requests {
            let listened = talk.server.listens_only();
            let before = talk.device.clone();
            let answer = talk.send(unit, &pdu);
            if unit != UNIT.0 || listened || !(0x01..0x80).contains(&pdu[0]) {
                prop_assert_eq!(answer, None);
                continue;
            }
            let Some(answer) = answer else {
                prop_assert!(talk.server.listens_only(), "only who was told to be silent is: {:02X?}", pdu);
                continue;
            };
            let answer = Frame::parse(&answer).expect("a frame");
            prop_assert_eq!(answer.unit, UNIT);
            let response = Response::parse(answer.pdu).expect("an answer");
            prop_assert_eq!(response.function(), pdu[0]);
            if matches!(response, Response::Exception { .. }) {
                prop_assert!(talk.device == before, "what is refused changes nothing: {:02X?}", pdu);
            }
        }
    }

    #[test]
    fn after_any_noise_and_a_silence_the_next_request_is_answered(
        noises in prop::collection::vec((noise(), 0_u64..10_000), 0..8), damage in any::<bool>()
    ) {
        let mut wire = Wire::new();
        for (noise, pause) in noises {
            wire.hear(&noise);
            wire.pass(Duration::from_micros(pause));
        }
        if damage {
            wire.burst.handle_damage(wire.now, Damage::Character);
        }
        wire.pass(gap());
        wire.answers.clear();
        // Noise may have been a request to listen only; a restart is heeded even then.
        wire.hear(&frame(UNIT.0, &[0x08, 0, 1, 0, 0]));
        wire.pass(gap());
        prop_assert!(!wire.talk.server.listens_only());
        wire.answers.clear();
        wire.hear(&frame(UNIT.0, &[0x08, 0, 0, 0xA5, 0x37]));
        prop_assert!(wire.answers.is_empty(), "not before the silence");
        wire.pass(gap());
        prop_assert_eq!(&wire.answers, &[frame(UNIT.0, &[0x08, 0, 0, 0xA5, 0x37])]);
        prop_assert_eq!(wire.burst.missed(), 0);
    }

    #[test]
    fn a_burst_is_the_same_in_whatever_lumps_it_comes(
        bytes in prop::collection::vec(any::<u8>(), 1..300), lump in 1_usize..300
    ) {
        let mut burst = Burst::new(gap());
        for (lump, at) in bytes.chunks(lump).zip(0_u64..) {
            burst.handle_bytes(Duration::from_micros(at), lump);
        }
        let taken = burst.take(Duration::from_secs(1)).expect("it is over");
        if bytes.len() <= MAX_FRAME {
            prop_assert_eq!(taken, Ok(&bytes[..]));
        } else {
            prop_assert_eq!(taken, Err(Damage::TooLong));
        }
    }
}

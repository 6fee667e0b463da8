//! Frames of the node link: golden bytes, limits, and every kind of damage.

use ganglion_protocols::node_link::{
    Answer, Ask, FrameError, Head, MAX_FRAME, MAX_PAYLOAD, Refusal, Speaker, VERSION, open, seal,
};
use proptest::prelude::*;

const PAGE: &str = include_str!("../../docs/node-link.md");

/// The frame of this name in the page.
fn golden(name: &str) -> Vec<u8> {
    let mut lines = PAGE.lines().skip_while(|line| *line != "```golden frame").skip(1);
    let (_, bytes) =
        lines.find_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == name)).expect("the page has it");
    bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

fn sealed(head: Head, payload: &[u8]) -> Vec<u8> {
    let mut out = [0xA5; MAX_FRAME];
    let used = seal(head, payload, &mut out).expect("it fits");
    out[..used].to_vec()
}

const HEAD: Head = Head { version: VERSION, speaker: Speaker::Gateway, unit: 5, token: 0x2A };

#[test]
fn frames_are_those_of_the_page() {
    let is = |name: &str, head: Head, payload: &[u8]| {
        assert_eq!(sealed(head, payload), golden(name), "{name}");
        assert_eq!(open(&mut golden(name)), Ok((head, payload)), "{name}");
    };
    is("describe", HEAD, &[1]);
    is("fetch", Head { token: 0x2B, ..HEAD }, &[3, 1, 0xAC, 2, 0x81, 1, 0x14]);
    let time = [4, 1, 0x80, 0xA0, 0xF1, 0xC2, 0xB1, 0x34, 0x14, 0xEF, 0x9B, 0xAF, 0xCD, 8];
    is("time", Head { token: 0x2C, ..HEAD }, &time);
    is("who", Head { unit: 0, token: 7, ..HEAD }, &[0, 0xB4, 0x24, 8, 0x3C, 0]);
    let node = Head { speaker: Speaker::Node, ..HEAD };
    is("unsupported", Head { version: 0, ..node }, &[0, 1, 1]);
    is("refused", node, &[8, 3]);
    assert_eq!(Ask::parse(&[1]), Ok(Ask::Describe));
    assert_eq!(Answer::parse(VERSION, &[8, 3]), Ok(Answer::Refused(Refusal::Unnamed)));
}

#[test]
fn every_error_of_one_or_two_bits_and_every_cut_is_refused() {
    for name in ["describe", "fetch", "who", "unsupported", "refused"] {
        let frame = golden(name);
        let bits = frame.len() * 8;
        for first in 0..bits {
            for second in first..bits {
                let mut damaged = frame.clone();
                damaged[first / 8] ^= 1 << (first % 8);
                if second != first {
                    damaged[second / 8] ^= 1 << (second % 8);
                }
                assert!(open(&mut damaged).is_err(), "{name} with bits {first} and {second}");
            }
        }
        for end in 0..frame.len() {
            assert!(open(&mut frame[..end].to_vec()).is_err(), "{name} cut at {end}");
            assert!(end == 0 || open(&mut frame[end..].to_vec()).is_err(), "{name} from {end}");
        }
    }
}

#[test]
fn every_changed_byte_is_refused() {
    let frame = golden("time");
    for place in 0..frame.len() {
        for byte in (0..=255).filter(|byte| *byte != frame[place]) {
            let mut damaged = frame.clone();
            damaged[place] = byte;
            assert!(open(&mut damaged).is_err(), "{byte:02x} at {place}");
        }
    }
}

#[test]
fn the_longest_message_fits_the_longest_frame_exactly_and_one_byte_more_is_refused() {
    for byte in [0x00, 0x01, 0xFF] {
        let payload = [byte; MAX_PAYLOAD + 1];
        let mut frame = sealed(HEAD, &payload[..MAX_PAYLOAD]);
        assert_eq!(frame.len(), MAX_FRAME);
        assert_eq!(open(&mut frame), Ok((HEAD, &payload[..MAX_PAYLOAD])));
        assert!(seal(HEAD, &payload, &mut [0; 2 * MAX_FRAME]).is_err());
        assert!(seal(HEAD, &payload[..MAX_PAYLOAD], &mut [0; MAX_FRAME - 1]).is_err());
    }
    assert_eq!(sealed(HEAD, &[]).len(), 10);
}

#[test]
fn more_delimiters_are_no_harm_and_one_inside_is() {
    let frame = golden("describe");
    let more = |before: usize, behind: usize| [&vec![0; before][..], &frame, &vec![0; behind]].concat();
    assert_eq!(open(&mut more(3, 2)), Ok((HEAD, &[1][..])));
    assert_eq!(open(&mut more(0, MAX_FRAME - frame.len())), Ok((HEAD, &[1][..])));
    assert_eq!(open(&mut more(1, MAX_FRAME - frame.len())), Err(FrameError::Length(MAX_FRAME + 1)));
    assert_eq!(open(&mut [&frame[..], &frame].concat()), Err(FrameError::Delimiters), "two in one burst");
}

#[test]
fn what_is_too_short_or_broken_cobs_says_so() {
    assert_eq!(open(&mut []), Err(FrameError::Delimiters));
    assert_eq!(open(&mut [0; 20]), Err(FrameError::Delimiters));
    assert_eq!(open(&mut [0, 1, 0]), Err(FrameError::Length(3)));
    assert_eq!(open(&mut [0, 8, 1, 5, 0x2A, 1, 2, 3, 0]), Err(FrameError::Delimiters), "a block beyond the end");
    let mut run = [0xFF; MAX_FRAME];
    (run[0], run[MAX_FRAME - 1]) = (0, 0);
    assert_eq!(open(&mut run), Err(FrameError::Delimiters), "a run of 254 has no room");
}

proptest! {
    #[test]
    fn a_frame_is_opened_as_it_was_sealed(
        payload in proptest::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..=MAX_PAYLOAD),
        (version, unit, token, node) in (0_u8..128, any::<u8>(), any::<u8>(), any::<bool>()),
    ) {
        let speaker = if node { Speaker::Node } else { Speaker::Gateway };
        let head = Head { version, speaker, unit, token };
        let mut frame = sealed(head, &payload);
        prop_assert!(frame.len() <= MAX_FRAME && !frame[1..frame.len() - 1].contains(&0));
        prop_assert_eq!(open(&mut frame), Ok((head, &payload[..])));
    }

    #[test]
    fn no_bytes_make_a_frame_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), ends: bool) {
        if let (true, [first, .., last]) = (ends, &mut bytes[..]) {
            (*first, *last) = (0, 0);
        }
        let whole = bytes.len();
        prop_assert!(open(&mut bytes).is_err() || whole >= 10);
    }
}

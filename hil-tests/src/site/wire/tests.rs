use super::super::unit::{Model, Table};
use super::*;

const TICK: Tick = Tick(17_953_200_000);
const CHARACTER: Duration = Duration::from_micros(1000);

fn wire(ids: &[u8]) -> Wire {
    let units = ids.iter().map(|&id| Unit::new(id, Model::Bench { registers: 100 }, 3)).collect();
    Wire::new(CHARACTER, CHARACTER * 7 / 2, Duration::from_millis(2), units)
}

fn request(unit: u8, address: u8) -> Vec<u8> {
    let mut frame = vec![unit, 0x03, 0, address, 0, 2];
    frame.extend(pdu::crc(&frame).to_le_bytes());
    frame
}

/// Lets time pass from event to event; returns each character with the time it was over, in microseconds.
fn run(wire: &mut Wire, from: Instant, until: Duration) -> Vec<(u128, u8)> {
    let mut heard = Vec::new();
    while let Some(next) = wire.next().filter(|&next| next <= from + until) {
        let now = next.max(from);
        heard.extend(wire.advance(now, TICK).into_iter().map(|byte| ((now - from).as_micros(), byte)));
    }
    heard
}

fn bytes(heard: &[(u128, u8)]) -> Vec<u8> {
    heard.iter().map(|&(_, byte)| byte).collect()
}

#[test]
fn a_request_and_its_answer_take_the_time_of_their_characters() {
    let (mut wire, start) = (wire(&[1]), Instant::now());
    wire.hear(start, &request(1, 0));
    let heard = run(&mut wire, start, Duration::from_secs(1));
    // 8 characters, 3.5 of silence, 2 ms of the device, 9 characters.
    assert_eq!(heard.first().map(|first| first.0), Some(8000 + 3500 + 2000 + 1000));
    assert_eq!(heard.last().map(|last| last.0), Some(8000 + 3500 + 2000 + 9000));
    let words = wire.units[0].read(Table::Holding, 0, 2, TICK).expect("two registers");
    let data: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    assert_eq!(bytes(&heard)[..7], [&[1, 3, 4][..], &data].concat());
    assert_eq!(pdu::crc(&bytes(&heard)), 0);
}

#[test]
fn a_request_in_pieces_is_one_frame_and_two_without_silence_are_none() {
    let (mut wire, start) = (wire(&[1]), Instant::now());
    wire.hear(start, &request(1, 0)[..3]);
    wire.hear(start + Duration::from_millis(4), &request(1, 0)[3..]);
    assert_eq!(run(&mut wire, start, Duration::from_secs(1)).len(), 9);
    let later = start + Duration::from_secs(2);
    wire.hear(later, &request(1, 0));
    wire.hear(later + Duration::from_millis(9), &request(1, 4));
    assert!(run(&mut wire, later, Duration::from_secs(1)).is_empty());
    assert_eq!((wire.counts.requests, wire.counts.malformed), (1, 1));
}

#[test]
fn nobody_answers_for_a_stranger_or_a_wrong_check() {
    let (mut wire, start) = (wire(&[1]), Instant::now());
    wire.hear(start, &request(9, 0));
    assert!(run(&mut wire, start, Duration::from_secs(1)).is_empty());
    let mut frame = request(1, 0);
    frame[3] ^= 1;
    wire.hear(start + Duration::from_secs(2), &frame);
    assert!(run(&mut wire, start, Duration::from_secs(4)).is_empty());
    assert_eq!((wire.counts.strangers, wire.counts.malformed, wire.counts.requests), (1, 1, 0));
}

#[test]
fn a_late_answer_comes_late_and_another_unit_may_answer_before() {
    let (mut wire, start) = (wire(&[1, 2]), Instant::now());
    wire.units[0].faults.queue([Fault::Late]);
    wire.units[0].faults.set_late(Duration::from_millis(300));
    wire.hear(start, &request(1, 0));
    assert!(run(&mut wire, start, Duration::from_millis(100)).is_empty());
    wire.hear(start + Duration::from_millis(100), &request(2, 0));
    let heard = run(&mut wire, start, Duration::from_secs(1));
    assert_eq!((heard.len(), heard[0].1, heard[9].1), (18, 2, 1));
    assert_eq!(heard[9].0, 8000 + 3500 + 300_000 + 1000);
}

#[test]
fn a_late_answer_into_another_units_answer_makes_both_unreadable() {
    let (mut wire, start) = (wire(&[1, 2]), Instant::now());
    wire.units[0].faults.queue([Fault::Late]);
    wire.units[0].faults.set_late(Duration::from_millis(30));
    wire.hear(start, &request(1, 0));
    assert!(run(&mut wire, start, Duration::from_millis(20)).is_empty());
    wire.hear(start + Duration::from_millis(25), &request(2, 0));
    let heard = bytes(&run(&mut wire, start, Duration::from_secs(1)));
    assert_eq!(wire.counts.collisions, 1);
    assert!(heard.windows(9).all(|frame| pdu::crc(frame) != 0), "{heard:?}");
}

#[test]
fn whoever_talks_into_an_answer_spoils_both() {
    let (mut wire, start) = (wire(&[1]), Instant::now());
    wire.hear(start, &request(1, 0));
    let first = run(&mut wire, start, Duration::from_micros(17_500));
    wire.hear(start + Duration::from_micros(17_500), &request(1, 0));
    let heard = [first, run(&mut wire, start, Duration::from_secs(1))].concat();
    assert_eq!(heard.len(), 9);
    assert_ne!(pdu::crc(&bytes(&heard)), 0);
    assert_eq!((wire.counts.collisions, wire.counts.requests, wire.counts.malformed), (1, 1, 1));
}

#[test]
fn a_line_counts_what_was_good_and_how_long_it_takes_at_least() {
    let (mut wire, start) = (wire(&[1, 2]), Instant::now());
    wire.units[0].faults.queue([Fault::Flip, Fault::Exception]);
    wire.units[1].defects.set_dead(true);
    for (second, unit) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 1)] {
        let at = start + Duration::from_secs(second);
        wire.hear(at, &request(unit, 0));
        run(&mut wire, at, Duration::from_millis(900));
    }
    // 8 characters, 3.5 of silence, 2 ms, 9 characters, 3.5 of silence.
    let expected = (5, 2, 2 * Duration::from_millis(26));
    assert_eq!((wire.counts.requests, wire.counts.good, wire.counts.good_time), expected);
    let seconds = wire.seconds.lock().expect("nobody panicked").clone();
    assert_eq!(seconds, Seconds::from([(TICK.unix_second(), BTreeMap::from([(1, 2)]))]));
}

#[test]
fn a_bit_error_spoils_a_request_or_its_answer_and_neither_is_good() {
    let (mut wire, start) = (wire(&[1]), Instant::now());
    wire.noise.set(2e-3);
    let mut broken = 0;
    for second in 0..1000 {
        let at = start + Duration::from_secs(second);
        wire.hear(at, &request(1, 0));
        let heard = bytes(&run(&mut wire, at, Duration::from_millis(900)));
        broken += u64::from(!heard.is_empty() && pdu::crc(&heard) != 0);
    }
    let LineCounts { good, malformed, strangers, hit_bits, .. } = wire.counts;
    assert_eq!(good + broken + malformed + strangers, 1000, "{:?}", wire.counts);
    assert!(malformed > 50 && broken > 50 && hit_bits > 200, "{:?}", wire.counts);
}

#[test]
fn a_client_that_does_not_wait_for_the_silence_is_seen() {
    let (mut wire, start) = (wire(&[1]), Instant::now());
    let over = |wire: &mut Wire, at| {
        wire.hear(at, &request(1, 0));
        run(wire, at, Duration::from_millis(500))
            .last()
            .map(|last| at + Duration::from_micros(u64::try_from(last.0).expect("short")))
    };
    let first = over(&mut wire, start).expect("an answer");
    let second = over(&mut wire, first + Duration::from_micros(3500)).expect("an answer");
    assert_eq!(wire.counts.hasty, 0);
    over(&mut wire, second + Duration::from_micros(3000)).expect("an answer");
    assert_eq!(wire.counts.hasty, 1);
}

#[test]
fn an_adapter_that_hears_itself_hears_each_character_when_it_is_over() {
    let (mut wire, start) = (wire(&[1]), Instant::now());
    wire.echo = true;
    wire.hear(start, &request(1, 0));
    let heard = run(&mut wire, start, Duration::from_secs(1));
    assert_eq!(bytes(&heard)[..8], request(1, 0));
    assert_eq!((heard[0].0, heard[7].0, heard[8].0), (1000, 8000, 8000 + 3500 + 2000 + 1000));
    assert_eq!((heard.len(), wire.counts.sent, wire.counts.collisions), (17, 9, 0));
}

#[test]
fn somebody_else_is_heard_and_spoils_what_it_talks_into() {
    let (mut wire, start) = (wire(&[1]), Instant::now());
    wire.say(start, request(77, 0));
    assert_eq!(bytes(&run(&mut wire, start, Duration::from_millis(500))), request(77, 0));
    let later = start + Duration::from_secs(1);
    wire.hear(later, &request(1, 0));
    wire.say(later + Duration::from_millis(4), request(77, 0));
    run(&mut wire, later, Duration::from_millis(500));
    assert_eq!((wire.counts.collisions, wire.counts.malformed, wire.counts.good), (1, 1, 0));
}

#[test]
fn fast_characters_come_in_lumps_and_the_last_one_in_time() {
    let character = Duration::from_nanos(86_805);
    let units = vec![Unit::new(1, Model::Bench { registers: 100 }, 3)];
    let (mut wire, start) =
        (Wire::new(character, Duration::from_micros(1750), Duration::from_millis(2), units), Instant::now());
    let mut frame = vec![1, 0x03, 0, 0, 0, 60];
    frame.extend(pdu::crc(&frame).to_le_bytes());
    wire.hear(start, &frame);
    let heard = run(&mut wire, start, Duration::from_secs(1));
    let lumps = heard.chunk_by(|a, b| a.0 == b.0).count();
    assert!((10..=13).contains(&lumps), "{lumps} lumps");
    let whole = (8 + 125) * character + Duration::from_micros(1750 + 2000);
    assert_eq!((heard.len(), heard.last().map(|last| last.0)), (125, Some(whole.as_micros())));
}

#[test]
fn each_fault_spoils_the_answer_in_its_own_way() {
    let good = {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.hear(start, &request(1, 0));
        bytes(&run(&mut wire, start, Duration::from_secs(1)))
    };
    let spoiled = |fault| {
        let (mut wire, start) = (wire(&[1]), Instant::now());
        wire.units[0].faults.queue([fault]);
        wire.hear(start, &request(1, 0));
        let heard = bytes(&run(&mut wire, start, Duration::from_secs(5)));
        assert_eq!(wire.units[0].faults.counts()[&fault], 1);
        heard
    };
    assert!(spoiled(Fault::Drop).is_empty());
    assert_eq!(spoiled(Fault::Late), good);
    assert_eq!(spoiled(Fault::Echo), [request(1, 0), good.clone()].concat());
    let flipped = spoiled(Fault::Flip);
    assert!(flipped.len() == good.len() && pdu::crc(&flipped) != 0);
    let noisy = spoiled(Fault::Garbage);
    assert!(noisy.len() > good.len() && noisy.ends_with(&good));
    let other = spoiled(Fault::WrongUnit);
    assert_eq!((other[0], other.len(), pdu::crc(&other)), (2, good.len(), 0));
    let short = spoiled(Fault::WrongLength);
    assert_eq!((short[2], short.len(), pdu::crc(&short)), (2, good.len() - 2, 0));
    let cut = spoiled(Fault::Truncated);
    assert!(cut.len() < good.len() && good.starts_with(&cut));
    let busy = spoiled(Fault::Exception);
    assert_eq!((&busy[..3], pdu::crc(&busy)), (&[1, 0x83, 0x06][..], 0));
}

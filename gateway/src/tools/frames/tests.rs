use super::*;

fn frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let mut out = [0; rtu::MAX_FRAME];
    let len = rtu::Frame::emit(UnitId(unit), pdu, &mut out).unwrap();
    out[..len].to_vec()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn said(seen: &[Seen]) -> Vec<&str> {
    let word = |seen: &'_ Seen| match &seen.what {
        What::Sent(_) => "sent",
        What::Received(_) => "received",
        What::Echo => "echo",
        What::Spoiled => "spoiled",
        What::Noise => "noise",
        What::Opened => "opened",
        What::Lost => "lost",
    };
    seen.iter().map(word).collect()
}

const READ: [u8; 5] = [0x03, 0x00, 0x10, 0x00, 0x02];
const ANSWER: [u8; 6] = [0x03, 0x04, 0x42, 0xC8, 0x00, 0x01];

#[test]
fn lumps_of_any_size_make_the_same_frames() {
    let request = frame(4, &READ);
    let heard = [request.clone(), vec![0xFF, 0x55], frame(4, &ANSWER), frame(9, &[0x83, 0x02])].concat();
    for size in 1..=heard.len() {
        let mut joiner = Joiner::default();
        let mut seen = joiner.take(ms(0), Moment::Sent(&request));
        for lump in heard.chunks(size) {
            seen.extend(joiner.take(ms(1), Moment::Received(lump)));
        }
        seen.extend(joiner.flush());
        assert_eq!(said(&seen), ["sent", "echo", "noise", "received", "received"], "lumps of {size}");
        assert_eq!(seen[0].what, What::Sent("unit 4 read holding 16-17 (2)".to_owned()));
        assert_eq!(seen[3].what, What::Received("unit 4 holding 16-17 (2): 42C8 0001".to_owned()));
        let refused = "unit 9 read holding registers refused: exception 02, illegal data address";
        assert_eq!(seen[4].what, What::Received(refused.to_owned()));
        let bytes: usize = seen[1..].iter().map(|seen| seen.bytes.len()).sum();
        assert_eq!(bytes, heard.len(), "every byte is in one of them");
    }
}

#[test]
fn a_spoiled_answer_is_told_from_noise_when_the_next_thing_happens() {
    let (request, mut answer) = (frame(4, &READ), frame(4, &ANSWER));
    answer[4] ^= 0x40;
    let mut joiner = Joiner::default();
    joiner.take(ms(0), Moment::Sent(&request));
    assert_eq!(joiner.take(ms(20), Moment::Received(&answer)), []);
    // A pause that no adapter makes ends what came before.
    let seen = joiner.take(ms(400), Moment::Received(&[0x00]));
    assert_eq!(said(&seen), ["spoiled"]);
    assert_eq!((seen[0].at, &seen[0].bytes), (ms(20), &answer));
    assert_eq!(said(&joiner.take(ms(401), Moment::Sent(&request))), ["noise", "sent"]);
    assert_eq!(said(&joiner.take(ms(402), Moment::Lost)), ["lost"]);
}

#[test]
fn an_answer_that_repeats_its_request_is_no_echo() {
    let write = frame(4, &[0x06, 0x00, 0x01, 0x00, 0x07]);
    let mut joiner = Joiner::default();
    joiner.take(ms(0), Moment::Sent(&write));
    let seen = joiner.take(ms(9), Moment::Received(&write));
    assert_eq!(seen[0].what, What::Received("unit 4 holding 1 written".to_owned()));
}

#[test]
fn frames_of_tcp_are_cut_by_their_header() {
    let mut out = [0; tcp::MAX_FRAME];
    let mut emit = |transaction, pdu: &[u8]| {
        let len = tcp::Frame::emit(transaction, UnitId(1), pdu, &mut out).unwrap();
        out[..len].to_vec()
    };
    let (request, answers) = (emit(7, &READ), [emit(6, &ANSWER), emit(7, &ANSWER)].concat());
    for size in 1..=answers.len() {
        let mut joiner = Joiner::default();
        let mut seen = joiner.take(ms(0), Moment::Sent(&request));
        for lump in answers.chunks(size) {
            seen.extend(joiner.take(ms(1), Moment::Received(lump)));
        }
        assert_eq!(said(&seen), ["sent", "received", "received"]);
        assert_eq!(seen[2].what, What::Received("unit 1 #7 holding 16-17 (2): 42C8 0001".to_owned()));
    }
}

#[test]
fn any_bytes_are_accounted_for() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..40 {
        let mut joiner = Joiner::default();
        joiner.take(ms(0), Moment::Sent(&frame(4, &READ)));
        let (mut told, mut seen) = (0, 0);
        for at in 0..20 {
            let mut lump = vec![0; random.usize(1..100)];
            random.fill(&mut lump);
            told += lump.len();
            seen +=
                joiner.take(ms(at * 40), Moment::Received(&lump)).iter().map(|seen| seen.bytes.len()).sum::<usize>();
        }
        seen += joiner.flush().iter().map(|seen| seen.bytes.len()).sum::<usize>();
        assert_eq!(told, seen);
    }
}

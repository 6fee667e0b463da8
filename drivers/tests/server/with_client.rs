//! Our client asks our server over a bad line, in virtual time: what is answered is right, and what is not was not half
//! done.

use std::time::Duration;

use ganglion_drivers::client::{Client, Framing, Outcome, StartError, Timing, character_time, frame_gap};
use ganglion_drivers::server::{Burst, Server};
use ganglion_protocols::modbus::rtu::{Frame, MAX_FRAME};

use super::device::{Device, UNIT, frame};
use super::line::Random;

const BAUD: u32 = 9_600;
const BITS: u8 = 11;
const PATIENCE: Duration = Duration::from_millis(60);
const EXCHANGES: u32 = 30_000;

/// What a line does to a frame: for each byte, how long after the one before it comes.
fn transfer(bytes: &[u8], random: &mut Random, faulty: bool) -> Vec<(Duration, u8)> {
    let character = character_time(BAUD, BITS);
    let mut bytes = bytes.to_vec();
    let mut pause = None;
    // Zero bytes at the end of a frame are nothing to its CRC: cut there it is a right frame of a shorter PDU, and gets the
    // answer of one, exception 03. Cuts and pauses are before its last byte that is none.
    let before = 1 + bytes.iter().rposition(|byte| *byte != 0).expect("no frame is all zeros");
    let fault = if faulty { random.pick(&[50_000; 6]) } else { None };
    match fault {
        Some(0) => bytes.clear(),
        Some(1) => random.flip(&mut bytes),
        Some(2) => bytes.truncate(random.below(before)),
        // Longer than what ends a burst.
        Some(3) => pause = Some((random.below(before), frame_gap(BAUD, BITS) * 2)),
        // Longer than the 1.5 characters, which nobody enforces.
        Some(4) => pause = Some((random.below(before), character * 3 / 2)),
        Some(_) => bytes.splice(..0, random.bytes(4)).for_each(drop),
        None => {}
    }
    let delay = |place| pause.filter(|(at, _)| *at == place).map_or(character, |(_, pause)| character + pause);
    bytes.iter().enumerate().map(|(place, byte)| (delay(place), *byte)).collect()
}

/// A request that a client may send, often wrong for the device.
fn request(random: &mut Random) -> Vec<u8> {
    let [high, low] = [random.small(3), random.byte()];
    let count = 1 + random.small(20);
    match random.below(8) {
        0 => vec![0x01 + random.small(2), high, low, 0, count],
        1 => vec![0x03 + random.small(2), high, low, 0, count],
        2 => vec![0x05, high, low, if random.chance(500_000) { 0xFF } else { 0 }, 0],
        3 => vec![0x06, high, low, 0, random.byte()],
        4 => vec![0x0F, high, low, 0, 8, 1, random.byte()],
        5 => [&[0x10, high, low, 0, 2, 4, 0][..], &[random.byte(), 0, random.byte()]].concat(),
        6 => [&[0x17, high, low, 0, count, high, low, 0, 1, 2, 0][..], &[random.byte()]].concat(),
        _ => vec![0x16, high, low, 0, 0xF2, 0, random.byte()],
    }
}

/// What the device answers when nothing is in the way, and what it is then.
fn truth(device: &Device, pdu: &[u8]) -> (Vec<u8>, Device) {
    let mut device = device.clone();
    let mut out = [0; MAX_FRAME];
    let answer =
        Server::new(UNIT).handle_frame(&mut device, &frame(UNIT.0, pdu), &mut out).expect("it is asked").to_vec();
    (Frame::parse(&answer).expect("a frame").pdu.to_vec(), device)
}

struct Bench {
    client: Client,
    server: Server,
    burst: Burst,
    device: Device,
    now: Duration,
}

impl Bench {
    /// The unit hears bytes, and answers when it looks; its loop looks when it asked to.
    fn carry(&mut self, bytes: &[(Duration, u8)]) -> Option<Vec<u8>> {
        let mut answer = None;
        for (delay, byte) in bytes {
            let at = self.now + *delay;
            answer = self.look(at).or(answer);
            self.now = at;
            self.burst.handle_bytes(at, &[*byte]);
        }
        self.look(Duration::MAX).or(answer)
    }

    fn look(&mut self, until: Duration) -> Option<Vec<u8>> {
        let due = self.burst.poll_timeout().filter(|due| *due <= until)?;
        self.now = self.now.max(due);
        let bytes = self.burst.take(due)?.expect("short bursts only");
        let mut out = [0; MAX_FRAME];
        self.server.handle_frame(&mut self.device, bytes, &mut out).map(<[u8]>::to_vec)
    }

    /// Starts an exchange as soon as the line may be used, and returns the frame.
    fn start(&mut self, pdu: &[u8]) -> Vec<u8> {
        loop {
            match self.client.start(self.now, UNIT, pdu, PATIENCE) {
                Ok(frame) => return frame.to_vec(),
                Err(StartError::TooEarly { until }) => self.now = until,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// One exchange; returns its outcome.
    fn exchange(&mut self, pdu: &[u8], random: &mut Random, faulty: bool) -> Outcome {
        let sent = self.start(pdu);
        let answer = self.carry(&transfer(&sent, random, faulty));
        for (delay, byte) in answer.map(|answer| transfer(&answer, random, faulty)).unwrap_or_default() {
            self.now += delay;
            if let Some(outcome) = self.client.handle_bytes(self.now, &[byte]) {
                return outcome;
            }
        }
        loop {
            let due = self.client.poll_timeout().expect("the exchange goes on");
            self.now = self.now.max(due);
            if let Some(outcome) = self.client.handle_timeout(self.now) {
                return outcome;
            }
        }
    }
}

#[test]
fn a_bad_line_gives_right_answers_or_none_and_a_good_one_gives_all() {
    let mut random = Random::new(1);
    let timing = Timing {
        character: character_time(BAUD, BITS),
        gap: frame_gap(BAUD, BITS),
        late_reply: Duration::from_millis(300),
        answer_slack: Duration::from_millis(30),
    };
    let mut bench = Bench {
        client: Client::new(Duration::ZERO, Framing::Rtu(timing)),
        server: Server::new(UNIT),
        burst: Burst::new(frame_gap(BAUD, BITS)),
        device: Device::new(),
        now: Duration::ZERO,
    };
    let (mut answered, mut refused, mut failed) = (0, 0, 0);
    for exchange in 0..EXCHANGES {
        let faulty = exchange < EXCHANGES / 3 * 2;
        let pdu = request(&mut random);
        let before = bench.device.clone();
        let (answer, after) = truth(&before, &pdu);
        match bench.exchange(&pdu, &mut random, faulty) {
            Outcome::Answered { turnaround } => {
                assert_eq!(bench.client.answer(), answer, "{pdu:02X?}");
                assert!(bench.device == after, "{pdu:02X?}");
                // 3.5 characters at least, and the first character of the answer.
                assert!(turnaround >= timing.gap + timing.character, "{turnaround:?}");
                answered += 1;
            }
            Outcome::Refused(code) => {
                assert_eq!([pdu[0] | 0x80, code.code()], answer[..], "{pdu:02X?}");
                refused += 1;
            }
            Outcome::Failed(failure) => {
                assert!(faulty, "{failure:?} on a good line: {pdu:02X?}");
                assert!(bench.device == before || bench.device == after, "{pdu:02X?}");
                failed += 1;
            }
            Outcome::Sent => panic!("nothing is broadcast"),
        }
    }
    assert!(answered > 10_000 && refused > 5_000 && failed > 5_000, "{answered} {refused} {failed}");
    assert_eq!(bench.burst.missed(), 0);
}

//! Units whose registers tell where and when they are.

use std::ops::Range;
use std::time::Duration;

use super::Random;

/// How long a register holds its value.
pub const GENERATION: Duration = Duration::from_millis(10);
/// Values after which a register holds the first again: in 640 ms.
const GENERATIONS: u64 = 64;

/// A unit of the line.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Unit id, 1..=7.
    pub id: u8,
    /// Time from the end of a request to the begin of its answer: at least and at most.
    pub turnaround: (Duration, Duration),
    /// Most registers, or 16 times as many coils, one request may ask for; exception 03 otherwise.
    pub most: u16,
    /// Addresses with nothing; a request that touches one is refused with exception 02.
    pub hole: Range<u16>,
    /// How often in a million it is busy, exception 06.
    pub busy: u32,
    /// It never answers.
    pub dead: bool,
}

impl Unit {
    /// A unit with 128 addresses in each table that answers everything.
    pub fn new(id: u8) -> Self {
        let turnaround = (Duration::from_millis(3), Duration::from_millis(12));
        Self { id, turnaround, most: 125, hole: 0..0, busy: 0, dead: false }
    }

    pub(super) fn turnaround(&self, random: &mut Random) -> Duration {
        random.between(self.turnaround.0, self.turnaround.1)
    }

    /// Answers a request PDU heard at `at`; `None` if the unit stays silent.
    pub(super) fn answer(&self, pdu: &[u8], at: Duration, random: &mut Random) -> Option<Vec<u8>> {
        if self.dead {
            return None;
        }
        let refused = |code| Some(vec![pdu[0] | 0x80, code]);
        if random.chance(self.busy) {
            return refused(0x06);
        }
        match *pdu {
            [function @ 1..=4, a, b, c, d] => {
                let (address, count) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                let most = if function <= 2 { self.most.saturating_mul(16) } else { self.most };
                if count == 0 || count > most {
                    return refused(0x03);
                }
                let Some(end) = address.checked_add(count).filter(|&end| end <= 128) else { return refused(0x02) };
                if address < self.hole.end && end > self.hole.start {
                    return refused(0x02);
                }
                let data: Vec<u8> = if function <= 2 {
                    let bits: Vec<bool> = (address..end).map(|address| coil(self.id, address, at)).collect();
                    bits.chunks(8)
                        .map(|bits| bits.iter().rev().fold(0, |byte, &bit| byte << 1 | u8::from(bit)))
                        .collect()
                } else {
                    (address..end).flat_map(|address| register(self.id, address, at).to_be_bytes()).collect()
                };
                let mut answer = vec![function, u8::try_from(data.len()).expect("at most 250 bytes")];
                answer.extend(data);
                Some(answer)
            }
            [0x05 | 0x06, _, _, _, _] | [0x16, _, _, _, _, _, _] => Some(pdu.to_vec()),
            [0x0F | 0x10, _, _, _, _, ..] => Some(pdu[..5].to_vec()),
            _ => refused(0x01),
        }
    }
}

/// Returns what a register holds at a time: three bits unit, seven bits address, six bits generation.
pub fn register(unit: u8, address: u16, at: Duration) -> u16 {
    let millis = at.as_secs() * 1000 + u64::from(at.subsec_millis());
    let generation = u16::try_from(millis / u64::from(GENERATION.subsec_millis()) % GENERATIONS).expect("below 64");
    u16::from(unit & 7) << 13 | (address & 0x7F) << 6 | generation
}

/// Returns what a coil or discrete input holds at a time.
pub fn coil(unit: u8, address: u16, at: Duration) -> bool {
    mix(u64::from(register(unit, address, at))) & 1 == 1
}

/// Mixes bits well.
pub(super) fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

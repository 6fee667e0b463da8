//! Which registers are read, and the least time in which they can be read: worked out here, from the standard and without
//! anything of the product.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::site::LineSettings;

/// Registers that a unit has to give.
const REGISTERS: u16 = 60;

/// Most registers of one request.
///
/// Source: MODBUS Application Protocol V1.1b3 §6.3.
pub const LONGEST: u16 = 125;

/// Lengths of the runs of [`Layout::Scattered`], 60 registers together.
const RUNS: [u16; 17] = [6, 1, 4, 2, 5, 3, 6, 1, 4, 2, 5, 3, 6, 1, 4, 2, 5];

/// Registers that nobody wants between one run and the next.
const GAPS: [u16; 16] = [1, 12, 5, 9, 3, 11, 2, 8, 6, 10, 4, 7, 12, 1, 9, 3];

/// Where a unit's 60 registers lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// One after the other.
    Contiguous,
    /// In runs of 1 to 6 with gaps of 1 to 12.
    Scattered,
}

impl Layout {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Contiguous, Self::Scattered];

    /// Returns the addresses, in order.
    #[must_use]
    pub fn addresses(self) -> Vec<u16> {
        match self {
            Self::Contiguous => (0..REGISTERS).collect(),
            Self::Scattered => {
                let mut at = 0;
                let mut addresses = Vec::new();
                for (place, run) in RUNS.into_iter().enumerate() {
                    addresses.extend(at..at + run);
                    at += run + GAPS.get(place).copied().unwrap_or_default();
                }
                addresses
            }
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Contiguous => "contiguous",
            Self::Scattered => "scattered",
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|layout| layout.as_str() == text).ok_or_else(|| format!("{text:?} is no layout"))
    }
}

/// One request of consecutive registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// The first register.
    pub address: u16,
    /// How many.
    pub count: u16,
}

/// Requests that read all addresses, and their cost together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// In address order.
    pub blocks: Vec<Block>,
    /// The least there is.
    pub cost: Duration,
}

/// Returns the cheapest requests that read every address; `cost` says what one costs, `None` when it cannot be made. The
/// addresses are sorted and each can be read alone; one that cannot is left out, and all after it with it.
///
/// Tries every last request for every number of addresses: the cost of a plan is that of its last request and of the
/// cheapest plan before it.
#[must_use]
pub fn optimum(addresses: &[u16], cost: impl Fn(Block) -> Option<Duration>) -> Plan {
    let mut best: Vec<Option<Plan>> = vec![Some(Plan::default())];
    for (end, &last) in addresses.iter().enumerate() {
        let plans = best.iter().zip(addresses).take(end + 1).filter_map(|(before, &address)| {
            let block = Block { address, count: last - address + 1 };
            let (before, cost) = (before.as_ref()?, cost(block)?);
            Some(Plan { blocks: [before.blocks.as_slice(), &[block]].concat(), cost: before.cost + cost })
        });
        let cheapest = plans.min_by_key(|plan| plan.cost);
        best.push(cheapest);
    }
    best.into_iter().flatten().last().unwrap_or_default()
}

/// Returns the least time that a read takes on a line: 8 characters, silence, the unit's own time, 5 characters and two for
/// each register, silence.
///
/// Source: MODBUS over Serial Line V1.02 §2.5.1.1; Application Protocol V1.1b3 §6.3.
#[must_use]
pub fn line_time(line: &LineSettings, count: u16) -> Duration {
    line.character() * (8 + 5 + 2 * u32::from(count)) + line.silence() * 2 + line.turnaround
}

/// Returns the fastest requests on a line.
#[must_use]
pub fn line_optimum(addresses: &[u16], line: &LineSettings) -> Plan {
    optimum(addresses, |block| (block.count <= LONGEST).then(|| line_time(line, block.count)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::site::Parity;

    fn line(baud: u32) -> LineSettings {
        LineSettings::new(Path::new("x"), baud, Parity::None, 1)
    }

    #[test]
    fn both_layouts_have_sixty_registers_and_the_scattered_one_keeps_its_runs_and_gaps() {
        for layout in Layout::ALL {
            assert_eq!((layout.addresses().len(), layout.to_string().parse()), (60, Ok(layout)));
        }
        let addresses = Layout::Scattered.addresses();
        let runs: Vec<&[u16]> = addresses.chunk_by(|a, b| a + 1 == *b).collect();
        assert!(runs.len() == 17 && runs.iter().all(|run| (1..=6).contains(&run.len())));
        let gaps = runs.windows(2).map(|pair| pair[1][0] - pair[0][pair[0].len() - 1] - 1);
        assert!(gaps.clone().all(|gap| (1..=12).contains(&gap)) && gaps.sum::<u16>() == 103);
    }

    #[test]
    fn contiguous_registers_are_one_request_and_its_time_is_that_of_its_characters() {
        let plan = line_optimum(&Layout::Contiguous.addresses(), &line(9600));
        assert_eq!(plan.blocks, [Block { address: 0, count: 60 }]);
        // 8 + 3.5 + 125 + 3.5 characters of ten bits, 2 ms.
        assert_eq!(plan.cost.as_micros(), 140 * 10 * 1_000_000 / 9600 + 2000);
    }

    #[test]
    fn the_optimum_is_what_trying_everything_finds() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let mut at = 0;
            let addresses: Vec<u16> = (0..10)
                .map(|_| {
                    at += if random.bool() { 1 } else { random.u16(1..40) };
                    at
                })
                .collect();
            let longest = random.u16(1..60);
            let cost = |block: Block| {
                (block.count <= longest).then(|| Duration::from_micros(20_000 + 2083 * u64::from(block.count)))
            };
            // Each bit says whether a request ends between two neighbours.
            let all = (0..1_u32 << 9).filter_map(|ends| {
                let mut total = Duration::ZERO;
                let mut first = 0;
                for place in 0..10 {
                    if place == 9 || ends >> place & 1 == 1 {
                        total +=
                            cost(Block { address: addresses[first], count: addresses[place] - addresses[first] + 1 })?;
                        first = place + 1;
                    }
                }
                Some(total)
            });
            assert_eq!(Some(optimum(&addresses, cost).cost), all.min());
        }
    }

    #[test]
    fn a_gap_is_read_along_where_a_request_costs_more() {
        // A request more costs 20 characters and 2 ms at 9600 Bd: more than ten registers and less than eleven.
        let blocks = |gap: u16| line_optimum(&[0, gap + 1], &line(9600)).blocks.len();
        assert_eq!([blocks(0), blocks(9), blocks(10), blocks(11)], [1, 1, 1, 2]);
        assert_eq!(line_optimum(&Layout::Scattered.addresses(), &line(9600)).blocks.len(), 4);
    }
}

//! Line use: how much of the time of a paced serial line the daemon fills with exchanges that had to be made.
//!
//! Four units of 60 registers, asked more often than the line can carry, to the embedded broker over mutual TLS. What a
//! cycle takes at least is worked out in [`layout`], from the standard; cycles are counted at the subscriber, as
//! observations with all values good. Beside it, on the same line, the [`reference`]. Every value names its unit, address
//! and tick, so that each one received is checked.

pub mod layout;
pub mod reference;
pub mod tally;

mod stand;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Serialize;

use crate::peers::PeerError;
use layout::{Layout, Plan};
use stand::{Seen, Stand};
pub use table::Table;

/// Units that answer.
pub const UNITS: u8 = 4;

/// How long the daemon and the reference wait for a silent unit.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is wrong on the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
    /// Nothing.
    Clean,
    /// One more unit is configured and silent.
    OneDead,
    /// Three more units are configured and silent.
    ThreeDead,
    /// One bit of 10,000 is wrong, both ways.
    BitErrors,
}

impl Case {
    /// All of them; the clean one first, to which the others are compared.
    pub const ALL: [Self; 4] = [Self::Clean, Self::OneDead, Self::ThreeDead, Self::BitErrors];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::OneDead => "1-dead",
            Self::ThreeDead => "3-dead",
            Self::BitErrors => "bit-errors",
        }
    }

    /// Returns how many units are silent.
    const fn dead(self) -> u8 {
        match self {
            Self::OneDead => 1,
            Self::ThreeDead => 3,
            Self::Clean | Self::BitErrors => 0,
        }
    }

    /// Returns the share of bits that are wrong.
    const fn bit_errors(self) -> f64 {
        if matches!(self, Self::BitErrors) { 1e-4 } else { 0.0 }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|case| case.as_str() == text).ok_or_else(|| format!("{text:?} is no case"))
    }
}

/// What to measure: every baud rate with every layout in every case.
#[derive(Clone, Debug)]
pub struct Options {
    /// The daemon's binary.
    pub daemon: PathBuf,
    /// Folder with the code directory.
    pub configs: PathBuf,
    /// Baud rates of the line, 8N1.
    pub bauds: Vec<u32>,
    /// Where the registers lie.
    pub layouts: Vec<Layout>,
    /// What is wrong.
    pub cases: Vec<Case>,
    /// How long the daemon runs before the window.
    pub warm_up: Duration,
    /// Length of the window, the daemon's and the reference's.
    pub window: Duration,
}

/// What was measured in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Bits per second.
    pub baud: u32,
    /// Where the registers lie.
    pub layout: String,
    /// What was wrong.
    pub case: String,
    /// Length of the window in seconds.
    pub seconds: f64,
    /// The least time of one cycle of the units that answer, in milliseconds.
    pub cycle_ms: f64,
    /// Requests of that cycle.
    pub cycle_requests: usize,
    /// The daemon's complete observations, over all units that answer.
    pub observations: u64,
    /// Share of the window that the daemon's complete cycles take at least.
    pub line_use: f64,
    /// The same of the reference.
    pub reference_line_use: f64,
    /// The daemon's rate, of that in the clean case of the same run; `None` without one.
    pub of_clean: Option<f64>,
    /// The reference's rate, of that in the clean case of the same run.
    pub reference_of_clean: Option<f64>,
    /// Length of a slot: a second, or as many as a quarter more than a cycle needs.
    pub slot_s: u64,
    /// Share of the slots with a complete observation, the mean of the units that answer.
    pub covered: f64,
    /// Requests that began before the line was silent for 3.5 characters; the line's count over the daemon's whole run.
    pub hasty: u64,
    /// Values of units that answer that were not good.
    pub not_good: u64,
    /// Good values that are of another register, unit or time, and payloads that could not be read.
    pub wrong: u64,
    /// Observations that never came.
    pub lost: u64,
}

impl Measured {
    /// Says whether no value was wrong and no observation lost.
    #[must_use]
    pub fn is_right(&self) -> bool {
        (self.wrong, self.lost) == (0, 0)
    }
}

/// Measures every case in turn.
///
/// # Errors
/// When a part cannot be started or ends by itself.
pub fn run(options: &Options, mut report: impl FnMut(&Measured)) -> Result<(), PeerError> {
    for &baud in &options.bauds {
        for &layout in &options.layouts {
            let mut clean: Option<Measured> = None;
            for &case in &options.cases {
                let mut measured = measure(options, baud, layout, case)?;
                if case == Case::Clean {
                    clean = Some(measured.clone());
                }
                if let Some(clean) = &clean {
                    measured.of_clean = Some(measured.line_use / clean.line_use);
                    measured.reference_of_clean = Some(measured.reference_line_use / clean.reference_line_use);
                }
                report(&measured);
            }
        }
    }
    Ok(())
}

fn measure(options: &Options, baud: u32, layout: Layout, case: Case) -> Result<Measured, PeerError> {
    let stand = Stand::new(options, baud, layout, case)?;
    let Plan { blocks, cost } = layout::line_optimum(&layout.addresses(), &stand.line_settings);
    let cycle = cost * u32::from(UNITS);
    let slot = Duration::from_secs((cycle * 5 / 4 - Duration::from_nanos(1)).as_secs() + 1);
    let Seen { tally, lost, hasty } = stand.run_daemon(options, slot)?;
    let (scans, took) = stand.run_reference(options)?;
    let live = stand.live();
    let of_live = |count: fn(&tally::Counts) -> u64| -> u64 {
        live.iter().filter_map(|id| tally.units().get(id)).map(count).sum()
    };
    let observations = of_live(|counts| counts.complete);
    let line_use = |scans: f64, took: Duration| scans * cost.as_secs_f64() / took.as_secs_f64();
    Ok(Measured {
        baud,
        layout: layout.to_string(),
        case: case.to_string(),
        seconds: options.window.as_secs_f64(),
        cycle_ms: cycle.as_secs_f64() * 1e3,
        cycle_requests: blocks.len() * usize::from(UNITS),
        observations,
        line_use: line_use(tally.scans(&live), options.window),
        reference_line_use: line_use(as_f64(scans), took),
        of_clean: None,
        reference_of_clean: None,
        slot_s: slot.as_secs(),
        covered: tally.covered(&live),
        hasty,
        not_good: of_live(|counts| counts.not_good),
        wrong: tally.wrong,
        lost,
    })
}

#[allow(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

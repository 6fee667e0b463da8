//! The reference of the bus bench: the plainest poller there is, with requests worked out beforehand.
//!
//! One thread and one port: write the request, read the answer's exact length, check it, wait 3.5 characters, next. No
//! gateway around it: no periods, no values, no retries, nothing learnt, and a silent unit costs its timeout every time.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};

use super::layout::{Block, Plan};
use crate::site::{LineSettings, crc};

/// Polls these units with the requests of `plan` for this long and until the round is over; returns how often each was
/// read completely, and the time it took.
///
/// # Errors
/// When the port cannot be used.
pub fn run(
    line: &LineSettings,
    plan: &Plan,
    units: &[u8],
    patience: Duration,
    window: Duration,
) -> io::Result<(Vec<u64>, Duration)> {
    if let Err(error) = nix::sys::prctl::set_timerslack(1) {
        tracing::debug!("the reference wakes late: {error}");
    }
    let mut port = Port { file: OpenOptions::new().read(true).write(true).open(&line.path)?, patience };
    let mut complete = vec![0; units.len()];
    let begin = Instant::now();
    while begin.elapsed() < window {
        for (&unit, complete) in units.iter().zip(&mut complete) {
            let mut all = true;
            for &block in &plan.blocks {
                all &= port.ask(unit, block, line.character() * 8)?;
                thread::sleep(line.silence());
            }
            *complete += u64::from(all);
        }
    }
    Ok((complete, begin.elapsed()))
}

struct Port {
    file: File,
    patience: Duration,
}

impl Port {
    /// Says whether the answer came and was right. `sending` is how long the request is on the line.
    fn ask(&mut self, unit: u8, block: Block, sending: Duration) -> io::Result<bool> {
        let ([a, b], [c, d]) = (block.address.to_be_bytes(), block.count.to_be_bytes());
        let request = [unit, 0x03, a, b, c, d];
        self.file.write_all(&[&request[..], &crc(&request).to_le_bytes()].concat())?;
        let deadline = Instant::now() + sending + self.patience;
        let mut answer = vec![0_u8; 5 + 2 * usize::from(block.count)];
        let mut have = 0;
        while have < answer.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            match ppoll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], Some(left.into()), None) {
                Ok(0) => return Ok(false),
                Ok(_) => have += self.file.read(answer.get_mut(have..).unwrap_or_default())?,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(answer.starts_with(&[unit, 0x03]) && crc(&answer) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Layout, line_optimum};
    use super::*;
    use crate::site::{Line, Model, Parity, Unit};

    #[test]
    fn a_unit_that_answers_is_read_completely_and_a_silent_one_never() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = LineSettings::new(&folder.path().join("line"), 115_200, Parity::None, 1);
        let units = [1, 2].map(|id| Unit::new(id, Model::Named { registers: 200 }, 1));
        units[1].defects.set_dead(true);
        let line = Line::start(settings.clone(), units.to_vec()).expect("a line");
        let plan = line_optimum(&Layout::Scattered.addresses(), &settings);
        let (patience, window) = (Duration::from_millis(30), Duration::from_millis(400));
        let (complete, took) = run(&settings, &plan, &[1, 2], patience, window).expect("polled");
        assert!(complete[0] >= 1 && complete[1] == 0 && took >= window, "{complete:?}");
        let counts = line.counts();
        assert!(counts.good >= complete[0] * plan.blocks.len() as u64 && counts.hasty == 0, "{counts:?}");
    }
}

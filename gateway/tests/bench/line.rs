//! A pseudo-terminal with Modbus units at its other end.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails its test")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::openpty;
use nix::unistd::ttyname;

/// A request as the units hear it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) frame: [u8; 8],
}

impl Heard {
    pub(crate) fn unit(&self) -> u8 {
        self.frame[0]
    }

    pub(crate) fn address(&self) -> u16 {
        u16::from_be_bytes([self.frame[2], self.frame[3]])
    }

    pub(crate) fn count(&self) -> u16 {
        u16::from_be_bytes([self.frame[4], self.frame[5]])
    }

    pub(crate) fn exception(&self, code: u8) -> Vec<u8> {
        with_crc(vec![self.unit(), self.frame[1] | 0x80, code])
    }

    /// Returns the answer with the true values of `count` registers, as `unit` would give it.
    pub(crate) fn answer(&self, unit: u8, count: u16) -> Vec<u8> {
        let mut frame = vec![unit, self.frame[1], u8::try_from(2 * count).unwrap()];
        frame.extend((0..count).flat_map(|place| truth(unit, self.address() + place).to_be_bytes()));
        with_crc(frame)
    }
}

fn with_crc(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

/// What one write of the units puts on the line, and how long after the request.
pub(crate) type Said = (Duration, Vec<u8>);

/// The true value of a register: it says where it comes from.
pub(crate) fn truth(unit: u8, address: u16) -> u16 {
    assert!(unit < 16 && address < 0x1000, "unit and address fit into one register");
    u16::from(unit) << 12 | address
}

pub(crate) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 })
    })
}

/// A line whose far end answers until the line is dropped and the port closed by everybody.
pub(crate) struct Line {
    pub(crate) path: PathBuf,
    kept_open: Option<OwnedFd>,
    unplugged: Arc<AtomicBool>,
    units: Option<JoinHandle<()>>,
}

impl Line {
    /// Starts the units: `say` is what they put on the line for a request, in order.
    ///
    /// What would come later than `latest` after its request is left out. The units may be kept from running on a busy
    /// machine, so a request counts as sent when the line was last seen empty: never later than it was.
    pub(crate) fn new(latest: Duration, mut say: impl FnMut(&Heard) -> Vec<Said> + Send + 'static) -> Self {
        let pty = openpty(None, None).unwrap();
        let path = ttyname(&pty.slave).unwrap();
        let mut wire = File::from(pty.master);
        let unplugged = Arc::new(AtomicBool::new(false));
        let unplug = Arc::clone(&unplugged);
        let units = std::thread::spawn(move || {
            let (mut buffer, mut filled, mut seen_empty) = ([0; 8], 0, Instant::now());
            loop {
                let mut arrived = [PollFd::new(wire.as_fd(), PollFlags::POLLIN)];
                for patience in [0_u8, 10] {
                    let looked = Instant::now();
                    if poll(&mut arrived, patience).unwrap() == 0 {
                        seen_empty = looked;
                    }
                }
                if arrived[0].any() != Some(true) {
                    continue;
                }
                // The read fails with EIO when the last holder of the other end has closed it.
                let Ok(read @ 1..) = wire.read(&mut buffer[filled..]) else { return };
                filled += read;
                if filled < buffer.len() {
                    continue;
                }
                filled = 0;
                let heard = Heard { at: Instant::now(), frame: buffer };
                assert_eq!(crc(&buffer), 0, "a request is one whole frame");
                if unplug.load(Ordering::Relaxed) {
                    return;
                }
                for (delay, bytes) in say(&heard) {
                    std::thread::sleep(delay.saturating_sub(heard.at.elapsed()));
                    if seen_empty.elapsed() <= latest && wire.write_all(&bytes).is_err() {
                        return;
                    }
                }
            }
        });
        Self { path, kept_open: Some(pty.slave), unplugged, units: Some(units) }
    }

    /// Pulls the adapter out when the next request arrives.
    pub(crate) fn unplug(&self) {
        self.unplugged.store(true, Ordering::Relaxed);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        drop(self.kept_open.take());
        // In a test that fails the port is not closed any more, and the units would not end.
        if let Some(units) = self.units.take().filter(|_| !std::thread::panicking()) {
            units.join().unwrap();
        }
    }
}

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
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) frame: Vec<u8>,
}

impl Heard {
    pub(crate) fn unit(&self) -> u8 {
        self.frame[0]
    }

    pub(crate) fn function(&self) -> u8 {
        self.frame[1]
    }

    pub(crate) fn address(&self) -> u16 {
        u16::from_be_bytes([self.frame[2], self.frame[3]])
    }

    pub(crate) fn count(&self) -> u16 {
        u16::from_be_bytes([self.frame[4], self.frame[5]])
    }

    /// Returns the values that a write of registers (0x06, 0x10) brings.
    pub(crate) fn values(&self) -> Vec<u16> {
        let bytes = match self.function() {
            0x06 => &self.frame[4..6],
            0x10 => &self.frame[7..self.frame.len() - 2],
            other => panic!("function 0x{other:02X} writes no registers"),
        };
        bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    pub(crate) fn exception(&self, code: u8) -> Vec<u8> {
        with_crc(vec![self.unit(), self.function() | 0x80, code])
    }

    /// Returns the answer with the true values of `count` registers, as `unit` would give it.
    pub(crate) fn answer(&self, unit: u8, count: u16) -> Vec<u8> {
        let values: Vec<u16> = (0..count).map(|place| truth(unit, self.address() + place)).collect();
        self.registers(unit, &values)
    }

    /// Returns the answer with the true values, as it should be.
    pub(crate) fn right(&self) -> Vec<u8> {
        self.answer(self.unit(), self.count())
    }

    /// Returns the answer with these values, as `unit` would give it.
    pub(crate) fn registers(&self, unit: u8, values: &[u16]) -> Vec<u8> {
        let mut frame = vec![unit, self.function(), u8::try_from(2 * values.len()).unwrap()];
        frame.extend(values.iter().flat_map(|value| value.to_be_bytes()));
        with_crc(frame)
    }

    /// Returns the answer that confirms a write of registers.
    pub(crate) fn confirmation(&self) -> Vec<u8> {
        with_crc(self.frame[..6].to_vec())
    }
}

/// Returns the frame of some bytes.
pub(crate) fn with_crc(mut frame: Vec<u8>) -> Vec<u8> {
    frame.extend(crc(&frame).to_le_bytes());
    frame
}

/// Returns how long the request that begins with `bytes` is at least; exactly, when it has so many.
pub(crate) fn request_length(bytes: &[u8]) -> usize {
    match *bytes {
        [_, 0x11, ..] | [] | [_] => 4,
        [_, 0x2B, ..] => 7,
        [_, 0x16, ..] => 10,
        [_, 0x0F | 0x10, _, _, _, _, count, ..] => 9 + usize::from(count),
        [_, 0x0F | 0x10, ..] => 9,
        _ => 8,
    }
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
            let (mut request, mut seen_empty) = (Vec::new(), Instant::now());
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
                let mut buffer = vec![0; request_length(&request) - request.len()];
                // The read fails with EIO when the last holder of the other end has closed it.
                let Ok(read @ 1..) = wire.read(&mut buffer) else { return };
                request.extend_from_slice(&buffer[..read]);
                if request.len() < request_length(&request) {
                    continue;
                }
                let heard = Heard { at: Instant::now(), frame: std::mem::take(&mut request) };
                assert_eq!(crc(&heard.frame), 0, "a request is one whole frame");
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

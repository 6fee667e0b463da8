//! Wires over real pseudo-terminals and loopback sockets.

mod connections;
mod ports;
mod sockets;
mod timing;

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::pty::openpty;
use nix::unistd::ttyname;

use super::*;
use crate::site::{LineSpeed, Parity, SerialLink};

/// Longer than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// A pseudo-terminal.
struct Pty {
    /// The far end.
    far: File,
    /// Keeps the near end from reading as gone before it is opened.
    _near: OwnedFd,
    path: PathBuf,
}

impl Pty {
    fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        let path = ttyname(&pty.slave).unwrap();
        Self { far: File::from(pty.master), _near: pty.slave, path }
    }

    fn link(&self) -> SerialLink {
        link(&self.path)
    }

    fn say(&mut self, bytes: &[u8]) {
        self.far.write_all(bytes).unwrap();
    }
}

fn link(path: &Path) -> SerialLink {
    let speed = LineSpeed { baud: 9_600, parity: Parity::Even, stop_bits: 1 };
    SerialLink { path: path.to_owned(), speed, rs485: None, low_latency: false }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

/// Reads until `count` bytes have come.
async fn read_all(wire: &mut Wire, count: usize) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), [0; 64]);
    while all.len() < count {
        let read = within("reading", wire.read(&mut buf)).await.unwrap();
        all.extend(&buf[..read]);
    }
    all
}

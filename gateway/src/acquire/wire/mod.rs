//! What carries bytes: serial ports and TCP connections, how they are opened, lost and opened again, and a timer as fine
//! as a line needs.
//!
//! Nothing here knows Modbus. [`Wire`] is an open byte stream; [`Connection`] is one that comes and goes, for an event
//! loop; [`PreciseTimer`] wakes that loop.
//!
//! - Nothing blocks the reactor: ports are opened beside it, and nothing ever drains (`tcdrain` waits for as long as the
//!   line sends, and no timeout can end it).
//! - Nothing waits for ever: a write to a peer that takes nothing ends in an error.
//! - A wire that is gone is closed at once, so that a replugged adapter gets its old name.

mod connection;
mod holder;
mod port;
mod sys;
mod tcp;
#[cfg(test)]
mod tests;
mod timer;

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::time::Duration;

use nix::sys::termios::{FlushArg, tcflush};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::warn;

pub use self::connection::{Attempt, Connection, Event, Standing};
pub use self::port::{Outcome, PortFacts};
pub use self::tcp::Listener;
pub use self::timer::PreciseTimer;
use crate::site::{LineSpeed, SerialLink};

/// How long a peer may take nothing of what is written, beside twice the time the line needs for it.
const WRITE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a port may take to open before that is told.
const SLOW: Duration = Duration::from_secs(5);

/// Most bytes that one [`Wire::discard`] throws away, should somebody write faster than it reads.
const MOST_DISCARDED: usize = 16 * 1024;

/// An open byte stream. Closed when it is dropped.
///
/// Every kind is one open file: read(2) and write(2) are the same for all of them. The process must ignore `SIGPIPE`, as
/// Rust programs do unless told otherwise.
#[derive(Debug)]
pub struct Wire {
    file: AsyncFd<File>,
    kind: Kind,
    name: String,
}

#[derive(Debug)]
enum Kind {
    Port { facts: PortFacts, character: Duration },
    Socket,
}

impl Wire {
    /// Opens a serial port, beside the reactor.
    ///
    /// # Errors
    /// The path, and why there is no port: who holds it, if somebody does.
    pub async fn open(link: &SerialLink) -> io::Result<Self> {
        let (name, character) = (link.path.display().to_string(), character(link.speed));
        let link = link.clone();
        let opening = spawn_blocking(move || port::open(&link));
        let (file, facts) = told_if_slow(&name, opening).await.map_err(io::Error::other)??;
        Ok(Self { file: sys::register(file)?, kind: Kind::Port { facts, character }, name })
    }

    /// Calls a TCP peer: a Modbus TCP server, or a serial server. Takes at most 3 s.
    ///
    /// # Errors
    /// The peer, and why it cannot be reached.
    pub async fn call(host: &str, port: u16) -> io::Result<Self> {
        tcp::call(host, port).await
    }

    /// `stream` must not block.
    fn socket(stream: TcpStream, name: String) -> io::Result<Self> {
        Ok(Self { file: sys::register(File::from(OwnedFd::from(stream)))?, kind: Kind::Socket, name })
    }

    /// Returns what it is, for the log: a path, or a peer.
    #[must_use]
    pub fn describe(&self) -> &str {
        &self.name
    }

    /// Returns what became of the wishes for a serial port.
    #[must_use]
    pub fn port_facts(&self) -> Option<&PortFacts> {
        match &self.kind {
            Kind::Port { facts, .. } => Some(facts),
            Kind::Socket => None,
        }
    }

    /// Waits for bytes; returns how many there are, at least 1. May be dropped at any time without losing any.
    ///
    /// # Errors
    /// The wire is gone: there is no other kind of error. `buf` must not be empty, which would look the same.
    pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.file.readable().await?;
            match ready.try_io(|file| file.get_ref().read(buf)) {
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Ok(0)) => return Err(end()),
                Ok(result) => return result,
                // It was not ready after all.
                Err(_) => {}
            }
        }
    }

    /// Hands all bytes to the kernel, which sends them by and by; never waits until they are sent. A write that is
    /// dropped leaves a part of the bytes on the wire.
    ///
    /// # Errors
    /// The wire is gone, or `TimedOut`: the peer takes nothing.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let patience = match self.kind {
            Kind::Port { character, .. } => WRITE_PATIENCE.saturating_add(character.saturating_mul(count) * 2),
            Kind::Socket => WRITE_PATIENCE,
        };
        match timeout(patience, self.write_all(bytes)).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(ErrorKind::TimedOut, "the peer takes no bytes")),
        }
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.file.writable().await?;
            match ready.try_io(|file| file.get_ref().write(bytes)) {
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Ok(0)) => return Err(end()),
                Ok(written) => bytes = bytes.get(written?..).unwrap_or_default(),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Throws away what has been received. Returns how many bytes that was; what a serial driver has not handed over yet
    /// is thrown away too, and not counted.
    ///
    /// # Errors
    /// The wire is gone, or `InvalidData`: the peer sends without end.
    pub fn discard(&mut self) -> io::Result<usize> {
        let (mut scratch, mut discarded) = ([0; 256], 0);
        loop {
            match self.file.get_ref().read(&mut scratch) {
                Ok(0) => return Err(end()),
                Ok(read) => discarded += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if discarded > MOST_DISCARDED {
                return Err(io::Error::new(ErrorKind::InvalidData, "the peer sends without end"));
            }
        }
        if let Kind::Port { .. } = self.kind {
            tcflush(self.file.get_ref(), FlushArg::TCIFLUSH)?;
        }
        Ok(discarded)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Kind::Port { .. } = self.kind {
            port::close(self.file.get_ref());
        }
    }
}

/// An adapter that was pulled out reads as the end of a file or as `EIO`, a peer that hung up as the former.
fn end() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the other end is gone")
}

/// Waits for a port to open. One that hangs is waited for, since another attempt would hang as well.
async fn told_if_slow<T>(port: &str, opening: impl Future<Output = T>) -> T {
    let mut opening = pin!(opening);
    if let Ok(opened) = timeout(SLOW, &mut opening).await {
        return opened;
    }
    warn!(port, "the port does not open for {} s, its adapter hangs", SLOW.as_secs());
    opening.await
}

fn character(speed: LineSpeed) -> Duration {
    Duration::from_secs(u64::from(speed.bits_per_character())) / speed.baud.max(1)
}

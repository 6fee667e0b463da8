//! What is plugged into an end of a pair.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::site::Port;

/// A plugged end.
#[derive(Debug)]
pub(super) enum Plug {
    /// A serial port for a program on this computer.
    Pty(Port),
    /// A serial port of a machine, which listens at a path while it has power.
    Machine { path: PathBuf, stream: Option<UnixStream> },
    /// Nothing: the bench itself talks here.
    Bench,
}

/// What came out of an end.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Read<'a> {
    Bytes(&'a [u8]),
    Nothing,
    /// The machine has lost its power.
    Gone,
}

impl Plug {
    /// Connects to a machine that has power again; says whether it did.
    pub(super) fn connect(&mut self) -> io::Result<bool> {
        let Self::Machine { path, stream: stream @ None } = self else { return Ok(false) };
        match UnixStream::connect(path) {
            Ok(connected) => {
                connected.set_nonblocking(true)?;
                *stream = Some(connected);
                Ok(true)
            }
            // No such file, or nobody behind it: no power.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        !matches!(self, Self::Machine { stream: None, .. })
    }

    /// Returns what to wait on, while something is plugged in.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Pty(port) => Some(port.as_fd()),
            Self::Machine { stream, .. } => stream.as_ref().map(|stream| stream.as_fd()),
            Self::Bench => None,
        }
    }

    pub(super) fn read<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<Read<'a>> {
        match self {
            Self::Pty(port) => match port.read(buffer) {
                Ok(bytes) => Ok(Read::Bytes(bytes)),
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(Read::Nothing),
                Err(error) => Err(error.into()),
            },
            Self::Machine { stream, .. } => {
                let Some(open) = stream else { return Ok(Read::Nothing) };
                match open.read(buffer) {
                    Ok(count @ 1..) => Ok(Read::Bytes(buffer.get(..count).unwrap_or_default())),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                        Ok(Read::Nothing)
                    }
                    Ok(0) | Err(_) => {
                        *stream = None;
                        Ok(Read::Gone)
                    }
                }
            }
            Self::Bench => Ok(Read::Nothing),
        }
    }

    /// Hands bytes over. What finds no room is lost, as in a UART that nobody reads; a machine that has gone is seen by
    /// the next read.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pty(port) => Ok(port.write(bytes)?),
            Self::Machine { stream: Some(stream), .. } => {
                drop(stream.write(bytes));
                Ok(())
            }
            Self::Machine { stream: None, .. } | Self::Bench => Ok(()),
        }
    }
}

//! A serial port that its owner and the Modbus client both use, one after the other.
//!
//! What the client sees of it never drains: `tcdrain` blocks the reactor for as long as the line sends, and
//! tokio-serial's flush calls it.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_serial::{ClearBuffer, SerialPort, SerialStream};

/// Most reads of one call of [`Port::discard`], should somebody write faster than it reads.
const MOST_READS: usize = 64;

/// The owner's side.
pub(super) struct Port(Arc<Mutex<SerialStream>>);

/// The client's side.
#[derive(Debug)]
pub(super) struct PortStream(Arc<Mutex<SerialStream>>);

impl Port {
    pub(super) fn new(stream: SerialStream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// Returns a stream for a client.
    pub(super) fn stream(&self) -> PortStream {
        PortStream(Arc::clone(&self.0))
    }

    /// Throws away everything that has been received. Returns whether there was anything.
    ///
    /// # Errors
    /// The port is gone.
    pub(super) fn discard(&self) -> io::Result<bool> {
        let mut stream = lock(&self.0);
        let mut scratch = [0; 256];
        let mut heard = false;
        for _ in 0..MOST_READS {
            match stream.try_read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => heard = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        stream.clear(ClearBuffer::Input)?;
        Ok(heard)
    }

    /// Listens until something is received, which is thrown away, or until `deadline`. Returns whether there was
    /// anything.
    ///
    /// # Errors
    /// The port is gone.
    pub(super) async fn listen(&self, deadline: Instant) -> io::Result<bool> {
        let mut scratch = [0; 256];
        let mut buf = ReadBuf::new(&mut scratch);
        let read = std::future::poll_fn(|cx| Pin::new(&mut *lock(&self.0)).poll_read(cx, &mut buf));
        match timeout_at(deadline, read).await {
            Err(_) => Ok(false),
            Ok(result) => {
                result?;
                if buf.filled().is_empty() { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(true) }
            }
        }
    }
}

/// A panic while the lock was held is no reason to give the port up: it holds no state of ours.
fn lock(stream: &Mutex<SerialStream>) -> MutexGuard<'_, SerialStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for PortStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(cx, buf)
    }
}

impl AsyncWrite for PortStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

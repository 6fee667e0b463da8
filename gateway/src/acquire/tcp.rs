//! Modbus TCP: one connection to one endpoint, the unit id in each request.
//!
//! Requests go one at a time. A connection on which an answer failed to come, or came with another transaction, unit or
//! function, or could not be decoded, is dropped: what it would deliver next belongs to nobody.
//!
//! Source: MODBUS Messaging on TCP/IP Implementation Guide V1.0b.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::UnitId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::{Context, tcp};

use super::connection::{Connection, Transport};
use super::exchange::{Fault, exchange};
use crate::site::Bus;

/// Longest wait for name resolution and the TCP handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Most unasked bytes that are thrown away before the connection is.
const MOST_STALE_BYTES: usize = 4096;

/// Returns the connection of a TCP bus, not open yet.
pub(super) fn connection(bus: &Bus, host: &str, port: u16) -> Connection<TcpTransport> {
    let (host, response_timeout) = (host.to_owned(), bus.response_timeout);
    Connection::new(&bus.name, move || Box::pin(open(host.clone(), port, response_timeout)))
}

async fn open(host: String, port: u16, response_timeout: Duration) -> io::Result<TcpTransport> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), port))).await {
        Ok(result) => result.map_err(|error| io::Error::new(error.kind(), format!("{host}:{port}: {error}")))?,
        Err(_) => return Err(io::Error::new(ErrorKind::TimedOut, format!("{host}:{port}: connect timed out"))),
    };
    // A request is one small segment and the answer is waited for: nothing may hold it back.
    stream.set_nodelay(true)?;
    let stream = Arc::new(Mutex::new(stream));
    let context = tcp::attach(SharedStream(Arc::clone(&stream)));
    Ok(TcpTransport { stream, context, response_timeout })
}

/// An open connection.
pub(super) struct TcpTransport {
    stream: Arc<Mutex<TcpStream>>,
    context: Context,
    response_timeout: Duration,
}

impl Transport for TcpTransport {
    async fn ask(&mut self, unit: UnitId, request: &ReadRequest) -> Result<Vec<u16>, Fault> {
        self.discard_stale().map_err(Fault::Gone)?;
        exchange(&mut self.context, unit, request, self.response_timeout).await.map_err(|fault| match fault {
            // Transaction, unit and function were right: the answer is this request's, and so is the next.
            Fault::Unusable(Reason::WrongLength) => fault,
            Fault::Unusable(reason) => Fault::Spoiled(reason),
            fault => fault,
        })
    }
}

impl TcpTransport {
    /// Throws away what nobody asked for; some gateways send the CRC of the serial frame after the answer.
    ///
    /// # Errors
    /// The connection ended, or holds more than can be an accident.
    fn discard_stale(&self) -> io::Result<()> {
        let mut scratch = [0; 256];
        let mut discarded = 0;
        loop {
            match lock(&self.stream).try_read(&mut scratch) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => discarded += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if discarded > MOST_STALE_BYTES {
                return Err(io::Error::new(ErrorKind::InvalidData, "the peer sends without being asked"));
            }
        }
    }
}

/// A stream that the client reads and writes while its owner can still look at it.
#[derive(Debug)]
struct SharedStream(Arc<Mutex<TcpStream>>);

/// A panic while the lock was held is no reason to give the stream up: it holds no state of ours.
fn lock(stream: &Mutex<TcpStream>) -> MutexGuard<'_, TcpStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncRead for SharedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(cx, buf)
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        // Nobody shuts down one direction; dropping the stream closes both.
        Poll::Ready(Ok(()))
    }
}

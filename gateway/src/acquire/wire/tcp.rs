//! TCP: calls a peer, or waits for peers to call.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Wire, sys};

/// Longest wait for name resolution and the TCP handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Silence after which the peer is asked whether it is still there, and between two such questions, in seconds.
const KEEP_ALIVE: (libc::c_int, libc::c_int) = (15, 5);

/// How long a peer may leave bytes unacknowledged, in milliseconds. Without it the kernel sends for a quarter of an hour
/// to a peer whose network forgot it.
const ACKNOWLEDGE_TIMEOUT: libc::c_int = 15_000;

/// Most peers that wait to be let in.
const BACKLOG: u32 = 8;

/// Calls a peer.
///
/// # Errors
/// The peer, and why it does not answer.
pub(super) async fn call(host: &str, port: u16) -> io::Result<Wire> {
    let peer = format!("{host}:{port}");
    let in_context = |error: io::Error| io::Error::new(error.kind(), format!("{peer}: {error}"));
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await {
        Ok(result) => result.map_err(in_context)?,
        Err(_) => return Err(in_context(io::Error::new(ErrorKind::TimedOut, "connect timed out"))),
    };
    wire(stream, peer.clone()).map_err(in_context)
}

fn wire(stream: TcpStream, name: String) -> io::Result<Wire> {
    // A request is one small segment and the answer is waited for: nothing may hold it back.
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    for (option, value) in [
        ((libc::SOL_SOCKET, libc::SO_KEEPALIVE), 1),
        ((libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), KEEP_ALIVE.0),
        ((libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), KEEP_ALIVE.1),
        ((libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), ACKNOWLEDGE_TIMEOUT),
    ] {
        sys::set_option(&stream, option, value)?;
    }
    Wire::socket(stream, name)
}

/// A place where peers call: serial servers behind a mobile network cannot be called. It stands from the first time it is
/// needed for as long as this value.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    socket: OnceLock<TcpListener>,
}

impl Listener {
    /// Nothing is opened yet. Port 0 takes any free one.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, socket: OnceLock::new() }
    }

    /// Returns the address as it was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address peers can call, opened if need be.
    ///
    /// # Errors
    /// The address, and why it cannot be had.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    pub fn open(&self) -> io::Result<SocketAddr> {
        self.socket()?.local_addr()
    }

    /// Waits for the next peer. May be dropped at any time.
    ///
    /// # Errors
    /// The address, and why nobody can call it.
    pub async fn accept(&self) -> io::Result<(Wire, IpAddr)> {
        let in_context = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.address));
        let (stream, peer) = self.socket()?.accept().await.map_err(in_context)?;
        let wire = wire(stream, format!("{peer} at {}", self.address)).map_err(in_context)?;
        Ok((wire, peer.ip().to_canonical()))
    }

    fn socket(&self) -> io::Result<&TcpListener> {
        if let Some(socket) = self.socket.get() {
            return Ok(socket);
        }
        let address = self.address;
        let socket = bind(address)
            .map_err(|error| io::Error::new(error.kind(), format!("{address}: cannot be listened at: {error}")))?;
        Ok(self.socket.get_or_init(|| socket))
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // After a restart connections of the time before may linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

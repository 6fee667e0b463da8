//! A serial server before a line (a DTU): carries the line's bytes over TCP, as they come.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Longest wait before the thread looks whether it shall end.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Whom a serial server calls, and what it says by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// Sent once at the beginning of each connection: the serial server's own identity.
    pub registration: Vec<u8>,
    /// Sent again and again, and how often.
    pub heartbeat: Option<(Vec<u8>, Duration)>,
}

/// A running serial server; dropping it ends it.
#[derive(Debug)]
pub struct Dtu {
    shared: Arc<Shared>,
    /// Where it listens, if it does.
    address: Option<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    connections: AtomicU64,
    current: Mutex<Option<TcpStream>>,
}

impl Dtu {
    /// Listens on a free port of 127.0.0.1 and serves one client after the other with the line at `port`.
    ///
    /// # Errors
    /// When nothing can be listened to, or the thread cannot be started.
    pub fn listen(port: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let connect = move || listener.accept().map(|(stream, _)| stream);
        Self::start(port, connect, Vec::new(), None, Some(address))
    }

    /// Calls the gateway, again and again while it cannot be reached, and serves it with the line at `port`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn call(port: &Path, call: Call) -> io::Result<Self> {
        let gateway = call.gateway;
        let connect = move || TcpStream::connect_timeout(&gateway, Duration::from_secs(1));
        Self::start(port, connect, call.registration, call.heartbeat, None)
    }

    fn start(
        port: &Path,
        connect: impl Fn() -> io::Result<TcpStream> + Send + 'static,
        registration: Vec<u8>,
        heartbeat: Option<(Vec<u8>, Duration)>,
        address: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (port, inside) = (port.to_owned(), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("dtu".to_owned()).spawn(move || {
            while !inside.stop.load(Ordering::Relaxed) {
                match connect() {
                    Ok(stream) => {
                        let ended = serve(&stream, &port, &registration, heartbeat.as_ref(), &inside);
                        tracing::debug!("a connection of the serial server ended: {ended:?}");
                        *inside.current() = None;
                    }
                    Err(error) => {
                        tracing::trace!("nobody there: {error}");
                        std::thread::sleep(LOOK_UP);
                    }
                }
            }
        })?;
        Ok(Self { shared, address, thread: Some(thread) })
    }

    /// Returns the TCP port it listens on, 0 when it calls.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.map_or(0, |address| address.port())
    }

    /// Returns how many connections there were.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Ends the present connection; another one may follow.
    pub fn hang_up(&self) {
        if let Some(stream) = &*self.shared.current() {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Dtu {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; there is nothing to add.
            drop(thread.join());
        }
    }
}

impl Shared {
    fn current(&self) -> std::sync::MutexGuard<'_, Option<TcpStream>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries bytes both ways until one side ends.
fn serve(
    mut stream: &TcpStream,
    port: &PathBuf,
    registration: &[u8],
    heartbeat: Option<&(Vec<u8>, Duration)>,
    shared: &Shared,
) -> io::Result<()> {
    let mut line: File = OpenOptions::new().read(true).write(true).open(port)?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    *shared.current() = Some(stream.try_clone()?);
    shared.connections.fetch_add(1, Ordering::Relaxed);
    stream.write_all(registration)?;
    let mut beat = heartbeat.map(|(_, every)| Instant::now() + *every);
    let mut buffer = [0_u8; 512];
    while !shared.stop.load(Ordering::Relaxed) {
        let mut wanted = [PollFd::new(stream.as_fd(), PollFlags::POLLIN), PollFd::new(line.as_fd(), PollFlags::POLLIN)];
        let until = beat.map_or(LOOK_UP, |at| at.saturating_duration_since(Instant::now()).min(LOOK_UP));
        match poll(&mut wanted, PollTimeout::try_from(until).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [from_client, from_line] = wanted.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        if from_client {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => line.write_all(buffer.get(..count).unwrap_or_default())?,
            }
        }
        if from_line {
            match line.read(&mut buffer)? {
                0 => return Ok(()),
                count => stream.write_all(buffer.get(..count).unwrap_or_default())?,
            }
        }
        if let (Some((bytes, every)), Some(at)) = (heartbeat, beat)
            && at <= Instant::now()
        {
            stream.write_all(bytes)?;
            beat = Some(at + *every);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::pdu::crc;
    use super::super::{Line, LineSettings, Model, Parity, Unit};
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn line(folder: &TempDir) -> Line {
        let settings = LineSettings::new(&folder.path().join("line"), 115_200, Parity::None, 1);
        Line::start(settings, vec![Unit::new(3, Model::Named { registers: 10 }, 1)]).expect("a line")
    }

    fn ask(stream: &mut TcpStream) -> [u8; 9] {
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        let mut frame = vec![3, 3, 0, 0, 0, 2];
        frame.extend(crc(&frame).to_le_bytes());
        stream.write_all(&frame).expect("sent");
        let mut reply = [0; 9];
        stream.read_exact(&mut reply).expect("an answer");
        reply
    }

    #[test]
    fn frames_pass_a_listening_serial_server_and_the_next_client_is_served_too() {
        let folder = TempDir::new().expect("a folder");
        let line = line(&folder);
        let dtu = Dtu::listen(line.path()).expect("a port");
        for connections in 1..=2 {
            let mut stream = TcpStream::connect(("127.0.0.1", dtu.port())).expect("it listens");
            let reply = ask(&mut stream);
            assert_eq!((reply[..3].to_vec(), crc(&reply)), (vec![3, 3, 4], 0));
            assert_eq!(dtu.connections(), connections);
            dtu.hang_up();
            assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
        }
    }

    #[test]
    fn a_calling_serial_server_names_itself_and_lives_and_calls_again() {
        let folder = TempDir::new().expect("a folder");
        let line = line(&folder);
        let gateway = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let call = Call {
            gateway: gateway.local_addr().expect("its address"),
            registration: b"866000000000001".to_vec(),
            heartbeat: Some((b"\xFE".to_vec(), Duration::from_millis(20))),
        };
        let dtu = Dtu::call(line.path(), call).expect("a thread");
        for _ in 0..2 {
            let (mut stream, _) = gateway.accept().expect("a call");
            stream.set_read_timeout(Some(SOON)).expect("a timeout");
            let mut said = [0; 17];
            stream.read_exact(&mut said).expect("a registration and two heartbeats");
            assert_eq!(said, *b"866000000000001\xFE\xFE");
            dtu.hang_up();
        }
    }
}

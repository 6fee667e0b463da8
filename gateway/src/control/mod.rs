//! The control socket: reads and writes on demand through the running daemon, whose ports are its own.
//!
//! `control.sock` in the data directory takes one JSON request a line and answers each with one JSON line:
//!
//! ```text
//! {"bus":"pump-house","unit":3,"ask":{"read":{"table":"holding","address":0,"count":2}}}
//! {"items":[412,0]}
//! ```
//!
//! Who can reach it can write to devices, so it is for the daemon's user and root only, twice over: the socket's mode is
//! 0600, and a peer whose user id is another is hung up on (`SO_PEERCRED`), whatever the modes of the directories above
//! say. It opens no network port, and takes nothing that the site file's owner could not do with the port itself.
//!
//! A client can harm nobody but itself: a line has at most [`LONGEST_LINE`] bytes and [`LINE_PATIENCE`] to come,
//! [`CLIENTS`] are served at once and the next is told to come again, and a bus takes only so many orders
//! ([`Handle::call`]). An order whose client has left is carried out all the same.

mod client;
mod words;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ganglion_protocols::modbus::UnitId;
use nix::unistd::Uid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{info, warn};

pub use self::client::{Client, ClientError};
pub use self::words::{Answer, Ask, Kind, Refusal, Request, TableName, Writing};
use crate::acquire::Handle;

/// Longest request line, in bytes; the longest write has a fifth of it.
pub const LONGEST_LINE: u64 = 16 * 1024;

/// How long a client may take to send a line, or to read an answer.
pub const LINE_PATIENCE: Duration = Duration::from_secs(10);

/// Clients served at once.
pub const CLIENTS: usize = 8;

/// How long the bus gets to carry an order out: more than it takes with all its retries.
pub const ORDER_PATIENCE: Duration = Duration::from_secs(60);

/// Returns the path of the control socket.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// Opens the socket in place of one that an earlier daemon left. The caller holds the lock of the data directory.
///
/// # Errors
/// When the data directory cannot be written.
pub fn listen(data_dir: &Path) -> io::Result<UnixListener> {
    let path = socket_path(data_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Nobody else gets in between the two lines either: `serve` looks at the peer's user id.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves every connection until the task is ended.
pub async fn serve(listener: UnixListener, handle: Handle) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "control socket refuses connections for a second");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if !may_ask(&stream) {
            warn!("control socket: a process of another user was hung up on");
            continue;
        }
        let (handle, place) = (handle.clone(), Arc::clone(&places).try_acquire_owned());
        tokio::spawn(async move {
            match place {
                Ok(_place) => converse(stream, &handle).await,
                Err(_) => {
                    let refusal = Refusal::new(Kind::Busy, format!("{CLIENTS} clients are served already, try again"));
                    let mut stream = stream;
                    // One that does not even read this is told nothing.
                    drop(answer(&mut stream, &Answer::Error(refusal)).await);
                }
            }
        });
    }
}

/// Says whether the peer runs as the daemon's user or root.
fn may_ask(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == Uid::effective().as_raw())
}

/// Answers line after line until the client leaves, stalls or sends what is no request.
async fn converse(stream: UnixStream, handle: &Handle) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut stream).take(LONGEST_LINE);
        let Ok(Ok(1..)) = timeout(LINE_PATIENCE, bounded.read_until(b'\n', &mut line)).await else { return };
        let whole = line.last() == Some(&b'\n');
        let (reply, go_on) = match serde_json::from_slice::<Request>(&line) {
            Ok(request) if whole => (carry_out(handle, request).await, true),
            Ok(_) => (Refusal::new(Kind::BadRequest, "a request ends with a newline".to_owned()).into(), false),
            Err(_) if line.len() as u64 >= LONGEST_LINE => {
                let message = format!("a request has at most {LONGEST_LINE} bytes");
                (Refusal::new(Kind::BadRequest, message).into(), false)
            }
            Err(error) => (Refusal::new(Kind::BadRequest, error.to_string()).into(), false),
        };
        if answer(stream.get_mut(), &reply).await.is_err() || !go_on {
            return;
        }
    }
}

async fn carry_out(handle: &Handle, request: Request) -> Answer {
    let Request { bus, unit, ask } = request;
    if let Ask::Write { broadcast: false, .. } = &ask
        && unit == 0
    {
        let message = "unit 0 is everybody on a serial line: say broadcast to mean it".to_owned();
        return Refusal::new(Kind::Broadcast, message).into();
    }
    let write = match &ask {
        Ask::Write { write, .. } => Some(write.clone()),
        Ask::Read { .. } | Ask::Identify { .. } | Ask::ServerId {} => None,
    };
    let deed = match ask.into_deed() {
        Ok(deed) => deed,
        Err(refusal) => return refusal.into(),
    };
    let answer = match timeout(ORDER_PATIENCE, handle.call(&bus, UnitId(unit), deed)).await {
        Ok(Ok(done)) => done.into(),
        Ok(Err(error)) => Refusal::from(&error).into(),
        Err(_) => {
            let message = format!("the bus has not come to it within {} s; it may yet", ORDER_PATIENCE.as_secs());
            Refusal::new(Kind::Overdue, message).into()
        }
    };
    if let Some(write) = write {
        let outcome = match &answer {
            Answer::Error(refusal) => refusal.message.as_str(),
            Answer::Broadcast => "sent to every unit",
            Answer::Written | Answer::Items(_) | Answer::Bytes(_) => "written",
        };
        info!(bus, unit, ?write, outcome, "control socket: write");
    }
    answer
}

/// Sends one line.
async fn answer(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(io::Error::from)?;
    line.push(b'\n');
    timeout(LINE_PATIENCE, stream.write_all(&line)).await?
}

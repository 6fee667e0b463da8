//! The other end of the control socket.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Answer, ORDER_PATIENCE, Request, socket_path};

/// A connection to a running daemon.
#[derive(Debug)]
pub struct Client(BufReader<UnixStream>);

/// Why a daemon gave no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The socket may not be used, or the daemon hung up.
    Socket(io::Error),
    /// The answer is none this version knows.
    Answer(serde_json::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(error) => write!(f, "control socket: {error}"),
            Self::Answer(error) => write!(f, "the daemon answers what this version does not know: {error}"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket(error) => Some(error),
            Self::Answer(error) => Some(error),
        }
    }
}

impl Client {
    /// Calls the daemon of a data directory. Returns `None` when none runs.
    ///
    /// # Errors
    /// When this process may not: it runs as another user than the daemon.
    pub async fn connect(data_dir: &Path) -> Result<Option<Self>, ClientError> {
        match UnixStream::connect(socket_path(data_dir)).await {
            Ok(stream) => Ok(Some(Self(BufReader::new(stream)))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(ClientError::Socket(error)),
        }
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// See [`ClientError`]; a refusal is an [`Answer`].
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let mut line = serde_json::to_vec(request).map_err(ClientError::Answer)?;
        line.push(b'\n');
        let exchange = async {
            self.0.get_mut().write_all(&line).await?;
            let mut answer = Vec::new();
            match self.0.read_until(b'\n', &mut answer).await? {
                0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "the daemon hung up")),
                _ => Ok(answer),
            }
        };
        let answer = timeout(ORDER_PATIENCE + ORDER_PATIENCE, exchange).await.map_err(io::Error::from);
        let answer = answer.and_then(|answer| answer).map_err(ClientError::Socket)?;
        serde_json::from_slice(&answer).map_err(ClientError::Answer)
    }
}

//! QEMU's machine protocol: one JSON object a line, over a Unix socket.
//!
//! Source: QEMU, QEMU Machine Protocol Specification.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

/// Why a machine did not do what it was asked.
#[derive(Debug)]
pub enum QmpError {
    /// The socket could not be used, or no answer came in time.
    Io(io::Error),
    /// What came is not JSON.
    Json {
        /// The line.
        line: String,
        /// Why.
        error: serde_json::Error,
    },
    /// The machine refused.
    Refused {
        /// What it was asked.
        command: String,
        /// Its answer's `error`.
        error: Value,
    },
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the machine's socket: {error}"),
            Self::Json { line, error } => write!(f, "the machine said {line:?}: {error}"),
            Self::Refused { command, error } => write!(f, "the machine refused {command}: {error}"),
        }
    }
}

impl std::error::Error for QmpError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Json { error, .. } => Some(error),
            Self::Refused { .. } => None,
        }
    }
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection to a machine.
#[derive(Debug)]
pub struct Qmp {
    from: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the machine behind the socket `path`; an answer may take it `within`.
    ///
    /// # Errors
    /// [`QmpError::Io`] when it does not listen, all as for [`execute`](Self::execute).
    pub fn connect(path: &Path, within: Duration) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(within))?;
        stream.set_write_timeout(Some(within))?;
        let mut qmp = Self { from: BufReader::new(stream) };
        // The greeting.
        qmp.line()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Lets the machine do something and returns its answer; events that come meanwhile are passed over.
    ///
    /// # Errors
    /// [`QmpError::Refused`] when the machine says no, [`QmpError::Io`] when it says nothing in time,
    /// [`QmpError::Json`] when it says something else.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let order = json!({ "execute": command, "arguments": arguments });
        self.from.get_mut().write_all(format!("{order}\n").as_bytes())?;
        loop {
            let mut answer = self.line()?;
            if let Some(error) = answer.get_mut("error") {
                return Err(QmpError::Refused { command: command.to_owned(), error: error.take() });
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn line(&mut self) -> Result<Value, QmpError> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        serde_json::from_str(&line).map_err(|error| QmpError::Json { line, error })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A machine that greets with the first of these and answers each line with the next.
    fn machine(groups: &'static [&'static str]) -> Result<Qmp, QmpError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("qmp");
        let listener = UnixListener::bind(&path).expect("a socket");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut heard = BufReader::new(stream.try_clone().expect("a second handle"));
            for group in groups {
                stream.write_all(group.as_bytes()).expect("said");
                heard.read_line(&mut String::new()).expect("heard");
            }
        });
        Qmp::connect(&path, SOON)
    }

    const GREETING: &str = "{\"QMP\": {}}\n";

    #[test]
    fn an_answer_is_found_behind_events() {
        const ANSWER: &str = "{\"event\": \"RESET\"}\n{\"return\": 7}\n";
        let mut qmp = machine(&[GREETING, "{\"return\": {}}\n", ANSWER, ""]).expect("connected");
        assert_eq!(qmp.execute("anything", json!({})).expect("an answer"), json!(7));
    }

    #[test]
    fn a_refusal_says_what_was_asked_and_why_not() {
        const ANSWER: &str = "{\"error\": {\"desc\": \"no\"}}\n";
        let mut qmp = machine(&[GREETING, "{\"return\": {}}\n", ANSWER, ""]).expect("connected");
        let error = qmp.execute("qom-set", json!({})).expect_err("refused");
        assert_eq!(error.to_string(), "the machine refused qom-set: {\"desc\":\"no\"}");
    }

    #[test]
    fn a_machine_that_says_no_json_or_nothing_more_is_an_error() {
        assert!(matches!(machine(&["{{\n"]), Err(QmpError::Json { .. })));
        assert!(matches!(machine(&[GREETING]), Err(QmpError::Io(_))));
    }
}

//! A channel into the guest: one command after the other, each answered with its exit code and outputs.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::gateway::Answer;

/// How long a command may take; an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the listener is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// Where QEMU will connect.
#[derive(Debug)]
pub(super) struct Door(UnixListener);

/// The channel.
#[derive(Debug)]
pub(super) struct Shell(BufReader<UnixStream>);

impl Door {
    /// Listens at a path; what is there before is replaced.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path.exists() {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Waits for QEMU, which connects before it starts the machine.
    pub(super) fn wait(&self, within: Duration) -> io::Result<Shell> {
        let deadline = Instant::now() + within;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    return Ok(Shell(BufReader::new(stream)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    std::thread::sleep(GLANCE);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Shell {
    /// Runs a command in the seat.
    pub(super) fn run(&mut self, words: &[&str]) -> io::Result<Answer> {
        let line = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        writeln!(self.0.get_mut(), "{line}")?;
        let mut head = String::new();
        self.0.read_line(&mut head)?;
        let wrong = || io::Error::other(format!("{head:?} answers {line:?}"));
        let [code, out, err] = head.split_whitespace().collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let code = code.parse().map_err(|_| wrong())?;
        let mut text = |length: &str| -> io::Result<String> {
            let mut bytes = vec![0; length.parse().map_err(|_| wrong())?];
            self.0.read_exact(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Answer { code, out: text(out)?, err: text(err)? })
    }
}

/// Writes a word so that a shell takes it as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_word_is_one_word_to_a_shell_whatever_is_in_it() {
        let word = r#"a 'b' "c" $d \e"#;
        let echo =
            Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).stderr(Stdio::inherit()).output();
        assert_eq!(String::from_utf8_lossy(&echo.expect("a shell").stdout), word);
    }

    #[test]
    fn an_answer_is_taken_apart_by_its_lengths() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut shell = Shell(BufReader::new(near));
        (&far).write_all(b"2 4 5\none\nerror0 0 0\n").expect("written");
        let answer = shell.run(&["x"]).expect("an answer");
        assert_eq!(answer, Answer { code: 2, out: "one\n".into(), err: "error".into() });
        assert_eq!(shell.run(&["y"]).expect("the next").code, 0);
        (&far).write_all(b"what\n").expect("written");
        assert_eq!(shell.run(&["z"]).expect_err("no answer").to_string(), r#""what\n" answers "'z'""#);
    }
}

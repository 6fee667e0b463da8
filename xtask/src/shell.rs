//! Runs commands in the open: each is printed on standard error as a person would type it, with the time it took;
//! standard output is the command's own.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

/// Why a verb stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A command could not be started.
    NotStarted {
        /// As a person would type it.
        command: String,
        /// Why.
        error: io::Error,
    },
    /// A command ended without success.
    Ended {
        /// As a person would type it.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// Programs are missing, and only a person can install them.
    Install {
        /// What to type or do.
        advice: String,
    },
    /// Something that must hold does not.
    Check(String),
    /// A file could not be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted { command, error } => write!(f, "`{command}` could not be started: {error}"),
            Self::Ended { command, status } => write!(f, "stopped: `{command}` failed ({status})"),
            Self::Install { advice } => write!(f, "something is missing:\n\n    {advice}\n"),
            Self::Check(what) => f.write_str(what),
            Self::File { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

/// Returns the root of the repository.
pub(crate) fn root() -> &'static Path {
    const XTASK: &str = env!("CARGO_MANIFEST_DIR");
    Path::new(XTASK).parent().unwrap_or(Path::new(XTASK))
}

/// Returns the folder cargo builds into, found from where this program itself was built.
pub(crate) fn target_dir() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure::File { path: "xtask".into(), error })?;
    match program.ancestors().nth(2) {
        Some(dir) => Ok(dir.to_owned()),
        None => Err(Failure::Check(format!("{} lies in no target folder", program.display()))),
    }
}

/// Prepares a command that runs in the root of the repository.
pub(crate) fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Prepares `cargo` with arguments parted by spaces.
pub(crate) fn cargo(arguments: &str) -> Command {
    command("cargo", arguments.split_whitespace())
}

/// Runs a command whose output goes straight through.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    timed(command, |command| command.status())
}

/// Runs a command whose standard output goes through line by line and is shown to `see` as well.
pub(crate) fn run_seen(command: &mut Command, mut see: impl FnMut(&str)) -> Result<(), Failure> {
    timed(command, |command| {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        if let Some(out) = child.stdout.take() {
            for line in BufReader::new(out).split(b'\n') {
                let line = line?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                see(&line);
            }
        }
        child.wait()
    })
}

/// Runs a command and returns its standard output; its errors go straight through.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let done = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::NotStarted { command: typed(command), error })?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(Failure::Ended { command: typed(command), status: done.status })
    }
}

/// Says whether a command runs and succeeds; it is not heard.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Becomes the command: signals reach it and its exit code is ours. Returns only if it could not be started.
pub(crate) fn become_command(command: &mut Command) -> Failure {
    use std::os::unix::process::CommandExt as _;
    eprintln!("$ {}", typed(command));
    let error = command.exec();
    Failure::NotStarted { command: typed(command), error }
}

/// Says that a step is left out, and why.
pub(crate) fn skipped(step: &str, why: &str) {
    eprintln!("-- skipped: {step}: {why}");
}

fn timed(command: &mut Command, run: impl FnOnce(&mut Command) -> io::Result<ExitStatus>) -> Result<(), Failure> {
    let typed = typed(command);
    eprintln!("$ {typed}");
    let started = Instant::now();
    let status = run(command).map_err(|error| Failure::NotStarted { command: typed.clone(), error })?;
    eprintln!("-- {:.1} s: {typed}", started.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(Failure::Ended { command: typed, status }) }
}

/// Writes a command as a person would type it in the root of the repository.
pub(crate) fn typed(command: &Command) -> String {
    let variables =
        command.get_envs().filter_map(|(name, value)| Some((name.to_string_lossy(), value?.to_string_lossy())));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy);
    let mut text: Vec<String> = variables.map(|(name, value)| format!("{name}={}", quoted(&value))).collect();
    text.extend(words.map(|word| quoted(&word)));
    text.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_printed_as_it_would_be_typed() {
        let mut sample = command("python3", ["-c", "import venv; print('x')", ""]);
        sample.env("CI", "a b");
        assert_eq!(typed(&sample), r"CI='a b' python3 -c 'import venv; print('\''x'\'')' ''");
    }

    #[test]
    fn a_command_that_fails_names_itself_and_its_status() {
        let failure = run(&mut command("sh", ["-c", "exit 3"])).expect_err("exit 3 is no success");
        assert_eq!(failure.to_string(), "stopped: `sh -c 'exit 3'` failed (exit status: 3)");
    }

    #[test]
    fn lines_of_a_seen_command_are_shown_to_the_caller() {
        let mut lines = Vec::new();
        run_seen(&mut command("printf", ["one\\ntwo"]), |line| lines.push(line.to_owned())).expect("printf succeeds");
        assert_eq!(lines, ["one", "two"]);
    }
}

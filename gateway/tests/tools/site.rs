//! Site files, and the binary run on them.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest wait for anything that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A site file in a folder of its own.
pub(crate) struct SiteFile {
    folder: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) data_dir: PathBuf,
}

/// What a run of the binary gave.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl SiteFile {
    /// A site with one serial bus `line` at 9600 Bd; `devices` are its `[[bus.device]]` tables.
    pub(crate) fn new(port: &Path, devices: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("configs");
        let (path, data_dir) = (folder.path().join("site.toml"), folder.path().join("data"));
        let text = format!(
            r#"
directory = "{configs}/directory"
templates = "{configs}/templates"
data_dir = "{data}"

[gateway]
id = "330502-9101-000001-31"

[broker]
host = "localhost"
port = 9
ca = "ca.pem"
certificate = "gateway.pem"
key = "gateway.key"

[[bus]]
name = "line"
kind = "serial"
port = "{port}"
baud = 9600
response_timeout_ms = 300
late_reply_ms = 50
{devices}
"#,
            configs = configs.display(),
            data = data_dir.display(),
            port = port.display(),
        );
        std::fs::write(&path, text).unwrap();
        Self { folder, path, data_dir }
    }

    /// Returns a path beside the site file.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a verb on the site file.
    pub(crate) fn run(&self, verb: &str, arguments: &[&str]) -> Told {
        let config = self.path.to_str().unwrap();
        ganglion(&[&[verb, "--config", config], arguments].concat())
    }

    /// Starts the daemon and waits until its control socket answers.
    pub(crate) fn daemon(&self, arguments: &[&str]) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_ganglion"))
            .args(["run", "--config"])
            .arg(&self.path)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Daemon(child);
        let socket = ganglion::control::socket_path(&self.data_dir);
        within("the control socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
        daemon
    }
}

/// A running daemon; ended when it is dropped.
pub(crate) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Runs the binary to its end.
pub(crate) fn ganglion(arguments: &[&str]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_ganglion")).args(arguments).stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Told { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
}

/// Waits until something holds.
pub(crate) fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "{what} within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

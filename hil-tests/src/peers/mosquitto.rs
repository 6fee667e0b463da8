//! Eclipse Mosquitto, the broker, and its subscriber, as child processes on loopback with mutual TLS.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::process::Process;
use super::{PeerError, free_port, installed};
use crate::pki::Pair;
use crate::received::text;

const NAME: &str = "mosquitto";
const SUBSCRIBER: &str = "mosquitto_sub";

/// How long a broker may take to listen, and to confirm a subscription.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end in order.
const END: Duration = Duration::from_secs(10);
/// How often a condition is looked at while it is waited for.
const GLANCE: Duration = Duration::from_millis(10);
/// How long a subscriber that ended waits before it comes back.
const PAUSE: Duration = Duration::from_millis(50);

/// A broker that may be stopped, killed and started again on the same port; ended when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Mosquitto {
    /// Starts a broker on a free port. Its configuration, log and database are in `folder`, which must exist; it shows
    /// `identity` and takes clients whose certificate `ca` signed. `options` are further lines of its configuration.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when it or its subscriber is not installed, otherwise as for [`run`](Self::run).
    pub fn start(folder: &Path, ca: &Path, identity: &Pair, options: &[&str]) -> Result<Self, PeerError> {
        let program = installed(NAME, NAME)?;
        // A test with a broker has a subscriber too, and is skipped here once for both.
        installed(NAME, SUBSCRIBER)?;
        let port = free_port().map_err(|error| PeerError::Io { peer: NAME, error })?;
        let mut broker = Self { program, folder: folder.to_owned(), port, process: None };
        broker.configure(ca, identity, options)?;
        broker.run()?;
        Ok(broker)
    }

    /// Writes the configuration anew; it holds from the next start.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the file cannot be written.
    pub fn configure(&self, ca: &Path, identity: &Pair, options: &[&str]) -> Result<(), PeerError> {
        // Not 0 for "unlimited" messages: 2.0.11 then ends the connection of a client whose PUBLISH an ACL denies.
        let text = format!(
            "per_listener_settings false\n\
             listener {port} 127.0.0.1\n\
             cafile {ca}\n\
             certfile {certificate}\n\
             keyfile {key}\n\
             require_certificate true\n\
             allow_anonymous true\n\
             user root\n\
             persistence true\n\
             persistence_location {folder}/\n\
             max_queued_messages 1000000\n\
             log_dest stderr\n\
             log_type all\n\
             {options}\n",
            port = self.port,
            ca = ca.display(),
            certificate = identity.certificate.display(),
            key = identity.key.display(),
            folder = self.folder.display(),
            options = options.join("\n"),
        );
        fs::write(self.folder.join("mosquitto.conf"), text).map_err(|error| PeerError::Io { peer: NAME, error })
    }

    /// Starts the broker if it does not run, on the port it had.
    ///
    /// # Errors
    /// [`PeerError::Io`] when it cannot be started, [`PeerError::Ended`] when it does not like its configuration or its
    /// port, [`PeerError::Late`] when it does not listen in time.
    pub fn run(&mut self) -> Result<(), PeerError> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.join("mosquitto.conf")).stdin(Stdio::null());
        let process = self.process.insert(Process::start(NAME, &mut command, &self.log_file())?);
        // It says so when it listens: "mosquitto version 2.0.11 running".
        process.wait_for_line(" running", START)?;
        Ok(())
    }

    /// Ends it in order: it writes its database.
    ///
    /// # Errors
    /// [`PeerError::Late`] when it runs on.
    pub fn stop(&mut self) -> Result<(), PeerError> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let deadline = Instant::now() + END;
        loop {
            // Again and again: 2.0.11 listens a moment before it is ready to be ended, and forgets what came too early.
            match process.terminate(2 * GLANCE) {
                Err(PeerError::Late { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
                Ok(_) => break,
            }
        }
        self.process = None;
        Ok(())
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the system refuses.
    pub fn kill(&mut self) -> Result<(), PeerError> {
        match self.process.take() {
            Some(mut process) => process.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Stops it where it is: connections stand and nothing is answered.
    ///
    /// # Errors
    /// [`PeerError::Io`] when the system refuses.
    pub fn freeze(&mut self) -> Result<(), PeerError> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(Signal::SIGSTOP))
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns what it logged since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("mosquitto.log")
    }
}

/// A `mosquitto_sub` with a kept session (its client identifier is fixed), started again whenever it ends: over TLS it
/// gives up at the first failed attempt to reconnect. Ended when dropped.
#[derive(Debug)]
pub struct Subscriber {
    output: PathBuf,
    stop: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Subscribes to `filter` at QoS 1 and returns when the broker has confirmed it. What arrives is kept in
    /// `<folder>/<id>.out`.
    ///
    /// # Errors
    /// [`PeerError::Missing`] when it is not installed, [`PeerError::Late`], with the broker's log, when it is not
    /// confirmed in time.
    pub fn start(broker: &Mosquitto, id: &str, filter: &str, ca: &Path, identity: &Pair) -> Result<Self, PeerError> {
        let output = broker.folder.join(format!("{id}.out"));
        // Without --quiet its complaints would stand among the messages.
        let options = ["--quiet", "-V", "mqttv5", "-q", "1", "-c", "-x", "3600", "-F", "%r\t%t\t%P\t%x"];
        let mut command = Command::new(installed(SUBSCRIBER, SUBSCRIBER)?);
        command
            .args(options)
            .args(["-i", id, "-t", filter, "-h", "localhost", "-p", &broker.port.to_string(), "--cafile"])
            .arg(ca)
            .arg("--cert")
            .arg(&identity.certificate)
            .arg("--key")
            .arg(&identity.key)
            .stdin(Stdio::null());
        let answer = format!("Sending SUBACK to {id}\n");
        let confirmations = || broker.log().matches(&answer).count();
        let before = confirmations();
        let first = Process::start(SUBSCRIBER, &mut command, &output)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, log) = (Arc::clone(&stop), output.clone());
        let keeper = thread::spawn(move || keep_running(first, &mut command, &log, &stopped));
        let subscriber = Self { output, stop, keeper: Some(keeper) };
        let deadline = Instant::now() + START;
        while confirmations() <= before {
            if Instant::now() > deadline {
                let what = format!("subscription of {id}");
                return Err(PeerError::Late { peer: SUBSCRIBER, what, within: START, printed: broker.log() });
            }
            thread::sleep(GLANCE);
        }
        Ok(subscriber)
    }

    /// Returns what arrived so far.
    ///
    /// # Errors
    /// [`PeerError::Io`] when its output cannot be read.
    pub fn received(&self) -> Result<Vec<Received>, PeerError> {
        let text = fs::read_to_string(&self.output).map_err(|error| PeerError::Io { peer: SUBSCRIBER, error })?;
        // The last line may be half written.
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        Ok(complete.lines().filter_map(Received::parse).collect())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            // A panic in there has been printed; there is nothing to add.
            drop(keeper.join());
        }
    }
}

/// Starts the command again whenever it has ended, until told to stop.
fn keep_running(first: Process, command: &mut Command, log: &Path, stopped: &AtomicBool) {
    let mut process = first;
    while !stopped.load(Ordering::Relaxed) {
        thread::sleep(GLANCE);
        if matches!(process.status(), Ok(None)) {
            continue;
        }
        thread::sleep(PAUSE);
        match Process::start_after(SUBSCRIBER, command, log) {
            Ok(next) => process = next,
            // It ran before, so this system is out of processes or files: messages that do not come say so.
            Err(_) => return,
        }
    }
}

/// One message as the subscriber got it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Whether the broker had kept it.
    pub retained: bool,
    /// Where it was published.
    pub topic: String,
    /// User properties as `name:value`, with a space between two.
    pub user_properties: String,
    /// The payload.
    pub bytes: Vec<u8>,
    /// The payload as text, decompressed if it was compressed.
    pub payload: String,
    /// Whether it was compressed.
    pub compressed: bool,
}

impl Received {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(4, '\t');
        let retained = fields.next()? == "1";
        let (topic, user_properties) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let bytes = from_hex(fields.next()?)?;
        let text = text(&bytes).ok()?;
        let compressed = matches!(text, Cow::Owned(_));
        let payload = String::from_utf8_lossy(&text).into_owned();
        Some(Self { retained, topic, user_properties, bytes, payload, compressed })
    }
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

//! Eclipse Mosquitto, the broker, and its subscriber, as child processes on loopback with mutual TLS.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::pki::Pair;

/// How long a broker may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a condition is looked at while it is waited for.
const GLANCE: Duration = Duration::from_millis(10);

/// How long it may take to end in order before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker that may be stopped, killed and started again on the same port; ended when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts a broker on a free port. Its configuration, log and database are in `folder`, which must exist; it shows
    /// `identity` and takes clients whose certificate `ca` signed. `options` are further lines of its configuration.
    ///
    /// # Errors
    /// When it cannot be started or does not listen in time.
    pub fn start(folder: &Path, ca: &Path, identity: &Pair, options: &[&str]) -> io::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut broker = Self { folder: folder.to_owned(), port, child: None };
        broker.configure(ca, identity, options)?;
        broker.run()?;
        Ok(broker)
    }

    /// Writes the configuration anew; it holds from the next start.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, ca: &Path, identity: &Pair, options: &[&str]) -> io::Result<()> {
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
        fs::write(self.folder.join("mosquitto.conf"), text)
    }

    /// Starts the broker if it does not run, on the port it had.
    ///
    /// # Errors
    /// When it cannot be started or does not listen in time; the error holds its log.
    pub fn run(&mut self) -> io::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = File::create(self.folder.join("mosquitto.log"))?;
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(self.folder.join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let child = self.child.insert(child);
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if child.try_wait()?.is_some() || Instant::now() > deadline {
                return Err(io::Error::other(format!("mosquitto does not listen: {}", self.log())));
            }
            thread::sleep(GLANCE);
        }
        Ok(())
    }

    /// Ends it in order: it writes its database.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn stop(&mut self) -> io::Result<()> {
        self.end(Signal::SIGTERM)
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&mut self) -> io::Result<()> {
        self.end(Signal::SIGKILL)
    }

    /// Stops it where it is: connections stand and nothing is answered.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn freeze(&self) -> io::Result<()> {
        self.child.as_ref().map_or(Ok(()), |child| signal(child, Signal::SIGSTOP))
    }

    fn end(&mut self, how: Signal) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let deadline = Instant::now() + END_TIMEOUT;
        while child.try_wait()?.is_none() {
            // Again and again: 2.0.11 listens a moment before it is ready to be ended, and forgets what came too early.
            signal(&child, if Instant::now() < deadline { how } else { Signal::SIGKILL })?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns the port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns what it logged since its last start.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.folder.join("mosquitto.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill().ok();
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
    /// When it cannot be started or is not confirmed in time.
    pub fn start(broker: &Mosquitto, id: &str, filter: &str, ca: &Path, identity: &Pair) -> io::Result<Self> {
        let output = broker.folder.join(format!("{id}.out"));
        let file = File::create(&output)?;
        let mut command = Command::new("mosquitto_sub");
        command
            .args(["-V", "mqttv5", "-q", "1", "-c", "-x", "3600", "-F", "%r\t%t\t%p", "-i", id, "-t", filter])
            .args(["-h", "localhost", "-p", &broker.port.to_string(), "--cafile"])
            .arg(ca)
            .arg("--cert")
            .arg(&identity.certificate)
            .arg("--key")
            .arg(&identity.key)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let keeper = thread::spawn(move || keep_running(&mut command, &file, &stopped));
        let subscriber = Self { output, stop, keeper: Some(keeper) };
        let confirmed = format!("Sending SUBACK to {id}");
        let deadline = Instant::now() + START_TIMEOUT;
        while !broker.log().contains(&confirmed) {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("no subscription: {}", broker.log())));
            }
            thread::sleep(GLANCE);
        }
        Ok(subscriber)
    }

    /// Returns what arrived so far.
    ///
    /// # Errors
    /// When its output cannot be read.
    pub fn received(&self) -> io::Result<Vec<Received>> {
        let text = fs::read_to_string(&self.output)?;
        // The last line may be half written.
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        Ok(complete.lines().filter_map(Received::parse).collect())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            keeper.join().ok();
        }
    }
}

/// Runs the command again and again, its output at the end of `file`, until told to stop.
fn keep_running(command: &mut Command, file: &File, stopped: &AtomicBool) {
    while !stopped.load(Ordering::Relaxed) {
        let child = file.try_clone().and_then(|file| command.stdout(file).spawn());
        // A program that cannot be started is noticed by the subscription that never comes.
        let Ok(mut child) = child else { return };
        while !stopped.load(Ordering::Relaxed) && matches!(child.try_wait(), Ok(None)) {
            thread::sleep(GLANCE);
        }
        child.kill().ok();
        child.wait().ok();
    }
}

/// One message as the subscriber got it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Whether the broker had kept it.
    pub retained: bool,
    /// Where it was published.
    pub topic: String,
    /// The payload.
    pub payload: String,
}

impl Received {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(3, '\t');
        let retained = fields.next()? == "1";
        Some(Self { retained, topic: fields.next()?.to_owned(), payload: fields.next()?.to_owned() })
    }
}

fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    kill(Pid::from_raw(pid), signal).map_err(io::Error::from)
}

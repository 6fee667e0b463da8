//! What the node needs of a board, made of files and a socket.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ganglion_node::{Board, ChannelSpec, Copies, Memory, MemoryError, Sensor, SensorKind, Statistic};
use ganglion_protocols::node_link::{ResetCause, SensorFault};
use ganglion_protocols::node_settings::{MAX_COPY, NodeLine};

/// Tells the next start that it was ordered.
const ORDERED: &str = "HOST_NODE_ORDERED";

/// The board.
#[derive(Debug)]
pub(crate) struct HostBoard {
    start: Instant,
    peer: Arc<Mutex<Option<UnixStream>>>,
    came: Receiver<Vec<u8>>,
    heard: Vec<u8>,
    character: Duration,
    speaks_until: Instant,
}

impl HostBoard {
    /// Listens on the socket: whoever calls is the line.
    pub(crate) fn start(socket: &Path) -> io::Result<Self> {
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(socket)?;
        let peer = Arc::new(Mutex::new(None));
        let (sender, came) = channel();
        let line = Arc::clone(&peer);
        thread::spawn(move || serve(&listener, &line, &sender));
        let start = Instant::now();
        let character = Duration::from_millis(1);
        Ok(Self { start, peer, came, heard: Vec::new(), character, speaks_until: start })
    }
}

/// Hands on what the line says.
fn serve(listener: &UnixListener, line: &Mutex<Option<UnixStream>>, sender: &Sender<Vec<u8>>) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        *line.lock().unwrap_or_else(PoisonError::into_inner) = stream.try_clone().ok();
        let mut buffer = [0; 256];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            if sender.send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    }
}

impl Board for HostBoard {
    const NAME: &'static str = "host-node";
    const PERSISTENT: bool = true;
    const SENSORS: &'static [Sensor] = &[Sensor { kind: SensorKind::Gauge, low: -4000, high: 8500 }];
    const CHANNELS: &'static [ChannelSpec] =
        &[ChannelSpec { sensor: 0, statistic: Statistic::Last, property: "temperature", unit: "Cel", exponent: -2 }];

    fn serial(&mut self) -> u64 {
        0x4741_00FF
    }

    fn reset_cause(&mut self) -> (ResetCause, u32) {
        let ordered = std::env::var_os(ORDERED).is_some();
        (if ordered { ResetCause::Order } else { ResetCause::Power }, 0)
    }

    fn uptime(&mut self) -> Duration {
        self.start.elapsed()
    }

    fn open_line(&mut self, line: NodeLine) {
        self.character = Duration::from_secs(1) * u32::from(line.bits_per_character()) / line.baud;
    }

    fn hear(&mut self, out: &mut [u8]) -> usize {
        self.came.try_iter().for_each(|bytes| self.heard.extend(bytes));
        let count = self.heard.len().min(out.len());
        out[..count].copy_from_slice(&self.heard[..count]);
        self.heard.drain(..count);
        count
    }

    fn say(&mut self, frame: &[u8]) {
        let mut peer = self.peer.lock().unwrap_or_else(PoisonError::into_inner);
        if peer.as_mut().is_some_and(|peer| peer.write_all(frame).is_err()) {
            *peer = None;
        }
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.speaks_until = Instant::now() + self.character * length;
    }

    fn speaking(&mut self) -> bool {
        Instant::now() < self.speaks_until
    }

    fn measure(&mut self, _sensor: usize) -> Result<i32, SensorFault> {
        Ok(2150)
    }

    fn show(&mut self, _identify: bool) {}

    fn log(&mut self, line: &str) {
        println!("{line}");
    }

    fn feed_watchdog(&mut self) {}

    /// Starts the same program in this process.
    fn reset(&mut self) -> ! {
        let own = std::env::current_exe().expect("the path of a running program");
        let error = Command::new(own).args(std::env::args_os().skip(1)).env(ORDERED, "1").exec();
        panic!("it does not start anew: {error}");
    }

    fn sleep(&mut self, until: Duration) {
        let wait = until.saturating_sub(self.start.elapsed());
        if let Ok(bytes) = self.came.recv_timeout(wait) {
            self.heard.extend(bytes);
        }
    }
}

/// Memory that is a file.
#[derive(Debug)]
pub(crate) struct Bytes {
    file: File,
    size: usize,
}

impl Bytes {
    /// Opens the file, and makes it so long.
    pub(crate) fn open(path: &Path, size: usize) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        file.set_len(size as u64)?;
        Ok(Self { file, size })
    }
}

impl Memory for Bytes {
    fn size(&self) -> usize {
        self.size
    }

    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), MemoryError> {
        self.file.read_exact_at(out, at as u64).map_err(|_| MemoryError { at })
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        self.file.write_all_at(bytes, at as u64).map_err(|_| MemoryError { at })
    }
}

/// Two copies of the settings in a memory.
#[derive(Debug)]
pub(crate) struct Pages(pub(crate) Bytes);

impl Copies for Pages {
    fn read(&mut self, which: usize, out: &mut [u8; MAX_COPY]) {
        if self.0.read(which * MAX_COPY, out).is_err() {
            out.fill(0);
        }
    }

    fn write(&mut self, which: usize, bytes: &[u8]) -> Result<(), MemoryError> {
        self.0.write(which * MAX_COPY, bytes)
    }
}

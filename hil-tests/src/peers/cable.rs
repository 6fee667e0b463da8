//! A null-modem cable between two programs, each with a serial port of its own.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::site::{LineSettings, Port};

/// Longest wait before a thread looks whether the cable is still there.
const LOOK_UP: Duration = Duration::from_millis(20);

/// A cable as slow as its line; dropping it ends it and removes the links to both ports.
#[derive(Debug)]
pub struct Cable {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    absent: Mutex<Option<u8>>,
}

impl Cable {
    /// Lays a cable from the port of `line`, where the client is, to a port at `servers`. Each character takes its time
    /// on the line; units answer as fast as their program does.
    ///
    /// # Errors
    /// When there is no pty, or a link cannot be made.
    pub fn start(line: &LineSettings, servers: &Path) -> io::Result<Self> {
        let near = Arc::new(Port::open(&line.path)?);
        let far = Arc::new(Port::open(servers)?);
        let mut cable = Self { shared: Arc::default(), threads: Vec::new() };
        for (name, from, to) in [("requests", &near, &far), ("answers", &far, &near)] {
            let (from, to, shared) = (Arc::clone(from), Arc::clone(to), Arc::clone(&cable.shared));
            let (character, requests) = (line.character(), name == "requests");
            let passed = move |bytes: &[u8]| !(requests && shared.is_for_absent_unit(bytes));
            let shared = Arc::clone(&cable.shared);
            let thread = thread::Builder::new().name(name.to_owned());
            cable.threads.push(thread.spawn(move || carry(&from, &to, character, &shared.stop, passed))?);
        }
        Ok(cable)
    }

    /// Lets this unit be absent, or none: requests to it get lost, and so nobody answers them.
    pub fn set_absent(&self, unit: Option<u8>) {
        *self.shared.absent.lock().unwrap_or_else(PoisonError::into_inner) = unit;
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in there has been printed; there is nothing to add.
            drop(thread.join());
        }
    }
}

impl Shared {
    /// A client writes a request at once, so what is read begins with the unit.
    fn is_for_absent_unit(&self, bytes: &[u8]) -> bool {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        absent.is_some() && bytes.first().copied() == *absent
    }
}

/// Carries what comes out of one port into the other, until told to stop or a port fails.
fn carry(from: &Port, to: &Port, character: Duration, stop: &AtomicBool, passed: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0_u8; 512];
    while !stop.load(Ordering::Relaxed) {
        let outcome = from.wait(LOOK_UP).and_then(|ready| {
            let heard = if ready { from.read(&mut buffer)? } else { &[] };
            let heard = if passed(heard) { heard } else { &[] };
            let mut over = Instant::now();
            for byte in heard {
                over += character;
                thread::sleep(over.saturating_duration_since(Instant::now()));
                to.write(&[*byte])?;
            }
            Ok(())
        });
        if let Err(error) = outcome {
            tracing::error!("the cable is broken: {error}");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::{Read as _, Write as _};

    use tempfile::TempDir;

    use super::*;
    use crate::site::Parity;

    fn cable() -> (TempDir, Cable, File, File) {
        let folder = TempDir::new().expect("a temporary folder");
        let [near, far] = ["near", "far"].map(|name| folder.path().join(name));
        let cable = Cable::start(&LineSettings::new(&near, 9600, Parity::None, 1), &far).expect("a cable");
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path).expect("a port");
        let (client, server) = (open(&near), open(&far));
        (folder, cable, client, server)
    }

    #[test]
    fn what_goes_in_at_one_end_comes_out_at_the_other_no_faster_than_the_line() {
        let (_folder, _cable, client, server) = cable();
        let all: Vec<u8> = (0..=255).collect();
        let begun = Instant::now();
        for (mut from, mut to) in [(&client, &server), (&server, &client)] {
            from.write_all(&all).expect("sent");
            let mut heard = [0; 256];
            to.read_exact(&mut heard).expect("heard");
            assert_eq!(heard[..], all);
        }
        let least = 2 * 256 * Duration::from_nanos(10 * 1_000_000_000 / 9600);
        assert!(begun.elapsed() >= least, "{:?} < {least:?}", begun.elapsed());
    }

    #[test]
    fn a_request_to_an_absent_unit_gets_lost_and_no_other() {
        let (_folder, cable, mut client, mut server) = cable();
        let mut heard = [0; 4];
        cable.set_absent(Some(2));
        for request in [[2, 3, 0, 0], [1, 3, 2, 2]] {
            client.write_all(&request).expect("sent");
            // Read on its own, as a request is that follows another.
            thread::sleep(2 * LOOK_UP);
        }
        server.read_exact(&mut heard).expect("heard");
        assert_eq!(heard, [1, 3, 2, 2]);
        cable.set_absent(None);
        client.write_all(&[2, 3, 0, 1]).expect("sent");
        server.read_exact(&mut heard).expect("heard");
        assert_eq!(heard, [2, 3, 0, 1]);
    }
}

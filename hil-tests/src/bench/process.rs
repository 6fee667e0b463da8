//! What a process has cost so far, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

/// CPU time and memory of one process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Time on a CPU, user and system together, of the threads alive now.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub resident: u64,
    /// Most resident memory ever, in bytes.
    pub peak: u64,
}

impl Cost {
    /// Looks at a running process.
    ///
    /// # Errors
    /// When it has ended.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut cpu = Duration::ZERO;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = match fs::read_to_string(task?.path().join("schedstat")) {
                Ok(text) => text,
                // A thread that ended since the list was read; whether the process did shows below.
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error),
            };
            let nanos = text.split_ascii_whitespace().next().and_then(|field| field.parse().ok());
            cpu += Duration::from_nanos(nanos.ok_or_else(|| io::Error::other(format!("schedstat says {text:?}")))?);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
                .map(|kib| kib * 1024)
                .ok_or_else(|| io::Error::other(format!("no {key} in the status of {pid}")))
        };
        Ok(Self { cpu, resident: kib("VmRSS:")?, peak: kib("VmHWM:")? })
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::peers::process::Process;

    #[test]
    fn the_work_of_a_process_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut busy = Command::new("sh");
        let busy = Process::start("shell", busy.args(["-c", "while :; do :; done"]), &folder.path().join("log"));
        let busy = busy.expect("every system has a shell");
        let deadline = Instant::now() + Duration::from_secs(20);
        while Cost::of(busy.pid()).expect("alive").cpu < Duration::from_millis(50) {
            assert!(Instant::now() < deadline, "{:?}", Cost::of(busy.pid()));
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn the_memory_of_this_process_is_seen_while_its_threads_come_and_go() {
        const BYTES: u64 = 32 << 20;
        let memory = vec![1_u8; 32 << 20];
        for _ in 0..200 {
            let thread = thread::spawn(|| ());
            let cost = Cost::of(std::process::id()).expect("alive");
            assert!(cost.resident >= BYTES && cost.peak >= BYTES && cost.peak < 1000 * BYTES, "{cost:?}");
            thread.join().expect("it does nothing");
        }
        drop(memory);
    }
}

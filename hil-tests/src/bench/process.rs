//! What a process has cost so far, from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

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
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
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

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;

    #[test]
    fn work_and_memory_of_this_process_are_seen() {
        let pid = std::process::id();
        let before = Cost::of(pid).expect("alive");
        let memory = vec![1_u8; 32 << 20];
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            black_box(memory.iter().map(|&byte| u64::from(byte)).sum::<u64>());
        }
        let after = Cost::of(pid).expect("alive");
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        assert!(after.peak >= before.resident + (24 << 20), "{before:?} {after:?}");
        drop(memory);
    }
}

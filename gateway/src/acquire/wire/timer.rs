//! A timer of tens of microseconds.
//!
//! tokio's timer counts whole milliseconds and rounds up: after each wait for the silence between two frames a line of
//! 9600 Bd would lie idle for a millisecond more, which is a hundredth of a usual exchange. The kernel's timer files have
//! the resolution of its clock.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::sys;

/// A timer that wakes its task within tens of microseconds of the time asked for, never before it.
///
/// It follows the true clock: under tokio's paused clock it waits all the same.
#[derive(Debug)]
pub struct PreciseTimer(Option<Precise>);

#[derive(Debug)]
struct Precise {
    timer: TimerFd,
    /// The same timer, as the reactor knows it.
    ready: AsyncFd<File>,
}

impl PreciseTimer {
    /// Makes a timer; if the kernel gives none, one of tokio's resolution, which is logged.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O.
    #[must_use]
    pub fn new() -> Self {
        let precise = Precise::new();
        if let Err(error) = &precise {
            warn!(%error, "no precise timer: pauses on a line are up to 1 ms longer");
        }
        Self(precise.ok())
    }

    /// Makes the coarse one.
    #[cfg(test)]
    pub(super) fn coarse() -> Self {
        Self(None)
    }

    /// Waits until `deadline`; at once if it has passed. May be dropped at any time.
    pub async fn until(&mut self, deadline: Instant) {
        if let Some(precise) = &self.0 {
            match precise.until(deadline).await {
                Ok(()) => return,
                Err(error) => warn!(%error, "the precise timer failed: pauses on a line are up to 1 ms longer"),
            }
            self.0 = None;
        }
        tokio::time::sleep_until(deadline.into()).await;
    }
}

impl Default for PreciseTimer {
    fn default() -> Self {
        Self::new()
    }
}

impl Precise {
    fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        let ready = sys::register(File::from(timer.as_fd().try_clone_to_owned()?))?;
        Ok(Self { timer, ready })
    }

    async fn until(&self, deadline: Instant) -> io::Result<()> {
        while let Some(alarm) = alarm(deadline)? {
            self.timer.set(Expiration::OneShot(alarm), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            // An alarm of a wait that was dropped may have left the file readable: nothing can be read then, and the
            // loop comes round again.
            match self.ready.readable().await?.try_io(|file| file.get_ref().read(&mut [0; 8])) {
                Ok(Err(error)) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Returns the deadline on the kernel's clock, or nothing if it has passed.
///
/// That clock is looked at first: a task held up between the two looks wakes early and looks again, never late.
fn alarm(deadline: Instant) -> io::Result<Option<TimeSpec>> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    let left = deadline.saturating_duration_since(Instant::now());
    Ok((left > Duration::ZERO).then(|| now + TimeSpec::from_duration(left)))
}

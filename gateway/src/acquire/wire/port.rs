//! Opens a serial port: exclusively, with its line set, and as quick as its driver can be.
//!
//! What a driver may ignore is read back, for most do so without a word. Nothing of that keeps the port from being used.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::sys::termios::{FlushArg, tcflush};

use super::holder;
use super::sys::{self, Rs485Mode, SerialInfo};
use crate::site::{LineSpeed, Parity, Rs485, SerialLink};

/// Where the kernel shows its terminals.
const TERMINALS: &str = "/sys/class/tty";

/// Device numbers of pseudo-terminals, which have no line (kernel: admin-guide/devices.txt).
const PSEUDO_TERMINALS: std::ops::RangeInclusive<u32> = 136..=143;

/// What became of the wishes for a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortFacts {
    /// Bit rate, parity and stop bits: drivers take the nearest they can.
    pub line: Outcome,
    /// `ASYNC_LOW_LATENCY`.
    pub low_latency: Outcome,
    /// Direction control of an RS-485 transceiver.
    pub rs485: Outcome,
    /// How long the adapter collects bytes before it hands them over, where it says so (FTDI), in milliseconds.
    pub latency_timer_ms: Option<u16>,
}

/// What became of one wish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nobody wished it.
    NotAsked,
    /// The driver does it.
    Honoured,
    /// The driver took the wish and does something else; the text has both values of each difference.
    Ignored(String),
    /// The driver knows nothing of it; the text is its error.
    Unsupported(String),
}

impl fmt::Display for PortFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, low latency {}, rs485 {}", self.line, self.low_latency, self.rs485)?;
        match self.latency_timer_ms {
            Some(ms) => write!(f, ", latency timer {ms} ms"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("not asked"),
            Self::Honoured => f.write_str("as asked"),
            Self::Ignored(difference) => write!(f, "ignored ({difference})"),
            Self::Unsupported(error) => write!(f, "unsupported ({error})"),
        }
    }
}

/// Opens the port and sets its line. Blocks: a broken adapter can hold this up for seconds.
///
/// The port is locked (flock) and closed to further opens (`TIOCEXCL`). Symbolic links are followed at each call, so
/// that a path of `/dev/serial/` leads to the adapter that is plugged in now.
///
/// # Errors
/// The path, and why there is no port: who holds it, if somebody does.
pub(super) fn open(link: &SerialLink) -> io::Result<(File, PortFacts)> {
    let path = &link.path;
    let in_context = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let port = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Ok(port) => port,
        Err(error) if error.kind() == ErrorKind::ResourceBusy => return Err(holder::held(path)),
        Err(error) => return Err(in_context(error)),
    };
    if !port.metadata().map_err(in_context)?.file_type().is_char_device() {
        return Err(in_context(io::Error::new(ErrorKind::InvalidInput, "not a serial port")));
    }
    // The lock first: closing the port to others would outlast this attempt if another process keeps it open.
    match port.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            // This process is not to be found among the holders.
            drop(port);
            return Err(holder::held(path));
        }
        Err(TryLockError::Error(error)) => return Err(in_context(error)),
    }
    let line = set_line(&port, link.speed).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTTY) => in_context(io::Error::new(ErrorKind::InvalidInput, "not a serial port")),
        _ => in_context(error),
    })?;
    sys::set_exclusive(&port, true).map_err(in_context)?;
    tcflush(&port, FlushArg::TCIOFLUSH).map_err(|error| in_context(error.into()))?;
    let low_latency = if link.low_latency {
        low_latency(|| sys::serial_info(&port), |info| sys::set_serial_info(&port, info))
    } else {
        Outcome::NotAsked
    };
    let latency_timer_ms = latency_timer(Path::new(TERMINALS), path, link.low_latency);
    let rs485 = match link.rs485 {
        Some(wish) => rs485(&wish, |mode| sys::set_rs485(&port, mode), || sys::rs485(&port)),
        None => Outcome::NotAsked,
    };
    Ok((port, PortFacts { line, low_latency, rs485, latency_timer_ms }))
}

/// Gives the port up: what it has not sent is thrown away, for else closing it waits for up to half a minute, and others
/// may open it while somebody keeps it open.
pub(super) fn close(port: &File) {
    // A port that is gone cannot do either, and need not.
    tcflush(port, FlushArg::TCOFLUSH).ok();
    sys::set_exclusive(port, false).ok();
}

fn set_line(port: &File, speed: LineSpeed) -> io::Result<Outcome> {
    let mut wish = sys::line(port)?;
    // Raw: no byte means anything but itself, nobody hangs up, and nothing holds sending back.
    (wish.c_iflag, wish.c_oflag, wish.c_lflag) = (0, 0, 0);
    wish.c_cflag &= libc::HUPCL;
    wish.c_cflag |= libc::BOTHER | libc::CS8 | libc::CREAD | libc::CLOCAL;
    wish.c_cflag |= match speed.parity {
        Parity::None => 0,
        Parity::Even => libc::PARENB,
        Parity::Odd => libc::PARENB | libc::PARODD,
    };
    if speed.stop_bits == 2 {
        wish.c_cflag |= libc::CSTOPB;
    }
    (wish.c_ispeed, wish.c_ospeed) = (speed.baud, speed.baud);
    wish.c_cc[libc::VMIN] = 1;
    wish.c_cc[libc::VTIME] = 0;
    sys::set_line(port, &wish)?;
    if PSEUDO_TERMINALS.contains(&libc::major(port.metadata()?.rdev())) {
        return Ok(Outcome::Honoured);
    }
    Ok(compare_line(&wish, &sys::line(port)?))
}

fn compare_line(wish: &libc::termios2, got: &libc::termios2) -> Outcome {
    let mut differences = Differences::default();
    // A receiver samples bits in their middle: over eleven of them it bears 4 % between both ends.
    if wish.c_ospeed.abs_diff(got.c_ospeed) > wish.c_ospeed / 50 {
        differences.add("bits per second", wish.c_ospeed, got.c_ospeed);
    }
    let flag = |line: &libc::termios2, flag| line.c_cflag & flag != 0;
    for (name, bit) in [("parity", libc::PARENB), ("odd parity", libc::PARODD), ("two stop bits", libc::CSTOPB)] {
        differences.add(name, on(flag(wish, bit)), on(flag(got, bit)));
    }
    differences.add("eight data bits", on(true), on(got.c_cflag & libc::CSIZE == libc::CS8));
    differences.outcome()
}

/// Asks the driver to hand bytes over at once.
fn low_latency(info: impl Fn() -> io::Result<SerialInfo>, set: impl FnOnce(&SerialInfo) -> io::Result<()>) -> Outcome {
    let quick = |info: &SerialInfo| info.flags & SerialInfo::LOW_LATENCY != 0;
    let result = info().and_then(|mut wish| {
        if quick(&wish) {
            return Ok(wish);
        }
        wish.flags |= SerialInfo::LOW_LATENCY;
        set(&wish)?;
        info()
    });
    match result {
        Ok(got) if quick(&got) => Outcome::Honoured,
        Ok(_) => Outcome::Ignored("low latency: asked on, is off".to_owned()),
        Err(error) => Outcome::Unsupported(error.to_string()),
    }
}

/// Returns the latency timer of the port's adapter, if it has one, set to 1 ms if `shortest` and this process may.
fn latency_timer(terminals: &Path, port: &Path, shortest: bool) -> Option<u16> {
    let port = fs::canonicalize(port).ok()?;
    let file = terminals.join(port.file_name()?).join("device/latency_timer");
    let read = || fs::read_to_string(&file).ok()?.trim().parse().ok();
    if read()? != 1 && shortest {
        // What came of it is what it holds afterwards.
        fs::write(&file, "1").ok();
    }
    read()
}

fn rs485(
    wish: &Rs485,
    set: impl FnOnce(&Rs485Mode) -> io::Result<()>,
    got: impl FnOnce() -> io::Result<Rs485Mode>,
) -> Outcome {
    let wish = rs485_mode(wish);
    match set(&wish).and_then(|()| got()) {
        Ok(got) => compare_rs485(&wish, &got),
        Err(error) => Outcome::Unsupported(error.to_string()),
    }
}

fn rs485_mode(wish: &Rs485) -> Rs485Mode {
    // Kernel: driver-api/serial/serial-rs485.rst. One of the two levels, for the kernel corrects anything else.
    let level = if wish.rts_on_send { Rs485Mode::RTS_ON_SEND } else { Rs485Mode::RTS_AFTER_SEND };
    let hearing = if wish.rx_during_tx { Rs485Mode::RX_DURING_TX } else { 0 };
    let ms = |delay: Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
    Rs485Mode::new(Rs485Mode::ENABLED | level | hearing, ms(wish.delay_before_send), ms(wish.delay_after_send))
}

fn compare_rs485(wish: &Rs485Mode, got: &Rs485Mode) -> Outcome {
    let mut differences = Differences::default();
    for (name, bit) in [
        ("enabled", Rs485Mode::ENABLED),
        ("rts_on_send", Rs485Mode::RTS_ON_SEND),
        ("rts_after_send", Rs485Mode::RTS_AFTER_SEND),
        ("rx_during_tx", Rs485Mode::RX_DURING_TX),
    ] {
        differences.add(name, on(wish.flags & bit != 0), on(got.flags & bit != 0));
    }
    differences.add("delay_before_send_ms", wish.delay_before_send, got.delay_before_send);
    differences.add("delay_after_send_ms", wish.delay_after_send, got.delay_after_send);
    differences.outcome()
}

fn on(set: bool) -> &'static str {
    if set { "on" } else { "off" }
}

/// What was asked for and is not so.
#[derive(Default)]
struct Differences(String);

impl Differences {
    fn add<T: PartialEq + fmt::Display>(&mut self, name: &str, asked: T, got: T) {
        if asked != got {
            let separator = if self.0.is_empty() { "" } else { "; " };
            self.0.push_str(&format!("{separator}{name}: asked {asked}, is {got}"));
        }
    }

    fn outcome(self) -> Outcome {
        if self.0.is_empty() { Outcome::Honoured } else { Outcome::Ignored(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn wish() -> Rs485 {
        Rs485 {
            rts_on_send: true,
            delay_before_send: Duration::from_millis(2),
            delay_after_send: Duration::from_millis(1),
            rx_during_tx: false,
        }
    }

    /// A driver that keeps what `keep` leaves of a mode.
    fn driver(wish: &Rs485, keep: impl Fn(Rs485Mode) -> Rs485Mode) -> Outcome {
        let kept = RefCell::new(Rs485Mode::default());
        rs485(
            wish,
            |mode| {
                kept.replace(keep(*mode));
                Ok(())
            },
            || Ok(*kept.borrow()),
        )
    }

    #[test]
    fn direction_control_is_believed_only_as_it_is_read_back() {
        assert_eq!(driver(&wish(), |mode| mode), Outcome::Honoured);
        let no_delays = driver(&wish(), |mode| Rs485Mode::new(mode.flags, 0, 0));
        let text = "delay_before_send_ms: asked 2, is 0; delay_after_send_ms: asked 1, is 0";
        assert_eq!(no_delays, Outcome::Ignored(text.to_owned()));
        let nothing = driver(&Rs485 { rx_during_tx: true, ..wish() }, |_| Rs485Mode::new(0, 2, 1));
        let text = "enabled: asked on, is off; rts_on_send: asked on, is off; rx_during_tx: asked on, is off";
        assert_eq!(nothing, Outcome::Ignored(text.to_owned()));
    }

    #[test]
    fn rts_has_one_level_while_sending_and_the_other_after() {
        let flags = |rts_on_send| rs485_mode(&Rs485 { rts_on_send, ..wish() }).flags;
        assert_eq!(flags(true), Rs485Mode::ENABLED | Rs485Mode::RTS_ON_SEND);
        assert_eq!(flags(false), Rs485Mode::ENABLED | Rs485Mode::RTS_AFTER_SEND);
    }

    #[test]
    fn low_latency_is_believed_only_as_it_is_read_back() {
        let kept = RefCell::new(SerialInfo::zeroed());
        let info = || Ok(*kept.borrow());
        let deaf = low_latency(info, |_| Ok(()));
        assert_eq!(deaf, Outcome::Ignored("low latency: asked on, is off".to_owned()));
        let set = |info: &SerialInfo| {
            kept.replace(*info);
            Ok(())
        };
        assert_eq!(low_latency(info, set), Outcome::Honoured);
        let refused = |_: &SerialInfo| Err(ErrorKind::PermissionDenied.into());
        assert_eq!(low_latency(info, refused), Outcome::Honoured, "it is set already");
        kept.replace(SerialInfo::zeroed());
        assert_eq!(low_latency(info, refused), Outcome::Unsupported("permission denied".to_owned()));
    }

    #[test]
    fn the_latency_timer_of_an_adapter_is_shortened_only_if_asked() {
        let terminals = tempfile::tempdir().unwrap();
        let device = terminals.path().join("ttyUSB0/device");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("latency_timer"), "16\n").unwrap();
        let port = terminals.path().join("ttyUSB0");
        assert_eq!(latency_timer(terminals.path(), &port, false), Some(16));
        assert_eq!(latency_timer(terminals.path(), &port, true), Some(1));
        assert_eq!(latency_timer(terminals.path(), terminals.path(), true), None);
    }

    #[test]
    fn a_line_that_is_near_enough_is_as_asked() {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut wish = sys::line(&pty.slave).unwrap();
        (wish.c_ospeed, wish.c_cflag) = (9_600, libc::CS8 | libc::PARENB);
        let mut got = wish;
        got.c_ospeed = 9_615;
        assert_eq!(compare_line(&wish, &got), Outcome::Honoured);
        (got.c_ospeed, got.c_cflag) = (4_800, libc::CS8);
        let text = "bits per second: asked 9600, is 4800; parity: asked on, is off";
        assert_eq!(compare_line(&wish, &got), Outcome::Ignored(text.to_owned()));
    }
}

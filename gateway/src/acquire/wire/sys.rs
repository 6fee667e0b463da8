//! What the kernel offers and no library here wraps: for serial ports exclusive use, any bit rate, low latency and
//! RS-485; for TCP how soon a silent peer is given up; and tokio's reactor for files.
//!
//! Only here does this module use `unsafe`. Why no library for serial ports: docs/dependencies.md.
#![allow(unsafe_code, reason = "these calls have no safe wrapper in the libraries used here")]

use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;

/// The kernel's `struct serial_struct`, linux/serial.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct SerialInfo {
    kind: libc::c_int,
    line: libc::c_int,
    port: libc::c_uint,
    irq: libc::c_int,
    /// `ASYNC_…` flags.
    pub(super) flags: libc::c_int,
    xmit_fifo_size: libc::c_int,
    custom_divisor: libc::c_int,
    baud_base: libc::c_int,
    close_delay: libc::c_ushort,
    io_type: libc::c_char,
    reserved: libc::c_char,
    hub6: libc::c_int,
    closing_wait: libc::c_ushort,
    closing_wait2: libc::c_ushort,
    iomem_base: *mut libc::c_uchar,
    iomem_reg_shift: libc::c_ushort,
    port_high: libc::c_uint,
    iomap_base: libc::c_ulong,
}

impl SerialInfo {
    /// `ASYNC_LOW_LATENCY`, linux/tty_flags.h.
    pub(super) const LOW_LATENCY: libc::c_int = 1 << 13;

    /// Returns one without any information.
    pub(super) fn zeroed() -> Self {
        // SAFETY: the struct is integers and one pointer nobody here follows, for which all zeroes is a value.
        unsafe { std::mem::zeroed() }
    }
}

/// The kernel's `struct serial_rs485`, linux/serial.h.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Rs485Mode {
    /// `ENABLED` and the others.
    pub(super) flags: u32,
    /// Milliseconds from taking the line to the first bit.
    pub(super) delay_before_send: u32,
    /// Milliseconds from the last bit to leaving the line.
    pub(super) delay_after_send: u32,
    reserved: [u32; 5],
}

impl Rs485Mode {
    pub(super) const ENABLED: u32 = 1 << 0;
    pub(super) const RTS_ON_SEND: u32 = 1 << 1;
    pub(super) const RTS_AFTER_SEND: u32 = 1 << 2;
    pub(super) const RX_DURING_TX: u32 = 1 << 4;

    /// Returns a mode.
    pub(super) fn new(flags: u32, delay_before_send: u32, delay_after_send: u32) -> Self {
        Self { flags, delay_before_send, delay_after_send, reserved: [0; 5] }
    }
}

// As the kernel's headers have them.
const _: () = assert!(size_of::<Rs485Mode>() == 32 && offset_of!(Rs485Mode, delay_after_send) == 8);
const _: () = assert!(size_of::<SerialInfo>() == if cfg!(target_pointer_width = "64") { 72 } else { 60 });
const _: () = assert!(offset_of!(SerialInfo, flags) == 16);

/// Makes the kernel refuse further opens of the port, but by root (tty_ioctl(4), `TIOCEXCL`), or allow them again.
pub(super) fn set_exclusive(port: impl AsFd, on: bool) -> io::Result<()> {
    let request = if on { libc::TIOCEXCL } else { libc::TIOCNXCL };
    // SAFETY: the descriptor is open while it is borrowed, and these two requests take no argument.
    check(unsafe { libc::ioctl(port.as_fd().as_raw_fd(), request) })
}

/// Returns the settings of the line.
pub(super) fn line(port: impl AsFd) -> io::Result<libc::termios2> {
    // SAFETY: `termios2` is integers, for which all zeroes is a value.
    let mut line: libc::termios2 = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open while it is borrowed; the call writes one `termios2` to the pointer, which is valid.
    check(unsafe { libc::ioctl(port.as_fd().as_raw_fd(), libc::TCGETS2, &raw mut line) })?;
    Ok(line)
}

/// Sets the line at once, without waiting for what is being sent.
pub(super) fn set_line(port: impl AsFd, line: &libc::termios2) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the call reads one `termios2` from the pointer, which is valid.
    check(unsafe { libc::ioctl(port.as_fd().as_raw_fd(), libc::TCSETS2, &raw const *line) })
}

/// Returns what the driver says of the port.
pub(super) fn serial_info(port: impl AsFd) -> io::Result<SerialInfo> {
    let mut info = SerialInfo::zeroed();
    // SAFETY: the descriptor is open while it is borrowed; the call writes one `serial_struct`, whose layout `SerialInfo`
    // has, to the pointer, which is valid.
    check(unsafe { libc::ioctl(port.as_fd().as_raw_fd(), libc::TIOCGSERIAL, &raw mut info) })?;
    Ok(info)
}

/// Sets what may be set of [`serial_info`]; drivers ignore what they do not know.
pub(super) fn set_serial_info(port: impl AsFd, info: &SerialInfo) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the call reads one `serial_struct`, whose layout `SerialInfo`
    // has, from the pointer, which is valid. The driver follows no pointer in it.
    check(unsafe { libc::ioctl(port.as_fd().as_raw_fd(), libc::TIOCSSERIAL, &raw const *info) })
}

/// Returns how the driver controls an RS-485 transceiver.
pub(super) fn rs485(port: impl AsFd) -> io::Result<Rs485Mode> {
    let mut mode = Rs485Mode::default();
    // SAFETY: the descriptor is open while it is borrowed; the call writes one `serial_rs485`, whose layout `Rs485Mode`
    // has, to the pointer, which is valid.
    check(unsafe { libc::ioctl(port.as_fd().as_raw_fd(), libc::TIOCGRS485, &raw mut mode) })?;
    Ok(mode)
}

/// Sets how the driver controls an RS-485 transceiver; drivers ignore what they cannot do.
pub(super) fn set_rs485(port: impl AsFd, mode: &Rs485Mode) -> io::Result<()> {
    // The kernel writes back what it made of the request.
    let mut mode = *mode;
    // SAFETY: the descriptor is open while it is borrowed; the call reads and writes one `serial_rs485`, whose layout
    // `Rs485Mode` has, at the pointer, which is valid.
    check(unsafe { libc::ioctl(port.as_fd().as_raw_fd(), libc::TIOCSRS485, &raw mut mode) })
}

/// Registers a file with the reactor.
///
/// # Panics
/// Outside a tokio runtime with I/O.
pub(super) fn register(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor, which is always the same one and open until the `AsyncFd` drops it.
    Ok(unsafe { AsyncFd::register(file) }?)
}

/// Sets an option of a socket that is a number, socket(7) and tcp(7).
pub(super) fn set_option(socket: impl AsFd, (level, name): (i32, i32), value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open while it is borrowed; the call reads one `c_int`, 4 bytes, from the pointer, which is valid.
    check(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, (&raw const value).cast(), 4) })
}

const _: () = assert!(size_of::<libc::c_int>() == 4, "the length in `set_option`");

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

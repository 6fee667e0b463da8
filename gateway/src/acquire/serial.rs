//! Modbus RTU: one serial port behind the guard against late replies.
//!
//! tokio-modbus checks the unit and the function of an answer, which an answer to an earlier request satisfies as well.
//! So each request waits until the line may be used ([`Quarantine`]), and until then everything heard is thrown away;
//! right before the request is sent, so is everything the kernel holds. After a request without a trustworthy answer the
//! client is built anew on the same open port, for its decoder would remember.
//!
//! Two things are out of any guard's reach, for the frames look right: an answer later than `late_reply`, and a second
//! copy of an answer already taken that comes after the silence between frames.
//!
//! The port is opened exclusively, off the reactor, and reopened by the same path when it goes away: a pulled USB adapter
//! reads as end of file or `EIO`.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
use ganglion_drivers::quarantine::{Quarantine, character_time, frame_gap};
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::UnitId;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_modbus::client::{Context, rtu};
use tokio_serial::{DataBits, FlowControl, SerialStream, StopBits};

use super::connection::{Connection, Transport};
use super::exchange::{Fault, exchange};
use super::guard::Port;
use crate::site::{Bus, Parity, SerialLink};

/// Bytes of a read request on the line: unit, function, address, count, CRC.
const REQUEST_BYTES: u32 = 8;

/// Returns the connection of a serial bus, its port not open yet.
pub(super) fn connection(bus: &Bus, link: &SerialLink) -> Connection<SerialTransport> {
    let (link, response_timeout, late_reply) = (link.clone(), bus.response_timeout, bus.late_reply);
    Connection::new(&bus.name, move || Box::pin(open(link.clone(), response_timeout, late_reply)))
}

async fn open(link: SerialLink, response_timeout: Duration, late_reply: Duration) -> io::Result<SerialTransport> {
    let reactor = tokio::runtime::Handle::current();
    let (baud, bits) = (link.speed.baud, link.speed.bits_per_character());
    let timing = Timing {
        gap: frame_gap(baud, bits),
        // The request only enters the kernel's buffer when it is written; the unit has it this much later.
        answer: response_timeout.saturating_add(character_time(baud, bits).saturating_mul(REQUEST_BYTES)),
        patience: response_timeout,
    };
    // Opening makes several ioctls that can stall on a broken adapter.
    let stream = spawn_blocking(move || {
        let _entered = reactor.enter();
        open_port(&link)
    })
    .await
    .map_err(io::Error::other)??;
    let start = Instant::now();
    let quarantine = Quarantine::new(Duration::ZERO, timing.gap, late_reply);
    Ok(SerialTransport { port: Port::new(stream), context: None, start, quarantine, timing })
}

fn open_port(link: &SerialLink) -> io::Result<SerialStream> {
    let builder = tokio_serial::new(link.path.to_string_lossy(), link.speed.baud)
        .data_bits(DataBits::Eight)
        .parity(match link.speed.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        })
        .stop_bits(if link.speed.stop_bits == 2 { StopBits::Two } else { StopBits::One })
        .flow_control(FlowControl::None)
        .exclusive(true);
    SerialStream::open(&builder).map_err(|error| open_error(&link.path, &error))
}

fn open_error(path: &Path, error: &tokio_serial::Error) -> io::Error {
    let path = path.display();
    match error.kind() {
        // What serialport makes of EBUSY (TIOCEXCL) and of a lock it cannot get.
        tokio_serial::ErrorKind::NoDevice => {
            io::Error::new(ErrorKind::ResourceBusy, format!("{path}: another process holds the port"))
        }
        tokio_serial::ErrorKind::Io(kind) => io::Error::new(kind, format!("{path}: {error}")),
        _ => io::Error::other(format!("{path}: {error}")),
    }
}

struct Timing {
    /// Silence between frames.
    gap: Duration,
    /// From the write of a request to the end of its answer.
    answer: Duration,
    /// How much longer than foreseen a request waits for a line that does not fall silent.
    patience: Duration,
}

/// An open port.
pub(super) struct SerialTransport {
    port: Port,
    context: Option<Context>,
    start: Instant,
    quarantine: Quarantine,
    timing: Timing,
}

impl Transport for SerialTransport {
    async fn ask(&mut self, unit: UnitId, request: &ReadRequest) -> Result<Vec<u16>, Fault> {
        if !self.fall_silent().await.map_err(Fault::Gone)? {
            return Err(Fault::Unusable(Reason::Malformed));
        }
        let context = self.context.get_or_insert_with(|| rtu::attach(self.port.stream()));
        let outcome = exchange(context, unit, request, self.timing.answer).await;
        let now = self.start.elapsed();
        match &outcome {
            Ok(_) | Err(Fault::Exception(_)) => self.quarantine.answered(now),
            Err(_) => {
                self.quarantine.distrust(now);
                self.context = None;
            }
        }
        outcome
    }
}

impl SerialTransport {
    /// Waits until the line may be used and throws away what is heard until then. Returns false if the line does not
    /// fall silent: somebody talks without being asked.
    ///
    /// # Errors
    /// The port is gone.
    async fn fall_silent(&mut self) -> io::Result<bool> {
        let give_up = self.quarantine.usable_at().max(self.start.elapsed()).saturating_add(self.timing.patience);
        loop {
            // The time before the discard: this task may be held up at any point, and what came in meanwhile was heard
            // before the line may be used, whatever the time is now.
            let looked = self.start.elapsed();
            if self.port.discard()? {
                self.quarantine.heard(self.start.elapsed());
            }
            let usable = self.quarantine.usable_at();
            if usable <= looked {
                return Ok(true);
            }
            if usable > give_up {
                return Ok(false);
            }
            if self.port.listen(self.start + usable).await? {
                self.quarantine.heard(self.start.elapsed());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_held_by_another_process_is_named() {
        let busy = tokio_serial::Error::new(tokio_serial::ErrorKind::NoDevice, "Device or resource busy");
        let error = open_error(Path::new("/dev/ttyUSB0"), &busy);
        assert_eq!(error.to_string(), "/dev/ttyUSB0: another process holds the port");
    }
}

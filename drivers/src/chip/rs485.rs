//! Direction of an RS-485 transceiver: a pin that enables its driver, high while the node sends.
//!
//! ```text
//! Listening --request_to_send--> Rising --before--> Sending --last_bit_sent--> Falling --after--> Listening
//! ```
//!
//! The driver must be on before the first start bit and until the last stop bit is out, and off before another speaks, on
//! Modbus 3.5 characters later (Modbus over Serial Line V1.02 §2.5.1.1).

use core::time::Duration;

use embedded_hal::digital::OutputPin;

/// The direction of one transceiver. Times are durations since any one start, the same for every call.
#[derive(Debug)]
pub struct Direction<P> {
    enable: P,
    before: Duration,
    after: Duration,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Listening,
    Rising { ready: Duration },
    Sending,
    Falling { over: Duration },
}

impl<P: OutputPin> Direction<P> {
    /// Takes the pin and listens. The line is driven idle for `before` the first byte, which gives the receivers a clean
    /// start bit, and for `after` the last one.
    ///
    /// # Errors
    /// The pin's own.
    pub fn new(mut enable: P, before: Duration, after: Duration) -> Result<Self, P::Error> {
        enable.set_low()?;
        Ok(Self { enable, before, after, state: State::Listening })
    }

    /// Turns the driver on and returns when the first byte may go. While it sends already, that is `now`.
    ///
    /// # Errors
    /// The pin's own.
    pub fn request_to_send(&mut self, now: Duration) -> Result<Duration, P::Error> {
        match self.state {
            State::Rising { ready } => return Ok(ready.max(now)),
            State::Sending => return Ok(now),
            // The line is driven already.
            State::Falling { .. } => {
                self.state = State::Sending;
                return Ok(now);
            }
            State::Listening => {}
        }
        self.enable.set_high()?;
        let ready = now.saturating_add(self.before);
        self.state = State::Rising { ready };
        Ok(ready)
    }

    /// Says whether bytes may go now.
    pub fn may_send(&mut self, now: Duration) -> bool {
        if matches!(self.state, State::Rising { ready } if now >= ready) {
            self.state = State::Sending;
        }
        self.state == State::Sending
    }

    /// Takes note that the last stop bit is out: the UART's "transmission complete", not "register empty". While it listens
    /// that says nothing.
    pub fn last_bit_sent(&mut self, now: Duration) {
        if matches!(self.state, State::Rising { .. } | State::Sending) {
            self.state = State::Falling { over: now.saturating_add(self.after) };
        }
    }

    /// Turns the driver off when it is time, and returns when to come again for that.
    ///
    /// # Errors
    /// The pin's own; it is tried again at the next call.
    pub fn poll(&mut self, now: Duration) -> Result<Option<Duration>, P::Error> {
        match self.state {
            State::Falling { over } if now < over => Ok(Some(over)),
            State::Falling { .. } => {
                self.enable.set_low()?;
                self.state = State::Listening;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Says whether the driver is off: what comes in is not the node's own echo.
    pub fn is_listening(&self) -> bool {
        self.state == State::Listening
    }
}

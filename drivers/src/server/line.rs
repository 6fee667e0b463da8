//! What the server knows of its line: counters, event log, listen only mode.

use ganglion_protocols::modbus::ExceptionCode;
use heapless::Deque;

use super::burst::Damage;

/// Most events of the log, Application Protocol V1.1b3 §6.10.
const EVENTS: usize = 64;

/// Counters of the line since power-up, restart or clearing. They wrap around, so a client takes differences.
///
/// Source: Application Protocol V1.1b3 §6.8.1, §6.9; MODBUS over Serial Line V1.02 appendix A, which says what counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Sub-function 0x0B: frames with a right CRC, whoever they are for.
    pub bus_messages: u16,
    /// 0x0C: wrong CRCs, damaged characters, bursts too short or too long.
    pub communication_errors: u16,
    /// 0x0D: requests refused, also where the exception was not sent because it was a broadcast.
    pub exceptions: u16,
    /// 0x0E: requests to this unit or to all that were processed.
    pub messages: u16,
    /// 0x0F: requests to this unit or to all that were not answered.
    pub no_responses: u16,
    /// 0x10: negative acknowledgements, exception 07.
    pub naks: u16,
    /// 0x11: requests refused as busy, exception 06.
    pub busies: u16,
    /// 0x12: bursts of which characters were lost.
    pub overruns: u16,
    /// Function 0x0B: requests done, without exceptions and without those for this counter.
    pub events: u16,
}

impl Counters {
    /// Returns the counter that a sub-function of the diagnostics reads.
    pub(super) const fn by_sub_function(&self, sub_function: u16) -> Option<u16> {
        Some(match sub_function {
            0x0B => self.bus_messages,
            0x0C => self.communication_errors,
            0x0D => self.exceptions,
            0x0E => self.messages,
            0x0F => self.no_responses,
            0x10 => self.naks,
            0x11 => self.busies,
            0x12 => self.overruns,
            _ => return None,
        })
    }
}

/// State of the line.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) counters: Counters,
    /// Nothing is done or answered but a restart, §6.8.1 sub-function 4.
    pub(super) listen_only: bool,
    /// The latest first.
    events: Deque<u8, EVENTS>,
}

impl Line {
    /// A frame came, for whomever.
    pub(super) fn heard(&mut self) {
        add(&mut self.counters.bus_messages);
    }

    /// What was heard cannot be read.
    pub(super) fn damaged(&mut self, damage: Damage) {
        add(&mut self.counters.communication_errors);
        if damage == Damage::Overrun {
            add(&mut self.counters.overruns);
        }
        // §6.10, receive event: bit 1 communication error, bit 4 character overrun.
        self.log(0x80 | if damage == Damage::Overrun { 0x12 } else { 0x02 } | self.listening());
    }

    /// A request came; logged before it is processed, §6.10.
    pub(super) fn asked(&mut self, broadcast: bool) {
        self.log(0x80 | if broadcast { 0x40 } else { 0x00 } | self.listening());
    }

    /// A request was neither done nor answered.
    pub(super) fn ignored(&mut self) {
        add(&mut self.counters.no_responses);
        self.log(0x40 | self.listening());
    }

    /// A request was done or refused; `sent`: and answered.
    pub(super) fn processed(&mut self, counted: bool, refusal: Option<ExceptionCode>, sent: bool) {
        add(&mut self.counters.messages);
        match refusal {
            Some(code) => {
                add(&mut self.counters.exceptions);
                match code.code() {
                    0x06 => add(&mut self.counters.busies),
                    0x07 => add(&mut self.counters.naks),
                    _ => {}
                }
            }
            None if counted => add(&mut self.counters.events),
            None => {}
        }
        if !sent {
            add(&mut self.counters.no_responses);
        }
        // §6.10, send event: it tells of exceptions that were sent.
        let exception = match refusal.filter(|_| sent).map(ExceptionCode::code) {
            None => 0x00,
            Some(1..=3) => 0x01,
            Some(5 | 6) => 0x04,
            Some(7) => 0x08,
            Some(_) => 0x02,
        };
        self.log(0x40 | exception | self.listening());
    }

    /// From now on only a restart is heeded.
    pub(super) fn fall_silent(&mut self) {
        self.listen_only = true;
        self.log(0x04);
    }

    /// Restarts: counters 0, listen only mode left; the log is kept or not.
    pub(super) fn restart(&mut self, clear_log: bool) {
        self.counters = Counters::default();
        self.listen_only = false;
        if clear_log {
            self.events.clear();
        }
        self.log(0x00);
    }

    /// Returns the log, the latest event first.
    pub(super) fn events(&self) -> impl ExactSizeIterator<Item = &u8> {
        self.events.iter()
    }

    const fn listening(&self) -> u8 {
        if self.listen_only { 0x20 } else { 0x00 }
    }

    fn log(&mut self, event: u8) {
        while self.events.push_front(event).is_err() {
            self.events.pop_back();
        }
    }
}

const fn add(counter: &mut u16) {
    *counter = counter.wrapping_add(1);
}

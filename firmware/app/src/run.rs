//! The loop that joins a node and its board.

use core::time::Duration;

use ganglion_protocols::node_link::{NodeReading, ResetCause, SensorFault, Version};
use ganglion_protocols::node_settings::NodeLine;

use crate::board::{Copies, Memory};
use crate::firmware::Firmware;
use crate::node::Node;
use crate::sensor::{ChannelSpec, Sensor};
use crate::settings::SettingsKeeper;
use crate::state::{Identity, Wish};
use crate::store::{StoreError, Stored};
use crate::text::{Text, reset_name};

/// What the loop needs of a board. Interrupts move bytes and count ticks; everything here returns at once but for
/// [`sleep`](Board::sleep).
pub trait Board {
    /// Name of the board, as in the node's hello and in the header of its firmware.
    const NAME: &'static str;
    /// Whether its memory outlives a loss of power.
    const PERSISTENT: bool;
    /// What it measures, at most [`MAX_SENSORS`](ganglion_protocols::node_settings::MAX_SENSORS).
    const SENSORS: &'static [Sensor];
    /// What its samples say, at most [`MAX_CHANNELS`](crate::MAX_CHANNELS).
    const CHANNELS: &'static [ChannelSpec];

    /// Returns the number of the chip, 0 where it has none. Asked only of a node that was given no number.
    fn serial(&mut self) -> u64;

    /// Returns why it started, and the line of the panic where that was it.
    fn reset_cause(&mut self) -> (ResetCause, u32);

    /// Returns the time since the start.
    fn uptime(&mut self) -> Duration;

    /// Opens the line.
    fn open_line(&mut self, line: NodeLine);

    /// Takes bytes that were heard, as many as there are or as `out` has room for; returns their count. What was heard while
    /// the node spoke is not among them.
    fn hear(&mut self, out: &mut [u8]) -> usize;

    /// Begins to send a frame and returns at once.
    fn say(&mut self, frame: &[u8]);

    /// Says whether the last frame is still being sent.
    fn speaking(&mut self) -> bool;

    /// Measures one sensor. In a few milliseconds, or it gives the latest number that it has.
    ///
    /// # Errors
    /// Why there is none.
    fn measure(&mut self, sensor: usize) -> Result<i32, SensorFault>;

    /// Lets a person find the node, or no longer.
    fn show(&mut self, identify: bool);

    /// Writes a line for a person at the board, without waiting for it: what does not fit is lost.
    fn log(&mut self, line: &str);

    /// Tells the watchdog that the loop turns.
    fn feed_watchdog(&mut self);

    /// Starts anew; [`reset_cause`](Board::reset_cause) then says that it was an order.
    fn reset(&mut self) -> !;

    /// Waits for an interrupt, or until that time has come.
    fn sleep(&mut self, until: Duration);
}

/// Longest wait without feeding the watchdog.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// Runs the node for ever.
pub fn run<B: Board>(
    board: &mut B,
    firmware: Version,
    memory: impl Memory,
    mut copies: impl Copies,
    updates: impl Firmware,
) -> ! {
    let (reset, reset_detail) = board.reset_cause();
    let given = SettingsKeeper::load(&mut copies).get().serial;
    let identity = Identity {
        board: B::NAME,
        serial: if given == 0 { board.serial() } else { given },
        firmware,
        reset,
        reset_detail,
        persistent: B::PERSISTENT,
        sensors: B::SENSORS,
        channels: B::CHANNELS,
    };
    let now = board.uptime();
    let mut node = match Node::new(identity, memory, copies, updates, now) {
        Ok(node) => node,
        Err(error) => stopped(board, error),
    };
    let settings = *node.settings();
    board.open_line(settings.line);
    let mut hello = Line::new();
    hello.put("node").word(B::NAME).word("firmware ").version(firmware).word("unit").number(settings.unit);
    hello.word("boot").number(node.boot()).word("reset").word(reset_name(reset)).number(reset_detail);
    board.log(hello.as_str());
    let mut heard = [0; 64];
    let mut epoch = 0;
    loop {
        let now = board.uptime();
        loop {
            let count = board.hear(&mut heard);
            let bytes = heard.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            node.hear(now, bytes);
        }
        match node.sample(now, |sensor| board.measure(sensor)) {
            Some(Ok(stored)) => board.log(sample_line(epoch, stored).as_str()),
            Some(Err(error)) => board.log(store_line("sample not kept", error).as_str()),
            None => {}
        }
        if !board.speaking() {
            if let Some(frame) = node.poll(now) {
                board.say(frame);
            } else if let Some(Wish::Reset) = node.wish() {
                board.log("reset by order");
                board.reset();
            }
        }
        if node.epoch() != epoch {
            epoch = node.epoch();
            board.log(Line::new().put("epoch").number(epoch).as_str());
        }
        board.show(node.identifies(now));
        board.feed_watchdog();
        let wake = if board.speaking() { now } else { node.wake() };
        board.sleep(wake.min(now.saturating_add(LONGEST_SLEEP)).max(now.saturating_add(SHORTEST_SLEEP)));
    }
}

/// Shortest wait: an interrupt ends it anyway, and a tick of the clock is one.
const SHORTEST_SLEEP: Duration = Duration::from_micros(1);

/// A node without a memory has nothing to do but to say so; the watchdog ends it.
fn stopped(board: &mut impl Board, error: StoreError) -> ! {
    loop {
        board.log(store_line("no store", error).as_str());
        let until = board.uptime().saturating_add(LONGEST_SLEEP);
        board.sleep(until);
    }
}

/// A line of the log: a sample of as many channels as there can be.
type Line = Text<160>;

/// What is logged of a sample: `sample EPOCH SEQ BOOT UPTIME_MS VALUE…`, a fault as `!CODE`.
fn sample_line(epoch: u32, stored: &Stored) -> Line {
    let mut line = Line::new();
    line.put("sample").number(epoch).number(stored.seq).number(stored.boot).number(stored.at_ms);
    for reading in &stored.readings {
        match reading {
            NodeReading::Value(value) => line.signed(*value),
            NodeReading::Fault(fault) => line.word("!").glued(fault.code()),
        };
    }
    line
}

fn store_line(what: &str, error: StoreError) -> Line {
    let mut line = Line::new();
    match error {
        StoreError::TooSmall(size) => line.put(what).word("memory too small").number(size as u64),
        StoreError::Memory(error) => line.put(what).word("memory fails at").number(error.at as u64),
        StoreError::Exhausted => line.put(what).word("numbers used up"),
    };
    line
}

//! What both faces work on.

use core::time::Duration;

use ganglion_protocols::node_link::{Answer, FirmwareAsk, Refusal, ResetCause, SchemaHash, Version};
use ganglion_protocols::node_settings::NodeSettings;

use crate::board::{Copies, Memory, MemoryError, Part};
use crate::fault_log::{Fault, FaultLog};
use crate::sampling::{Sampler, Taken};
use crate::sensor::{ChannelSpec, Sensor};
use crate::settings::SettingsKeeper;
use crate::store::{Store, StoreError, Stored};

/// Bytes of the memory that are the fault log's, at its begin; the rest is the samples'.
pub const FAULT_LOG_BYTES: usize = 21 * 12;

/// Who a node is: what the board and the build say.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Name of the board.
    pub board: &'static str,
    /// Number of the chip.
    pub serial: u64,
    /// Version of the firmware.
    pub firmware: Version,
    /// Why it started.
    pub reset: ResetCause,
    /// More of why: the line of a panic.
    pub reset_detail: u32,
    /// The memory of samples outlives a loss of power.
    pub persistent: bool,
    /// What it measures.
    pub sensors: &'static [Sensor],
    /// What its samples say.
    pub channels: &'static [ChannelSpec],
}

/// Something that only the board can do, after the answer has gone out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Start anew.
    Reset,
}

/// The node's memory, and whose which part is.
#[derive(Debug)]
pub(crate) struct Memories<M>(pub(crate) M);

impl<M: Memory> Memories<M> {
    pub(crate) fn faults(&mut self) -> Part<'_, M> {
        Part::new(&mut self.0, 0, FAULT_LOG_BYTES)
    }

    pub(crate) fn samples(&mut self) -> Part<'_, M> {
        Part::new(&mut self.0, FAULT_LOG_BYTES, usize::MAX)
    }
}

/// The node without its faces.
#[derive(Debug)]
pub(crate) struct State<M, C> {
    pub(crate) identity: Identity,
    /// The address since the start.
    pub(crate) unit: u8,
    pub(crate) memory: Memories<M>,
    copies: C,
    keeper: SettingsKeeper,
    pub(crate) store: Store,
    pub(crate) faults: FaultLog,
    pub(crate) sampler: Sampler,
    /// The sample that a Modbus client reads.
    pub(crate) latest: Option<Stored>,
    /// The number of the latest sample with which an alarm began.
    alarm: Option<u32>,
    /// Sensors that failed when they were last measured, bit 0 the first.
    failing: u16,
    pub(crate) identify_until: Duration,
    pub(crate) wish: Option<Wish>,
}

impl<M: Memory, C: Copies> State<M, C> {
    pub(crate) fn new(identity: Identity, memory: M, mut copies: C, now: Duration) -> Result<Self, StoreError> {
        let keeper = SettingsKeeper::load(&mut copies);
        let mut memory = Memories(memory);
        let mut faults = FaultLog::open(&mut memory.faults());
        let schema = schema(&identity);
        // RAM that was without power may hold some of its bytes: the numbers in them say nothing.
        let resumed = identity.persistent || !matches!(identity.reset, ResetCause::Power | ResetCause::BrownOut);
        let store = Store::open(&mut memory.samples(), schema, identity.channels.len(), resumed)?;
        let last = store.last_readings(&mut memory.samples());
        let sampler = Sampler::new(identity.sensors, identity.channels, &last, now, keeper.get());
        let latest = store.read(&mut memory.samples(), store.last());
        let mut noted = faults.note(&mut memory.faults(), store.boot(), 0, Fault::Started, identity.reset as u32);
        if identity.reset == ResetCause::Fault {
            noted = faults.note(&mut memory.faults(), store.boot(), 0, Fault::Panic, identity.reset_detail);
        }
        if keeper.damaged() {
            noted = faults.note(&mut memory.faults(), store.boot(), 0, Fault::Settings, 0);
        }
        // A memory that takes no entry takes no samples either, and those are told.
        let _told_by_the_samples = noted;
        Ok(Self {
            identity,
            unit: keeper.get().unit,
            memory,
            copies,
            keeper,
            store,
            faults,
            sampler,
            latest,
            alarm: None,
            failing: 0,
            identify_until: Duration::ZERO,
            wish: None,
        })
    }

    pub(crate) fn settings(&self) -> &NodeSettings {
        self.keeper.get()
    }

    /// Says whether settings were there that nobody could read.
    pub(crate) fn settings_damaged(&self) -> bool {
        self.keeper.damaged()
    }

    /// Returns the hash of what the channels are.
    pub(crate) fn schema(&self) -> SchemaHash {
        schema(&self.identity)
    }

    /// Lets settings hold that are within their ranges.
    pub(crate) fn set(&mut self, settings: NodeSettings, now: Duration) -> Result<(), MemoryError> {
        let before = *self.settings();
        if settings == before {
            return Ok(());
        }
        self.keeper.set(&mut self.copies, settings)?;
        let periods = |settings: &NodeSettings| (settings.sample_period_s, settings.measure_period_ms);
        if periods(&before) != periods(&settings) {
            self.sampler.reschedule(now, &settings);
        }
        Ok(())
    }

    /// Keeps a sample; returns its number.
    pub(crate) fn keep(&mut self, taken: &Taken) -> Result<u32, StoreError> {
        let pushed = self.store.push(&mut self.memory.samples(), taken);
        match pushed {
            Ok(seq) => {
                if taken.alarm {
                    self.alarm = Some(seq);
                }
                self.latest = self.store.read(&mut self.memory.samples(), seq);
            }
            Err(error) => {
                let place = if let StoreError::Memory(error) = error { error.at } else { 0 };
                self.note(taken.at, Fault::Memory, u32::try_from(place).unwrap_or(u32::MAX));
            }
        }
        pushed
    }

    /// Notes that a sensor fails, when it begins to.
    pub(crate) fn sensor_said(&mut self, now: Duration, sensor: usize, fault: Option<u8>) {
        let bit = u32::try_from(sensor).ok().and_then(|sensor| 1_u16.checked_shl(sensor)).unwrap_or_default();
        match fault {
            None => self.failing &= !bit,
            Some(code) if self.failing & bit == 0 => {
                self.failing |= bit;
                let sensor = u32::try_from(sensor).unwrap_or(u32::MAX);
                self.note(now, Fault::Sensor, sensor.saturating_mul(256).saturating_add(u32::from(code)));
            }
            Some(_) => {}
        }
    }

    /// Writes an entry of the fault log. Where the memory does not take it there is nobody else to tell.
    pub(crate) fn note(&mut self, now: Duration, fault: Fault, detail: u32) {
        let uptime = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let boot = self.store.boot();
        let _nobody_to_tell = self.faults.note(&mut self.memory.faults(), boot, uptime, fault, detail);
    }

    /// Returns true while a sample waits with which an alarm began.
    pub(crate) fn alarm_waits(&self) -> bool {
        self.alarm.is_some()
    }

    /// Looks after an acknowledgement whether the alarm is told.
    pub(crate) fn acknowledged(&mut self) {
        let acked = self.store.last().saturating_sub(self.store.waiting());
        self.alarm = self.alarm.filter(|seq| *seq > acked);
    }

    /// Answers about firmware.
    pub(crate) fn firmware(&mut self, _ask: &FirmwareAsk<'_>) -> Answer<'static> {
        Answer::Refused(Refusal::Unable)
    }
}

fn schema(identity: &Identity) -> SchemaHash {
    let describe = |(index, channel): (usize, &ChannelSpec)| {
        channel.describe(u8::try_from(index).unwrap_or(u8::MAX), identity.sensors, 0)
    };
    SchemaHash::of(identity.channels.iter().enumerate().map(describe))
}

//! Simulated Modbus servers: register maps as data, and what a request for them is answered.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::day::{Quantity, Tick};
use super::faults::Faults;

/// A primary table of the Modbus data model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Table {
    /// Coils.
    Coil,
    /// Discrete inputs.
    DiscreteInput,
    /// Input registers.
    Input,
    /// Holding registers.
    Holding,
}

/// How a number lies in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One register, unsigned.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers, unsigned, low word first.
    U32Cdab,
    /// Two registers, IEEE 754, high word first.
    F32Abcd,
    /// Two registers, IEEE 754, low word first.
    F32Cdab,
}

/// One value of a register map.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cell {
    /// The table.
    pub table: Table,
    /// The first register, from 0 as on the wire.
    pub address: u16,
    /// How it lies there.
    pub form: Form,
    /// What is measured.
    pub quantity: Quantity,
    /// Counts per unit of the quantity: 1000 for "0.001 MPa". Floats have 1.
    pub counts_per_unit: f64,
    /// The property's name in the code directory, with its channel.
    pub property: &'static str,
}

/// A kind of device: its register map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// Pipe-pressure node: input registers.
    PressureTransmitter,
    /// Ultrasonic flow meter: holding registers, floats with the low word first.
    FlowMeter,
    /// Water-level gauge: input registers, a float with the high word first.
    WaterLevelGauge,
    /// Loop-detector controller of four lanes: ten holding registers a lane.
    LoopDetector,
    /// Registers of which each names the second it was read in; all four tables hold the same.
    Bench {
        /// How many registers a table has.
        registers: u16,
    },
}

const fn cell(
    (table, address): (Table, u16),
    form: Form,
    quantity: Quantity,
    counts_per_unit: f64,
    property: &'static str,
) -> Cell {
    Cell { table, address, form, quantity, counts_per_unit, property }
}

const PRESSURE_TRANSMITTER: &[Cell] = &[
    cell((Table::Input, 0), Form::U16, Quantity::Pressure, 1000.0, "pressure"),
    cell((Table::Input, 1), Form::I16, Quantity::WaterTemperature, 10.0, "temperature"),
    cell((Table::Input, 2), Form::U16, Quantity::Battery, 100.0, "battery_voltage"),
];

const FLOW_METER: &[Cell] = &[
    cell((Table::Holding, 0), Form::F32Cdab, Quantity::Flow, 1.0, "flow"),
    cell((Table::Holding, 2), Form::F32Cdab, Quantity::Velocity, 1.0, "velocity"),
    cell((Table::Holding, 4), Form::U32Cdab, Quantity::TotalVolume, 1.0, "total_volume"),
    cell((Table::Holding, 6), Form::U16, Quantity::Status, 1.0, "status"),
];

const WATER_LEVEL_GAUGE: &[Cell] = &[
    cell((Table::Input, 0), Form::F32Abcd, Quantity::Level, 1.0, "level"),
    cell((Table::Input, 2), Form::I16, Quantity::WaterTemperature, 10.0, "temperature"),
];

const LOOP_DETECTOR: &[Cell] = &[
    cell((Table::Holding, 0), Form::U16, Quantity::VehicleCount { lane: 0 }, 1.0, "vehicle_count.1"),
    cell((Table::Holding, 2), Form::U16, Quantity::Occupancy { lane: 0 }, 10.0, "occupancy.1"),
    cell((Table::Holding, 3), Form::U16, Quantity::Speed { lane: 0 }, 10.0, "speed.1"),
    cell((Table::Holding, 10), Form::U16, Quantity::VehicleCount { lane: 1 }, 1.0, "vehicle_count.2"),
    cell((Table::Holding, 12), Form::U16, Quantity::Occupancy { lane: 1 }, 10.0, "occupancy.2"),
    cell((Table::Holding, 13), Form::U16, Quantity::Speed { lane: 1 }, 10.0, "speed.2"),
    cell((Table::Holding, 20), Form::U16, Quantity::VehicleCount { lane: 2 }, 1.0, "vehicle_count.3"),
    cell((Table::Holding, 22), Form::U16, Quantity::Occupancy { lane: 2 }, 10.0, "occupancy.3"),
    cell((Table::Holding, 23), Form::U16, Quantity::Speed { lane: 2 }, 10.0, "speed.3"),
    cell((Table::Holding, 30), Form::U16, Quantity::VehicleCount { lane: 3 }, 1.0, "vehicle_count.4"),
    cell((Table::Holding, 32), Form::U16, Quantity::Occupancy { lane: 3 }, 10.0, "occupancy.4"),
    cell((Table::Holding, 33), Form::U16, Quantity::Speed { lane: 3 }, 10.0, "speed.4"),
];

impl Model {
    /// Returns the register map; a bench unit has none, its registers are numbers without meaning.
    #[must_use]
    pub const fn cells(self) -> &'static [Cell] {
        match self {
            Self::PressureTransmitter => PRESSURE_TRANSMITTER,
            Self::FlowMeter => FLOW_METER,
            Self::WaterLevelGauge => WATER_LEVEL_GAUGE,
            Self::LoopDetector => LOOP_DETECTOR,
            Self::Bench { .. } => &[],
        }
    }

    /// Returns one register at a time, or `None` where the device has none. A gap between two values of the map reads 0,
    /// as in most devices.
    #[must_use]
    pub fn register(self, seed: u64, table: Table, address: u16, tick: Tick) -> Option<u16> {
        if let Self::Bench { registers } = self {
            let word = named_second(address, tick);
            let bits = matches!(table, Table::Coil | Table::DiscreteInput);
            return (address < registers).then_some(if bits { word & 1 } else { word });
        }
        let inside = |cell: &&Cell| cell.table == table && address < cell.address + cell.form.registers();
        let cell = self.cells().iter().find(inside)?;
        match address.checked_sub(cell.address) {
            Some(place) => cell.registers(seed, tick).get(usize::from(place)).copied(),
            None => Some(0),
        }
    }

    /// Says whether a property had this value at some tick of `since..=until`, as precisely as its registers can say it;
    /// `None` when the model has no such property.
    #[must_use]
    pub fn ever_had(self, seed: u64, property: &str, value: f64, since: Tick, until: Tick) -> Option<bool> {
        let cell = self.cells().iter().find(|cell| cell.property == property)?;
        let near = |truth: f64| (truth - value).abs() <= truth.abs() * 1e-6 + 1e-9;
        Some((since.0..=until.0).any(|tick| near(cell.shown(seed, Tick(tick)))))
    }
}

/// Returns what register `address` of a bench unit holds: the low sixteen bits of second + address.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the low sixteen bits are what is wanted")]
pub fn named_second(address: u16, tick: Tick) -> u16 {
    (tick.unix_second() as u16).wrapping_add(address)
}

impl Form {
    const fn registers(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32Cdab | Self::F32Abcd | Self::F32Cdab => 2,
        }
    }
}

impl Cell {
    /// Returns the registers at a time.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "a counter shows its low bits, a word is half of two")]
    #[allow(clippy::cast_sign_loss, reason = "two's complement is what the register shows")]
    pub fn registers(&self, seed: u64, tick: Tick) -> Vec<u16> {
        let counts = self.quantity.at(seed, tick) * self.counts_per_unit;
        let bits = match self.form {
            Form::U16 | Form::I16 => return vec![counts.round() as i64 as u16],
            Form::U32Cdab => counts.round() as i64 as u32,
            Form::F32Abcd | Form::F32Cdab => (counts as f32).to_bits(),
        };
        let (high, low) = ((bits >> 16) as u16, bits as u16);
        if self.form == Form::F32Abcd { vec![high, low] } else { vec![low, high] }
    }

    /// Returns the value that the registers show at a time, in the quantity's unit.
    #[must_use]
    pub fn shown(&self, seed: u64, tick: Tick) -> f64 {
        let words = self.registers(seed, tick);
        let word = |place: usize| u32::from(words.get(place).copied().unwrap_or_default());
        let number = match self.form {
            Form::U16 => f64::from(word(0)),
            Form::I16 => f64::from(words.first().copied().unwrap_or_default().cast_signed()),
            Form::U32Cdab => f64::from(word(1) << 16 | word(0)),
            Form::F32Abcd => f64::from(f32::from_bits(word(0) << 16 | word(1))),
            Form::F32Cdab => f64::from(f32::from_bits(word(1) << 16 | word(0))),
        };
        number / self.counts_per_unit
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PressureTransmitter => f.write_str("pressure-transmitter"),
            Self::FlowMeter => f.write_str("flow-meter"),
            Self::WaterLevelGauge => f.write_str("water-level-gauge"),
            Self::LoopDetector => f.write_str("loop-detector"),
            Self::Bench { registers } => write!(f, "bench-{registers}"),
        }
    }
}

impl FromStr for Model {
    type Err = String;

    /// Takes a template's name, or `bench-1000` for a bench unit of 1000 registers.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pressure-transmitter" => Ok(Self::PressureTransmitter),
            "flow-meter" => Ok(Self::FlowMeter),
            "water-level-gauge" => Ok(Self::WaterLevelGauge),
            "loop-detector" => Ok(Self::LoopDetector),
            _ => match text.strip_prefix("bench-").map(str::parse) {
                Some(Ok(registers)) => Ok(Self::Bench { registers }),
                _ => Err(format!("{text:?} is no model")),
            },
        }
    }
}

/// One simulated server on a bus.
#[derive(Debug)]
pub struct Unit {
    /// Its address.
    pub id: u8,
    /// What it is.
    pub model: Model,
    /// Which course its values take.
    pub seed: u64,
    /// What goes wrong with its answers.
    pub faults: Faults,
    /// What clients wrote; it hides the model's own values.
    written: Mutex<BTreeMap<(Table, u16), u16>>,
}

impl Unit {
    /// Makes a unit without faults.
    #[must_use]
    pub fn new(id: u8, model: Model, seed: u64) -> Arc<Self> {
        let faults = Faults::new(seed ^ u64::from(id));
        Arc::new(Self { id, model, seed, faults, written: Mutex::default() })
    }

    /// Returns `count` items of a table at a time, or `None` when one of them does not exist.
    #[must_use]
    pub fn read(&self, table: Table, address: u16, count: u16, tick: Tick) -> Option<Vec<u16>> {
        let end = address.checked_add(count.checked_sub(1)?)?;
        let written = self.written();
        let item = |address: u16| match written.get(&(table, address)) {
            Some(&value) => Some(value),
            None => self.model.register(self.seed, table, address, tick),
        };
        (address..=end).map(item).collect()
    }

    /// Writes items of a table: coils and holding registers of any address are taken.
    pub(super) fn write(&self, table: Table, address: u16, values: impl IntoIterator<Item = u16>) {
        let mut written = self.written();
        for (address, value) in (address..=u16::MAX).zip(values) {
            written.insert((table, address), value);
        }
    }

    fn written(&self) -> MutexGuard<'_, BTreeMap<(Table, u16), u16>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Tick = Tick(17_953_200_000);

    #[test]
    fn registers_show_the_value_as_precisely_as_their_form_allows() {
        for model in [Model::PressureTransmitter, Model::FlowMeter, Model::WaterLevelGauge] {
            for cell in model.cells() {
                let (truth, shown) = (cell.quantity.at(3, TICK), cell.shown(3, TICK));
                let step = if matches!(cell.form, Form::F32Abcd | Form::F32Cdab) { truth.abs() * 1e-7 } else { 0.5 };
                assert!((truth - shown).abs() <= step / cell.counts_per_unit + 1e-12, "{cell:?}: {truth} {shown}");
            }
        }
    }

    #[test]
    fn word_orders_are_those_of_the_map() {
        let unit = Unit::new(2, Model::FlowMeter, 3);
        let words = unit.read(Table::Holding, 0, 6, TICK).expect("six registers");
        let float = |high: u16, low: u16| f64::from(f32::from_bits(u32::from(high) << 16 | u32::from(low)));
        assert!((float(words[1], words[0]) - Quantity::Flow.at(3, TICK)).abs() < 1e-4);
        assert!((float(words[3], words[2]) - Quantity::Velocity.at(3, TICK)).abs() < 1e-6);
        let total = f64::from(u32::from(words[5]) << 16 | u32::from(words[4]));
        assert!((total - Quantity::TotalVolume.at(3, TICK)).abs() <= 0.5);
    }

    #[test]
    fn a_register_outside_the_map_does_not_exist_and_a_gap_inside_reads_zero() {
        let unit = Unit::new(1, Model::LoopDetector, 3);
        assert_eq!(unit.read(Table::Holding, 1, 1, TICK), Some(vec![0]));
        assert!(unit.read(Table::Holding, 0, 34, TICK).is_some());
        assert_eq!(unit.read(Table::Holding, 0, 35, TICK), None);
        assert_eq!(unit.read(Table::Input, 0, 1, TICK), None);
        assert_eq!(unit.read(Table::Holding, u16::MAX, 2, TICK), None);
    }

    #[test]
    fn a_bench_register_names_its_second() {
        let unit = Unit::new(1, Model::Bench { registers: 1000 }, 3);
        let words = unit.read(Table::Holding, 0, 1000, TICK).expect("a thousand registers");
        assert!(words.iter().zip(0_u64..).all(|(&word, i)| u64::from(word) == (1_795_320_000 + i) % 65_536));
    }

    #[test]
    fn a_checker_accepts_what_was_shown_in_the_window_and_nothing_else() {
        let model = Model::PressureTransmitter;
        let shown = model.cells()[0].shown(3, TICK);
        let ever = |value| model.ever_had(3, "pressure", value, Tick(TICK.0 - 20), TICK);
        assert_eq!(ever(shown), Some(true));
        assert_eq!(ever(shown + 0.1), Some(false));
        assert_eq!(model.ever_had(3, "colour", 1.0, TICK, TICK), None);
    }

    #[test]
    fn every_model_is_found_by_its_name() {
        let models = [
            Model::PressureTransmitter,
            Model::FlowMeter,
            Model::WaterLevelGauge,
            Model::LoopDetector,
            Model::Bench { registers: 250 },
        ];
        for model in models {
            assert_eq!(model.to_string().parse(), Ok(model));
        }
        assert!("bench-x".parse::<Model>().is_err());
    }
}

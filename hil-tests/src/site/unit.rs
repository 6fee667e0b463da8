//! Simulated Modbus servers: register maps as data, and what a request for them is answered.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::day::{Quantity, Tick};
use super::defects::Defects;
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
    /// One coil or discrete input.
    Bit,
    /// One register, unsigned.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers, two's complement, high word first.
    I32Abcd,
    /// Two registers, unsigned, low word first.
    U32Cdab,
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
    /// Which of the device's resources it belongs to, as its template calls it; empty when there is only one.
    pub part: &'static str,
    /// The property's name in the code directory.
    pub property: &'static str,
}

/// A kind of device: its register map, as the template of the same name reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// `pressure-transmitter`: holding registers.
    PressureTransmitter,
    /// `ultrasonic-flow-meter`: holding registers, floats with the low word first.
    FlowMeter,
    /// `water-level-gauge`: input registers, a whole number of millimetres with the high word first.
    WaterLevelGauge,
    /// `loop-detector-controller`: four lanes, four input registers and a discrete input a lane.
    LoopDetector,
    /// Registers of which each names the second it was read in; all four tables hold the same.
    Bench {
        /// How many registers a table has.
        registers: u16,
    },
    /// Registers of which each names its unit, its address and the tick it was read in, see [`named_register`]; the two
    /// tables of registers hold the same, and there are no bits.
    Named {
        /// How many registers a table has.
        registers: u16,
    },
}

const fn cell(
    (table, address): (Table, u16),
    form: Form,
    quantity: Quantity,
    counts_per_unit: f64,
    (part, property): (&'static str, &'static str),
) -> Cell {
    Cell { table, address, form, quantity, counts_per_unit, part, property }
}

const PRESSURE_TRANSMITTER: &[Cell] = &[
    cell((Table::Holding, 0), Form::I16, Quantity::Pressure, 1000.0, ("", "pressure")),
    cell((Table::Holding, 1), Form::I16, Quantity::WaterTemperature, 10.0, ("", "temperature")),
    cell((Table::Holding, 2), Form::U16, Quantity::Battery, 1000.0, ("", "battery_voltage")),
];

const FLOW_METER: &[Cell] = &[
    cell((Table::Holding, 0), Form::F32Cdab, Quantity::Flow, 1.0, ("", "flow")),
    cell((Table::Holding, 4), Form::F32Cdab, Quantity::Velocity, 1.0, ("", "velocity")),
    cell((Table::Holding, 8), Form::U32Cdab, Quantity::TotalVolume, 10.0, ("", "total_volume")),
    cell((Table::Holding, 91), Form::U16, Quantity::Signal, 1.0, ("", "signal_quality")),
];

const WATER_LEVEL_GAUGE: &[Cell] = &[
    cell((Table::Input, 0), Form::I32Abcd, Quantity::Level, 1000.0, ("", "level")),
    cell((Table::Input, 2), Form::I16, Quantity::WaterTemperature, 100.0, ("", "temperature")),
    cell((Table::Input, 3), Form::U16, Quantity::Signal, 1.0, ("", "signal_quality")),
];

const LOOP_DETECTOR: &[Cell] = &[
    cell((Table::Input, 0x100), Form::U16, Quantity::VehicleCount { lane: 0 }, 1.0, ("lane1", "vehicle_count")),
    cell((Table::Input, 0x101), Form::U16, Quantity::Occupancy { lane: 0 }, 10.0, ("lane1", "occupancy")),
    cell((Table::Input, 0x102), Form::U16, Quantity::Speed { lane: 0 }, 10.0, ("lane1", "speed")),
    cell((Table::Input, 0x103), Form::U16, Quantity::Status, 1.0, ("lane1", "spare")),
    cell((Table::DiscreteInput, 0), Form::Bit, Quantity::VehiclePresent { lane: 0 }, 1.0, ("lane1", "vehicle_present")),
    cell((Table::Input, 0x104), Form::U16, Quantity::VehicleCount { lane: 1 }, 1.0, ("lane2", "vehicle_count")),
    cell((Table::Input, 0x105), Form::U16, Quantity::Occupancy { lane: 1 }, 10.0, ("lane2", "occupancy")),
    cell((Table::Input, 0x106), Form::U16, Quantity::Speed { lane: 1 }, 10.0, ("lane2", "speed")),
    cell((Table::Input, 0x107), Form::U16, Quantity::Status, 1.0, ("lane2", "spare")),
    cell((Table::DiscreteInput, 1), Form::Bit, Quantity::VehiclePresent { lane: 1 }, 1.0, ("lane2", "vehicle_present")),
    cell((Table::Input, 0x108), Form::U16, Quantity::VehicleCount { lane: 2 }, 1.0, ("lane3", "vehicle_count")),
    cell((Table::Input, 0x109), Form::U16, Quantity::Occupancy { lane: 2 }, 10.0, ("lane3", "occupancy")),
    cell((Table::Input, 0x10a), Form::U16, Quantity::Speed { lane: 2 }, 10.0, ("lane3", "speed")),
    cell((Table::Input, 0x10b), Form::U16, Quantity::Status, 1.0, ("lane3", "spare")),
    cell((Table::DiscreteInput, 2), Form::Bit, Quantity::VehiclePresent { lane: 2 }, 1.0, ("lane3", "vehicle_present")),
    cell((Table::Input, 0x10c), Form::U16, Quantity::VehicleCount { lane: 3 }, 1.0, ("lane4", "vehicle_count")),
    cell((Table::Input, 0x10d), Form::U16, Quantity::Occupancy { lane: 3 }, 10.0, ("lane4", "occupancy")),
    cell((Table::Input, 0x10e), Form::U16, Quantity::Speed { lane: 3 }, 10.0, ("lane4", "speed")),
    cell((Table::Input, 0x10f), Form::U16, Quantity::Status, 1.0, ("lane4", "spare")),
    cell((Table::DiscreteInput, 3), Form::Bit, Quantity::VehiclePresent { lane: 3 }, 1.0, ("lane4", "vehicle_present")),
];

impl Model {
    /// Returns the register map; a unit of numbers without meaning has none.
    #[must_use]
    pub const fn cells(self) -> &'static [Cell] {
        match self {
            Self::PressureTransmitter => PRESSURE_TRANSMITTER,
            Self::FlowMeter => FLOW_METER,
            Self::WaterLevelGauge => WATER_LEVEL_GAUGE,
            Self::LoopDetector => LOOP_DETECTOR,
            Self::Bench { .. } | Self::Named { .. } => &[],
        }
    }

    /// Returns one register of a unit at a time, or `None` where the device has none. A gap between two values of the map reads 0,
    /// as in most devices.
    #[must_use]
    pub fn register(self, unit: u8, seed: u64, table: Table, address: u16, tick: Tick) -> Option<u16> {
        let bits = matches!(table, Table::Coil | Table::DiscreteInput);
        match self {
            Self::Bench { registers } => {
                let word = named_second(address, tick);
                return (address < registers).then_some(if bits { word & 1 } else { word });
            }
            Self::Named { registers } => {
                return (address < registers && !bits).then(|| named_register(unit, address, tick));
            }
            _ => {}
        }
        let mut of_table = self.cells().iter().filter(|cell| cell.table == table).peekable();
        let first = of_table.peek()?.address;
        let cell = of_table.find(|cell| address >= first && address < cell.address + cell.form.registers())?;
        match address.checked_sub(cell.address) {
            Some(place) => cell.registers(seed, tick).get(usize::from(place)).copied(),
            None => Some(0),
        }
    }

    /// Says whether a property, named by part and name, had this value at some tick of `since..=until`, as precisely as its registers can say it;
    /// `None` when the model has no such property.
    #[must_use]
    pub fn ever_had(self, seed: u64, name: (&str, &str), value: f64, since: Tick, until: Tick) -> Option<bool> {
        let cell = self.cells().iter().find(|cell| (cell.part, cell.property) == name)?;
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

/// Returns what register `address` of a unit of [`Model::Named`] holds: tick + 40503 * address + 24917 * unit, the low
/// sixteen bits.
///
/// 40503 is the golden ratio's share of 65536, so that registers up to 200 addresses apart name ticks at least 14 s apart:
/// a shifted value names another time.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "the low sixteen bits are what is wanted")]
pub fn named_register(unit: u8, address: u16, tick: Tick) -> u16 {
    let place = address.wrapping_mul(40_503).wrapping_add(u16::from(unit).wrapping_mul(24_917));
    (tick.0 as u16).wrapping_add(place)
}

/// Returns how many ticks before `tick` register `address` of a unit of [`Model::Named`] held this value; a value that
/// belongs to another register or unit comes out as minutes.
#[must_use]
pub fn named_age(unit: u8, address: u16, value: u16, tick: Tick) -> u16 {
    named_register(unit, address, tick).wrapping_sub(value)
}

impl Form {
    const fn registers(self) -> u16 {
        match self {
            Self::Bit | Self::U16 | Self::I16 => 1,
            Self::I32Abcd | Self::U32Cdab | Self::F32Cdab => 2,
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
            Form::Bit | Form::U16 | Form::I16 => return vec![counts.round() as i64 as u16],
            Form::I32Abcd | Form::U32Cdab => counts.round() as i64 as u32,
            Form::F32Cdab => (counts as f32).to_bits(),
        };
        let (high, low) = ((bits >> 16) as u16, bits as u16);
        if self.form == Form::I32Abcd { vec![high, low] } else { vec![low, high] }
    }

    /// Returns the value that the registers show at a time, in the quantity's unit.
    #[must_use]
    pub fn shown(&self, seed: u64, tick: Tick) -> f64 {
        let words = self.registers(seed, tick);
        let word = |place: usize| u32::from(words.get(place).copied().unwrap_or_default());
        let number = match self.form {
            Form::Bit | Form::U16 => f64::from(word(0)),
            Form::I16 => f64::from(words.first().copied().unwrap_or_default().cast_signed()),
            Form::U32Cdab => f64::from(word(1) << 16 | word(0)),
            Form::I32Abcd => f64::from((word(0) << 16 | word(1)).cast_signed()),
            Form::F32Cdab => f64::from(f32::from_bits(word(1) << 16 | word(0))),
        };
        number / self.counts_per_unit
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PressureTransmitter => f.write_str("pressure-transmitter"),
            Self::FlowMeter => f.write_str("ultrasonic-flow-meter"),
            Self::WaterLevelGauge => f.write_str("water-level-gauge"),
            Self::LoopDetector => f.write_str("loop-detector-controller"),
            Self::Bench { registers } => write!(f, "bench-{registers}"),
            Self::Named { registers } => write!(f, "named-{registers}"),
        }
    }
}

impl FromStr for Model {
    type Err = String;

    /// Takes a template's name, or `bench-1000` or `named-1000` for a unit of 1000 registers.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "pressure-transmitter" => Ok(Self::PressureTransmitter),
            "ultrasonic-flow-meter" => Ok(Self::FlowMeter),
            "water-level-gauge" => Ok(Self::WaterLevelGauge),
            "loop-detector-controller" => Ok(Self::LoopDetector),
            _ => match text.split_once('-').map(|(kind, registers)| (kind, registers.parse())) {
                Some(("bench", Ok(registers))) => Ok(Self::Bench { registers }),
                Some(("named", Ok(registers))) => Ok(Self::Named { registers }),
                _ => Err(format!(
                    "{text:?} is no model: pressure-transmitter, ultrasonic-flow-meter, water-level-gauge, \
                     loop-detector-controller, bench-1000, named-1000"
                )),
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
    /// What it cannot do.
    pub defects: Defects,
    /// What clients wrote; it hides the model's own values.
    written: Mutex<BTreeMap<(Table, u16), u16>>,
}

impl Unit {
    /// Makes a unit without faults.
    #[must_use]
    pub fn new(id: u8, model: Model, seed: u64) -> Arc<Self> {
        let faults = Faults::new(seed ^ u64::from(id));
        Arc::new(Self { id, model, seed, faults, defects: Defects::default(), written: Mutex::default() })
    }

    /// Returns `count` items of a table at a time, or `None` when one of them does not exist.
    #[must_use]
    pub fn read(&self, table: Table, address: u16, count: u16, tick: Tick) -> Option<Vec<u16>> {
        let end = address.checked_add(count.checked_sub(1)?)?;
        let written = self.written();
        let item = |address: u16| match written.get(&(table, address)) {
            Some(&value) => Some(value),
            None => self.model.register(self.id, self.seed, table, address, tick),
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
                let step = if cell.form == Form::F32Cdab { truth.abs() * 1e-7 } else { 0.5 };
                assert!((truth - shown).abs() <= step / cell.counts_per_unit + 1e-12, "{cell:?}: {truth} {shown}");
            }
        }
    }

    #[test]
    fn word_orders_are_those_of_the_map() {
        let unit = Unit::new(2, Model::FlowMeter, 3);
        let words = unit.read(Table::Holding, 0, 10, TICK).expect("ten registers");
        let float = |high: u16, low: u16| f64::from(f32::from_bits(u32::from(high) << 16 | u32::from(low)));
        assert!((float(words[1], words[0]) - Quantity::Flow.at(3, TICK)).abs() < 1e-4);
        assert!((float(words[5], words[4]) - Quantity::Velocity.at(3, TICK)).abs() < 1e-6);
        let total = f64::from(u32::from(words[9]) << 16 | u32::from(words[8])) / 10.0;
        assert!((total - Quantity::TotalVolume.at(3, TICK)).abs() <= 0.05 + 1e-9);
        let gauge = Unit::new(3, Model::WaterLevelGauge, 3);
        let words = gauge.read(Table::Input, 0, 2, TICK).expect("two registers");
        let level = f64::from(u32::from(words[0]) << 16 | u32::from(words[1])) / 1000.0;
        assert!((level - Quantity::Level.at(3, TICK)).abs() <= 0.0005 + 1e-9);
    }

    #[test]
    fn a_register_outside_the_map_does_not_exist_and_a_gap_inside_reads_zero() {
        let unit = Unit::new(1, Model::FlowMeter, 3);
        assert_eq!(unit.read(Table::Holding, 2, 2, TICK), Some(vec![0, 0]));
        assert!(unit.read(Table::Holding, 0, 92, TICK).is_some());
        assert_eq!(unit.read(Table::Holding, 0, 93, TICK), None);
        assert_eq!(unit.read(Table::Input, 0, 1, TICK), None);
        assert_eq!(unit.read(Table::Holding, u16::MAX, 2, TICK), None);
        let loops = Unit::new(1, Model::LoopDetector, 3);
        assert!(loops.read(Table::Input, 0x100, 16, TICK).is_some());
        assert!(loops.read(Table::DiscreteInput, 0, 4, TICK).is_some());
        assert_eq!(loops.read(Table::Input, 0xFF, 2, TICK), None);
    }

    #[test]
    fn a_bench_register_names_its_second() {
        let unit = Unit::new(1, Model::Bench { registers: 1000 }, 3);
        let words = unit.read(Table::Holding, 0, 1000, TICK).expect("a thousand registers");
        assert!(words.iter().zip(0_u64..).all(|(&word, i)| u64::from(word) == (1_795_320_000 + i) % 65_536));
    }

    #[test]
    fn a_named_register_tells_a_shifted_and_a_swapped_value_from_a_late_one() {
        let unit = Unit::new(7, Model::Named { registers: 300 }, 3);
        let words = unit.read(Table::Holding, 0, 300, TICK).expect("three hundred registers");
        let later = Tick(TICK.0 + 9);
        for (address, &word) in (0_u16..).zip(&words) {
            assert_eq!(named_age(7, address, word, later), 9);
            for other in (0..300).filter(|&other| other != address && other.abs_diff(address) <= 200) {
                assert!(named_age(7, other, word, later) > 100, "{address} as {other}");
            }
            for other in (1..=16).filter(|&other| other != 7) {
                assert!(named_age(other, address, word, later) > 100, "unit 7 as {other}");
            }
        }
        assert_eq!(unit.read(Table::Coil, 0, 1, TICK), None);
    }

    #[test]
    fn a_checker_accepts_what_was_shown_in_the_window_and_nothing_else() {
        let model = Model::PressureTransmitter;
        let shown = model.cells()[0].shown(3, TICK);
        let ever = |value| model.ever_had(3, ("", "pressure"), value, Tick(TICK.0 - 20), TICK);
        assert_eq!(ever(shown), Some(true));
        assert_eq!(ever(shown + 0.1), Some(false));
        assert_eq!(model.ever_had(3, ("", "colour"), 1.0, TICK, TICK), None);
    }

    #[test]
    fn every_model_is_found_by_its_name() {
        let models = [
            Model::PressureTransmitter,
            Model::FlowMeter,
            Model::WaterLevelGauge,
            Model::LoopDetector,
            Model::Bench { registers: 250 },
            Model::Named { registers: 250 },
        ];
        for model in models {
            assert_eq!(model.to_string().parse(), Ok(model));
        }
        assert!("bench-x".parse::<Model>().is_err());
    }
}

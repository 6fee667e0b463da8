//! What a node says of itself, kept and shown.

use ganglion_protocols::Cri;
use ganglion_protocols::node_link::{Channel, ChannelKind, Hello, ResetCause};
use serde_json::{Value, json};

use super::catalogue::template_name;

/// Who a node is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::tools) struct Node {
    /// Its address.
    pub(in crate::tools) unit: u8,
    /// The resource it measures, if it was commissioned.
    pub(super) resource: Option<Cri>,
    /// Number of its chip.
    pub(super) serial: u64,
    /// Name of its board.
    pub(super) board: String,
    /// Version of its firmware.
    pub(super) firmware: String,
    /// How many channels it has.
    pub(super) channels: u8,
    boot: u32,
    reset: ResetCause,
    epoch: u32,
    capacity: u16,
    persistent: bool,
}

/// What a channel measures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Described {
    pub(super) property: String,
    pub(super) unit: String,
    pub(super) exponent: i8,
    pub(super) register: u16,
    pub(super) kind: ChannelKind,
    pub(super) low: i32,
    pub(super) high: i32,
    pub(super) period_s: u16,
}

impl Node {
    /// Takes what the node at this address said.
    pub(super) fn new(unit: u8, hello: &Hello<'_>) -> Self {
        Self {
            unit,
            resource: Cri::from_bits(hello.cri).ok(),
            serial: hello.serial,
            board: hello.board.to_owned(),
            firmware: hello.firmware.to_string(),
            channels: hello.channels,
            boot: hello.boot,
            reset: hello.reset,
            epoch: hello.epoch,
            capacity: hello.capacity,
            persistent: hello.persistent,
        }
    }

    /// Returns its lines in a site file behind the unit: template and resource.
    pub(in crate::tools) fn site_lines(&self) -> String {
        let resource = self.resource.map(|cri| cri.to_string()).unwrap_or_default();
        let doubt = if self.resource.is_none() { "  # not commissioned: ganglion node adopt" } else { "" };
        format!("template = \"{}\"\nresource = \"{resource}\"{doubt}\n", template_name(&self.board))
    }

    /// Returns its resource in words.
    pub(super) fn resource_text(&self) -> String {
        self.resource.map_or_else(|| "none yet".to_owned(), |cri| cri.to_string())
    }

    /// Says why it started last.
    pub(super) fn started(&self) -> String {
        format!("start {}, {}", self.boot, cause(self.reset))
    }

    /// Returns how often it has started.
    pub(super) fn boot(&self) -> u32 {
        self.boot
    }

    fn store(&self) -> String {
        let outlives = if self.persistent { "a loss of power" } else { "a reset, not a loss of power" };
        let name = match self.epoch {
            0 => "not named by a gateway yet".to_owned(),
            epoch => format!("epoch {epoch}"),
        };
        format!("{} samples, outlives {outlives}; {name}", self.capacity)
    }

    /// Writes it for a person.
    pub(in crate::tools) fn text(&self) -> String {
        format!(
            "node {:>3}  resource {}\n          serial {:016x}, {}, firmware {}\n          {}\n          store: {}\n",
            self.unit,
            self.resource_text(),
            self.serial,
            self.board,
            self.firmware,
            self.started(),
            self.store(),
        )
    }

    /// Writes it for a program.
    pub(in crate::tools) fn json(&self) -> Value {
        json!({
            "unit": self.unit,
            "resource": self.resource.map(|cri| cri.to_string()),
            "serial": format!("{:016x}", self.serial),
            "board": self.board,
            "firmware": self.firmware,
            "channels": self.channels,
            "boot": self.boot,
            "reset": cause(self.reset),
            "epoch": self.epoch,
            "capacity": self.capacity,
            "persistent": self.persistent,
        })
    }
}

impl Described {
    /// Takes a description.
    pub(super) fn new(channel: &Channel<'_>) -> Self {
        Self {
            property: channel.property.to_owned(),
            unit: channel.unit.to_owned(),
            exponent: channel.exponent,
            register: channel.register,
            kind: channel.kind,
            low: channel.low,
            high: channel.high,
            period_s: channel.period_s,
        }
    }

    /// Writes it for a person.
    pub(super) fn text(&self) -> String {
        let kind = match self.kind {
            ChannelKind::Gauge => "gauge",
            ChannelKind::Counter => "counter",
            ChannelKind::State => "state",
        };
        let (low, high) = (decimal(self.low, self.exponent), decimal(self.high, self.exponent));
        format!(
            "  {:<20} {low} to {high} {}, {kind}, a sample each {} s, input registers {} and {}\n",
            self.property,
            self.unit,
            self.period_s,
            self.register,
            self.register.saturating_add(1),
        )
    }

    /// Writes it for a program.
    pub(super) fn json(&self) -> Value {
        json!({
            "property": self.property,
            "unit": self.unit,
            "exponent": self.exponent,
            "register": self.register,
            "low": decimal(self.low, self.exponent),
            "high": decimal(self.high, self.exponent),
            "period_s": self.period_s,
        })
    }
}

/// Says why a node started.
fn cause(cause: ResetCause) -> &'static str {
    match cause {
        ResetCause::Power => "power came",
        ResetCause::Pin => "reset pin",
        ResetCause::Order => "told to",
        ResetCause::Watchdog => "watchdog",
        ResetCause::Fault => "panic or fault",
        ResetCause::BrownOut => "supply too low",
        ResetCause::Update => "new firmware",
        ResetCause::Unknown => "nobody knows why",
    }
}

/// Writes `value` times 10^`exponent` exactly.
pub(super) fn decimal(value: i32, exponent: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let places = usize::from(exponent.unsigned_abs());
    let text = match exponent {
        0.. if value == 0 => "0".to_owned(),
        0.. => format!("{digits}{}", "0".repeat(places)),
        ..0 => {
            let padded = format!("{digits:0>width$}", width = places + 1);
            let (whole, fraction) = padded.split_at(padded.len() - places);
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
        }
    };
    if value < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_point_value_is_written_exactly() {
        let cases = [
            ((1, -4), "0.0001"),
            ((-5_500, -2), "-55"),
            ((12_345, -3), "12.345"),
            ((-7, -1), "-0.7"),
            ((7, 2), "700"),
            ((0, 3), "0"),
            ((0, -3), "0"),
            ((i32::MAX, -3), "2147483.647"),
            ((i32::MIN, 0), "-2147483648"),
        ];
        for ((value, exponent), text) in cases {
            assert_eq!(decimal(value, exponent), text);
        }
    }
}

//! The oldest samples that wait in a node, without acknowledging them.

use ganglion_protocols::node_link::{Batch, NodeLossCause, NodeReading, Samples, SensorFault};
use jiff::Timestamp;

use super::hello::{Described, decimal};

/// Writes a batch for a person.
pub(super) fn text(batch: &Batch<'_>, channels: &[Described]) -> String {
    let mut out = String::new();
    if let Some(lost) = batch.lost {
        let why = match lost.cause {
            NodeLossCause::Full => "the store was full",
            NodeLossCause::Damaged => "they could not be read back",
            NodeLossCause::Undated => "the clock of their start was never set",
        };
        out.push_str(&format!("lost: {} to {}: {why}\n", lost.first, lost.last));
    }
    let count = u8::try_from(channels.len()).unwrap_or(u8::MAX);
    let mut number = batch.first;
    for sample in Samples::new(batch.samples, count, batch.base_ms) {
        let Ok(sample) = sample else {
            out.push_str("the rest is no sample: its channels changed while it was asked\n");
            break;
        };
        let readings: Vec<String> =
            sample.readings().zip(channels).map(|(reading, channel)| self::reading(reading, channel)).collect();
        let at = time(sample.at_ms, batch);
        out.push_str(&format!("{number:>8}  {at}  {}\n", readings.join(", ")));
        number = number.saturating_add(1);
    }
    if batch.waiting > 0 {
        out.push_str(&format!("{} more wait behind these\n", batch.waiting));
    } else if number == batch.first {
        out.push_str("no sample waits\n");
    }
    out
}

/// Writes when a sample was taken: UTC, or the uptime of a start whose clock nobody set.
fn time(at_ms: u64, batch: &Batch<'_>) -> String {
    let utc = batch
        .anchor_ms
        .and_then(|anchor| i64::try_from(anchor.checked_add(at_ms)?).ok())
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match utc {
        Some(utc) => format!("{utc:.3}"),
        None => format!("{}.{:03} s after start {}, clock not set", at_ms / 1000, at_ms % 1000, batch.boot),
    }
}

fn reading(reading: NodeReading, channel: &Described) -> String {
    match reading {
        NodeReading::Value(value) => {
            format!("{} {} {}", channel.property, decimal(value, channel.exponent), channel.unit)
        }
        NodeReading::Fault(fault) => {
            let why = match fault {
                SensorFault::BrokenWire => "broken wire",
                SensorFault::OverRange => "above its range",
                SensorFault::UnderRange => "below its range",
                SensorFault::NoAnswer => "the sensor does not answer",
                SensorFault::BadAnswer => "the sensor's answer is damaged",
                SensorFault::NoSample => "nothing measured yet",
            };
            format!("{} ({why})", channel.property)
        }
    }
}

#[cfg(test)]
mod tests {
    use ganglion_protocols::node_link::{ChannelKind, Lost, SchemaHash, put_sample};

    use super::*;

    #[test]
    fn samples_are_shown_with_numbers_times_and_what_was_lost() {
        let mut bytes = [0; 64];
        let mut used = put_sample(0, &[NodeReading::Value(2_150)], &mut bytes).unwrap();
        used += put_sample(60_000, &[NodeReading::Fault(SensorFault::NoAnswer)], &mut bytes[used..]).unwrap();
        let batch = Batch {
            epoch: 7,
            schema: SchemaHash(0),
            first: 41,
            waiting: 3,
            lost: Some(Lost { first: 39, last: 40, cause: NodeLossCause::Full }),
            alarm: false,
            boot: 2,
            anchor_ms: Some(1_700_000_000_000),
            base_ms: 500,
            now: (2, 100_000),
            samples: &bytes[..used],
        };
        let channels = [Described {
            property: "temperature".to_owned(),
            unit: "Cel".to_owned(),
            exponent: -2,
            register: 32,
            kind: ChannelKind::Gauge,
            low: -5_500,
            high: 12_800,
            period_s: 60,
        }];
        let expected = "lost: 39 to 40: the store was full\n      \
             41  2023-11-14T22:13:20.500Z  temperature 21.5 Cel\n      \
             42  2023-11-14T22:14:20.500Z  temperature (the sensor does not answer)\n\
             3 more wait behind these\n";
        assert_eq!(text(&batch, &channels), expected);
        let undated = Batch { anchor_ms: None, ..batch };
        assert!(text(&undated, &channels).contains("0.500 s after start 2, clock not set"));
    }
}

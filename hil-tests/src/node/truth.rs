//! What a node says it measured: the truth that a test holds against what arrived.
//!
//! One line of its log for each sample taken, all decimal: `sample <epoch> <seq> <boot> <uptime_ms> <value> ...`.

/// A sample as the node took it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The life of its store; 0 while the gateway has not named it.
    pub epoch: u32,
    /// Its number in that life, from 1.
    pub seq: u32,
    /// The number of the node's boot.
    pub boot: u32,
    /// Milliseconds since that boot.
    pub uptime_ms: u64,
    /// A value for each channel, fixed-point as the channel's description says; `None` where the channel had none (`-`).
    pub values: Vec<Option<i32>>,
}

/// All that a node's log says of its samples.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Truth {
    /// In the order in which they were taken.
    pub samples: Vec<Sample>,
    /// Lines that begin as a sample and are none: cut short by a power cut, or wrong.
    pub torn: Vec<String>,
}

const WORD: &str = "sample";

impl Truth {
    /// Reads a log. What is behind the last line end is not complete and is not looked at.
    #[must_use]
    pub fn of(log: &str) -> Self {
        let mut truth = Self::default();
        let complete = log.rfind('\n').and_then(|end| log.get(..end)).unwrap_or_default();
        for line in complete.lines() {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some(WORD) {
                continue;
            }
            match sample(words) {
                Some(sample) => truth.samples.push(sample),
                None => truth.torn.push(line.to_owned()),
            }
        }
        truth
    }
}

fn sample<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Sample> {
    Some(Sample {
        epoch: words.next()?.parse().ok()?,
        seq: words.next()?.parse().ok()?,
        boot: words.next()?.parse().ok()?,
        uptime_ms: words.next()?.parse().ok()?,
        values: words
            .map(|word| if word.starts_with('!') { Some(None) } else { word.parse().ok().map(Some) })
            .collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_among_other_lines_and_none_that_is_not_complete() {
        let log = "node 3 up\nsample 7 1 2 1000 -5 2350 !0\nnothing\nsample 7 2 2 20 <power cut>\nsample 7 3 2 3000 1";
        let truth = Truth::of(log);
        let values = vec![Some(-5), Some(2350), None];
        assert_eq!(truth.samples, [Sample { epoch: 7, seq: 1, boot: 2, uptime_ms: 1000, values }]);
        assert_eq!(truth.torn, ["sample 7 2 2 20 <power cut>"]);
    }

    #[test]
    fn a_number_that_does_not_fit_is_no_sample() {
        for line in ["sample", "sample 1 2 3\n", "sample 4294967296 1 1 1\n", "sample 1 1 1 1 2147483648\n"] {
            assert_eq!(Truth::of(line).samples, [], "{line}");
        }
    }
}

//! What a server by others refuses, and what it was asked: the same for each of them.

use std::ops::RangeInclusive;

/// What a server refuses, as many devices do; a client has to learn it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quirks {
    /// Most registers of one read.
    pub longest: u16,
    /// Exception code for a read of more.
    pub too_long: u8,
    /// Registers that are not there: exception 0x02 for every read that touches one.
    pub holes: Vec<RangeInclusive<u16>>,
}

/// A read that a server was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The first register.
    pub address: u16,
    /// How many.
    pub count: u16,
    /// Why it was refused, if it was.
    pub exception: Option<u8>,
}

impl Quirks {
    /// Returns the holes as a peer's arguments: `first-last`.
    pub(super) fn hole_arguments(&self) -> impl Iterator<Item = String> + '_ {
        self.holes.iter().map(|hole| format!("{}-{}", hole.start(), hole.end()))
    }

    /// Says whether a read is answered.
    #[must_use]
    pub fn allow(&self, address: u16, count: u16) -> bool {
        let last = address.saturating_add(count.saturating_sub(1));
        count <= self.longest && self.holes.iter().all(|hole| last < *hole.start() || *hole.end() < address)
    }
}

/// Finds the reads in what a server printed: lines `request <address> <count> <exception, 0 for none>`.
#[must_use]
pub fn asked(printed: &str) -> Vec<Asked> {
    let read = |line: &str| {
        let mut words = line.strip_prefix("request ")?.split_ascii_whitespace();
        let (address, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let exception = words.next()?.parse().ok().filter(|&code| code != 0);
        Some(Asked { address, count, exception })
    };
    printed.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_found_between_other_lines() {
        let found = asked("ready tcp 5\nrequest 0 16 0\nother\nrequest 40 2 2\nrequest 7\n");
        let read = |address, count, exception| Asked { address, count, exception };
        assert_eq!(found, [read(0, 16, None), read(40, 2, Some(2))]);
    }

    #[test]
    fn a_read_is_allowed_when_it_is_short_and_touches_no_hole() {
        let quirks = Quirks { longest: 16, too_long: 3, holes: vec![20..=21, 40..=40] };
        assert!(quirks.allow(0, 16) && quirks.allow(22, 16) && quirks.allow(41, 1) && quirks.allow(4, 16));
        assert!(!quirks.allow(0, 17) && !quirks.allow(5, 16) && !quirks.allow(21, 1) && !quirks.allow(39, 2));
    }
}

//! What was learnt, in the words of `learned.json`.

use std::time::Duration;

use ganglion_drivers::learn::{Fact, FactKind};
use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::Table;
use serde::{Deserialize, Serialize};

/// One fact as it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct StoredFact {
    #[serde(flatten)]
    kind: Kind,
    table: String,
    address: u16,
    count: u16,
    /// How long it still holds, in seconds; the time while the gateway is off does not count.
    left_s: u64,
    confirmations: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
enum Kind {
    Cut { at: u16, gap: bool },
    Refused { strikes: u8 },
    TooLong,
    Longest,
    Answered,
}

pub(super) fn to_stored(fact: Fact) -> StoredFact {
    StoredFact {
        kind: match fact.kind {
            FactKind::Cut { at, gap } => Kind::Cut { at, gap },
            FactKind::Refused { strikes } => Kind::Refused { strikes },
            FactKind::TooLong => Kind::TooLong,
            FactKind::Longest => Kind::Longest,
            FactKind::Answered => Kind::Answered,
        },
        table: fact.request.table.as_str().to_owned(),
        address: fact.request.address,
        count: fact.request.count,
        left_s: fact.left.as_secs(),
        confirmations: fact.confirmations,
    }
}

/// Returns the fact, `None` if the file names a table that does not exist or items past the end of one.
pub(super) fn from_stored(stored: &StoredFact) -> Option<Fact> {
    let table = Table::ALL.into_iter().find(|table| table.as_str() == stored.table)?;
    let request = ReadRequest { table, address: stored.address, count: stored.count };
    let fact = Fact {
        kind: match stored.kind {
            Kind::Cut { at, gap } => FactKind::Cut { at, gap },
            Kind::Refused { strikes } => FactKind::Refused { strikes },
            Kind::TooLong => FactKind::TooLong,
            Kind::Longest => FactKind::Longest,
            Kind::Answered => FactKind::Answered,
        },
        request,
        left: Duration::from_secs(stored.left_s),
        confirmations: stored.confirmations,
    };
    (request.count > 0 && request.end() <= 65_536).then_some(fact)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fact_comes_back_as_it_was_written() {
        let request = ReadRequest { table: Table::InputRegister, address: 7, count: 20 };
        for kind in [
            FactKind::Cut { at: 12, gap: true },
            FactKind::Refused { strikes: 2 },
            FactKind::TooLong,
            FactKind::Longest,
            FactKind::Answered,
        ] {
            let fact = Fact { kind, request, left: Duration::from_secs(61), confirmations: 3 };
            let text = serde_json::to_string(&to_stored(fact)).unwrap();
            let read = from_stored(&serde_json::from_str(&text).unwrap());
            assert_eq!(read, Some(fact), "{text}");
        }
    }

    #[test]
    fn what_no_device_can_have_is_not_taken_from_the_file() {
        let text = r#"{"fact":"longest","table":"input","address":65535,"count":2,"left_s":0,"confirmations":0}"#;
        assert_eq!(from_stored(&serde_json::from_str(text).unwrap()), None);
        let other = text.replace("\"input\"", "\"drum\"").replace("65535", "1");
        assert_eq!(from_stored(&serde_json::from_str(&other).unwrap()), None);
    }
}

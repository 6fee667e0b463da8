//! What a unit says of itself, and how much it answers at once.

use std::io;

use ganglion_protocols::modbus::pdu::{Request, Response};
use ganglion_protocols::modbus::{Table, UnitId};

use super::probe::{Heard, Prober};
use crate::tools::frames::printable;

/// Identification objects of the basic level have these numbers (Application Protocol V1.1b3 §6.21).
const OBJECTS: [&str; 7] =
    ["vendor", "product code", "revision", "vendor url", "product name", "model name", "application name"];

/// Most questions for identification objects; a device with more has said enough.
const MOST_QUESTIONS: u8 = 8;

/// What a unit says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Who {
    /// Name and text of each identification object.
    pub(super) objects: Vec<(String, String)>,
    /// What it answers to 0x11.
    pub(super) server_id: Option<String>,
}

/// Longest requests that were answered, from address 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    /// Table.
    pub(super) table: Table,
    /// Registers.
    pub(super) registers: u16,
}

/// Asks for identification objects (0x2B/0x0E), then for the server id (0x11).
pub(super) async fn ask(prober: &mut Prober, unit: UnitId) -> io::Result<Who> {
    let mut who = Who::default();
    let mut object = 0;
    for _ in 0..MOST_QUESTIONS {
        // Level 2 holds level 1; a device without it answers with what it has.
        let Heard::Answer(pdu) = prober.ask(unit, &Request::ReadDeviceId { level: 2, object }).await?.0 else { break };
        let Ok(Response::ReadDeviceId(id)) = Response::parse(&pdu) else { break };
        for object in id.objects.iter().filter(|object| !object.value.is_empty()) {
            let name = OBJECTS
                .get(usize::from(object.id))
                .map_or_else(|| format!("object {}", object.id), |name| (*name).to_owned());
            who.objects.push((name, printable(object.value).trim().to_owned()));
        }
        if !id.more_follows || id.next_object <= object {
            break;
        }
        object = id.next_object;
    }
    if let Heard::Answer(pdu) = prober.ask(unit, &Request::ReportServerId).await?.0
        && let Ok(Response::ReportServerId { data }) = Response::parse(&pdu)
    {
        let text = printable(data);
        let hex: Vec<String> = data.iter().map(|byte| format!("{byte:02X}")).collect();
        who.server_id = Some(format!("{} {text:?}", hex.join(" ")));
    }
    Ok(who)
}

/// Finds the longest read from address 0 that is answered, by halving.
pub(super) async fn limits(prober: &mut Prober, unit: UnitId, table: Table) -> io::Result<Limits> {
    let mut answers = async |count: u16| -> io::Result<bool> {
        // Twice, for one lost answer must not look like a limit.
        for _ in 0..2 {
            match prober.ask(unit, &Request::Read { table, address: 0, count }).await?.0 {
                Heard::Answer(_) => return Ok(true),
                Heard::Exception(_) => return Ok(false),
                Heard::Silence | Heard::Spoiled => {}
            }
        }
        Ok(false)
    };
    let (mut good, mut bad) = (1, table.max_items() + 1);
    if answers(table.max_items()).await? {
        good = table.max_items();
    }
    while bad - good > 1 && good < table.max_items() {
        let middle = good + (bad - good) / 2;
        if answers(middle).await? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(Limits { table, registers: good })
}

//! Which template fits a unit.
//!
//! A template fits as far as its points answer and hold values that are possible; that is a guess, and said to be one:
//! registers of another device can hold possible values too. A template with an identity register fits only if that holds
//! what it should, which settles it if the number is none that registers often hold.

use std::collections::HashMap;
use std::io;

use ganglion_drivers::plan::{Cost, ReadRequest, Step, plan};
use ganglion_protocols::modbus::UnitId;
use ganglion_protocols::modbus::pdu::{Request, Response};
use ganglion_protocols::{Quality, Reason};

use super::probe::{Heard, Prober};
use crate::clock;
use crate::config::Signature;
use crate::normalize;
use crate::pipeline::Sample;
use crate::site::DeviceId;

/// Refused requests after which a template is given up.
const MOST_REFUSED: usize = 2;

/// Numbers up to this are in many registers of many devices: settings, states, counts.
const COMMON: u64 = 255;

/// Most templates to name for one unit.
const MOST_NAMED: usize = 3;

/// A template that fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fit {
    pub(super) template: String,
    pub(super) sure: Sure,
    /// Points with a possible value, of all.
    pub(super) points: (usize, usize),
    /// Of those, points whose value is not zero, which say more.
    pub(super) telling: usize,
    /// Names of the resources it needs.
    pub(super) resources: Vec<String>,
}

/// How sure a name is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Sure {
    /// Most of its points fit.
    Possible,
    /// All points answer with possible values, at least half of them telling.
    Likely,
    /// The identity register says so.
    Certain,
}

impl Sure {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// What was read of a unit; `None` was refused or unanswered.
type Read = HashMap<ReadRequest, Option<Vec<u16>>>;

/// Compares a unit with every signature. Returns those that fit, the best first.
pub(super) async fn fits(prober: &mut Prober, unit: UnitId, signatures: &[Signature]) -> io::Result<Vec<Fit>> {
    let mut read = Read::new();
    let mut fits = Vec::new();
    for signature in signatures {
        if let Some(identity) = &signature.identity {
            let items = take(prober, unit, identity.want, &mut read).await?;
            let holds =
                items.is_some_and(|items| identity.value_type.bits(&items, identity.word_order) == Ok(identity.equals));
            if !holds {
                continue;
            }
        }
        fits.extend(fit(prober, unit, signature, &mut read).await?);
    }
    fits.sort_by_key(|fit| std::cmp::Reverse((fit.sure, fit.telling, fit.points.0)));
    fits.truncate(MOST_NAMED);
    Ok(fits)
}

async fn fit(prober: &mut Prober, unit: UnitId, signature: &Signature, read: &mut Read) -> io::Result<Option<Fit>> {
    let group = &signature.group;
    let words = group.wants.iter().map(|want| want.offset + usize::from(want.read.count)).max().unwrap_or(0);
    let mut sample = Sample {
        device: DeviceId(0),
        group: 0,
        t: clock::now(),
        clock: clock::state(),
        words: vec![0; words],
        states: vec![Some(Reason::Missing); group.wants.len()],
        origin: None,
    };
    let mut refused = 0;
    for request in requests(signature) {
        let Some(items) = take(prober, unit, request, read).await? else {
            refused += 1;
            if refused >= MOST_REFUSED {
                return Ok(None);
            }
            continue;
        };
        for (want, state) in group.wants.iter().zip(&mut sample.states).filter(|(want, _)| request.covers(want.read)) {
            let (count, first) = (usize::from(want.read.count), usize::from(want.read.address - request.address));
            let to = sample.words.get_mut(want.offset..want.offset + count);
            if let (Some(from), Some(to)) = (items.get(first..first + count), to) {
                to.copy_from_slice(from);
                *state = None;
            }
        }
    }
    let (mut possible, mut telling) = (0, 0);
    for point in group.points.iter() {
        let reading = normalize::read(group, point, &sample);
        let missing = reading.quality == Quality::Bad(Reason::Missing)
            && sample.states.get(point.want).is_some_and(Option::is_none);
        if reading.quality == Quality::Good || missing {
            possible += 1;
            let want = group.wants.get(point.want).map(|want| want.offset..want.offset + usize::from(want.read.count));
            let own = want.and_then(|range| sample.words.get(range)).unwrap_or_default();
            telling += usize::from(own.iter().any(|word| *word != 0));
        }
    }
    let all = group.points.len();
    let sure = if possible == all && signature.identity.is_some_and(|identity| identity.equals > COMMON) {
        Sure::Certain
    } else if possible == all && telling * 2 >= all {
        Sure::Likely
    } else if possible * 5 >= all * 4 && telling > 0 {
        Sure::Possible
    } else {
        return Ok(None);
    };
    let (template, resources) = (signature.template.clone(), signature.resources.clone());
    Ok(Some(Fit { template, sure, points: (possible, all), telling, resources }))
}

/// Returns the requests that read a template's points.
fn requests(signature: &Signature) -> Vec<ReadRequest> {
    let wants: Vec<ReadRequest> = signature.group.wants.iter().map(|want| want.read).collect();
    let mut steps = vec![Step::EMPTY; wants.len()];
    let cost = Cost::tcp(std::time::Duration::from_millis(20));
    plan(&wants, &signature.limits.as_limits(), &cost, &mut steps)
        .map(|plan| plan.filter_map(Result::ok).collect())
        .unwrap_or_default()
}

/// Reads items once, whatever the outcome.
async fn take(
    prober: &mut Prober,
    unit: UnitId,
    request: ReadRequest,
    read: &mut Read,
) -> io::Result<Option<Vec<u16>>> {
    if let Some(known) = read.get(&request) {
        return Ok(known.clone());
    }
    let ReadRequest { table, address, count } = request;
    let mut items = None;
    // Twice, for one lost answer must not hide a device.
    for _ in 0..2 {
        match prober.ask(unit, &Request::Read { table, address, count }).await?.0 {
            Heard::Answer(pdu) => {
                items = match Response::parse(&pdu) {
                    Ok(Response::ReadRegisters { words, .. }) => Some(words.iter().collect()),
                    Ok(Response::ReadBits { bits, .. }) => {
                        Some(bits.iter().take(usize::from(count)).map(u16::from).collect())
                    }
                    _ => None,
                };
                break;
            }
            Heard::Exception(_) => break,
            Heard::Silence | Heard::Spoiled => {}
        }
    }
    read.insert(request, items.clone());
    Ok(items)
}

//! Orders to a node, each confirmed by what the node says afterwards.

use ganglion_protocols::Cri;
use ganglion_protocols::node_link::{Answer, Ask, Command, Done, Refusal};

use super::keys::{self, Key};
use super::line::{NodeError, NodeLine};
use super::options::Which;
use super::{Ended, failed, open, who};

/// How often a node that starts is asked whether it is there.
const STARTS: u8 = 5;

/// Has an order carried out; returns the value it gave, if it gave one.
async fn order(line: &mut NodeLine, unit: u8, command: Command) -> Result<Option<i32>, NodeError> {
    let id = fastrand::u32(1..);
    match line.ask(unit, &Ask::Do { id, command }).await?.answer()? {
        Answer::Done { id: done, outcome } if done == id => match outcome {
            Done::Yes => Ok(None),
            Done::Value(value) => Ok(Some(value)),
            Done::No(refusal) => Err(NodeError::Refused(refusal)),
        },
        _ => Err(NodeError::Strange { unit }),
    }
}

async fn value(line: &mut NodeLine, unit: u8, key: &Key) -> Result<i32, NodeError> {
    order(line, unit, Command::Get { key: key.number }).await?.ok_or(NodeError::Strange { unit })
}

/// Prints settings.
pub(super) async fn get(which: &Which, name: Option<&str>) -> Result<String, Ended> {
    let wanted = match name {
        Some(name) => vec![keys::find(name).map_err(Ended::Refused)?],
        None => keys::all(),
    };
    let mut line = open(which).await?;
    let mut out = String::new();
    for key in &wanted {
        let value = value(&mut line, which.unit, key).await.map_err(failed(which.unit))?;
        let text = key.text(value);
        out.push_str(&match name {
            Some(_) => format!("{} {text}\n", key.name),
            None => format!("{:<18} {text:<12}  # {}\n", key.name, key.range),
        });
    }
    Ok(out)
}

/// Changes a setting.
pub(super) async fn set(which: &Which, name: &str, text: &str) -> Result<String, Ended> {
    let key = keys::find(name).map_err(Ended::Refused)?;
    let new = key.value(text).map_err(Ended::Refused)?;
    let (unit, mut line) = (which.unit, open(which).await?);
    let before = value(&mut line, unit, &key).await.map_err(failed(unit))?;
    match order(&mut line, unit, Command::Set { key: key.number, value: new }).await {
        Ok(_) => {}
        Err(NodeError::Refused(refusal @ Refusal::BadSetting)) => {
            return Err(Ended::Failed(format!(
                "node {unit} refuses: {refusal}\n{} is {} now and may be {}",
                key.name,
                key.text(before),
                key.range
            )));
        }
        Err(error) => return Err(failed(unit)(error)),
    }
    let holds = value(&mut line, unit, &key).await.map_err(failed(unit))?;
    if holds != new {
        return Err(Ended::Failed(format!("node {unit} took it, and says {} all the same", key.text(holds))));
    }
    let then = if key.next_start && before != new {
        format!("it holds from the next start on: ganglion node reset --unit {unit}\n")
    } else {
        String::new()
    };
    Ok(format!("{}: {} -> {}\n{then}", key.name, key.text(before), key.text(holds)))
}

/// Tells a node which resource it measures.
pub(super) async fn adopt(which: &Which, resource: Cri) -> Result<String, Ended> {
    let (unit, mut line) = (which.unit, open(which).await?);
    let before = who(&mut line, unit).await.map_err(failed(unit))?;
    order(&mut line, unit, Command::Adopt { cri: resource.to_bits() }).await.map_err(failed(unit))?;
    let node = who(&mut line, unit).await.map_err(failed(unit))?;
    if node.resource != Some(resource) {
        let says = node.resource_text();
        return Err(Ended::Failed(format!("node {unit} took it, and says {says} all the same")));
    }
    let serial = node.serial;
    Ok(format!("node {unit}, serial {serial:016x}: resource {} -> {resource}\n", before.resource_text()))
}

/// Has a node blink.
pub(super) async fn identify(which: &Which, seconds: u16) -> Result<String, Ended> {
    let (unit, mut line) = (which.unit, open(which).await?);
    order(&mut line, unit, Command::Identify { seconds }).await.map_err(failed(unit))?;
    Ok(format!("node {unit} blinks for {seconds} s\n"))
}

/// Prints the fault log, the oldest entry first.
pub(super) async fn log(which: &Which, clear: bool) -> Result<String, Ended> {
    let (unit, mut line) = (which.unit, open(which).await?);
    let (mut out, mut from) = (String::new(), 0);
    loop {
        let heard = line.ask(unit, &Ask::Log { from }).await.map_err(failed(unit))?;
        match heard.answer().map_err(failed(unit))? {
            Answer::Log { next, .. } if next <= from => break,
            Answer::Log { from: first, next, .. } if first == next => break,
            Answer::Log { next, text, .. } => {
                out.push_str(text);
                from = next;
            }
            _ => return Err(failed(unit)(NodeError::Strange { unit })),
        }
    }
    if out.is_empty() {
        out.push_str("the fault log is empty\n");
    }
    if clear {
        order(&mut line, unit, Command::ClearLog).await.map_err(failed(unit))?;
        out.push_str("forgotten\n");
    }
    Ok(out)
}

/// Starts a node anew and waits until it answers again.
pub(super) async fn reset(which: &Which) -> Result<String, Ended> {
    let (unit, mut line) = (which.unit, open(which).await?);
    let before = who(&mut line, unit).await.map_err(failed(unit))?;
    let mut line_settings = Vec::new();
    for key in keys::all().into_iter().filter(|key| key.next_start) {
        let value = value(&mut line, unit, &key).await.map_err(failed(unit))?;
        line_settings.push(format!("{} {}", key.name, key.text(value)));
    }
    order(&mut line, unit, Command::Reset).await.map_err(failed(unit))?;
    for _ in 0..STARTS {
        match who(&mut line, unit).await {
            // One that answers in its old life was asked before the order was obeyed.
            Ok(node) if node.serial == before.serial && node.boot() == before.boot() => {}
            Ok(node) => return Ok(format!("node {unit} is back: {}\n", node.started())),
            Err(NodeError::Silent { .. }) => {}
            Err(error) => return Err(failed(unit)(error)),
        }
    }
    Err(Ended::Failed(format!(
        "node {unit} took the order and does not answer here any more; by its settings it answers at {}",
        line_settings.join(", ")
    )))
}

//! `ganglion node`: sensor nodes on a line, one question at a time.
//!
//! The wire is this tool's own: while the daemon runs it holds the port, and the tool says so. Nothing here acknowledges a
//! sample, so a node that was looked at still has for the daemon what it had.
//!
//! | file | what it owns |
//! |---|---|
//! | `options.rs` | the words of the command line |
//! | `line.rs` | one question on a line |
//! | `find.rs` | who is there |
//! | `hello.rs`, `samples.rs` | what a node says, shown |
//! | `orders.rs` | settings, log, adopting, resetting |
//! | `keys.rs` | names of settings |
//! | `catalogue.rs` | templates and devices made of what nodes say |
//! | `update.rs`, `progress.rs` | new firmware |
//! | `provision.rs` | settings for a node that was never on a line |
//! | `words.rs` | refusals explained |

mod catalogue;
mod find;
mod hello;
mod keys;
mod line;
mod options;
mod orders;
mod progress;
mod provision;
mod samples;
mod update;
mod words;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ganglion_protocols::node_link::{Ack, Answer, Ask};
use serde_json::{Value, json};

use self::hello::Described;
pub(in crate::tools) use self::hello::Node;
use self::line::{NodeError, NodeLine};
pub use self::options::{Verb, Where, Which};
pub use self::provision::Provision;
use super::{refuse, run, say};
use crate::acquire::trace::Trace;
use crate::site::Link;

/// Most samples that are looked at.
const LOOK: u8 = 32;

/// Why a verb ended without doing what it should.
enum Ended {
    /// Arguments or a file are refused, and nothing was begun.
    Refused(String),
    /// It failed on the way.
    Failed(String),
}

/// Does what the verb says, and prints.
#[must_use]
pub fn main(verb: &Verb) -> ExitCode {
    run(async {
        let ended = match verb {
            Verb::List { line, unit, write, bus, json } => list(line, *unit, write.as_deref(), bus, *json).await,
            Verb::Describe { node, json } => describe(node, *json).await,
            Verb::Log { node, clear } => orders::log(node, *clear).await,
            Verb::Get { node, key } => orders::get(node, key.as_deref()).await,
            Verb::Set { node, key, value } => orders::set(node, key, value).await,
            Verb::Adopt { node, resource } => orders::adopt(node, *resource).await,
            Verb::Identify { node, seconds } => orders::identify(node, *seconds).await,
            Verb::Reset { node } => orders::reset(node).await,
            Verb::Samples { node, name } => samples(node, *name).await,
            Verb::Update { node, image, downgrade } => update::main(node, image, *downgrade).await,
            Verb::Provision(wanted) => provision::main(wanted),
        };
        match ended {
            Ok(text) => say(&text),
            Err(Ended::Refused(message)) => refuse(message),
            Err(Ended::Failed(message)) => {
                eprintln!("{message}");
                ExitCode::FAILURE
            }
        }
    })
}

/// Opens the line of one node.
async fn open(which: &Which) -> Result<NodeLine, Ended> {
    let link = which.line.link().map_err(Ended::Refused)?;
    open_link(&link, &which.line).await
}

async fn open_link(link: &Link, options: &Where) -> Result<NodeLine, Ended> {
    let trace = options.watch.trace().map_err(Ended::Refused)?;
    NodeLine::open(link, options.patience(), trace).await.map_err(|error| Ended::Failed(error.to_string()))
}

/// Explains why a node did not do what was asked.
fn failed(unit: u8) -> impl Fn(NodeError) -> Ended {
    move |error| Ended::Failed(words::explain(unit, &error))
}

/// Asks a node who it is.
async fn who(line: &mut NodeLine, unit: u8) -> Result<Node, NodeError> {
    match line.ask(unit, &Ask::Describe).await?.answer()? {
        Answer::Hello(hello) => Ok(Node::new(unit, &hello)),
        _ => Err(NodeError::Strange { unit }),
    }
}

/// Asks a node for its channels.
async fn channels(line: &mut NodeLine, node: &Node) -> Result<Vec<Described>, NodeError> {
    let mut channels = Vec::new();
    for index in 0..node.channels {
        match line.ask(node.unit, &Ask::Channel { index }).await?.answer()? {
            Answer::Channel(channel) => channels.push(Described::new(&channel)),
            _ => return Err(NodeError::Strange { unit: node.unit }),
        }
    }
    Ok(channels)
}

/// Gives the node's store a name if it has none; returns the one in force. The clock is left to the daemon.
async fn name(line: &mut NodeLine, unit: u8) -> Result<u32, NodeError> {
    let ask = Ask::Time { utc_ms: None, error_ms: u16::MAX, epoch: fastrand::u32(1..) };
    match line.ask(unit, &ask).await?.answer()? {
        Answer::Time { epoch, .. } => Ok(epoch),
        _ => Err(NodeError::Strange { unit }),
    }
}

/// Has a whole exchange with a node, as a gateway has: firmware on trial is confirmed by it. Acknowledges nothing.
async fn usual_exchange(line: &mut NodeLine, unit: u8) -> Result<(), NodeError> {
    let epoch = name(line, unit).await?;
    let fetch = Ask::Fetch { ack: Some(Ack { epoch, seq: 0 }), most: 0 };
    line.ask(unit, &fetch).await.map(drop)
}

async fn list(
    options: &Where,
    unit: Option<u8>,
    write: Option<&Path>,
    bus: &str,
    as_json: bool,
) -> Result<String, Ended> {
    let links = options.links().map_err(Ended::Refused)?;
    let mut tried = Vec::new();
    for link in &links {
        let mut line = open_link(link, options).await?;
        let lost = |error: NodeError| Ended::Failed(error.to_string());
        let (nodes, silent) = match unit {
            None => (find::find(&mut line).await.map_err(lost)?, None),
            Some(unit) => match who(&mut line, unit).await {
                Ok(node) => (vec![node], None),
                Err(error @ NodeError::Silent { .. }) => (Vec::new(), Some(error)),
                Err(error) => return Err(failed(unit)(error)),
            },
        };
        if nodes.is_empty() {
            tried.push(silent.map_or_else(
                || {
                    let noise = if line.noise() > 0 { "; something came that is no frame" } else { "" };
                    format!("no node answers at {}{noise}", line.how())
                },
                |error| error.to_string(),
            ));
            continue;
        }
        let mut described = Vec::new();
        let shared = find::shared(&nodes);
        for node in nodes {
            // Two nodes with one address would answer at once.
            let known = shared.is_empty() && (write.is_some());
            let channels =
                if known { channels(&mut line, &node).await.map_err(failed(node.unit))? } else { Vec::new() };
            described.push((node, channels));
        }
        return told(&line, &described, &shared, write, bus, as_json);
    }
    let advice =
        "check: supply, A and B (swap them), ground and termination; other bit rates: --baud 9600,19200,115200";
    if unit.is_none() {
        tried.push(advice.to_owned());
    }
    Err(Ended::Failed(tried.join("\n")))
}

/// Writes what was found.
fn told(
    line: &NodeLine,
    nodes: &[(Node, Vec<Described>)],
    shared: &[String],
    write: Option<&Path>,
    bus: &str,
    as_json: bool,
) -> Result<String, Ended> {
    let mut out = String::new();
    if as_json {
        let all: Vec<Value> = nodes.iter().map(|(node, _)| node.json()).collect();
        out = format!("{:#}\n", json!({ "line": line.how(), "nodes": all, "remarks": shared }));
    } else {
        out.push_str(&format!("{}: {}\n", line.how(), count(nodes.len())));
        nodes.iter().for_each(|(node, _)| out.push_str(&node.text()));
        shared.iter().for_each(|remark| out.push_str(&format!("note: {remark}\n")));
    }
    let Some(folder) = write else { return Ok(out) };
    if !shared.is_empty() {
        return Err(Ended::Failed(format!("{out}nothing was written: addresses must be unique first")));
    }
    let files = catalogue::write(folder, bus, nodes).map_err(Ended::Failed)?;
    if !as_json {
        let to = folder.display();
        out.push_str(&format!("\nwritten to {to}: {}\n# for the site file, in place of nodes.csv", files.join(", ")));
        out.push_str(&catalogue::blocks(nodes));
    }
    Ok(out)
}

fn count(nodes: usize) -> String {
    if nodes == 1 { "one node".to_owned() } else { format!("{nodes} nodes") }
}

async fn describe(which: &Which, as_json: bool) -> Result<String, Ended> {
    let mut line = open(which).await?;
    let node = who(&mut line, which.unit).await.map_err(failed(which.unit))?;
    let channels = channels(&mut line, &node).await.map_err(failed(which.unit))?;
    if as_json {
        let mut document = node.json();
        document["channels"] = channels.iter().map(Described::json).collect();
        return Ok(format!("{document:#}\n"));
    }
    let lines: String = channels.iter().map(Described::text).collect();
    Ok(node.text() + &lines)
}

async fn samples(which: &Which, give_name: bool) -> Result<String, Ended> {
    let (unit, mut line) = (which.unit, open(which).await?);
    let node = who(&mut line, unit).await.map_err(failed(unit))?;
    let channels = channels(&mut line, &node).await.map_err(failed(unit))?;
    if give_name {
        name(&mut line, unit).await.map_err(failed(unit))?;
    }
    let heard = line.ask(unit, &Ask::Fetch { ack: None, most: LOOK }).await.map_err(failed(unit))?;
    match heard.answer().map_err(failed(unit))? {
        Answer::Batch(batch) => Ok(samples::text(&batch, &channels)),
        _ => Err(failed(unit)(NodeError::Strange { unit })),
    }
}

/// Finds the nodes on a line for a scan; returns them, what a person should know, and the lines for the site file.
///
/// # Errors
/// Why the line cannot be opened, or was lost.
pub(in crate::tools) async fn for_scan(
    link: &Link,
    patience: Duration,
    trace: Trace,
) -> std::io::Result<(Vec<Node>, Vec<String>)> {
    let mut line = NodeLine::open(link, patience, trace).await?;
    let nodes = find::find(&mut line).await.map_err(std::io::Error::other)?;
    let shared = find::shared(&nodes);
    Ok((nodes, shared))
}

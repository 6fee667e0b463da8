//! New firmware for a node: the image checked, sent, installed, tried and confirmed.
//!
//! What has arrived is asked of the node, so nothing is kept here: the same command after Ctrl-C, a cut or a loss of power
//! goes on where the node says.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ganglion_drivers::update::{Next, Sender, UpdateError};
use ganglion_protocols::node_link::{Answer, Ask, FirmwareAsk, FirmwarePhase, FirmwareState, ImageHeader, Refusal};

use super::line::{NodeError, NodeLine};
use super::options::Which;
use super::progress::Progress;
use super::words::advice;
use super::{Ended, failed, open, usual_exchange, who};

/// How long a node that copies firmware and starts may be silent: two copies of the longest image, and a good measure.
const RESTART: Duration = Duration::from_secs(120);
/// How long a transfer waits for a node that does not answer.
const CUT: Duration = Duration::from_secs(30);
/// Between two questions to a node that restarts.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends the image; returns what to tell at the end.
pub(super) async fn main(which: &Which, path: &Path, downgrade: bool) -> Result<String, Ended> {
    let refused = |why: &dyn std::fmt::Display| Ended::Refused(format!("{}: {why}", path.display()));
    let image = fs::read(path).map_err(|error| refused(&error))?;
    let (header, _) = ImageHeader::split(&image).map_err(|error| refused(&error))?;
    let mut sender = Sender::new(&image, downgrade).map_err(|error| refused(&error))?;
    let (unit, mut line) = (which.unit, open(which).await?);
    let node = who(&mut line, unit).await.map_err(failed(unit))?;
    if node.board != header.board.as_str() {
        return Err(refused(&format!("is for the board {}, node {unit} is a {}", header.board, node.board)));
    }
    let state = ended_trial(&mut line, unit).await.map_err(failed(unit))?;
    if state.running == header.version {
        return Ok(format!("node {unit} runs {} already\n", state.running));
    }
    if state.running > header.version && !downgrade {
        let (new, old) = (header.version, state.running);
        return Err(refused(&format!("is {new}, node {unit} runs {old}; {}", advice(Refusal::Older))));
    }
    let mut progress = Progress::new();
    progress.say(&match state.phase {
        FirmwarePhase::Receiving { version, next, size } if version == header.version => {
            format!("node {unit}: {} -> {version}, goes on at {next} of {size} bytes", state.running)
        }
        _ => format!("node {unit}: {} -> {}, {} bytes", state.running, header.version, image.len()),
    });
    let result = tokio::select! {
        result = send(&mut line, unit, &mut sender, &mut progress) => result,
        _ = tokio::signal::ctrl_c() => Err(Ended::Failed("ended by Ctrl-C".to_owned())),
    };
    let (done, all) = sender.progress();
    match result {
        Ok(()) => Ok(format!("node {unit} runs {}, confirmed\n", header.version)),
        Err(Ended::Failed(why)) if done > 0 && done < all => {
            progress.say(&format!("{done} of {all} bytes have arrived; the same command goes on there"));
            Err(Ended::Failed(why))
        }
        Err(ended) => Err(ended),
    }
}

/// Asks how far things are; a trial that somebody left is ended first.
async fn ended_trial(line: &mut NodeLine, unit: u8) -> Result<FirmwareState, NodeError> {
    let state = firmware(line, unit, FirmwareAsk::State).await?;
    if state.phase != FirmwarePhase::Trial {
        return Ok(state);
    }
    usual_exchange(line, unit).await?;
    firmware(line, unit, FirmwareAsk::State).await
}

async fn firmware(line: &mut NodeLine, unit: u8, ask: FirmwareAsk<'_>) -> Result<FirmwareState, NodeError> {
    match line.ask(unit, &Ask::Firmware(ask)).await?.answer()? {
        Answer::Firmware(state) => Ok(state),
        _ => Err(NodeError::Strange { unit }),
    }
}

async fn send(line: &mut NodeLine, unit: u8, sender: &mut Sender<'_>, progress: &mut Progress) -> Result<(), Ended> {
    let mut heard_at = Instant::now();
    let mut restarts = false;
    loop {
        let answered = match sender.next() {
            Next::Ask(ask) => firmware(line, unit, ask).await,
            Next::AskLater(ask) => {
                if !std::mem::replace(&mut restarts, true) {
                    progress.say("arrived and checked; the node installs it and restarts");
                    heard_at = Instant::now();
                }
                tokio::time::sleep(PAUSE).await;
                match usual_exchange(line, unit).await {
                    Ok(()) => firmware(line, unit, ask).await,
                    Err(error) => Err(error),
                }
            }
            Next::Done => return Ok(()),
            Next::Failed(UpdateError::Refused(refusal)) => {
                return Err(Ended::Failed(format!("node {unit} refuses: {refusal}\n{}", advice(refusal))));
            }
            Next::Failed(error) => return Err(Ended::Failed(format!("node {unit}: {error}"))),
        };
        match answered {
            Ok(state) => {
                heard_at = Instant::now();
                sender.handle(Ok(state));
            }
            Err(NodeError::Refused(refusal)) => {
                heard_at = Instant::now();
                sender.handle(Err(refusal));
            }
            Err(error @ NodeError::Silent { .. }) => {
                let patience = if restarts { RESTART } else { CUT };
                if heard_at.elapsed() > patience {
                    let trial = if restarts {
                        "\nit was told to install the image; what it runs is not known: ask again with `ganglion node list`"
                    } else {
                        ""
                    };
                    return Err(Ended::Failed(format!("{error}{trial}")));
                }
            }
            Err(error) => return Err(failed(unit)(error)),
        }
        let (done, all) = sender.progress();
        if !restarts && done > 0 {
            progress.at(done, all);
        }
    }
}

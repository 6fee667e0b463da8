//! Who is on this line? Everybody is asked at once, and answers in a slot of its own choice.

use std::time::{Duration, Instant};

use ganglion_protocols::node_link::{Answer, Ask};

use super::hello::Node;
use super::line::{NodeError, NodeLine};

/// Slots of the first round.
const SLOTS: u8 = 16;
/// Slots of a round after one in which answers met.
const MOST_SLOTS: u8 = 64;
/// Characters of the longest [`Answer::Hello`]: its fields at their longest in postcard, framed.
const HELLO: usize = 88;
/// Between the end of one slot and what the next one's node says: what answers late does no harm.
const SPACE: Duration = Duration::from_millis(40);
/// Rounds in a row without anything new that end it.
const QUIET: u8 = 2;
/// Rounds at most.
const ROUNDS: u8 = 12;

/// Finds every node on the line, in the order of their addresses, then of their serial numbers.
///
/// # Errors
/// [`NodeError::Lost`]. A line without nodes is none.
pub(super) async fn find(line: &mut NodeLine) -> Result<Vec<Node>, NodeError> {
    let mut found: Vec<Node> = Vec::new();
    let (mut slots, mut quiet) = (SLOTS, 0);
    let slot = line.characters(HELLO) + SPACE;
    let slot_ms = u16::try_from(slot.as_millis()).unwrap_or(u16::MAX);
    for _ in 0..ROUNDS {
        let ask = Ask::Who { salt: fastrand::u16(..), slots, slot_ms, all: true };
        let (sent, _) = line.say(0, &ask).await?;
        let all = Duration::from_millis(u64::from(slot_ms)) * u32::from(slots);
        let until = Instant::now() + line.characters(sent) + all + line.patience();
        let before = found.len();
        while let Some((heard, _)) = line.hear(until).await? {
            if let Ok(Answer::Hello(hello)) = heard.answer() {
                let node = Node::new(heard.unit, &hello);
                if !found.iter().any(|known| (known.unit, known.serial) == (node.unit, node.serial)) {
                    found.push(node);
                }
            }
        }
        let collided = line.noise() > 0;
        if collided {
            slots = slots.saturating_mul(2).min(MOST_SLOTS);
        }
        quiet = if found.len() > before || collided { 0 } else { quiet + 1 };
        if quiet >= QUIET {
            break;
        }
    }
    found.sort_by_key(|node| (node.unit, node.serial));
    Ok(found)
}

/// Says which addresses more than one node has.
pub(super) fn shared(nodes: &[Node]) -> Vec<String> {
    let mut remarks = Vec::new();
    for same in nodes.chunk_by(|one, other| one.unit == other.unit).filter(|same| same.len() > 1) {
        let serials: Vec<String> = same.iter().map(|node| format!("{:016x}", node.serial)).collect();
        remarks.push(format!(
            "{} nodes have the address {}: serials {}; take all but one off the line and give it another: \
             ganglion node set unit N, then reset",
            same.len(),
            same.first().map_or(0, |node| node.unit),
            serials.join(", "),
        ));
    }
    remarks
}

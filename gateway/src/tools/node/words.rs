//! What went wrong, for a person at the node: the node's words, and what would be right.

use ganglion_protocols::node_link::Refusal;

use super::line::NodeError;

/// Explains why a node did not do what was asked.
pub(super) fn explain(unit: u8, error: &NodeError) -> String {
    match error {
        NodeError::Refused(refusal) => format!("node {unit} refuses: {refusal}\n{}", advice(*refusal)),
        NodeError::Version { .. } => format!("node {unit}: {error}\nuse the tool that came with the node's firmware"),
        other => other.to_string(),
    }
}

/// Says what would be right.
pub(super) fn advice(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotAMessage => "its firmware is older than this tool: update it, or use the tool that came with it",
        Refusal::NoChannel => "`ganglion node describe` lists its channels",
        Refusal::BadAck => "somebody else acknowledges its samples: is a gateway on this line?",
        Refusal::Unnamed => {
            "a gateway names the store the first time it asks; until then samples are kept and not handed out. --name \
             names it now"
        }
        Refusal::BadSetting => "`ganglion node get` lists its settings and what each may be",
        Refusal::OtherBoard => "take the image whose file says the board that `ganglion node list` prints",
        Refusal::TooLarge => "this image does not fit into the board's flash",
        Refusal::Older => "--downgrade installs it all the same",
        Refusal::BadHeader => "the file is damaged, or was made for other nodes: take a fresh copy",
        Refusal::Hole => "the transfer was disturbed: begin again, what has arrived is kept",
        Refusal::BadSignature => {
            "the image is signed with another key than the node's firmware trusts, or the file is damaged; the node has \
             forgotten what had arrived and runs what it ran"
        }
        Refusal::FlashFailed => {
            "its flash does not hold what is written: try once more with a steady supply; if it fails again the board is \
             worn out"
        }
        Refusal::Incomplete => "begin again, what has arrived is kept",
        Refusal::Unable => {
            "this board has no room for a second firmware, or an update is under way: the former takes new firmware \
             through its programmer only"
        }
    }
}

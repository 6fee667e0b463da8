//! Catalogue entries made of what nodes say of themselves: a template for each board, a row for each node.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use ganglion_protocols::node_link::ChannelKind;

use super::hello::{Described, Node, decimal};

/// The marker that a node's registers hold where a channel has no value.
const NONE: i32 = i32::MIN;
/// How often a node is read that says nothing of it: once a sample is enough, and never less than this.
const SHORTEST_POLL_S: u16 = 1;

/// Returns the name of the template of a board.
pub(super) fn template_name(board: &str) -> String {
    format!("ganglion-node-{board}")
}

/// Writes the template of a board with these channels.
pub(super) fn template(board: &str, channels: &[Described]) -> String {
    let name = template_name(board);
    let mut out = format!(
        "#:schema ../schema/template.json\n\
         # A sensor node with the board {board}, as it describes itself: `ganglion node list --write` made this file.\n\
         [template]\n\
         name = \"{name}\"\n\
         maker = \"Ganglion sensor node, {board}\"\n\
         document = \"the node's own description\"\n"
    );
    for channel in channels {
        let Described { property, unit, exponent, register, low, high, .. } = channel;
        let what = match channel.kind {
            ChannelKind::Gauge => "",
            ChannelKind::Counter => "; a total",
            ChannelKind::State => "; 0 or 1",
        };
        let (low, high) = (decimal(*low, *exponent), decimal(*high, *exponent));
        // Text of JSON is text of TOML.
        let text = |text: &str| serde_json::Value::from(text).to_string();
        out.push_str(&format!(
            "\n# {low} to {high} {unit}{what}\n\
             [[point]]\n\
             property = {}\n\
             table = \"input\"\n\
             address = {register}\n\
             type = \"i32\"\n",
            text(property)
        ));
        if *exponent != 0 {
            out.push_str(&format!("scale = {}\n", decimal(1, *exponent)));
        }
        out.push_str(&format!("unit = {}\nmissing = {NONE}\n", text(unit)));
    }
    out
}

/// Writes the nodes as rows for `devices_csv`, those that are commissioned.
pub(super) fn rows(bus: &str, nodes: &[(Node, Vec<Described>)]) -> String {
    let mut out = "bus,name,unit,template,resource,poll_interval_ms\n".to_owned();
    for (node, channels) in nodes {
        if let Some(resource) = node.resource {
            let (name, template) = (device_name(node), template_name(&node.board));
            let _into_text = writeln!(out, "{bus},{name},{},{template},{resource},{}", node.unit, poll_ms(channels));
        }
    }
    out
}

/// Writes the nodes as blocks of a site file.
pub(super) fn blocks(nodes: &[(Node, Vec<Described>)]) -> String {
    let mut out = String::new();
    for (node, channels) in nodes {
        out.push_str(&format!(
            "\n[[bus.device]]\nname = \"{}\"\nunit = {}\n{}poll_interval_ms = {}\n",
            device_name(node),
            node.unit,
            node.site_lines(),
            poll_ms(channels),
        ));
    }
    out
}

fn device_name(node: &Node) -> String {
    format!("node-{}", node.unit)
}

fn poll_ms(channels: &[Described]) -> u32 {
    let period = channels.iter().map(|channel| channel.period_s).min().unwrap_or(SHORTEST_POLL_S);
    u32::from(period.max(SHORTEST_POLL_S)) * 1000
}

/// Writes a template for each board and the rows into a folder; returns what was written. A file with another content is
/// never replaced.
///
/// # Errors
/// The path and why: what is there already, for one.
pub(super) fn write(folder: &Path, bus: &str, nodes: &[(Node, Vec<Described>)]) -> Result<Vec<String>, String> {
    let mut files = vec![("nodes.csv".to_owned(), rows(bus, nodes))];
    for (node, channels) in nodes {
        let file = (format!("{}.toml", template_name(&node.board)), template(&node.board, channels));
        match files.iter().find(|known| known.0 == file.0) {
            None => files.push(file),
            Some(known) if known.1 == file.1 => {}
            Some(_) => {
                return Err(format!(
                    "the nodes with the board {} describe themselves differently: update them to one firmware first",
                    node.board
                ));
            }
        }
    }
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for (name, text) in &files {
        let path = folder.join(name);
        match fs::read_to_string(&path) {
            Ok(there) if there == *text => continue,
            Ok(_) => return Err(format!("{}: is there with another content and is kept", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

#[cfg(test)]
mod tests {
    use ganglion_protocols::Cri;
    use ganglion_protocols::node_link::{Hello, ResetCause, SchemaHash, Version};

    use super::*;

    fn channel(
        place: u16,
        property: &str,
        unit: &str,
        exponent: i8,
        kind: ChannelKind,
        range: (i32, i32),
    ) -> Described {
        Described {
            property: property.to_owned(),
            unit: unit.to_owned(),
            exponent,
            register: 32 + 4 * place,
            kind,
            low: range.0,
            high: range.1,
            period_s: 60,
        }
    }

    fn nucleo() -> Vec<Described> {
        let pressure = |place, property| channel(place, property, "MPa", -4, ChannelKind::Gauge, (0, 16_000));
        vec![
            pressure(0, "pressure"),
            pressure(1, "pressure_min"),
            pressure(2, "pressure_max"),
            channel(3, "total_volume", "m3", -3, ChannelKind::Counter, (0, i32::MAX)),
        ]
    }

    fn lm3s() -> Vec<Described> {
        let temperature = |place, property| channel(place, property, "Cel", -2, ChannelKind::Gauge, (-5500, 12_800));
        vec![temperature(0, "temperature"), temperature(1, "temperature_min"), temperature(2, "temperature_max")]
    }

    fn node(unit: u8, board: &str, resource: Option<&str>) -> Node {
        let cri = resource.map_or(0, |text| text.parse::<Cri>().unwrap().to_bits());
        let hello = Hello {
            cri,
            serial: u64::from(unit),
            board,
            firmware: Version { major: 1, minor: 2, patch: 3 },
            schema: SchemaHash(0),
            channels: 3,
            epoch: 0,
            boot: 1,
            reset: ResetCause::Power,
            capacity: 100,
            persistent: true,
        };
        Node::new(unit, &hello)
    }

    #[test]
    fn the_templates_of_the_boards_are_those_in_configs() {
        for (board, channels) in [("nucleo-l476rg", nucleo()), ("lm3s6965evb", lm3s())] {
            let path = Path::new("../configs/templates").join(format!("{}.toml", template_name(board)));
            let made = template(board, &channels);
            if std::env::var_os("UPDATE_EXPECTED").is_some() {
                fs::write(&path, &made).unwrap();
            }
            assert_eq!(fs::read_to_string(&path).unwrap_or_default(), made, "{}", path.display());
        }
    }

    #[test]
    fn a_commissioned_node_becomes_a_row_and_a_block() {
        let nodes =
            [(node(13, "lm3s6965evb", Some("330502-9601-000213-23")), lm3s()), (node(14, "lm3s6965evb", None), lm3s())];
        assert_eq!(
            rows("line-1", &nodes),
            "bus,name,unit,template,resource,poll_interval_ms\n\
             line-1,node-13,13,ganglion-node-lm3s6965evb,330502-9601-000213-23,60000\n"
        );
        let blocks = blocks(&nodes);
        assert!(blocks.contains("unit = 13\ntemplate = \"ganglion-node-lm3s6965evb\""), "{blocks}");
        assert!(blocks.contains("resource = \"\"  # not commissioned"), "{blocks}");
    }

    #[test]
    fn what_is_written_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let nodes = [(node(13, "lm3s6965evb", Some("330502-9601-000213-23")), lm3s())];
        let written = write(folder.path(), "line-1", &nodes).unwrap();
        assert_eq!(written, ["nodes.csv", "ganglion-node-lm3s6965evb.toml"]);
        assert_eq!(write(folder.path(), "line-1", &nodes), Ok(written), "the same again is no harm");
        let refused = write(folder.path(), "line-2", &nodes).unwrap_err();
        assert!(refused.contains("nodes.csv: is there with another content"), "{refused}");
    }
}

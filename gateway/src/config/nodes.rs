//! A bus of sensor nodes: what of a site file does not fit it.

use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::modbus::Table as Registers;

use super::build::Plant;
use super::keys::Table;
use super::report::Findings;
use crate::site::{Device, Protocol};

/// Takes what is spoken on a bus.
pub(super) fn protocol(findings: &mut Findings, table: &Table, serial: bool) -> Protocol {
    let Some(protocol) = table.text("protocol").filter(|protocol| protocol.value == "node-link") else {
        return Protocol::Modbus;
    };
    if !serial {
        findings
            .error(protocol.place, "the node link is spoken on serial lines")
            .help("`kind = \"serial\"`, or \"rtu-over-tcp\" for a line behind a serial server");
    }
    Protocol::NodeLink
}

/// Reports what a device on a bus of nodes cannot be: a node says by itself when it has measured, and everything that it has.
pub(super) fn check(findings: &mut Findings, table: &Table, device: &Device, plant: &Plant) {
    if let [_, second, ..] = device.groups.as_slice() {
        let message = format!("the points of a node have one period, here another is {:?}", second.interval);
        findings
            .error(table.place_of("template"), message)
            .help("take `poll_interval_ms` out of the template's points: the node has its own sample period");
    }
    if device.groups.iter().any(|group| group.heartbeat.is_some()) {
        findings
            .error(table.place_of("report"), "a node gives every sample, it cannot report on change")
            .help("take `report` out; the sample period is a setting of the node");
    }
    if device.identity.is_some() {
        findings
            .error(table.place_of("template"), "a node says who it is, its template needs no identity register")
            .help("take [template.identity] out of the template");
    }
    let wants = device.groups.iter().flat_map(|group| group.wants.iter());
    for want in wants {
        let ReadRequest { table: registers, address, .. } = want.read;
        if registers != Registers::InputRegister {
            let message = format!("a node gives input registers, not {registers:?} {address}");
            findings.error(table.place_of("template"), message).help("its channels are input registers");
        }
    }
    let streams = device.groups.iter().flat_map(|group| &group.streams);
    for resource in streams.filter_map(|stream| plant.streams.get(stream.0)).map(|stream| stream.resource) {
        let sources = plant.sources.get(&resource).map_or(&[][..], Vec::as_slice);
        if let Some(other) = sources.iter().find(|source| source.device != device.name) {
            let message = format!("{resource} is measured by the node {} and by {}", device.name, other.device);
            findings
                .error(table.place, message)
                .other(other.place, "the other one is here")
                .help("samples of a node are counted by its resource: give each its own");
        }
    }
}

//! From a bus of the site to the settings of its engine.

use std::time::Duration;

use ganglion_drivers::breaker::Policy;
use ganglion_drivers::bus::{IdentityCheck, LineCost, Settings, TaskSettings, UnitSettings};
use ganglion_drivers::client::{Framing, Timing, character_time, frame_gap};

use crate::site::{Bus, Device, DeviceId, Identity, LineSpeed, Link, Site};

/// A unit is asked only now and then after as many requests in a row without an answer as so many polls of one request
/// each make, retries included: one may fall into a disturbance.
const TRIP_AFTER_POLLS: u8 = 2;

/// Longest pause between two tries to reach a silent unit.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Shortest wait for the first byte of an answer. USB adapters hand bytes over in lumps of up to 16 ms, and this process
/// may be held up.
pub(super) const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// The same over a network, where a lost segment is sent again after at least 200 ms.
const SHORTEST_NETWORK_WAIT: Duration = Duration::from_millis(250);

/// What a unit on a serial line is taken to need until it has answered: the silence that ends the request, and a thought.
const USUAL_TURNAROUND: Duration = Duration::from_millis(10);

/// The same over a network of the site.
const USUAL_NETWORK_TURNAROUND: Duration = Duration::from_millis(5);

/// How long the bytes of one answer may fall behind the line's speed.
pub(super) const SERIAL_SLACK: Duration = Duration::from_millis(50);

/// One task of the engine: which group of which device it polls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Polled {
    pub(crate) device: DeviceId,
    pub(crate) group: usize,
}

/// Returns the settings of the bus's engine, and what each of its tasks polls.
pub(crate) fn settings(site: &Site, bus: &Bus) -> (Settings, Vec<Polled>) {
    let devices: Vec<(DeviceId, &Device)> =
        bus.devices.iter().filter_map(|&id| Some((id, site.devices.get(id.0)?))).collect();
    let mut tasks = Vec::new();
    let mut polled = Vec::new();
    for (unit, (device, settings)) in devices.iter().enumerate() {
        for (group, part) in settings.groups.iter().enumerate() {
            let wants = part.wants.iter().map(|want| want.read).collect();
            tasks.push(TaskSettings { unit, interval: part.interval, wants });
            polled.push(Polled { device: *device, group });
        }
    }
    let (framing, line) = framing(&bus.link, bus.late_reply);
    let settings = Settings {
        framing,
        line,
        response_timeout: bus.response_timeout,
        shortest_wait: if matches!(bus.link, Link::Serial(_)) { SHORTEST_WAIT } else { SHORTEST_NETWORK_WAIT },
        usual_turnaround: match bus.link {
            Link::Serial(_) | Link::RtuOverTcp { .. } => USUAL_TURNAROUND,
            Link::Tcp { .. } => USUAL_NETWORK_TURNAROUND,
        },
        retries: bus.retries,
        breaker: Policy {
            share_percent: bus.dead_unit_share_percent,
            trip_after: bus.retries.saturating_add(1).saturating_mul(TRIP_AFTER_POLLS),
            longest_pause: LONGEST_PAUSE,
        },
        units: devices.iter().map(|(_, device)| unit(device)).collect(),
        tasks,
    };
    (settings, polled)
}

/// Returns how requests lie on a link, and what they cost.
pub(crate) fn framing(link: &Link, late_reply: Duration) -> (Framing, LineCost) {
    let rtu = |speed: LineSpeed, answer_slack: Duration| {
        let bits = speed.bits_per_character();
        let (character, gap) = (character_time(speed.baud, bits), frame_gap(speed.baud, bits));
        let timing = Timing { character, gap, late_reply, answer_slack };
        (Framing::Rtu(timing), LineCost::Rtu { character, gap })
    };
    match link {
        Link::Tcp { .. } => (Framing::Tcp, LineCost::Tcp),
        Link::Serial(link) => rtu(link.speed, SERIAL_SLACK),
        Link::RtuOverTcp { speed, .. } => rtu(*speed, SHORTEST_NETWORK_WAIT),
    }
}

fn unit(device: &Device) -> UnitSettings {
    let identity = |&Identity { want, value_type, word_order, equals }: &Identity| IdentityCheck {
        want,
        value_type,
        word_order,
        equals,
    };
    UnitSettings {
        unit: device.unit,
        request_gap: device.request_gap,
        max_registers: device.limits.max_registers,
        max_bits: device.limits.max_bits,
        bridge: device.limits.bridge,
        forbidden: device.limits.forbidden.clone(),
        identity: device.identity.as_ref().map(identity),
    }
}

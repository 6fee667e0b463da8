//! Modbus TCP: what is done about a connection.

use std::time::Duration;

use ganglion_drivers::bus::{Bus, Event, LineCost, Sampled, Settings};
use ganglion_drivers::client::Framing;
use ganglion_protocols::Reason;

use super::bench::{registers, secs, settings};

fn connected() -> Bus {
    let serial = settings(&[1], vec![(0, secs(1), registers(0..2))]);
    let mut bus = Bus::new(Duration::ZERO, Settings { framing: Framing::Tcp, line: LineCost::Tcp, ..serial });
    bus.connected(Duration::ZERO);
    bus
}

fn events(bus: &mut Bus) -> Vec<Event> {
    std::iter::from_fn(|| bus.poll_event()).collect()
}

fn sampled(event: &Event) -> Option<&Sampled> {
    match event {
        Event::Sampled(sampled) => Some(sampled),
        _ => None,
    }
}

#[test]
fn nothing_is_sent_over_a_stream_in_which_the_place_is_lost() {
    let mut bus = connected();
    let now = secs(6);
    // No header has this protocol identifier.
    bus.handle_bytes(now, &[0, 1, 0xFF, 0xFF, 0, 5]);
    bus.handle_bytes(now, &[0; 20]);
    assert_eq!(bus.poll_transmit(now), None);
    assert_eq!(events(&mut bus), [Event::Replace { reason: Reason::Malformed }], "asked for once, and nothing failed");
    bus.connected(now);
    let request = bus.poll_transmit(now).expect("the poll was only held up").to_vec();
    let [high, low, ..] = request[..] else { panic!("{request:?}") };
    bus.handle_bytes(now, &[high, low, 0, 0, 0, 7, 1, 3, 4, 0, 8, 0, 9]);
    let events = events(&mut bus);
    let [sampled] = events.iter().filter_map(sampled).collect::<Vec<_>>()[..] else { panic!("{events:?}") };
    assert_eq!((&sampled.words[..], &sampled.states[..]), (&[8, 9][..], &[None, None][..]));
}

#[test]
fn a_connection_over_which_nothing_comes_is_replaced_after_two_requests() {
    let mut bus = connected();
    let mut now = secs(6);
    let mut requests = 0;
    loop {
        requests += usize::from(bus.poll_transmit(now).is_some());
        if events(&mut bus).contains(&Event::Replace { reason: Reason::Timeout }) {
            break;
        }
        now = bus.poll_timeout().expect("an answer is awaited").max(now);
        bus.handle_timeout(now);
    }
    assert_eq!(requests, 2);
    assert_eq!(bus.poll_transmit(now), None);
}

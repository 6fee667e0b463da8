//! What the server says of its line: Application Protocol V1.1b3 §6.7 to §6.10, §6.13; counters as in MODBUS over Serial
//! Line V1.02 appendix A.

use ganglion_drivers::server::{Counters, Damage};
use ganglion_protocols::modbus::ExceptionCode;

use super::device::{BUSY, Talk, UNIT, frame};

const READ: [u8; 5] = [0x03, 0, 0, 0, 1];
const LOG: [u8; 1] = [0x0C];

fn diagnostic(sub_function: u8, data: u16) -> [u8; 5] {
    let [high, low] = data.to_be_bytes();
    [0x08, 0, sub_function, high, low]
}

/// Returns the events of a log answer.
fn events(answer: &[u8]) -> &[u8] {
    &answer[8..]
}

#[test]
fn query_data_come_back_however_many() {
    let mut talk = Talk::new();
    for data in [&[][..], &[0xA5, 0x37], &[7; 250]] {
        let request = [&[0x08, 0, 0], data].concat();
        assert_eq!(talk.ask(&request), request);
    }
    talk.refused(&[0x08, 0, 0, 1], 3);
}

#[test]
fn diagnostics_ask_sub_function_then_data() {
    let mut talk = Talk::new();
    for unknown in [0x03, 0x05, 0x09, 0x13, 0x15, 0xFF] {
        talk.refused(&diagnostic(unknown, 0), 1);
        talk.refused(&diagnostic(unknown, 1), 1);
        talk.refused(&[0x08, 0, unknown, 0], 1);
    }
    talk.refused(&[0x08, 1, 0x0B, 0, 0], 1);
    for known in [0x01, 0x02, 0x04, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F, 0x10, 0x11, 0x12, 0x14] {
        talk.refused(&diagnostic(known, 1), 3);
        talk.refused(&[0x08, 0, known], 3);
        talk.refused(&[0x08, 0, known, 0, 0, 0, 0], 3);
    }
    talk.refused(&[0x08], 3);
    talk.device.without.push(0x08);
    talk.refused(&diagnostic(0x0B, 0), 1);
}

#[test]
fn every_counter_counts_its_own_and_clears() {
    let mut talk = Talk::new();
    talk.ask(&READ);
    talk.send(18, &READ);
    talk.send(0, &[0x06, 0, 4, 0, 1]);
    talk.send(0, &[0x06, 2, 0, 0, 1]);
    talk.send(0, &READ);
    talk.ask(&[0x03, 2, 0, 0, 1]);
    talk.ask(&[0x06, 0, u8::try_from(BUSY).unwrap(), 0, 1]);
    talk.frame(&[UNIT.0, 3, 0, 0, 0, 1, 0, 0]);
    talk.frame(&[1]);
    talk.server.handle_damage(Damage::TooLong);
    talk.server.handle_damage(Damage::Overrun);
    let counted = Counters {
        bus_messages: 7,
        communication_errors: 4,
        exceptions: 3,
        messages: 5,
        no_responses: 3,
        naks: 0,
        busies: 1,
        overruns: 1,
        events: 2,
    };
    assert_eq!(talk.server.counters(), counted);
    // Asking counts: a bus message before the answer, the request after it.
    for (place, sub_function, expected) in
        [(1, 0x0B, 8), (2, 0x0C, 4), (3, 0x0D, 3), (4, 0x0E, 8), (5, 0x0F, 3), (6, 0x10, 0), (7, 0x11, 1), (8, 0x12, 1)]
    {
        assert_eq!(talk.ask(&diagnostic(sub_function, 0)), diagnostic(sub_function, expected));
        assert_eq!(talk.server.counters().bus_messages, 7 + place);
    }
    assert_eq!(talk.ask(&[0x0B]), [0x0B, 0, 0, 0, 10]);
    assert_eq!(talk.ask(&[0x0B]), [0x0B, 0, 0, 0, 10], "asking for this counter does not count in it");
    assert_eq!(talk.ask(&diagnostic(0x02, 0)), diagnostic(0x02, 0x1234));
    assert_eq!(talk.ask(&diagnostic(0x14, 0)), diagnostic(0x14, 0));
    assert_eq!(talk.server.counters().overruns, 0);
    assert_eq!(talk.ask(&diagnostic(0x0A, 0)), diagnostic(0x0A, 0));
    assert_eq!(talk.server.counters(), Counters::default());
    assert_eq!(talk.ask(&diagnostic(0x02, 0)), diagnostic(0x02, 0));
}

#[test]
fn the_log_holds_what_was_heard_and_sent_the_latest_first() {
    let mut talk = Talk::new();
    assert_eq!(talk.ask(&LOG), [0x0C, 7, 0, 0, 0, 0, 0, 1, 0x80], "the request for the log is in it");
    talk.ask(&[0x03, 2, 0, 0, 1]);
    talk.send(0, &[0x06, 0, 4, 0, 1]);
    talk.frame(&[UNIT.0, 0, 0, 0]);
    talk.server.handle_damage(Damage::Overrun);
    talk.send(18, &READ);
    let answer = talk.ask(&LOG);
    assert_eq!(answer[..8], [0x0C, 15, 0, 0, 0, 2, 0, 5]);
    assert_eq!(events(&answer), [0x80, 0x92, 0x82, 0x40, 0xC0, 0x41, 0x80, 0x40, 0x80]);
}

#[test]
fn the_log_holds_sixty_four_events() {
    let mut talk = Talk::new();
    for _ in 0..100 {
        talk.ask(&READ);
    }
    let answer = talk.ask(&LOG);
    assert_eq!((answer[1], events(&answer).len()), (70, 64));
    assert_eq!(events(&answer)[..3], [0x80, 0x40, 0x80]);
}

#[test]
fn who_is_told_to_listen_only_does_and_answers_nothing_until_a_restart() {
    let mut talk = Talk::new();
    assert_eq!(talk.send(UNIT.0, &diagnostic(0x04, 0)), None);
    assert!(talk.server.listens_only());
    let before = talk.device.clone();
    for request in [&READ[..], &[0x06, 0, 4, 0xBE, 0xEF], &diagnostic(0x0B, 0), &diagnostic(0x01, 0x1234)] {
        assert_eq!(talk.send(UNIT.0, request), None);
        assert_eq!(talk.send(0, request), None);
    }
    assert_eq!(talk.send(0, &diagnostic(0x01, 0)), None);
    assert!(talk.device == before && talk.server.listens_only());
    assert_eq!(talk.server.counters().bus_messages, 10, "it still counts");
    assert_eq!(talk.send(UNIT.0, &diagnostic(0x01, 0)), None, "the restart is not answered either");
    assert!(!talk.server.listens_only());
    assert_eq!(talk.server.counters(), Counters::default());
    assert_eq!(events(&talk.ask(&LOG))[..5], [0x80, 0x00, 0x60, 0xA0, 0x60], "and the log is kept");
    assert_eq!(talk.ask(&READ)[..2], [0x03, 2]);
}

#[test]
fn a_restart_is_answered_and_clears_the_log_when_it_is_told_so() {
    let mut talk = Talk::new();
    for (data, log) in [(0, &[0x80, 0x00, 0x40, 0x80, 0x40, 0x80][..]), (0xFF00, &[0x80, 0x00])] {
        talk.ask(&READ);
        assert_eq!(talk.ask(&diagnostic(0x01, data)), diagnostic(0x01, data));
        assert_eq!((talk.server.counters(), talk.device.register), (Counters::default(), 0));
        assert_eq!(events(&talk.ask(&LOG)), log);
    }
}

#[test]
fn exception_status_and_server_id_are_the_devices() {
    let mut talk = Talk::new();
    assert_eq!(talk.ask(&[0x07]), [0x07, 0x6D]);
    assert_eq!(talk.ask(&[0x11]), [0x11, 2, 0x42, 0xFF]);
    talk.device.server_id = vec![1; 251];
    assert_eq!(talk.ask(&[0x11]).len(), 253);
    for too_long in [252, 256] {
        talk.device.server_id = vec![1; too_long];
        talk.refused(&[0x11], ExceptionCode::SERVER_DEVICE_FAILURE.code());
    }
    for function in [0x07, 0x0B, 0x0C, 0x11] {
        talk.refused(&[function, 0], 3);
        talk.device.without.push(function);
        talk.refused(&[function], 1);
    }
}

#[test]
fn counters_wrap_around() {
    let mut talk = Talk::new();
    let foreign = frame(18, &READ);
    for _ in 0..=u16::MAX {
        assert_eq!(talk.frame(&foreign), None);
    }
    assert_eq!(talk.server.counters().bus_messages, 0);
}

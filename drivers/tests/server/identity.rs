//! Read device identification, Application Protocol V1.1b3 §6.21.

use ganglion_protocols::modbus::pdu::Response;

use super::device::Talk;

/// Walks a stream from an object as a client does; returns each answer's object ids.
fn walk(talk: &mut Talk, level: u8, mut object: u8) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    loop {
        let answer = talk.ask(&[0x2B, 0x0E, level, object]);
        let Ok(Response::ReadDeviceId(id)) = Response::parse(&answer) else { panic!("{answer:02X?}") };
        assert_eq!(id.level, level);
        for object in id.objects.iter() {
            assert_eq!(object.value, &talk.device.names[&object.id][..object.value.len()]);
        }
        answers.push(id.objects.iter().map(|object| object.id).collect());
        if !id.more_follows {
            assert_eq!(id.next_object, 0);
            return answers;
        }
        assert!(id.next_object > object, "it gets on");
        object = id.next_object;
    }
}

#[test]
fn the_basic_objects_come_in_one_answer() {
    let mut talk = Talk::new();
    let expected = b"\x2B\x0E\x01\x81\x00\x00\x03\x00\x05Maker\x01\x06NODE-1\x02\x051.2.3";
    assert_eq!(talk.ask(&[0x2B, 0x0E, 1, 0]), expected);
}

#[test]
fn a_level_holds_those_below_it_and_what_is_not_there_is_left_out() {
    let mut talk = Talk::new();
    talk.device.names.insert(4, b"Node".to_vec());
    talk.device.names.insert(0x80, b"serial".to_vec());
    talk.device.names.insert(0xFF, b"last".to_vec());
    assert_eq!(walk(&mut talk, 1, 0), [[0, 1, 2]]);
    assert_eq!(walk(&mut talk, 2, 0), [[0, 1, 2, 4]]);
    assert_eq!(walk(&mut talk, 3, 0), [[0, 1, 2, 4, 0x80, 0xFF]]);
    assert_eq!(walk(&mut talk, 3, 4), [[4, 0x80, 0xFF]]);
}

#[test]
fn the_conformity_is_what_the_device_has() {
    let mut talk = Talk::new();
    for (object, conformity) in [(1, 0x81), (6, 0x82), (0x80, 0x83)] {
        talk.device.names.insert(object, b"x".to_vec());
        for level in [1, 2, 3] {
            assert_eq!(talk.ask(&[0x2B, 0x0E, level, 0])[3], conformity);
        }
    }
}

#[test]
fn a_level_above_the_conformity_is_answered_with_what_there_is() {
    let mut talk = Talk::new();
    assert_eq!(walk(&mut talk, 3, 0), [[0, 1, 2]]);
}

#[test]
fn a_stream_from_an_object_that_is_not_there_begins_at_the_first() {
    let mut talk = Talk::new();
    talk.device.names.insert(0x80, b"serial".to_vec());
    assert_eq!(walk(&mut talk, 1, 0x80), [[0, 1, 2]]);
    assert_eq!(walk(&mut talk, 3, 0x70), [[0, 1, 2, 0x80]]);
    assert_eq!(walk(&mut talk, 1, 2), [[2]]);
}

#[test]
fn what_does_not_fit_follows() {
    let mut talk = Talk::new();
    for (id, len) in [(0, 100), (1, 100), (2, 40), (3, 1), (0x80, 244), (0x90, 255)] {
        talk.device.names.insert(id, vec![b'x'; len]);
    }
    assert_eq!(walk(&mut talk, 3, 0), [&[0, 1, 2][..], &[3], &[0x80], &[0x90]]);
    talk.device.names.insert(2, vec![b'x'; 41]);
    assert_eq!(walk(&mut talk, 1, 0), [&[0, 1][..], &[2]]);
}

#[test]
fn one_object_is_given_alone_or_refused_when_it_is_not_there() {
    let mut talk = Talk::new();
    assert_eq!(talk.ask(&[0x2B, 0x0E, 4, 1]), b"\x2B\x0E\x04\x81\x00\x00\x01\x01\x06NODE-1");
    talk.refused(&[0x2B, 0x0E, 4, 3], 2);
    talk.refused(&[0x2B, 0x0E, 4, 0xFF], 2);
}

#[test]
fn a_wrong_code_or_length_is_refused_after_the_type() {
    let mut talk = Talk::new();
    for level in [0, 5, 0xFF] {
        talk.refused(&[0x2B, 0x0E, level, 0], 3);
        talk.refused(&[0x2B, 0x0D, level, 0], 1);
    }
    talk.refused(&[0x2B, 0x0E, 1], 3);
    talk.refused(&[0x2B, 0x0E, 1, 0, 0], 3);
    talk.refused(&[0x2B], 3);
    talk.device.without.push(0x2B);
    talk.refused(&[0x2B, 0x0E, 0, 0], 1);
}

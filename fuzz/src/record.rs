//! Records of the buffer.

use ganglion_protocols::bytes::{Reader, Writer};
use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::record::{Record, ShapeId, put_gap, put_last_seq, put_mark, put_observation, put_shape};
use ganglion_protocols::{
    Clock, ClockSource, Cri, Gap, LossCause, Origin, Property, Quality, Reading, Reason, Shape, Timestamp, Value,
};

/// Every record that is taken uses up bytes, and an observation that is put again says the same.
pub(crate) fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    loop {
        let before = reader.rest().len();
        let record = match Record::take(&mut reader) {
            Ok(record) => record,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        };
        assert!(reader.rest().len() < before);
        match record {
            Record::Shape(shape) => {
                let width: usize = shape.runs().map(|run| usize::from(run.width())).sum();
                assert_eq!(width, usize::from(shape.width));
                assert!(shape.properties.len() <= shape.meaning.len() && shape.meaning.len() <= before);
            }
            Record::Observation(observation) => {
                let readings: Vec<Reading> = observation.readings().collect();
                assert!(readings.len() <= before);
                let mut out = vec![0; 64 + 16 * readings.len()];
                let mut writer = Writer::new(&mut out);
                put_observation(
                    &mut writer,
                    observation.shape,
                    observation.seq,
                    observation.t,
                    observation.clock,
                    &readings,
                )
                .expect("there is room");
                let len = writer.len();
                let mut again = Reader::new(&out[..len]);
                let Ok(Record::Observation(again)) = Record::take(&mut again) else {
                    panic!("what was put is no observation");
                };
                assert_eq!((again.shape, again.seq, again.t), (observation.shape, observation.seq, observation.t));
                // A float that is no number is not equal to itself: compared as it is printed.
                let again: Vec<Reading> = again.readings().collect();
                assert_eq!(format!("{again:?}"), format!("{readings:?}"));
            }
            Record::LastSeq { resource, seq } => {
                let mut out = [0; 32];
                let mut writer = Writer::new(&mut out);
                put_last_seq(&mut writer, resource, seq).expect("there is room");
                assert!(matches!(
                    Record::take(&mut Reader::new(&out)),
                    Ok(Record::LastSeq { resource: again, seq: number }) if again == resource && number == seq
                ));
            }
            Record::Mark { resource, origin, t } => {
                let mut out = [0; 32];
                let mut writer = Writer::new(&mut out);
                put_mark(&mut writer, resource, origin, t).expect("there is room");
                assert!(matches!(
                    Record::take(&mut Reader::new(&out)),
                    Ok(Record::Mark { resource: again, origin: place, t: when })
                        if again == resource && place == origin && when == t
                ));
            }
            Record::Gap(gap) => {
                let mut out = [0; 64];
                let mut writer = Writer::new(&mut out);
                put_gap(&mut writer, &gap).expect("there is room");
                assert!(matches!(Record::take(&mut Reader::new(&out)), Ok(Record::Gap(again)) if again == gap));
            }
        }
    }
}

/// A segment's beginning: a last number, a shape, a loss, a mark and two observations, apart and together.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let resource: Cri = "330502-0103-000123-33".parse().expect("an identifier");
    let properties = [
        Property { name: "pressure", unit: "kPa" },
        Property { name: "count.0", unit: "1" },
        Property { name: "count.1", unit: "1" },
    ];
    let shape = Shape { resource, domain: "water", directory: "2026.1", properties: &properties };
    let clock = Clock { source: ClockSource::Ntp, error_ms: Some(12) };
    let t = Timestamp::from_unix_nanos(1_795_330_435_123_456_789);
    let reason = Reason::Exception(ExceptionCode::ILLEGAL_DATA_ADDRESS);
    let observations = [
        [
            Reading { value: Some(Value::Double(0.412)), quality: Quality::Good },
            Reading { value: Some(Value::Uint(7)), quality: Quality::Uncertain(Reason::OutOfRange) },
            Reading { value: Some(Value::Bool(true)), quality: Quality::Good },
        ],
        [Reading { value: None, quality: Quality::Bad(reason) }; 3],
    ];
    let put = |put: &dyn Fn(&mut Writer<'_>)| {
        let mut out = [0; 512];
        let mut writer = Writer::new(&mut out);
        put(&mut writer);
        let len = writer.len();
        out[..len].to_vec()
    };
    let mut seeds = vec![
        put(&|out| put_last_seq(out, resource, 40).expect("there is room")),
        put(&|out| put_shape(out, ShapeId(0), &shape).expect("there is room")),
    ];
    let gap = Gap::whole(resource, (30, 40), (t, t), LossCause::Quota).expect("a gap");
    seeds.push(put(&|out| put_gap(out, &gap).expect("there is room")));
    let origin = Origin { epoch: 300, seq: 70_000 };
    seeds.push(put(&|out| put_mark(out, resource, origin, Timestamp::default()).expect("there is room")));
    for (readings, seq) in observations.iter().zip(41..) {
        seeds.push(put(&|out| put_observation(out, ShapeId(0), seq, t, clock, readings).expect("there is room")));
    }
    seeds.push(seeds.concat());
    seeds
}

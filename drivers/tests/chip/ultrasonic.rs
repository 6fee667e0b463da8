//! The ultrasonic level sensor.

use ganglion_drivers::chip::ultrasonic::Ultrasonic;
use ganglion_protocols::node_link::SensorFault;
use proptest::prelude::*;

use super::ms;

/// The example of the description: 1953 mm.
const FRAME: [u8; 4] = [0xFF, 0x07, 0xA1, 0xA7];

/// 30 to 4500 mm, stale after a second.
fn sensor() -> Ultrasonic {
    Ultrasonic::new(ms(0), 30..=4_500, ms(1_000))
}

/// Returns what it says when a second has not passed since the bytes.
fn after(bytes: &[u8]) -> Result<u16, SensorFault> {
    let mut sensor = sensor();
    sensor.handle_bytes(ms(2_000), bytes);
    sensor.distance_mm(ms(2_500))
}

fn frame(distance: u16) -> [u8; 4] {
    let [high, low] = distance.to_be_bytes();
    [0xFF, high, low, 0xFF_u8.wrapping_add(high).wrapping_add(low)]
}

#[test]
fn the_frame_of_the_description_is_1953_mm() {
    assert_eq!(after(&FRAME), Ok(1_953));
}

#[test]
fn a_distance_whose_frames_look_like_others_when_begun_late_is_heard_right() {
    for late in 0..4 {
        assert_eq!(after(&[frame(511); 3].concat()[late..]), Ok(511), "{late}");
    }
}

#[test]
fn the_last_frame_counts() {
    assert_eq!(after(&[frame(100), frame(200), FRAME].concat()), Ok(1_953));
}

#[test]
fn a_wrong_sum_is_no_frame() {
    assert_eq!(after(&[0xFF, 0x07, 0xA1, 0xA8]), Err(SensorFault::BadAnswer));
    assert_eq!(after(&[&[0xFF, 0x07, 0xA1, 0xA8], &frame(250)[..]].concat()), Ok(250));
}

#[test]
fn distances_outside_of_its_range_are_faults() {
    assert_eq!([0, 29].map(|mm| after(&frame(mm))), [Err(SensorFault::UnderRange); 2]);
    assert_eq!([30, 4_500].map(|mm| after(&frame(mm))), [Ok(30), Ok(4_500)]);
    assert_eq!([4_501, 0xFEFF].map(|mm| after(&frame(mm))), [Err(SensorFault::OverRange); 2]);
}

#[test]
fn a_sensor_that_falls_silent_says_no_answer_once_its_word_is_stale() {
    let mut sensor = sensor();
    assert_eq!(sensor.distance_mm(ms(1_000)), Err(SensorFault::NoSample));
    assert_eq!(sensor.distance_mm(ms(1_001)), Err(SensorFault::NoAnswer));
    sensor.handle_bytes(ms(1_500), &FRAME);
    assert_eq!(sensor.distance_mm(ms(2_500)), Ok(1_953));
    assert_eq!(sensor.distance_mm(ms(2_501)), Err(SensorFault::NoAnswer));
    sensor.handle_bytes(ms(2_600), &[0x00]);
    assert_eq!(sensor.distance_mm(ms(2_600)), Err(SensorFault::BadAnswer));
}

proptest! {
    #[test]
    fn a_distance_that_stays_is_heard_from_wherever_it_is_begun(distance in 0..0xFF00_u16, late in 0..4_usize) {
        let mut sensor = Ultrasonic::new(ms(0), 0..=0xFFFF, ms(1_000));
        sensor.handle_bytes(ms(10), &[frame(distance); 3].concat()[late..]);
        prop_assert_eq!(sensor.distance_mm(ms(10)), Ok(distance));
    }

    #[test]
    fn a_torn_frame_hides_no_more_than_the_one_behind_it(cut in 0..4_usize, first in 30..4_500_u16, then in 30..4_500_u16) {
        let bytes = [&frame(first)[..cut], &frame(then)[..], &frame(then)[..]].concat();
        prop_assert_eq!(after(&bytes), Ok(then));
    }

    #[test]
    fn whatever_comes_in_whatever_lumps_two_frames_later_it_is_right(
        lumps in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..20), distance in 30..4_500_u16,
    ) {
        let mut sensor = sensor();
        for lump in &lumps {
            sensor.handle_bytes(ms(10), lump);
            sensor.distance_mm(ms(10)).ok();
        }
        sensor.handle_bytes(ms(20), &[frame(distance), frame(distance)].concat());
        prop_assert_eq!(sensor.distance_mm(ms(20)), Ok(distance));
    }
}

//! Tilt and covers.

use ganglion_drivers::chip::tilt::Cover::{Closed, Moved, Open};
use ganglion_drivers::chip::tilt::{CoverLimits, CoverWatch, Vector};
use proptest::prelude::*;

const DOWN: Vector = v(0, 0, 1_000);

const fn v(x: i16, y: i16, z: i16) -> Vector {
    Vector { x, y, z }
}

/// Moved from 3.0°, open from 20.0°, with 1.0° of hysteresis.
fn watch(mounted: Vector) -> CoverWatch {
    CoverWatch::new(mounted, CoverLimits::new(30, 200, 10).unwrap()).unwrap()
}

/// Returns 1 g turned by so many degrees about the first axis.
#[allow(clippy::cast_possible_truncation, reason = "at most 1000")]
fn turned(degrees: f64) -> Vector {
    let (sine, cosine) = degrees.to_radians().sin_cos();
    v(0, (1_000.0 * sine).round() as i16, (1_000.0 * cosine).round() as i16)
}

#[test]
fn angles_are_what_geometry_says() {
    for (other, angle) in [
        (v(0, 0, 1_000), 0),
        (v(0, 0, 1), 0),
        (v(1_000, 0, 0), 900),
        (v(0, -7, 0), 900),
        (v(0, 0, -1_000), 1_800),
        (v(1_000, 0, 1_000), 450),
        (v(0, 1_000, -1_000), 1_350),
        (v(577, 577, 577), 547),
        (v(i16::MIN, i16::MIN, i16::MIN), 1_253),
    ] {
        assert_eq!(DOWN.angle_to(other), Some(angle), "{other:?}");
    }
}

#[test]
fn there_is_no_angle_to_nothing() {
    assert_eq!(DOWN.angle_to(v(0, 0, 0)), None);
    assert_eq!(v(0, 0, 0).angle_to(DOWN), None);
    assert!(CoverWatch::new(v(0, 0, 0), CoverLimits::new(30, 200, 10).unwrap()).is_none());
}

#[test]
fn a_cover_is_moved_then_open_and_closed_again_beyond_the_hysteresis() {
    let mut watch = watch(DOWN);
    let angles = [0.0, 2.9, 3.1, 2.5, 1.8, 2.5, 10.0, 19.8, 20.2, 19.2, 18.8, 90.0, 180.0, 1.0];
    let covers = [Closed, Closed, Moved, Moved, Closed, Closed, Moved, Moved, Open, Open, Moved, Open, Open, Closed];
    assert_eq!(angles.map(|angle| watch.observe(turned(angle)).unwrap().0), covers);
    assert_eq!(watch.cover(), Closed);
}

#[test]
fn a_cover_that_is_mounted_askew_is_closed_as_it_lies() {
    let mut watch = watch(v(400, -300, 850));
    assert_eq!(watch.observe(v(400, -300, 850)), Some((Closed, 0)));
    assert_eq!(watch.observe(DOWN).unwrap().0, Open);
}

#[test]
fn while_it_is_shaken_it_lies_as_before() {
    let mut watch = watch(DOWN);
    for shaken in [v(0, 700, 0), v(0, 1_300, 0), v(0, 0, 0), v(i16::MIN, 0, 0)] {
        assert_eq!(watch.observe(shaken), None, "{shaken:?}");
    }
    assert_eq!(watch.cover(), Closed);
    assert_eq!(watch.observe(v(0, 800, 0)), Some((Open, 900)));
}

#[test]
fn limits_in_the_wrong_order_are_none() {
    for (moved, open, hysteresis) in [(30, 30, 0), (30, 20, 0), (30, 200, 30), (30, 1_801, 0), (0, 10, 0)] {
        assert_eq!(CoverLimits::new(moved, open, hysteresis), None);
    }
}

proptest! {
    #[test]
    fn an_angle_is_within_a_tenth_of_what_floating_point_says(a: (i16, i16, i16), b: (i16, i16, i16)) {
        let [p, q] = [a, b].map(|(x, y, z)| [x, y, z].map(f64::from));
        let dot = p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
        let cross = [p[1] * q[2] - p[2] * q[1], p[2] * q[0] - p[0] * q[2], p[0] * q[1] - p[1] * q[0]];
        let cross = cross.iter().map(|part| part * part).sum::<f64>().sqrt();
        match v(a.0, a.1, a.2).angle_to(v(b.0, b.1, b.2)) {
            Some(angle) => {
                let exact = cross.atan2(dot).to_degrees() * 10.0;
                prop_assert!((f64::from(angle) - exact).abs() <= 0.6, "{angle} {exact}");
            }
            None => prop_assert!(dot == 0.0 && cross == 0.0),
        }
    }

    #[test]
    fn whatever_is_felt_the_cover_lies_somehow(felt: Vec<(i16, i16, i16)>) {
        let mut watch = watch(DOWN);
        for (x, y, z) in felt {
            if let Some((cover, angle)) = watch.observe(v(x, y, z)) {
                prop_assert_eq!(cover, watch.cover());
                prop_assert!(angle <= 1_800);
            }
        }
    }
}

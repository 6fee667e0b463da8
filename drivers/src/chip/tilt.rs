//! How far a cover is turned from how it lay when it was mounted, and whether that is moved or open.
//!
//! An accelerometer at rest feels gravity only, so the angle between what it felt then and what it feels now is the tilt,
//! however it is mounted. Integers only: atan2 of cross and dot product by CORDIC.

/// An acceleration, in mg or any other unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vector {
    /// First axis.
    pub x: i16,
    /// Second axis.
    pub y: i16,
    /// Third axis.
    pub z: i16,
}

/// How a cover lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cover {
    /// As it was mounted.
    Closed,
    /// Turned, but not open: driven over, badly seated, being levered.
    Moved,
    /// Open.
    Open,
}

/// Angles at which a cover changes, in 0.1°.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoverLimits {
    moved: u16,
    open: u16,
    hysteresis: u16,
}

/// Decides how a cover lies.
#[derive(Clone, Debug)]
pub struct CoverWatch {
    mounted: Vector,
    limits: CoverLimits,
    cover: Cover,
}

impl Vector {
    /// Returns the angle to another vector in 0.1°, 0 to 1800, to the nearest; `None` when either is nothing.
    #[must_use]
    pub fn angle_to(self, other: Self) -> Option<u16> {
        let [a, b] = [self, other].map(|vector| [vector.x, vector.y, vector.z].map(i64::from));
        let ([ax, ay, az], [bx, by, bz]) = (a, b);
        // Each product is at most 2^30.
        let product = |p: i64, q: i64| p.wrapping_mul(q);
        let difference = |p: i64, q: i64| p.wrapping_sub(q).unsigned_abs();
        let dot = product(ax, bx).wrapping_add(product(ay, by)).wrapping_add(product(az, bz));
        let cross = [
            difference(product(ay, bz), product(az, by)),
            difference(product(az, bx), product(ax, bz)),
            difference(product(ax, by), product(ay, bx)),
        ];
        // Three squares of at most 2^31 are below 2^64.
        let squared = cross.iter().fold(0_u64, |sum, part| sum.saturating_add(part.saturating_mul(*part)));
        let cross = i64::try_from(squared.isqrt()).unwrap_or(i64::MAX);
        (dot != 0 || cross != 0).then(|| tenths(atan2(cross, dot)))
    }

    /// Returns the square of its length.
    #[must_use]
    pub fn squared(self) -> u32 {
        let square = |part: i16| u32::from(part.unsigned_abs()).saturating_mul(u32::from(part.unsigned_abs()));
        square(self.x).saturating_add(square(self.y)).saturating_add(square(self.z))
    }
}

impl CoverLimits {
    /// A cover is moved from `moved` and open from `open`, and no longer when it is below by more than `hysteresis`; all in
    /// 0.1°. `None` unless `hysteresis` < `moved` < `open` <= 1800.
    #[must_use]
    pub const fn new(moved: u16, open: u16, hysteresis: u16) -> Option<Self> {
        if hysteresis < moved && moved < open && open <= 1800 { Some(Self { moved, open, hysteresis }) } else { None }
    }
}

impl CoverWatch {
    /// Starts closed; `mounted` is what was felt when the cover was seated. `None` when that is nothing.
    #[must_use]
    pub fn new(mounted: Vector, limits: CoverLimits) -> Option<Self> {
        (mounted.squared() != 0).then_some(Self { mounted, limits, cover: Cover::Closed })
    }

    /// Takes what is felt now and says how the cover lies, and its angle in 0.1°. While it is shaken, when what it feels is
    /// off by more than a quarter from what it felt at rest, nothing is known: `None`, and it lies as before.
    pub fn observe(&mut self, felt: Vector) -> Option<(Cover, u16)> {
        // (3/4)^2 and (5/4)^2, in sixteenths.
        let (felt_squared, rest) = (u64::from(felt.squared()), u64::from(self.mounted.squared()));
        let sixteenths = felt_squared.saturating_mul(16);
        if sixteenths < rest.saturating_mul(9) || sixteenths > rest.saturating_mul(25) {
            return None;
        }
        let angle = felt.angle_to(self.mounted)?;
        let at_least = |cover, limit: u16| {
            let held = if self.cover >= cover { self.limits.hysteresis } else { 0 };
            angle >= limit.saturating_sub(held)
        };
        self.cover = if at_least(Cover::Open, self.limits.open) {
            Cover::Open
        } else if at_least(Cover::Moved, self.limits.moved) {
            Cover::Moved
        } else {
            Cover::Closed
        };
        Some((self.cover, angle))
    }

    /// Says how the cover lay last.
    #[must_use]
    pub const fn cover(&self) -> Cover {
        self.cover
    }
}

/// Turns of the CORDIC: atan(2^-n) in 0.0001°.
const TURNS: [i32; 18] =
    [450_000, 265_651, 140_362, 71_250, 35_763, 17_899, 8_952, 4_476, 2_238, 1_119, 560, 280, 140, 70, 35, 17, 9, 4];

/// Returns the angle in 0.0001°, 0 to 180°, of a point with `y` of at least 0 and not at the origin.
fn atan2(y: i64, x: i64) -> i32 {
    // Below 2^33 each. Shifted up, so that the smallest turns still move something; the length grows by 1.65.
    let shift = (x.unsigned_abs() | y.unsigned_abs()).leading_zeros().saturating_sub(4);
    let (mut along, mut across) = (x.saturating_abs().wrapping_shl(shift), y.wrapping_shl(shift));
    // Below 0 in between.
    let mut angle = 0_i32;
    for (place, turn) in (0..).zip(TURNS) {
        let (step_along, step_across) = (across.wrapping_shr(place), along.wrapping_shr(place));
        if across >= 0 {
            along = along.saturating_add(step_along);
            across = across.saturating_sub(step_across);
            angle = angle.saturating_add(turn);
        } else {
            along = along.saturating_sub(step_along);
            across = across.saturating_add(step_across);
            angle = angle.saturating_sub(turn);
        }
    }
    if x < 0 { 1_800_000_i32.saturating_sub(angle) } else { angle }
}

/// Rounds 0.0001° to 0.1°.
fn tenths(angle: i32) -> u16 {
    u16::try_from(angle.max(0).saturating_add(500) / 1000).unwrap_or(u16::MAX)
}

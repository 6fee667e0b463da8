//! Which readings are worth a report.

/// How far a value must move from the one last reported to be reported again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Deadband {
    /// In the property's unit, not negative.
    pub absolute: f64,
    /// In percent of the value last reported, not negative.
    pub percent: f64,
}

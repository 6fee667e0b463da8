//! The table of the bus bench, as it stands in `docs/measured.md`.

use std::fmt;

use super::Measured;

/// One row, with the head before the first of each line speed and layout.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    /// The row.
    pub measured: &'a Measured,
    /// Whether the head is needed.
    pub head: bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { baud, layout, cycle_ms, cycle_requests, slot_s, seconds, .. } = self.measured;
        if self.head {
            writeln!(
                f,
                "{baud} Bd 8N1, 4 units x 60 registers, {layout}: a cycle is {cycle_requests} requests and {cycle_ms:.1} ms at \
                 least; {seconds:.0} s; covered: slots of {slot_s} s"
            )?;
            writeln!(
                f,
                "  {:<10} | {:>8} {:>9} {:>6} | {:>8} {:>9} | {:>7} {:>8} {:>5} {:>4} {:>5}",
                "",
                "line use",
                "reference",
                "ratio",
                "of clean",
                "reference",
                "covered",
                "not good",
                "wrong",
                "lost",
                "hasty"
            )?;
        }
        let Measured { case, line_use, reference_line_use, of_clean, reference_of_clean, covered, .. } = self.measured;
        let Measured { not_good, wrong, lost, hasty, .. } = self.measured;
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let optional = |share: &Option<f64>| share.map_or("-".to_owned(), percent);
        write!(
            f,
            "  {case:<10} | {:>8} {:>9} {:>6.3} | {:>8} {:>9} | {:>7} {not_good:>8} {wrong:>5} {lost:>4} {hasty:>5}",
            percent(*line_use),
            percent(*reference_line_use),
            line_use / reference_line_use,
            optional(of_clean),
            optional(reference_of_clean),
            percent(*covered),
        )
    }
}

//! Code tables: CSV whose first line names the columns; a record that is wrong is reported by line and column.

use csv::{ReaderBuilder, StringRecord};

use super::report::{Findings, Place};

/// One record of a table, with the places of its fields.
pub(super) struct Row {
    source: usize,
    /// Byte in the file where the record starts.
    start: usize,
    record: StringRecord,
    /// For each wanted column, its place in the record.
    columns: Vec<usize>,
}

impl Row {
    /// Returns the field of a wanted column, without the blanks around it.
    pub(super) fn field(&self, column: usize) -> &str {
        self.columns.get(column).and_then(|&at| self.record.get(at)).unwrap_or_default().trim()
    }

    /// Returns where the record is, up to the end of its first line.
    pub(super) fn whole(&self, findings: &Findings) -> Place {
        let text = findings.text_after(self.source, self.start);
        let end = text.find(['\r', '\n']).unwrap_or(text.len());
        Place::new(self.source, &(self.start..self.start + end))
    }

    /// Returns where the field of a wanted column is.
    pub(super) fn place(&self, findings: &Findings, column: usize) -> Place {
        let text = findings.text_after(self.source, self.start);
        let span = field_span(text, self.columns.get(column).copied().unwrap_or_default());
        Place::new(self.source, &(self.start + span.start..self.start + span.end))
    }
}

/// Byte order mark, which spreadsheets put before UTF-8.
const MARK: &str = "\u{feff}";

/// Returns the names in the first line of a table, without the blanks around them, and where each is. `None` when there
/// is no such line.
pub(super) fn header(findings: &mut Findings, source: usize, text: &str) -> Option<Vec<(String, Place)>> {
    let mut reader = ReaderBuilder::new().has_headers(true).from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) if !header.is_empty() => header.clone(),
        Ok(_) => {
            findings.unusable(source, "the table is empty: its first line names its columns");
            return None;
        }
        Err(error) => {
            findings.unusable(source, format!("not a CSV table: {error}"));
            return None;
        }
    };
    let places = (0..header.len()).map(|index| Place::new(source, &field_span(text, index)));
    let names = header.iter().map(|name| name.trim_start_matches(MARK).trim().to_owned());
    Some(names.zip(places).collect())
}

/// Reads the records of a table that must have the `wanted` columns; more columns are the city's own business.
pub(super) fn read(findings: &mut Findings, source: usize, text: &str, wanted: &[&str]) -> Vec<Row> {
    let mut reader = ReaderBuilder::new().has_headers(true).from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            findings.unusable(source, format!("not a CSV table: {error}"));
            return Vec::new();
        }
    };
    let first_line = Place::new(source, &(0..text.find('\n').unwrap_or(text.len())));
    let mut columns = Vec::new();
    for name in wanted {
        match header.iter().position(|column| column.trim_start_matches(MARK).trim() == *name) {
            Some(at) => columns.push(at),
            None => {
                findings.error(first_line, format!("the table has no column `{name}`"));
            }
        }
    }
    if columns.len() < wanted.len() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for record in reader.into_records() {
        match record {
            Ok(record) => {
                let start = record.position().map_or(0, |position| byte(position.byte()));
                let blank =
                    text.get(start..).map_or(0, |rest| rest.len() - rest.trim_start_matches(['\r', '\n']).len());
                rows.push(Row { source, start: start + blank, record, columns: columns.clone() });
            }
            Err(error) => {
                let start = error.position().map_or(0, |position| byte(position.byte()));
                let end = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| start + at);
                let message = match error.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        format!("{len} fields, the first line names {expected_len}")
                    }
                    _ => format!("not a CSV record: {error}"),
                };
                findings.error(Place::new(source, &(start..end)), message);
            }
        }
    }
    rows
}

fn byte(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// Finds the bytes of the `index`-th field of the record that `text` starts with, quotes included.
fn field_span(text: &str, index: usize) -> std::ops::Range<usize> {
    let mut start = 0;
    let mut field = 0;
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                if field == index {
                    return start..at;
                }
                field += 1;
                start = at + 1;
            }
            '\n' | '\r' if !quoted => return if field == index { start..at } else { 0..at },
            _ => {}
        }
    }
    start..text.len()
}

#[cfg(test)]
mod tests {
    use super::field_span;

    #[test]
    fn a_field_is_found_behind_quoted_commas() {
        let text = "130971,\"a, b\",x\nnext";
        assert_eq!(&text[field_span(text, 1)], "\"a, b\"");
        assert_eq!(&text[field_span(text, 2)], "x");
    }
}

//! The reports: JUnit's XML for machines, one HTML page for people. Whatever a trace holds is text in both.

use super::case::{Case, Outcome};

/// Returns the cases as JUnit XML, in the form that CI servers read.
pub(super) fn junit(cases: &[Case]) -> String {
    let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|case| wanted(&case.outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
    let seconds: f64 = cases.iter().map(|case| case.seconds).sum();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"hil\" tests=\"{}\" failures=\"{failed}\" \
         errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n",
        cases.len()
    );
    for case in cases {
        let (suite, name) = (escaped(&case.suite), escaped(&case.name));
        let inside = match &case.outcome {
            Outcome::Passed => String::new(),
            Outcome::Skipped { why } => format!("<skipped message=\"{}\"/>", escaped(why)),
            Outcome::Failed { printed, traces } => {
                let files: String = traces.iter().map(|(file, text)| format!("\n--- {file}\n{text}")).collect();
                format!(
                    "<failure message=\"failed\">{}</failure><system-out>{}</system-out>",
                    escaped(printed),
                    escaped(&files)
                )
            }
        };
        let seconds = case.seconds;
        xml += &format!("<testcase classname=\"{suite}\" name=\"{name}\" time=\"{seconds:.3}\">{inside}</testcase>\n");
    }
    xml + "</testsuite>\n"
}

/// Returns the cases as a page that needs nothing from outside.
pub(super) fn html(cases: &[Case]) -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Bench</title>\n<style>body{font:15px \
         sans-serif;margin:2em}td{padding:.2em 1em .2em 0;vertical-align:top}pre{background:#eee;padding:.5em;overflow:auto}\
         .passed{color:#060}.skipped{color:#850}.failed{color:#b00}</style>\n<h1>Hardware in the loop</h1>\n<table>\n",
    );
    for case in cases {
        let (class, detail) = match &case.outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Skipped { why } => ("skipped", escaped(why)),
            Outcome::Failed { printed, traces } => {
                let part = |name: &str, text: &str| {
                    format!("<details><summary>{}</summary><pre>{}</pre></details>", escaped(name), escaped(text))
                };
                let files = traces.iter().map(|(file, text)| part(file, text));
                ("failed", std::iter::once(part("what it printed", printed)).chain(files).collect())
            }
        };
        let (sentence, seconds) = (escaped(&case.sentence()), case.seconds);
        page += &format!("<tr><td class=\"{class}\">{class}<td>{seconds:.1} s<td>{sentence}<br>{detail}\n");
    }
    page + "</table></html>\n"
}

/// Makes text harmless in elements and attributes of both. Characters that XML 1.0 §2.2 does not allow become U+FFFD.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\t' | '\n' | '\r' => safe.push(character),
            '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => safe.push('\u{FFFD}'),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> Vec<Case> {
        let bad = "</pre><script>alert('x')</script>]]>&\"\u{1b}\u{0}\u{FFFF}";
        let failed = Outcome::Failed { printed: bad.to_owned(), traces: vec![(bad.to_owned(), bad.to_owned())] };
        [failed, Outcome::Skipped { why: bad.to_owned() }, Outcome::Passed]
            .map(|outcome| Case { suite: bad.to_owned(), name: bad.to_owned(), seconds: 1.0, outcome })
            .into()
    }

    #[test]
    fn hostile_names_and_traces_stay_text_in_both_reports() {
        for report in [junit(&hostile()), html(&hostile())] {
            assert!(!report.contains("<script") && !report.contains("]]>") && !report.contains("</pre><s"), "{report}");
            assert!(!report.contains(['\u{1b}', '\u{0}', '\u{FFFF}']), "{report}");
            assert!(report.contains("&lt;script&gt;alert(&#39;x&#39;)"), "{report}");
        }
    }

    #[test]
    fn what_is_skipped_or_failed_is_counted_and_says_why() {
        let xml = junit(&hostile());
        assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"3.000\""), "{xml}");
        assert_eq!(xml.matches("<testcase ").count(), 3);
        let skipped = Outcome::of(true, "running\nskipped: no QEMU\n".to_owned(), Vec::new);
        assert_eq!(skipped, Outcome::Skipped { why: "no QEMU".to_owned() });
    }
}

//! What a terminal shows, as a picture.

use std::fmt::Write as _;

/// Width of a character and height of a line, in the picture's units.
const WIDTH: usize = 8;
const HEIGHT: usize = 18;
const MARGIN: usize = 14;
/// Height of the window's title.
const TITLE: usize = 28;

/// Draws lines of a terminal; those that begin with a prompt are what was typed.
pub(crate) fn svg(title: &str, lines: &[&str]) -> String {
    let columns = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let (width, height) = (columns * WIDTH + 2 * MARGIN, lines.len() * HEIGHT + TITLE + 2 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-size=\"13\" \
         font-family=\"ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1b1f24\"/>\n\
         <text x=\"{MARGIN}\" y=\"{}\" fill=\"#8b949e\">{}</text>\n",
        TITLE - 8,
        escaped(title),
    );
    for (line, place) in lines.iter().zip(1..).filter(|(line, _)| !line.is_empty()) {
        let y = TITLE + place * HEIGHT;
        let colour = if line.starts_with("$ ") { "#7ee787" } else { "#e6edf3" };
        let text = escaped(line);
        // Every font of the list is as wide as it likes; the length makes columns of it.
        let length = line.chars().count() * WIDTH;
        let _into_text = writeln!(
            out,
            "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{colour}\" textLength=\"{length}\" xml:space=\"preserve\">{text}</text>"
        );
    }
    out.push_str("</svg>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
fn a_picture_has_a_line_for_each_and_means_no_markup() {
    let picture = svg("node", &["$ a < b", "c & d"]);
    assert!(picture.contains(">$ a &lt; b</text>") && picture.contains(">c &amp; d</text>"), "{picture}");
    assert!(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 84 92\""), "{picture}");
}

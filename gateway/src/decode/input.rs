//! Frames as people have them at hand: hexadecimal in any dress, or text; from arguments, a file or standard input.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use super::Fault;

/// How frames of a protocol are written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Bytes in hexadecimal.
    Bytes,
    /// A line of text; its CR LF may be missing or written as `\r\n`.
    Line,
}

/// One frame as it was given.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Line {
    /// Which line of several, for messages; empty when there is only one.
    pub(super) place: String,
    /// Its text.
    pub(super) text: String,
}

impl Form {
    /// Returns the word for a place in a frame.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::Bytes => "byte",
            Self::Line => "character",
        }
    }

    /// Takes the bytes of one frame out of its text.
    pub(super) fn bytes(self, text: &str) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Bytes => hex(text),
            Self::Line => {
                let line = text.trim_end().trim_end_matches(r"\n").trim_end_matches(r"\r");
                Ok(format!("{line}\r\n").into_bytes())
            }
        }
    }
}

/// Reads hexadecimal: two digits a byte. Between bytes spaces, commas, colons, hyphens and 0x are passed over; a byte of
/// its own behind 0x may have one digit.
pub(super) fn hex(text: &str) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || ",:;-".contains(c)) {
        let prefixed = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
        let digits = prefixed.unwrap_or(word);
        if let Some(wrong) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(Fault { at: bytes.len(), why: format!("{wrong:?} is no hexadecimal digit") });
        }
        let padded = match digits.len() {
            0 if prefixed.is_some() => {
                return Err(Fault { at: bytes.len(), why: "0x without digits".to_owned() });
            }
            1 if prefixed.is_some() => format!("0{digits}"),
            odd if odd % 2 == 1 => {
                let at = bytes.len() + odd / 2;
                return Err(Fault { at, why: format!("{odd} digits in {word:?}, a byte takes two") });
            }
            _ => digits.to_owned(),
        };
        let pairs = (0..padded.len()).step_by(2).filter_map(|at| padded.get(at..at + 2));
        bytes.extend(pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok()));
    }
    Ok(bytes)
}

/// Finds the frames: the arguments are one, a file and standard input have one a line.
pub(super) fn lines(arguments: &[String], file: Option<&Path>) -> Result<Vec<Line>, String> {
    let (text, source) = match (arguments, file) {
        (_, Some(path)) => {
            let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            (as_text(text).map_err(|why| format!("{}: {why}", path.display()))?, path.display().to_string())
        }
        ([] | [_], None) if arguments.iter().all(|word| word == "-") => {
            let mut stdin = io::stdin().lock();
            if arguments.is_empty() && stdin.is_terminal() {
                return Err("nothing to decode: give a frame, --file FILE, or \"-\" for standard input".to_owned());
            }
            let mut text = Vec::new();
            stdin.read_to_end(&mut text).map_err(|error| format!("standard input: {error}"))?;
            (as_text(text).map_err(|why| format!("standard input: {why}"))?, "standard input".to_owned())
        }
        // Bytes parted by spaces come as several words; a newline inside quotes parts frames.
        (words, None) => (words.join(" "), "the arguments".to_owned()),
    };
    let mut lines: Vec<Line> = text
        .lines()
        .zip(1_usize..)
        .filter(|(line, _)| !line.trim().is_empty())
        .map(|(line, number)| Line { place: format!("line {number}, "), text: line.to_owned() })
        .collect();
    if let [line] = lines.as_mut_slice() {
        line.place.clear();
    }
    if lines.is_empty() { Err(format!("{source}: no frame in it")) } else { Ok(lines) }
}

fn as_text(bytes: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("byte {at} is no text; frames are read as hexadecimal or text, one a line")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_in_every_usual_dress() {
        let expected = Ok(vec![0x01, 0x03, 0x0A, 0xFF]);
        for text in [
            "01030AFF",
            "01 03 0a ff",
            "01:03:0A:FF",
            "01-03-0A-FF",
            " 0x01, 0x03, 0xA, 0xFF ",
            "0x01030AFF",
            "0103 0AFF\r",
        ] {
            assert_eq!(hex(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_hexadecimal_is_named_with_its_place() {
        let wrong = |at, why: &str| Err(Fault { at, why: why.to_owned() });
        assert_eq!(hex("01 0G"), wrong(1, "'G' is no hexadecimal digit"));
        assert_eq!(hex("01030"), wrong(2, "5 digits in \"01030\", a byte takes two"));
        assert_eq!(hex("01 0x"), wrong(1, "0x without digits"));
        assert_eq!(hex("01 ü"), wrong(1, "'ü' is no hexadecimal digit"));
    }

    #[test]
    fn a_line_of_text_gets_the_end_it_lost() {
        for text in [":11037E", ":11037E\r\n", ":11037E\n", r":11037E\r\n"] {
            assert_eq!(Form::Line.bytes(text), Ok(b":11037E\r\n".to_vec()), "{text:?}");
        }
    }
}

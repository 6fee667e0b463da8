//! A page as it is written: its commands, and what they are said to print.

use std::path::Path;

/// Begins and ends a block of code.
const FENCE: &str = "```";
/// Begins a command.
const PROMPT: &str = "$ ";
/// Stands for output that is not shown.
const LEFT_OUT: &str = "…";
/// Programs whose commands are looked for in running text, too.
const PROGRAMS: [&str; 3] = ["ganglion ", "cargo xtask ", "probe-rs "];

/// Reads a page of `docs/field`.
pub(crate) fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/field").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the commands that a page shows at a prompt, in their order.
pub(crate) fn typed(page: &str) -> Vec<&str> {
    let mut code = false;
    let mut commands = Vec::new();
    for line in page.lines() {
        code ^= line.starts_with(FENCE);
        commands.extend(line.strip_prefix(PROMPT).filter(|_| code));
    }
    commands
}

/// Returns the commands that a page names in its text, between backquotes.
pub(crate) fn named(page: &str) -> Vec<&str> {
    let mut code = false;
    let mut commands = Vec::new();
    for line in page.lines() {
        code ^= line.starts_with(FENCE);
        // The second, fourth, … part of a line lies between backquotes.
        let quoted = line.split('`').skip(1).step_by(2).filter(|_| !code);
        commands.extend(quoted.filter(|text| PROGRAMS.iter().any(|program| text.starts_with(program))));
    }
    commands
}

/// Returns the page with what its commands really print. Where the page leaves something out, which is a line of its own,
/// the same number of lines comes before it.
pub(crate) fn played(page: &str, mut run: impl FnMut(&str) -> String) -> String {
    let mut code = false;
    let mut out = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        code ^= line.starts_with(FENCE);
        let Some(command) = line.strip_prefix(PROMPT).filter(|_| code) else { continue };
        let printed = run(command);
        let mut shown = Vec::new();
        while let Some(said) = lines.next_if(|line| !line.starts_with(FENCE) && !line.starts_with(PROMPT)) {
            shown.push(said);
        }
        let most = shown.iter().position(|line| *line == LEFT_OUT);
        let mut expected = shown.iter();
        for said in printed.lines().take(most.unwrap_or(usize::MAX)).chain(most.map(|_| LEFT_OUT)) {
            let known = expected.next().filter(|known| is_same_sample(known, said));
            out.push_str(known.unwrap_or(&said));
            out.push('\n');
        }
    }
    out
}

/// Says whether both lines are one sample's, with the same epoch, number and boot and as many values: when it is measured to
/// the millisecond, and with it the test signal, depends on how busy the computer is.
fn is_same_sample(one: &str, other: &str) -> bool {
    let head = |line| str::split(line, ' ').take(4).collect::<Vec<_>>();
    let values = |line: &str| line.split(' ').count();
    one.starts_with("sample ") && head(one) == head(other) && values(one) == values(other)
}

/// Returns the lines of the blocks in which one of these texts is.
pub(crate) fn blocks_with<'a>(page: &'a str, texts: &[&str]) -> Vec<&'a str> {
    let blocks = page.split(FENCE).skip(1).step_by(2).filter(|block| texts.iter().any(|text| block.contains(text)));
    // The first line names the language.
    blocks.flat_map(|block| block.lines().skip(1)).collect()
}

#[test]
fn the_commands_of_a_page_are_found_where_a_reader_finds_them() {
    let page = "Type `ganglion id X` or `ls`:\n```text\n$ one\nsays\n$ two\n```\n$ three\n";
    assert_eq!(typed(page), ["one", "two"]);
    assert_eq!(named(page), ["ganglion id X"]);
    let expected = "Type `ganglion id X` or `ls`:\n```text\n$ one\n<one>\n$ two\n<two>\n```\n$ three\n";
    assert_eq!(played(page, |command| format!("<{command}>\n")), expected);
    let page = "```text\n$ one\nold\n…\n```\n";
    assert_eq!(played(page, |_| "new\nmore\n".to_owned()), "```text\n$ one\nnew\n…\n```\n");
    assert!(is_same_sample("sample 0 1 1 5000 25 -", "sample 0 1 1 5003 26 7"));
    assert!(!is_same_sample("sample 0 1 1 5000 25 -", "sample 0 2 1 5003 26 7"));
    assert!(!is_same_sample("sample 0 1 1 5000 25 -", "sample 0 1 1 5003 26"));
}

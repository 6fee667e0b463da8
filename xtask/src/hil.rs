//! The bench: runs every test that needs nodes, each in a process of its own, and reports.

mod case;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use clap::Args;

use crate::shell::{Failure, cargo, command, output, root, run, target_dir};
use case::{Case, Outcome};

/// Builds the nodes and the daemon, runs the hardware-in-the-loop tests on QEMU, and reports (target/hil)
#[derive(Args)]
pub(crate) struct Options {
    /// Leave out the tests of modules named `long`
    #[arg(long)]
    quick: bool,
    /// Run only tests whose name contains this
    filter: Option<String>,
}

/// Test programs whose names begin so are the bench's.
const PREFIX: &str = "hil_";
/// How many bytes of garbage `hil_bytes` sends to a node; without it a short run's.
const BYTES: (&str, &str) = ("GANGLION_HIL_BYTES", "10000000");
/// Where firmware is built, in the build folder.
const FIRMWARE: &str = "firmware";
/// Boards, and what starts before them, with their targets.
const BOARDS: [(&str, &str); 3] = [
    ("nucleo-boot", "thumbv7em-none-eabihf"),
    ("nucleo-l476rg", "thumbv7em-none-eabihf"),
    ("lm3s6965evb", "thumbv7m-none-eabi"),
];

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let target = target_dir()?;
    let folder = target.join("hil");
    make(&folder)?;
    firmware(&target)?;
    run(&mut cargo("build -p ganglion"))?;
    let mut cases = Vec::new();
    for suite in suites()? {
        // Prints the programs and runs none.
        let list = format!("test -q -p ganglion-hil --test {suite} -- --list --format terse");
        let list = output(&mut cargo(&list))?;
        let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
        let wanted = |name: &&str| {
            let long = options.quick && name.split("::").any(|part| part == "long");
            !long && options.filter.as_ref().is_none_or(|filter| format!("{suite}::{name}").contains(filter.as_str()))
        };
        for name in names.filter(wanted) {
            let case = one(&suite, name, &folder, options.quick)?;
            println!("{}", case.row());
            cases.push(case);
        }
    }
    write(&folder.join("junit.xml"), &report::junit(&cases))?;
    write(&folder.join("report.html"), &report::html(&cases))?;
    let count = |wanted: fn(&Outcome) -> bool| cases.iter().filter(|case| wanted(&case.outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
    let passed = cases.len() - failed - skipped;
    println!("{passed} passed, {failed} failed, {skipped} skipped; {}", folder.join("report.html").display());
    if cases.is_empty() {
        return Err(Failure::Check("no test has such a name".to_owned()));
    }
    if failed == 0 { Ok(()) } else { Err(Failure::Check(format!("{failed} tests of the bench failed"))) }
}

/// Builds the boards whose target is installed; a test without its firmware says so.
fn firmware(target: &Path) -> Result<(), Failure> {
    let boards = root().join("firmware/boards");
    let installed = output(&mut command("rustup", ["target", "list", "--installed"])).unwrap_or_default();
    for (board, triple) in BOARDS {
        if !installed.lines().any(|line| line == triple) {
            crate::shell::skipped(board, &format!("{triple} is not installed (`cargo xtask setup --cross`)"));
            continue;
        }
        let words = format!("build --release -p {board} --target {triple} --target-dir");
        run(cargo(&words).arg(target.join(FIRMWARE)).current_dir(&boards))?;
    }
    Ok(())
}

/// Returns the names of the bench's test programs.
fn suites() -> Result<Vec<String>, Failure> {
    let folder = root().join("hil-tests/tests");
    let entries = fs::read_dir(&folder).map_err(|error| Failure::File { path: folder, error })?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names = names.map(|name| name.trim_end_matches(".rs").to_owned());
    let mut suites: Vec<String> = names.filter(|name| name.starts_with(PREFIX)).collect();
    suites.sort();
    Ok(suites)
}

/// Runs one test. What it leaves in its folder of traces belongs to its failure.
fn one(suite: &str, name: &str, folder: &Path, quick: bool) -> Result<Case, Failure> {
    let words = format!("test -q -p ganglion-hil --test {suite} -- --exact {name} --nocapture");
    let mut command = cargo(&words);
    command.stdin(Stdio::null());
    if !quick {
        command.env(BYTES.0, BYTES.1);
    }
    let begun = Instant::now();
    let done =
        command.output().map_err(|error| Failure::NotStarted { command: crate::shell::typed(&command), error })?;
    let printed = [done.stdout, done.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let function = name.rsplit("::").next().unwrap_or(name);
    let traces = || case::traces(&folder.join("traces").join(function));
    let outcome = Outcome::of(done.status.success(), printed, traces);
    Ok(Case { suite: suite.to_owned(), name: name.to_owned(), seconds: begun.elapsed().as_secs_f64(), outcome })
}

fn make(folder: &PathBuf) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::File { path: folder.clone(), error })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::File { path: path.to_owned(), error })
}

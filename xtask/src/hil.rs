//! The bench: runs every test that needs nodes, each in a process of its own, and reports.

mod case;
mod report;

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::cross::{self, Gateway};
use crate::firmware::{self, Board};
use crate::needs;
use crate::shell::{Failure, cargo, output, root, run, target_dir, typed};
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
/// Longest time a test may take; one that hangs is ended, and fails.
const LIMIT: Duration = Duration::from_secs(2700);
/// How often a running test is looked at.
const GLANCE: Duration = Duration::from_millis(50);

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let target = target_dir()?;
    let folder = target.join("hil");
    make(&folder)?;
    needs::set_up()?;
    for board in Board::ALL {
        firmware::build(board)?;
    }
    for gateway in Gateway::ALL {
        cross::build(gateway)?;
    }
    run(&mut cargo("build -p ganglion"))?;
    run(&mut cargo("build -p ganglion-node --example host-node"))?;
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
    let begun = Instant::now();
    let mut command = cargo(&words);
    if !quick {
        command.env(BYTES.0, BYTES.1);
    }
    let (success, printed) = ended(&mut command, &folder.join("printed"), LIMIT)?;
    let function = name.rsplit("::").next().unwrap_or(name);
    let traces = || case::traces(&folder.join("traces").join(function));
    let outcome = Outcome::of(success, printed, traces);
    Ok(Case { suite: suite.to_owned(), name: name.to_owned(), seconds: begun.elapsed().as_secs_f64(), outcome })
}

/// Runs a command to its end, or ends it and all that it started when it takes too long. Says whether it succeeded, and what
/// it printed, which goes through a file: a pipe would stay open as long as any process that it left behind.
fn ended(command: &mut Command, file: &Path, limit: Duration) -> Result<(bool, String), Failure> {
    let of_file = |error| Failure::File { path: file.to_owned(), error };
    let output = File::create(file).map_err(of_file)?;
    let both = output.try_clone().map_err(of_file)?;
    command.stdin(Stdio::null()).stdout(output).stderr(both).process_group(0);
    let not_started = |command: &Command, error| Failure::NotStarted { command: typed(command), error };
    let mut child = command.spawn().map_err(|error| not_started(command, error))?;
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().map_err(|error| not_started(command, error))? {
            None if Instant::now() < deadline => std::thread::sleep(GLANCE),
            status => break status,
        }
    };
    if status.is_none() {
        // The group, whose number is the child's: the test, and the machines and brokers that it started.
        let group = format!("-{}", child.id());
        run(&mut crate::shell::command("kill", ["-KILL", "--", &group]))?;
        child.wait().map_err(|error| not_started(command, error))?;
    }
    let mut printed = String::from_utf8_lossy(&fs::read(file).map_err(of_file)?).into_owned();
    if status.is_none() {
        printed.push_str(&format!("\nended after {} s: it hangs\n", limit.as_secs()));
    }
    Ok((status.is_some_and(|status| status.success()), printed))
}

fn make(folder: &PathBuf) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::File { path: folder.clone(), error })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::File { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_hangs_is_ended_with_all_that_it_started_and_fails() {
        let file = std::env::temp_dir().join(format!("ganglion-hung-{}", std::process::id()));
        let begun = Instant::now();
        let mut hangs = crate::shell::command("sh", ["-c", "sleep 600 & echo begun; wait"]);
        let (success, printed) = ended(&mut hangs, &file, Duration::from_millis(300)).expect("it runs");
        assert!(!success && printed.starts_with("begun\n") && printed.contains("it hangs"), "{printed}");
        assert!(begun.elapsed() < Duration::from_secs(60));
        let mut fine = crate::shell::command("echo", ["fine"]);
        assert_eq!(ended(&mut fine, &file, LIMIT).expect("it runs"), (true, "fine\n".to_owned()));
        fs::remove_file(&file).expect("removed");
    }
}

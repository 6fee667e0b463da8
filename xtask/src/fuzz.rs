//! Runs the targets of `fuzz/` under libFuzzer, on the pinned stable compiler.
//!
//! cargo-fuzz would ask for a nightly one, for its sanitizers; safe code without them needs only LLVM's coverage pass,
//! which stable has. So the flags are here, and nothing needs to be installed but a C++ compiler for libFuzzer itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::shell::{Failure, cargo, command, output, run, succeeds, target_dir, typed};

/// Feeds every decoder bytes nobody would send
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds for all targets together
    #[arg(long, default_value_t = Self::default().seconds)]
    seconds: u64,
    /// Seed of the mutations; another one each time unless given
    #[arg(long, default_value_t = Self::default().seed)]
    seed: u32,
    /// Only these targets; all when none is named
    targets: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seconds: 60, seed: 0, targets: Vec::new() }
    }
}

/// As `cargo fuzz` without a sanitizer: coverage counters, and the operands of comparisons to mutate towards.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Longest input: two frames of Modbus ASCII.
const MAX_LEN: usize = 1100;

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let known = output(&mut cargo("run --quiet -p ganglion-fuzz -- list"))?;
    let known: Vec<&str> = known.lines().collect();
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::Check(format!("{unknown:?} is no target: {}", known.join(", "))));
    }
    let chosen: Vec<&str> = match options.targets.as_slice() {
        [] => known,
        named => named.iter().map(String::as_str).collect(),
    };
    let folder = target_dir()?.join("fuzz");
    run(cargo("run --quiet -p ganglion-fuzz -- seeds").arg(folder.join("seeds")))?;
    let program = build(&folder)?;
    let each = (options.seconds / chosen.len() as u64).max(1);
    for target in chosen {
        let session = Session { program: &program, folder: &folder, target };
        session.run(each, options.seed)?;
    }
    Ok(())
}

/// Says whether libFuzzer can be built here.
pub(crate) fn possible() -> bool {
    succeeds(&mut command("c++", ["--version"]))
}

/// Builds the instrumented program. The target is named so that build scripts and macros are not instrumented too.
fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let version = output(&mut command("rustc", ["-vV"]))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Failure::Check("`rustc -vV` names no host".to_owned()))?;
    let mut build = cargo("build --quiet --profile fuzz -p ganglion-fuzz --bin ganglion-fuzz --target");
    run(build.arg(host).arg("--target-dir").arg(folder).env("RUSTFLAGS", FLAGS))?;
    Ok(folder.join(host).join("fuzz/ganglion-fuzz"))
}

/// One target's folders below the target folder: `seeds`, `corpus` (kept between runs), `found`, `log`.
struct Session<'a> {
    program: &'a Path,
    folder: &'a Path,
    target: &'a str,
}

impl Session<'_> {
    /// Runs the target and says what it did; a failure is minimised, kept, and comes with the command to see it again.
    fn run(&self, seconds: u64, seed: u32) -> Result<(), Failure> {
        let corpus = self.folder.join("corpus").join(self.target);
        let found = self.folder.join("found");
        for folder in [&corpus, &found] {
            fs::create_dir_all(folder).map_err(|error| Failure::File { path: folder.clone(), error })?;
        }
        let crash = found.join(self.target);
        if crash.exists() {
            fs::remove_file(&crash).map_err(|error| Failure::File { path: crash.clone(), error })?;
        }
        let mut fuzz = self.libfuzzer();
        fuzz.args([format!("-max_total_time={seconds}"), format!("-seed={seed}"), format!("-max_len={MAX_LEN}")]);
        fuzz.args(["-timeout=5", "-rss_limit_mb=512", "-print_final_stats=1", "-use_value_profile=1"]);
        fuzz.arg(format!("-exact_artifact_path={}", crash.display()));
        fuzz.arg(&corpus).arg(self.folder.join("seeds").join(self.target));
        let done = fuzz
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|error| Failure::NotStarted { command: typed(&fuzz), error })?;
        let log = String::from_utf8_lossy(&done.stderr);
        if done.status.success() {
            println!("fuzz: {:<16} {}", self.target, Summary::of(&log).text());
            return Ok(());
        }
        if crash.exists() {
            self.minimise(&crash);
        }
        let tail: Vec<&str> = log.lines().rev().filter(|line| !line.starts_with('#')).take(40).collect();
        tail.iter().rev().for_each(|line| eprintln!("{line}"));
        Err(Failure::Check(format!(
            "fuzz: {} fails ({}), input in {}; see it again:\n\n    cargo run -p ganglion-fuzz -- replay {} {}\n\nand \
             keep it in fuzz/regressions/{}/ under a name that says what was wrong",
            self.target,
            Summary::of(&log).text(),
            crash.display(),
            self.target,
            crash.display(),
            self.target,
        )))
    }

    /// Makes a failing input as small as it gets in ten seconds.
    fn minimise(&self, crash: &Path) {
        let smaller = crash.with_extension("smaller");
        let mut minimise = self.libfuzzer();
        minimise.args(["-minimize_crash=1", "-max_total_time=10"]);
        minimise.arg(format!("-exact_artifact_path={}", smaller.display())).arg(crash);
        // What counts is whether it wrote a smaller input that fails too.
        if succeeds(&mut minimise) || smaller.exists() {
            let len = |path: &Path| fs::metadata(path).map_or(u64::MAX, |found| found.len());
            if len(&smaller) < len(crash) && fs::rename(&smaller, crash).is_ok() {
                eprintln!("-- made smaller: {} bytes", len(crash));
            }
        }
    }

    fn libfuzzer(&self) -> Command {
        let mut command = command(self.program, [] as [&str; 0]);
        command.env("GANGLION_FUZZ_TARGET", self.target).env("RUST_BACKTRACE", "0");
        command
    }
}

/// What libFuzzer says of a run.
#[derive(Default, PartialEq, Eq, Debug)]
struct Summary {
    seed: Option<u64>,
    inputs: Option<u64>,
    per_second: Option<u64>,
    covered: Option<u64>,
}

impl Summary {
    fn of(log: &str) -> Self {
        let mut summary = Self::default();
        let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse().ok());
        for line in log.lines() {
            if let Some(rest) = line.strip_prefix("INFO: Seed: ") {
                summary.seed = number(rest);
            } else if let Some(rest) = line.strip_prefix("stat::number_of_executed_units:") {
                summary.inputs = number(rest);
            } else if let Some(rest) = line.strip_prefix("stat::average_exec_per_sec:") {
                summary.per_second = number(rest);
            } else if let Some((_, rest)) = line.split_once(" cov: ") {
                summary.covered = number(rest);
            }
        }
        summary
    }

    fn text(&self) -> String {
        let or_unknown = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
        format!(
            "{} inputs, {} a second, {} edges, seed {}",
            or_unknown(self.inputs),
            or_unknown(self.per_second),
            or_unknown(self.covered),
            or_unknown(self.seed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_run_is_told_in_one_line() {
        let log = "\
INFO: Running with entropic power schedule (0xFF, 100).
INFO: Seed: 2951306017
#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 27Mb
#451088\tDONE   cov: 265 ft: 325 corp: 102/1661b lim: 4096 exec/s: 90217 rss: 28Mb
stat::number_of_executed_units: 451088
stat::average_exec_per_sec:     90217
";
        assert_eq!(Summary::of(log).text(), "451088 inputs, 90217 a second, 265 edges, seed 2951306017");
        assert_eq!(Summary::of("").text(), "? inputs, ? a second, ? edges, seed ?");
    }
}

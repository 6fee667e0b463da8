//! Everything that must hold before a change is taken.

use std::io::{self, IsTerminal as _};
use std::time::Instant;

use clap::Args;

use crate::cross::{self, Gateway};
use crate::firmware::{self, Board, sizes};
use crate::fuzz;
use crate::machine;
use crate::needs;
use crate::setup;
use crate::shell::{Failure, cargo, command, output, run, run_seen, skipped, succeeds};
use crate::tls;
use crate::totals::Totals;

/// Checks format, lints, dependencies, builds and all tests; stops at the first failure
#[derive(Args)]
pub(crate) struct Options {
    /// Leave out the integration tests that talk to other programs, and the fuzzer
    #[arg(long)]
    quick: bool,
}

/// Modules whose tests only the bench runs, `cargo xtask hil`.
const LONG: &str = "long::";
const HISTORIES: &str = "100000";
const BARE_METAL: &str = "thumbv7em-none-eabihf";

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let started = Instant::now();
    if !options.quick {
        setup::peers()?;
        // Heavy, so nobody's desk gets it unasked; there the test says that it is skipped.
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            machine::set_up()?;
            needs::set_up()?;
        }
    }
    run(&mut cargo("fmt --all --check"))?;
    firmware::check_format()?;
    run(&mut cargo("clippy --workspace --all-targets -- -D warnings"))?;
    tls::check()?;
    dependencies()?;
    // The daemon with its own features only, so that what tests turn on hides nothing it lacks.
    run(&mut cargo("check -p ganglion"))?;
    // Every target, as `cargo test` builds it too: without the tests' features half of the packages would be built twice.
    run(&mut cargo("build --workspace --all-targets"))?;
    bare_metal()?;
    if !options.quick && std::env::var_os("CI").is_some_and(|value| value == "true") {
        bench_machines()?;
    }
    let totals = tests(options.quick)?;
    if !options.quick {
        histories()?;
        fuzzed()?;
    }
    println!("xtask: all of it holds, {:.0} s; all tests together:\n{totals}", started.elapsed().as_secs_f64());
    Ok(())
}

fn dependencies() -> Result<(), Failure> {
    if succeeds(&mut cargo("deny --version")) {
        run(&mut cargo("deny check"))
    } else {
        skipped("cargo deny check", "cargo-deny is not installed (`cargo install cargo-deny --locked`)");
        Ok(())
    }
}

/// Proves that the rooms below the gateway need no operating system.
fn bare_metal() -> Result<(), Failure> {
    let installed = output(&mut command("rustup", ["target", "list", "--installed"])).unwrap_or_default();
    let build = format!(
        "build -p ganglion-protocols -p ganglion-drivers --features ganglion-drivers/chip --target {BARE_METAL}"
    );
    if installed.lines().any(|target| target == BARE_METAL) {
        run(&mut cargo(&build))
    } else {
        skipped(&format!("cargo {build}"), "the target is not installed (`cargo xtask setup --cross`)");
        Ok(())
    }
}

/// Builds what the bench's tests run on machines of QEMU's; lints the boards, whose targets are needed for that, too.
fn bench_machines() -> Result<(), Failure> {
    for board in Board::ALL {
        firmware::lint(board)?;
        firmware::build(board)?;
    }
    sizes::run_verb(&sizes::Options::default())?;
    Gateway::ALL.into_iter().try_for_each(|gateway| cross::build(gateway).map(drop))
}

/// Runs the seeded histories of the buffer, far more than a debug build has the time for.
fn histories() -> Result<(), Failure> {
    let mut histories = cargo("test --release -p ganglion --lib buffer::tests::model -- --nocapture");
    run(histories.env("GANGLION_BUFFER_HISTORIES", HISTORIES))
}

/// Runs every fuzz target for a share of a minute.
fn fuzzed() -> Result<(), Failure> {
    if fuzz::possible() {
        fuzz::run_verb(&fuzz::Options::default())
    } else if std::env::var_os("CI").is_some() {
        Err(Failure::Install { advice: "a C++ compiler, `c++`, for libFuzzer".to_owned() })
    } else {
        skipped("cargo xtask fuzz", "there is no C++ compiler, `c++`, for libFuzzer");
        Ok(())
    }
}

/// Runs the tests and adds them up.
fn tests(quick: bool) -> Result<Totals, Failure> {
    let commands: &[&str] = if quick {
        &["test --no-fail-fast --workspace --exclude ganglion-hil", "test --no-fail-fast -p ganglion-hil --lib"]
    } else {
        &["test --no-fail-fast --workspace"]
    };
    let mut totals = Totals::default();
    let started = Instant::now();
    // cargo's output passes through a pipe here, so it cannot see the terminal by itself.
    let color = if io::stdout().is_terminal() { "always" } else { "never" };
    let outcome = commands.iter().try_for_each(|words| {
        run_seen(cargo(words).args(["--", "--color", color, "--skip", LONG]), |line| totals.see(line))
    });
    totals.took(started.elapsed());
    if outcome.is_err() {
        println!("all tests together:\n{totals}");
    }
    outcome.map(|()| totals)
}

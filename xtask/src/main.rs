//! Builds and runs everything: `cargo xtask --help`.
#![forbid(unsafe_code)]

mod arrows;
mod bench;
mod cross;
mod demo;
mod firmware;
mod flash;
mod fuzz;
mod guests;
mod hil;
mod image;
mod machine;
mod needs;
mod promises;
mod setup;
mod shell;
mod test;
mod tls;
mod totals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds and runs everything in this repository.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Setup(setup::Options),
    Test(test::Options),
    Demo(demo::Options),
    Bench(bench::Options),
    Fuzz(fuzz::Options),
    Hil(hil::Options),
    Image(image::Options),
    Cross(cross::Options),
    Firmware(firmware::Options),
    Sizes(firmware::sizes::Options),
    Flash(flash::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Setup(options) => setup::run_verb(&options),
        Verb::Test(options) => test::run_verb(&options),
        Verb::Demo(options) => demo::run_verb(&options),
        Verb::Bench(options) => bench::run_verb(&options),
        Verb::Fuzz(options) => fuzz::run_verb(&options),
        Verb::Hil(options) => hil::run_verb(&options),
        Verb::Image(options) => image::run_verb(&options),
        Verb::Cross(options) => cross::run_verb(&options),
        Verb::Firmware(options) => firmware::run_verb(&options),
        Verb::Sizes(options) => firmware::sizes::run_verb(&options),
        Verb::Flash(options) => flash::run_verb(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

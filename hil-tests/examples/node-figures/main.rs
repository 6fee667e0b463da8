//! Figures of a node's firmware that only a running one shows: how long its Modbus server takes for an answer, and how much
//! of its stack it uses. `cargo xtask bench turnaround` and `cargo xtask sizes --stack` build and run it.

mod desk;
mod stack;
mod turnaround;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Figures of a node's firmware under QEMU
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Subcommand)]
enum Figure {
    /// Cycles from a request to its answer; the firmware is built with the feature `measure`
    Turnaround(turnaround::Options),
    /// Bytes of the stack that were used when everything was asked once
    Stack(stack::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().figure {
        Figure::Turnaround(options) => turnaround::measure(&options),
        Figure::Stack(options) => stack::measure(&options),
    };
    match done {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("node-figures: {error}");
            ExitCode::FAILURE
        }
    }
}

//! scan
use std::process::ExitCode;
/// o
#[derive(clap::Args, Debug, Clone)]
pub struct Options {}
/// m
pub fn main(_: &Options) -> ExitCode {
    ExitCode::SUCCESS
}

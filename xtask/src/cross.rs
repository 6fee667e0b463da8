//! Builds the daemon for the machines it is shipped to: one static file for each.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::needs;
use crate::shell::{Failure, cargo, command, output, run, target_dir};

/// Builds the daemon for ARM gateways, as one static file each
#[derive(Args)]
pub(crate) struct Options {
    /// Only for these; for all when none is named
    #[arg(value_enum)]
    gateways: Vec<Gateway>,
}

/// A kind of machine that runs the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Gateway {
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM with hardware floating point.
    Armv7,
}

impl Gateway {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Aarch64, Self::Armv7];

    /// Rust's name of the target. `.cargo/config.toml` says how it is linked.
    pub(crate) const fn target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-musl",
            Self::Armv7 => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// What the names of its cross compiler's programs begin with.
    pub(crate) const fn tools(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-linux-gnu",
            Self::Armv7 => "arm-linux-gnueabihf",
        }
    }
}

/// Longest file that fits beside two others (running, new, old) into the smallest flash we know in gateways, in bytes.
const MOST: u64 = 12_000_000;

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let chosen = if options.gateways.is_empty() { &Gateway::ALL } else { options.gateways.as_slice() };
    needs::compilers()?;
    for gateway in chosen {
        let (file, bytes) = build(*gateway)?;
        println!("{}: static, {:.1} MB of at most {} MB", file.display(), in_mb(bytes), MOST / 1_000_000);
    }
    Ok(())
}

/// Builds the daemon as it is shipped; returns the file and its length.
///
/// # Errors
/// When it cannot be built, needs a library at run time, or is longer than [`MOST`].
pub(crate) fn build(gateway: Gateway) -> Result<(PathBuf, u64), Failure> {
    run(&mut cargo(&format!("build --quiet --release -p ganglion --bin ganglion --target {}", gateway.target())))?;
    let file = target_dir()?.join(gateway.target()).join("release/ganglion");
    if let Some(loader) = loader(gateway, &file)? {
        let why = format!("{} is not static, it asks for {loader}: is RUSTFLAGS set?", file.display());
        return Err(Failure::Check(why));
    }
    let bytes = fs::metadata(&file).map_err(|error| Failure::File { path: file.clone(), error })?.len();
    if bytes > MOST {
        let why = format!("{} has {:.1} MB, at most {} MB are allowed", file.display(), in_mb(bytes), MOST / 1_000_000);
        return Err(Failure::Check(why));
    }
    Ok((file, bytes))
}

/// Returns the program that a file asks for to load its libraries; a static one asks for none.
fn loader(gateway: Gateway, file: &Path) -> Result<Option<String>, Failure> {
    let mut readelf = command(format!("{}-readelf", gateway.tools()), ["--wide", "--program-headers"]);
    Ok(interpreter(&output(readelf.arg(file))?).map(str::to_owned))
}

fn interpreter(headers: &str) -> Option<&str> {
    headers.lines().find_map(|line| line.trim().strip_prefix("[Requesting program interpreter: ")?.strip_suffix(']'))
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit behind the point")]
fn in_mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_needs_a_loader_is_told_from_a_static_one() {
        let dynamic = "  INTERP         0x000318 0x0000000000000318\n      \
                       [Requesting program interpreter: /lib/ld-linux-armhf.so.3]\n  LOAD           0x000000\n";
        assert_eq!(interpreter(dynamic), Some("/lib/ld-linux-armhf.so.3"));
        assert_eq!(interpreter("  LOAD           0x000000 0x0000000000010000\n"), None);
    }

    #[test]
    fn every_gateway_is_told_how_it_is_linked() {
        let config = fs::read_to_string(crate::shell::root().join(".cargo/config.toml")).expect("it is there");
        for gateway in Gateway::ALL {
            let section = format!("[target.{}]\nlinker = ", gateway.target());
            assert!(config.contains(&section), "no {section:?}");
            let compiler = format!("CC_{} = \"{}-gcc\"", gateway.target().replace('-', "_"), gateway.tools());
            assert!(config.contains(&compiler), "no {compiler:?}");
        }
    }
}

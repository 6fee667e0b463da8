//! The firmware of the boards, a workspace of its own: each board is built by itself, for its own target.

pub(crate) mod elf;
pub(crate) mod sizes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, ValueEnum};

use crate::shell::{Failure, command, output, root, run, target_dir};
use elf::Elf;

/// Builds the firmware of the boards; prints the ELF files, beside which lie bare binaries
#[derive(Args)]
pub(crate) struct Options {
    /// These only
    boards: Vec<Board>,
}

/// What is built for itself: a node, or what a node starts with.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Debug)]
pub(crate) enum Board {
    /// NUCLEO-L476RG, and QEMU's b-l475e-iot01a
    NucleoL476rg,
    /// The bootloader of the NUCLEO-L476RG
    NucleoBoot,
    /// QEMU's lm3s6965evb
    Lm3s6965evb,
}

impl Board {
    pub(crate) const ALL: [Self; 3] = [Self::NucleoL476rg, Self::NucleoBoot, Self::Lm3s6965evb];
    /// Those that are nodes.
    pub(crate) const NODES: [Self; 2] = [Self::NucleoL476rg, Self::Lm3s6965evb];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NucleoL476rg => "nucleo-l476rg",
            Self::NucleoBoot => "nucleo-boot",
            Self::Lm3s6965evb => "lm3s6965evb",
        }
    }

    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::NucleoL476rg | Self::NucleoBoot => "thumbv7em-none-eabihf",
            Self::Lm3s6965evb => "thumbv7m-none-eabi",
        }
    }

    /// Returns what it starts with, where that is a program of its own.
    pub(crate) fn boot(self) -> Option<Self> {
        (self == Self::NucleoL476rg).then_some(Self::NucleoBoot)
    }
}

/// Folder of firmware as it ships, in the build folder.
const SHIPPED: &str = "firmware";
/// The same of firmware that measures itself.
const MEASURING: &str = "firmware/measure";
const WORKSPACE: &str = "firmware/boards";

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let boards: &[Board] = if options.boards.is_empty() { &Board::ALL } else { &options.boards };
    for board in boards {
        let path = build(*board)?;
        let file = fs::read(&path).map_err(|error| Failure::File { path: path.clone(), error })?;
        let binary = Elf::new(&file).and_then(|elf| elf.binary());
        let binary = binary.ok_or_else(|| Failure::Check(format!("{}: no firmware can be cut out", path.display())))?;
        let bare = path.with_extension("bin");
        fs::write(&bare, binary).map_err(|error| Failure::File { path: bare, error })?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Says which targets are missing.
pub(crate) fn missing_target(board: Board) -> Option<&'static str> {
    let installed = output(&mut command("rustup", ["target", "list", "--installed"])).unwrap_or_default();
    Some(board.target()).filter(|target| !installed.lines().any(|line| line == *target))
}

/// Builds one board as it ships; returns its ELF file.
pub(crate) fn build(board: Board) -> Result<PathBuf, Failure> {
    build_into(board, SHIPPED, &[])
}

/// Returns where a board's ELF file as it ships lies in the build folder.
pub(crate) fn file(board: Board, target_dir: &Path) -> PathBuf {
    target_dir.join(SHIPPED).join(board.target()).join("release").join(board.name())
}

/// Builds one board so that it logs how long its answers take, and what it starts with beside it; returns its ELF file.
pub(crate) fn build_measuring(board: Board) -> Result<PathBuf, Failure> {
    if let Some(boot) = board.boot() {
        build_into(boot, MEASURING, &[])?;
    }
    build_into(board, MEASURING, &["--features", "measure"])
}

fn build_into(board: Board, folder: &str, features: &[&str]) -> Result<PathBuf, Failure> {
    if let Some(target) = missing_target(board) {
        return Err(Failure::Install { advice: format!("rustup target add {target}") });
    }
    let target_dir = target_dir()?.join(folder);
    run(of_board("build", board, &target_dir).args(features))?;
    Ok(target_dir.join(board.target()).join("release").join(board.name()))
}

/// Checks how the boards' sources are laid out.
pub(crate) fn check_format() -> Result<(), Failure> {
    run(command("cargo", ["fmt", "--all", "--check"]).current_dir(root().join(WORKSPACE)))
}

/// Lints one board.
pub(crate) fn lint(board: Board) -> Result<(), Failure> {
    run(of_board("clippy", board, &target_dir()?.join(SHIPPED)).args(["--", "-D", "warnings"]))
}

/// Says what cargo does with one board, in its folder, whose `.cargo/config.toml` names the linker script.
fn of_board(verb: &str, board: Board, target_dir: &Path) -> Command {
    let mut cargo = command("cargo", [verb, "--quiet", "--release", "--locked", "-p", board.name()]);
    cargo.args(["--target", board.target()]).arg("--target-dir").arg(target_dir);
    cargo.current_dir(root().join(WORKSPACE));
    cargo
}

//! Firmware onto a real board, by a debug probe: probe-rs does it, this knows what and in which order.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::firmware::{self, Board};
use crate::shell::{Failure, command, run, succeeds, target_dir, typed};

/// Builds a node's firmware and puts it onto a real board through its debug probe (probe-rs)
#[derive(Args)]
pub(crate) struct Options {
    /// The board
    board: Board,
    /// Erase the chip first, and write these settings: what `ganglion node provision` made. Without it the settings stay
    /// that the board has
    #[arg(long, value_name = "FILE.hex")]
    settings: Option<PathBuf>,
    /// Print the commands and run none
    #[arg(long)]
    dry_run: bool,
}

const PROBE_RS: &str = "probe-rs";

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let chip = chip(options.board)?;
    let settings = options.settings.as_deref();
    if let Some(path) = settings.filter(|path| !path.is_file() && !options.dry_run) {
        return Err(Failure::Check(format!("{}: no such file; `ganglion node provision` makes one", path.display())));
    }
    let folder = target_dir()?;
    let files: Vec<PathBuf> = images(options.board).map(|board| firmware::file(board, &folder)).collect();
    let mut orders = orders(chip, &files, settings);
    if options.dry_run {
        println!("{}", listed(options.board, &orders));
        return Ok(());
    }
    if !succeeds(&mut command(PROBE_RS, ["--version"])) {
        let advice = format!(
            "cargo install probe-rs-tools --locked\n\nthen this verb again, which runs:\n\n    {}",
            listed(options.board, &orders).replace('\n', "\n    ")
        );
        return Err(Failure::Install { advice });
    }
    for board in images(options.board) {
        firmware::build(board)?;
    }
    orders.iter_mut().try_for_each(run)
}

/// Returns probe-rs's name of a board's chip.
fn chip(board: Board) -> Result<&'static str, Failure> {
    let why = match board {
        Board::NucleoL476rg => return Ok("STM32L476RGTx"),
        Board::NucleoBoot => "is flashed with the node that it starts: `cargo xtask flash nucleo-l476rg`",
        Board::Lm3s6965evb => "is no longer sold; its firmware runs on QEMU only (`cargo xtask hil`)",
    };
    Err(Failure::Check(format!("{} {why}", board.name())))
}

/// Returns what is flashed, what starts first before the rest.
fn images(board: Board) -> impl Iterator<Item = Board> {
    board.boot().into_iter().chain([board])
}

/// Returns what probe-rs is told. A chip that gets settings begins anew: the journal of an update that it had on trial would
/// have the new firmware taken back.
fn orders(chip: &str, images: &[PathBuf], settings: Option<&Path>) -> Vec<Command> {
    let to_chip = |verb: &str, rest: &[OsString]| {
        let mut order = command(PROBE_RS, [verb, "--chip", chip]);
        order.args(rest);
        order
    };
    let erase = settings.map(|_| to_chip("erase", &[]));
    let firmware = images.iter().map(|image| to_chip("download", &[image.into()]));
    let settings = settings.map(|file| to_chip("download", &["--binary-format".into(), "hex".into(), absolute(file)]));
    erase.into_iter().chain(firmware).chain(settings).chain([to_chip("reset", &[])]).collect()
}

/// Commands run in the root of the repository, and the file was named from where the person is.
fn absolute(file: &Path) -> OsString {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).into()
}

fn listed(board: Board, orders: &[Command]) -> String {
    let names: Vec<&str> = images(board).map(Board::name).collect();
    let build = format!("cargo xtask firmware {}", names.join(" "));
    std::iter::once(build).chain(orders.iter().map(typed)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(settings: Option<&str>) -> Vec<String> {
        let folder = Path::new("/build");
        let images: Vec<PathBuf> = images(Board::NucleoL476rg).map(|board| firmware::file(board, folder)).collect();
        let orders = orders(chip(Board::NucleoL476rg).unwrap(), &images, settings.map(Path::new));
        listed(Board::NucleoL476rg, &orders).lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_new_board_is_erased_and_gets_bootloader_node_and_settings_in_this_order() {
        let expected = [
            "cargo xtask firmware nucleo-boot nucleo-l476rg",
            "probe-rs erase --chip STM32L476RGTx",
            "probe-rs download --chip STM32L476RGTx /build/firmware/thumbv7em-none-eabihf/release/nucleo-boot",
            "probe-rs download --chip STM32L476RGTx /build/firmware/thumbv7em-none-eabihf/release/nucleo-l476rg",
            "probe-rs download --chip STM32L476RGTx --binary-format hex /site/node-11.hex",
            "probe-rs reset --chip STM32L476RGTx",
        ];
        assert_eq!(lines(Some("/site/node-11.hex")), expected);
    }

    #[test]
    fn without_settings_nothing_is_erased_but_what_is_written() {
        let lines = lines(None);
        assert_eq!(lines.len(), 4);
        assert!(!lines.iter().any(|line| line.contains("erase") || line.contains("hex")), "{lines:?}");
    }

    #[test]
    fn a_board_that_nobody_has_is_refused_with_the_reason() {
        let message = |board| chip(board).unwrap_err().to_string();
        assert!(message(Board::Lm3s6965evb).contains("QEMU only"));
        assert!(message(Board::NucleoBoot).contains("cargo xtask flash nucleo-l476rg"));
    }
}

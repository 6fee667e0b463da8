//! What firmware takes of its board, held against `firmware/budget.toml`.

use std::fs;
use std::path::Path;

use clap::Args;

use super::elf::{Elf, plain};
use super::{Board, build};
use crate::shell::{Failure, cargo, command, output, root, run, target_dir};

/// Holds flash and RAM of the firmware against `firmware/budget.toml`
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Measure the stack in QEMU too
    #[arg(long)]
    stack: bool,
}

/// First address of RAM, ARMv7-M §B3.1.
const RAM: u32 = 0x2000_0000;
const LARGEST: usize = 10;

/// What a board may take, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Budget {
    flash: u32,
    ram: u32,
    /// What is kept free for the stack.
    stack: u32,
}

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    let path = root().join("firmware/budget.toml");
    let text = fs::read_to_string(&path).map_err(|error| Failure::File { path, error })?;
    let mut over = Vec::new();
    for board in Board::NODES {
        let budget = budget(&text, board.name())
            .ok_or_else(|| Failure::Check(format!("firmware/budget.toml says nothing whole of {}", board.name())))?;
        let path = build(board)?;
        let file = fs::read(&path).map_err(|error| Failure::File { path: path.clone(), error })?;
        let broken = || Failure::Check(format!("{} is no firmware", path.display()));
        let elf = Elf::new(&file).ok_or_else(broken)?;
        let sections = elf.sections().ok_or_else(broken)?;
        let mut symbols = elf.symbols().ok_or_else(broken)?;
        // Data with a first value lies in flash and in RAM.
        let flash: u32 = sections.iter().filter(|section| section.content.is_some()).map(|section| section.size).sum();
        let statics: u32 = sections.iter().filter(|section| section.address >= RAM).map(|section| section.size).sum();
        println!("{}", board.name());
        let mut row = |what: &str, used: u32, budget: u32| {
            let left = i64::from(budget) - i64::from(used);
            println!("  {what:24}{used:>8} of {budget:>8}  {left:>8} left");
            if left < 0 {
                over.push(format!("{}: {what} is {} bytes over", board.name(), -left));
            }
        };
        row("flash", flash, budget.flash);
        row("RAM, with the stack", statics + budget.stack, budget.ram);
        if options.stack {
            let named = |name: &str| symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.value);
            let (from, to) = named("__sheap").zip(named("_stack_start")).ok_or_else(broken)?;
            row("stack, measured", used_stack(board, &path, from, to)?, budget.stack);
        }
        symbols.sort_by_key(|symbol| std::cmp::Reverse(symbol.size));
        for symbol in symbols.iter().take(LARGEST) {
            println!("  {:>8}  {}", symbol.size, plain(symbol.name));
        }
    }
    if over.is_empty() { Ok(()) } else { Err(Failure::Check(over.join("; "))) }
}

/// Lets a node work in QEMU and returns how many bytes of its stack it used.
fn used_stack(board: Board, firmware: &Path, from: u32, to: u32) -> Result<u32, Failure> {
    run(&mut cargo("build --quiet -p ganglion-hil --example node-figures"))?;
    let program = target_dir()?.join("debug/examples/node-figures");
    let mut measure = command(program, ["stack", "--board", board.name(), "--firmware"]);
    measure.arg(firmware).args(["--from", &from.to_string(), "--to", &to.to_string()]);
    if let Some(boot) = board.boot() {
        build(boot)?;
    }
    let printed = output(&mut measure)?;
    printed.trim().parse().map_err(|_| Failure::Check(format!("no stack was measured: {printed:?}")))
}

/// Finds a board's section and its three numbers.
fn budget(text: &str, board: &str) -> Option<Budget> {
    let heading = format!("[{board}]");
    let section = text.lines().skip_while(|line| line.trim() != heading).skip(1);
    let lines: Vec<&str> = section.take_while(|line| !line.starts_with('[')).collect();
    let number = |name: &str| {
        let rows = lines.iter().filter_map(|line| line.split('#').next()?.split_once('='));
        rows.filter(|(key, _)| key.trim() == name).find_map(|(_, value)| value.trim().parse().ok())
    };
    Some(Budget { flash: number("flash")?, ram: number("ram")?, stack: number("stack")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_budget() {
        let text = fs::read_to_string(root().join("firmware/budget.toml")).expect("there is a budget");
        for board in Board::NODES {
            assert!(budget(&text, board.name()).is_some_and(|budget| budget.stack > 0), "{}", board.name());
        }
    }

    #[test]
    fn a_number_of_another_board_is_not_taken() {
        assert_eq!(budget("[a]\nflash = 1\nram = 2\n[b]\nstack = 3\n", "a"), None);
        let whole = budget("[b]\nflash = 9\n[a]\nflash = 1 # much\nram = 2\nstack = 3\n", "a");
        assert_eq!(whole, Some(Budget { flash: 1, ram: 2, stack: 3 }));
    }
}

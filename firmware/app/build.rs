//! Puts the maker's public key where `update::MAKER_KEY` includes it from.
//!
//! `GANGLION_MAKER_KEY` names its file, as `cargo xtask image key` writes it: 64 hexadecimal digits on a line of their own.
//! Without it the key for development is taken, and the build says so in `update::DEVELOPMENT_KEY`.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), String> {
    println!("cargo::rustc-check-cfg=cfg(development_key)");
    println!("cargo::rerun-if-env-changed=GANGLION_MAKER_KEY");
    let path = match env::var_os("GANGLION_MAKER_KEY") {
        Some(path) => PathBuf::from(path),
        None => {
            println!("cargo::rustc-cfg=development_key");
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../keys/dev.pub")
        }
    };
    println!("cargo::rerun-if-changed={}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let key = key_of(&text).ok_or_else(|| format!("{}: no line of 64 hexadecimal digits", path.display()))?;
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&out).join("maker.key"), key).map_err(|error| error.to_string())
}

fn key_of(text: &str) -> Option<Vec<u8>> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let digits: Option<Vec<u32>> = line.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

//! Built with `--cfg fuzzing` (`cargo xtask fuzz` does): libFuzzer's program for the target that `GANGLION_FUZZ_TARGET`
//! names. Built plainly: writes seeds, and runs single inputs, under a debugger if need be.
//!
//! ```text
//! cargo run -p ganglion-fuzz -- list                      names of the targets
//! cargo run -p ganglion-fuzz -- seeds FOLDER              writes FOLDER/TARGET/0000 and so on
//! cargo run -p ganglion-fuzz -- replay TARGET FILE...     panics as the fuzzer did
//! ```
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod fuzzing {
    use std::sync::OnceLock;

    use ganglion_fuzz::Target;

    static TARGET: OnceLock<&Target> = OnceLock::new();

    fn chosen() -> &'static Target {
        let name = std::env::var("GANGLION_FUZZ_TARGET").unwrap_or_default();
        ganglion_fuzz::target(&name).unwrap_or_else(|| panic!("GANGLION_FUZZ_TARGET={name:?} is no target"))
    }

    libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.get_or_init(chosen).run)(bytes));
}

#[cfg(not(fuzzing))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["list"] => {
            ganglion_fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name));
            Ok(())
        }
        ["seeds", folder] => plain::seeds(folder.as_ref()),
        ["replay", target, files @ ..] if !files.is_empty() => plain::replay(target, files),
        _ => Err("list | seeds FOLDER | replay TARGET FILE...".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ganglion-fuzz: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(fuzzing))]
mod plain {
    use std::error::Error;
    use std::fs;
    use std::path::Path;

    /// Writes the seeds of every target.
    pub(crate) fn seeds(folder: &Path) -> Result<(), Box<dyn Error>> {
        for target in ganglion_fuzz::TARGETS {
            let folder = folder.join(target.name);
            fs::create_dir_all(&folder)?;
            for (seed, number) in (target.seeds)().iter().zip(0..) {
                fs::write(folder.join(format!("{number:04}")), seed)?;
            }
        }
        Ok(())
    }

    /// Runs a target over files.
    pub(crate) fn replay(target: &str, files: &[&str]) -> Result<(), Box<dyn Error>> {
        let target = ganglion_fuzz::target(target).ok_or_else(|| format!("{target:?} is no target"))?;
        for file in files {
            let bytes = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
            println!("{file}: {} bytes: {bytes:02X?}", bytes.len());
            (target.run)(&bytes);
        }
        println!("every property holds");
        Ok(())
    }
}

//! The folder in which a test leaves what shows why it failed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::peers::built;

/// A folder for the logs and traces of one test, `hil/traces/<test>` in the build folder. Dropping it removes it, unless
/// the test is failing.
#[derive(Debug)]
pub struct Traces {
    folder: PathBuf,
}

impl Traces {
    /// Makes the folder, empty. `test` is the name of the test's function, by which `cargo xtask hil` finds it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn begin(test: &str) -> io::Result<Self> {
        let built = built()?;
        let folder = built.parent().unwrap_or(&built).join("hil/traces").join(test);
        Self::at(folder)
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns a path in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn at(folder: PathBuf) -> io::Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What cannot be removed is at worst too much.
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_kept_when_the_test_fails_and_only_then() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a_test");
        let run = |fails: bool| {
            let path = path.clone();
            let ended = std::thread::spawn(move || {
                let traces = Traces::at(path).expect("a folder");
                fs::write(traces.file("log"), "x").expect("written");
                // Not `panic!`, which would print as if this test failed.
                if fails {
                    std::panic::resume_unwind(Box::new(()));
                }
            });
            assert_eq!(ended.join().is_err(), fails);
        };
        run(true);
        assert!(path.join("log").is_file());
        run(false);
        assert!(!path.exists());
    }
}

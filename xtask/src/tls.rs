//! The daemon has exactly one TLS provider: rustls panics at the first handshake when two are compiled in and nobody
//! chose.

use crate::shell::{Failure, cargo, output, typed};

const PROVIDERS: [&str; 2] = ["ring", "aws_lc_rs"];

/// Checks the features of rustls in the daemon.
pub(crate) fn check() -> Result<(), Failure> {
    let mut tree = cargo("tree --edges normal,features --invert rustls --package ganglion");
    let found = providers(&output(&mut tree)?);
    match found.as_slice() {
        [provider] => {
            eprintln!("-- one TLS provider in the daemon: {provider}");
            Ok(())
        }
        _ => Err(Failure::Check(format!(
            "the daemon must have exactly one TLS provider, it has {found:?}: see `{}`",
            typed(&tree)
        ))),
    }
}

/// Finds the provider features of rustls that are on in the output of `cargo tree --edges features --invert rustls`.
fn providers(tree: &str) -> Vec<&'static str> {
    let on = |provider: &&str| tree.contains(&format!("rustls feature \"{provider}\""));
    PROVIDERS.into_iter().filter(on).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "\
rustls v0.23.46
├── rustls feature \"logging\"
│   └── ganglion v0.1.0
├── rustls feature \"ring\"
│   └── ganglion v0.1.0 (*)
└── rustls feature \"std\"
";

    #[test]
    fn each_provider_that_is_on_is_found_once() {
        assert_eq!(providers(ONE), ["ring"]);
        assert_eq!(providers(&format!("{ONE}└── rustls feature \"aws_lc_rs\"\n")), ["ring", "aws_lc_rs"]);
        assert!(providers("rustls v0.23.46\n└── rustls feature \"std\"\n").is_empty());
    }

    #[test]
    fn the_daemon_has_exactly_one_provider() {
        check().expect("exactly one provider");
    }
}

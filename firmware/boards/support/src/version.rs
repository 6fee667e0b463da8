//! The version of a package as the node tells it.

use ganglion_protocols::node_link::Version;

/// Makes a version of the three numbers of a package's, such as `env!("CARGO_PKG_VERSION_MAJOR")`.
///
/// # Panics
/// At build time, when one is no number or too large.
#[must_use]
pub const fn version(major: &str, minor: &str, patch: &str) -> Version {
    let (Ok(major), Ok(minor), Ok(patch)) =
        (u8::from_str_radix(major, 10), u8::from_str_radix(minor, 10), u16::from_str_radix(patch, 10))
    else {
        panic!("the package's version is no version of a node")
    };
    Version { major, minor, patch }
}

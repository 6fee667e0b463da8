//! What the bench of nodes and gateways needs: installed where that may be done, otherwise said.

use std::fs;
use std::path::Path;

use crate::cross::Gateway;
use crate::guests;
use crate::setup::{apt_get, has_header_for, installed, packages, rights};
use crate::shell::{Failure, command, output, run};

/// A package of Debian.
struct Need {
    package: &'static str,
    why: &'static str,
    /// How to see that it is there.
    there: fn() -> bool,
}

const COMPILERS: [Need; 4] = [
    Need {
        package: "gcc-aarch64-linux-gnu",
        why: "compiles what is C in the 64-bit ARM gateway",
        there: || installed("aarch64-linux-gnu-gcc"),
    },
    Need {
        package: "libc6-dev-arm64-cross",
        why: "its headers",
        there: || has_header_for("aarch64-linux-gnu-gcc", "stdio.h"),
    },
    Need {
        package: "gcc-arm-linux-gnueabihf",
        why: "compiles what is C in the 32-bit ARM gateway, and links it",
        there: || installed("arm-linux-gnueabihf-gcc"),
    },
    Need {
        package: "libc6-dev-armhf-cross",
        why: "its headers, and the C library in it",
        there: || has_header_for("arm-linux-gnueabihf-gcc", "stdio.h"),
    },
];

const TOOLS: [Need; 3] = [
    Need { package: "mbpoll", why: "a Modbus client that is not ours", there: || installed("mbpoll") },
    Need { package: "e2fsprogs", why: "makes the disk of a gateway", there: || installed("mke2fs") },
    Need {
        package: "debian-archive-keyring",
        why: "says whether the kernel of a gateway is Debian's",
        there: || Path::new(guests::KEYRING).is_file(),
    },
];

/// Rust targets: the boards, and the gateways.
const TARGETS: [&str; 4] =
    ["thumbv7em-none-eabihf", "thumbv7m-none-eabi", Gateway::Aarch64.target(), Gateway::Armv7.target()];

/// Gets everything. Quick when all is there.
pub(crate) fn set_up() -> Result<(), Failure> {
    packages(|| missing(&TOOLS))?;
    compilers()?;
    qemu()?;
    guests::set_up()
}

/// Gets what the gateways are built with.
pub(crate) fn compilers() -> Result<(), Failure> {
    packages(|| missing(&COMPILERS))?;
    targets()
}

/// Adds the Rust targets that are not there.
pub(crate) fn targets() -> Result<(), Failure> {
    if !installed("rustup") {
        let advice = format!("rustup, or by other means the Rust targets {}", TARGETS.join(" "));
        return Err(Failure::Install { advice });
    }
    let there = output(&mut command("rustup", ["target", "list", "--installed"]))?;
    let missing: Vec<&str> = TARGETS.into_iter().filter(|target| !there.lines().any(|line| line == *target)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    run(&mut command("rustup", ["target", "add"].iter().chain(&missing)))
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let missing = needs.iter().filter(|need| !(need.there)());
    missing.inspect(|need| eprintln!("-- {} is missing: {}", need.package, need.why)).map(|need| need.package).collect()
}

/// Older ones have no board with the microcontroller of our nodes.
const QEMU_MAJOR: u32 = 10;
/// Both are in one package.
const QEMU_PROGRAMS: [&str; 2] = ["qemu-system-arm", "qemu-system-aarch64"];
const QEMU_PACKAGE: &str = "qemu-system-arm";
const BACKPORTS: &str = "bookworm-backports";

/// Installs QEMU for ARM unless one is there that is new enough: from the backports where the release's own is too old.
fn qemu() -> Result<(), Failure> {
    if too_old().is_none() {
        return Ok(());
    }
    let backports = fs::read_to_string("/etc/os-release").is_ok_and(|text| is_bookworm(&text));
    // All of QEMU that is there comes along: its packages want each other in one version, or are removed.
    let present = if installed("dpkg-query") {
        output(&mut command("dpkg-query", ["-W", "-f", "${source:Package} ${db:Status-Status} ${Package}\n"]))?
    } else {
        String::new()
    };
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    if backports {
        install.extend(["-t", BACKPORTS]);
    }
    install.push(QEMU_PACKAGE);
    install.extend(of_qemu(&present).filter(|package| *package != QEMU_PACKAGE));
    let Some(rights) = rights().filter(|_| installed("apt-get")) else {
        let advice = format!("QEMU {QEMU_MAJOR} or newer for ARM, on Debian: sudo apt-get {}", install.join(" "));
        return Err(Failure::Install { advice });
    };
    if backports && !output(&mut command("apt-cache", ["policy"]))?.contains(BACKPORTS) {
        add_backports()?;
        apt_get(rights, &["update"])?;
    }
    if apt_get(rights, &install).is_err() {
        eprintln!("-- the package lists may be missing or old");
        apt_get(rights, &["update"])?;
        apt_get(rights, &install)?;
    }
    match too_old() {
        None => Ok(()),
        Some(why) => Err(Failure::Check(format!("{why}, though {QEMU_PACKAGE} was installed"))),
    }
}

/// Says why the QEMU that is there will not do.
fn too_old() -> Option<String> {
    QEMU_PROGRAMS.into_iter().find_map(|program| {
        if !installed(program) {
            return Some(format!("{program} is not there"));
        }
        let told = output(&mut command(program, ["--version"])).unwrap_or_default();
        let new = major(&told).is_some_and(|major| major >= QEMU_MAJOR);
        (!new).then(|| format!("{program} says {:?}, {QEMU_MAJOR} is needed", told.lines().next().unwrap_or_default()))
    })
}

/// Reads `QEMU emulator version 10.0.2 (Debian …)`.
fn major(told: &str) -> Option<u32> {
    told.split_once("version ")?.1.split('.').next()?.parse().ok()
}

fn is_bookworm(os_release: &str) -> bool {
    os_release.lines().any(|line| line == "VERSION_CODENAME=bookworm")
}

/// Finds the installed packages that were built from QEMU's source.
fn of_qemu(present: &str) -> impl Iterator<Item = &str> {
    present.lines().filter_map(|line| line.strip_prefix("qemu installed "))
}

fn add_backports() -> Result<(), Failure> {
    let file = Path::new("/etc/apt/sources.list.d").join(format!("{BACKPORTS}.sources"));
    let source = guests::source(BACKPORTS)?;
    fs::write(&file, &source).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failure::Install { advice: format!("as root, the file {} with\n{source}", file.display()) }
        }
        _ => Failure::File { path: file.clone(), error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_and_not_the_suite() {
        assert_eq!(major("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\n"), Some(10));
        assert_eq!(major("QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u15)\n"), Some(7));
        assert_eq!(major("qemu: no such machine"), None);
    }

    #[test]
    fn everything_of_qemu_that_is_installed_is_named_and_nothing_else() {
        let present = "glibc installed libc6\nqemu installed qemu-utils\nqemu config-files qemu-user\n\
                       qemu installed qemu-system-data\nqemu-kvm installed qemu-kvm\n";
        assert_eq!(of_qemu(present).collect::<Vec<_>>(), ["qemu-utils", "qemu-system-data"]);
    }

    #[test]
    fn only_bookworm_takes_its_backports() {
        assert!(is_bookworm("ID=debian\nVERSION_CODENAME=bookworm\n"));
        assert!(!is_bookworm("ID=debian\nVERSION_CODENAME=trixie\n"));
    }
}

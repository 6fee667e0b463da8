//! Installs what building and testing need beyond the Rust toolchain, where it may; elsewhere says what to type.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::machine;
use crate::shell::{Failure, command, output, root, run, succeeds, target_dir};

/// Installs what is missing: the broker and the Modbus server that the integration tests talk to, the fuzzer's compiler
#[derive(Args)]
pub(crate) struct Options {
    /// Add the Rust targets of the supported boards and gateways too
    #[arg(long)]
    cross: bool,
    /// Install QEMU and fetch a kernel too, for the test that cuts a virtual machine's power
    #[arg(long)]
    power_cut: bool,
}

const CROSS_TARGETS: [&str; 4] =
    ["thumbv7em-none-eabihf", "thumbv7m-none-eabi", "aarch64-unknown-linux-musl", "armv7-unknown-linux-musleabihf"];

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    peers()?;
    if options.cross {
        run(&mut command("rustup", ["target", "add"].iter().chain(&CROSS_TARGETS)))?;
    }
    if options.power_cut {
        machine::set_up()?;
    }
    println!("setup: all there");
    Ok(())
}

/// Installs what the integration tests talk to.
pub(crate) fn peers() -> Result<(), Failure> {
    packages(missing_packages)?;
    python(&root().join("hil-tests/python/requirements.txt"), &target_dir()?.join("peers/venv"))
}

/// Installs the packages that are missing, with root's rights or a sudo that asks nothing.
pub(crate) fn packages(still_missing: fn() -> Vec<&'static str>) -> Result<(), Failure> {
    let missing = still_missing();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !installed("apt-get") {
        let advice = format!("install the programs of Debian's packages {list} with this system's package manager");
        return Err(Failure::Install { advice });
    }
    let prefix: &[&str] = if is_root() {
        &["env"]
    } else if succeeds(&mut command("sudo", ["-n", "true"])) {
        &["sudo", "-n", "env"]
    } else {
        return Err(Failure::Install { advice: format!("sudo apt-get update && sudo apt-get install -y {list}") });
    };
    let apt_get = |arguments: &[&str]| {
        let words = prefix.iter().skip(1).chain(&["DEBIAN_FRONTEND=noninteractive", "apt-get"]).chain(arguments);
        run(&mut command(prefix[0], words))
    };
    let install = [&["install", "-y", "--no-install-recommends"], missing.as_slice()].concat();
    if apt_get(&install).is_err() {
        eprintln!("-- the package lists may be missing or old");
        apt_get(&["update"])?;
        apt_get(&install)?;
    }
    if missing.contains(&MOSQUITTO) {
        stop_service(prefix)?;
    }
    match still_missing().as_slice() {
        [] => Ok(()),
        still => Err(Failure::Check(format!("{} installed, but still not usable from here", still.join(", ")))),
    }
}

const MOSQUITTO: &str = "mosquitto";

fn missing_packages() -> Vec<&'static str> {
    let ensurepip = || succeeds(&mut command("python3", ["-c", "import ensurepip, venv"]));
    let mut missing = Vec::new();
    let mut need = |package, present: bool| {
        if !present {
            missing.push(package);
        }
    };
    need(MOSQUITTO, installed(MOSQUITTO));
    need("mosquitto-clients", installed("mosquitto_pub") && installed("mosquitto_sub"));
    need("libmodbus-dev", has_header("modbus/modbus.h"));
    need("gcc", installed("cc"));
    need("libc6-dev", has_header("stdio.h"));
    need("g++", installed("c++"));
    need("python3", installed("python3"));
    need("python3-venv", installed("python3") && ensurepip());
    missing
}

/// Stops the broker that Debian starts on installation; the tests start their own.
fn stop_service(prefix: &[&str]) -> Result<(), Failure> {
    let words: &[&str] = if Path::new("/run/systemd/system").is_dir() {
        &["systemctl", "disable", "--now", "mosquitto.service"]
    } else if Path::new("/etc/init.d/mosquitto").is_file() {
        &["/etc/init.d/mosquitto", "stop"]
    } else {
        return Ok(());
    };
    run(&mut command(prefix[0], prefix.iter().skip(1).chain(words)))
}

/// Makes the Python environment of the peers, unless it is there and holds what `requirements` asks for.
fn python(requirements: &Path, venv: &Path) -> Result<(), Failure> {
    let wanted = fs::read(requirements).map_err(|error| Failure::File { path: requirements.to_owned(), error })?;
    // Copied here when everything is installed: an installation that was cut short is made again.
    let stamp = venv.join("requirements.txt");
    let python = venv.join("bin/python");
    if fs::read(&stamp).is_ok_and(|held| held == wanted) && succeeds(&mut command(&python, ["--version"])) {
        return Ok(());
    }
    run(command("python3", ["-m", "venv", "--clear"]).arg(venv))?;
    run(command(&python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(requirements))?;
    fs::write(&stamp, wanted).map_err(|error| Failure::File { path: stamp, error })
}

fn is_root() -> bool {
    output(&mut command("id", ["-u"])).is_ok_and(|id| id.trim() == "0")
}

/// Says whether the C compiler finds a header.
fn has_header(header: &str) -> bool {
    installed("cc") && succeeds(&mut command("cc", ["-fsyntax-only", "-include", header, "-x", "c", "/dev/null"]))
}

/// Says whether a program can be found, also where only root's search path would look.
pub(crate) fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).any(|folder| folder.join(program).is_file())
}

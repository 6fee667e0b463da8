//! Gets what an emulated ARM Linux is made of: a kernel, its modules and a shell, from packages of Debian that are
//! unpacked and not installed (`hil-tests/src/guest/` runs it).
//!
//! Packages of another architecture come through package lists of our own, below the target folder: those of this machine
//! would have to be told of that architecture, and every later `apt-get update` would depend on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cross::Gateway;
use crate::setup::installed;
use crate::shell::{Failure, command, output, run, target_dir};

/// Where Debian's own packages put the keys of its archive.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The release whose kernel is used, whatever this machine runs.
const SUITE: &str = "bookworm";
const SHELL: &str = "busybox-static";

/// What a guest's disk, network, console and serial adapter need as modules. What they depend on is found in them.
const MODULES: [&str; 8] =
    ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "crc32c_generic", "ext4", "xhci_pci", "ftdi_sio"];

/// Written last, and names every file with its length: what is not complete is not used.
const CONTENTS: &str = "contents";

/// Fetches what is not there.
pub(crate) fn set_up() -> Result<(), Failure> {
    for gateway in Gateway::ALL {
        let guest = Guest::of(gateway);
        let folder = target_dir()?.join("peers").join(guest.folder);
        if !is_complete(&folder) {
            guest.fetch(&folder)?;
        }
    }
    Ok(())
}

/// Returns the entry of a suite for apt, at the mirror from which this machine has its own release.
pub(crate) fn source(suite: &str) -> Result<String, Failure> {
    let told = output(&mut command("apt-get", INDEX_TARGETS))?;
    let uri = mirror(&told).ok_or_else(|| Failure::Check(format!("apt has no source of {SUITE}, only {told:?}")))?;
    Ok(format!("Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n"))
}

/// Lists the release and the address of every source.
const INDEX_TARGETS: [&str; 4] = ["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"];

/// Finds the mirror of the release in that list.
fn mirror(told: &str) -> Option<&str> {
    told.lines().find_map(|line| line.strip_prefix(SUITE)?.strip_prefix(' '))
}

/// Says whether every file named is there in its length; `hil-tests/src/guest/parts.rs` asks the same.
fn is_complete(folder: &Path) -> bool {
    let Ok(contents) = fs::read_to_string(folder.join(CONTENTS)) else { return false };
    contents.lines().all(|line| {
        let length = |name: &str| fs::metadata(folder.join(name)).ok().map(|metadata| metadata.len());
        line.split_once(' ').is_some_and(|(bytes, name)| length(name).is_some_and(|length| length.to_string() == bytes))
    })
}

struct Guest {
    /// Below `peers` in the target folder.
    folder: &'static str,
    /// Debian's name of the architecture.
    architecture: &'static str,
    /// The package that depends on the newest kernel.
    kernel: &'static str,
}

impl Guest {
    const fn of(gateway: Gateway) -> Self {
        match gateway {
            Gateway::Aarch64 => Self { folder: "guest-aarch64", architecture: "arm64", kernel: "linux-image-arm64" },
            Gateway::Armv7 => Self { folder: "guest-armv7", architecture: "armhf", kernel: "linux-image-armmp" },
        }
    }

    fn fetch(&self, folder: &Path) -> Result<(), Failure> {
        if !["apt-get", "apt-cache", "dpkg"].into_iter().all(installed) {
            let advice = format!("apt, to fetch {} and {SHELL} for {}", self.kernel, self.architecture);
            return Err(Failure::Install { advice });
        }
        begin_anew(folder)?;
        let scratch = folder.join("packages");
        let apt = Apt::begin(&scratch, self.architecture)?;
        run(&mut apt.command("apt-get", &["-q", "update"]))?;
        let depends = output(&mut apt.command("apt-cache", &["depends", self.kernel]))?;
        let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
        let version = package.ok_or_else(|| Failure::Check(format!("{SUITE} has no {} to fetch", self.kernel)))?;
        let kernel = format!("linux-image-{version}");
        run(apt.command("apt-get", &["-q", "download", &kernel, SHELL]).current_dir(&scratch))?;
        let unpacked = scratch.join("unpacked");
        for archive in files(&scratch)?.into_iter().filter(|file| file.extension().is_some_and(|end| end == "deb")) {
            run(command("dpkg", ["-x"]).arg(archive).arg(&unpacked))?;
        }

        let mut parts = vec![
            (unpacked.join(format!("boot/vmlinuz-{version}")), "vmlinuz".to_owned()),
            (unpacked.join("bin/busybox"), "busybox".to_owned()),
        ];
        let modules = Modules::find(&unpacked.join("lib/modules").join(version))?.in_order(&MODULES)?;
        for (place, module) in modules.into_iter().enumerate() {
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            parts.push((module, format!("modules/{place:02}-{name}")));
        }
        let mut contents = String::new();
        make(&folder.join("modules"))?;
        for (from, name) in parts {
            let bytes = fs::copy(&from, folder.join(&name)).map_err(|error| Failure::File { path: from, error })?;
            contents.push_str(&format!("{bytes} {name}\n"));
        }
        remove(&scratch)?;
        let file = folder.join(CONTENTS);
        fs::write(&file, contents).map_err(|error| Failure::File { path: file, error })
    }
}

/// apt with a state of its own.
struct Apt {
    /// Its settings.
    file: PathBuf,
}

impl Apt {
    fn begin(folder: &Path, architecture: &str) -> Result<Self, Failure> {
        for inside in ["lists/partial", "cache/archives/partial"] {
            make(&folder.join(inside))?;
        }
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| Failure::File { path, error })
        };
        write("status", "")?;
        write("debian.sources", &source(SUITE)?)?;
        let root = folder.display();
        // The sandbox: apt's own user may not write into a folder of whoever runs this.
        let settings = format!(
            "APT::Architecture \"{architecture}\";\n\
             APT::Architectures \"{architecture}\";\n\
             APT::Sandbox::User \"root\";\n\
             Dir::State \"{root}\";\n\
             Dir::State::lists \"{root}/lists\";\n\
             Dir::State::status \"{root}/status\";\n\
             Dir::Cache \"{root}/cache\";\n\
             Dir::Etc::sourcelist \"{root}/debian.sources\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        write("apt.conf", &settings)?;
        Ok(Self { file: folder.join("apt.conf") })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = command(program, arguments);
        command.env("APT_CONFIG", &self.file);
        command
    }
}

/// The modules of a kernel, by name with underscores.
struct Modules {
    files: BTreeMap<String, PathBuf>,
    /// What is no file because the kernel has it in itself.
    built_in: BTreeSet<String>,
}

impl Modules {
    fn find(folder: &Path) -> Result<Self, Failure> {
        let list = folder.join("modules.builtin");
        let text = fs::read_to_string(&list).map_err(|error| Failure::File { path: list, error })?;
        let built_in = text.lines().filter_map(|line| name_of(Path::new(line))).collect();
        let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
        while let Some(folder) = folders.pop() {
            for path in files(&folder)? {
                if path.is_dir() {
                    folders.push(path);
                } else if let Some(name) = name_of(&path) {
                    found.insert(name, path);
                }
            }
        }
        Ok(Self { files: found, built_in })
    }

    /// Returns the files of these modules and of all that they depend on, each behind those it depends on.
    fn in_order(&self, names: &[&str]) -> Result<Vec<PathBuf>, Failure> {
        let mut order = Vec::new();
        names.iter().try_for_each(|name| self.add(name, &mut order)).map(|()| order)
    }

    fn add(&self, name: &str, order: &mut Vec<PathBuf>) -> Result<(), Failure> {
        let name = name.replace('-', "_");
        let Some(path) = self.files.get(&name) else {
            let why = || Failure::Check(format!("the kernel has no module {name}"));
            return if self.built_in.contains(&name) { Ok(()) } else { Err(why()) };
        };
        if order.contains(path) {
            return Ok(());
        }
        let bytes = fs::read(path).map_err(|error| Failure::File { path: path.clone(), error })?;
        depends(&bytes).iter().try_for_each(|below| self.add(below, order))?;
        order.push(path.clone());
        Ok(())
    }
}

/// Returns what a module says of itself in its section `.modinfo`: texts `key=value`, each ended by a zero byte.
fn depends(module: &[u8]) -> Vec<String> {
    let list = module.split(|&byte| byte == 0).find_map(|text| text.strip_prefix(b"depends="));
    let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Returns the name of a module's file, if it is one.
fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".ko")?.replace('-', "_"))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let io = |error| Failure::File { path: folder.to_owned(), error };
    fs::read_dir(folder).map_err(io)?.map(|entry| entry.map(|entry| entry.path()).map_err(io)).collect()
}

fn begin_anew(folder: &Path) -> Result<(), Failure> {
    if folder.exists() {
        remove(folder)?;
    }
    make(folder)
}

fn remove(folder: &Path) -> Result<(), Failure> {
    fs::remove_dir_all(folder).map_err(|error| Failure::File { path: folder.to_owned(), error })
}

fn make(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::File { path: folder.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_release_itself() {
        let told = "bookworm-security http://mirror.example/security/\nbookworm http://mirror.example/debian/\n";
        assert_eq!(mirror(told), Some("http://mirror.example/debian/"));
        assert_eq!(mirror("trixie http://mirror.example/debian/\n"), None);
    }

    #[test]
    fn a_module_names_what_it_depends_on() {
        let module = b"\x7fELF\0\0license=GPL\0depends=usbserial,usbcore\0retpoline=Y\0";
        assert_eq!(depends(module), ["usbserial", "usbcore"]);
        assert!(depends(b"\0depends=\0name=virtio\0").is_empty());
        assert!(depends(b"\x7fELF").is_empty());
    }

    #[test]
    fn a_modules_name_has_underscores_whatever_its_file_has() {
        assert_eq!(name_of(Path::new("kernel/drivers/usb/host/xhci-pci.ko")).as_deref(), Some("xhci_pci"));
        assert_eq!(name_of(Path::new("modules.order")), None);
    }

    #[test]
    fn a_folder_is_complete_only_when_every_file_has_its_length() {
        let folder = std::env::temp_dir().join(format!("ganglion-guest-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        assert!(!is_complete(&folder), "it names nothing");
        fs::write(folder.join("vmlinuz"), "kernel").expect("written");
        fs::write(folder.join(CONTENTS), "6 vmlinuz\n").expect("written");
        assert!(is_complete(&folder));
        fs::write(folder.join("vmlinuz"), "kern").expect("written");
        assert!(!is_complete(&folder), "cut short");
        fs::remove_dir_all(&folder).expect("removed");
    }
}

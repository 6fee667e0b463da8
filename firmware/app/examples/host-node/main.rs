//! A node on this computer: the firmware's own code, its line a Unix socket, its flash and memory files. For tests of what
//! QEMU models no flash for: an update that is installed, tried, kept or taken back.
//!
//! ```text
//! host-node factory FOLDER VERSION             a node as it leaves the maker, with this firmware
//! host-node image VERSION good|dies KEY FILE   an image for it, signed with this key
//! host-node run FOLDER SOCKET                  gives it power; to kill the process cuts it
//! ```
//!
//! Its "firmware" is a body that begins with its version and says whether it dies at each start: what of it runs is what
//! the active slot holds, so that an installation that goes wrong shows.

mod board;
mod flash;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use ed25519_compact::{KeyPair, Seed, sha512};
use ganglion_node::update::boot::{Slot, prepare};
use ganglion_node::update::{About, Layout, MAKER_KEY, Updater};
use ganglion_node::{Board as _, Updates, run};
use ganglion_protocols::node_link::{BoardName, BodySize, ImageHeader, Version};

use board::{Bytes, HostBoard, Pages};
use flash::FileFlash;

/// Three slots of 32 KiB behind one another.
const LAYOUT: Layout = match Layout::new(flash::PAGE, 0, 32 * 1024) {
    Some(layout) => layout,
    None => panic!("no such layout"),
};
/// Length of a body.
const BODY: usize = 24_000;
const FLASH: &str = "flash";
/// What the first byte behind the version says.
const GOOD: u8 = 0;
const DIES: u8 = 1;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["factory", folder, version] => factory(Path::new(folder), version),
        ["image", version, kind, key, file] => image(version, kind, Path::new(key), Path::new(file)),
        ["run", folder, socket] => power_on(Path::new(folder), Path::new(socket)),
        _ => Err(io::Error::other(format!("factory, image or run, not {words:?}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn factory(folder: &Path, version: &str) -> io::Result<()> {
    let mut bytes = vec![0xFF; usize::try_from(LAYOUT.end()).map_err(io::Error::other)?];
    let body = body(parsed(version)?, GOOD);
    bytes[..body.len()].copy_from_slice(&body);
    fs::create_dir_all(folder)?;
    fs::write(folder.join(FLASH), bytes)
}

fn image(version: &str, kind: &str, key: &Path, file: &Path) -> io::Result<()> {
    let version = parsed(version)?;
    let body = body(version, if kind == "dies" { DIES } else { GOOD });
    let pair = KeyPair::from_seed(Seed::new(secret(&fs::read_to_string(key)?)?));
    let size = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut header = ImageHeader {
        board: BoardName::new(HostBoard::NAME).map_err(io::Error::other)?,
        version,
        size: BodySize::try_from(size).map_err(io::Error::other)?,
        digest: sha512::Hash::hash(&body),
        signature: [0; 64],
    };
    header.signature = *pair.sk.sign(header.signed_part(), None);
    fs::write(file, [header.emit().as_slice(), &body].concat())
}

fn power_on(folder: &Path, socket: &Path) -> io::Result<()> {
    let mut flash = FileFlash::open(&folder.join(FLASH))?;
    let slot = prepare(&mut flash, &LAYOUT);
    let mut board = HostBoard::start(socket)?;
    let [major, minor, low, high, kind] = flash.start_of(LAYOUT.active())?;
    board.log(&format!("starts {major}.{minor}.{} {slot:?}", u16::from_le_bytes([low, high])));
    if slot == Slot::Unusable || kind == DIES {
        board.reset();
    }
    let running = Version { major, minor, patch: u16::from_le_bytes([low, high]) };
    let about = About { board: HostBoard::NAME, running, key: &MAKER_KEY };
    let updater = Updater::recover(&mut flash, LAYOUT, about);
    let memory = Bytes::open(&folder.join("fram"), 8 * 1024)?;
    let copies = Pages(Bytes::open(&folder.join("settings"), 512)?);
    run(&mut board, running, memory, copies, Updates::new(flash, updater))
}

fn body(version: Version, kind: u8) -> Vec<u8> {
    let [low, high] = version.patch.to_le_bytes();
    let mut random = fastrand::Rng::with_seed(u64::from(version.patch));
    let rest = std::iter::repeat_with(|| random.u8(..));
    [version.major, version.minor, low, high, kind].into_iter().chain(rest).take(BODY).collect()
}

fn parsed(version: &str) -> io::Result<Version> {
    let wrong = || io::Error::other(format!("{version:?} is no MAJOR.MINOR.PATCH"));
    let mut parts = version.split('.').map(|part| part.parse::<u16>().map_err(|_| wrong()));
    let mut next = || parts.next().unwrap_or_else(|| Err(wrong()));
    let mut small = || next().and_then(|part| u8::try_from(part).map_err(|_| wrong()));
    Ok(Version { major: small()?, minor: small()?, patch: next()? })
}

/// The first line that is no comment, as `cargo xtask image` writes it.
fn secret(text: &str) -> io::Result<[u8; 32]> {
    let line = text.lines().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
    let bytes: Result<Vec<u8>, _> =
        (0..line.len() / 2).map(|at| u8::from_str_radix(&line[2 * at..][..2], 16)).collect();
    bytes.map_err(io::Error::other)?.try_into().map_err(|_| io::Error::other("no line of 64 hexadecimal digits"))
}

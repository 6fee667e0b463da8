//! Firmware images: keys, and signed files. The secret key is the maker's or the city's and never goes to the field.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ed25519_compact::{KeyPair, PublicKey, Seed, sha512};
use ganglion_protocols::node_link::{BoardName, BodySize, ImageHeader, Version};

use crate::shell::Failure;

/// Makes keys and signed firmware images for nodes
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Makes a key pair: NAME.key, which is secret, and NAME.pub, which `GANGLION_MAKER_KEY` gives to a build
    Key {
        /// Both files' path, without the ending
        name: PathBuf,
    },
    /// Puts a signed header before a binary
    Sign {
        /// The secret key
        #[arg(long)]
        key: PathBuf,
        /// The board it is for
        #[arg(long, value_parser = |name: &str| BoardName::new(name))]
        board: BoardName,
        /// The version it says of itself: MAJOR.MINOR.PATCH
        #[arg(long, value_parser = version)]
        version: Version,
        /// The bare firmware, as it is to lie in flash
        binary: PathBuf,
        /// The image file to write
        image: PathBuf,
    },
    /// Says what an image file holds, and whether it is signed with a key
    Show {
        /// The public key
        #[arg(long)]
        key: PathBuf,
        /// The image file
        image: PathBuf,
    },
}

pub(crate) fn run_verb(options: &Options) -> Result<(), Failure> {
    match &options.verb {
        Verb::Key { name } => make_key(name),
        Verb::Sign { key, board, version, binary, image } => {
            let pair = KeyPair::from_seed(Seed::new(read_key(key)?));
            let body = read(binary)?;
            let file = sign(&pair, *board, *version, &body)?;
            fs::write(image, &file).map_err(failed(image))?;
            println!("{}: {board} {version}, {} bytes", image.display(), file.len());
            Ok(())
        }
        Verb::Show { key, image } => {
            let file = read(image)?;
            let header = check(&PublicKey::new(read_key(key)?), &file)?;
            println!("{} {}, body of {} bytes, signed with this key", header.board, header.version, header.size.get());
            Ok(())
        }
    }
}

/// Returns the image file of a body.
fn sign(pair: &KeyPair, board: BoardName, version: Version, body: &[u8]) -> Result<Vec<u8>, Failure> {
    let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let size = BodySize::try_from(size).map_err(|error| Failure::Check(error.to_string()))?;
    let mut header = ImageHeader { board, version, size, digest: sha512::Hash::hash(body), signature: [0; 64] };
    // Without noise, as RFC 8032 has it: the same firmware makes the same file.
    header.signature = *pair.sk.sign(header.signed_part(), None);
    Ok([header.emit().as_slice(), body].concat())
}

/// Returns the header of an image file that is whole and signed with this key.
fn check(key: &PublicKey, file: &[u8]) -> Result<ImageHeader, Failure> {
    let (header, body) = ImageHeader::split(file).map_err(|error| Failure::Check(error.to_string()))?;
    if sha512::Hash::hash(body) != header.digest {
        return Err(Failure::Check("the body is not the one that was signed".into()));
    }
    let signature = ed25519_compact::Signature::new(header.signature);
    key.verify(header.signed_part(), &signature)
        .map_err(|_| Failure::Check("the header is not signed with this key".into()))?;
    Ok(header)
}

fn make_key(name: &Path) -> Result<(), Failure> {
    let mut seed = [0; 32];
    let source = Path::new("/dev/urandom");
    fs::File::open(source).and_then(|mut random| random.read_exact(&mut seed)).map_err(failed(source))?;
    let pair = KeyPair::from_seed(Seed::new(seed));
    let secret = name.with_added_extension("key");
    // A key that exists is in devices, or will be missed: it is never written over.
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret).map_err(failed(&secret))?;
    file.write_all(hex(&seed).as_bytes()).map_err(failed(&secret))?;
    let public = name.with_added_extension("pub");
    fs::write(&public, hex(pair.pk.as_slice())).map_err(failed(&public))?;
    println!("{}: secret; {}: for builds of firmware", secret.display(), public.display());
    Ok(())
}

/// 64 digits and a line's end.
fn hex(key: &[u8]) -> String {
    let mut text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    text
}

fn read_key(path: &Path) -> Result<[u8; 32], Failure> {
    let text = fs::read_to_string(path).map_err(failed(path))?;
    key_of(&text).ok_or_else(|| Failure::Check(format!("{}: no line of 64 hexadecimal digits", path.display())))
}

/// The first line that is no comment.
fn key_of(text: &str) -> Option<[u8; 32]> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    let digits: Option<Vec<u32>> = line.chars().map(|digit| digit.to_digit(16)).collect();
    let bytes: Option<Vec<u8>> = digits?
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect();
    bytes?.try_into().ok()
}

fn version(text: &str) -> Result<Version, String> {
    let mut parts = text.split('.');
    let mut next = || parts.next().ok_or("MAJOR.MINOR.PATCH");
    let (major, minor, patch) = (next()?, next()?, next()?);
    let wrong = |error| format!("{error}");
    let version = Version {
        major: major.parse().map_err(wrong)?,
        minor: minor.parse().map_err(wrong)?,
        patch: patch.parse().map_err(wrong)?,
    };
    if parts.next().is_some() { Err("more than MAJOR.MINOR.PATCH".into()) } else { Ok(version) }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    move |error| Failure::File { path: path.into(), error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::root;

    #[test]
    fn a_signed_image_is_known_by_the_public_key_and_by_no_other() {
        let pair = KeyPair::from_seed(Seed::new([1; 32]));
        let (board, version) = (BoardName::new("lm3s6965evb").unwrap(), version("1.2.300").unwrap());
        let file = sign(&pair, board, version, b"firmware").unwrap();
        assert_eq!(file.len(), ImageHeader::LEN + 8);
        assert_eq!(check(&pair.pk, &file).unwrap().version, Version { major: 1, minor: 2, patch: 300 });
        assert!(check(&KeyPair::from_seed(Seed::new([2; 32])).pk, &file).is_err());
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert!(check(&pair.pk, &damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn the_development_keys_are_a_pair_and_say_what_they_are() {
        let text = |ending| fs::read_to_string(root().join("firmware/keys").join(ending)).unwrap();
        let (secret, public) = (text("dev.key"), text("dev.pub"));
        assert_eq!(*KeyPair::from_seed(Seed::new(key_of(&secret).unwrap())).pk, key_of(&public).unwrap());
        assert!(secret.starts_with("# For development only") && public.starts_with("# For development only"));
    }

    #[test]
    fn what_is_no_version_or_no_key_is_refused() {
        for wrong in ["1.2", "1.2.3.4", "256.0.0", "a.b.c", ""] {
            assert!(version(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "# only a comment", "12", &"g".repeat(64), &"0".repeat(63), &"0".repeat(66)] {
            assert!(key_of(wrong).is_none(), "{wrong}");
        }
    }
}

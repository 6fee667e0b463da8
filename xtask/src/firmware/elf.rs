//! As much of ELF as sizes and bare binaries need: 32 bits, little-endian, as for every Cortex-M.
//!
//! Source: Tool Interface Standard, Executable and Linking Format, version 1.2, book I.

/// A section that has a place in the memory of the board.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    /// Where it is when the program runs.
    pub(crate) address: u32,
    /// Bytes.
    pub(crate) size: u32,
    /// Its bytes in the file; `None` when it has none, as `.bss`.
    pub(crate) content: Option<&'a [u8]>,
}

/// A symbol and what it names.
#[derive(Debug)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: &'a str,
    pub(crate) value: u32,
    pub(crate) size: u32,
}

/// An ELF file.
#[derive(Debug)]
pub(crate) struct Elf<'a> {
    file: &'a [u8],
}

const IDENT: [u8; 6] = [0x7F, b'E', b'L', b'F', 1, 1];
const NOBITS: u32 = 8;
const SYMBOLS: u32 = 2;
const ALLOCATED: u32 = 2;
const LOAD: u32 = 1;
const SYMBOL: usize = 16;

impl<'a> Elf<'a> {
    /// Takes a file; `None` when it is no ELF file of 32 bits, little-endian.
    pub(crate) fn new(file: &'a [u8]) -> Option<Self> {
        file.starts_with(&IDENT).then_some(Self { file })
    }

    /// Returns the sections with a place in memory; `None` when the file is broken.
    pub(crate) fn sections(&self) -> Option<Vec<Section<'a>>> {
        let mut found = Vec::new();
        for header in self.table(32, 46)? {
            let [kind, flags, address, at, size] = [4, 8, 12, 16, 20].map(|field| word(header, field));
            if flags? & ALLOCATED != 0 && size? > 0 {
                let content = if kind? == NOBITS { None } else { Some(part(self.file, at?, size?)?) };
                found.push(Section { address: address?, size: size?, content });
            }
        }
        Some(found)
    }

    /// Returns the symbols; `None` when the file is broken.
    pub(crate) fn symbols(&self) -> Option<Vec<Symbol<'a>>> {
        let sections = self.table(32, 46)?;
        let table = sections.iter().find(|header| word(header, 4) == Some(SYMBOLS))?;
        let content = |header: &[u8]| part(self.file, word(header, 16)?, word(header, 20)?);
        let names = content(sections.get(usize::try_from(word(table, 24)?).ok()?)?)?;
        let symbol = |entry: &[u8]| {
            let name = names.get(usize::try_from(word(entry, 0)?).ok()?..)?.split(|byte| *byte == 0).next()?;
            Some(Symbol { name: std::str::from_utf8(name).ok()?, value: word(entry, 4)?, size: word(entry, 8)? })
        };
        content(table)?.chunks_exact(SYMBOL).map(symbol).collect()
    }

    /// Returns what is to be written to flash, from the lowest address on, with 0xFF between; `None` when the file is broken
    /// or its parts are further apart than a megabyte.
    pub(crate) fn binary(&self) -> Option<Vec<u8>> {
        let mut parts = Vec::new();
        for header in self.table(28, 42)? {
            let [kind, at, physical, size] = [0, 4, 12, 16].map(|field| word(header, field));
            if kind? == LOAD && size? > 0 {
                parts.push((physical?, part(self.file, at?, size?)?));
            }
        }
        parts.sort_by_key(|(address, _)| *address);
        let first = parts.first()?.0;
        let mut binary = Vec::new();
        for (address, bytes) in parts {
            let place =
                usize::try_from(address - first).ok().filter(|place| *place >= binary.len() && *place < 1 << 20)?;
            binary.resize(place, 0xFF);
            binary.extend_from_slice(bytes);
        }
        Some(binary)
    }

    /// Returns the entries of a table whose place stands at `offset` of the file's header, size and count at `shape`.
    fn table(&self, offset: usize, shape: usize) -> Option<Vec<&'a [u8]>> {
        let half = |at: usize| Some(u32::from(u16::from_le_bytes(*self.file.get(at..)?.first_chunk()?)));
        let (size, count) = (half(shape)?, half(shape + 2)?);
        let whole = part(self.file, word(self.file, offset)?, size * count)?;
        (size > 0).then(|| whole.chunks_exact(size as usize).collect())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn part(bytes: &[u8], at: u32, size: u32) -> Option<&[u8]> {
    bytes.get(usize::try_from(at).ok()?..)?.get(..usize::try_from(size).ok()?)
}

/// Returns the path in a mangled name, without its hash; a name that is not mangled as it is.
pub(crate) fn plain(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("_ZN") else { return name.to_owned() };
    let mut words = Vec::new();
    while let Some(digits) = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0) {
        let Some(word) = rest[..digits].parse().ok().and_then(|size: usize| rest.get(digits..digits + size)) else {
            break;
        };
        rest = &rest[digits + word.len()..];
        words.push(word);
    }
    let hash = |word: &&str| word.len() == 17 && word.starts_with('h');
    words.pop_if(|word| hash(&&**word));
    words.join("::").replace("$LT$", "<").replace("$GT$", ">").replace("$C$", ",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_elf_file_or_is_cut_is_none() {
        assert!(Elf::new(b"\x7FELF\x02\x01").is_none());
        let cut = Elf::new(&IDENT).expect("it begins like one");
        assert!(cut.sections().is_none() && cut.symbols().is_none() && cut.binary().is_none());
    }

    #[test]
    fn a_mangled_name_is_read_as_a_path_without_its_hash() {
        assert_eq!(plain("_ZN13ganglion_node3run3run17h9ade825ae4b6be66E"), "ganglion_node::run::run");
        assert_eq!(plain("memcpy"), "memcpy");
    }
}

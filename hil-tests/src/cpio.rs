//! The archive that a Linux kernel unpacks as its first file system: cpio, "newc" form (Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst).

/// An archive being made.
#[derive(Default, Debug)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder; those above it come first.
    pub fn folder(&mut self, path: &str) {
        self.entry(path, 0o040_755, &[]);
    }

    /// Adds a file that everybody may run.
    ///
    /// # Panics
    /// When it has 4 GiB or more.
    pub fn file(&mut self, path: &str, contents: &[u8]) {
        self.entry(path, 0o100_755, contents);
    }

    /// Returns the archive.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.entries += 1;
        let length = |bytes: usize| u32::try_from(bytes).expect("below 4 GiB");
        let (size, name_size) = (length(contents.len()), length(path.len() + 1));
        // Number, mode, owner, group, links, time, size, four numbers of devices, length of the name, no checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

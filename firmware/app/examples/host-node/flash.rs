//! A NOR flash in a file: words of 8 bytes that are programmed once, pages of 2 KiB that are erased at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// Bytes of a page.
pub(crate) const PAGE: u32 = 2048;
const WORD: usize = 8;

/// A flash that is a file: what a process wrote before it was killed is there.
#[derive(Debug)]
pub(crate) struct FileFlash {
    file: File,
    size: usize,
}

impl FileFlash {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Ok(Self { file, size })
    }

    /// Returns what a firmware at this place says of itself.
    pub(crate) fn start_of(&self, at: u32) -> io::Result<[u8; 5]> {
        let mut bytes = [0; 5];
        self.file.read_exact_at(&mut bytes, at.into())?;
        Ok(bytes)
    }
}

impl ErrorType for FileFlash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for FileFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        check_read(self, offset, bytes.len())?;
        self.file.read_exact_at(bytes, offset.into()).map_err(|_| NorFlashErrorKind::Other)
    }

    fn capacity(&self) -> usize {
        self.size
    }
}

impl NorFlash for FileFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE as usize;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        check_erase(self, from, to)?;
        let blank = vec![0xFF; (to - from) as usize];
        self.file.write_all_at(&blank, from.into()).map_err(|_| NorFlashErrorKind::Other)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        check_write(self, offset, bytes.len())?;
        let mut there = vec![0; bytes.len()];
        self.read(offset, &mut there)?;
        // A word that was programmed takes nothing until its page is erased.
        if there.iter().any(|byte| *byte != 0xFF) {
            return Err(NorFlashErrorKind::Other);
        }
        self.file.write_all_at(bytes, offset.into()).map_err(|_| NorFlashErrorKind::Other)
    }
}

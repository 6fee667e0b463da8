//! Compression of backfill messages: chosen once a message, kept only where it makes it smaller.

use std::fmt;

use super::message::Payload;

/// Level of zstd: the first ones cost a fraction of writing the JSON.
const LEVEL: i32 = 1;
/// Most text in one message. A consumer must hold it in memory, and so must the gateway.
const LONGEST_TEXT: usize = 512 * 1024;

/// Compresses, and remembers how much smaller the last messages became.
pub(super) struct Compressor {
    /// Made at the first message, and none where zstd cannot have its memory.
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Bytes of text that became one byte, in hundredths.
    ratio: usize,
}

impl Default for Compressor {
    fn default() -> Self {
        Self { zstd: None, ratio: 400 }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("ratio", &self.ratio).finish_non_exhaustive()
    }
}

impl Compressor {
    /// Returns how much text may become a payload of so many bytes.
    pub(super) fn worth_trying(&self, limit: usize) -> usize {
        // A tenth less than it would be on average.
        (limit.saturating_mul(self.ratio) / 110).clamp(limit.min(LONGEST_TEXT), LONGEST_TEXT)
    }

    /// Notes that a payload came out longer than the limit.
    pub(super) fn was_too_long(&mut self, bytes: usize, limit: usize) {
        self.ratio = (self.ratio.saturating_mul(limit) / bytes.max(1)).min(self.ratio * 9 / 10).max(1);
    }

    /// Compresses a text, unless that makes it no smaller.
    pub(super) fn compress(&mut self, text: &[u8]) -> Payload {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let compressed = self.zstd.as_mut().and_then(|zstd| zstd.compress(text).ok());
        match compressed {
            Some(bytes) if bytes.len() < text.len() => {
                let ratio = text.len().saturating_mul(100) / bytes.len().max(1);
                self.ratio = (self.ratio * 3 + ratio.min(3000)) / 4;
                Payload { bytes, compressed: true }
            }
            _ => Payload { bytes: text.to_vec(), compressed: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_repeats_itself_comes_back_from_fewer_bytes() {
        let text = r#"{"id":"620602-9601-000007-51","seq":1,"t":"2026-11-22T06:53:55.123Z"},"#.repeat(500);
        let payload = Compressor::default().compress(text.as_bytes());
        assert!(payload.compressed && payload.bytes.len() * 10 < text.len());
        assert_eq!(payload.bytes[..4], [0x28, 0xb5, 0x2f, 0xfd]);
        assert_eq!(zstd::bulk::decompress(&payload.bytes, text.len()).unwrap(), text.as_bytes());
    }

    #[test]
    fn a_text_that_becomes_no_smaller_stays_as_it_is() {
        let text = b"{}".to_vec();
        assert_eq!(Compressor::default().compress(&text), Payload { bytes: text, compressed: false });
    }

    #[test]
    fn how_much_is_tried_follows_what_came_out() {
        let mut compressor = Compressor::default();
        let before = compressor.worth_trying(10_000);
        assert!((30_000..40_000).contains(&before), "{before}");
        compressor.was_too_long(20_000, 10_000);
        assert!(compressor.worth_trying(10_000) <= before / 2 + 1);
        for _ in 0..20 {
            compressor.compress("the same and the same again ".repeat(1000).as_bytes());
        }
        assert!(compressor.worth_trying(10_000) > before);
        assert!(compressor.worth_trying(usize::MAX) <= LONGEST_TEXT);
    }
}

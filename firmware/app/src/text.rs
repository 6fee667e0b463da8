//! Lines of text, without `core::fmt`, which would take 5 KiB of the node's flash.

use ganglion_protocols::Cri;
use ganglion_protocols::node_link::{ResetCause, Version};
use heapless::String;

/// A line of at most `N` bytes. What does not fit is left out, a part as a whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Text<const N: usize>(String<N>);

impl<const N: usize> Text<N> {
    /// Makes an empty line.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self(String::new())
    }

    /// Returns what is in it.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts text.
    pub(crate) fn put(&mut self, text: &str) -> &mut Self {
        // Left out where it does not fit, as the type says.
        let _fits = self.0.push_str(text);
        self
    }

    /// Puts a space and text.
    pub(crate) fn word(&mut self, text: &str) -> &mut Self {
        self.put(" ").put(text)
    }

    /// Puts a space and a number.
    pub(crate) fn number(&mut self, number: impl Into<u64>) -> &mut Self {
        self.put(" ").digits(number.into(), 1)
    }

    /// Puts a number right behind what is there.
    pub(crate) fn glued(&mut self, number: impl Into<u64>) -> &mut Self {
        self.digits(number.into(), 1)
    }

    /// Puts a space and a number with its sign, if that is a minus.
    pub(crate) fn signed(&mut self, number: i32) -> &mut Self {
        self.put(if number < 0 { " -" } else { " " }).digits(u64::from(number.unsigned_abs()), 1)
    }

    /// Puts a version: `1.2.3`.
    pub(crate) fn version(&mut self, version: Version) -> &mut Self {
        self.digits(version.major.into(), 1).put(".").digits(version.minor.into(), 1);
        self.put(".").digits(version.patch.into(), 1)
    }

    /// Puts a resource as it is written: `330502-9601-000131-75`.
    pub(crate) fn resource(&mut self, cri: Cri) -> &mut Self {
        self.digits(cri.division().code().into(), 6).put("-").digits(cri.class().code().into(), 4);
        self.put("-").digits(cri.serial().number().into(), 6).put("-").digits(cri.check_digits().into(), 2)
    }

    /// Puts the decimal digits of a number, with zeros before it up to `least`.
    fn digits(&mut self, mut number: u64, least: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut used = 0;
        for place in digits.iter_mut().rev() {
            *place = b'0'.saturating_add(u8::try_from(number % 10).unwrap_or_default());
            used = usize::saturating_add(used, 1);
            number /= 10;
            if number == 0 {
                break;
            }
        }
        let begin = digits.len().saturating_sub(used.max(least));
        let digits = digits.get(begin..).unwrap_or_default();
        self.put(core::str::from_utf8(digits).unwrap_or_default())
    }
}

/// Returns why a node started, in a word.
pub(crate) const fn reset_name(cause: ResetCause) -> &'static str {
    match cause {
        ResetCause::Power => "power",
        ResetCause::Pin => "pin",
        ResetCause::Order => "order",
        ResetCause::Watchdog => "watchdog",
        ResetCause::Fault => "fault",
        ResetCause::BrownOut => "brown-out",
        ResetCause::Update => "update",
        ResetCause::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        let mut text = Text::<200>::new();
        text.put("n").number(0_u32).number(u64::MAX).signed(i32::MIN).signed(-1).signed(70);
        assert_eq!(text.as_str(), "n 0 18446744073709551615 -2147483648 -1 70");
    }

    #[test]
    fn a_resource_and_a_version_are_written_as_the_gateway_writes_them() {
        let cri = Cri::from_bits(3_305_029_601_000_131).unwrap();
        let version = Version { major: 1, minor: 20, patch: 300 };
        assert_eq!(Text::<30>::new().resource(cri).as_str(), cri.to_string());
        assert_eq!(Text::<30>::new().version(version).as_str(), version.to_string());
    }

    #[test]
    fn what_does_not_fit_is_left_out_as_a_whole() {
        let mut text = Text::<6>::new();
        text.put("abc").number(1234_u32);
        assert_eq!(text.as_str(), "abc ");
    }
}

//! Polls devices. One task owns each bus.

//! The sensor node without a board.
#![no_std]
#![forbid(unsafe_code)]

//! The I2C master, data sheet §14.

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation, SevenBitAddress};

use crate::registers::Register;

const RUN: u32 = 1 << 0;
const START: u32 = 1 << 1;
const STOP: u32 = 1 << 2;
const ACK: u32 = 1 << 3;
const BUSY: u32 = 1 << 0;
/// Error, address not acknowledged, data not acknowledged, arbitration lost. QEMU says the last when nobody has the address.
const FAILED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4;
const MASTER: u32 = 1 << 4;
/// Longest wait for a byte, in turns of a loop.
const PATIENCE: u32 = 100_000;

/// The master of I2C1. Every use is a whole transaction, so there may be several of it.
#[derive(Clone, Copy)]
pub(crate) struct Bus;

const BASE: usize = 0x4002_1000;

fn register(offset: usize) -> Register {
    // SAFETY: the base is that of I2C1, the offsets below those of its registers.
    unsafe { Register::at(BASE + offset) }
}

impl Bus {
    /// Starts the master: 100 kHz of 12.5 MHz.
    pub(crate) fn start() -> Self {
        register(0x20).write(MASTER);
        register(0x0C).write(6);
        Self
    }

    fn step(control: u32) -> Result<(), ErrorKind> {
        register(0x04).write(control);
        for _ in 0..PATIENCE {
            let state = register(0x04).read();
            if state & BUSY == 0 {
                let failed = state & FAILED != 0;
                return if failed { Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown)) } else { Ok(()) };
            }
        }
        Err(ErrorKind::Bus)
    }
}

impl ErrorType for Bus {
    type Error = ErrorKind;
}

impl I2c for Bus {
    /// Writes and reads in one transaction. Where the direction changes the bus is left and taken again: QEMU's model does not
    /// repeat a start, and none of the node's chips mind.
    fn transaction(&mut self, address: SevenBitAddress, operations: &mut [Operation<'_>]) -> Result<(), Self::Error> {
        let reads = |operation: &Operation<'_>| matches!(operation, Operation::Read(_));
        let mut begin = START;
        for place in 0..operations.len() {
            let (before, behind) = operations.split_at_mut(place + 1);
            let Some(operation) = before.last_mut() else { break };
            let reads_here = reads(operation);
            let last = behind.first().is_none_or(|next| reads(next) != reads_here);
            register(0x00).write(u32::from(address) << 1 | u32::from(reads_here));
            let len = match operation {
                Operation::Read(bytes) => bytes.len(),
                Operation::Write(bytes) => bytes.len(),
            };
            for at in 0..len {
                let ends = at + 1 == len;
                let stop = if ends && last { STOP } else { 0 };
                let outcome = match operation {
                    Operation::Write(bytes) => {
                        register(0x08).write(u32::from(bytes[at]));
                        Self::step(RUN | begin | stop)
                    }
                    Operation::Read(bytes) => {
                        let ack = if ends { 0 } else { ACK };
                        let read = Self::step(RUN | begin | stop | ack);
                        bytes[at] = (register(0x08).read() & 0xFF) as u8;
                        read
                    }
                };
                if let Err(error) = outcome {
                    // The bus is left free whatever happened.
                    let _freed = Self::step(STOP);
                    return Err(error);
                }
                begin = 0;
            }
            if last {
                begin = START;
            }
        }
        Ok(())
    }
}

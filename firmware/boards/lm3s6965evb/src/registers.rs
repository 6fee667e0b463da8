//! The chip's registers that the node uses, LM3S6965 data sheet (DS-LM3S6965-01).

/// A register.
#[derive(Clone, Copy)]
pub(crate) struct Register(usize);

impl Register {
    /// Names the register at an address.
    ///
    /// # Safety
    /// There is a register of 32 bits at the address, and no value written to it breaks what Rust takes for granted.
    pub(crate) const unsafe fn at(address: usize) -> Self {
        Self(address)
    }

    pub(crate) fn read(self) -> u32 {
        // SAFETY: as promised to `at`.
        unsafe { (self.0 as *const u32).read_volatile() }
    }

    pub(crate) fn write(self, value: u32) {
        // SAFETY: as promised to `at`.
        unsafe { (self.0 as *mut u32).write_volatile(value) }
    }
}

macro_rules! registers {
    ($($(#[$doc:meta])* $name:ident = $address:expr;)*) => {
        $(
            $(#[$doc])*
            // SAFETY: a register of the data sheet; none of them moves memory.
            pub(crate) const $name: Register = unsafe { Register::at($address) };
        )*
    };
}

registers! {
    /// Clock gates of the watchdog.
    RCGC0 = 0x400F_E100;
    /// Clock gates of UARTs and I2C.
    RCGC1 = 0x400F_E104;
    /// Clock gates of the ports.
    RCGC2 = 0x400F_E108;
    /// What the watchdog counts down from.
    WDTLOAD = 0x4000_0000;
    /// Whether it interrupts, and resets at the second time.
    WDTCTL = 0x4000_0008;
    /// Feeds it.
    WDTICR = 0x4000_000C;
}

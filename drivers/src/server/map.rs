//! What a device has behind its Modbus server.

use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::pdu::{Bits, Words};

/// Registers, names and files of one device.
///
/// Every method has an answer: what a device has not, it does not write. Reads are asked item by item, so that sparse
/// registers are the arms of one `match`; one request is answered in one go, so what spans two registers is of one moment
/// if it is computed from a state that stands still meanwhile.
///
/// Writes come in two steps. `check_…` looks at the whole range and all its values and changes nothing; `write_…` follows
/// only if that said yes, with the same arguments, and has only failures of the device left to say. So nothing is
/// half-written because of an address or a value.
///
/// **Refusals.** [`ILLEGAL_DATA_ADDRESS`](ExceptionCode::ILLEGAL_DATA_ADDRESS) for an address that is not there (for a
/// range: any of it), [`ILLEGAL_DATA_VALUE`](ExceptionCode::ILLEGAL_DATA_VALUE) for a value that is out of its range,
/// [`SERVER_DEVICE_BUSY`](ExceptionCode::SERVER_DEVICE_BUSY) for "not now",
/// [`SERVER_DEVICE_FAILURE`](ExceptionCode::SERVER_DEVICE_FAILURE) for what broke.
///
/// Source: MODBUS Application Protocol V1.1b3 §4.3.
pub trait Map {
    /// Says whether a function that the server implements is one of this device, for exception 01: a device without coils
    /// has no functions 0x01, 0x05 and 0x0F.
    fn supports(&self, function: u8) -> bool {
        let _ = function;
        true
    }

    /// Returns a coil.
    ///
    /// # Errors
    /// As the trait says, and so for every method below.
    fn coil(&self, address: u16) -> Result<bool, ExceptionCode> {
        nowhere(address)
    }

    /// Returns a discrete input.
    ///
    /// # Errors
    /// As the trait says.
    fn discrete_input(&self, address: u16) -> Result<bool, ExceptionCode> {
        nowhere(address)
    }

    /// Returns a holding register.
    ///
    /// # Errors
    /// As the trait says.
    fn holding_register(&self, address: u16) -> Result<u16, ExceptionCode> {
        nowhere(address)
    }

    /// Returns an input register.
    ///
    /// # Errors
    /// As the trait says.
    fn input_register(&self, address: u16) -> Result<u16, ExceptionCode> {
        nowhere(address)
    }

    /// Says whether these coils may be written. The last address is at most 65535.
    ///
    /// # Errors
    /// As the trait says.
    fn check_coils(&self, first: u16, bits: Bits<'_>) -> Result<(), ExceptionCode> {
        let _ = bits;
        nowhere(first)
    }

    /// Writes coils that were checked.
    ///
    /// # Errors
    /// As the trait says.
    fn write_coils(&mut self, first: u16, bits: Bits<'_>) -> Result<(), ExceptionCode> {
        let _ = bits;
        nowhere(first)
    }

    /// Says whether these holding registers may be written. The last address is at most 65535.
    ///
    /// # Errors
    /// As the trait says.
    fn check_registers(&self, first: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
        let _ = words;
        nowhere(first)
    }

    /// Writes holding registers that were checked.
    ///
    /// # Errors
    /// As the trait says.
    fn write_registers(&mut self, first: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
        let _ = words;
        nowhere(first)
    }

    /// Returns the eight bits of function 0x07, §6.7.
    fn exception_status(&self) -> u8 {
        0
    }

    /// Returns the diagnostic register, function 0x08 sub-function 2, §6.8.1.
    fn diagnostic_register(&self) -> u16 {
        0
    }

    /// Clears the diagnostic register, function 0x08 sub-functions 1 and 10.
    fn clear_diagnostic_register(&mut self) {}

    /// Returns what function 0x11 says, §6.13: the id, the run indicator (00 off, FF on), anything more; at most 251 bytes.
    fn server_id(&self) -> &[u8] {
        &[]
    }

    /// Returns an object of the device identification, §6.21: 0 vendor name, 1 product code and 2 revision are basic and
    /// a device has all three; 3 to 0x7F are regular, from 0x80 extended. ASCII; what is longer than 244 bytes is cut.
    fn identification(&self, object: u8) -> Option<&[u8]> {
        let _ = object;
        None
    }

    /// Reads records of a file, §6.14, into all of `out`, two bytes each, high byte first. The last record is at most
    /// 9999.
    ///
    /// # Errors
    /// As the trait says.
    fn read_file(&self, file: u16, record: u16, out: &mut [u8]) -> Result<(), ExceptionCode> {
        let _ = (record, out);
        nowhere(file)
    }

    /// Says whether records of a file may be written, §6.15. The last record is at most 9999.
    ///
    /// # Errors
    /// As the trait says.
    fn check_file(&self, file: u16, record: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
        let _ = (record, words);
        nowhere(file)
    }

    /// Writes records of a file that were checked.
    ///
    /// # Errors
    /// As the trait says.
    fn write_file(&mut self, file: u16, record: u16, words: Words<'_>) -> Result<(), ExceptionCode> {
        let _ = (record, words);
        nowhere(file)
    }
}

/// Records of a file, 0 to 9999, §6.14.
pub(super) const RECORDS: u16 = 10_000;

/// Returns the place of a record when files 1, 2, 3… are one run of bytes, as a firmware image is: 10000 records of two
/// bytes a file. `None` for file 0 and records above 9999, which the standard has not.
#[must_use]
pub fn file_offset(file: u16, record: u16) -> Option<u32> {
    if record >= RECORDS {
        return None;
    }
    let records = u32::from(file.checked_sub(1)?).saturating_mul(RECORDS.into()).saturating_add(record.into());
    Some(records.saturating_mul(2))
}

const fn nowhere<T>(_address: u16) -> Result<T, ExceptionCode> {
    Err(ExceptionCode::ILLEGAL_DATA_ADDRESS)
}

#[cfg(test)]
mod tests {
    use super::file_offset;

    #[test]
    fn files_are_one_run_of_bytes() {
        assert_eq!(file_offset(1, 0), Some(0));
        assert_eq!(file_offset(1, 9_999), Some(19_998));
        assert_eq!(file_offset(2, 0), Some(20_000));
        assert_eq!(file_offset(3, 7), Some(40_014));
        assert_eq!(file_offset(u16::MAX, 9_999), Some(1_310_699_998));
        assert_eq!((file_offset(0, 0), file_offset(1, 10_000)), (None, None));
    }
}

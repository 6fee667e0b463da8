//! Which exception a request gets that cannot be read.

use ganglion_protocols::modbus::ExceptionCode;
use ganglion_protocols::modbus::pdu::{Defect, MAX_READ_WRITE_REGISTERS, MEI_DEVICE_ID, PduError, function as fc};

/// Says whether the server has the function, its sub-function and its encapsulated type: the first question of each chart.
pub(super) const fn is_implemented(pdu: &[u8]) -> bool {
    match pdu {
        // Figure 18: the sub-function belongs to the first question.
        [fc::DIAGNOSTICS, high, low, ..] => *high == 0 && matches!(*low, 0x00..=0x02 | 0x04 | 0x0A..=0x12 | 0x14),
        [fc::ENCAPSULATED_INTERFACE, mei, ..] => *mei == MEI_DEVICE_ID,
        [function, ..] => matches!(
            *function,
            fc::READ_COILS
                ..=fc::DIAGNOSTICS
                    | fc::GET_COMM_EVENT_COUNTER
                    | fc::GET_COMM_EVENT_LOG
                    | fc::WRITE_MULTIPLE_COILS
                ..=fc::REPORT_SERVER_ID
                    | fc::READ_FILE_RECORD
                ..=fc::READ_WRITE_MULTIPLE_REGISTERS
                    | fc::ENCAPSULATED_INTERFACE
        ),
        [] => false,
    }
}

/// Returns the exception for a request of an implemented function.
///
/// Quantities, byte counts and the form come before addresses. What the charts leave open, a length that contradicts the
/// function, is `ILLEGAL_DATA_VALUE` by §7: "the implied length is incorrect".
pub(super) fn of(pdu: &[u8], error: PduError) -> ExceptionCode {
    match error.what {
        Defect::Range { .. } if quantities_are_right(pdu) => ExceptionCode::ILLEGAL_DATA_ADDRESS,
        // Figures 24 and 25: of a sub-request all is one question, and its answer is 02.
        Defect::ReferenceType { .. } | Defect::FileNumber | Defect::RecordNumber { .. } => {
            ExceptionCode::ILLEGAL_DATA_ADDRESS
        }
        _ => ExceptionCode::ILLEGAL_DATA_VALUE,
    }
}

/// Says whether the counts that come after the range that was refused are right; those before it are.
fn quantities_are_right(pdu: &[u8]) -> bool {
    let (quantity, bytes, data, expected) = match pdu {
        [fc::WRITE_MULTIPLE_COILS, _, _, n0, n1, bytes, data @ ..] => {
            let quantity = u16::from_be_bytes([*n0, *n1]);
            (quantity, *bytes, data, quantity.div_ceil(8))
        }
        [fc::WRITE_MULTIPLE_REGISTERS, _, _, n0, n1, bytes, data @ ..]
        | [fc::READ_WRITE_MULTIPLE_REGISTERS, _, _, _, _, _, _, n0, n1, bytes, data @ ..] => {
            let quantity = u16::from_be_bytes([*n0, *n1]);
            (quantity, *bytes, data, quantity.saturating_mul(2))
        }
        _ => return true,
    };
    let possible =
        pdu.first() != Some(&fc::READ_WRITE_MULTIPLE_REGISTERS) || (1..=MAX_READ_WRITE_REGISTERS).contains(&quantity);
    possible && u16::from(bytes) == expected && data.len() == usize::from(bytes)
}

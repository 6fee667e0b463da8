//! One request and its answer through tokio-modbus, and the judgement whether the answer may be believed.

use std::io::{self, ErrorKind};
use std::time::Duration;

use ganglion_drivers::plan::ReadRequest;
use ganglion_protocols::Reason;
use ganglion_protocols::modbus::{ExceptionCode, Table, UnitId};
use tokio::time::timeout;
use tokio_modbus::client::{Client, Context};
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{Error, Request, Response, Slave};

/// Why a request has no items for an answer, and what that says about the wire.
#[derive(Debug)]
pub(super) enum Fault {
    /// The unit answered with an exception; the wire is fine.
    Exception(ExceptionCode),
    /// No answer, or one that is not to be believed; the transport has dealt with it and goes on.
    Unusable(Reason),
    /// As `Unusable`, and the connection must be replaced.
    Spoiled(Reason),
    /// The connection or port went away after the request was sent.
    Lost(io::Error),
    /// The connection or port was found gone before the request was sent.
    Gone(io::Error),
}

/// Sends one request and waits at most `limit` for its answer. Returns as many items as were asked for.
///
/// # Errors
/// `Exception`, `Unusable` or `Lost`.
pub(super) async fn exchange(
    context: &mut Context,
    unit: UnitId,
    request: &ReadRequest,
    limit: Duration,
) -> Result<Vec<u16>, Fault> {
    context.set_slave(Slave(unit.0));
    // `call` and not the typed readers: those assert the count in debug builds and ignore it in others.
    match timeout(limit, context.call(pdu(request))).await {
        Err(_) => Err(Fault::Unusable(Reason::Timeout)),
        Ok(Err(error)) => Err(fault(error)),
        Ok(Ok(Err(code))) => Err(Fault::Exception(ExceptionCode::new(code.into()))),
        Ok(Ok(Ok(response))) => items(request, response).map_err(Fault::Unusable),
    }
}

fn pdu(request: &ReadRequest) -> Request<'static> {
    match request.table {
        Table::Coil => Request::ReadCoils(request.address, request.count),
        Table::DiscreteInput => Request::ReadDiscreteInputs(request.address, request.count),
        Table::InputRegister => Request::ReadInputRegisters(request.address, request.count),
        Table::HoldingRegister => Request::ReadHoldingRegisters(request.address, request.count),
    }
}

fn items(request: &ReadRequest, response: Response) -> Result<Vec<u16>, Reason> {
    let count = usize::from(request.count);
    match (request.table, response) {
        (Table::Coil, Response::ReadCoils(mut bits))
        | (Table::DiscreteInput, Response::ReadDiscreteInputs(mut bits)) => {
            // Bits come padded to whole bytes, Application Protocol V1.1b3 §6.1.
            if bits.len() != count.next_multiple_of(8) {
                return Err(Reason::WrongLength);
            }
            bits.truncate(count);
            Ok(bits.into_iter().map(u16::from).collect())
        }
        (Table::InputRegister, Response::ReadInputRegisters(words))
        | (Table::HoldingRegister, Response::ReadHoldingRegisters(words)) => {
            if words.len() == count {
                Ok(words)
            } else {
                Err(Reason::WrongLength)
            }
        }
        _ => Err(Reason::WrongReply),
    }
}

fn fault(error: Error) -> Fault {
    match error {
        Error::Protocol(_) => Fault::Unusable(Reason::WrongReply),
        // What the decoder refuses has these kinds and no number of the operating system. After an end of file
        // tokio-modbus may return whatever number came last, which says nothing.
        Error::Transport(error)
            if error.raw_os_error().is_none()
                && matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            Fault::Unusable(Reason::Malformed)
        }
        Error::Transport(error) => Fault::Lost(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: Table, count: u16) -> ReadRequest {
        ReadRequest { table, address: 7, count }
    }

    #[test]
    fn bits_become_zeros_and_ones_without_the_padding() {
        let mut bits = vec![false; 16];
        bits[0] = true;
        bits[9] = true;
        let got = items(&read(Table::Coil, 10), Response::ReadCoils(bits)).unwrap();
        assert_eq!(got, [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn another_count_than_asked_for_is_refused() {
        for count in [0, 9, 11, 125] {
            let words = Response::ReadHoldingRegisters(vec![1; count]);
            assert_eq!(items(&read(Table::HoldingRegister, 10), words), Err(Reason::WrongLength));
        }
        for count in [0, 8, 24] {
            let bits = Response::ReadDiscreteInputs(vec![true; count]);
            assert_eq!(items(&read(Table::DiscreteInput, 10), bits), Err(Reason::WrongLength));
        }
    }

    #[test]
    fn an_answer_from_another_table_is_refused() {
        let words = Response::ReadInputRegisters(vec![1; 10]);
        assert_eq!(items(&read(Table::HoldingRegister, 10), words), Err(Reason::WrongReply));
        let words = Response::ReadWriteMultipleRegisters(vec![1; 10]);
        assert_eq!(items(&read(Table::HoldingRegister, 10), words), Err(Reason::WrongReply));
    }

    #[test]
    fn what_the_decoder_refuses_is_malformed_and_anything_else_is_a_lost_wire() {
        let decoder = io::Error::new(ErrorKind::InvalidData, "Too many retries");
        assert!(matches!(fault(decoder.into()), Fault::Unusable(Reason::Malformed)));
        for gone in [io::Error::from_raw_os_error(5), io::Error::from_raw_os_error(0), ErrorKind::BrokenPipe.into()] {
            assert!(matches!(fault(gone.into()), Fault::Lost(_)));
        }
    }
}

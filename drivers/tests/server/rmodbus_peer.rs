//! The same requests to rmodbus 0.13, a server that is not ours: the same answers, byte by byte, but where it leaves the
//! standard.
//!
//! It does so for functions 0x01 to 0x06, 0x0F and 0x10 in two ways, and is not asked in the others:
//!
//! - a quantity of 0 is done, where the charts of §6 want exception 03;
//! - a byte count that contradicts the quantity of a write of several items is taken, where figures 21 and 22 want 03;
//! - it reads a frame by the length of its function and lets bytes behind it be, where here the CRC is that of the whole
//!   burst;
//! - an unknown function is refused without a look at the CRC, and one above 0x7F makes its arithmetic overflow.

use ganglion_drivers::server::Server;
use ganglion_protocols::modbus::rtu::MAX_FRAME;
use proptest::prelude::*;
use rmodbus::ModbusProto;
use rmodbus::server::ModbusFrame;
use rmodbus::server::storage::ModbusStorage;

use super::device::{Device, SIZE, UNIT, frame};

type Storage = ModbusStorage<SIZE, SIZE, SIZE, SIZE>;

/// What the peer answers.
fn peer(storage: &mut Storage, request: &[u8]) -> Option<Vec<u8>> {
    let mut response = Vec::new();
    let mut frame = ModbusFrame::new(UNIT.0, request, ModbusProto::Rtu, &mut response);
    frame.parse().ok()?;
    if frame.processing_required {
        let done = if frame.readonly { frame.process_read(storage) } else { frame.process_write(storage) };
        done.ok()?;
    }
    if !frame.response_required {
        return None;
    }
    frame.finalize_response().ok()?;
    Some(response)
}

fn storage(device: &Device) -> Storage {
    let mut storage = Storage::new();
    storage.coils.copy_from_slice(&device.coils);
    storage.discretes.copy_from_slice(&device.inputs);
    storage.inputs.copy_from_slice(&device.input);
    storage.holdings.copy_from_slice(&device.holding);
    storage
}

/// Addresses inside, at the edges and outside.
fn address() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 0_u16..0x200, 2 => 0x1F0_u16..0x210, 1 => any::<u16>(), 1 => 0xFFF0_u16..=0xFFFF]
}

fn quantity(most: u16) -> impl Strategy<Value = u16> {
    prop_oneof![6 => 1..=most, 1 => 0_u16..3, 1 => most - 1..most + 3, 1 => any::<u16>()]
}

/// Requests, and whether the peer does what the standard forbids.
fn requests() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let words =
        |function: u8, words: [u16; 2]| [&[function][..], &words[0].to_be_bytes(), &words[1].to_be_bytes()].concat();
    let read = (1_u8..=4).prop_flat_map(move |function| {
        (address(), quantity(if function <= 2 { 2000 } else { 125 }))
            .prop_map(move |(address, quantity)| (words(function, [address, quantity]), quantity == 0))
    });
    let coil = prop_oneof![3 => Just(0xFF00_u16), 3 => Just(0), 1 => any::<u16>()];
    let coil = (address(), coil).prop_map(move |(address, value)| (words(0x05, [address, value]), false));
    let register = (address(), any::<u16>()).prop_map(move |(address, value)| (words(0x06, [address, value]), false));
    let several = (any::<bool>(), address(), prop::collection::vec(any::<u8>(), 246), -2_i16..=2).prop_flat_map(
        move |(coils, address, data, off)| {
            quantity(if coils { 1968 } else { 123 }).prop_map(move |quantity| {
                let bytes = if coils { quantity.div_ceil(8) } else { quantity.saturating_mul(2) }.min(246);
                // Four times out of five the byte count is right.
                let off = if off.abs() == 2 { off / 2 } else { 0 };
                let bytes = bytes.saturating_add_signed(off).min(246);
                let function = if coils { 0x0F } else { 0x10 };
                let head = words(function, [address, quantity]);
                let request = [&head[..], &[u8::try_from(bytes).expect("at most 246")], &data[..bytes.into()]].concat();
                let expected = if coils { quantity.div_ceil(8) } else { quantity.saturating_mul(2) };
                let most = if coils { 1968 } else { 123 };
                (request, quantity == 0 || (quantity <= most && bytes != expected))
            })
        },
    );
    prop_oneof![4 => read, 1 => coil, 1 => register, 3 => several]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_same_requests_get_the_same_answers_and_leave_the_same_registers(
        asked in prop::collection::vec((requests(), 0_u8..20), 1..20)
    ) {
        let mut device = Device::new();
        device.special = false;
        let mut peers = storage(&device);
        let mut server = Server::new(UNIT);
        for ((pdu, forbidden), unit) in asked {
            // Most are to this unit, some to all, some to another.
            let unit = match unit { 0 => 0, 1 => 18, _ => UNIT.0 };
            let request = frame(unit, &pdu);
            let mut out = [0xA5; MAX_FRAME];
            let answer = server.handle_frame(&mut device, &request, &mut out).map(<[u8]>::to_vec);
            if forbidden {
                let refusal = (unit == UNIT.0).then(|| frame(unit, &[pdu[0] | 0x80, 3]));
                prop_assert_eq!(answer, refusal, "{:02X?}", pdu);
                continue;
            }
            prop_assert_eq!(answer, peer(&mut peers, &request), "{:02X?}", pdu);
            prop_assert!(peers.coils[..] == device.coils[..] && peers.holdings[..] == device.holding[..]);
        }
    }
}

//! The direction of the transceiver.

use embedded_hal_mock::eh1::MockError;
use embedded_hal_mock::eh1::digital::{Mock, State, Transaction};
use ganglion_drivers::chip::rs485::Direction;

use super::{ms, us};

fn pin(states: &[State]) -> Mock {
    Mock::new(&states.iter().map(|&state| Transaction::set(state)).collect::<Vec<_>>())
}

/// Drives idle 100 µs before and 50 µs after.
fn direction(pin: &Mock) -> Direction<Mock> {
    Direction::new(pin.clone(), us(100), us(50)).unwrap()
}

#[test]
fn the_driver_is_on_before_the_first_byte_and_off_after_the_last_bit() {
    let mut pin = pin(&[State::Low, State::High, State::Low]);
    let mut direction = direction(&pin);
    assert!(direction.is_listening());
    assert_eq!(direction.request_to_send(ms(10)), Ok(ms(10) + us(100)));
    assert!(!direction.is_listening());
    assert!(!direction.may_send(ms(10) + us(99)));
    assert!(direction.may_send(ms(10) + us(100)));
    assert_eq!(direction.poll(ms(15)), Ok(None), "while it sends there is nothing to come again for");
    direction.last_bit_sent(ms(20));
    assert!(!direction.may_send(ms(20)));
    assert_eq!(direction.poll(ms(20)), Ok(Some(ms(20) + us(50))));
    assert!(!direction.is_listening());
    assert_eq!(direction.poll(ms(20) + us(50)), Ok(None));
    assert!(direction.is_listening());
    pin.done();
}

#[test]
fn more_bytes_while_the_line_is_still_driven_go_at_once() {
    let mut pin = pin(&[State::Low, State::High, State::Low]);
    let mut direction = direction(&pin);
    direction.request_to_send(ms(0)).unwrap();
    assert_eq!(direction.request_to_send(us(40)), Ok(us(100)));
    assert!(direction.may_send(ms(1)));
    assert_eq!(direction.request_to_send(ms(1)), Ok(ms(1)));
    direction.last_bit_sent(ms(2));
    assert_eq!(direction.request_to_send(ms(2)), Ok(ms(2)));
    assert!(direction.may_send(ms(2)));
    direction.last_bit_sent(ms(3));
    direction.poll(ms(4)).unwrap();
    assert!(direction.is_listening());
    pin.done();
}

#[test]
fn a_last_bit_while_it_listens_says_nothing() {
    let mut pin = pin(&[State::Low]);
    let mut direction = direction(&pin);
    direction.last_bit_sent(ms(1));
    assert_eq!(direction.poll(ms(2)), Ok(None));
    assert!(direction.is_listening());
    pin.done();
}

#[test]
fn a_pin_that_fails_to_fall_is_tried_again() {
    let failed = MockError::Io(std::io::ErrorKind::Other);
    let mut pin = Mock::new(&[
        Transaction::set(State::Low),
        Transaction::set(State::High),
        Transaction::set(State::Low).with_error(failed.clone()),
        Transaction::set(State::Low),
    ]);
    let mut direction = direction(&pin);
    direction.request_to_send(ms(0)).unwrap();
    direction.last_bit_sent(ms(1));
    assert_eq!(direction.poll(ms(2)), Err(failed));
    assert!(!direction.is_listening());
    assert_eq!(direction.poll(ms(3)), Ok(None));
    assert!(direction.is_listening());
    pin.done();
}

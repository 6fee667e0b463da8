//! The gateway on this machine and on emulated ARM Linux (64 and 32 bit), each held to the same sentences: it reads a serial
//! line and publishes over mutual TLS; an outage of the broker and a power cut cost nothing that was durable; it ends in
//! order.
//!
//! An emulated gateway has a USB adapter as its only way to the line, a disk of its own, and a clock that starts at a whole
//! second. Its power cut is QEMU's SIGKILL; that of this machine's gateway is the daemon's.
//! Needs: mosquitto; for ARM also qemu-system-arm 10, Debian's kernels and the cross-built daemons (`cargo xtask hil` sets
//! all up).

mod rig;

use ganglion_hil::gateway::{Gateway, Host, SITE_FILE};
use ganglion_hil::guest::{Arch, Guest};

use rig::Rig;

/// Makes a module of tests for a gateway.
macro_rules! tests {
    ($gateway:ident is $build:expr, $($sentence:ident)*) => {
        mod $gateway {
            use super::*;

            $(#[test]
            fn $sentence() {
                if let Some(rig) = Rig::start(stringify!($gateway), stringify!($sentence), $build) {
                    super::$sentence(rig);
                }
            })*
        }
    };
}

/// What every gateway is held to.
macro_rules! held_to_the_same {
    ($($gateway:ident is $build:expr;)*) => {$(
        tests! { $gateway is $build,
            what_the_line_shows_is_delivered_and_no_number_is_missing
            what_was_taken_while_the_broker_was_away_comes_afterwards
            a_power_cut_loses_nothing_durable_and_the_numbers_go_on
            a_site_file_is_judged_as_on_this_machine
        }
    )*};
}

held_to_the_same! {
    host is Host::new;
    aarch64 is |seat, folder| Guest::new(Arch::Aarch64, seat, folder);
    armv7 is |seat, folder| Guest::new(Arch::Armv7, seat, folder);
}

fn what_the_line_shows_is_delivered_and_no_number_is_missing<G: Gateway>(mut rig: Rig<G>) {
    rig.expect_more(10);
    rig.ends_in_order_and_all_of_it_came();
}

fn what_was_taken_while_the_broker_was_away_comes_afterwards<G: Gateway>(mut rig: Rig<G>) {
    rig.expect_more(2);
    rig.broker.kill().expect("the broker is killed");
    let meanwhile = rig.wait_until_durable(8);
    rig.broker.run().expect("the broker is back");
    rig.expect_numbers(&meanwhile);
    rig.ends_in_order_and_all_of_it_came();
}

fn a_power_cut_loses_nothing_durable_and_the_numbers_go_on<G: Gateway>(mut rig: Rig<G>) {
    rig.expect_more(2);
    rig.broker.kill().expect("the broker is killed");
    let durable = rig.wait_until_durable(5);
    rig.gateway.cut().expect("its power is cut");
    rig.power_on();
    rig.broker.run().expect("the broker is back");
    rig.expect_numbers(&durable);
    rig.expect_more(2);
    rig.ends_in_order_and_all_of_it_came();
}

fn a_site_file_is_judged_as_on_this_machine<G: Gateway>(mut rig: Rig<G>) {
    const CHECK: [&str; 3] = ["check", "--config", SITE_FILE];
    let there = rig.gateway.command(&CHECK).expect("an answer");
    let here = rig.host().command(&CHECK).expect("an answer");
    assert_eq!(there, here);
    assert!(here.code == 0 && here.out.contains("good"), "{here:?}");
}

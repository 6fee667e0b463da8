//! Late replies on RTU: an answer that comes after its request was given up is never taken for another's.
//!
//! Kernel pseudo-terminals, each with units that hold about a third of their answers back beyond the response timeout,
//! and lose, repeat, shorten, lengthen, disguise or garble others. Every register's value says which unit and address it
//! comes from, so a value taken from another request's answer is seen.
//!
//! An answer that is late and wrong at once, in the name of another unit that is asked or as long as the answer to another
//! request, is what nobody can tell from a right one. So those that are disguised bear the name of a unit that nobody
//! asks, and a wrong length is odd where everything asked for is even, in parts too.

mod bench;
#[path = "bench/line.rs"]
mod line;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bench::{BusPlan, acquire, device, holding, ms, serial};
use ganglion_protocols::Reason;
use line::{Heard, Line, Said, truth};

const RESPONSE_TIMEOUT: Duration = ms(20);
const LATE_REPLY: Duration = ms(150);
/// Latest answer after its request. It is suspect for 65 ms more, which a busy machine may take to carry it.
const LATEST: Duration = ms(105);
const LINES: u64 = 48;
const COUNT: u16 = 4;

#[derive(Default)]
struct Injected {
    late: AtomicU64,
    other: AtomicU64,
}

struct Outcome {
    polls: u64,
    answered: usize,
    wrong: usize,
    late: u64,
    other: u64,
}

#[tokio::test]
async fn no_value_of_ten_thousand_polls_is_wrong_although_a_third_of_the_answers_comes_late() {
    let outcome = poll_faulty_lines(LATE_REPLY, 10_000, false).await;
    let Outcome { polls, answered, wrong, late, other } = outcome;
    println!("polls {polls}, requests answered {answered}, late {late}, other faults {other}, wrong {wrong}");
    assert_eq!(wrong, 0);
    assert!(polls >= 10_000);
    assert!(answered >= 5_000, "answered {answered}");
    assert!(late >= 2_000, "late {late}");
    assert!(other >= 1_000, "other {other}");
}

#[tokio::test]
async fn without_suspicion_the_same_lines_give_wrong_values() {
    let outcome = poll_faulty_lines(Duration::ZERO, 10_000, true).await;
    println!("polls {}, wrong {}", outcome.polls, outcome.wrong);
    assert!(outcome.wrong > 0);
}

/// Polls until there are `enough` polls, or a wrong value if that is what is looked for.
async fn poll_faulty_lines(late_reply: Duration, enough: u64, until_wrong: bool) -> Outcome {
    let injected = Arc::new(Injected::default());
    let lines: Vec<Line> = (0..LINES)
        .map(|seed| {
            let (injected, mut random) = (Arc::clone(&injected), fastrand::Rng::with_seed(seed));
            Line::new(LATEST, move |heard| say(heard, &mut random, &injected))
        })
        .collect();
    let plans = lines.iter().map(|line| {
        // Requests of one shape, so that nothing but time tells their answers apart; some can be asked in parts.
        let devices =
            [(1, vec![100, 150, 300, 350]), (2, vec![100, 150]), (3, vec![200, 250])].map(|(unit, blocks)| {
                let wants = |(place, address): (usize, u16)| match place % 2 {
                    0 => vec![holding(address, COUNT)],
                    _ => vec![holding(address, COUNT / 2), holding(address + COUNT / 2, COUNT / 2)],
                };
                device(unit, ms(1), blocks.into_iter().enumerate().flat_map(wants).collect())
            });
        // A unit is never left alone, however many of its answers come late.
        let always = BusPlan::new(serial(&line.path), RESPONSE_TIMEOUT, devices.to_vec());
        BusPlan { late_reply, dead_unit_share_percent: 100, ..always }
    });
    let mut acquisition = acquire(plans.collect());
    let mut outcome = Outcome { polls: 0, answered: 0, wrong: 0, late: 0, other: 0 };
    while outcome.polls < enough && !(until_wrong && outcome.wrong > 0) {
        let sample = acquisition.sample().await;
        assert!(!sample.states.contains(&Some(Reason::Disconnected)), "no line was cut");
        outcome.polls += 1;
        outcome.answered += sample.states.iter().filter(|state| state.is_none()).count();
        outcome.wrong += acquisition.wrong(&sample, |unit, _, address| truth(unit, address)).len();
    }
    acquisition.end().await;
    drop(lines);
    outcome.late = injected.late.load(Ordering::Relaxed);
    outcome.other = injected.other.load(Ordering::Relaxed);
    outcome
}

fn say(heard: &Heard, random: &mut fastrand::Rng, injected: &Injected) -> Vec<Said> {
    let answer = heard.right();
    let late = RESPONSE_TIMEOUT + ms(random.u64(2..70));
    let at_once = Duration::ZERO;
    let said = match random.u8(0..100) {
        0..55 => return vec![(at_once, answer)],
        55..85 => {
            injected.late.fetch_add(1, Ordering::Relaxed);
            return match random.u8(0..4) {
                // At once: a copy that follows an answer taken in time by more than the silence between frames cannot
                // be told from the next answer, and on a busy machine the first may be in time after all.
                0 => vec![(late, [answer.clone(), answer].concat())],
                _ => vec![(late, answer)],
            };
        }
        85..88 => vec![],
        88..91 => vec![(at_once, [answer.clone(), answer].concat())],
        91..94 => {
            let garbage: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
            vec![(at_once, [garbage, answer].concat())]
        }
        94..96 => vec![(at_once, [heard.frame.clone(), answer].concat())],
        96..97 => vec![(at_once, heard.answer(heard.unit() + 8, heard.count()))],
        97..98 => vec![(at_once, heard.answer(heard.unit(), heard.count() - 1))],
        98..99 => vec![(at_once, heard.answer(heard.unit(), heard.count() + 1))],
        _ => vec![(at_once, answer[..answer.len() - 3].to_vec())],
    };
    injected.other.fetch_add(1, Ordering::Relaxed);
    said
}

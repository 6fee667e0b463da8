use std::time::Instant;

use super::*;

/// Returns the median and the longest overshoot of `waits`.
async fn overshoot(timer: &mut PreciseTimer, waits: u32) -> (Duration, Duration) {
    let mut late = Vec::new();
    for wait in 0..waits {
        // Between a fifth of a millisecond and five: the silences of lines from 115200 to 9600 Bd.
        let deadline = Instant::now() + Duration::from_micros(200 + u64::from(wait) * 4_800 / u64::from(waits));
        within("the wait", timer.until(deadline)).await;
        let now = Instant::now();
        assert!(now >= deadline, "{:?} too early", deadline - now);
        late.push(now - deadline);
    }
    late.sort();
    (late[late.len() / 2], late[late.len() - 1])
}

#[tokio::test]
async fn the_precise_timer_is_never_early() {
    let precise = overshoot(&mut PreciseTimer::new(), 100).await;
    let coarse = overshoot(&mut PreciseTimer::coarse(), 100).await;
    println!("overshoot, median and longest of 100: timerfd {precise:?}, tokio's timer {coarse:?}");
}

#[tokio::test]
async fn a_deadline_in_the_past_is_no_wait() {
    let mut timer = PreciseTimer::new();
    let start = Instant::now();
    for _ in 0..1000 {
        within("no wait", timer.until(start)).await;
    }
    assert!(start.elapsed() < LONG);
}

#[tokio::test]
async fn a_wait_that_was_dropped_does_not_disturb_the_next() {
    let mut timer = PreciseTimer::new();
    let short = Instant::now() + Duration::from_millis(2);
    tokio::select! {
        biased;
        () = timer.until(short) => panic!("nobody polls it a second time"),
        () = std::future::ready(()) => {}
    }
    // Its alarm goes off and leaves the file readable.
    std::thread::sleep(Duration::from_millis(4));
    let deadline = Instant::now() + Duration::from_millis(3);
    within("the second wait", timer.until(deadline)).await;
    assert!(Instant::now() >= deadline);
}

//! The window on links in virtual time: how much of a link it uses, and how long what goes first waits.

use proptest::prelude::*;

use super::super::virtual_link::Link;
use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Longest message of a backlog, as configured.
const CONFIGURED: usize = 16 * 1024;
const ALARM: usize = 300;

struct Sent {
    at: Instant,
    bytes: usize,
    alarm: bool,
}

/// A backlog without an end, and an alarm now and then that is sent whatever is in flight.
struct Run {
    link: Link<Sent>,
    pace: Pace,
    now: Instant,
    messages: usize,
    messages_in_flight: usize,
    in_flight: usize,
    delivered: u64,
    alarms: Vec<Duration>,
    next_alarm: Instant,
}

impl Run {
    fn new(rate: f64, round_trip: Duration, loss: f64) -> Self {
        Self::with_messages(64, rate, round_trip, loss)
    }

    fn with_messages(messages: usize, rate: f64, round_trip: Duration, loss: f64) -> Self {
        let now = Instant::now();
        Self {
            link: Link::new(rate, round_trip, loss, 7),
            pace: Pace::new(now, messages),
            messages,
            now,
            messages_in_flight: 0,
            in_flight: 0,
            delivered: 0,
            alarms: Vec::new(),
            next_alarm: now + SECOND,
        }
    }

    /// Goes on for a while; what is delivered and the delays of alarms are counted anew.
    fn go_on(&mut self, time: Duration) {
        let end = self.now + time;
        self.delivered = 0;
        self.alarms.clear();
        loop {
            self.fill();
            let next = self.link.next().unwrap().min(self.next_alarm);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            if next == self.next_alarm {
                self.send(ALARM, true);
                self.next_alarm += Duration::from_millis(7_300);
            }
            while let Some(Sent { at, bytes, alarm }) = self.link.poll(next) {
                self.in_flight -= bytes;
                self.messages_in_flight -= 1;
                self.delivered += bytes as u64;
                self.pace.settled(next, at, bytes);
                if alarm {
                    self.alarms.push(next - at);
                }
                self.fill();
            }
        }
    }

    fn fill(&mut self) {
        let bytes = self.pace.payload().min(CONFIGURED);
        let is_free = |run: &Self| run.in_flight == 0 || run.in_flight + bytes <= run.pace.window();
        while self.messages_in_flight < self.messages && is_free(self) {
            self.send(bytes, false);
        }
    }

    fn send(&mut self, bytes: usize, alarm: bool) {
        self.pace.sent(self.now, bytes);
        self.link.put(self.now, Sent { at: self.now, bytes, alarm }, bytes);
        self.in_flight += bytes;
        self.messages_in_flight += 1;
    }

    fn slowest_alarm(&self) -> Duration {
        self.alarms.iter().copied().max().unwrap()
    }

    /// Returns the delay that so many percent of the alarms do not exceed.
    fn slowest_of(&self, percent: usize) -> Duration {
        let mut alarms = self.alarms.clone();
        alarms.sort();
        alarms[(alarms.len() - 1) * percent / 100]
    }
}

/// Bytes that such a link delivers in such a time when it is never empty.
fn most(rate: f64, round_trip: Duration, loss: f64, time: Duration) -> u64 {
    let now = Instant::now();
    let mut link = Link::new(rate, round_trip, loss, 7);
    let messages = rate * time.as_secs_f64() / 1024.0;
    for _ in std::iter::successors(Some(0.0), |sent| Some(sent + 1.0)).take_while(|sent| *sent <= messages) {
        link.put(now, (), 1024);
    }
    std::iter::from_fn(|| link.poll(now + time)).count() as u64 * 1024
}

#[test]
fn two_kilobytes_a_second_are_used_and_an_alarm_waits_a_second_more_than_alone() {
    let (rate, round_trip) = (2e3, 2 * SECOND);
    let mut run = Run::new(rate, round_trip, 0.0);
    run.go_on(3600 * SECOND);
    assert!(run.delivered * 10 >= most(rate, round_trip, 0.0, 3600 * SECOND) * 9, "{} bytes", run.delivered);
    // Alone it takes 2.15 s.
    assert!(run.slowest_alarm() < 5 * SECOND, "{:?}", run.slowest_alarm());
}

#[test]
fn a_tenth_of_the_segments_lost_costs_a_fifth_of_what_is_left_at_most() {
    // Each loss is a pause of 3 s, or of 9 s, or of 21 s: two thirds of the rate are left.
    let (rate, round_trip, loss) = (2e3, 2 * SECOND, 0.1);
    let mut run = Run::new(rate, round_trip, loss);
    run.go_on(3600 * SECOND);
    assert!(run.delivered * 10 >= most(rate, round_trip, loss, 3600 * SECOND) * 8, "{} bytes", run.delivered);
    let (median, most_of_them) = (run.slowest_of(50), run.slowest_of(95));
    assert!(median < 4 * SECOND, "{median:?}");
    assert!(most_of_them < 15 * SECOND, "{most_of_them:?}");
}

#[test]
fn sixty_four_kilobytes_a_second_are_used_and_an_alarm_waits_a_second() {
    for loss in [0.0, 0.01] {
        let (rate, round_trip) = (64e3, 200 * MS);
        let mut run = Run::new(rate, round_trip, loss);
        run.go_on(600 * SECOND);
        assert!(run.delivered * 10 >= most(rate, round_trip, loss, 600 * SECOND) * 9, "{} bytes", run.delivered);
        assert!(run.slowest_of(90) < 2_500 * MS, "loss {loss}: {:?}", run.slowest_of(90));
    }
}

#[test]
fn ten_megabytes_a_second_are_used_from_the_first_second_on() {
    let mut run = Run::new(10e6, 20 * MS, 0.0);
    run.go_on(SECOND);
    assert!(run.delivered >= 8_000_000, "{} bytes", run.delivered);
    run.go_on(20 * SECOND);
    assert!(run.delivered >= 195_000_000, "{} bytes", run.delivered);
    assert!(run.slowest_alarm() < 200 * MS, "{:?}", run.slowest_alarm());
}

#[test]
fn where_one_message_may_be_in_flight_it_becomes_as_long_as_configured() {
    let mut run = Run::with_messages(1, 64e3, 200 * MS, 0.0);
    run.go_on(60 * SECOND);
    run.go_on(3600 * SECOND);
    // 16 KiB each 456 ms; of 1 KiB it would be a tenth.
    assert!(run.delivered > 3600 * 35_000, "{} bytes", run.delivered);
    assert!(run.slowest_alarm() < 2 * SECOND, "{:?}", run.slowest_alarm());
}

#[test]
fn a_link_that_becomes_a_hundred_times_slower_is_left_to_drain_and_then_used_as_what_it_is() {
    for (rate, round_trip) in [(64e3, 200 * MS), (10e6, 20 * MS)] {
        let mut run = Run::new(rate, round_trip, 0.0);
        run.go_on(120 * SECOND);
        run.link.rate /= 100.0;
        // What is in flight cannot be called back; a quarter of it may follow, and a quarter of that.
        let drained = Duration::from_secs_f64(run.in_flight as f64 / run.link.rate * 1.5);
        run.go_on(drained + 20 * SECOND);
        run.go_on(100 * SECOND);
        assert!(run.delivered as f64 > 0.9 * 100.0 * run.link.rate, "{} bytes", run.delivered);
        assert!(run.slowest_alarm() < 5 * SECOND, "{:?}", run.slowest_alarm());
        run.link.rate = rate;
        run.go_on(60 * SECOND);
        run.go_on(20 * SECOND);
        assert!(run.delivered as f64 > 0.9 * 20.0 * rate, "{} bytes", run.delivered);
    }
}

#[test]
fn a_path_that_takes_seconds_longer_is_believed_after_a_while() {
    let mut run = Run::new(64e3, 200 * MS, 0.0);
    run.go_on(120 * SECOND);
    run.link.round_trip = 3 * SECOND;
    run.go_on(120 * SECOND);
    run.go_on(100 * SECOND);
    assert!(run.delivered > 90 * 64_000, "{} bytes", run.delivered);
}

#[test]
fn steady_load_does_not_make_the_path_seem_longer_from_hour_to_hour() {
    let mut run = Run::new(64e3, 200 * MS, 0.0);
    run.go_on(600 * SECOND);
    let window = run.pace.window;
    run.go_on(6 * 3600 * SECOND);
    run.go_on(600 * SECOND);
    assert!(run.slowest_alarm() < 2 * SECOND, "{:?}", run.slowest_alarm());
    assert!(run.pace.window < window * 3 / 2, "{window}, later {}", run.pace.window);
}

#[test]
fn messages_that_never_fill_the_window_do_not_widen_it() {
    let mut now = Instant::now();
    let mut pace = Pace::new(now, 64);
    for _ in 0..86_400 {
        pace.sent(now, 500);
        pace.settled(now + 100 * MS, now, 500);
        now += SECOND;
    }
    assert_eq!((pace.window(), pace.payload()), (FIRST, SHORTEST_MESSAGE));
}

#[test]
fn a_window_that_nothing_fills_is_forgotten_and_soon_back() {
    let mut run = Run::new(10e6, 20 * MS, 0.0);
    run.go_on(5 * SECOND);
    assert_eq!(run.pace.window(), LARGEST);
    let Run { mut pace, mut now, in_flight, .. } = run;
    pace.settled(now, now, in_flight);
    now += 24 * 3600 * SECOND;
    pace.sent(now, 500);
    assert_eq!(pace.window(), FIRST);
    pace.settled(now + 20 * MS, now, 500);
    let mut run = Run { pace, ..Run::new(10e6, 20 * MS, 0.0) };
    run.now = now + SECOND;
    run.next_alarm = run.now + SECOND;
    run.go_on(SECOND);
    assert_eq!(run.pace.window(), LARGEST);
}

#[test]
fn late_answers_to_few_messages_leave_the_smallest_window_at_least() {
    let mut now = Instant::now();
    let mut pace = Pace::new(now, 64);
    for second in 0..3600 {
        pace.sent(now, 500);
        pace.settled(now + if second < 10 { 100 * MS } else { 9 * SECOND }, now, 500);
        now += 10 * SECOND;
    }
    assert!((SMALLEST..=FIRST).contains(&pace.window()), "{}", pace.window());
}

#[test]
fn an_answer_from_before_its_question_or_to_nothing_is_no_trouble() {
    let now = Instant::now();
    let mut pace = Pace::new(now + SECOND, 64);
    pace.settled(now, now + SECOND, usize::MAX);
    pace.sent(now, usize::MAX);
    pace.sent(now, usize::MAX);
    pace.settled(now, now, 1);
    assert!((SMALLEST..=LARGEST).contains(&pace.window()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_steady_link_is_used_and_an_alarm_waits_two_seconds_at_most(
        // 1 kB/s to 4 MB/s.
        magnitude in 3.0_f64..6.6,
        round_trip in 5_u64..3_000,
    ) {
        let (rate, round_trip) = (10_f64.powf(magnitude), Duration::from_millis(round_trip));
        let mut run = Run::new(rate, round_trip, 0.0);
        run.go_on(60 * SECOND);
        run.go_on(120 * SECOND);
        // The largest window on the longest path carries less than the link.
        let possible = rate.min(0.95 * LARGEST as f64 / (round_trip.as_secs_f64() + CONFIGURED as f64 / rate));
        prop_assert!(run.delivered as f64 >= 0.8 * possible * 120.0, "{} bytes of {}", run.delivered, possible * 120.0);
        let alone = round_trip + Duration::from_secs_f64((SMALLEST + ALARM) as f64 / rate);
        prop_assert!(run.slowest_alarm() < alone + 2 * TARGET, "{:?}", run.slowest_alarm());
        prop_assert!((SMALLEST..=LARGEST).contains(&run.pace.window()));
    }
}

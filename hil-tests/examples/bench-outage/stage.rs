//! The course of the measurement: normal, cut, replayed, back, drained, ended.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ganglion_hil::bench::process::Cost;
use ganglion_hil::peers::PeerError;
use ganglion_hil::peers::mosquitto::Mosquitto;
use ganglion_hil::peers::process::Process;
use ganglion_hil::pki::Pki;
use ganglion_hil::subscriber::{Subscriber, Subscription};

use crate::consumer::{Ear, Joined, lock};
use crate::figures::{Figures, Latency, Memory};
use crate::gateway::{END, REPLAY};
use crate::plant::{A_SECOND, Replay};

/// Longest time that starting or ending may take.
const SOON: Duration = Duration::from_secs(60);
/// Live data before anything is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// Real time without a broker behind the replay: what is replayed is then no longer of the last seconds, for which live
/// delivery would take it.
const STILL_AWAY: Duration = Duration::from_secs(8);
/// How often memory is looked at.
const GLANCE: Duration = Duration::from_millis(250);
/// Live data this long after the first backfill belongs to the drain: before it goes out what the break itself left.
const SETTLED: Duration = Duration::from_secs(2);

/// Measures an outage of so many hours.
pub(crate) fn run(folder: &Path, hours: f64, before: u64) -> Result<Figures, String> {
    let folder = tempfile::tempdir_in(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let folder = folder.path();
    let pki = Pki::create(folder).map_err(|error| error.to_string())?;
    let mut broker = Mosquitto::start(folder, &pki.ca, &pki.broker, &["log_type error"]).map_err(of)?;
    let joined = Arc::new(Mutex::new(Joined::default()));
    let ear = |client_id: &str, filter: &str| {
        let (port, ca, own) = (broker.port(), pki.ca.as_path(), &pki.subscriber);
        let subscription = Subscription { port, ca, own, client_id, filter };
        let ear = Subscriber::start(&subscription, Ear::new(&joined).map_err(|error| error.to_string())?);
        let ear = ear.map_err(|error| error.to_string())?;
        if ear.wait_until_subscribed(SOON) { Ok(ear) } else { Err("the consumer cannot connect".to_owned()) }
    };
    let _present = ear("present", "city/v1/+/+/+/+/obs")?;
    let _history = ear("history", "city/v1/+/gateway/+/+")?;

    let mut gateway = start(folder, broker.port(), hours, &pki)?;
    let pid = gateway.pid();
    let resident = || Cost::of(pid).map(|cost| cost.resident).map_err(|error| error.to_string());
    let arrives = || lock(&joined).count > 0;
    wait(SOON, "the first observation", arrives)?;
    thread::sleep(WARM_UP);
    let mut memory = Memory::default();
    let from_ms = now_ms();
    let until = Instant::now() + Duration::from_secs(before);
    while Instant::now() < until {
        memory.before = memory.before.max(resident()?);
        thread::sleep(GLANCE);
    }
    let normal = Latency::of(&lock(&joined), from_ms, now_ms() - 1000);

    // In order, so that its database knows the sessions when it is back.
    broker.stop().map_err(of)?;
    fs::write(folder.join(REPLAY), "").map_err(|error| error.to_string())?;
    let replay = replay(&gateway.wait_for_line("replaying", SOON).map_err(of)?)?;
    lock(&joined).replay = Some(replay);
    let replayed_s = loop {
        memory.during.push(resident()?);
        match gateway.wait_for_line("replayed", GLANCE) {
            Ok(line) => break figure(&line, 1)?,
            Err(PeerError::Late { .. }) => {}
            Err(error) => return Err(of(error)),
        }
    };
    eprintln!("bench: {} observations appended in {replayed_s:.1} s", replay.end - replay.first);
    let until = Instant::now() + STILL_AWAY;
    while Instant::now() < until {
        memory.during.push(resident()?);
        thread::sleep(GLANCE);
    }

    broker.run().map_err(of)?;
    let back = Instant::now();
    let expected = replay.end - replay.first;
    // Slower than half the target is no use to wait for.
    let patience = Duration::from_secs_f64(hours * 360.0) + SOON;
    let mut first = None;
    while lock(&joined).replayed < expected && back.elapsed() < patience {
        memory.draining = memory.draining.max(resident()?);
        if first.is_none() && lock(&joined).replayed > 0 {
            first = Some(now_ms());
        }
        thread::sleep(GLANCE);
    }
    let (drained, drain_s) = {
        let joined = lock(&joined);
        (joined.replayed, joined.last_replayed.map_or(0.0, |at| at.duration_since(back).as_secs_f64()))
    };
    let settled_ms = i64::try_from(SETTLED.as_millis()).unwrap_or(0);
    let draining = Latency::of(&lock(&joined), first.unwrap_or_default() + settled_ms, now_ms() - 1000);
    let cpu = Cost::of(pid).map_err(|error| error.to_string())?.cpu.as_secs_f64();

    fs::write(folder.join(END), "").map_err(|error| error.to_string())?;
    let ended = gateway.wait_for_line("ended", patience).map_err(of)?;
    let made = whole(&ended, 1)?;
    // What is not there by now is what the figure says.
    drop(wait(SOON, "the rest", || lock(&joined).count >= made));
    let joined = lock(&joined);
    let at_cut = replay.first.saturating_sub(A_SECOND)..replay.first;
    Ok(Figures {
        hours,
        made,
        replayed: drained,
        expected,
        replayed_s,
        drain_s,
        cpu_s: cpu,
        memory,
        normal,
        draining,
        backfill: joined.backfill,
        lost: made.saturating_sub(joined.count),
        repeated: joined.repeated.len() as u64,
        // The plant's order is that of time, so these are the last before the replay.
        repeated_at_cut: joined.repeated.iter().filter(|nth| at_cut.contains(&nth.0)).count() as u64,
        wrong: joined.wrong + joined.unreadable,
        gaps: joined.gaps,
    })
}

fn start(folder: &Path, port: u16, hours: f64, pki: &Pki) -> Result<Process, String> {
    let copy = |from: &Path, to: &str| fs::copy(from, folder.join(to)).map(drop);
    let copies = [(&pki.ca, "ca.pem"), (&pki.gateway.certificate, "gateway.pem"), (&pki.gateway.key, "gateway.key")];
    for (from, to) in copies {
        if *from != folder.join(to) {
            copy(from, to).map_err(|error| format!("{to}: {error}"))?;
        }
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.arg("gateway").arg(folder).args([port.to_string(), hours.to_string()]).stdin(Stdio::null());
    Process::start("gateway", &mut command, &folder.join("gateway.log")).map_err(of)
}

fn replay(line: &str) -> Result<Replay, String> {
    let from_ms = figure(line, 3)?;
    #[allow(clippy::cast_possible_truncation, reason = "milliseconds of Unix time")]
    Ok(Replay { first: whole(line, 1)?, end: whole(line, 2)?, from_ms: from_ms as i64 })
}

fn word(line: &str, place: usize) -> Result<&str, String> {
    line.split_whitespace().nth(place).ok_or_else(|| format!("the gateway says {line:?}"))
}

fn figure(line: &str, place: usize) -> Result<f64, String> {
    word(line, place)?.parse().map_err(|error| format!("{line:?}: {error}"))
}

fn whole(line: &str, place: usize) -> Result<u64, String> {
    word(line, place)?.parse().map_err(|error| format!("{line:?}: {error}"))
}

fn wait(within: Duration, what: &str, holds: impl Fn() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + within;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("{what} did not come within {within:?}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn of(error: PeerError) -> String {
    error.to_string()
}

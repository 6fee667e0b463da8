//! The way to the broker is closed: wrongly locked, cut, or something else stands there.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ganglion_hil::pki::{Pair, Pki, Validity};
use nix::sys::signal::Signal;

use crate::rig::{Rig, Running, SOON};

/// Observations that must become durable while the way is closed.
const MEANWHILE: u64 = 20;

/// Runs the daemon against what keeps it out, mends that, and expects everything.
fn kept_out(rig: &mut Rig, cause: &str, mend: impl FnOnce(&mut Rig)) {
    let Some(mut running) = rig.start() else { return };
    let line = running.expect_line("uplink down");
    assert!(line.contains(cause) && line.contains("retry_in_ms="), "{line}");
    running.expect_line("uplink down");
    running.expect_line("uplink down");
    let status = running.wait_until_durable(MEANWHILE);
    assert!(!status.uplink.connected && status.uplink.last_error.is_some_and(|error| error.contains(cause)));
    assert_eq!(rig.subscriber.look(|view| view.received.count()), 0, "nothing got through");
    mend(rig);
    running.expect_line("uplink connected");
    pauses_vary(&running);
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
}

/// Two pauses of the same length would be a coincidence of one in hundreds.
fn pauses_vary(running: &Running) {
    let log = running.log();
    let mut pauses: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("retry_in_ms=")?.1.split_whitespace().next()).collect();
    let tries = pauses.len();
    pauses.sort_unstable();
    pauses.dedup();
    assert!(tries >= 3 && pauses.len() > 1, "{tries} pauses of {pauses:?} ms");
}

fn copy_of(pair: &Pair, folder: &Path) -> Pair {
    let own = Pair { certificate: folder.join("own.pem"), key: folder.join("own.key") };
    replace(&own, pair);
    own
}

fn replace(own: &Pair, with: &Pair) {
    fs::copy(&with.certificate, &own.certificate).expect("copied");
    fs::copy(&with.key, &own.key).expect("copied");
}

#[test]
fn a_broker_of_a_wrong_authority_is_refused_and_named_and_the_right_authority_lets_everything_arrive() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    let stranger = rig.path("stranger");
    fs::create_dir(&stranger).expect("a folder");
    let stranger = Pki::create(&stranger).expect("certificates");
    rig.file.broker.ca = rig.path("trusted.pem");
    fs::copy(&stranger.ca, &rig.file.broker.ca).expect("copied");
    kept_out(&mut rig, "not signed by", |rig| {
        fs::copy(&rig.pki.ca, &rig.file.broker.ca).expect("copied");
    });
}

#[test]
fn a_broker_of_a_wrong_name_is_refused_and_named_and_everything_arrives_when_it_gets_its_own() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    let other = rig.pki.issue("other", &["other.city"], Validity::Now).expect("a certificate");
    let mut wrong = ganglion_hil::broker::Broker::start(&rig.pki.ca, &other).expect("a broker");
    let right = rig.broker.port();
    rig.file.broker.port = wrong.port();
    let Some(mut running) = rig.start() else { return };
    let line = running.expect_line("uplink down");
    assert!(line.contains("does not name localhost"), "{line}");
    running.wait_until_durable(MEANWHILE);
    wrong.cut();
    running.daemon.kill().expect("killed");
    rig.file.broker.port = right;
    let Some(running) = rig.start() else { return };
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
}

#[test]
fn an_expired_certificate_is_refused_and_named_and_a_renewed_one_lets_everything_arrive_without_a_restart() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    let expired = rig.pki.issue("expired", &["gateway"], Validity::Expired).expect("a certificate");
    rig.file.broker.own = copy_of(&expired, &rig.path(""));
    kept_out(&mut rig, "expired", |rig| replace(&rig.file.broker.own, &rig.pki.gateway));
}

#[test]
fn a_certificate_that_was_never_there_is_named_and_everything_arrives_when_it_is_issued() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    rig.file.broker.own = Pair { certificate: rig.path("own.pem"), key: rig.path("own.key") };
    kept_out(&mut rig, "own.pem", |rig| replace(&rig.file.broker.own, &rig.pki.gateway));
}

#[test]
fn a_certificate_that_goes_missing_is_named_and_everything_arrives_when_it_is_back() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    rig.file.broker.own = copy_of(&rig.pki.gateway, &rig.path(""));
    let Some(mut running) = rig.start() else { return };
    running.expect_line("uplink connected");
    fs::remove_file(&rig.file.broker.own.certificate).expect("removed");
    rig.broker.cut();
    rig.broker.restore().expect("the broker is back");
    let path = rig.file.broker.own.certificate.clone();
    running.expect_line(&path.display().to_string());
    running.wait_until_durable(MEANWHILE);
    replace(&rig.file.broker.own, &rig.pki.gateway);
    running.expect_line("uplink connected");
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
}

/// Twenty seconds at 160 observations of 100 registers a second.
#[test]
fn an_outage_of_the_broker_loses_nothing_keeps_the_order_and_leaves_the_memory_flat() {
    let (mut rig, _site) = Rig::with_bench(8, 100, 50);
    let Some(mut running) = rig.start() else { return };
    running.expect_line("uplink connected");
    let pid = running.daemon.pid();
    // What is taken once, for the first connection and the first commits, is not what an outage costs.
    running.wait_until_durable(200);
    rig.broker.cut();
    let before = running.wait_until_durable(100);
    let start = resident_kib(pid);
    // In memory they would be more than twice what is allowed below. In steps, each with a deadline of its own.
    for _ in 0..4 {
        running.wait_until_durable(700);
    }
    let end = resident_kib(pid);
    let kept = running.status().durable() - before.durable();
    println!("{kept} observations kept during the outage, resident {start} KiB, then {end} KiB");
    assert!(end < start + 3 * 1024, "{kept} observations took {} KiB of memory", end - start);
    rig.broker.restore().expect("the broker is back");
    running.expect_line("uplink connected");
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
}

fn resident_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("resident memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn whatever_else_listens_at_the_brokers_port_is_named_and_costs_nothing() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let right = rig.broker.port();
    rig.file.broker.port = listener.local_addr().expect("its address").port();
    let chatty = std::thread::spawn(move || {
        let greet = |mut stream: TcpStream| stream.write_all(b"220 mail.city ESMTP\r\n");
        listener.incoming().flatten().take(3).for_each(|stream| greet(stream).expect("greeted"));
    });
    let Some(mut running) = rig.start() else { return };
    let line = running.expect_line("uplink down");
    assert!(line.contains("does not speak TLS"), "{line}");
    running.wait_until_durable(MEANWHILE);
    chatty.join().expect("three connections");
    running.daemon.kill().expect("killed");
    rig.file.broker.port = right;
    let Some(running) = rig.start() else { return };
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
}

#[test]
fn sigterm_ends_in_time_without_a_broker_and_the_next_start_delivers_the_rest() {
    let (mut rig, site) = Rig::with_bench(2, 10, 50);
    rig.broker.cut();
    let Some(mut running) = rig.start() else { return };
    running.wait_until_durable(MEANWHILE);
    running.daemon.kill().expect("killed");
    // The next one reads nothing: all it has to deliver is from before.
    site.unplug();
    for device in &mut rig.file.buses[0].devices {
        device.poll_interval_ms = 86_400_000;
    }
    let Some(mut running) = rig.start() else { return };
    let asked = Instant::now();
    let status = running.daemon.terminate(SOON).expect("it ends");
    // Ten seconds of drain and what a busy machine adds.
    assert!(status.success() && asked.elapsed() < Duration::from_secs(14), "{status} after {:?}", asked.elapsed());
    assert!(running.log().contains("the rest is on disk"), "{}", running.log());
    let kept = running.left().last_seq();
    drop(running);
    rig.broker.restore().expect("the broker is back");
    let Some(mut running) = rig.start() else { return };
    running.expect_line("uplink connected");
    let last_seq = running.stop();
    assert!(kept.iter().all(|(id, kept)| last_seq.get(id) >= Some(kept)), "{kept:?}, then {last_seq:?}");
    rig.expect_everything(&last_seq);
}

#[test]
fn no_private_key_is_in_the_most_talkative_log() {
    let (mut rig, _site) = Rig::with_bench(1, 10, 50);
    let Some(mut running) = rig.launch_with(&[("GANGLION_LOG", "trace")]) else { return };
    running.expect_line("uplink connected");
    rig.broker.cut();
    running.expect_line("uplink down");
    rig.broker.restore().expect("the broker is back");
    running.expect_line("uplink connected");
    running.wait_until_durable(5);
    assert!(running.daemon.terminate(SOON).expect("it ends").success());
    let log = running.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log is talkative");
    let key = fs::read_to_string(&rig.pki.gateway.key).expect("the key");
    let secrets: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    assert!(secrets.iter().all(|line| line.len() >= 16), "{} lines", secrets.len());
    assert!(!log.contains("PRIVATE KEY") && !secrets.iter().any(|line| log.contains(line)));
}

#[test]
fn a_hangup_makes_the_daemon_take_new_broker_settings_and_keep_the_old_ones_when_they_are_wrong() {
    let (mut rig, _site) = Rig::with_bench(2, 10, 50);
    let Some(mut running) = rig.start() else { return };
    running.expect_line("uplink connected");
    let site = rig.path("site.toml");
    let good = fs::read_to_string(&site).expect("the site file");
    fs::write(&site, good.replace("[broker]\n", "[broker]\nkeep_alive_s = 3\n")).expect("written");
    running.daemon.signal(Signal::SIGHUP).expect("a signal");
    running.expect_line("new broker settings refused, the present ones stay");
    running.expect_line("`keep_alive_s` is 3, outside 5 to 65535");
    assert!(running.wait_until_durable(MEANWHILE).uplink.connected);
    fs::write(&site, good.replace("[broker]\n", "[broker]\nkeep_alive_s = 6\nmqtt = \"5\"\n")).expect("written");
    running.daemon.signal(Signal::SIGHUP).expect("a signal");
    running.expect_line("new broker settings");
    running.expect_line("uplink connected");
    running.wait_until_durable(MEANWHILE);
    let last_seq = running.stop();
    rig.expect_everything(&last_seq);
    rig.subscriber.look(|view| {
        let twice: u64 = view.received.resources().values().map(|resource| resource.duplicates()).sum();
        assert_eq!(twice, 0, "the first connection was left in order");
    });
}

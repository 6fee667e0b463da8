use std::io::Read;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::site::Rs485;

#[tokio::test]
async fn a_port_carries_every_byte_in_order_however_it_is_cut() {
    let mut pty = Pty::new();
    let mut wire = Wire::open(&pty.link()).await.unwrap();
    assert_eq!(wire.describe(), pty.path.display().to_string());
    // Every value: none of them is a control character of a raw line.
    let sent: Vec<u8> = (0..=255).collect();
    for lump in sent.chunks(7) {
        pty.say(lump);
    }
    assert_eq!(read_all(&mut wire, 256).await, sent);
    wire.write(&sent).await.unwrap();
    let mut heard = [0; 256];
    pty.far.read_exact(&mut heard).unwrap();
    assert_eq!(heard.as_slice(), sent);
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_nothing() {
    let mut pty = Pty::new();
    let mut wire = Wire::open(&pty.link()).await.unwrap();
    let mut buf = [0; 8];
    let dropped = tokio::time::timeout(Duration::from_millis(5), wire.read(&mut buf)).await;
    assert!(dropped.is_err(), "nothing was sent");
    pty.say(b"ganglion");
    assert_eq!(read_all(&mut wire, 8).await, b"ganglion");
}

#[tokio::test]
async fn what_was_received_can_be_thrown_away() {
    let mut pty = Pty::new();
    let mut wire = Wire::open(&pty.link()).await.unwrap();
    pty.say(b"late");
    let mut discarded = 0;
    within("the bytes", async {
        while discarded < 4 {
            discarded += wire.discard().unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(discarded, 4);
    pty.say(b"new");
    assert_eq!(read_all(&mut wire, 3).await, b"new");
}

#[tokio::test]
async fn a_pulled_adapter_is_an_error_at_once_and_the_next_one_at_its_path_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("usb-adapter");
    let first = Pty::new();
    symlink(&first.path, &path).unwrap();
    let mut wire = Wire::open(&link(&path)).await.unwrap();
    let pulled = Pty { path: PathBuf::new(), ..first };
    drop(pulled);
    let mut buf = [0; 8];
    within("the end", wire.read(&mut buf)).await.unwrap_err();
    wire.write(b"?").await.unwrap_err();
    drop(wire);

    std::fs::remove_file(&path).unwrap();
    let error = Wire::open(&link(&path)).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}: No such file or directory (os error 2)", path.display()));

    let mut second = Pty::new();
    symlink(&second.path, &path).unwrap();
    let mut wire = Wire::open(&link(&path)).await.unwrap();
    second.say(b"back");
    assert_eq!(read_all(&mut wire, 4).await, b"back");
}

#[tokio::test]
async fn a_held_port_names_its_holder_and_is_free_when_that_one_lets_go() {
    let pty = Pty::new();
    let wire = Wire::open(&pty.link()).await.unwrap();
    let error = Wire::open(&pty.link()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let holder = format!("held by process {} ({}), this very one", std::process::id(), name.trim());
    assert_eq!(error.to_string(), format!("{}: {holder}", pty.path.display()));
    drop(wire);
    Wire::open(&pty.link()).await.unwrap();
}

#[tokio::test]
async fn what_is_no_serial_port_is_said_to_be_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path(), Path::new("/dev/null")] {
        let error = Wire::open(&link(path)).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{}: not a serial port", path.display()));
    }
}

#[tokio::test]
async fn a_port_whose_driver_can_neither_is_used_without() {
    let pty = Pty::new();
    let delay = Duration::from_millis(1);
    let rs485 = Rs485 { rts_on_send: true, delay_before_send: delay, delay_after_send: delay, rx_during_tx: false };
    let wire = Wire::open(&SerialLink { low_latency: true, rs485: Some(rs485), ..pty.link() }).await.unwrap();
    let facts = wire.port_facts().unwrap();
    assert_eq!(
        facts.to_string(),
        "line as asked, low latency unsupported (Inappropriate ioctl for device (os error 25)), \
         rs485 unsupported (Inappropriate ioctl for device (os error 25))"
    );
    drop(wire);
    let wire = Wire::open(&pty.link()).await.unwrap();
    assert_eq!(wire.port_facts().unwrap().to_string(), "line as asked, low latency not asked, rs485 not asked");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_neither_stops_the_reactor_nor_waits_for_ever() {
    let pty = Pty::new();
    let mut wire = Wire::open(&pty.link()).await.unwrap();
    let turns = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&turns);
    let others = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let error = within("writing", async {
        loop {
            let before = turns.load(Ordering::Relaxed);
            if let Err(error) = wire.write(&[0; 256]).await {
                return (error, turns.load(Ordering::Relaxed) - before);
            }
        }
    })
    .await;
    others.abort();
    assert_eq!(error.0.to_string(), "the peer takes no bytes");
    assert!(error.1 > 10, "the reactor turned {} times during the write that failed", error.1);
    let closing = std::time::Instant::now();
    drop(wire);
    assert!(closing.elapsed() < Duration::from_secs(5), "what was not sent holds nobody up");
}

#[tokio::test]
async fn a_port_held_by_another_process_names_that_one() {
    let Pty { far: _far, _near: near, path } = Pty::new();
    let port = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    port.try_lock().unwrap();
    // The lock goes along with the file, and this process keeps no copy of it.
    let mut holder = std::process::Command::new("sleep").arg("60").stdin(port).spawn().unwrap();
    drop(near);
    let error = Wire::open(&link(&path)).await.unwrap_err();
    let expected = format!("{}: held by process {} (sleep)", path.display(), holder.id());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(error.to_string(), expected);
}

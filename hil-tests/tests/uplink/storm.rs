//! A connection of a broker at its worst: everything that the standard does not forbid and operators report, by chance
//! from a seed.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use fastrand::Rng;
use rumqttc::tokio_rustls::server::TlsStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::hostile::{Owed, Seen, note, pay, take_packet};

/// What one connection does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Storm {
    /// Of all further chance.
    pub(crate) seed: u64,
    /// It ends after so many messages.
    pub(crate) breaks_after: u32,
    /// It does not end then, but neither reads nor answers any more.
    pub(crate) swallows: bool,
    /// How many messages it takes at once (MQTT 5).
    pub(crate) receive_max: u8,
    /// Largest packet it takes, in bytes; a larger one ends it.
    pub(crate) largest: usize,
    /// It says beforehand how large packets may be (MQTT 5).
    pub(crate) announces: bool,
    /// Acknowledgements wait in so many of eight rounds.
    pub(crate) patience: u8,
    /// One of so many messages is refused for now (MQTT 5); 0 for none.
    pub(crate) refuses: u32,
    /// One of so many acknowledgements is lost, and the connection with it; 0 for none.
    pub(crate) loses: u32,
    /// Topics with this in them may not be published to (MQTT 5).
    pub(crate) forbids: &'static str,
}

/// How long nothing may come while an acknowledgement that was lost is waited for.
const STALLED: Duration = Duration::from_millis(20);

/// Serves one connection to its end; returns it if it is to be left standing in silence.
pub(crate) async fn serve(
    mut stream: TlsStream<TcpStream>,
    seen: &Mutex<Seen>,
    storm: Storm,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut random = Rng::with_seed(storm.seed);
    let (mut buffer, mut owed, mut level) = (Vec::new(), Vec::new(), 5);
    let (mut left, mut lost) = (storm.breaks_after, false);
    loop {
        while let Some((kind, body)) = take_packet(&mut buffer) {
            match kind >> 4 {
                1 => {
                    level = body[6];
                    stream.write_all(&connack(storm, level)).await?;
                    stream.flush().await?;
                }
                3 if body.len() > storm.largest => {
                    seen.lock().unwrap().oversize += 1;
                    if level == 5 {
                        // DISCONNECT, Packet too large (MQTT 5.0 §3.14.2.1).
                        stream.write_all(&[0xe0, 2, 0x95, 0]).await?;
                    }
                    stream.shutdown().await?;
                    return Ok(None);
                }
                3 => {
                    owed.push(note(seen, level, &body));
                    left -= 1;
                }
                12 => stream.write_all(&[0xd0, 0]).await?,
                14 => return Ok(None),
                other => return Err(io::Error::other(format!("packet type {other}"))),
            }
            if left == 0 {
                if storm.swallows {
                    return Ok(Some(stream));
                }
                // What is acknowledged now is read by the client together with the end of the stream.
                if random.bool() {
                    random.shuffle(&mut owed);
                }
                owed.truncate(random.usize(owed.len() / 2..=owed.len()));
                pay(&mut stream, (seen, level), &mut owed, |_, _| 0x00).await?;
                return Ok(None);
            }
        }
        if random.u8(..8) >= storm.patience {
            random.shuffle(&mut owed);
            let keep = if storm.patience == 0 { 0 } else { random.usize(0..=owed.len() / 4) };
            let mut paid = owed.split_off(keep);
            if storm.loses > 0 {
                let before = paid.len();
                paid.retain(|_| random.u32(..storm.loses) > 0);
                lost |= paid.len() < before;
            }
            let mut mood = random.fork();
            let reason = |_, owed: &Owed| match storm {
                Storm { forbids, .. } if owed.topic.contains(forbids) => 0x87,
                Storm { refuses: 1.., .. } if mood.u32(..storm.refuses) == 0 => 0x97,
                _ => 0x00,
            };
            pay(&mut stream, (seen, level), &mut paid, reason).await?;
        }
        let patience = if lost && owed.is_empty() { STALLED } else { Duration::from_millis(1) };
        match tokio::time::timeout(patience, stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) => {}
            Err(_) if patience == STALLED => {
                seen.lock().unwrap().stalled += 1;
                return Ok(None);
            }
            Err(_) => {}
        }
    }
}

/// CONNACK without a session (MQTT 5.0 §3.2, MQTT 3.1.1 §3.2).
fn connack(storm: Storm, level: u8) -> Vec<u8> {
    if level < 5 {
        return vec![0x20, 2, 0, 0];
    }
    let mut properties = vec![0x21, 0, storm.receive_max];
    if storm.announces {
        properties.push(0x27);
        properties.extend(u32::try_from(storm.largest).unwrap().to_be_bytes());
    }
    let length = u8::try_from(properties.len()).unwrap();
    [vec![0x20, 3 + length, 0, 0, length], properties].concat()
}

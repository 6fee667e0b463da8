//! Modbus TCP servers: any number of endpoints on one thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Runtime};

use super::day::Tick;
use super::faults::Fault;
use super::pdu;
use super::unit::Unit;
use crate::gate::{Gate, Pass};

/// Length of the MBAP header, unit included.
const HEADER: usize = 7;

/// Exception 0x0B: the gateway's target did not answer.
const TARGET_FAILED: u8 = 0x0B;

/// The thread that serves all endpoints; dropping it ends them.
#[derive(Debug)]
pub struct Host {
    runtime: Option<Runtime>,
}

/// One listening address with its units; dropping it closes it.
#[derive(Debug)]
pub struct Endpoint {
    runtime: Handle,
    address: SocketAddr,
    units: Arc<[Arc<Unit>]>,
    requests: Arc<AtomicU64>,
    gate: Mutex<Option<Gate>>,
}

impl Host {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("modbus-tcp")
            .enable_io()
            .enable_time()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Listens on a port of 127.0.0.1, or on a free one for port 0.
    ///
    /// # Errors
    /// When the port cannot be listened to.
    pub fn listen(&self, port: u16, units: Vec<Arc<Unit>>) -> io::Result<Endpoint> {
        let runtime = self.runtime.as_ref().ok_or_else(|| io::Error::other("the host has ended"))?;
        let mut endpoint = Endpoint {
            runtime: runtime.handle().clone(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            units: units.into(),
            requests: Arc::default(),
            gate: Mutex::new(None),
        };
        let listener = TcpListener::bind(endpoint.address)?;
        endpoint.address = listener.local_addr()?;
        endpoint.serve(listener)?;
        Ok(endpoint)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would block, which is not allowed inside another runtime.
            runtime.shutdown_background();
        }
    }
}

impl Endpoint {
    /// Returns the port it listens on, the same before and after a pulled plug.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns how many well-formed requests came.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Pulls the plug: connections end and new ones are refused. Returns when it is done.
    pub fn unplug(&self) {
        let gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(gate) = gate {
            gate.close();
        }
    }

    /// Plugs it in again at the same port.
    ///
    /// # Errors
    /// When the port cannot be listened to.
    pub fn plug(&self) -> io::Result<()> {
        if self.gate.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        self.serve(TcpListener::bind(self.address)?)
    }

    fn serve(&self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let (gate, pass) = Gate::new();
        let (units, requests) = (Arc::clone(&self.units), Arc::clone(&self.requests));
        self.runtime.spawn(accept(listener, units, requests, pass));
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = Some(gate);
        Ok(())
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.unplug();
    }
}

async fn accept(listener: TcpListener, units: Arc<[Arc<Unit>]>, requests: Arc<AtomicU64>, mut pass: Pass) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = pass.closed() => return,
        };
        let Ok((stream, _)) = stream else { continue };
        let (units, requests, mut pass) = (Arc::clone(&units), Arc::clone(&requests), pass.clone());
        tokio::spawn(async move {
            tokio::select! {
                ended = serve(stream, &units, &requests) => if let Err(error) = ended {
                    tracing::debug!("Modbus TCP client: {error}");
                },
                () = pass.closed() => {}
            }
        });
    }
}

async fn serve(mut stream: TcpStream, units: &[Arc<Unit>], requests: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut frame = [0_u8; 260];
    loop {
        let (header, body) = frame.split_at_mut(HEADER);
        match stream.read_exact(header).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let protocol = u16::from_be_bytes([header[2], header[3]]);
        let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
        // Source: Messaging on TCP/IP V1.0b §3.1.3: protocol 0; the length counts the unit and 1 to 253 bytes.
        let Some(request) = body.get_mut(..length.wrapping_sub(1)).filter(|pdu| protocol == 0 && !pdu.is_empty())
        else {
            return Err(io::Error::other("not a Modbus TCP frame"));
        };
        stream.read_exact(request).await?;
        requests.fetch_add(1, Ordering::Relaxed);
        let id = header[6];
        let Some(unit) = units.iter().find(|unit| unit.id == id) else {
            let pdu = [request[0] | 0x80, TARGET_FAILED];
            stream.write_all(&framed([header[0], header[1]], id, &pdu)).await?;
            continue;
        };
        let fault = unit.faults.draw();
        if fault == Some(Fault::Late) {
            tokio::time::sleep(unit.faults.late()).await;
        }
        let mut reply = match fault {
            Some(Fault::Drop) => continue,
            _ if unit.defects.is_dead() => continue,
            _ => pdu::answer(unit, request, Tick::now(), fault),
        };
        if reply.is_empty() {
            continue;
        }
        let transaction = u16::from_be_bytes([header[0], header[1]]);
        let shown = transaction.wrapping_add(u16::from(fault == Some(Fault::WrongTransaction)));
        let from = id.wrapping_add(u8::from(fault == Some(Fault::WrongUnit)));
        reply = framed(shown.to_be_bytes(), from, &reply);
        match fault {
            Some(Fault::Flip) => unit.faults.flip(&mut reply, HEADER),
            Some(Fault::Garbage) => reply = [unit.faults.garbage(), reply].concat(),
            Some(Fault::Echo) => reply = [&*header, &*request, &reply].concat(),
            Some(Fault::Truncated) => unit.faults.truncate(&mut reply),
            // Done above, or by `pdu::answer`.
            Some(
                Fault::Drop
                | Fault::Late
                | Fault::WrongUnit
                | Fault::WrongTransaction
                | Fault::WrongLength
                | Fault::Exception,
            )
            | None => {}
        }
        stream.write_all(&reply).await?;
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a PDU has at most 253 bytes")]
fn framed(transaction: [u8; 2], unit: u8, pdu: &[u8]) -> Vec<u8> {
    let [high, low] = (pdu.len() as u16 + 1).to_be_bytes();
    [&[transaction[0], transaction[1], 0, 0, high, low, unit], pdu].concat()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::time::{Duration, Instant};

    use super::super::unit::{Model, Table};
    use super::*;

    fn endpoint(host: &Host) -> Endpoint {
        let units = vec![Unit::new(1, Model::PressureTransmitter, 3), Unit::new(2, Model::Bench { registers: 10 }, 3)];
        host.listen(0, units).expect("a free port")
    }

    fn connect(endpoint: &Endpoint) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(("127.0.0.1", endpoint.port())).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }

    fn ask(stream: &mut std::net::TcpStream, unit: u8) -> Vec<u8> {
        stream.write_all(&[0x12, 0x34, 0, 0, 0, 6, unit, 3, 0, 0, 0, 3]).expect("sent");
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).expect("a header");
        let mut body = vec![0; usize::from(header[5]) - 1];
        stream.read_exact(&mut body).expect("a body");
        [&header[..], &body].concat()
    }

    #[test]
    fn units_behind_one_address_answer_each_for_itself() {
        let host = Host::start().expect("a thread");
        let endpoint = endpoint(&host);
        let mut stream = connect(&endpoint);
        for (place, id) in [(0, 1), (1, 2)] {
            let before = Tick::now();
            let reply = ask(&mut stream, id);
            assert_eq!(reply[..9], [0x12, 0x34, 0, 0, 0, 9, id, 3, 6]);
            let words: Vec<u16> = reply[9..].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            let true_at = |tick| endpoint.units[place].read(Table::Holding, 0, 3, Tick(tick)) == Some(words.clone());
            assert!((before.0..=Tick::now().0).any(true_at), "{words:?}");
        }
        assert_eq!(ask(&mut stream, 9)[6..], [9, 0x83, 0x0B]);
        assert_eq!(endpoint.requests(), 3);
    }

    #[test]
    fn a_pulled_plug_ends_connections_and_refuses_new_ones_until_it_is_back() {
        let host = Host::start().expect("a thread");
        let endpoint = endpoint(&host);
        let mut stream = connect(&endpoint);
        ask(&mut stream, 1);
        endpoint.unplug();
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
        assert!(std::net::TcpStream::connect(("127.0.0.1", endpoint.port())).is_err());
        endpoint.plug().expect("the port is still ours");
        ask(&mut connect(&endpoint), 1);
    }

    #[test]
    fn faults_spoil_the_frame() {
        let host = Host::start().expect("a thread");
        let endpoint = endpoint(&host);
        let faults = &endpoint.units[0].faults;
        faults.queue([Fault::WrongTransaction, Fault::WrongUnit, Fault::Exception, Fault::Late]);
        faults.set_late(Duration::from_millis(50));
        let mut stream = connect(&endpoint);
        assert_eq!(ask(&mut stream, 1)[..2], [0x12, 0x35]);
        assert_eq!(ask(&mut stream, 1)[6], 2);
        assert_eq!(ask(&mut stream, 1)[7..], [0x83, 0x06]);
        let asked = Instant::now();
        assert_eq!(ask(&mut stream, 1)[..2], [0x12, 0x34]);
        assert!(asked.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn what_is_no_modbus_ends_the_connection() {
        let host = Host::start().expect("a thread");
        let endpoint = endpoint(&host);
        for frame in
            [[0, 1, 0, 9, 0, 6, 1, 3], [0, 1, 0, 0, 0, 1, 1, 3], [0, 1, 0, 0, 0, 0, 1, 3], [0, 1, 0, 0, 9, 9, 1, 3]]
        {
            let mut stream = connect(&endpoint);
            stream.write_all(&frame).expect("sent");
            assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "{frame:?}");
        }
    }
}

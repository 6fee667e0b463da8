//! A Modbus TCP server that sends given bytes.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails its test")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ganglion_protocols::modbus::Table;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the server does about a request, in order.
pub(crate) enum Step {
    Send(Vec<u8>),
    Pause(Duration),
    Close,
}

/// A request as the server read it.
pub(crate) struct Asked {
    pub(crate) bytes: Vec<u8>,
    /// Its number on this server, from 0.
    pub(crate) number: u64,
}

/// The true value of an item: it says where it comes from.
pub(crate) fn truth(unit: u8, table: Table, address: u16) -> u16 {
    let bits = u16::from(unit) << 12 ^ u16::from(table.read_function()) << 10 ^ address;
    if table.is_bits() { (bits.count_ones() & 1).try_into().unwrap() } else { bits }
}

impl Asked {
    pub(crate) fn unit(&self) -> u8 {
        self.bytes[6]
    }

    pub(crate) fn address(&self) -> u16 {
        u16::from_be_bytes([self.bytes[8], self.bytes[9]])
    }

    pub(crate) fn function(&self) -> u8 {
        self.bytes[7]
    }

    pub(crate) fn count(&self) -> u16 {
        u16::from_be_bytes([self.bytes[10], self.bytes[11]])
    }

    /// Returns the value that a write of one register (0x06) brings.
    pub(crate) fn value(&self) -> u16 {
        assert_eq!(self.function(), 0x06);
        self.count()
    }

    fn table(&self) -> Table {
        [Table::Coil, Table::DiscreteInput, Table::InputRegister, Table::HoldingRegister]
            .into_iter()
            .find(|table| table.read_function() == self.bytes[7])
            .expect("a read request")
    }

    /// Returns the right answer.
    pub(crate) fn answer(&self) -> Vec<u8> {
        let count = self.count();
        if !self.table().is_bits() {
            return self.registers(count);
        }
        let mut packed = vec![0_u8; usize::from(count.div_ceil(8))];
        for place in 0..count {
            let bit = truth(self.unit(), self.table(), self.address() + place);
            packed[usize::from(place / 8)] |= u8::try_from(bit).unwrap() << (place % 8);
        }
        self.frame(&packed)
    }

    /// Returns an answer with the true values of so many registers.
    pub(crate) fn registers(&self, count: u16) -> Vec<u8> {
        let value = |place| truth(self.unit(), self.table(), self.address() + place);
        self.values(&(0..count).map(value).collect::<Vec<u16>>())
    }

    /// Returns an answer with these registers.
    pub(crate) fn values(&self, values: &[u16]) -> Vec<u8> {
        self.frame(&values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>())
    }

    /// Returns the right answer with some bits of one byte turned.
    pub(crate) fn answer_with(&self, place: usize, turned: u8) -> Vec<u8> {
        let mut frame = self.answer();
        frame[place] ^= turned;
        frame
    }

    pub(crate) fn exception(&self, code: u8) -> Vec<u8> {
        self.adu(&[self.bytes[7] | 0x80, code])
    }

    fn frame(&self, data: &[u8]) -> Vec<u8> {
        self.adu(&[&[self.bytes[7], u8::try_from(data.len()).unwrap()], data].concat())
    }

    fn adu(&self, pdu: &[u8]) -> Vec<u8> {
        let length = u16::try_from(1 + pdu.len()).unwrap().to_be_bytes();
        [&self.bytes[..4], &length, &[self.unit()], pdu].concat()
    }
}

/// The server; it and its connections end when it is dropped.
pub(crate) struct Server {
    port: u16,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    asked: AtomicU64,
    by_unit: Mutex<BTreeMap<u8, u64>>,
}

impl Server {
    pub(crate) async fn start(act: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_on(0, act).await
    }

    /// Starts on a port that may just have been in use.
    pub(crate) async fn start_on(port: u16, act: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let act = Arc::new(act);
        Self::listen(port, move |stream, counts| serve(stream, Arc::clone(&act), counts)).await
    }

    /// Starts one that closes each connection as soon as it is made.
    pub(crate) async fn start_closing() -> Self {
        Self::listen(0, |stream, _| async move { drop(stream) }).await
    }

    async fn listen<F>(port: u16, serve: impl Fn(TcpStream, Arc<Counts>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let (port, counts) = (listener.local_addr().unwrap().port(), Arc::new(Counts::default()));
        let mut tasks = JoinSet::new();
        let counted = Arc::clone(&counts);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, Arc::clone(&counted)));
            }
        });
        Self { port, counts, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many connections were made.
    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Returns how many requests one unit got.
    pub(crate) fn asked(&self, unit: u8) -> u64 {
        self.counts.by_unit.lock().unwrap().get(&unit).copied().unwrap_or(0)
    }
}

async fn serve<A: Fn(&Asked) -> Vec<Step>>(mut stream: TcpStream, act: Arc<A>, counts: Arc<Counts>) {
    stream.set_nodelay(true).unwrap();
    let mut header = [0; 6];
    while stream.read_exact(&mut header).await.is_ok() {
        let mut bytes = header.to_vec();
        bytes.resize(6 + usize::from(u16::from_be_bytes([header[4], header[5]])), 0);
        if stream.read_exact(&mut bytes[6..]).await.is_err() {
            return;
        }
        let asked = Asked { bytes, number: counts.asked.fetch_add(1, Ordering::Relaxed) };
        *counts.by_unit.lock().unwrap().entry(asked.unit()).or_default() += 1;
        for step in act(&asked) {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Pause(time) => tokio::time::sleep(time).await,
                Step::Close => return,
            }
        }
    }
}

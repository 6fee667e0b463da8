//! Modbus units on a pseudo-terminal, with a speed of their own.
#![allow(clippy::unwrap_used, reason = "a bench that cannot be set up fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use ganglion_protocols::modbus::pdu::{Bits, DeviceId, DeviceObjects, MAX_PDU, Request, Response, Words};
use ganglion_protocols::modbus::{ExceptionCode, Table, UnitId, rtu};
use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::openpty;
use nix::unistd::ttyname;

/// One unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit {
    pub(crate) holding: BTreeMap<u16, u16>,
    pub(crate) input: BTreeMap<u16, u16>,
    pub(crate) coils: BTreeMap<u16, u16>,
    /// Longest read it answers; 0 is the standard's.
    pub(crate) longest: u16,
    /// Vendor and product code.
    pub(crate) names: Option<(&'static str, &'static str)>,
    /// Registers that confirm a write and keep what they have.
    pub(crate) stubborn: BTreeSet<u16>,
}

/// What the units and their test share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) units: BTreeMap<u8, Unit>,
    /// Requests as they came: unit and PDU.
    pub(crate) asked: Vec<(u8, Vec<u8>)>,
}

/// A line whose far end answers until the line is dropped and the port closed by everybody.
pub(crate) struct Line {
    pub(crate) path: PathBuf,
    shared: Arc<Mutex<Shared>>,
    master: File,
    kept_open: Option<OwnedFd>,
    ended: Arc<std::sync::atomic::AtomicBool>,
    served: Option<JoinHandle<()>>,
}

impl Line {
    /// Starts the units; with a speed they hear and say only noise at any other.
    pub(crate) fn new(units: impl IntoIterator<Item = (u8, Unit)>, baud: Option<u32>) -> Self {
        let pty = openpty(None, None).unwrap();
        let path = ttyname(&pty.slave).unwrap();
        let shared = Arc::new(Mutex::new(Shared { units: units.into_iter().collect(), asked: Vec::new() }));
        let ended = Arc::default();
        let (theirs, end) = (Arc::clone(&shared), Arc::clone(&ended));
        let master = File::from(pty.master);
        let wire = master.try_clone().unwrap();
        let served = std::thread::spawn(move || serve(wire, baud, &theirs, &end));
        Self { path, shared, master, kept_open: Some(pty.slave), ended, served: Some(served) }
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub(crate) fn path_text(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ended.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(self.kept_open.take());
        if let Some(served) = self.served.take().filter(|_| !std::thread::panicking()) {
            served.join().unwrap();
        }
    }
}

fn serve(mut wire: File, baud: Option<u32>, shared: &Mutex<Shared>, ended: &std::sync::atomic::AtomicBool) {
    let mut pending = Vec::new();
    let mut buffer = [0; 512];
    while !ended.load(std::sync::atomic::Ordering::Relaxed) {
        let mut arrived = [PollFd::new(wire.as_fd(), PollFlags::POLLIN)];
        if poll(&mut arrived, 20_u8).unwrap() == 0 {
            continue;
        }
        let Ok(read @ 1..) = wire.read(&mut buffer) else { return };
        if baud.is_some_and(|baud| speed_of(&wire) != baud) {
            // What a receiver makes of frames of another speed.
            pending.clear();
            if wire.write_all(&[0xF8, 0x00, 0xE0]).is_err() {
                return;
            }
            continue;
        }
        pending.extend_from_slice(&buffer[..read]);
        let whole = |len: &usize| {
            let frame = rtu::Frame::parse(&pending[..*len]);
            frame.is_ok_and(|frame| Request::parse(frame.pdu).is_ok())
        };
        let Some(len) = (rtu::MIN_FRAME..=pending.len()).find(whole) else { continue };
        let request: Vec<u8> = pending.drain(..len).collect();
        if let Some(answer) = answer(&request, &mut shared.lock().unwrap())
            && wire.write_all(&answer).is_err()
        {
            return;
        }
    }
}

/// Returns the bit rate that the port was set to.
fn speed_of(wire: &File) -> u32 {
    // SAFETY: `termios2` is integers, for which all zeroes is a value.
    let mut line: libc::termios2 = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open; the call writes one `termios2` to the pointer, which is valid.
    assert_eq!(unsafe { libc::ioctl(wire.as_raw_fd(), libc::TCGETS2, &raw mut line) }, 0);
    line.c_ospeed
}

fn answer(frame: &[u8], shared: &mut Shared) -> Option<Vec<u8>> {
    let frame = rtu::Frame::parse(frame).unwrap();
    shared.asked.push((frame.unit.0, frame.pdu.to_vec()));
    if frame.unit.0 == 0 {
        let mut scratch = [0; MAX_PDU];
        for unit in shared.units.values_mut() {
            unit.answer(frame.pdu, &mut scratch);
        }
        return None;
    }
    let unit = shared.units.get_mut(&frame.unit.0)?;
    let (mut pdu, mut out) = ([0; MAX_PDU], [0; rtu::MAX_FRAME]);
    let len = unit.answer(frame.pdu, &mut pdu);
    let len = rtu::Frame::emit(UnitId(frame.unit.0), &pdu[..len], &mut out).unwrap();
    Some(out[..len].to_vec())
}

impl Unit {
    /// Returns one whose holding registers from `first` on hold these.
    pub(crate) fn holding(first: u16, words: &[u16]) -> Self {
        Self { holding: (first..).zip(words.iter().copied()).collect(), ..Self::default() }
    }

    fn answer(&mut self, pdu: &[u8], out: &mut [u8]) -> usize {
        let function = pdu[0];
        let refuse = |code| Response::Exception { function, code };
        let mut bytes = [0; 256];
        let response = match Request::parse(pdu).unwrap() {
            Request::Read { count, .. } if self.longest != 0 && count > self.longest => {
                refuse(ExceptionCode::ILLEGAL_DATA_VALUE)
            }
            Request::Read { table, address, count } => {
                let items = match table {
                    Table::HoldingRegister => &self.holding,
                    Table::InputRegister => &self.input,
                    Table::Coil | Table::DiscreteInput => &self.coils,
                };
                let words: Option<Vec<u16>> =
                    (0..count).map(|place| items.get(&address.checked_add(place)?).copied()).collect();
                match words {
                    None => refuse(ExceptionCode::ILLEGAL_DATA_ADDRESS),
                    Some(words) if table.is_bits() => {
                        let mut on: Vec<bool> = words.iter().map(|word| *word != 0).collect();
                        on.resize(on.len().next_multiple_of(8), false);
                        Response::ReadBits { table, bits: Bits::pack(&on, &mut bytes).unwrap() }
                    }
                    Some(words) => Response::ReadRegisters { table, words: Words::pack(&words, &mut bytes).unwrap() },
                }
            }
            Request::WriteRegister { address, value } => {
                self.put(address, value);
                Response::WriteRegister { address, value }
            }
            Request::WriteRegisters { address, words } => {
                (address..).zip(words.iter()).for_each(|(address, value)| self.put(address, value));
                Response::WriteRegisters { address, count: u16::try_from(words.len()).unwrap() }
            }
            Request::WriteCoil { address, on } => {
                self.coils.insert(address, u16::from(on));
                Response::WriteCoil { address, on }
            }
            Request::ReadDeviceId { level, .. } if self.names.is_some() => {
                let (vendor, product) = self.names.unwrap();
                let mut objects = vec![2_u8];
                for (id, text) in [(0_u8, vendor), (1, product)] {
                    objects.extend([id, u8::try_from(text.len()).unwrap()]);
                    objects.extend(text.as_bytes());
                }
                bytes[..objects.len()].copy_from_slice(&objects);
                let objects = DeviceObjects::parse(&bytes[..objects.len()]).unwrap();
                let (conformity, more_follows, next_object) = (0x02, false, 0);
                let id = DeviceId { level, conformity, more_follows, next_object, objects };
                return Response::ReadDeviceId(id).emit(out).unwrap();
            }
            _ => refuse(ExceptionCode::ILLEGAL_FUNCTION),
        };
        response.emit(out).unwrap()
    }

    fn put(&mut self, address: u16, value: u16) {
        if !self.stubborn.contains(&address) {
            self.holding.insert(address, value);
        }
    }
}

/// Somebody else who talks on a line.
pub(crate) struct Babble {
    on: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Babble {
    pub(crate) fn stop(&mut self) {
        self.on.store(false, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Line {
    /// Says a frame again and again.
    pub(crate) fn babble(&self, frame: &[u8]) -> Babble {
        let on = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let (going, frame, mut wire) = (Arc::clone(&on), frame.to_vec(), self.master.try_clone().unwrap());
        let thread = std::thread::spawn(move || {
            while going.load(std::sync::atomic::Ordering::Relaxed) {
                wire.write_all(&frame).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(60));
            }
        });
        Babble { on, thread: Some(thread) }
    }
}

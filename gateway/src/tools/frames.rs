//! Bytes of a wire joined into frames, and frames into words.
//!
//! Bytes arrive in lumps. On a serial line a frame is known by its CRC and by being a request or response of the standard;
//! what precedes it is noise. On TCP the header says the length.

use std::time::Duration;

use ganglion_protocols::modbus::pdu::{Request, Response, function};
use ganglion_protocols::modbus::{Table, UnitId, rtu, tcp};

use crate::acquire::trace::Moment;

/// Pause after which bytes no longer belong to those before: longer than any adapter holds bytes back.
const PAUSE: Duration = Duration::from_millis(150);

/// Most bytes that wait for the rest of their frame.
const MOST_PENDING: usize = 2 * tcp::MAX_FRAME;

/// Most registers shown of one frame.
const MOST_WORDS: usize = 10;

/// What was seen on a wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// When; of a frame, when its last byte came.
    pub at: Duration,
    /// What.
    pub what: What,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Kinds of [`Seen`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// The wire was opened.
    Opened,
    /// The wire was lost.
    Lost,
    /// A request was sent; in words.
    Sent(String),
    /// An answer to it, or somebody else's frame; in words.
    Received(String),
    /// The request came back, from an adapter that hears itself.
    Echo,
    /// It begins like the answer waited for and its CRC is wrong, or it is cut short.
    Spoiled,
    /// Bytes of no frame.
    Noise,
}

/// How frames lie on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Framing {
    Rtu,
    Tcp,
}

/// Joins the bytes of one wire.
#[derive(Debug, Default)]
pub struct Joiner {
    framing: Option<Framing>,
    request: Option<Asked>,
    pending: Vec<u8>,
    last: Duration,
}

/// The request under way.
#[derive(Debug)]
struct Asked {
    frame: Vec<u8>,
    unit: UnitId,
    pdu: Vec<u8>,
}

impl Joiner {
    /// Takes what happened next. Returns what is complete now.
    pub fn take(&mut self, at: Duration, moment: Moment<'_>) -> Vec<Seen> {
        let mut seen = Vec::new();
        match moment {
            Moment::Received(bytes) => {
                if at.saturating_sub(self.last) > PAUSE || self.pending.len() + bytes.len() > MOST_PENDING {
                    self.spill(&mut seen);
                }
                self.last = at;
                self.pending.extend_from_slice(bytes);
                self.join(&mut seen);
            }
            Moment::Sent(bytes) => {
                self.spill(&mut seen);
                seen.push(self.sent(at, bytes));
            }
            Moment::Opened => {
                self.spill(&mut seen);
                self.request = None;
                seen.push(Seen { at, what: What::Opened, bytes: Vec::new() });
            }
            Moment::Lost | Moment::Down => {
                self.spill(&mut seen);
                seen.push(Seen { at, what: What::Lost, bytes: Vec::new() });
            }
            Moment::Started | Moment::Woken => {}
        }
        seen
    }

    /// Returns what is left at the end.
    pub fn flush(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        self.spill(&mut seen);
        seen
    }

    fn sent(&mut self, at: Duration, bytes: &[u8]) -> Seen {
        let parsed = match rtu::Frame::parse(bytes) {
            Ok(frame) => Some((Framing::Rtu, frame.unit, frame.pdu, String::new())),
            Err(_) => tcp::Frame::parse(bytes)
                .ok()
                .map(|frame| (Framing::Tcp, frame.unit, frame.pdu, format!(" #{}", frame.transaction))),
        };
        let Some((framing, unit, pdu, transaction)) = parsed else {
            return Seen { at, what: What::Noise, bytes: bytes.to_vec() };
        };
        self.framing = Some(framing);
        let words = format!("unit {unit}{transaction} {}", request_in_words(pdu));
        self.request = Some(Asked { frame: bytes.to_vec(), unit, pdu: pdu.to_vec() });
        Seen { at, what: What::Sent(words), bytes: bytes.to_vec() }
    }

    /// Takes whole frames off the front.
    fn join(&mut self, seen: &mut Vec<Seen>) {
        match self.framing {
            Some(Framing::Tcp) => self.join_tcp(seen),
            _ => {
                while let Some((noise, frame)) = self.first_frame() {
                    self.take_frame(noise, frame, seen);
                }
            }
        }
    }

    /// Finds the first frame on a serial line: how many bytes precede it, and how many it has.
    fn first_frame(&self) -> Option<(usize, usize)> {
        (0..self.pending.len()).find_map(|start| frame_at(self.pending.get(start..)?).map(|len| (start, len)))
    }

    fn take_frame(&mut self, noise: usize, len: usize, seen: &mut Vec<Seen>) {
        let at = self.last;
        let mut rest = self.pending.split_off(noise);
        self.spill(seen);
        self.pending = rest.split_off(len);
        let what = match &self.request {
            Some(asked) if asked.frame == rest && !answers_by_repeating(&asked.pdu) => What::Echo,
            _ => match rtu::Frame::parse(&rest) {
                Ok(frame) => What::Received(self.received_in_words(frame.unit, frame.pdu, "")),
                Err(_) => What::Noise,
            },
        };
        seen.push(Seen { at, what, bytes: rest });
    }

    fn join_tcp(&mut self, seen: &mut Vec<Seen>) {
        loop {
            match tcp::Frame::take(&self.pending) {
                Ok((frame, rest)) => {
                    let transaction = format!(" #{}", frame.transaction);
                    let words = self.received_in_words(frame.unit, frame.pdu, &transaction);
                    let left = rest.len();
                    let mut bytes = std::mem::take(&mut self.pending);
                    self.pending = bytes.split_off(bytes.len() - left);
                    seen.push(Seen { at: self.last, what: What::Received(words), bytes });
                }
                Err(tcp::FrameError::Incomplete { .. }) => return,
                Err(_) => return self.spill(seen),
            }
        }
    }

    /// What waits is no frame any more.
    fn spill(&mut self, seen: &mut Vec<Seen>) {
        if self.pending.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.pending);
        let expected = self.request.as_ref().is_some_and(|asked| match (bytes.as_slice(), asked.pdu.first()) {
            ([unit, function, ..], Some(asked_for)) => *unit == asked.unit.0 && function & 0x7F == *asked_for,
            _ => false,
        });
        let what = if expected && self.framing == Some(Framing::Rtu) { What::Spoiled } else { What::Noise };
        seen.push(Seen { at: self.last, what, bytes });
    }

    fn received_in_words(&self, unit: UnitId, pdu: &[u8], transaction: &str) -> String {
        let asked = self.request.as_ref().filter(|asked| asked.unit == unit).map(|asked| asked.pdu.as_slice());
        format!("unit {unit}{transaction} {}", response_in_words(pdu, asked))
    }
}

/// Returns the length of the shortest frame at the front of some bytes.
fn frame_at(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0..=247, function, ..] if function::name(function & 0x7F).is_some() => {}
        _ => return None,
    }
    // Over a frame with its check the CRC is 0, which one pass over the bytes finds for every length.
    let mut crc = 0xFFFF_u16;
    bytes.iter().take(rtu::MAX_FRAME).zip(1..).find_map(|(&byte, len)| {
        crc = (0..8).fold(crc ^ u16::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 });
        let frame = (crc == 0).then(|| rtu::Frame::parse(bytes.get(..len)?).ok()).flatten()?;
        is_known(frame.pdu).then_some(len)
    })
}

/// Says whether the answer to a request is the request itself: writes of one item, the mask, diagnostics.
fn answers_by_repeating(pdu: &[u8]) -> bool {
    use function::{DIAGNOSTICS, MASK_WRITE_REGISTER, WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER};
    let repeating = [WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER, DIAGNOSTICS, MASK_WRITE_REGISTER];
    pdu.first().is_some_and(|function| repeating.contains(function))
}

/// Says whether a PDU is a request or response whose function this gateway knows.
fn is_known(pdu: &[u8]) -> bool {
    let known = pdu.first().is_some_and(|code| function::name(code & 0x7F).is_some());
    known && (Response::parse(pdu).is_ok() || Request::parse(pdu).is_ok())
}

/// Says what a request asks.
#[must_use]
pub fn request_in_words(pdu: &[u8]) -> String {
    let request = match Request::parse(pdu) {
        Ok(request) => request,
        Err(error) => return format!("{}: no request: {error}", name(pdu)),
    };
    match request {
        Request::Read { table, address, count } => format!("read {}", span(table, address, count)),
        Request::WriteCoil { address, on } => format!("write coil {address}: {}", if on { "on" } else { "off" }),
        Request::WriteRegister { address, value } => format!("write holding {address}: {value:04X}"),
        Request::WriteCoils { address, bits } => {
            format!("write {}: {}", items(Table::Coil, address, bits.len()), bits_text(bits.iter()))
        }
        Request::WriteRegisters { address, words } => {
            format!("write {}: {}", items(Table::HoldingRegister, address, words.len()), words_text(words.iter()))
        }
        Request::MaskWrite { address, and, or } => format!("write holding {address}: and {and:04X} or {or:04X}"),
        Request::ReadWrite { read_address, read_count, write_address, words } => format!(
            "write {}: {}, then read {}",
            items(Table::HoldingRegister, write_address, words.len()),
            words_text(words.iter()),
            span(Table::HoldingRegister, read_address, read_count)
        ),
        Request::ReadDeviceId { level, object } => {
            format!("read device identification, level {level} from object {object}")
        }
        _ => name(pdu),
    }
}

/// Says what a response answers; `asked` is the request it may belong to.
#[must_use]
pub fn response_in_words(pdu: &[u8], asked: Option<&[u8]>) -> String {
    let asked = asked.filter(|asked| asked.first() == pdu.first().map(|code| code & 0x7F).as_ref());
    let request = asked.and_then(|asked| Request::parse(asked).ok());
    let response = match Response::parse(pdu) {
        Ok(response) => response,
        // Another client's request, perhaps.
        Err(_) if Request::parse(pdu).is_ok() => {
            return format!("{} (a request of another client)", request_in_words(pdu));
        }
        Err(error) => return format!("{}: no answer: {error}", name(pdu)),
    };
    let place = |table: Table, len: usize| match request {
        Some(Request::Read { address, count, .. }) => items(table, address, usize::from(count).min(len)),
        _ => format!("{} ? ({len})", table.as_str()),
    };
    match response {
        Response::Exception { code, .. } => {
            let what = code.name().unwrap_or("of the device's own");
            format!("{} refused: exception {:02X}, {what}", name(pdu), code.code())
        }
        Response::ReadBits { table, bits } => {
            let count = match request {
                Some(Request::Read { count, .. }) => usize::from(count),
                _ => bits.len(),
            };
            format!("{}: {}", place(table, bits.len()), bits_text(bits.iter().take(count)))
        }
        Response::ReadRegisters { table, words } => {
            format!("{}: {}", place(table, words.len()), words_text(words.iter()))
        }
        Response::ReadWrite { words } => format!("written; read: {}", words_text(words.iter())),
        Response::WriteCoil { address, .. } => format!("coil {address} written"),
        Response::WriteRegister { address, .. } | Response::MaskWrite { address, .. } => {
            format!("holding {address} written")
        }
        Response::WriteCoils { address, count } => format!("{} written", span(Table::Coil, address, count)),
        Response::WriteRegisters { address, count } => {
            format!("{} written", span(Table::HoldingRegister, address, count))
        }
        Response::ReportServerId { data } => format!("server id: {}", printable(data)),
        Response::ReadDeviceId(id) => {
            let objects: Vec<String> =
                id.objects.iter().map(|object| format!("{:?}", printable(object.value))).collect();
            format!("device identification: {}", objects.join(" "))
        }
        _ => name(pdu),
    }
}

/// Names the function of a PDU.
fn name(pdu: &[u8]) -> String {
    match pdu.first() {
        None => "empty".to_owned(),
        Some(code) => match function::name(code & 0x7F) {
            Some(name) => name.to_owned(),
            None => format!("function {:02X}", code & 0x7F),
        },
    }
}

fn span(table: Table, address: u16, count: u16) -> String {
    items(table, address, usize::from(count))
}

fn items(table: Table, address: u16, count: usize) -> String {
    let name = table.as_str();
    let last = usize::from(address) + count.max(1) - 1;
    if count == 1 { format!("{name} {address}") } else { format!("{name} {address}-{last} ({count})") }
}

/// Writes the first registers in hex; the bytes of the frame tell the others.
fn words_text(words: impl Iterator<Item = u16>) -> String {
    let words: Vec<u16> = words.collect();
    let more = if words.len() > MOST_WORDS { " …" } else { "" };
    super::value::hex(words.get(..MOST_WORDS).unwrap_or(&words)) + more
}

fn bits_text(bits: impl Iterator<Item = bool>) -> String {
    bits.map(|bit| if bit { '1' } else { '0' }).collect()
}

/// Returns text with what cannot be printed replaced.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| if (0x20..0x7F).contains(&byte) { char::from(byte) } else { '.' }).collect()
}

/// Writes bytes in hex.
#[must_use]
pub fn hex_bytes(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;

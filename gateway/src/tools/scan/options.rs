//! What to scan, and in which order.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use crate::site::{Endpoint, LineSpeed, Link, Parity, SerialLink};
use crate::tools::trace::Watch;

/// Bit rates, the likeliest first.
const BAUDS: [u32; 8] = [9_600, 19_200, 115_200, 4_800, 2_400, 38_400, 57_600, 1_200];

/// Unit ids that are asked at every speed before the rest: those that devices are delivered with.
const LIKELY: std::ops::RangeInclusive<u8> = 1..=10;

/// Where to look, and how.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("where").required(true).args(["port", "tcp", "rtu_over_tcp"]))]
pub struct Options {
    /// A serial port.
    #[arg(long, value_name = "PATH")]
    port: Option<PathBuf>,
    /// A Modbus TCP server.
    #[arg(long, value_name = "HOST[:PORT]")]
    tcp: Option<String>,
    /// A serial server that carries RTU frames; its line's speed is its own affair.
    #[arg(long, value_name = "HOST:PORT")]
    rtu_over_tcp: Option<String>,
    /// Bit rates to try, in this order.
    #[arg(long, value_delimiter = ',', value_name = "BAUD")]
    baud: Vec<u32>,
    /// Parities to try, in this order.
    #[arg(long, value_delimiter = ',', value_enum)]
    parity: Vec<ParityArg>,
    /// Unit ids to ask: 1-247, or 1,5,20-30.
    #[arg(long, value_name = "UNITS", value_parser = units)]
    units: Option<Units>,
    /// How long a unit may take to begin its answer [default: 200 on a line, 1500 over a network].
    #[arg(long, value_name = "MS")]
    timeout_ms: Option<u64>,
    /// How long the line is listened to before anything is asked.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    listen_ms: u64,
    /// Ask although somebody else talks on the line. Both may be disturbed.
    #[arg(long)]
    force: bool,
    /// Find out the longest request each unit answers.
    #[arg(long)]
    pub(super) limits: bool,
    /// Look for sensor nodes, too, by the node link.
    #[arg(long)]
    pub(super) nodes: bool,
    /// A site file: its templates name what is found, and devices it has already are marked.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// A folder of templates to name what is found.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub(super) templates: Option<PathBuf>,
    /// A code directory, whose ranges tell which template fits.
    #[arg(long, value_name = "DIR", requires = "templates")]
    pub(super) directory: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// A parity on the command line.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::tools) enum ParityArg {
    /// Even, the standard's default.
    Even,
    /// None.
    None,
    /// Odd.
    Odd,
}

impl From<ParityArg> for Parity {
    fn from(parity: ParityArg) -> Self {
        match parity {
            ParityArg::Even => Self::Even,
            ParityArg::None => Self::None,
            ParityArg::Odd => Self::Odd,
        }
    }
}

/// Unit ids, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Units(Vec<u8>);

/// Reads unit ids.
fn units(text: &str) -> Result<Units, String> {
    let mut ids = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let id = |text: &str| text.trim().parse::<u8>().map_err(|_| format!("{text:?} is no unit id"));
        let (first, last) = (id(first)?, id(last)?);
        if first > last {
            return Err(format!("{part} ends before it begins"));
        }
        ids.extend(first..=last);
    }
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(Units(ids))
}

/// What to do, worked out.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// The ways to open the wire, the likeliest first: one a speed.
    pub(super) links: Vec<Link>,
    /// Units that are asked at each speed until somebody answers.
    pub(super) likely: Vec<u8>,
    /// The others.
    pub(super) rest: Vec<u8>,
    pub(super) patience: Duration,
    pub(super) listen: Duration,
    pub(super) force: bool,
}

impl Options {
    /// Works out what to do; `known` are units that are likely to be there.
    pub(super) fn task(&self, known: &[u8]) -> Result<Task, String> {
        let (links, network) = match (&self.port, &self.tcp, &self.rtu_over_tcp) {
            (Some(path), ..) => (self.speeds().into_iter().map(|speed| serial(path.clone(), speed)).collect(), false),
            (None, Some(server), _) => {
                let (host, port) = host_port(server, Some(502))?;
                (vec![Link::Tcp { host, port }], true)
            }
            (None, None, Some(server)) => {
                let (host, port) = host_port(server, None)?;
                let speed = self.speeds().first().copied().unwrap_or(LineSpeed {
                    baud: 9_600,
                    parity: Parity::Even,
                    stop_bits: 1,
                });
                (vec![Link::RtuOverTcp { endpoint: Endpoint::Connect { host, port }, speed }], true)
            }
            (None, None, None) => return Err("say where: --port, --tcp or --rtu-over-tcp".to_owned()),
        };
        let tcp = self.tcp.is_some();
        let units = match &self.units {
            Some(Units(units)) => units.clone(),
            // A device on the network often listens to 255 or 0, whatever its own number.
            None if tcp => (1..=247).chain([255, 0]).collect(),
            None => (1..=247).collect(),
        };
        if let Some(unit) = units.iter().find(|unit| !tcp && !(1..=247).contains(*unit)) {
            return Err(format!("unit {unit} is none of a line: 1 to 247"));
        }
        let is_likely = |unit: &u8| LIKELY.contains(unit) || known.contains(unit) || tcp && matches!(unit, 0 | 255);
        let (likely, rest) = units.into_iter().partition(is_likely);
        let patience = self.timeout_ms.unwrap_or(if network { 1500 } else { 200 });
        Ok(Task {
            links,
            likely,
            rest,
            patience: Duration::from_millis(patience.max(1)),
            listen: Duration::from_millis(self.listen_ms),
            force: self.force,
        })
    }

    /// Returns the path of the serial port.
    pub(super) fn port(&self) -> Option<&PathBuf> {
        self.port.as_ref()
    }

    /// Returns the speeds to try: every bit rate with the likely parities, then with odd parity.
    fn speeds(&self) -> Vec<LineSpeed> {
        let bauds: &[u32] = if self.baud.is_empty() { &BAUDS } else { &self.baud };
        // A receiver of one stop bit takes two as well.
        let speed = |baud: u32, parity: ParityArg| LineSpeed { baud, parity: parity.into(), stop_bits: 1 };
        let all = |parities: &[ParityArg]| {
            bauds.iter().flat_map(|&baud| parities.iter().map(move |&parity| speed(baud, parity))).collect::<Vec<_>>()
        };
        if self.parity.is_empty() {
            let mut speeds = all(&[ParityArg::Even, ParityArg::None]);
            speeds.extend(all(&[ParityArg::Odd]));
            speeds
        } else {
            all(&self.parity)
        }
    }
}

/// Returns the link of a port as an engineer has it: an adapter that switches direction by itself.
pub(in crate::tools) fn serial(path: PathBuf, speed: LineSpeed) -> Link {
    Link::Serial(SerialLink { path, speed, rs485: None, low_latency: true })
}

/// Reads HOST:PORT, the port being the `usual` one where there is one and none is said.
pub(in crate::tools) fn host_port(text: &str, usual: Option<u16>) -> Result<(String, u16), String> {
    let split = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    match (split, usual) {
        (Some((host, port)), _) => {
            let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
            Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
        }
        (None, Some(port)) => Ok((text.to_owned(), port)),
        (None, None) => Err(format!("{text:?} names no port: HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_ids_are_listed_and_ranged_each_once() {
        assert_eq!(units("3,1-4,247"), Ok(Units(vec![3, 1, 2, 4, 247])));
        assert_eq!(units("9-3"), Err("9-3 ends before it begins".to_owned()));
        assert!(units("0x1").is_err() && units("256").is_err() && units("").is_err());
    }

    #[test]
    fn a_server_may_name_its_port() {
        assert_eq!(host_port("dtu.example", Some(502)), Ok(("dtu.example".to_owned(), 502)));
        assert_eq!(host_port("[::1]:1502", Some(502)), Ok(("::1".to_owned(), 1502)));
        assert_eq!(host_port("10.0.0.9:8899", None), Ok(("10.0.0.9".to_owned(), 8899)));
        assert!(host_port("10.0.0.9", None).is_err());
    }
}

//! The words of `ganglion node`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use ganglion_protocols::Cri;

use super::provision::Provision;
use crate::site::{Endpoint, LineSpeed, Link};
use crate::tools::scan::{ParityArg, host_port, serial};
use crate::tools::trace::Watch;

/// What to do with nodes on a line.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Find the nodes on a line and say who they are.
    List {
        /// The line.
        #[command(flatten)]
        line: Where,
        /// Ask the node with this address only.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=247))]
        unit: Option<u8>,
        /// Write a device template for each board and the nodes as rows for `devices_csv` into this folder.
        #[arg(long, value_name = "FOLDER")]
        write: Option<PathBuf>,
        /// Name of the bus in what is written.
        #[arg(long, value_name = "NAME", default_value = "line-1")]
        bus: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say what a node measures.
    Describe {
        /// The node.
        #[command(flatten)]
        node: Which,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print a node's fault log.
    Log {
        /// The node.
        #[command(flatten)]
        node: Which,
        /// Forget it afterwards.
        #[arg(long)]
        clear: bool,
    },
    /// Read a setting of a node, or all of them.
    Get {
        /// The node.
        #[command(flatten)]
        node: Which,
        /// Its name, as sample-period, or its holding register.
        key: Option<String>,
    },
    /// Change a setting of a node, and read it back.
    Set {
        /// The node.
        #[command(flatten)]
        node: Which,
        /// Its name, as sample-period, or its holding register.
        key: String,
        /// The new value.
        #[arg(allow_negative_numbers = true)]
        value: String,
    },
    /// Tell a node which city resource it measures.
    Adopt {
        /// The node.
        #[command(flatten)]
        node: Which,
        /// The resource: 330502-9601-000213-23.
        resource: Cri,
    },
    /// Have a node blink.
    Identify {
        /// The node.
        #[command(flatten)]
        node: Which,
        /// For how long.
        #[arg(long, value_name = "S", default_value_t = 30)]
        seconds: u16,
    },
    /// Start a node anew.
    Reset {
        /// The node.
        #[command(flatten)]
        node: Which,
    },
    /// Show the oldest samples that wait in a node; they stay there.
    Samples {
        /// The node.
        #[command(flatten)]
        node: Which,
        /// Name the node's store if no gateway has: before that it hands out nothing.
        #[arg(long)]
        name: bool,
    },
    /// Give a node new firmware; one that was interrupted goes on where it was.
    Update {
        /// The node.
        #[command(flatten)]
        node: Which,
        /// The image file.
        image: PathBuf,
        /// Install it though it is older than what runs.
        #[arg(long)]
        downgrade: bool,
    },
    /// Write the settings of a node that was never on a line, for its memory. Touches no wire.
    Provision(Provision),
}

/// Where nodes are.
#[derive(Args, Clone, Debug)]
#[command(group = ArgGroup::new("where").required(true).args(["port", "rtu_over_tcp"]))]
pub struct Where {
    /// A serial port.
    #[arg(long, value_name = "PATH")]
    port: Option<PathBuf>,
    /// A serial server in transparent mode.
    #[arg(long, value_name = "HOST:PORT")]
    rtu_over_tcp: Option<String>,
    /// Bit rate; `list` tries several in this order.
    #[arg(long, value_delimiter = ',', value_name = "BAUD", default_value = "9600")]
    baud: Vec<u32>,
    /// Parity.
    #[arg(long, value_enum, default_value = "none")]
    parity: ParityArg,
    /// Stop bits.
    #[arg(long, value_name = "1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
    /// How long a node may take to begin its answer.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    timeout_ms: u64,
    #[command(flatten)]
    pub(super) watch: Watch,
}

/// Which node.
#[derive(Args, Clone, Debug)]
pub struct Which {
    #[command(flatten)]
    pub(super) line: Where,
    /// Its address.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=247))]
    pub(super) unit: u8,
}

impl Where {
    /// Returns the ways to open the line, one for each bit rate.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub(super) fn links(&self) -> Result<Vec<Link>, String> {
        let link = |&baud: &u32| {
            if baud == 0 {
                return Err("0 is no bit rate".to_owned());
            }
            let speed = LineSpeed { baud, parity: self.parity.into(), stop_bits: self.stop_bits };
            match (&self.port, &self.rtu_over_tcp) {
                (Some(path), _) => Ok(serial(path.clone(), speed)),
                (None, Some(server)) => {
                    let (host, port) = host_port(server, None)?;
                    Ok(Link::RtuOverTcp { endpoint: Endpoint::Connect { host, port }, speed })
                }
                (None, None) => Err("say where: --port or --rtu-over-tcp".to_owned()),
            }
        };
        self.baud.iter().map(link).collect()
    }

    /// Returns the one way to open the line.
    ///
    /// # Errors
    /// As [`links`](Self::links), and where there are several.
    pub(super) fn link(&self) -> Result<Link, String> {
        match <[Link; 1]>::try_from(self.links()?) {
            Ok([link]) => Ok(link),
            Err(_) => Err("only `ganglion node list` tries several bit rates".to_owned()),
        }
    }

    /// Returns how long a node may take to begin its answer.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.max(1))
    }
}

//! What is simulated: the cluster, its consumers, the fleet, what is done against the rush, and what happens.
//!
//! Every number here is an assumption with its source in `docs/scale.md`; the sizes of payloads come from the codecs.

use std::time::Duration;

/// The brokers behind one load balancer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster {
    /// Nodes.
    pub(crate) nodes: usize,
    /// Full mutual-TLS handshakes with CONNECT that a node completes in a second.
    pub(crate) handshakes_per_s: f64,
    /// Connections that wait at a node for their handshake; the kernel drops the SYN of one more.
    pub(crate) backlog: usize,
    /// PUBLISH packets that a node takes in a second.
    pub(crate) messages_per_s: f64,
    /// Payload bytes that a node takes in a second.
    pub(crate) bytes_per_s: f64,
}

/// Who reads behind the brokers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumers {
    /// Observations that one consumer decodes and stores in a second.
    pub(crate) decoded_per_s: f64,
    /// Messages that the broker keeps for one consumer that falls behind; then it discards.
    pub(crate) queue: f64,
}

/// Fewest bytes that a paced gateway has in flight: two of the shortest messages.
pub(crate) const LEAST_IN_FLIGHT: f64 = 2048.0;

/// Live this far behind is history: what the daemon's buffer does (`LIVE_LAG`).
pub(crate) const LIVE_LAG: Duration = Duration::from_secs(30);

/// How the consumers subscribe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sharing {
    /// A plain subscription: each consumer gets everything, so any number of them is as fast as one.
    Plain,
    /// One shared subscription over all topics.
    Shared(u32),
    /// A shared subscription for each lane.
    ByLane {
        /// Consumers of `obs`.
        live: u32,
        /// Consumers of `backfill`.
        backfill: u32,
    },
}

/// The gateways and what each has to say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    /// How many.
    pub(crate) gateways: usize,
    /// New observations a second, each a message of its own: one resource each.
    pub(crate) live_per_s: f64,
    /// Payload bytes of such a message.
    pub(crate) live_bytes: f64,
    /// Observations in one backfill message.
    pub(crate) batch: f64,
    /// Bytes of one backfill message on the wire.
    pub(crate) batch_bytes: f64,
    /// To the broker and back.
    pub(crate) round_trip: Duration,
    /// What the link of a gateway carries, bytes a second.
    pub(crate) link_bytes_per_s: f64,
    /// Longest time for TCP, TLS and CONNACK.
    pub(crate) connect_timeout: Duration,
    /// Most bytes in flight.
    pub(crate) window_bytes: f64,
}

/// What is done against the rush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// How the table calls it.
    pub(crate) name: &'static str,
    /// First and longest pause between two tries.
    pub(crate) retry: (Duration, Duration),
    /// Whether the pauses are drawn, as the daemon does; otherwise each is its bound.
    pub(crate) jitter: bool,
    /// Before the first try after a loss or a start, one more pause drawn from zero to this. The daemon has none.
    pub(crate) spread: Duration,
    /// Share of the window that history may take.
    pub(crate) backfill_share: f64,
    /// In flight is at most what goes through in this time, but [`LEAST_IN_FLIGHT`].
    pub(crate) pace: Option<Duration>,
    /// Most messages in flight: the broker's receive maximum, or the daemon's own window.
    pub(crate) receive_maximum: f64,
    /// What one client may send.
    pub(crate) cap: Cap,
    /// Who reads.
    pub(crate) sharing: Sharing,
}

/// What the broker does about a client that sends much.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Cap {
    /// Nothing.
    None,
    /// It stops reading from the client's socket: so many bytes a second.
    Pause(f64),
    /// Nothing: the gateway itself sends so many bytes of history a second, `backfill_max_per_s`.
    Gateway(f64),
    /// It answers 0x97, quota exceeded, above so many bytes a second, upon which the daemon keeps the connection and pauses.
    Refuse(f64),
}

/// What happens at zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Event {
    /// The cluster returns after so many hours in which no packet came through; all gateways lost it at the same moment.
    Return {
        /// Hours without the cluster.
        hours: f64,
    },
    /// Every session is cut at once and the cluster takes connections again at once.
    Flap,
    /// One node restarts and is back after so long; its share of the fleet is cut at once.
    Restart(Duration),
    /// Power returns: all gateways start within this span, evenly, with nothing kept.
    Power(Duration),
    /// The cluster falls silent, pings tell the gateways within this span, and a second cluster takes over.
    FailOver(Duration),
}

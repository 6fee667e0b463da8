//! Verbs of the command line; each prints for a person unless asked for JSON.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand, ValueEnum};
use ganglion::acquire::trace::Trace;
use ganglion::buffer::outlook::Outlook;
use ganglion::pipeline::Drained;
use ganglion::site::{BrokerSettings, Site};
use ganglion::tools::{self, REFUSED, load, load_quietly, say, with_causes};
use ganglion::{config, decode, pipeline, status};
use ganglion_protocols::Cri;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// Edge perception gateway of a city.
///
/// Reads sensors over Modbus RTU and TCP, says which thing of the city each reading belongs to, keeps it on disk until
/// the city brain has it, and publishes through mutual-TLS MQTT.
#[derive(Parser, Debug)]
#[command(
    version,
    after_help = "\
Examples:
  ganglion check --config site.toml          every error of the site file at once, touching no wire
  ganglion run --config site.toml            run until SIGTERM or Ctrl-C, then drain
  ganglion status --config site.toml         what the running daemon sees, per device and resource
  ganglion devices export --config site.toml the devices as CSV, for a spreadsheet and `devices_csv`
  ganglion id 330502-0103-000123-33          what an identifier says
  ganglion plan --config site.toml           how busy each bus is, and who is late and why
  ganglion scan --port /dev/ttyUSB0          who is on this line: speed, units, what they are
  ganglion node list --port /dev/ttyUSB0     sensor nodes on this line; also describe, get, set, adopt, log, update, provision
  ganglion read --config site.toml --device flow-1          one device as the site means it
  ganglion write --config site.toml --device flow-1 --address 100 --value 5    and read back
  ganglion run --config site.toml --trace new.trace         every byte of every bus, then
  ganglion trace new.trace                                  as frames and words
  ganglion buffer inspect --config site.toml                what the disk holds; also verify, export, letters
  ganglion decode modbus-rtu 010300000002C40B               what a frame says, or where it is wrong

Environment:
  GANGLION_LOG   what is logged: error, warn, info (default), debug, or per module: info,ganglion::acquire=debug

Exit codes: 0 done, 1 failed while running, 2 configuration or arguments refused and nothing started."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run a site until SIGTERM or Ctrl-C, then deliver what is left for up to ten seconds. SIGHUP reads [broker] anew.
    Run {
        /// The site file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Form of the log on standard error.
        #[arg(long, value_enum, default_value_t = LogFormat::Text)]
        log_format: LogFormat,
        /// Write the raw bytes of every bus to a new file, one line an event.
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
    },
    /// Check a site file with its templates, directory and certificates, and predict what it asks of the disk. Touches no
    /// wire.
    Check {
        /// The site file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show what a running daemon sees: uplink, buffer, devices, and the ledger of every resource.
    Status {
        /// The site file the daemon runs.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print the whole document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Devices as a table for a spreadsheet.
    Devices {
        #[command(subcommand)]
        verb: DevicesVerb,
    },
    /// Print the JSON Schema of the site file or of a device template, for editors.
    Schema {
        /// Which file the schema describes.
        #[arg(value_enum, default_value_t = SchemaOf::Site)]
        of: SchemaOf,
    },
    /// Explain a city resource identifier, or refuse it and say which part is wrong.
    Id {
        /// Eighteen digits, with or without hyphens: 330502-0103-000123-33.
        identifier: String,
        /// The text is a bare sixteen-digit part code from a city's table; check digits are computed for it.
        #[arg(long)]
        part_code: bool,
    },
    /// Explain frames of a field protocol, or say where they are wrong; or run test vectors.
    Decode(decode::Options),
    /// Show what each bus is asked for, what it can carry, and which points are late and why. Touches no wire.
    Plan(tools::plan::Options),
    /// Read a device, one of its points, or bare registers; through the daemon if it runs.
    Read(tools::read::Options),
    /// Write registers, coils or a point, and read back what was written; through the daemon if it runs.
    Write(tools::write::Options),
    /// Find out who is on a line: speed, parity, units, what they are.
    Scan(tools::scan::Options),
    /// Sensor nodes on a line: find them, set them, look at their samples, give them new firmware; or fill a new one's memory.
    Node {
        #[command(subcommand)]
        verb: tools::node::Verb,
    },
    /// Print a saved trace as frames and words.
    Trace(tools::trace::Options),
    /// Look into the buffer on disk: what it holds, whether it is whole, the observations out of it, and what the
    /// broker refused. Reads only.
    Buffer {
        #[command(subcommand)]
        verb: tools::buffer::Verb,
    },
}

#[derive(Subcommand, Debug)]
enum DevicesVerb {
    /// Print the devices of a site as CSV; named as `devices_csv` in the site file, the table takes their place.
    Export {
        /// The site file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The devices of this bus only.
        #[arg(long, value_name = "NAME")]
        bus: Option<String>,
        /// Begin with a byte order mark, without which Excel takes Chinese names for another encoding.
        #[arg(long)]
        excel: bool,
    },
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum LogFormat {
    /// One line an event, for people and journald.
    Text,
    /// One JSON object an event, for collectors.
    Json,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum SchemaOf {
    /// The site file.
    Site,
    /// A device template.
    Template,
}

pub(crate) fn main() -> ExitCode {
    match Cli::parse().verb {
        Verb::Run { config, log_format, trace } => {
            start_log(log_format);
            match load(&config) {
                Ok((site, _)) => run(site, &config, trace.as_deref()),
                Err(code) => code,
            }
        }
        Verb::Check { config } => tools::check::main(&config),
        Verb::Status { config, json } => match load_quietly(&config) {
            Ok(site) => show_status(&site, json),
            Err(code) => code,
        },
        Verb::Devices { verb: DevicesVerb::Export { config, bus, excel } } => export(&config, bus.as_deref(), excel),
        Verb::Schema { of } => {
            let schema = match of {
                SchemaOf::Site => config::json_schema(),
                SchemaOf::Template => config::template_json_schema(),
            };
            say(&format!("{schema:#}\n"))
        }
        Verb::Id { identifier, part_code } => explain(&identifier, part_code),
        Verb::Decode(options) => decode::run(&options),
        Verb::Plan(options) => tools::plan::main(&options),
        Verb::Read(options) => tools::read::main(&options),
        Verb::Write(options) => tools::write::main(&options),
        Verb::Scan(options) => tools::scan::main(&options),
        Verb::Node { verb } => tools::node::main(&verb),
        Verb::Trace(options) => tools::trace::main(&options),
        Verb::Buffer { verb } => tools::buffer::main(&verb),
    }
}

fn export(path: &Path, bus: Option<&str>, excel: bool) -> ExitCode {
    match config::devices_csv(path, bus) {
        Ok(table) => say(&format!("{}{table}", if excel { "\u{feff}" } else { "" })),
        Err(report) => {
            eprint!("{}", report.render(io::stderr().is_terminal()));
            ExitCode::from(REFUSED)
        }
    }
}

fn run(site: Site, config: &Path, trace: Option<&Path>) -> ExitCode {
    let trace = match trace.map(|path| Trace::create(path).map_err(|error| (path, error))) {
        None => Trace::default(),
        Some(Ok(trace)) => trace,
        Some(Err((path, error))) => {
            error!(path = %path.display(), %error, "the trace cannot be written");
            return ExitCode::FAILURE;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(%error, "the runtime cannot be made");
            return ExitCode::FAILURE;
        }
    };
    let (new, broker) = watch::channel(Arc::new(site.broker.clone()));
    runtime.spawn(reload(config.to_owned(), site.gateway, new));
    let ended = runtime.block_on(pipeline::run(site, trace, broker, stop_signal()));
    // A name look-up or a serial port that stalls in its thread is not waited for.
    runtime.shutdown_background();
    match ended {
        Ok(Drained::Everything) => {
            info!("stopped, everything delivered");
            ExitCode::SUCCESS
        }
        Ok(Drained::InPart) => {
            warn!("stopped, the rest is on disk and goes out after the next start");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(error = with_causes(&error), "stopped");
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGTERM or SIGINT and names it. Without signal handlers it waits for ever, and the signals end the process.
async fn stop_signal() -> &'static str {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = (terminate, interrupt) else {
        warn!("no signal handlers: stopping will not drain");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Reads `[broker]` of the site file anew at each SIGHUP; what is wrong is logged and changes nothing.
async fn reload(config: PathBuf, gateway: Cri, broker: watch::Sender<Arc<BrokerSettings>>) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        warn!("no handler of SIGHUP: it ends the daemon");
        return;
    };
    while hangup.recv().await.is_some() {
        info!(config = %config.display(), "SIGHUP: reading the broker section and its certificates");
        let path = config.clone();
        match tokio::task::spawn_blocking(move || config::load_broker(&path, gateway)).await {
            Ok(Ok(settings)) => drop(broker.send_replace(Arc::new(settings))),
            Ok(Err(report)) => error!("new broker settings refused, the present ones stay:\n{report}"),
            Err(error) => error!(%error, "new broker settings could not be read, the present ones stay"),
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("GANGLION_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => log.json().init(),
    }
}

fn show_status(site: &Site, json: bool) -> ExitCode {
    match status::read(&site.data_dir) {
        Ok(document) if json => say(&format!("{document:#}\n")),
        Ok(document) => say(&status_table(&document)),
        Err(error) => {
            eprintln!("{}: {error}; is the daemon running?", status::socket_path(&site.data_dir).display());
            ExitCode::FAILURE
        }
    }
}

fn status_table(document: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let mut out = format!(
        "gateway {}  epoch {}\nuplink  connected {}  broker {}  connections {}  next try {}\n        last error {}  of {}\n        in flight event {}  live {}  backfill {}  dead letters {}\nbuffer  bytes {}  segments {}  trouble {}\n        {}\n\n",
        text(&document["gateway"]),
        text(&document["store"]["epoch"]),
        text(&document["uplink"]["connected"]),
        text(&document["uplink"]["broker"]),
        text(&document["uplink"]["connections"]),
        text(&document["uplink"]["retry_at"]),
        text(&document["uplink"]["last_error"]),
        text(&document["uplink"]["last_error_broker"]),
        text(&document["uplink"]["in_flight"]["event"]),
        text(&document["uplink"]["in_flight"]["live"]),
        text(&document["uplink"]["in_flight"]["backfill"]),
        text(&document["uplink"]["dead_letters"]["letters"]),
        text(&document["store"]["bytes"]),
        text(&document["store"]["segments"]),
        text(&document["store"]["trouble"]),
        outlook(&document["store"]),
    );
    let mut table = |first: &str, columns: &[&str], rows: &serde_json::Value| {
        out.push_str(&format!("{first:<24}"));
        columns.iter().for_each(|column| out.push_str(&format!("{column:>17}")));
        out.push('\n');
        for (name, row) in rows.as_object().into_iter().flatten() {
            out.push_str(&format!("{name:<24}"));
            columns.iter().for_each(|column| out.push_str(&format!("{:>17}", text(&row[*column]))));
            out.push('\n');
        }
        out.push('\n');
    };
    table("bus", &["connected", "load_percent", "line_use_percent", "stretched_to_ms"], &document["buses"]);
    table("device", &["healthy", "polls", "failed_polls", "last_reason"], &document["devices"]);
    let ledger = ["sampled", "accepted", "durable", "delivered", "dropped", "last_seq"];
    table("resource", &ledger, &document["resources"]);
    let mut events = document["event_resources"].clone();
    if let Some(rows) = events.as_object_mut() {
        rows.retain(|_, row| ledger.iter().any(|column| row[*column] != 0));
    }
    table("events of", &ledger, &events);
    out.push_str("standing alarms\n");
    for (resource, states) in document["standing"].as_object().into_iter().flatten() {
        for (state, since) in states.as_object().into_iter().flatten() {
            out.push_str(&format!("{resource:<24}{state:<30}since {}\n", text(since)));
        }
    }
    out
}

/// Says how long an outage the disk still covers, as the daemon measures it.
fn outlook(store: &serde_json::Value) -> String {
    let Some(free) = store["free_bytes"].as_u64() else { return "nothing written yet".to_owned() };
    if let Some(trouble) = store["trouble"].as_str() {
        return format!("covers no outage: the disk refuses ({trouble})");
    }
    let used = (store["held_bytes"].as_u64().unwrap_or(0), store["quota_bytes"].as_u64().unwrap_or(0));
    Outlook { free, rate: store["append_bytes_per_s"].as_f64(), used }.to_string()
}

fn explain(identifier: &str, part_code: bool) -> ExitCode {
    let parsed = if part_code { Cri::from_part_code(identifier) } else { identifier.parse() };
    match parsed {
        Ok(cri) => say(&format!(
            "{cri}\n  uri       cri:{cri}\n  division  {}\n  class     {}\n  serial    {}\n  check     {:02}\n  binary    {}\n",
            cri.division(),
            cri.class(),
            cri.serial(),
            cri.check_digits(),
            cri.to_bits(),
        )),
        Err(error) => {
            eprintln!("{identifier:?} is no city resource identifier: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

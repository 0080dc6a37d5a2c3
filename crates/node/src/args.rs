//! The command line. An error names the flag that cannot work.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, ValueEnum};
use kad::Mode;
use kad::core::AddressPolicy;
use kad::core::config::Interval;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, StreamProtocol, identity};
use libp2p_kad_dht as kad;

use crate::flags;
use crate::home::Home;
use crate::parse::COMMANDS;

/// The default protocol of a private network.
const PRIVATE_PROTOCOL: StreamProtocol = StreamProtocol::new("/my-app/kad/1.0.0");

/// The boot nodes of the public network. Source: the documentation of Kubo, “Bootstrap list”.
const AMINO_BOOT_NODES: [&str; 4] = [
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmbLHAnMoJPWSCR5Zhtx6BHJX9KiKNN6tpvbUcqanj75Nb",
    "/dnsaddr/bootstrap.libp2p.io/p2p/QmcZf59bWwK5XFi76CZX8cbJ4BhTzzA3gU1ZjYZcYW3dwt",
];

/// The text of `--help` below the flags.
const INPUT: &str = "\
Commands come from standard input, one per line. When it ends, the node finishes all commands and exits. To keep a node
running without a terminal, keep its input open, as in `tail -f /dev/null | kad-node`. `quit`, Ctrl-C and SIGTERM end it
at once.

Commands run side by side and are answered in the order in which they are done. A line that begins with `#ID ` gets that
ID with its answer: `#7 get /my-app/x`. With --json, events that answer no command (such as a failed join) go to standard
error as JSON objects with an \"event\"; logs go there too: RUST_LOG=libp2p_kad_dht=debug shows what the node does.

KEY and VALUE are text, or bytes as hex:00ff. A CID stands for its multihash, which can also be given as hex:1220...
A key has at most 2048 bytes, a value at most 11264. A private network stores any value; amino and lan store only values
under /pk/ and /ipns/. TIME is a number with a unit: 500ms, 2s, 10m, 48h; without a unit it is in seconds.
";

/// A node of a Kademlia DHT on TCP and QUIC, for people and for scripts
#[derive(Debug, Parser)]
#[command(name = "kad-node", version, after_help = after_help())]
pub(crate) struct Args {
    /// Listen on this address; may be repeated. QUIC: /ip4/127.0.0.1/udp/0/quic-v1
    #[arg(long, value_name = "ADDR", default_value = "/ip4/127.0.0.1/tcp/0")]
    pub(crate) listen: Vec<Multiaddr>,

    /// Protocol name, the same for all nodes of a network [default: that of --network; private: /my-app/kad/1.0.0]
    #[arg(long, value_name = "NAME", value_parser = protocol)]
    protocol: Option<StreamProtocol>,

    /// Whether to serve other nodes; auto: while an external address is confirmed [default: server; amino: auto]
    #[arg(long, value_enum)]
    mode: Option<ModeArg>,

    /// Join through this peer; may be repeated; must end in /p2p/PEERID [default: none; amino: its public boot nodes]
    #[arg(long, value_name = "ADDR", value_parser = seed)]
    bootstrap: Vec<Seed>,

    /// Do not join: wait for other nodes, or for a `dial`
    #[arg(long, conflicts_with = "bootstrap")]
    no_bootstrap: bool,

    /// External address at which other nodes reach this one; may be repeated
    #[arg(long, value_name = "ADDR")]
    pub(crate) external: Vec<Multiaddr>,

    /// Use only these addresses [default: amino: public; lan: lan; private: any]
    #[arg(long, value_enum)]
    addresses: Option<AddressesArg>,

    /// Keep the identity, the records and the known peers in this directory, which belongs to one node in one network
    /// [default: in memory]
    #[arg(long, value_name = "PATH")]
    pub(crate) store: Option<PathBuf>,

    /// Derive the identity from this number, for tests [default: random]
    #[arg(long, value_name = "N")]
    key_seed: Option<u64>,

    /// Rules of the network: a private one, the public IPFS network (amino), or its local networks (lan)
    #[arg(long, value_enum, default_value_t = Network::Private)]
    network: Network,

    /// Serve metrics for Prometheus at http://ADDR/metrics; a port alone means loopback
    #[arg(long, value_name = "ADDR", value_parser = metrics_addr)]
    pub(crate) metrics: Option<SocketAddr>,

    /// k: number of peers that store a record [default: 20]
    #[arg(long, value_name = "N")]
    k: Option<NonZeroUsize>,

    /// α: requests in flight of a lookup [default: 10]
    #[arg(long, value_name = "N")]
    alpha: Option<NonZeroUsize>,

    /// β: number of closest peers whose answers end the search [default: 3]
    #[arg(long, value_name = "N")]
    beta: Option<NonZeroUsize>,

    /// Longest time of a query, such as 2s or 500ms [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    query_timeout: Option<Duration>,

    /// Longest time of one request [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    request_timeout: Option<Duration>,

    /// Lifetime of values of other nodes [default: 48h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    value_ttl: Option<Duration>,

    /// Lifetime of provider records [default: 48h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    provider_ttl: Option<Duration>,

    /// Interval between announcements of own records; 0: never [default: 11/24 of the shorter lifetime]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    announce_interval: Option<Duration>,

    /// Time after which a value that was not stored again is replicated; 0: never [default: 1h, at most 1/4 of
    /// --value-ttl]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    replicate_interval: Option<Duration>,

    /// Refresh a bucket in which there was no lookup for this time; 0: never [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    refresh_interval: Option<Duration>,

    /// Write only JSON to standard output, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

/// A peer to join through.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) peer: PeerId,
    pub(crate) addr: Multiaddr,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModeArg {
    Client,
    Server,
    Auto,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AddressesArg {
    Any,
    Public,
    Lan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Network {
    Private,
    Amino,
    Lan,
}

impl Args {
    /// The arguments of this process. Ends the process with exit code 2 and an error if they cannot work.
    pub(crate) fn from_command_line() -> Args {
        let args = Args::parse();
        match args.fault() {
            Some(fault) => Args::command().error(ErrorKind::InvalidValue, fault).exit(),
            None => args,
        }
    }

    /// The reason why the arguments cannot work together, or not with the directory of `--store`.
    fn fault(&self) -> Option<String> {
        let config = match self.config() {
            Ok(config) => config,
            Err(why) => return Some(why),
        };
        let network = self.network_name(&config);
        self.store.as_deref().and_then(|path| Home::is_for(path, &network).err())
    }

    /// The network: its rules, and its protocol in parentheses.
    pub(crate) fn network_name(&self, config: &kad::Config) -> String {
        let rules = self.network.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let protocol = config.protocols().first().map(AsRef::as_ref).unwrap_or_default();
        format!("{rules} ({protocol})")
    }

    /// The DHT's configuration, checked. The error names the flag that has to change.
    pub(crate) fn config(&self) -> Result<kad::Config, String> {
        let config = self.wanted();
        match config.validate() {
            Ok(()) => Ok(config),
            Err(why) => Err(flags::explain(&why, &config)),
        }
    }

    fn wanted(&self) -> kad::Config {
        let config = self.preset();
        let config = self.k.into_iter().fold(config, kad::Config::with_replication);
        let config = self.alpha.into_iter().fold(config, kad::Config::with_parallelism);
        let mut core = config.core().clone();
        set(&mut core.lookup.resiliency, self.beta);
        set(&mut core.lookup.query_timeout, self.query_timeout);
        set(&mut core.lookup.request_timeout, self.request_timeout);
        core.lookup.min_request_timeout = core.lookup.min_request_timeout.min(core.lookup.request_timeout);
        set(&mut core.record.value_ttl, self.value_ttl);
        set(&mut core.record.provider_ttl, self.provider_ttl);
        core.record.provider_addr_ttl = core.record.provider_addr_ttl.min(core.record.provider_ttl);
        set(&mut core.maintenance.announce_interval, self.announce_interval.map(interval));
        set(&mut core.maintenance.replicate_interval, self.replicate_interval.map(interval));
        set(
            &mut core.maintenance.refresh_interval,
            self.refresh_interval.map(|every| (!every.is_zero()).then_some(every)),
        );
        config.with_core(core)
    }

    /// The configuration of the network, changed by `--protocol`, `--addresses` and `--mode`.
    fn preset(&self) -> kad::Config {
        let config = match self.network {
            Network::Private => kad::Config::new(PRIVATE_PROTOCOL),
            Network::Amino => kad::Config::amino(),
            Network::Lan => kad::Config::lan(),
        };
        let config = self.protocol.iter().fold(config, |config, name| config.with_protocols([name.clone()]));
        let config = self.addresses.iter().fold(config, |config, addresses| {
            config.with_address_policy(match addresses {
                AddressesArg::Any => AddressPolicy::Any,
                AddressesArg::Public => AddressPolicy::Public,
                AddressesArg::Lan => AddressPolicy::Lan,
            })
        });
        self.mode.iter().fold(config, |config, mode| {
            config.with_mode(match mode {
                ModeArg::Client => Some(Mode::Client),
                ModeArg::Server => Some(Mode::Server),
                ModeArg::Auto => None,
            })
        })
    }

    /// The peers to join through.
    pub(crate) fn seeds(&self) -> Vec<Seed> {
        if self.network != Network::Amino || self.no_bootstrap || !self.bootstrap.is_empty() {
            return self.bootstrap.clone();
        }
        AMINO_BOOT_NODES.iter().filter_map(|addr| seed(addr).ok()).collect()
    }

    /// The node's identity: that of `--key-seed`, else that of the directory, else a new one.
    pub(crate) fn keypair(&self, home: Option<&Home>) -> Result<identity::Keypair, String> {
        let wanted = self.key_seed.map(|seed| {
            let secret = kad::Key::hash(format!("key seed {seed}").as_bytes()).to_bytes();
            identity::Keypair::ed25519_from_bytes(secret).map_err(|why| why.to_string())
        });
        match (wanted.transpose()?, home) {
            (wanted, Some(home)) => home.identity(wanted),
            (Some(wanted), None) => Ok(wanted),
            (None, None) => Ok(identity::Keypair::generate_ed25519()),
        }
    }
}

/// Input, output and commands.
fn after_help() -> String {
    let commands: String = COMMANDS.iter().map(|(usage, what)| format!("  {usage:<18} {what}\n")).collect();
    format!("{INPUT}\nCommands:\n{commands}")
}

/// Zero means never.
fn interval(every: Duration) -> Interval {
    if every.is_zero() { Interval::Never } else { Interval::Every(every) }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn protocol(text: &str) -> Result<StreamProtocol, String> {
    StreamProtocol::try_from_owned(text.to_owned()).map_err(|_| "a protocol name begins with '/'".to_owned())
}

/// An address and port, or a port on loopback.
fn metrics_addr(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    port.or_else(|_| {
        text.parse().map_err(|_| "expected an address and port, or a port, such as 127.0.0.1:9100".to_owned())
    })
}

fn seed(text: &str) -> Result<Seed, String> {
    let addr: Multiaddr = text.parse().map_err(|why| format!("not a multiaddress: {why}"))?;
    match addr.iter().last() {
        Some(Protocol::P2p(peer)) if addr.len() > 1 => Ok(Seed { peer, addr }),
        _ => Err("must end in /p2p/PEERID, so that no other peer can answer in its place".to_owned()),
    }
}

/// A number with a unit: `500ms`, `2s`, `10m`, `48h`; seconds without one.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: use ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number and a unit, such as 2s or 500ms".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|why| why.to_string())
}

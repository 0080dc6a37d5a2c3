//! Every parameter of the core, with its default and where that comes from, and the check that they fit together.
//!
//! Knows: numbers. Must not know: what uses them. Sizes of messages, streams and dials belong to the driver.
//!
//! The parts are plain values with public fields behind `#[non_exhaustive]`, checked as a whole by `validate`.

mod diversity;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

pub use diversity::DiversityConfig;

use super::address_policy::AddressPolicy;
use super::error::ConfigError;
use super::quorum::Quorum;
use super::validate::{AcceptAny, Validator};

/// Maximum length of a provider record's key, in bytes. Source: rule A43.
pub const MAX_PROVIDER_KEY_LEN: usize = 80;
/// Maximum length of a value's key, or of a lookup's target, in bytes. Source: real keys are shorter than 100 bytes; a
/// longer key would leave no room for the answer in a message that every peer can read.
pub const MAX_KEY_LEN: usize = 2048;
/// Minimum lifetime of a copy that a get leaves on its path. Source: a store costs a request however short-lived the
/// copy is, and few keys are read twice along the same path within a minute.
pub const MIN_CACHE_TTL: Duration = Duration::from_secs(60);

/// All parameters of a node's core.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DhtConfig {
    /// Lookups, and the time of queries and requests.
    pub lookup: LookupConfig,
    /// The routing table.
    pub routing: RoutingConfig,
    /// Records: which are valid, and how long they live.
    pub record: RecordConfig,
    /// The work that the node does of its own accord.
    pub maintenance: MaintenanceConfig,
    /// The time for which a failed peer is not asked.
    pub back_off: BackOffConfig,
    /// Bounds for everything that peers or the application can make grow.
    pub limit: LimitConfig,
    /// The addresses that the node keeps, dials and hands out. Default: [`AddressPolicy::Any`], since a private network
    /// knows best where its nodes are; the preset of the public network sets [`AddressPolicy::Public`] (rules A19 and
    /// A31).
    pub address_policy: AddressPolicy,
}

impl DhtConfig {
    /// Checks the rules that types cannot express.
    ///
    /// # Errors
    ///
    /// The first rule that is broken, with the names of its fields.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (lookup, record, maintenance, limit) = (&self.lookup, &self.record, &self.maintenance, &self.limit);
        let announce = ("maintenance.announce_interval", maintenance.announce_interval.set());
        let replicate = ("maintenance.replicate_interval", maintenance.replicate_interval.set());
        let intervals = [
            ("maintenance.check_interval", maintenance.check_interval),
            ("maintenance.refresh_interval", maintenance.refresh_interval),
            announce,
            ("maintenance.region_interval", maintenance.region_interval.set()),
            replicate,
            ("maintenance.snapshot_interval", maintenance.snapshot_interval),
        ];
        let value_ttl = ("record.value_ttl", record.value_ttl);
        let provider_ttl = ("record.provider_ttl", record.provider_ttl);
        nonzero_times([
            ("lookup.query_timeout", lookup.query_timeout),
            ("lookup.min_request_timeout", lookup.min_request_timeout),
            ("lookup.dial_timeout", lookup.dial_timeout),
            value_ttl,
            provider_ttl,
            ("record.provider_addr_ttl", record.provider_addr_ttl),
        ])?;
        nonzero_times(intervals.into_iter().filter_map(|(name, interval)| Some((name, interval?))))?;
        for (interval, ttl) in [(announce, value_ttl), (announce, provider_ttl), (replicate, value_ttl)] {
            at_most((interval.0, interval.1.unwrap_or_default()), ttl)?;
        }
        nonzero([
            ("record.max_value_len", record.max_value_len),
            ("limit.queries", limit.queries),
            ("limit.requests", limit.requests),
            ("limit.inbound", limit.inbound),
            ("limit.inbound_per_peer", limit.inbound_per_peer),
            ("limit.address_book", limit.address_book),
            ("limit.back_offs", limit.back_offs),
            ("limit.candidates", limit.candidates),
            ("limit.lookup_bytes", limit.lookup_bytes),
            ("limit.providers_per_query", limit.providers_per_query),
            ("maintenance.probes", maintenance.probes),
        ])?;
        let k = ("lookup.replication", lookup.replication);
        at_most(
            ("lookup.min_request_timeout", lookup.min_request_timeout),
            ("lookup.request_timeout", lookup.request_timeout),
        )?;
        at_most(("lookup.paths", lookup.paths), k)?;
        at_most(("lookup.resiliency", lookup.resiliency), k)?;
        at_most((k.0, k.1.get()), ("limit.frontier", limit.frontier))?;
        at_most(("limit.lookup_bytes", limit.lookup_bytes), ("limit.query_bytes", limit.query_bytes))?;
        at_most(("back_off.base", self.back_off.base), ("back_off.max", self.back_off.max))?;
        self.routing.diversity.as_ref().map_or(Ok(()), DiversityConfig::validate)
    }

    /// The interval at which the node announces its own records again: as configured, but at most three quarters of a
    /// lifetime, so that no record expires in between.
    pub(crate) fn announce_interval(&self) -> Option<Duration> {
        let ttl = self.record.value_ttl.min(self.record.provider_ttl);
        let auto = MaintenanceConfig::DEFAULT_ANNOUNCE_INTERVAL.min(ttl / 24 * 11);
        Some(self.maintenance.announce_interval.or(auto)?.min(ttl / 4 * 3))
    }

    /// Whether the node announces its own records of its own accord.
    pub(crate) fn announces(&self) -> bool {
        self.announce_interval().is_some() || self.region_interval().is_some()
    }

    /// The interval at which the node looks for new peers among the closest to its own records: at least four times
    /// between two announcements to all of them.
    pub(crate) fn region_interval(&self) -> Option<Duration> {
        let longest = self.announce_interval().map_or(Duration::MAX, |announce| announce / 4);
        Some(self.maintenance.region_interval.or(MaintenanceConfig::DEFAULT_REGION_INTERVAL)?.min(longest))
    }

    /// The time after which another node's value is stored again, counted from its last store.
    pub(crate) fn replicate_interval(&self) -> Option<Duration> {
        let auto = MaintenanceConfig::DEFAULT_REPLICATE_INTERVAL.min(self.record.value_ttl / 4);
        self.maintenance.replicate_interval.or(auto)
    }
}

/// The interval of a task for records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum Interval {
    /// As often as the lifetimes of records demand.
    #[default]
    Auto,
    /// At this interval.
    Every(Duration),
    /// Never.
    Never,
}

impl Interval {
    /// The configured time; `None` for [`Interval::Auto`] and [`Interval::Never`].
    fn set(self) -> Option<Duration> {
        if let Interval::Every(time) = self { Some(time) } else { None }
    }

    /// The configured time, or `auto`; `None` for [`Interval::Never`].
    fn or(self, auto: Duration) -> Option<Duration> {
        if self == Interval::Auto { Some(auto) } else { self.set() }
    }
}

/// Refuses the first of these fields that is zero.
pub(crate) fn nonzero<T: Default + PartialEq>(
    fields: impl IntoIterator<Item = (&'static str, T)>,
) -> Result<(), ConfigError> {
    let zero = fields.into_iter().find(|(_, value)| *value == T::default());
    zero.map_or(Ok(()), |(name, _)| Err(ConfigError::Zero(name)))
}

/// Refuses the first of these times that is shorter than a microsecond, the unit in which the core counts.
fn nonzero_times(fields: impl IntoIterator<Item = (&'static str, Duration)>) -> Result<(), ConfigError> {
    nonzero(fields.into_iter().map(|(name, time)| (name, time.as_micros())))
}

/// Refuses a field that is greater than another.
pub(crate) fn at_most<T: PartialOrd>(field: (&'static str, T), most: (&'static str, T)) -> Result<(), ConfigError> {
    if field.1 > most.1 { Err(ConfigError::Greater(field.0, most.0)) } else { Ok(()) }
}

/// How lookups search, and how much time queries and requests get.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LookupConfig {
    /// k: number of closest peers that a lookup finds and at which a record is stored. All nodes of a network should
    /// have the same. At most `limit.frontier`. Default: [`DEFAULT_REPLICATION`](Self::DEFAULT_REPLICATION).
    pub replication: NonZeroUsize,
    /// α: maximum number of requests that a lookup has in flight while it searches. Default:
    /// [`DEFAULT_PARALLELISM`](Self::DEFAULT_PARALLELISM).
    pub parallelism: NonZeroUsize,
    /// β: number of closest peers that must have answered before the lookup asks the rest of the k closest at once. At
    /// most `replication`. Default: [`DEFAULT_RESILIENCY`](Self::DEFAULT_RESILIENCY).
    pub resiliency: NonZeroUsize,
    /// d: number of disjoint paths along which a lookup searches (S/Kademlia). More paths withstand more lying peers,
    /// for up to half as many requests again. At most `replication`. Default: one.
    pub paths: NonZeroUsize,
    /// Maximum time of a query; for a bootstrap, of all its lookups together (rule L29). Default:
    /// [`DEFAULT_QUERY_TIMEOUT`](Self::DEFAULT_QUERY_TIMEOUT).
    pub query_timeout: Duration,
    /// Maximum time of one request, counted from its first byte. Default:
    /// [`DEFAULT_REQUEST_TIMEOUT`](Self::DEFAULT_REQUEST_TIMEOUT).
    pub request_timeout: Duration,
    /// Maximum time of a dial; then every request that waits for it fails. Default:
    /// [`DEFAULT_DIAL_TIMEOUT`](Self::DEFAULT_DIAL_TIMEOUT).
    pub dial_timeout: Duration,
    /// Minimum time of one request, however fast peers have answered so far. At most `request_timeout`. Between the two
    /// the time follows the measured round trips. Default:
    /// [`DEFAULT_MIN_REQUEST_TIMEOUT`](Self::DEFAULT_MIN_REQUEST_TIMEOUT).
    pub min_request_timeout: Duration,
}

impl LookupConfig {
    /// Default for [`LookupConfig::replication`], k. Source: libp2p specification, rule L1.
    pub const DEFAULT_REPLICATION: NonZeroUsize = NonZeroUsize::new(20).unwrap();
    /// Default for [`LookupConfig::parallelism`], α. Source: IPFS specification, rule A36.
    pub const DEFAULT_PARALLELISM: NonZeroUsize = NonZeroUsize::new(10).unwrap();
    /// Default for [`LookupConfig::resiliency`], β. Source: IPFS specification, rule A34.
    pub const DEFAULT_RESILIENCY: NonZeroUsize = NonZeroUsize::new(3).unwrap();
    /// Default for [`LookupConfig::query_timeout`]. Source: the default of libp2p-kad.
    pub const DEFAULT_QUERY_TIMEOUT: Duration = Duration::from_secs(60);
    /// Default for [`LookupConfig::request_timeout`]. Source: the read timeout of the Go implementation.
    pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default for [`LookupConfig::dial_timeout`]. Source: libp2p's transports give up after as long.
    pub const DEFAULT_DIAL_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default for [`LookupConfig::min_request_timeout`]. Source: a TCP retransmission on a fresh connection costs 1 s
    /// (RFC 6298), and the peer may be dialling too.
    pub const DEFAULT_MIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
}

impl Default for LookupConfig {
    fn default() -> LookupConfig {
        LookupConfig {
            replication: Self::DEFAULT_REPLICATION,
            parallelism: Self::DEFAULT_PARALLELISM,
            resiliency: Self::DEFAULT_RESILIENCY,
            paths: NonZeroUsize::MIN,
            query_timeout: Self::DEFAULT_QUERY_TIMEOUT,
            request_timeout: Self::DEFAULT_REQUEST_TIMEOUT,
            dial_timeout: Self::DEFAULT_DIAL_TIMEOUT,
            min_request_timeout: Self::DEFAULT_MIN_REQUEST_TIMEOUT,
        }
    }
}

/// The routing table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RoutingConfig {
    /// Maximum number of peers in a bucket. Default: [`DEFAULT_BUCKET_SIZE`](Self::DEFAULT_BUCKET_SIZE).
    pub bucket_size: NonZeroUsize,
    /// W: bucket `i` holds up to `W >> i` peers where that is more than `bucket_size`. A few hundred more entries save
    /// lookups some hops (measured with 25,000 nodes: 256 saves 0.29 of 1.93). Default: 0, plain buckets.
    pub wide_low_buckets: usize,
    /// Limits on the entries of any one operator. Default: none, which suits a network whose peers are trusted and may
    /// share one network; the preset of the public network has [`DiversityConfig::default`].
    pub diversity: Option<DiversityConfig>,
}

impl RoutingConfig {
    /// Default for [`RoutingConfig::bucket_size`]. Source: k, rule L1.
    pub const DEFAULT_BUCKET_SIZE: NonZeroUsize = NonZeroUsize::new(20).unwrap();
}

impl Default for RoutingConfig {
    fn default() -> RoutingConfig {
        RoutingConfig { bucket_size: Self::DEFAULT_BUCKET_SIZE, wide_low_buckets: 0, diversity: None }
    }
}

/// Records: which are valid, how long they live, and how many peers must have them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordConfig {
    /// Decides which values are valid. Default: [`AcceptAny`].
    pub validator: Arc<dyn Validator>,
    /// Maximum length in bytes of a value that this node publishes. A longer one is refused before anything is stored.
    /// Default: [`DEFAULT_MAX_VALUE_LEN`](Self::DEFAULT_MAX_VALUE_LEN).
    pub max_value_len: usize,
    /// Maximum time for which another node's value is kept. Default: [`DEFAULT_VALUE_TTL`](Self::DEFAULT_VALUE_TTL).
    pub value_ttl: Duration,
    /// Time for which a provider record is kept. Default: [`DEFAULT_PROVIDER_TTL`](Self::DEFAULT_PROVIDER_TTL).
    pub provider_ttl: Duration,
    /// Time for which a provider's addresses are kept. Default:
    /// [`DEFAULT_PROVIDER_ADDR_TTL`](Self::DEFAULT_PROVIDER_ADDR_TTL).
    pub provider_addr_ttl: Duration,
    /// Number of holders of a value for which a get waits, this node included. Default: one. For IPNS the specification
    /// recommends 16 of 20 (rule A58).
    pub read_quorum: Quorum,
    /// Number of peers that must acknowledge a put or a provide. Default: one.
    pub write_quorum: Quorum,
    /// Whether a get leaves a copy at the closest peer that answered without the value and is not one of the k closest.
    /// The more nodes are nearer to the key, the shorter the copy lives, and never longer than the value. Default: yes.
    /// Source: the Kademlia paper, §4.1.
    pub path_caching: bool,
}

impl RecordConfig {
    /// Default for [`RecordConfig::max_value_len`]: 11 KiB. Source: with its key in the message and once more in the
    /// record it fits into the 16 KiB that every known implementation reads; an IPNS record has 10 KiB at most.
    pub const DEFAULT_MAX_VALUE_LEN: usize = 11 * 1024;
    /// Default for [`RecordConfig::value_ttl`]: 48 h. Source: rule L20.
    pub const DEFAULT_VALUE_TTL: Duration = Duration::from_secs(48 * 3600);
    /// Default for [`RecordConfig::provider_ttl`]: 48 h. Source: rule A47.
    pub const DEFAULT_PROVIDER_TTL: Duration = Duration::from_secs(48 * 3600);
    /// Default for [`RecordConfig::provider_addr_ttl`]: 24 h. Source: rules L25 and A49.
    pub const DEFAULT_PROVIDER_ADDR_TTL: Duration = Duration::from_secs(24 * 3600);
}

impl Default for RecordConfig {
    fn default() -> RecordConfig {
        RecordConfig {
            validator: Arc::new(AcceptAny),
            max_value_len: Self::DEFAULT_MAX_VALUE_LEN,
            value_ttl: Self::DEFAULT_VALUE_TTL,
            provider_ttl: Self::DEFAULT_PROVIDER_TTL,
            provider_addr_ttl: Self::DEFAULT_PROVIDER_ADDR_TTL,
            read_quorum: Quorum::One,
            write_quorum: Quorum::One,
            path_caching: true,
        }
    }
}

/// The work that a node does of its own accord.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MaintenanceConfig {
    /// Maximum number of candidates for the routing table that are probed at a time, and beside them of entries that
    /// are checked. Default: [`DEFAULT_PROBES`](Self::DEFAULT_PROBES).
    pub probes: usize,
    /// Time without a sign of life after which an entry of the routing table is checked; half of it if another peer
    /// waits for a place in its bucket. `None` for never: then an entry that failed is not tried again either, unless a
    /// lookup asks it. Default: [`DEFAULT_CHECK_INTERVAL`](Self::DEFAULT_CHECK_INTERVAL).
    pub check_interval: Option<Duration>,
    /// Time without a lookup after which a bucket is refreshed: up to half as long later, so that buckets and nodes do
    /// not stay in step, and the second time after a third of it. `None` for never: then the node does not join by
    /// itself either. In any case a node looks up its own key when its first peer answers; in a network of fewer than k
    /// peers it repeats that after 1, 2, 4 … s until it finds the same peers again. Default:
    /// [`DEFAULT_REFRESH_INTERVAL`](Self::DEFAULT_REFRESH_INTERVAL).
    pub refresh_interval: Option<Duration>,
    /// Maximum interval at which a store that outlives the process saves the peers of a changing routing table for the
    /// next start: at the first change at once, then after 1, 2, 4 … s up to this, and when the node is dropped. `None`
    /// for never. Default: [`DEFAULT_SNAPSHOT_INTERVAL`](Self::DEFAULT_SNAPSHOT_INTERVAL).
    pub snapshot_interval: Option<Duration>,
    /// The interval at which the node announces its own records again to all of the k closest; up to an eighth shorter,
    /// so that nodes and keys do not stay in step. At most `record.value_ttl` and `record.provider_ttl`; limited to
    /// three quarters of the shorter one. Default: [`Interval::Auto`], 11/24 of the shorter lifetime, at most
    /// [`DEFAULT_ANNOUNCE_INTERVAL`](Self::DEFAULT_ANNOUNCE_INTERVAL).
    pub announce_interval: Interval,
    /// The interval at which the node looks up the k closest peers to its own records and announces the records to new
    /// ones; at least four times per `announce_interval`. Default: [`Interval::Auto`],
    /// [`DEFAULT_REGION_INTERVAL`](Self::DEFAULT_REGION_INTERVAL).
    pub region_interval: Interval,
    /// The time after which another node's value is stored again at the k closest, counted from its last store here,
    /// while this node is one of them and a server. With [`Interval::Never`], this node brings no values to new peers
    /// either. At most `record.value_ttl`. Default: [`Interval::Auto`], a quarter of `record.value_ttl`, at most
    /// [`DEFAULT_REPLICATE_INTERVAL`](Self::DEFAULT_REPLICATE_INTERVAL).
    pub replicate_interval: Interval,
    /// Maximum bytes of keys and values that this node sends in an hour to keep other nodes' values alive: those that
    /// it stores again, and those that it brings to new peers, each of which gets at most a quarter of the rest. The
    /// other holders send the remainder. Default: [`DEFAULT_REPLICATE_BYTES`](Self::DEFAULT_REPLICATE_BYTES).
    pub replicate_bytes: usize,
}

impl MaintenanceConfig {
    /// Default for [`MaintenanceConfig::probes`]. Source: zikade checks 3 candidates at a time.
    pub const DEFAULT_PROBES: usize = 3;
    /// Default for [`MaintenanceConfig::check_interval`]. Source: rule A24 gives 5 min as an example; with twice that
    /// one entry in fifty is dead in a network with the sessions of IPFS nodes, for half the requests.
    pub const DEFAULT_CHECK_INTERVAL: Duration = Duration::from_secs(600);
    /// Default for [`MaintenanceConfig::refresh_interval`]. Source: rule L27, 10 min.
    pub const DEFAULT_REFRESH_INTERVAL: Duration = Duration::from_secs(600);
    /// Default for [`MaintenanceConfig::snapshot_interval`]. Source: half of the sessions in the IPFS network are far
    /// longer than this, so that most peers of a table this old are still there.
    pub const DEFAULT_SNAPSHOT_INTERVAL: Duration = Duration::from_secs(600);
    /// Default for [`MaintenanceConfig::announce_interval`] where records live for 48 h or longer: 22 h. Source: rules
    /// L20 and A48.
    pub const DEFAULT_ANNOUNCE_INTERVAL: Duration = Duration::from_secs(22 * 3600);
    /// Default for [`MaintenanceConfig::region_interval`]. Source: with sessions of median 1 h half of the nodes are
    /// replaced after it; of k = 20 holders the next lookup finds 10.
    pub const DEFAULT_REGION_INTERVAL: Duration = Duration::from_secs(3600);
    /// Default for [`MaintenanceConfig::replicate_interval`]. Source: the Kademlia paper, section 2.5, 1 h.
    pub const DEFAULT_REPLICATE_INTERVAL: Duration = Duration::from_secs(3600);
    /// Default for [`MaintenanceConfig::replicate_bytes`]. Source: as many bytes of values as a memory store keeps by
    /// default, each stored again once an hour by one of its 20 holders at the 19 others; it is 75 kbit/s.
    pub const DEFAULT_REPLICATE_BYTES: usize = 32 * 1024 * 1024;
}

impl Default for MaintenanceConfig {
    fn default() -> MaintenanceConfig {
        MaintenanceConfig {
            probes: Self::DEFAULT_PROBES,
            check_interval: Some(Self::DEFAULT_CHECK_INTERVAL),
            refresh_interval: Some(Self::DEFAULT_REFRESH_INTERVAL),
            snapshot_interval: Some(Self::DEFAULT_SNAPSHOT_INTERVAL),
            announce_interval: Interval::Auto,
            region_interval: Interval::Auto,
            replicate_interval: Interval::Auto,
            replicate_bytes: Self::DEFAULT_REPLICATE_BYTES,
        }
    }
}

/// The time for which a peer is not asked after a failed dial, or after repeated failures without an answer in between.
///
/// The back-off ends with an answer of the peer, with a connection if a dial failed, with a new address, and when the
/// application adds the peer again. A query that would have asked the peer continues without it, and its
/// [`Report`](super::error::Report) lists the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackOffConfig {
    /// Time after the first failure, and up to a quarter longer so that nodes do not stay in step. It doubles with each
    /// further failure, and is half as long while no peer at all answers. Zero switches back-offs off. Default:
    /// [`DEFAULT_BASE`](Self::DEFAULT_BASE).
    pub base: Duration,
    /// Maximum time, up to a quarter longer. At least `base`. Default: [`DEFAULT_MAX`](Self::DEFAULT_MAX).
    pub max: Duration,
}

impl BackOffConfig {
    /// Default for [`BackOffConfig::base`]. Source: go-libp2p's swarm.
    pub const DEFAULT_BASE: Duration = Duration::from_secs(5);
    /// Default for [`BackOffConfig::max`]: 5 min. Source: go-libp2p's swarm.
    pub const DEFAULT_MAX: Duration = Duration::from_secs(300);
}

impl Default for BackOffConfig {
    fn default() -> BackOffConfig {
        BackOffConfig { base: Self::DEFAULT_BASE, max: Self::DEFAULT_MAX }
    }
}

/// Bounds for everything that peers or the application can make grow. A test fills each.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LimitConfig {
    /// Maximum number of queries at a time; one more is refused as busy. The corrections after a get count too, but are
    /// abandoned for new queries. Default: [`DEFAULT_QUERIES`](Self::DEFAULT_QUERIES).
    pub queries: usize,
    /// Maximum number of requests of queries in flight at a time, late ones not counted; further requests wait in a
    /// queue. The node begins with 64. While it and its peers keep up it raises that number up to this limit; otherwise
    /// it lowers it, down to α. Default: [`DEFAULT_REQUESTS`](Self::DEFAULT_REQUESTS).
    pub requests: usize,
    /// Maximum number of inbound requests that wait for the store; one more is reset. An IP group, or a peer where
    /// groups do not count, may have as many of them as there are places left, so one alone takes half. Default:
    /// [`DEFAULT_INBOUND`](Self::DEFAULT_INBOUND).
    pub inbound: usize,
    /// Maximum number of inbound requests of one peer that wait for the store; one more is reset. Default:
    /// [`DEFAULT_INBOUND_PER_PEER`](Self::DEFAULT_INBOUND_PER_PEER).
    pub inbound_per_peer: usize,
    /// Maximum number of peers outside the routing table whose addresses are remembered, 2 KiB of each; the oldest are
    /// forgotten first. Default: [`DEFAULT_ADDRESS_BOOK`](Self::DEFAULT_ADDRESS_BOOK).
    pub address_book: usize,
    /// Maximum number of peers whose failures are remembered; the one whose back-off ends soonest is forgotten first.
    /// Default: [`DEFAULT_BACK_OFFS`](Self::DEFAULT_BACK_OFFS).
    pub back_offs: usize,
    /// Maximum number of peers that wait to be probed before they enter the routing table; one more is dropped and can
    /// come again. Default: [`DEFAULT_CANDIDATES`](Self::DEFAULT_CANDIDATES).
    pub candidates: usize,
    /// Maximum number of peers that one lookup remembers; the farthest unasked are forgotten first. At least
    /// `lookup.replication`. A lookup over d > 1 paths remembers as many on each path, on each of up to d/2 second
    /// opinions, and once more while it joins them: up to 3 d times as many. Default:
    /// [`DEFAULT_FRONTIER`](Self::DEFAULT_FRONTIER).
    pub frontier: usize,
    /// Maximum number of bytes that one lookup keeps of what answers say of other peers, at most four addresses of each.
    /// The answer whose peers take most loses the farthest first. At most `query_bytes`. Default:
    /// [`DEFAULT_LOOKUP_BYTES`](Self::DEFAULT_LOOKUP_BYTES).
    pub lookup_bytes: usize,
    /// The same for all queries together: as many of them ask peers at a time as may keep `lookup_bytes` each, and the
    /// others wait for their turn. Default: [`DEFAULT_QUERY_BYTES`](Self::DEFAULT_QUERY_BYTES).
    pub query_bytes: usize,
    /// Maximum number of providers that one query reports. Default:
    /// [`DEFAULT_PROVIDERS_PER_QUERY`](Self::DEFAULT_PROVIDERS_PER_QUERY).
    pub providers_per_query: usize,
    /// Maximum number of peers that are banned at a time, and of peers whose breaches of rules are counted; the ban that
    /// ends first gives way. Default: [`DEFAULT_BANS`](Self::DEFAULT_BANS).
    pub bans: usize,
    /// Number of breaches of one peer within five minutes that are reported; as many grave ones lead to a ban of ten
    /// minutes. Default: [`DEFAULT_BREACHES`](Self::DEFAULT_BREACHES).
    pub breaches: usize,
}

impl LimitConfig {
    /// Default for [`LimitConfig::queries`]. Source: most of them wait for their turn, which takes 2 kB each.
    pub const DEFAULT_QUERIES: usize = 10_000;
    /// Default for [`LimitConfig::requests`]. Source: 512 answers per round trip of 100 ms are more than one core
    /// handles.
    pub const DEFAULT_REQUESTS: usize = 512;
    /// Default for [`LimitConfig::inbound`]. Source: 64 peers with a full share
    /// ([`DEFAULT_INBOUND_PER_PEER`](Self::DEFAULT_INBOUND_PER_PEER)).
    pub const DEFAULT_INBOUND: usize = 4_096;
    /// Default for [`LimitConfig::inbound_per_peer`]. Source: a peer has at most 32 streams, one request each.
    pub const DEFAULT_INBOUND_PER_PEER: usize = 64;
    /// Default for [`LimitConfig::address_book`]. Source: with two addresses each this is 0.9 MB, and with the 2 KiB of
    /// addresses that are kept of a peer 8 MiB.
    pub const DEFAULT_ADDRESS_BOOK: usize = 4_096;
    /// Default for [`LimitConfig::back_offs`]. Source: as many as the address book remembers.
    pub const DEFAULT_BACK_OFFS: usize = 4_096;
    /// Default for [`LimitConfig::candidates`]. Source: the bounded check-before-add queue of zikade, 128.
    pub const DEFAULT_CANDIDATES: usize = 128;
    /// Default for [`LimitConfig::frontier`]. Source: k peers that each name k others fill it once over.
    pub const DEFAULT_FRONTIER: usize = 512;
    /// Default for [`LimitConfig::lookup_bytes`]: 64 KiB. Source: 250 peers with addresses as they are common, or 80
    /// with the longest; a lookup asks about 30.
    pub const DEFAULT_LOOKUP_BYTES: usize = 64 * 1024;
    /// Default for [`LimitConfig::query_bytes`]: 8 MiB. Source: the lookups of 128 queries, which are enough for the 512
    /// requests that may be in flight.
    pub const DEFAULT_QUERY_BYTES: usize = 8 * 1024 * 1024;
    /// Default for [`LimitConfig::providers_per_query`]. Source: k peers that each name 20 are 400; more than twice
    /// that leaves room for implementations that keep more.
    pub const DEFAULT_PROVIDERS_PER_QUERY: usize = 1_000;
    /// Default for [`LimitConfig::bans`]. Source: as many as the address book remembers.
    pub const DEFAULT_BANS: usize = 4_096;
    /// Default for [`LimitConfig::breaches`]. Source: a peer that breaks a rule twice a minute is no accident.
    pub const DEFAULT_BREACHES: usize = 10;
}

impl LimitConfig {
    /// Maximum number of queries that ask peers at a time.
    pub(crate) fn queries_that_ask(&self) -> usize {
        self.query_bytes / self.lookup_bytes.max(1)
    }
}

impl Default for LimitConfig {
    fn default() -> LimitConfig {
        LimitConfig {
            queries: Self::DEFAULT_QUERIES,
            requests: Self::DEFAULT_REQUESTS,
            inbound: Self::DEFAULT_INBOUND,
            inbound_per_peer: Self::DEFAULT_INBOUND_PER_PEER,
            address_book: Self::DEFAULT_ADDRESS_BOOK,
            back_offs: Self::DEFAULT_BACK_OFFS,
            candidates: Self::DEFAULT_CANDIDATES,
            frontier: Self::DEFAULT_FRONTIER,
            lookup_bytes: Self::DEFAULT_LOOKUP_BYTES,
            query_bytes: Self::DEFAULT_QUERY_BYTES,
            providers_per_query: Self::DEFAULT_PROVIDERS_PER_QUERY,
            bans: Self::DEFAULT_BANS,
            breaches: Self::DEFAULT_BREACHES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(DhtConfig::default().validate(), Ok(()));
    }

    #[test]
    fn intervals_follow_from_lifetimes_unless_they_are_set_and_what_cannot_work_names_both_fields() {
        let times = |config: &DhtConfig| {
            [config.announce_interval(), config.region_interval(), config.replicate_interval()].map(Option::unwrap)
        };
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let mut config = DhtConfig::default();
        assert_eq!(times(&config), [22 * 60, 60, 60].map(minutes));
        config.record.value_ttl = minutes(60);
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(
            times(&config),
            [27 * 60 + 30, 6 * 60 + 52, 15 * 60]
                .map(|secs| Duration::from_millis(secs * 1_000 + if secs == 412 { 500 } else { 0 }))
        );
        config.record.provider_ttl = minutes(24);
        assert_eq!(config.announce_interval(), Some(minutes(11)), "the shorter lifetime counts");
        config.maintenance.announce_interval = Interval::Every(minutes(24));
        assert_eq!((config.validate(), config.announce_interval()), (Ok(()), Some(minutes(18))), "before it ends");
        let refused = |interval, ttl| Err(ConfigError::Greater(interval, ttl));
        config.maintenance.announce_interval = Interval::Every(minutes(25));
        assert_eq!(config.validate(), refused("maintenance.announce_interval", "record.provider_ttl"));
        config.maintenance.announce_interval = Interval::Every(minutes(61));
        assert_eq!(config.validate(), refused("maintenance.announce_interval", "record.value_ttl"));
        config.maintenance.announce_interval = Interval::Never;
        config.maintenance.replicate_interval = Interval::Every(minutes(61));
        assert_eq!(config.validate(), refused("maintenance.replicate_interval", "record.value_ttl"));
        (config.record.value_ttl, config.record.provider_ttl) = (Duration::MAX, Duration::MAX);
        assert_eq!((config.validate(), config.region_interval()), (Ok(()), Some(minutes(60))));
    }

    #[test]
    fn errors_name_the_field() {
        let mut config = DhtConfig::default();
        config.lookup.query_timeout = Duration::ZERO;
        assert_eq!(config.validate(), Err(ConfigError::Zero("lookup.query_timeout")));
        let mut config = DhtConfig::default();
        config.lookup.min_request_timeout = Duration::from_secs(11);
        assert!(matches!(config.validate(), Err(ConfigError::Greater("lookup.min_request_timeout", _))));
        let mut config = DhtConfig::default();
        config.maintenance.refresh_interval = Some(Duration::from_nanos(999));
        assert_eq!(config.validate(), Err(ConfigError::Zero("maintenance.refresh_interval")));
        type Change = fn(&mut MaintenanceConfig);
        let changes: [(&str, Change); 3] = [
            ("maintenance.announce_interval", |m| m.announce_interval = Interval::Every(Duration::ZERO)),
            ("maintenance.region_interval", |m| m.region_interval = Interval::Every(Duration::ZERO)),
            ("maintenance.replicate_interval", |m| m.replicate_interval = Interval::Every(Duration::ZERO)),
        ];
        for (name, change) in changes {
            let mut config = DhtConfig::default();
            change(&mut config.maintenance);
            assert_eq!(config.validate(), Err(ConfigError::Zero(name)));
        }
        let mut config = DhtConfig::default();
        config.limit.frontier = 19;
        assert_eq!(config.validate(), Err(ConfigError::Greater("lookup.replication", "limit.frontier")));
        let diversity = |change: fn(&mut DiversityConfig)| {
            let mut diversity = DiversityConfig::default();
            change(&mut diversity);
            let mut config = DhtConfig::default();
            config.routing.diversity = Some(diversity);
            config.validate()
        };
        assert_eq!(diversity(|_| {}), Ok(()));
        let greater = Err(ConfigError::Greater("routing.diversity.per_bucket", "routing.diversity.per_table"));
        assert_eq!(diversity(|d| d.per_table = NonZeroUsize::MIN), greater);
        let zero = Err(ConfigError::Zero("routing.diversity.newcomers_within"));
        assert_eq!(diversity(|d| d.newcomers_within = Duration::ZERO), zero);
        let mut config = DhtConfig::default();
        config.limit.queries = 0;
        assert_eq!(config.validate(), Err(ConfigError::Zero("limit.queries")));
    }
}

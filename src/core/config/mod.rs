//! Every parameter of the core, its default with the source, and what cannot work.
//!
//! Knows: numbers. Must not know: who reads them. Sizes of messages, streams and dials belong to the driver.

mod diversity;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

pub use diversity::{
    DEFAULT_NEWCOMERS, DEFAULT_NEWCOMERS_WITHIN, DEFAULT_PER_ANSWER, DEFAULT_PER_BUCKET, DEFAULT_PER_TABLE,
    DEFAULT_SETTLING, DiversityConfig,
};

use super::address_policy::AddressPolicy;
use super::error::ConfigError;
use super::quorum::Quorum;
use super::validate::{AcceptAny, Validator};

/// Default k: how many peers keep a record, and how many a bucket holds. Source: libp2p specification, rule L1.
pub const DEFAULT_REPLICATION: NonZeroUsize = NonZeroUsize::new(20).unwrap();
/// Default α: how many requests of one lookup are in flight while it searches. Source: IPFS specification, rule A36.
pub const DEFAULT_PARALLELISM: NonZeroUsize = NonZeroUsize::new(10).unwrap();
/// Default β: how many of the closest peers must have answered to end the search. Source: IPFS specification, A34.
pub const DEFAULT_RESILIENCY: NonZeroUsize = NonZeroUsize::new(3).unwrap();
/// Default time of a query. Source: libp2p-kad's default, 60 s.
pub const DEFAULT_QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time that one request gets from its first byte. Source: the 10 s read timeout of the Go implementation.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that a dial gets before what waits for it fails. Source: the 10 s after which libp2p's transports give up.
pub const DEFAULT_DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The shortest time that one request gets, however fast peers were so far. Source: a TCP retransmission on a fresh
/// connection costs 1 s (RFC 6298), and the peer may be dialling too.
pub const DEFAULT_MIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Default for [`RecordConfig::max_value_len`]: 11 KiB. Source: with its key in the message and once more in the record
/// it fits into the 16 KiB that every known implementation reads; an IPNS record has 10 KiB at most.
pub const DEFAULT_MAX_VALUE_LEN: usize = 11 * 1024;
/// Default lifetime of a value that another node stored here. Source: rule L20, 48 h.
pub const DEFAULT_VALUE_TTL: Duration = Duration::from_secs(48 * 3600);
/// A copy that would live for less than this is not left on the path of a get: 1 min. Source: a store costs a request
/// whatever it is worth, and within a minute few keys are read twice along the same path.
pub const MIN_CACHE_TTL: Duration = Duration::from_secs(60);
/// Default lifetime of a provider record. Source: rule A47, 48 h.
pub const DEFAULT_PROVIDER_TTL: Duration = Duration::from_secs(48 * 3600);
/// Default lifetime of a provider's addresses. Source: rule A49, 24 h.
pub const DEFAULT_PROVIDER_ADDR_TTL: Duration = Duration::from_secs(24 * 3600);
/// The longest key of a provider record. Source: rule A43, 80 bytes.
pub const MAX_PROVIDER_KEY_LEN: usize = 80;
/// The longest key of a value or target of a lookup: 2 KiB. Source: real keys are below 100 bytes; what is longer
/// would not leave room for the answer in a message that every peer can read.
pub const MAX_KEY_LEN: usize = 2048;
/// Default for [`LimitConfig::queries`]. Source: at about 8 kB a lookup this is 80 MB.
pub const DEFAULT_MAX_QUERIES: usize = 10_000;
/// Default for [`LimitConfig::requests`]. Source: 512 answers a round trip of 100 ms are more than one core works through.
pub const DEFAULT_MAX_REQUESTS: usize = 512;
/// Default for [`LimitConfig::inbound`]. Source: 64 peers would have to use up their share
/// ([`DEFAULT_MAX_INBOUND_PER_PEER`]) before others are turned away.
pub const DEFAULT_MAX_INBOUND: usize = 4_096;
/// Default for [`LimitConfig::inbound_per_peer`]. Source: a peer has at most 32 streams, one request each.
pub const DEFAULT_MAX_INBOUND_PER_PEER: usize = 64;
/// Default for [`LimitConfig::address_book`]. Source: with a few addresses each this is 2 MB, and with the most and longest
/// that a contact holds ([`MAX_ADDRS`](super::MAX_ADDRS) of [`MAX_ADDR_LEN`](super::MAX_ADDR_LEN) bytes) 64 MiB.
pub const DEFAULT_ADDRESS_BOOK: usize = 4_096;
/// Default for [`LimitConfig::back_offs`]. Source: as many as addresses are remembered of.
pub const DEFAULT_BACK_OFFS: usize = DEFAULT_ADDRESS_BOOK;
/// Default for [`LimitConfig::candidates`]. Source: the bounded check-before-add queue of zikade, 128.
pub const DEFAULT_CANDIDATES: usize = 128;
/// Default for [`LimitConfig::frontier`]. Source: k peers each naming k others fill it once over.
pub const DEFAULT_FRONTIER: usize = 512;
/// Default for [`LimitConfig::providers_per_query`]. Source: k peers that each name [`DEFAULT_REPLICATION`] are 400; more
/// than twice that leaves room for implementations that keep more.
pub const DEFAULT_PROVIDERS_PER_QUERY: usize = 1_000;
/// Default for [`BackOffConfig::base`]: 5 s. Source: go-libp2p's swarm.
pub const DEFAULT_BACK_OFF_BASE: Duration = Duration::from_secs(5);
/// Default for [`BackOffConfig::max`]: 5 min. Source: go-libp2p's swarm.
pub const DEFAULT_BACK_OFF_MAX: Duration = Duration::from_secs(300);
/// Default for [`MaintenanceConfig::probes`]. Source: zikade checks 3 candidates at a time.
pub const DEFAULT_PROBES: usize = 3;
/// Default for [`MaintenanceConfig::check_interval`]. Source: rule A24 gives 5 min as an example; with twice that one entry
/// in fifty is dead in a network with the sessions of IPFS nodes, for half the requests.
pub const DEFAULT_CHECK_INTERVAL: Duration = Duration::from_secs(600);
/// Default for [`MaintenanceConfig::refresh_interval`]. Source: rule L27, 10 min.
pub const DEFAULT_REFRESH_INTERVAL: Duration = Duration::from_secs(600);
/// Default for [`MaintenanceConfig::announce_interval`] where records live for 48 h or longer; with shorter lifetimes it is
/// the same part of the shorter one. Source: rules L20 and A48, 22 h.
pub const DEFAULT_ANNOUNCE_INTERVAL: Duration = Duration::from_secs(22 * 3600);
/// Default for [`MaintenanceConfig::region_interval`]. Source: half of the nodes of a network with sessions of median
/// 1 h are others after it; of k = 20 holders the next look finds 10.
pub const DEFAULT_REGION_INTERVAL: Duration = Duration::from_secs(3600);
/// Default for [`MaintenanceConfig::replicate_interval`]. Source: the Kademlia paper, section 2.5, 1 h.
pub const DEFAULT_REPLICATE_INTERVAL: Duration = Duration::from_secs(3600);

/// Default for [`MaintenanceConfig::replicate_bytes`]. Source: as many bytes of values as a store in memory keeps by default,
/// each stored again once an hour by one of its 20 holders at the 19 others; it is 75 kbit/s.
pub const DEFAULT_REPLICATE_BYTES: usize = 32 * 1024 * 1024;

/// Default for [`MaintenanceConfig::snapshot_interval`]. Source: half of the sessions in the IPFS network are longer
/// than this by far, so that most of the peers of a table this old are there.
pub const DEFAULT_SNAPSHOT_INTERVAL: Duration = Duration::from_secs(600);

/// All parameters of a node's core.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct DhtConfig {
    /// How lookups walk.
    pub lookup: LookupConfig,
    /// What the routing table holds.
    pub routing: RoutingConfig,
    /// What records are and how long they live.
    pub record: RecordConfig,
    /// What the node does of its own accord.
    pub maintenance: MaintenanceConfig,
    /// How long a peer that failed is left alone.
    pub back_off: BackOffConfig,
    /// What others can make grow, and how far.
    pub limit: LimitConfig,
    /// Which addresses the node keeps, dials and tells. Default: [`AddressPolicy::Any`], since a private network knows
    /// best where its nodes are; the preset of the public network sets [`AddressPolicy::Public`] (rules A19 and A31).
    pub address_policy: AddressPolicy,
}

impl DhtConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// Names the first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (lookup, record, maintenance, limit) = (&self.lookup, &self.record, &self.maintenance, &self.limit);
        nonzero_times([
            ("lookup.query_timeout", lookup.query_timeout),
            ("lookup.min_request_timeout", lookup.min_request_timeout),
            ("lookup.dial_timeout", lookup.dial_timeout),
            ("record.value_ttl", record.value_ttl),
            ("record.provider_ttl", record.provider_ttl),
            ("record.provider_addr_ttl", record.provider_addr_ttl),
        ])?;
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
        nonzero_times(intervals.into_iter().filter_map(|(name, interval)| Some((name, interval?))))?;
        let (value_ttl, provider_ttl) =
            (("record.value_ttl", record.value_ttl), ("record.provider_ttl", record.provider_ttl));
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
        at_most(("lookup.replication", lookup.replication.get()), ("limit.frontier", limit.frontier))?;
        at_most(("back_off.base", self.back_off.base), ("back_off.max", self.back_off.max))?;
        self.routing.diversity.as_ref().map_or(Ok(()), DiversityConfig::validate)
    }
}

impl DhtConfig {
    /// How often what this node published is announced again: as set, but early enough that nothing ends in between.
    pub(crate) fn announce_interval(&self) -> Option<Duration> {
        let ttl = self.record.value_ttl.min(self.record.provider_ttl);
        let by_itself = DEFAULT_ANNOUNCE_INTERVAL.min(ttl / 24 * 11);
        Some(self.maintenance.announce_interval.or(by_itself)?.min(ttl / 4 * 3))
    }

    /// How often this node looks who is closest to what it published: at least four times before that is
    /// announced again.
    pub(crate) fn region_interval(&self) -> Option<Duration> {
        let longest = self.announce_interval().map_or(Duration::MAX, |announce| announce / 4);
        Some(self.maintenance.region_interval.or(DEFAULT_REGION_INTERVAL)?.min(longest))
    }

    /// After what time without a store a value of another node is stored again.
    pub(crate) fn replicate_interval(&self) -> Option<Duration> {
        self.maintenance.replicate_interval.or(DEFAULT_REPLICATE_INTERVAL.min(self.record.value_ttl / 4))
    }
}

/// How often a node does something for records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no fourth")]
pub enum Interval {
    /// As often as the lifetimes of records ask for.
    #[default]
    Auto,
    /// This often.
    Every(Duration),
    /// Never.
    Never,
}

impl Interval {
    /// The time that was set, if one was.
    fn set(self) -> Option<Duration> {
        if let Interval::Every(time) = self { Some(time) } else { None }
    }

    /// The time, where it follows from something else unless it was set; `None` for never.
    fn or(self, auto: Duration) -> Option<Duration> {
        match self {
            Interval::Auto => Some(auto),
            Interval::Every(time) => Some(time),
            Interval::Never => None,
        }
    }
}

/// Refuses the first of these fields that is zero.
pub(crate) fn nonzero<T: Default + PartialEq>(
    fields: impl IntoIterator<Item = (&'static str, T)>,
) -> Result<(), ConfigError> {
    let zero = fields.into_iter().find(|(_, value)| *value == T::default());
    zero.map_or(Ok(()), |(name, _)| Err(ConfigError::Zero(name)))
}

/// The same for times, which are counted in microseconds: what is shorter is none.
fn nonzero_times(fields: impl IntoIterator<Item = (&'static str, Duration)>) -> Result<(), ConfigError> {
    nonzero(fields.into_iter().map(|(name, time)| (name, time.as_micros())))
}

/// Refuses a field that is greater than another.
pub(crate) fn at_most<T: PartialOrd>(field: (&'static str, T), most: (&'static str, T)) -> Result<(), ConfigError> {
    if field.1 > most.1 { Err(ConfigError::Greater(field.0, most.0)) } else { Ok(()) }
}

/// How lookups walk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LookupConfig {
    /// k: how many closest peers a lookup finds and a publication reaches. Default: [`DEFAULT_REPLICATION`].
    pub replication: NonZeroUsize,
    /// α: requests in flight while a lookup searches. Default: [`DEFAULT_PARALLELISM`].
    pub parallelism: NonZeroUsize,
    /// β: how many of the closest must have answered before the rest of the k closest are asked at once.
    /// Default: [`DEFAULT_RESILIENCY`].
    pub resiliency: NonZeroUsize,
    /// d: along how many disjoint paths a lookup walks (S/Kademlia). More of them stand up to more peers that lie, for
    /// up to half as many requests again. Default: one.
    pub paths: NonZeroUsize,
    /// The time of a query in all. Default: [`DEFAULT_QUERY_TIMEOUT`].
    pub query_timeout: Duration,
    /// The longest time of one request, from its first byte. Default: [`DEFAULT_REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
    /// The longest time of a dial. Default: [`DEFAULT_DIAL_TIMEOUT`].
    pub dial_timeout: Duration,
    /// The shortest time of one request. Default: [`DEFAULT_MIN_REQUEST_TIMEOUT`].
    pub min_request_timeout: Duration,
}

impl Default for LookupConfig {
    fn default() -> LookupConfig {
        LookupConfig {
            replication: DEFAULT_REPLICATION,
            parallelism: DEFAULT_PARALLELISM,
            resiliency: DEFAULT_RESILIENCY,
            paths: NonZeroUsize::MIN,
            query_timeout: DEFAULT_QUERY_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            dial_timeout: DEFAULT_DIAL_TIMEOUT,
            min_request_timeout: DEFAULT_MIN_REQUEST_TIMEOUT,
        }
    }
}

/// What the routing table holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RoutingConfig {
    /// How many peers a bucket holds. Default: [`DEFAULT_REPLICATION`].
    pub bucket_size: NonZeroUsize,
    /// W: bucket `i` holds `W >> i` peers where that is more than `bucket_size`. A few hundred entries more buy
    /// lookups fewer hops (measured for 25,000 nodes: 256 saves 0.29 of 1.93). Default: 0, plain buckets.
    pub wide_low_buckets: usize,
    /// How many entries the peers of one operator may be. Default: no limit, right where nobody has to be feared and many
    /// are in one network; the public preset has [`DiversityConfig::default`].
    pub diversity: Option<DiversityConfig>,
}

impl Default for RoutingConfig {
    fn default() -> RoutingConfig {
        RoutingConfig { bucket_size: DEFAULT_REPLICATION, wide_low_buckets: 0, diversity: None }
    }
}

/// What records are and how long they live.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordConfig {
    /// Decides which values are valid. Default: [`AcceptAny`].
    pub validator: Arc<dyn Validator>,
    /// The longest value in bytes that this node publishes; a longer one is refused before anything is kept.
    /// Default: [`DEFAULT_MAX_VALUE_LEN`].
    pub max_value_len: usize,
    /// The longest that a value of another node is kept. Default: [`DEFAULT_VALUE_TTL`].
    pub value_ttl: Duration,
    /// How long a provider record is kept. Default: [`DEFAULT_PROVIDER_TTL`].
    pub provider_ttl: Duration,
    /// How long the addresses of a provider are kept. Default: [`DEFAULT_PROVIDER_ADDR_TTL`].
    pub provider_addr_ttl: Duration,
    /// How many holders of a value a get waits for, the local one included. Default: one.
    pub read_quorum: Quorum,
    /// How many peers must acknowledge a put or a provide. Default: one.
    pub write_quorum: Quorum,
    /// Whether a get leaves a copy at the closest peer that answered without the value, where that is none of the k
    /// closest. The copy lives the shorter the more nodes are nearer to the key, and never longer than the value.
    /// Default: yes. Source: the Kademlia paper, §4.1.
    pub path_caching: bool,
}

impl Default for RecordConfig {
    fn default() -> RecordConfig {
        RecordConfig {
            validator: Arc::new(AcceptAny),
            max_value_len: DEFAULT_MAX_VALUE_LEN,
            value_ttl: DEFAULT_VALUE_TTL,
            provider_ttl: DEFAULT_PROVIDER_TTL,
            provider_addr_ttl: DEFAULT_PROVIDER_ADDR_TTL,
            read_quorum: Quorum::One,
            write_quorum: Quorum::One,
            path_caching: true,
        }
    }
}

/// What the node does of its own accord.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MaintenanceConfig {
    /// How many candidates for the routing table are probed at a time, and how many of its entries beside them. Default:
    /// [`DEFAULT_PROBES`].
    pub probes: usize,
    /// After what time without a sign of life an entry of the routing table is asked whether it is there, or after half of
    /// it if another peer waits for a place in its bucket; `None` for never, and then entries that failed are not tried
    /// again either unless a lookup meets them. Default: [`DEFAULT_CHECK_INTERVAL`].
    pub check_interval: Option<Duration>,
    /// After what time without a lookup a part of the table is looked into, up to half as long later so that parts and
    /// nodes do not stay in step, and the second time after a third of that; `None` for never, and then the node does not
    /// join by itself either. Whatever it is, a node looks for itself when its first peer answers, and in a network of
    /// fewer than k after 1, 2, 4 … s until it finds the same peers again. Default: [`DEFAULT_REFRESH_INTERVAL`].
    pub refresh_interval: Option<Duration>,
    /// How often the peers of a routing table that changes are kept for the next start, by a store that outlives the
    /// process: the first at once, then after 1, 2, 4 … s up to this, and when the node is dropped; `None` for never. Default: [`DEFAULT_SNAPSHOT_INTERVAL`].
    pub snapshot_interval: Option<Duration>,
    /// How often what this node published is announced again to the k closest, a part of an eighth sooner so that
    /// nodes and keys do not stay in step. It must not be longer than `record.value_ttl` and `record.provider_ttl`, and
    /// where it is longer than three quarters of one, that is what counts. Default: [`Interval::Auto`], 11/24 of the shorter
    /// lifetime, [`DEFAULT_ANNOUNCE_INTERVAL`] at most.
    pub announce_interval: Interval,
    /// How often this node looks who is closest to what it published, and announces it to those who are so newly, but at
    /// least four times before it is announced again to all. Default: [`Interval::Auto`],
    /// [`DEFAULT_REGION_INTERVAL`].
    pub region_interval: Interval,
    /// After what time without a store a value of another node is stored again at the closest, while this node is one
    /// of them and a server; where it is never, newcomers get nothing from this node either. It must not be longer than
    /// `record.value_ttl`. Default: [`Interval::Auto`], a quarter of `record.value_ttl`, [`DEFAULT_REPLICATE_INTERVAL`] at
    /// most.
    pub replicate_interval: Interval,
    /// Maximum bytes of keys and values that this node sends in an hour to keep what others published: those that it stores
    /// again, and those that it brings to newcomers, of whom each has at most a quarter of what is left. What does not fit
    /// is left to the other holders. Default: [`DEFAULT_REPLICATE_BYTES`].
    pub replicate_bytes: usize,
}

impl Default for MaintenanceConfig {
    fn default() -> MaintenanceConfig {
        MaintenanceConfig {
            probes: DEFAULT_PROBES,
            check_interval: Some(DEFAULT_CHECK_INTERVAL),
            refresh_interval: Some(DEFAULT_REFRESH_INTERVAL),
            snapshot_interval: Some(DEFAULT_SNAPSHOT_INTERVAL),
            announce_interval: Interval::Auto,
            region_interval: Interval::Auto,
            replicate_interval: Interval::Auto,
            replicate_bytes: DEFAULT_REPLICATE_BYTES,
        }
    }
}

/// How long a peer is left alone that could not be dialled, or that failed repeatedly with nothing answered in between.
/// Its answer ends it; so do a connection, if a dial failed, a new address, and naming the peer again. A query that would
/// have asked the peer goes on without it and says so in its [`Report`](super::error::Report).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackOffConfig {
    /// After its first failure, and up to a quarter longer so that nodes do not stay in step; twice as long after each
    /// further one, half as long while nobody at all answers. Zero holds nobody back. Default: [`DEFAULT_BACK_OFF_BASE`].
    pub base: Duration,
    /// The longest, but for that quarter. Default: [`DEFAULT_BACK_OFF_MAX`].
    pub max: Duration,
}

impl Default for BackOffConfig {
    fn default() -> BackOffConfig {
        BackOffConfig { base: DEFAULT_BACK_OFF_BASE, max: DEFAULT_BACK_OFF_MAX }
    }
}

/// What others can make grow, and how far. A test fills each.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LimitConfig {
    /// Queries at once; one more is refused as busy. The corrections after a get count, and give way.
    /// Default: [`DEFAULT_MAX_QUERIES`].
    pub queries: usize,
    /// Requests of queries in flight at once, late ones left out; those beyond wait for their turn. The node begins with 64
    /// and allows itself more, up to this, while it and its peers keep up, and fewer, down to α, while they do not.
    /// Default: [`DEFAULT_MAX_REQUESTS`].
    pub requests: usize,
    /// Inbound requests that wait for the store; one more is reset. Default: [`DEFAULT_MAX_INBOUND`].
    pub inbound: usize,
    /// The same of one peer. Default: [`DEFAULT_MAX_INBOUND_PER_PEER`].
    pub inbound_per_peer: usize,
    /// Peers outside the routing table whose addresses are remembered; the oldest are forgotten first.
    /// Default: [`DEFAULT_ADDRESS_BOOK`].
    pub address_book: usize,
    /// Peers whose failures are remembered; the one whose back-off is over soonest is forgotten first.
    /// Default: [`DEFAULT_BACK_OFFS`].
    pub back_offs: usize,
    /// Peers that wait to be probed before they enter the routing table; one more is dropped and can come again.
    /// Default: [`DEFAULT_CANDIDATES`].
    pub candidates: usize,
    /// Peers that one lookup remembers; the farthest unasked are forgotten first. A lookup over d > 1 paths remembers so
    /// many on each of them, on each of up to d/2 second opinions, and as many again while it joins them: up to 3 d times
    /// as many. Default: [`DEFAULT_FRONTIER`].
    pub frontier: usize,
    /// Providers that one query reports. Default: [`DEFAULT_PROVIDERS_PER_QUERY`].
    pub providers_per_query: usize,
}

impl Default for LimitConfig {
    fn default() -> LimitConfig {
        LimitConfig {
            queries: DEFAULT_MAX_QUERIES,
            requests: DEFAULT_MAX_REQUESTS,
            inbound: DEFAULT_MAX_INBOUND,
            inbound_per_peer: DEFAULT_MAX_INBOUND_PER_PEER,
            address_book: DEFAULT_ADDRESS_BOOK,
            back_offs: DEFAULT_BACK_OFFS,
            candidates: DEFAULT_CANDIDATES,
            frontier: DEFAULT_FRONTIER,
            providers_per_query: DEFAULT_PROVIDERS_PER_QUERY,
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

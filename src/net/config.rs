//! The configuration of a node on libp2p, with the defaults of three kinds of network.
//!
//! Knows: the parts and their defaults. Must not know: the code that reads them.
//!
//! A node of a private network serves by default: with the automatic mode of libp2p-kad every first program of two
//! nodes fails. A configuration is checked once, where it is first used, with an error that names the field. *Dropped:*
//! panicking, or checking each setter.
//!
//! The public network refuses a validator that accepts any value: it is tried with a key without a namespace.
//! *Dropped:* checking the type of the validator, which a wrapper hides.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use libp2p_swarm::StreamProtocol;

use super::stream::{StreamConfig, within_max_time};
use crate::core::config::{DiversityConfig, nonzero};
use crate::core::{self, AddressPolicy, ConfigError, Mode, RecordKey, Timestamp, Validator};

/// The protocol of the public IPFS network.
pub const AMINO_PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/kad/1.0.0");
/// The protocol of the local networks beside the public IPFS network (rule A3).
pub const LAN_PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/lan/kad/1.0.0");

/// The configuration of a [`Behaviour`](super::Behaviour).
///
/// [`Config::new`] is right for a private network, `Config::amino` (feature `validators`) for the public IPFS network
/// and `Config::lan` for the local one beside it. Every option has a documented default. A configuration that cannot
/// work is refused when the behaviour is made, with the name of the field.
///
/// ```
/// # use libp2p_kad_dht::{Config, DhtConfig, HashedValues, Mode};
/// # use libp2p_swarm::StreamProtocol;
/// let mut core = DhtConfig::default();
/// core.record.path_caching = false;
/// let config = Config::new(StreamProtocol::new("/my-app/kad/1.0.0"))
///     .with_core(core)
///     .with_validator(std::sync::Arc::new(HashedValues))
///     .with_mode(Some(Mode::Client));
/// # config.validate().unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    core: core::DhtConfig,
    stream: StreamConfig,
    dial: DialConfig,
    mode: Option<Mode>,
    server_hold: Duration,
    /// Whether a node with the public network's name may take values that it cannot check.
    unchecked_values: bool,
    seed: Option<[u8; 32]>,
}

impl Config {
    /// Default for [`Config::with_server_hold`]: 2 min. Source: AutoNAT, in Go and in Rust, tries an address again
    /// after 90 s and gives a probe 30 s, so that a node whose address changed or whose probe failed once has another
    /// confirmed address by then.
    pub const DEFAULT_SERVER_HOLD: Duration = Duration::from_secs(120);

    /// For a private network with this protocol name, such as `/my-app/kad/1.0.0`: all nodes of the network have the
    /// same, and no other network has it (rules A2 and A4).
    ///
    /// Every value is accepted ([`AcceptAny`](crate::core::AcceptAny)), and the node serves others: if all nodes of a
    /// private network waited for a confirmed external address before they serve, no node would confirm any
    /// (rust-libp2p issues 4194 and 4223). [`Config::with_mode`] changes that.
    pub fn new(protocol: StreamProtocol) -> Config {
        Config {
            core: core::DhtConfig::default(),
            stream: StreamConfig::new([protocol]),
            dial: DialConfig::default(),
            mode: Some(Mode::Server),
            server_hold: Self::DEFAULT_SERVER_HOLD,
            unchecked_values: false,
            seed: None,
        }
    }

    /// For the public IPFS network (rule A1): `/ipfs/kad/1.0.0`, k = 20, values of `/pk` and `/ipns` only
    /// ([`Namespaced::public`](crate::core::Namespaced::public)), provider records of 48 h, automatic mode, limits on
    /// the number of table entries of one operator's peers ([`DiversityConfig`]), and public addresses only
    /// ([`AddressPolicy::Public`]; allow [`AddressPolicy::Any`] for tests on one machine).
    ///
    /// A validator that is set afterwards may add namespaces. One that accepts values under any key, such as
    /// [`AcceptAny`](crate::core::AcceptAny), is refused when the behaviour is made, unless
    /// [`Config::with_unchecked_values`] allows it.
    #[cfg(feature = "validators")]
    pub fn amino() -> Config {
        Config::new(AMINO_PROTOCOL)
            .with_mode(None)
            .with_validator(Arc::new(core::Namespaced::public()))
            .with_diversity(Some(DiversityConfig::default()))
            .with_address_policy(AddressPolicy::Public)
    }

    /// For the local network beside the public IPFS network: `/ipfs/lan/kad/1.0.0`, local addresses and connections
    /// only ([`AddressPolicy::Lan`]), all peers servers (rule A3), and the public network's values.
    /// [`Dual`](super::Dual) runs both in one swarm.
    #[cfg(feature = "validators")]
    pub fn lan() -> Config {
        let config = Config::new(LAN_PROTOCOL).with_address_policy(AddressPolicy::Lan);
        config.with_validator(Arc::new(core::Namespaced::public()))
    }

    /// Sets the protocol names in order of preference.
    #[must_use]
    pub fn with_protocols(mut self, protocols: impl IntoIterator<Item = StreamProtocol>) -> Config {
        self.stream.protocols = protocols.into_iter().collect();
        self
    }

    /// Serves others always (`Some(Mode::Server)`), never (`Some(Mode::Client)`), or while at least one external
    /// address is confirmed (`None`), and [for a while](Config::with_server_hold) after the last one.
    #[must_use]
    pub fn with_mode(mut self, mode: Option<Mode>) -> Config {
        self.mode = mode;
        self
    }

    /// In automatic mode, sets how long the node continues to serve after the last confirmed external address expired,
    /// so that an address that comes and goes does not change the mode each time. With zero the node stops serving at
    /// once. Default: [`DEFAULT_SERVER_HOLD`](Self::DEFAULT_SERVER_HOLD).
    #[must_use]
    pub fn with_server_hold(mut self, hold: Duration) -> Config {
        self.server_hold = hold;
        self
    }

    /// Restricts the addresses that are stored, dialled and sent to others, of peers and of this node. If the
    /// application adds a peer with other addresses, [`Event::AddrsRefused`](super::Event::AddrsRefused) reports them.
    /// Default: [`AddressPolicy::Any`]; the preset of the public network sets [`AddressPolicy::Public`].
    /// [`Config::with_core`] replaces it.
    #[must_use]
    pub fn with_address_policy(mut self, policy: AddressPolicy) -> Config {
        self.core.address_policy = policy;
        self
    }

    /// Allows a validator that accepts values under any key, such as [`AcceptAny`](crate::core::AcceptAny), together
    /// with the public network's protocol name. For a private network that bears this name, which is libp2p-kad's
    /// default; a node of the public network would keep what no other node of it accepts.
    ///
    /// ```
    /// # use libp2p_swarm::StreamProtocol;
    /// # use libp2p_kad_dht::Config;
    /// let config = Config::new(StreamProtocol::new("/ipfs/kad/1.0.0"));
    /// assert!(config.validate().is_err());
    /// assert_eq!(config.with_unchecked_values().validate(), Ok(()));
    /// ```
    #[must_use]
    pub fn with_unchecked_values(mut self) -> Config {
        self.unchecked_values = true;
        self
    }

    /// Sets the validator, which decides whether a value is valid and which of two is better.
    #[must_use]
    pub fn with_validator(mut self, validator: Arc<dyn Validator>) -> Config {
        self.core.record.validator = validator;
        self
    }

    /// Sets k: the number of closest peers that a lookup finds, of peers that store a record, and of entries of a
    /// bucket. All nodes of a network should agree on it.
    #[must_use]
    pub fn with_replication(mut self, k: NonZeroUsize) -> Config {
        self.core.lookup.replication = k;
        self.core.lookup.resiliency = self.core.lookup.resiliency.min(k);
        self.core.routing.bucket_size = k;
        self
    }

    /// Sets α: the number of parallel requests of one lookup while it searches.
    #[must_use]
    pub fn with_parallelism(mut self, alpha: NonZeroUsize) -> Config {
        self.core.lookup.parallelism = alpha;
        self
    }

    /// Limits the number of table entries, and of peers of an answer, within one IP network. `None` sets no limit:
    /// right if all nodes are one operator's.
    #[must_use]
    pub fn with_diversity(mut self, diversity: Option<DiversityConfig>) -> Config {
        self.core.routing.diversity = diversity;
        self
    }

    /// Sets the time limit of a query.
    #[must_use]
    pub fn with_query_timeout(mut self, timeout: Duration) -> Config {
        self.core.lookup.query_timeout = timeout;
        self
    }

    /// Replaces all parameters of the core, and with them what [`with_validator`](Config::with_validator),
    /// [`with_address_policy`](Config::with_address_policy), [`with_replication`](Config::with_replication),
    /// [`with_parallelism`](Config::with_parallelism), [`with_diversity`](Config::with_diversity),
    /// [`with_query_timeout`](Config::with_query_timeout) and the presets have set: call it before those.
    #[must_use]
    pub fn with_core(mut self, core: core::DhtConfig) -> Config {
        self.core = core;
        self
    }

    /// Replaces all parameters of streams except the protocol names.
    #[must_use]
    pub fn with_stream(mut self, stream: StreamConfig) -> Config {
        let protocols = std::mem::take(&mut self.stream.protocols);
        self.stream = StreamConfig { protocols, ..stream };
        self
    }

    /// Replaces all parameters of dialling.
    #[must_use]
    pub fn with_dial(mut self, dial: DialConfig) -> Config {
        self.dial = dial;
        self
    }

    /// Sets the seed of all random choices, for reproducible tests. By default the system provides one.
    #[must_use]
    pub fn with_seed(mut self, seed: [u8; 32]) -> Config {
        self.seed = Some(seed);
        self
    }

    /// The protocol names in order of preference.
    pub fn protocols(&self) -> &[StreamProtocol] {
        &self.stream.protocols
    }

    /// The mode; `None` means automatic.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// The time for which a server without a confirmed external address continues to serve in automatic mode.
    pub fn server_hold(&self) -> Duration {
        self.server_hold
    }

    /// The parameters of the core.
    pub fn core(&self) -> &core::DhtConfig {
        &self.core
    }

    /// The parameters of streams.
    pub fn stream(&self) -> &StreamConfig {
        &self.stream
    }

    /// The parameters of streams, with a limit for requests that fits the values which this node keeps.
    pub(crate) fn stream_in_use(&self) -> StreamConfig {
        let needed =
            self.core.record.max_value_len.saturating_add(2 * core::config::MAX_KEY_LEN + REQUEST_BESIDE_VALUE);
        StreamConfig { max_request_in: self.stream.max_request_in.max(needed), ..self.stream.clone() }
    }

    /// The parameters of dialling.
    pub fn dial(&self) -> &DialConfig {
        &self.dial
    }

    /// The seed, if one was set.
    pub fn seed(&self) -> Option<[u8; 32]> {
        self.seed
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// The first field that cannot work, by name.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.core.validate()?;
        self.stream_in_use().validate()?;
        let lookup = &self.core.lookup;
        within_max_time([
            ("lookup.request_timeout", lookup.request_timeout),
            ("lookup.dial_timeout", lookup.dial_timeout),
            ("lookup.query_timeout", lookup.query_timeout),
        ])?;
        if self.core.record.max_value_len.saturating_add(MESSAGE_BESIDE_VALUE) > self.stream.max_message_out {
            return Err(ConfigError::Greater("record.max_value_len", "stream.max_message_out less 4.5 KiB"));
        }
        // The validator of the public network must not accept a value that it cannot know: this key has no namespace.
        let validator = &self.core.record.validator;
        let unchecked = || validator.validate(Timestamp::ZERO, &RecordKey::from("key"), b"value").is_ok();
        if self.stream.protocols.contains(&AMINO_PROTOCOL) && !self.unchecked_values && unchecked() {
            return Err(ConfigError::Unchecked("record.validator"));
        }
        self.dial.validate()
    }
}

/// Size of a PUT_VALUE that is read, without its value and its keys: more than any implementation adds, in bytes.
const REQUEST_BESIDE_VALUE: usize = 8 * 1024;
/// Maximum size of a PUT_VALUE without its value, in bytes: the key twice, ids and times.
const MESSAGE_BESIDE_VALUE: usize = 2 * core::config::MAX_KEY_LEN + 512;

/// Limits of dials. The time for which a peer that could not be dialled is left alone is an option of the core:
/// [`BackOffConfig`](crate::core::config::BackOffConfig).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialConfig {
    /// Maximum number of parallel dials that a request waits for; further peers wait in order. Dials that outlast all
    /// their requests do not count, up to three times as many. Default: [`DEFAULT_AT_ONCE`](Self::DEFAULT_AT_ONCE).
    pub at_once: NonZeroUsize,
    /// Maximum number of requests that wait for a connection; one more fails as busy.
    /// Default: [`DEFAULT_WAITING`](Self::DEFAULT_WAITING).
    pub waiting: usize,
}

impl Default for DialConfig {
    fn default() -> DialConfig {
        DialConfig { at_once: Self::DEFAULT_AT_ONCE, waiting: Self::DEFAULT_WAITING }
    }
}

impl DialConfig {
    /// 64. Source: three lookups that each ask the 20 closest peers.
    pub const DEFAULT_AT_ONCE: NonZeroUsize = NonZeroUsize::new(64).unwrap();
    /// 30,000. Source: three requests of each of the 10,000 queries that may run.
    pub const DEFAULT_WAITING: usize = 30_000;

    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// The first field that cannot work, by name.
    pub fn validate(&self) -> Result<(), ConfigError> {
        nonzero([("dial.waiting", self.waiting)])
    }
}

#[cfg(feature = "validators")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{AcceptAny, InvalidValue, Namespaced};

    #[test]
    fn all_presets_are_valid() {
        assert_eq!(Config::new(StreamProtocol::new("/app/kad/1.0.0")).validate(), Ok(()));
        assert_eq!(Config::amino().validate(), Ok(()));
        assert_eq!(Config::lan().validate(), Ok(()));
        let one = NonZeroUsize::MIN;
        assert_eq!(Config::amino().with_replication(one).validate(), Ok(()), "β is not left above k");
    }

    #[test]
    fn errors_name_the_field() {
        let config = Config::amino().with_protocols([]);
        assert_eq!(config.validate(), Err(ConfigError::Empty("stream.protocols")));
        let config = Config::amino().with_query_timeout(Duration::ZERO);
        assert_eq!(config.validate(), Err(ConfigError::Zero("lookup.query_timeout")));
        let dial = |change: fn(&mut DialConfig)| {
            let mut dial = DialConfig::default();
            change(&mut dial);
            Config::amino().with_dial(dial).validate()
        };
        assert_eq!(dial(|dial| dial.waiting = 0), Err(ConfigError::Zero("dial.waiting")));
        let mut core = core::DhtConfig::default();
        core.back_off.max = Duration::ZERO;
        let greater = Err(ConfigError::Greater("back_off.base", "back_off.max"));
        assert_eq!(Config::lan().with_core(core).validate(), greater);
    }

    #[test]
    fn a_private_node_serves_and_a_public_one_waits_to_be_reachable() {
        assert_eq!(Config::new(StreamProtocol::new("/app/kad/1.0.0")).mode(), Some(Mode::Server));
        assert_eq!(Config::amino().mode(), None);
        assert_eq!(Config::amino().core().address_policy, AddressPolicy::Public);
        assert_eq!(Config::lan().core().address_policy, AddressPolicy::Lan);
        assert_eq!(Config::new(AMINO_PROTOCOL).core().address_policy, AddressPolicy::Any);
        assert_eq!(Config::lan().mode(), Some(Mode::Server), "all nodes of a local network serve");
    }

    #[test]
    fn the_public_preset_limits_the_entries_of_one_operator() {
        assert!(Config::amino().core().routing.diversity.is_some());
        assert!(Config::new(StreamProtocol::new("/app/kad/1.0.0")).core().routing.diversity.is_none());
        assert!(Config::amino().with_diversity(None).core().routing.diversity.is_none());
        let diversity = DiversityConfig { per_table: NonZeroUsize::MIN, ..DiversityConfig::default() };
        let config = Config::amino().with_diversity(Some(diversity));
        assert!(matches!(config.validate(), Err(ConfigError::Greater("routing.diversity.per_bucket", _))));
    }

    #[test]
    fn the_public_preset_refuses_values_it_cannot_check() {
        let validator = &Config::amino().core.record.validator;
        let check = |key: &str| validator.validate(Timestamp::ZERO, &RecordKey::from(key), b"value");
        assert_eq!(check("/any/key"), Err(InvalidValue::UnknownNamespace));
        assert_eq!(check("/pk/name"), Err(InvalidValue::MalformedKey));
        assert_eq!(check("/ipns/name"), Err(InvalidValue::MalformedKey));
    }

    #[test]
    fn the_public_network_requires_a_validator() {
        let unchecked = Err(ConfigError::Unchecked("record.validator"));
        assert_eq!(Config::amino().with_validator(Arc::new(AcceptAny)).validate(), unchecked);
        assert_eq!(
            Config::amino().with_core(core::DhtConfig::default()).validate(),
            unchecked,
            "the default accepts any value"
        );
        assert_eq!(Config::new(AMINO_PROTOCOL).validate(), unchecked);
        assert_eq!(Config::new(AMINO_PROTOCOL).with_unchecked_values().validate(), Ok(()));
        let text = ConfigError::Unchecked("record.validator").to_string();
        assert!(text.contains("with_unchecked_values"), "the error names the way out: {text}");
        let own = Namespaced::public().with("my-app", Arc::new(AcceptAny));
        assert_eq!(Config::amino().with_validator(Arc::new(own)).validate(), Ok(()));
    }

    #[test]
    fn other_stream_parameters_keep_the_protocol_names() {
        let config = Config::amino().with_stream(StreamConfig::new([]));
        assert_eq!(config.protocols(), [AMINO_PROTOCOL]);
    }
}

//! Everything that a node on libp2p can be told, with the defaults of three kinds of network.
//!
//! Knows: the parts and their defaults. Must not know: who reads them.

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
/// Default for [`DialConfig::at_once`]. Source: three lookups that each ask the 20 closest.
pub const DEFAULT_DIALS_AT_ONCE: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Default for [`DialConfig::waiting`]. Source: three requests of each of the 10,000 queries that may run.
pub const DEFAULT_DIALS_WAITING: usize = 30_000;
/// Default for [`Config::with_server_hold`]: 2 min. Source: AutoNAT, in Go and in Rust, tries an address again after 90 s
/// and gives a probe 30 s, so that a node whose address changed or whose probe failed once has its next one by then.
pub const DEFAULT_SERVER_HOLD: Duration = Duration::from_secs(120);

/// The configuration of a [`Behaviour`](super::Behaviour).
///
/// [`Config::new`] is right for a private network, `Config::amino` (feature `validators`) for the public IPFS network and
/// `Config::lan` for the local one beside it. What is not set keeps its documented default; what cannot work is refused
/// when the behaviour is made, by the name of the field.
#[derive(Clone, Debug)]
pub struct Config {
    core: core::DhtConfig,
    stream: StreamConfig,
    dial: DialConfig,
    mode: Option<Mode>,
    server_hold: Duration,
    seed: Option<[u8; 32]>,
}

impl Config {
    /// For a private network of this protocol name, such as `/my-app/kad/1.0.0`.
    ///
    /// Every value is accepted ([`AcceptAny`](crate::core::AcceptAny)), and the node serves others: in a private
    /// network, nodes that wait for a confirmed external address before they serve find nobody to ask, since nobody
    /// confirms any (rust-libp2p issues 4194 and 4223). [`Config::with_mode`] changes that.
    pub fn new(protocol: StreamProtocol) -> Config {
        Config {
            core: core::DhtConfig::default(),
            stream: StreamConfig::new([protocol]),
            dial: DialConfig::default(),
            mode: Some(Mode::Server),
            server_hold: DEFAULT_SERVER_HOLD,
            seed: None,
        }
    }

    /// For the public IPFS network: `/ipfs/kad/1.0.0`, k = 20, values of `/pk` and `/ipns` alone
    /// ([`Namespaced::public`](crate::core::Namespaced::public)), provider records of 48 h, automatic mode, limits on how
    /// many places in the table one operator's peers get ([`DiversityConfig`]), and public addresses alone
    /// ([`AddressPolicy::Public`]): for tests on one machine, allow [`AddressPolicy::Any`].
    ///
    /// A validator set afterwards may add namespaces. One that takes values under any key, such as
    /// [`AcceptAny`](crate::core::AcceptAny), is refused when the behaviour is made.
    #[cfg(feature = "validators")]
    pub fn amino() -> Config {
        Config::new(AMINO_PROTOCOL)
            .with_mode(None)
            .with_validator(Arc::new(core::Namespaced::public()))
            .with_diversity(Some(DiversityConfig::default()))
            .with_address_policy(AddressPolicy::Public)
    }

    /// For the local network beside the public IPFS network: `/ipfs/lan/kad/1.0.0`, local addresses and connections alone
    /// ([`AddressPolicy::Lan`]), all peers servers (rule A3), and the public network's values.
    /// [`Dual`](super::Dual) runs both in one swarm.
    #[cfg(feature = "validators")]
    pub fn lan() -> Config {
        let config = Config::new(LAN_PROTOCOL).with_address_policy(AddressPolicy::Lan);
        config.with_validator(Arc::new(core::Namespaced::public()))
    }

    /// Speaks the protocol under these names, the preferred one first.
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

    /// In automatic mode, goes on serving for this long after the last confirmed external address expired, so that one
    /// that comes and goes does not change the mode each time. Zero stops at once. Default: [`DEFAULT_SERVER_HOLD`].
    #[must_use]
    pub fn with_server_hold(mut self, hold: Duration) -> Config {
        self.server_hold = hold;
        self
    }

    /// Keeps, dials and tells these addresses alone, of peers and of this node. A peer that the application names with
    /// others is told of by [`Event::AddrsRefused`](super::Event::AddrsRefused). Default: [`AddressPolicy::Any`]; the
    /// preset of the public network sets [`AddressPolicy::Public`]. Part of the core's parameters, which
    /// [`Config::with_core`] replaces.
    #[must_use]
    pub fn with_address_policy(mut self, policy: AddressPolicy) -> Config {
        self.core.address_policy = policy;
        self
    }

    /// Decides with this which values are valid and which of two is better.
    #[must_use]
    pub fn with_validator(mut self, validator: Arc<dyn Validator>) -> Config {
        self.core.record.validator = validator;
        self
    }

    /// Sets k: how many closest peers a lookup finds, how many keep a record, and how many a bucket holds. All nodes of
    /// a network should agree on it.
    #[must_use]
    pub fn with_replication(mut self, k: NonZeroUsize) -> Config {
        self.core.lookup.replication = k;
        self.core.lookup.resiliency = self.core.lookup.resiliency.min(k);
        self.core.routing.bucket_size = k;
        self
    }

    /// Sets α: how many requests of one lookup are under way while it searches.
    #[must_use]
    pub fn with_parallelism(mut self, alpha: NonZeroUsize) -> Config {
        self.core.lookup.parallelism = alpha;
        self
    }

    /// Limits how many entries of the table, and peers of an answer, may be in one network; `None` for no limit, right
    /// where all nodes are one operator's.
    #[must_use]
    pub fn with_diversity(mut self, diversity: Option<DiversityConfig>) -> Config {
        self.core.routing.diversity = diversity;
        self
    }

    /// Gives each query this much time in all.
    #[must_use]
    pub fn with_query_timeout(mut self, timeout: Duration) -> Config {
        self.core.lookup.query_timeout = timeout;
        self
    }

    /// Replaces all parameters of the core.
    #[must_use]
    pub fn with_core(mut self, core: core::DhtConfig) -> Config {
        self.core = core;
        self
    }

    /// Replaces all parameters of streams but the protocol names, which stay.
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

    /// Draws all randomness from this seed, for tests that repeat. By default the system is asked for one.
    #[must_use]
    pub fn with_seed(mut self, seed: [u8; 32]) -> Config {
        self.seed = Some(seed);
        self
    }

    /// The names of the protocol, the preferred one first.
    pub fn protocols(&self) -> &[StreamProtocol] {
        &self.stream.protocols
    }

    /// The mode; `None` means automatic.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// How long a server without a confirmed external address goes on in automatic mode.
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
    /// Names the first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.core.validate()?;
        self.stream.validate()?;
        let lookup = &self.core.lookup;
        within_max_time([
            ("lookup.request_timeout", lookup.request_timeout),
            ("lookup.dial_timeout", lookup.dial_timeout),
            ("lookup.query_timeout", lookup.query_timeout),
        ])?;
        if self.core.record.max_value_len.saturating_add(MESSAGE_BESIDE_VALUE) > self.stream.max_message_out {
            return Err(ConfigError::Greater("record.max_value_len", "stream.max_message_out less 4.5 KiB"));
        }
        if self.stream.protocols.contains(&AMINO_PROTOCOL) && self.takes_unknown_values() {
            return Err(ConfigError::Unchecked("record.validator"));
        }
        self.dial.validate()
    }

    /// Whether the validator takes a value that it cannot know: there is no namespace in its key.
    fn takes_unknown_values(&self) -> bool {
        let verdict = self.core.record.validator.validate(Timestamp::ZERO, &RecordKey::from("key"), b"value");
        verdict.is_ok()
    }
}

/// What a PUT_VALUE has beside its value: the key twice, ids and times.
const MESSAGE_BESIDE_VALUE: usize = 2 * core::config::MAX_KEY_LEN + 512;

/// How peers are dialled. How long one that could not be dialled is left alone is the core's to know:
/// [`BackOffConfig`](crate::core::config::BackOffConfig).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DialConfig {
    /// Dials at once that a request waits for; further peers wait in order. Dials that outlast all their requests do
    /// not count, up to three times as many. Default: [`DEFAULT_DIALS_AT_ONCE`].
    pub at_once: NonZeroUsize,
    /// Requests that wait for a connection; one more ends as busy. Default: [`DEFAULT_DIALS_WAITING`].
    pub waiting: usize,
}

impl Default for DialConfig {
    fn default() -> DialConfig {
        DialConfig { at_once: DEFAULT_DIALS_AT_ONCE, waiting: DEFAULT_DIALS_WAITING }
    }
}

impl DialConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    ///
    /// Names the first field that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        nonzero([("dial.waiting", self.waiting)])
    }
}

#[cfg(all(test, feature = "validators"))]
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
        assert_eq!(Config::lan().mode(), Some(Mode::Server), "all in a local network serve");
    }

    #[test]
    fn the_public_preset_limits_what_one_operator_gets() {
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
    fn the_public_network_is_not_for_those_who_trust() {
        let unchecked = Err(ConfigError::Unchecked("record.validator"));
        assert_eq!(Config::amino().with_validator(Arc::new(AcceptAny)).validate(), unchecked);
        assert_eq!(Config::amino().with_core(core::DhtConfig::default()).validate(), unchecked, "its default trusts");
        assert_eq!(Config::new(AMINO_PROTOCOL).validate(), unchecked);
        let own = Namespaced::public().with("my-app", Arc::new(AcceptAny));
        assert_eq!(Config::amino().with_validator(Arc::new(own)).validate(), Ok(()));
    }

    #[test]
    fn other_stream_parameters_leave_the_protocol_alone() {
        let config = Config::amino().with_stream(StreamConfig::new([]));
        assert_eq!(config.protocols(), [AMINO_PROTOCOL]);
    }
}

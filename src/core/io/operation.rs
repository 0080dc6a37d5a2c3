//! The operations that a node can be asked for, and the options in which one query may differ from the configuration.
//!
//! Knows: names of operations. Must not know: how any of them is carried out.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::core::key::Key;
use crate::core::quorum::Quorum;
use crate::core::record::RecordKey;

/// An operation that a node can be asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Find the peers closest to the key of these bytes.
    ClosestPeers {
        /// Any preimage: a peer id, a multihash, a value's key.
        key: Bytes,
    },
    /// Find a peer's addresses.
    FindPeer {
        /// The peer.
        peer: PeerId,
    },
    /// Find the best value under a key.
    Get {
        /// The key.
        key: RecordKey,
    },
    /// Keep a value here and at the peers closest to its key.
    Put {
        /// The key.
        key: RecordKey,
        /// The value.
        value: Bytes,
    },
    /// Announce to the peers closest to a key that this node provides its content.
    Provide {
        /// The content's multihash.
        key: RecordKey,
    },
    /// Find the providers of some content.
    Providers {
        /// The content's multihash.
        key: RecordKey,
    },
    /// Remove the value kept here. The copies at other peers expire in their time.
    Remove {
        /// The key.
        key: RecordKey,
    },
    /// Stop announcing that this node provides some content; a provide of it that still runs ends as cancelled. The
    /// records at other peers expire in their time.
    StopProviding {
        /// The content's multihash.
        key: RecordKey,
    },
    /// Join the network: look up this node's own key, then a key in every bucket farther away than the closest
    /// neighbour. A bootstrap that is started while another runs joins it, whatever the options of either.
    Bootstrap,
    /// List what is kept here, a page at a time, in order of the keyspace.
    Records {
        /// The key after which to begin; `None` for the start of the keyspace.
        after: Option<Key>,
        /// Maximum number of items; items with one key are not split, so there can be a few more.
        limit: NonZeroUsize,
    },
}

impl Operation {
    /// The kind of its query.
    pub fn kind(&self) -> QueryKind {
        match self {
            Operation::ClosestPeers { .. } => QueryKind::ClosestPeers,
            Operation::FindPeer { .. } => QueryKind::FindPeer,
            Operation::Get { .. } => QueryKind::Get,
            Operation::Put { .. } => QueryKind::Put,
            Operation::Provide { .. } => QueryKind::Provide,
            Operation::Providers { .. } => QueryKind::Providers,
            Operation::Remove { .. } => QueryKind::Remove,
            Operation::StopProviding { .. } => QueryKind::StopProviding,
            Operation::Bootstrap => QueryKind::Bootstrap,
            Operation::Records { .. } => QueryKind::Records,
        }
    }
}

/// The purpose of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum QueryKind {
    /// Finds the peers closest to a key.
    ClosestPeers,
    /// Finds a peer's addresses.
    FindPeer,
    /// Finds a value.
    Get,
    /// Publishes a value.
    Put,
    /// Announces that this node provides some content.
    Provide,
    /// Finds the providers of some content.
    Providers,
    /// Joins the network.
    Bootstrap,
    /// Removes a value kept here.
    Remove,
    /// Stops announcing some content.
    StopProviding,
    /// Lists what is kept here.
    Records,
    /// The node's own: looks into parts of the keyspace, so that its table stays full.
    Refresh,
    /// The node's own: publishes again what the application published.
    Announce,
    /// The node's own: stores values of other nodes again if no other holder did.
    Replicate,
    /// The node's own: brings a newcomer the records that it is close to.
    Bring,
    /// The node's own: after a read, brings its value to those of the closest that held none or an older one.
    Correct,
}

impl QueryKind {
    /// Its name in metrics, spans and what is serialised.
    pub fn name(self) -> &'static str {
        match self {
            QueryKind::ClosestPeers => "closest_peers",
            QueryKind::FindPeer => "find_peer",
            QueryKind::Get => "get",
            QueryKind::Put => "put",
            QueryKind::Provide => "provide",
            QueryKind::Providers => "providers",
            QueryKind::Bootstrap => "bootstrap",
            QueryKind::Remove => "remove",
            QueryKind::StopProviding => "stop_providing",
            QueryKind::Records => "records",
            QueryKind::Refresh => "refresh",
            QueryKind::Announce => "announce",
            QueryKind::Replicate => "replicate",
            QueryKind::Bring => "bring",
            QueryKind::Correct => "correct",
        }
    }
}

impl fmt::Display for QueryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The options in which one query differs from the configuration.
///
/// ```
/// # use libp2p_kad_dht::{QueryOptions, Quorum};
/// let options = QueryOptions::default().with_timeout(std::time::Duration::from_secs(5)).with_quorum(Quorum::Majority);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueryOptions {
    /// The time limit of the whole query. Default: [`LookupConfig::query_timeout`](crate::core::config::LookupConfig).
    pub timeout: Option<Duration>,
    /// The number of holders that a get finds or a publication makes. Default: that of the record configuration.
    pub quorum: Option<Quorum>,
    /// The number of peers or providers that are enough. Ten times k peers at most; more than k take several lookups,
    /// and about two requests a peer. Default: k peers, and as many providers as
    /// [`LimitConfig::providers_per_query`](crate::core::config::LimitConfig) allows.
    pub limit: Option<NonZeroUsize>,
    /// The number of disjoint paths of the lookup. A get along several paths ends when each of them has led to a value
    /// and as many peers hold one as its quorum asks for. Default:
    /// [`LookupConfig::paths`](crate::core::config::LookupConfig).
    pub paths: Option<NonZeroUsize>,
    /// Whether a get asks all of the k closest peers, however many holders it finds before. Default: it ends at its
    /// quorum.
    pub thorough: bool,
    /// The lifetime of a value that is put, here and at other peers, from now on; a second at least. It is announced
    /// again until then. Default: for as long as this node announces it, and at other peers up to
    /// [`RecordConfig::value_ttl`](crate::core::config::RecordConfig) more.
    pub expires_in: Option<Duration>,
    /// Whether a put leaves the value out of this node's own store: then it is not announced again either, and expires
    /// at the peers that took it. The same for a provide [to named peers](QueryOptions::only); any other is kept.
    /// Default: it is kept here.
    pub not_kept: bool,
    /// The peers that a get, a search for providers, a put or a provide asks, and no others: there is no lookup, and
    /// what the peers name is not followed. Their addresses are those that the node knows. Ten times k at most, and none
    /// is replaced. A get reads no value of this node's own then, and corrects none. Default: the k closest to the key.
    pub only: Option<Vec<PeerId>>,
    /// Whether a put or a provide goes out with others: records that are put at about the same time and close together in
    /// the keyspace share the search for their closest peers. It takes a moment longer, and the report has no requests
    /// and names no peer that failed. For what this node keeps and announces; any other goes out alone. Default: alone.
    pub batched: bool,
    /// Whether the query does its own work although an equal one runs: the same operation for the same key with the same
    /// options. Default: it joins that one, and both end with one result. Each has its own time limit, and cancelling
    /// one leaves the other alone. A query that joins misses the steps made before, and a get that starts after a change
    /// of what this node keeps joins none that started before it. What changes something is never shared.
    pub unshared: bool,
    /// Whether to report each step.
    pub progress: bool,
}

impl QueryOptions {
    /// Sets the time limit of the whole query.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> QueryOptions {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the quorum.
    #[must_use]
    pub fn with_quorum(mut self, quorum: Quorum) -> QueryOptions {
        self.quorum = Some(quorum);
        self
    }

    /// Sets the number of peers or providers that are enough.
    #[must_use]
    pub fn with_limit(mut self, limit: NonZeroUsize) -> QueryOptions {
        self.limit = Some(limit);
        self
    }

    /// Sets the number of disjoint paths.
    #[must_use]
    pub fn with_paths(mut self, paths: NonZeroUsize) -> QueryOptions {
        self.paths = Some(paths);
        self
    }

    /// Makes a get ask all of the k closest peers.
    #[must_use]
    pub fn with_all_asked(mut self) -> QueryOptions {
        self.thorough = true;
        self
    }

    /// Sets the lifetime of a value that is put.
    #[must_use]
    pub fn with_expiry_in(mut self, time: Duration) -> QueryOptions {
        self.expires_in = Some(time);
        self
    }

    /// Sets whether this node itself keeps a value that is put.
    #[must_use]
    pub fn with_keep(mut self, keep: bool) -> QueryOptions {
        self.not_kept = !keep;
        self
    }

    /// Sets the peers that are asked, without a lookup.
    #[must_use]
    pub fn with_only(mut self, peers: impl IntoIterator<Item = PeerId>) -> QueryOptions {
        self.only = Some(peers.into_iter().collect());
        self
    }

    /// Makes a put or a provide go out with others.
    #[must_use]
    pub fn with_batching(mut self) -> QueryOptions {
        self.batched = true;
        self
    }

    /// Makes the query do its own work although an equal one runs.
    #[must_use]
    pub fn with_own_work(mut self) -> QueryOptions {
        self.unshared = true;
        self
    }

    /// Makes the query report each step.
    #[must_use]
    pub fn with_progress(mut self) -> QueryOptions {
        self.progress = true;
        self
    }
}

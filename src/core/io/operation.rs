//! What a node can be asked to do, and how one query may differ from what the configuration says.
//!
//! Knows: names of operations. Must not know: how any of them is done.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;

use crate::core::key::Key;
use crate::core::quorum::Quorum;
use crate::core::record::RecordKey;

/// What a node can be asked to do.
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
    /// Tell the peers closest to a key that this node provides its content.
    Provide {
        /// The content's multihash.
        key: RecordKey,
    },
    /// Find who provides some content.
    Providers {
        /// The content's multihash.
        key: RecordKey,
    },
    /// Forget the value kept here. Peers that keep it forget it when its time is over.
    Remove {
        /// The key.
        key: RecordKey,
    },
    /// Stop announcing that this node provides some content; a provide of it that still runs ends as cancelled. Peers that
    /// were told forget it when its time is over.
    StopProviding {
        /// The content's multihash.
        key: RecordKey,
    },
    /// Join: look for oneself, then into every part of the keyspace farther away than the closest neighbour. One that is
    /// started while another runs ends with it, in the same way, and reports no steps of its own.
    Bootstrap,
    /// List what is kept here, a page at a time, in order of the keyspace.
    Records {
        /// The place after which to begin; the start of the keyspace without it.
        after: Option<Key>,
        /// How many items at most; items at one place are not split, so there can be a few more.
        limit: NonZeroUsize,
    },
}

impl Operation {
    /// What it is for, in one word.
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

/// What a query is for.
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
    /// Finds who provides some content.
    Providers,
    /// Joins.
    Bootstrap,
    /// Forgets a value kept here.
    Remove,
    /// Stops announcing some content.
    StopProviding,
    /// Lists what is kept here.
    Records,
    /// The node's own: looks into parts of the keyspace, so that its table stays full.
    Refresh,
    /// The node's own: publishes again what the application published.
    Announce,
    /// The node's own: stores values of others again for which nobody else did.
    Replicate,
    /// The node's own: brings a newcomer the records that it is close to.
    Bring,
    /// The node's own: after a read, brings its value to those of the closest that held none or an older one.
    Correct,
}

impl QueryKind {
    /// Its name.
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

/// How one query differs from what the configuration says.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct QueryOptions {
    /// The time that the query has in all. Default: [`LookupConfig::query_timeout`](crate::core::config::LookupConfig).
    pub timeout: Option<Duration>,
    /// How many holders to find or to make. Default: the record configuration's.
    pub quorum: Option<Quorum>,
    /// How many peers or providers are enough. Ten times k peers at most; more than k take several lookups, and about
    /// two requests a peer. Default: k peers, and as many providers as
    /// [`LimitConfig::providers_per_query`](crate::core::config::LimitConfig) allows.
    pub limit: Option<NonZeroUsize>,
    /// Along how many disjoint paths to walk. A get along several ends when each of them has led to a value, and then as
    /// many peers hold one as its quorum asks for. Default: [`LookupConfig::paths`](crate::core::config::LookupConfig).
    pub paths: Option<NonZeroUsize>,
    /// Whether a get asks all of the k closest, however many holders it finds before. Default: it ends at its quorum.
    pub thorough: bool,
    /// How long a value that is put lives, here and elsewhere, from now on; a second at least. It is announced again until
    /// then. Default: for as long as this node announces it, and elsewhere up to
    /// [`RecordConfig::value_ttl`](crate::core::config::RecordConfig) more.
    pub expires_in: Option<Duration>,
    /// Whether a put leaves the value out of this node's own store: then it is not announced again either, and ends at the
    /// peers that took it. Default: it is kept here.
    pub not_kept: bool,
    /// Whether to report each step.
    pub progress: bool,
}

impl QueryOptions {
    /// With this time in all.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> QueryOptions {
        self.timeout = Some(timeout);
        self
    }

    /// With this quorum.
    #[must_use]
    pub fn with_quorum(mut self, quorum: Quorum) -> QueryOptions {
        self.quorum = Some(quorum);
        self
    }

    /// With this many results at most.
    #[must_use]
    pub fn with_limit(mut self, limit: NonZeroUsize) -> QueryOptions {
        self.limit = Some(limit);
        self
    }

    /// Along this many disjoint paths.
    #[must_use]
    pub fn with_paths(mut self, paths: NonZeroUsize) -> QueryOptions {
        self.paths = Some(paths);
        self
    }

    /// Asking all of the k closest.
    #[must_use]
    pub fn with_all_asked(mut self) -> QueryOptions {
        self.thorough = true;
        self
    }

    /// Putting a value that lives for so long.
    #[must_use]
    pub fn with_expiry_in(mut self, time: Duration) -> QueryOptions {
        self.expires_in = Some(time);
        self
    }

    /// Putting a value that this node keeps itself, or not.
    #[must_use]
    pub fn with_keep(mut self, keep: bool) -> QueryOptions {
        self.not_kept = !keep;
        self
    }

    /// Reporting each step.
    #[must_use]
    pub fn with_progress(mut self) -> QueryOptions {
        self.progress = true;
        self
    }
}

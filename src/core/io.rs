//! The only doors of the core: what goes in, what comes out, and the ids by which they are matched.
//!
//! Knows: names of events and effects. Must not know: what they lead to.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::contact::Contact;
use super::error::{QueryError, Report};
use super::key::Key;
use super::message::{Kind, Misbehaviour, Request, RequestError, Response};
use super::query::Quorum;
use super::record::{Record, RecordKey};
use super::stats::QueryKind;
use super::store::{Item, Loaded, StoreError, Ticket};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        pub struct $name(u64);

        impl $name {
            /// The id of this number.
            pub const fn new(number: u64) -> $name {
                $name(number)
            }

            /// The number of this id.
            pub const fn number(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// Names a query. Chosen by the core, never used twice by one node.
    QueryId, "q"
);
id!(
    /// Names a request that this node sends. Chosen by the core, never used twice by one node.
    RequestId, "r"
);
id!(
    /// Names a request that a peer sends. Chosen by the driver, unique among the unanswered ones.
    InboundId, "i"
);

/// Whether this node serves others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "the specification knows two")]
pub enum Mode {
    /// Asks, but neither answers nor is kept in routing tables.
    Client,
    /// Asks and answers.
    #[default]
    Server,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Client => "client",
            Mode::Server => "server",
        })
    }
}

/// What happened to a node: everything it ever learns.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// The application names a peer that serves the DHT: a first contact. What the address policy refuses of it is told
    /// by [`Event::AddrsRefused`].
    AddPeer(Arc<Contact>),
    /// Addresses of a peer became known, for example through identify. While the peer is connected they are taken for its
    /// own word, else for a rumour.
    Discovered(Arc<Contact>),
    /// A connection to a peer is up, where there was none.
    Connected {
        /// The peer.
        peer: PeerId,
        /// The address at which it was dialled; `None` if it dialled us.
        outbound_addr: Option<Multiaddr>,
        /// The address from which it dialled us; `None` if we dialled it, or if that is not known. It is never dialled or
        /// told: it says of which network the peer is, whatever the peer says
        /// ([`DiversityConfig`](super::config::DiversityConfig)).
        inbound_addr: Option<Multiaddr>,
    },
    /// A peer was dialled at these addresses and not reached there: someone else answered, or it was reached at another
    /// address while these failed. What others say of its addresses is forgotten for it.
    NotThere {
        /// The peer.
        peer: PeerId,
        /// Where it is not.
        addrs: Vec<Multiaddr>,
        /// Whether someone else answered there: then nobody's word for these addresses is worth anything.
        strangers: bool,
    },
    /// The last connection to a peer is gone.
    Disconnected {
        /// The peer.
        peer: PeerId,
    },
    /// A peer says whether it serves our protocol.
    Serves {
        /// The peer.
        peer: PeerId,
        /// Whether it does.
        yes: bool,
    },
    /// A peer asks us. Ends in one [`Output::Reply`], unless [`Input::RequestGone`] comes first.
    Request {
        /// Who asks.
        from: PeerId,
        /// The driver's name for it.
        id: InboundId,
        /// What is asked.
        request: Request,
    },
    /// The peer that asked no longer waits.
    RequestGone {
        /// The name of the request.
        id: InboundId,
    },
    /// The store kept what was pending, or failed to.
    Stored {
        /// The store's name for the operation.
        ticket: Ticket,
        /// How it ended.
        result: Result<(), StoreError>,
    },
    /// The store read what was pending, or failed to.
    Loaded {
        /// The store's name for the operation.
        ticket: Ticket,
        /// What it found.
        result: Result<Loaded, StoreError>,
    },
    /// The end of something that we sent.
    Response {
        /// The name given in [`Output::Send`].
        id: RequestId,
        /// How it ended.
        result: Result<Response, RequestError>,
    },
    /// Whether to serve others from now on.
    Mode(Mode),
    /// The addresses at which this node can be reached, all of them, in order of preference.
    LocalAddrs(Vec<Multiaddr>),
    /// Time went on. Worth sending at the time that `poll_timeout` names.
    Timeout,
}

/// An effect that a node wants to have.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Send this request, and dial the peer if you must. Ends in one [`Input::Response`], unless
    /// [`Output::Cancel`] comes first.
    Send {
        /// To whom.
        to: Arc<Contact>,
        /// The name under which to report the end.
        id: RequestId,
        /// What.
        request: Request,
    },
    /// Nobody waits for this request any more: give up its stream or dial, and report nothing.
    Cancel {
        /// The name of the request.
        id: RequestId,
    },
    /// The end of an inbound request.
    Reply {
        /// To whom.
        to: PeerId,
        /// The name of the request.
        id: InboundId,
        /// What to do.
        reply: Reply,
    },
    /// Tell the application.
    Event(Event),
}

/// The end of an inbound request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// Send this answer and read the next request.
    Answer(Response),
    /// Send nothing and read the next request: what ADD_PROVIDER gets.
    Nothing,
    /// Reset the stream.
    Reset(Refusal),
}

/// Why an inbound request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The peer broke a rule.
    #[error("misbehaved: {0}")]
    Misbehaved(#[from] Misbehaviour),
    /// A better value than the one to keep is kept already; the peer may not know it.
    #[error("a better value is kept")]
    OldValue,
    /// Another value is kept than the one to replace; the peer may not know it.
    #[error("another value is kept than the one to replace")]
    Conflict,
    /// This node does not serve at present.
    #[error("this node is a client")]
    NotServing,
    /// This node's store could not do it.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// Too many requests wait for this node's store.
    #[error("overloaded")]
    Busy,
}

/// What an application may want to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// News of a query that was started here.
    Query {
        /// Which query.
        id: QueryId,
        /// What happened.
        event: QueryEvent,
    },
    /// A peer entered or left the routing table.
    RoutingChanged {
        /// The peer.
        peer: PeerId,
        /// Whether it is in the table now.
        present: bool,
    },
    /// A peer stored a value here.
    RecordStored {
        /// Its key.
        key: RecordKey,
        /// Who stored it.
        from: PeerId,
    },
    /// A peer announced here that it provides content.
    ProviderStored {
        /// The content.
        key: RecordKey,
        /// Who provides it.
        provider: PeerId,
    },
    /// Addresses of a peer that the application named are refused by the
    /// [policy](super::config::Config::address_policy), or are this node's own: it is not dialled there.
    AddrsRefused {
        /// The peer.
        peer: PeerId,
        /// The addresses that are refused.
        addrs: Vec<Multiaddr>,
    },
    /// A peer broke the protocol.
    PeerMisbehaved {
        /// The peer.
        peer: PeerId,
        /// The rule that it broke.
        what: Misbehaviour,
    },
}

/// News of one query. `Finished` comes exactly once, last, and for each query that was started, cancelled ones too.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum QueryEvent {
    /// A step of the walk, for queries that asked for progress.
    Progress(Progress),
    /// A value better than all before it, while the query looks for still better ones.
    Value(Record),
    /// A provider not reported before; reported again only if addresses become known where none were.
    Provider(Arc<Contact>),
    /// The query is over.
    Finished(Box<Result<Answer, QueryError>>),
}

/// A step of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A peer is being asked.
    Asked {
        /// Who.
        peer: PeerId,
        /// What.
        kind: Kind,
        /// How many leading bits its key shares with the target: the higher, the closer.
        shared_bits: u32,
    },
    /// A peer answered.
    Answered {
        /// Who.
        peer: PeerId,
        /// How long that took, dialling included.
        took: Duration,
        /// How many leading bits its key shares with the target.
        shared_bits: u32,
        /// How many peers it named that the query had not heard of.
        news: usize,
    },
    /// A peer failed.
    Failed {
        /// Who.
        peer: PeerId,
        /// Why.
        why: RequestError,
    },
}

/// What a query that succeeded found.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "it travels in a box, one for each query")]
pub enum Answer {
    /// The end of [`Operation::ClosestPeers`].
    ClosestPeers {
        /// The closest peers that answered, nearest first.
        peers: Vec<Arc<Contact>>,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::FindPeer`].
    Peer {
        /// The peer with its addresses.
        peer: Arc<Contact>,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::Get`].
    Value {
        /// The best value found. Its `expires` is when its copies are over, by whichever holder says the latest (field 777
        /// of a record); `None` if none says, and for an own value, which this node keeps alive. How long this node keeps
        /// a copy of a value that says nothing is not told, nor what the value itself says in a form of its own, as an
        /// IPNS record does.
        record: Record,
        /// Who had it; `None` if it was kept here.
        from: Option<PeerId>,
        /// The peers that held this very value.
        holders: Vec<PeerId>,
        /// The peers that held another value, older than this one.
        outdated: Vec<PeerId>,
        /// The peers that answered without a value.
        missing: Vec<PeerId>,
        /// The peers that get this value now, since they are among the k closest known and held an older one, none, or
        /// one that is not valid; nearest to the key first. Nobody waits for them, and whether they take it is not told.
        corrected: Vec<PeerId>,
        /// The peer that gets a copy of this value for a while, so that later reads end sooner: the closest that held
        /// none, where it is not among the k closest
        /// ([`RecordConfig::path_caching`](super::config::RecordConfig::path_caching)).
        cached: Option<PeerId>,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::Put`].
    Stored {
        /// Who took it and who did not.
        report: Report,
    },
    /// The end of [`Operation::Provide`].
    Provided {
        /// Who took it and who did not.
        report: Report,
    },
    /// The end of [`Operation::Providers`].
    Providers {
        /// How many providers were reported.
        found: usize,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::Bootstrap`].
    Bootstrapped {
        /// How many peers the routing table holds now.
        peers: usize,
        /// Who was asked.
        report: Report,
    },
    /// The end of [`Operation::Remove`] and of [`Operation::StopProviding`]: the store has forgotten it, as durably as it
    /// keeps anything.
    Forgotten,
    /// The end of [`Operation::Records`].
    Records {
        /// What is kept, in order of the keyspace; fewer than the limit means that the end is reached.
        items: Vec<Item>,
    },
}

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
    /// Join: look for oneself, then into every part of the keyspace farther away than the closest neighbour.
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

/// How one query differs from what the configuration says.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct QueryOptions {
    /// The time that the query has in all. Default: [`LookupConfig::query_timeout`](super::config::LookupConfig).
    pub timeout: Option<Duration>,
    /// How many holders to find or to make. Default: the record configuration's.
    pub quorum: Option<Quorum>,
    /// How many peers or providers are enough. Default: k peers, and as many providers as
    /// [`LimitConfig::providers_per_query`](super::config::LimitConfig) allows.
    pub limit: Option<NonZeroUsize>,
    /// Along how many disjoint paths to walk. Default: [`LookupConfig::paths`](super::config::LookupConfig).
    pub paths: Option<NonZeroUsize>,
    /// Whether a get asks all of the k closest, however many holders it finds before. Default: it ends at its quorum.
    pub thorough: bool,
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

    /// Reporting each step.
    #[must_use]
    pub fn with_progress(mut self) -> QueryOptions {
        self.progress = true;
        self
    }
}

/// What `poll_timeout` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wake {
    /// A request becomes late or runs out of time.
    Request(RequestId),
    /// A query runs out of time.
    Query(QueryId),
    /// Something that is kept expires.
    Expiry,
    /// A duty of maintenance is due.
    Maintenance,
}

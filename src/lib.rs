#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
//!
//! # Architecture
//!
//! ```text
//!         application                          tests, research
//!             │  dht.get(key).await                 │
//!       ┌─────▼─────┐                         ┌─────▼─────┐
//!       │  handle   │  typed futures          │  a driver │  over UDP, in virtual time, …
//!       └─────┬─────┘                         └─────┬─────┘
//!       ┌─────▼─────┐   ┌──────┐                    │
//!       │    net    │──►│ wire │  bytes ⇄ messages  │   (and `validators`: the rules of /pk, /ipns and /signed)
//!       │ behaviour │   └──┬───┘                    │
//!       │ handler   │      │                        │
//!       └─────┬─────┘      │                        │
//!    ═════════▼════════════▼════════════════════════▼══  no I/O, no clock, no tasks below this line
//!                          core::Dht
//!           query ── operations of the application      maintain ── work of its own accord
//!           lookup ── one iterative lookup              server ── requests of peers
//!           routing ── the routing table                store ── values and provider records
//!           key · record · contact · message · time · config
//! ```
//!
//! Three words have one meaning everywhere: a *request* is one RPC with one peer; a *lookup* is one iterative search
//! for the peers closest to a key; a *query* is one operation: a lookup, perhaps with a follow-up.
//!
//! A program takes as much as it needs: a [`DhtHandle`](handle/struct.DhtHandle.html); the events of a
//! [`Behaviour`](net/struct.Behaviour.html); its [`Config`](net/struct.Config.html); a [`Store`] or a [`Validator`] of
//! its own; or [`core::Dht`] with a driver of its own.
//!
//! # The run loop
//!
//! Below the handle everything is one state machine. This loop drives it, whatever carries the messages:
//!
//! ```
//! # use std::sync::Arc;
//! # use libp2p_kad_dht::core::*;
//! # fn carry(_: Arc<Contact>, _: RequestId, _: Request) -> Option<Input> { None }
//! # fn sleep_until_input_or(_: Option<Timestamp>) -> Option<Input> { None }
//! # fn now() -> Timestamp { Timestamp::ZERO }
//! # let peer = libp2p_identity::PeerId::from_bytes(&[0, 1, 7]).unwrap();
//! let local = Contact::new(peer, ["/ip4/127.0.0.1/udp/4001".parse().unwrap()]);
//! let store = Box::new(MemoryStore::new(MemoryStoreConfig::default(), [1; 32]));
//! let mut dht = Dht::new(now(), local, store, [2; 32], Arc::new(DhtConfig::default()))?;
//! dht.start(now(), Operation::Get { key: "/my-app/greeting".into() }, QueryOptions::default())?;
//!
//! loop {
//!     while let Some(output) = dht.poll_output() {
//!         match output {
//!             Output::Send { to, id, request } => {
//!                 dht.handle_input(now(), Input::Sent { id });
//!                 if let Some(end) = carry(to, id, request) {
//!                     dht.handle_input(now(), end);
//!                 }
//!             }
//!             Output::Cancel { id } => println!("{id} is no longer needed"),
//!             Output::Reply { to, reply, .. } => println!("{to} gets {reply:?}"),
//!             Output::Event(event) => println!("{event:?}"),
//!             _ => {}
//!         }
//!     }
//!     match sleep_until_input_or(dht.poll_timeout()) {
//!         Some(input) => dht.handle_input(now(), input),
//!         None => break, // there is nothing left to wait for
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/own_driver` is the same over real sockets. The [`manual`](manual/index.html) has concepts, recipes, every
//! default, and what adversaries can do.

pub mod core;
#[cfg(feature = "driver")]
pub mod handle;
#[cfg(feature = "driver")]
pub mod manual;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "libp2p")]
pub mod net;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(feature = "validators")]
pub mod validators;
#[cfg(feature = "driver")]
pub mod wire;

/// The same moment, for drivers that read the system's clock; a time before 1970 becomes [`Timestamp::ZERO`]. Reads no
/// clock itself. A node copes with a clock that is set forward or back while it runs.
impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Timestamp {
        Timestamp::ZERO + time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

impl Timestamp {
    /// The system's time, to be put into a value or compared with one that was found. It may go back, as the system's
    /// clock does; a node copes with that.
    #[expect(clippy::disallowed_methods, reason = "for applications: nothing in this crate calls it")]
    pub fn now() -> Timestamp {
        std::time::SystemTime::now().into()
    }
}

pub use crate::core::{
    AcceptAny, AddressPolicy, Answer, AsnTable, Bootstrapped, BucketSnapshot, Busy, Candidate, ClosestPeers,
    ConfigError, Contact, DhtConfig, DialCause, Distance, EntrySnapshot, Evidence, Found, FoundPeer, HashedValues,
    InvalidValue, Key, Kind, MemoryStore, MemoryStoreConfig, Misbehaviour, Mode, ModeReason, Namespaced, NetworkResult,
    NoStore, Operation, PeerFailure, PeerFilter, PeerRecord, Progress, ProviderRecord, ProvidersFound, Published,
    QueryError, QueryEvent, QueryId, QueryKind, QueryOptions, QuerySnapshot, Quorum, Record, RecordKey, Report,
    RequestError, RoutingSnapshot, Stats, Store, StoreError, Timestamp, Unreachable, Valid, Validator, config, stats,
    store,
};
#[cfg(feature = "driver")]
pub use crate::handle::{
    AskingStore, DhtHandle, DualError, DualHandle, DualNetwork, DualProviders, DualValues, Events, FirstOf,
    HandleError, JoinBoth, Offer, Offers, PerNetwork, ProviderUpdate, Providers, Query, Sent, Values, Verdict,
    VerdictConfig, Watched, WatchedProviders,
};
#[cfg(feature = "libp2p")]
pub use crate::net::{Behaviour, Config, DialConfig, Dual, DualEvent, Event, StreamConfig};

//! The pure DHT: no socket, no clock, no task, no global randomness.
//!
//! A [`Dht`] is one node. It learns what happened through [`Input`] and says what is to be done through [`Output`];
//! time is a [`Timestamp`] that the caller passes in, and randomness comes from a seed. That is why a hundred thousand
//! nodes run in one process, and why every failure can be replayed.
//!
//! **Call anything in any order; then drain [`Dht::poll_output`] to `None`; then sleep until [`Dht::poll_timeout`] or
//! the next input.** Draining late is allowed and only delays things.
//!
//! No output says “connect”: a driver connects where [`Output::Send`] needs it. The core owns every deadline of the
//! protocol, and starts none of them before the driver reports that it dials or sends ([`Input::Dialling`],
//! [`Input::Sent`]); a driver owns one timer.
//!
//! Imports point downwards. From the bottom up: the vocabulary (`time`, `key`, `contact`, `record`, `message`, `error`,
//! `config`, `address_policy`); the parts (`routing`, `lookup`, `store`, `validate`); what the duties share (`io`,
//! `peers`, `requests`, `store_ops`); the duties (`query`, `server`, `maintain`), which know nothing of each other; and
//! `dht`, which composes them.

mod address_policy;
mod announcement;
pub mod config;
mod contact;
mod dht;
pub mod error;
mod io;
mod ip_group;
mod key;
mod lookup;
mod maintain;
pub mod message;
mod peers;
mod preimage;
pub mod query;
mod quorum;
mod record;
mod requests;
pub mod routing;
mod rtt;
mod server;
mod shuffle;
mod spans;
pub mod stats;
pub mod store;
mod store_ops;
#[cfg(test)]
mod tests;
#[cfg(feature = "serde")]
mod text;
mod time;
pub mod validate;
mod window;

pub use address_policy::AddressPolicy;
#[cfg(feature = "libp2p")]
pub(crate) use address_policy::is_relayed;
pub use config::DhtConfig;
pub use contact::{Contact, MAX_ADDR_LEN, MAX_ADDRS};
pub use dht::{Busy, Dht};
pub use error::{ConfigError, PeerFailure, QueryError, Report};
pub use io::*;
pub use ip_group::AsnTable;
pub use key::{Distance, Key};
pub use message::{DialCause, Kind, Misbehaviour, Request, RequestError, Response, Unreachable, Value};
pub use peers::PeerFilter;
#[cfg(feature = "libp2p")]
pub(crate) use peers::{Origin, Share};
pub use query::QuerySnapshot;
pub use quorum::Quorum;
pub use record::{ProviderRecord, Record, RecordKey};
pub use routing::{BucketSnapshot, EntrySnapshot, RoutingSnapshot};
pub use stats::{QueryEnd, Stats};
pub use store::{MemoryStore, MemoryStoreConfig, NoStore, Store, StoreError};
pub use time::Timestamp;
pub use validate::{AcceptAny, Candidate, HashedValues, InvalidValue, Namespaced, Valid, Validator};

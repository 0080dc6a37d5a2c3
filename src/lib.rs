//! A Kademlia DHT for libp2p.

pub mod core;
#[cfg(feature = "handle")]
pub mod handle;
#[cfg(feature = "libp2p")]
pub mod net;
#[cfg(feature = "wire")]
pub mod wire;

pub use crate::core::{
    AcceptAny, ConfigError, Contact, Key, MemoryStore, Mode, ProviderRecord, QueryError, QueryEvent, QueryId, Quorum,
    Record, RecordKey, Store, Timestamp, Validator,
};
#[cfg(feature = "handle")]
pub use crate::handle::{DhtHandle, Query};
#[cfg(feature = "libp2p")]
pub use crate::net::{Behaviour, Config, DialConfig, Event, StreamConfig};

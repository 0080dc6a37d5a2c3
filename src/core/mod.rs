//! The pure DHT: no socket, no clock, no task, no global randomness.
mod address_book;
pub mod config;
mod contact;
mod dht;
pub mod error;
mod io;
mod key;
mod lookup;
mod maintain;
pub mod message;
mod peers;
mod prepare;
pub mod query;
mod record;
mod requests;
pub mod routing;
mod rtt;
mod server;
pub mod stats;
mod storage;
pub mod store;
mod time;
pub mod validate;

pub use config::Config;
pub use contact::{Contact, MAX_ADDR_LEN, MAX_ADDRS};
pub use dht::{Busy, Dht};
pub use error::{ConfigError, PeerFailure, QueryError, Report};
pub use io::{
    Answer, Event, InboundId, Input, Mode, Operation, Output, Progress, QueryEvent, QueryId, QueryOptions, Refusal,
    Reply, RequestId, Wake,
};
pub use key::{Distance, Key};
pub use message::{Kind, Misbehaviour, Request, RequestError, Response, Unreachable, Value};
pub use query::{QuerySnapshot, Quorum};
pub use record::{ProviderRecord, Record, RecordKey};
pub use routing::{BucketSnapshot, EntrySnapshot, RoutingSnapshot};
pub use stats::Stats;
pub use store::{MemoryStore, MemoryStoreConfig, Store, StoreError};
pub use time::Timestamp;
pub use validate::{AcceptAny, InvalidValue, Namespaced, Validator};

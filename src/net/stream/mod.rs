//! The streams of one connection: one request after the other on each, within sizes, numbers and times.
//!
//! Knows: streams, messages and the requests that wait for them. Must not know: the swarm's events (`handler`), or what
//! requests are for.

mod config;
mod counts;
mod framed;
mod inbound;
mod inbound_pool;
mod outbound;
mod outbound_pool;
mod upgrade;

pub use config::StreamConfig;
pub(crate) use config::within_max_time;
pub(crate) use counts::StreamCounts;
pub(crate) use inbound_pool::InboundPool;
pub(crate) use outbound_pool::OutboundPool;
pub(crate) use upgrade::ProtocolNames;

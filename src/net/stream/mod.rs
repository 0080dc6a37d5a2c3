//! The streams of one connection: one request after the other on each (rules L31 and L32), within sizes, numbers and
//! times.
//!
//! Knows: streams, messages and the requests that wait for them. Must not know: the swarm's events (`handler`), or what
//! requests are for.
//!
//! # Acknowledging an announcement
//!
//! ADD_PROVIDER has no answer (rule A45), and yamux shows a reset as an end of input once this node has closed its own
//! side. So a FIND_NODE follows on the same stream. Its answer shows that the peer took the announcement: every peer
//! reads on after one (A60; tried in `tests/`), and one that refuses resets the stream instead. Announcements that wait
//! together share a stream and the FIND_NODE. If the peer resets the stream, the others are tried one by one; if it ends
//! the stream in good order, it took the first.
//!
//! Other nodes close their side behind an announcement and take a clean end for its acknowledgement. Dropping a stream
//! ends it cleanly: always on QUIC, and on yamux after the peer's half-close. A node of this crate that refuses an
//! announcement whose sender has half-closed neither ends nor resets the stream, and the sender finds out that it was
//! not acknowledged.

mod config;
mod counts;
mod framed;
mod inbound;
mod inbound_bytes;
mod inbound_pool;
mod outbound;
mod outbound_pool;
mod turns;
mod upgrade;

pub use config::StreamConfig;
pub(crate) use config::within_max_time;
pub(crate) use counts::StreamCounts;
pub(crate) use inbound_pool::InboundPool;
pub(crate) use outbound_pool::OutboundPool;
pub(crate) use turns::Turn;
pub(crate) use upgrade::ProtocolNames;

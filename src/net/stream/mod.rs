//! The streams of one connection: one request after the other on each (rules L31 and L32), within sizes, numbers and
//! times.
//!
//! Knows: streams, messages and the requests that wait for them. Must not know: the swarm's events (`handler`), or what
//! requests are for.
//!
//! # Acknowledging an announcement
//!
//! ADD_PROVIDER has no answer, so the end of its stream alone shows its outcome (rule A45; tried in `tests/`). A clean
//! end acknowledges it, and a reset refuses it. Whether the two can be told apart depends on the transport:
//!
//! * QUIC shows a reset at any time.
//! * yamux shows a received reset as an end of input, so after this node's own half-close a reset and a clean end look
//!   alike; before it they differ. An announcement therefore waits `announcement_settle` (200 ms, about one round trip
//!   of a wide-area network) between its flush and its half-close: a refusal within that time is recognised, and a
//!   later one over yamux counts as acknowledged.
//! * Dropping a stream ends it cleanly: always on QUIC, and on yamux after the peer's half-close. libp2p-kad 0.49 drops
//!   the stream of every announcement. A node of this crate that refuses one whose sender has half-closed neither ends
//!   nor resets the stream, and the sender finds out that it was not acknowledged.
//!
//! Announcements that wait together share a stream. If one of them is refused, or the peer ends the stream after the
//! first, the others are tried one by one.

mod config;
mod counts;
mod framed;
mod inbound;
mod inbound_bytes;
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

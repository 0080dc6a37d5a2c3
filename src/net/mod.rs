//! The libp2p binding: connections, streams, dials and the clock.
//!
//! Knows: the swarm. Must not know: why anything is sent or answered; that is the core's.

mod exchange;
mod framed;
mod handler;
mod inbound;
mod outbound;
mod served;
mod stream_config;
mod upgrade;

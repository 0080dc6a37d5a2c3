//! The handler on real connections (memory with yamux, some on QUIC), against peers that speak bytes.

mod inbound;
mod kad;
mod outbound;
mod rig;
mod timers;

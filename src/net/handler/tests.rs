//! The handler on real connections (memory, yamux), against peers that speak bytes.

mod inbound;
mod outbound;
mod rig;

//! A Kademlia DHT for libp2p.
pub mod core;
#[cfg(feature = "wire")]
pub mod wire;

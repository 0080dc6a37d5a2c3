//! A Kademlia DHT for libp2p.
pub mod core;
#[cfg(feature = "sim")]
pub mod sim;
#[cfg(feature = "wire")]
pub mod wire;

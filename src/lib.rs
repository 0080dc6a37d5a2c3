//! A Kademlia DHT for libp2p.
pub mod core;
#[cfg(feature = "handle")]
pub mod handle;
#[cfg(feature = "libp2p")]
pub mod net;
#[cfg(feature = "wire")]
pub mod wire;

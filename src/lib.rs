//! A Kademlia DHT for libp2p.
pub mod core;

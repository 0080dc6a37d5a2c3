//! Nodes that talk to each other in one thread and in made-up time.

mod extremes;
mod network;
mod operations;

pub(crate) use network::Network;

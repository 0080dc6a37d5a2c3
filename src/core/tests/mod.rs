//! Networks of nodes in one thread, in virtual time.

mod access;
mod clocks;
mod extremes;
mod forming;
mod moving;
mod network;
mod newest;
mod operations;
mod reading;
mod refreshing;
mod replaced;
mod restart;
mod spans;
mod timing;
mod together;
mod unlucky;
mod upkeep;
#[cfg(feature = "validators")]
mod validated;
mod weapon;

pub(crate) use network::Network;

#![doc = include_str!("../README.md")]
//!
//! Knows: the store's contract, one embedded database, and threads. Must not know: the network, any clock (time comes
//! with each call), or why something is kept.
//!
//! One thread writes, a few read; the caller's own never touches the disk. What waits between them is bounded.

mod backend;
mod cache;
mod config;
mod database;
mod disk;
mod error;
mod group;
mod queue;
mod reader;
mod row;
mod seed;
mod shared;
mod tables;
mod writer;

#[cfg(any(test, feature = "testing"))]
pub use backend::DiskFaults;
pub use config::DiskStoreConfig;
#[cfg(feature = "testing")]
pub use database::open_database;
pub use disk::DiskStore;
pub use error::OpenError;

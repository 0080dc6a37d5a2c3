#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
//!
//! Knows: the store's contract, one embedded database, and threads. Must not know: the network, any clock (time comes
//! with each call), or why a record is kept.
//!
//! One thread writes and a few read; the caller's own thread never accesses the disk. The queues between them are
//! bounded.
//!
//! # Why redb
//!
//! Both candidates ran the store's workload: 50,000 keys with 20 providers of 112 bytes each, one row per key and one
//! index row for its first expiry, in random order and in durable groups of 256; two cores, ext4, a cache of 32 MB
//! each. Versions: redb 4.6.0, and fjall 3.1.13 with memtables of 8 MB and a journal of 64 MB:
//!
//! | | redb, quick repair | redb | fjall |
//! | --- | --- | --- | --- |
//! | writing 1,000,000 records | 134 s | 95 s | 52 s |
//! | one group of 256, median and 99 % | 36 and 53 ms | 24 and 55 ms | 8 and 77 ms |
//! | one write alone, median and 99 % | 11 and 18 ms | 4 and 26 ms | 4 and 12 ms |
//! | a random read, median and 99 % | 4 and 27 µs | 3 and 10 µs | 6 and 20 µs |
//! | a read between writes, 99 % and longest | 16 µs and 1 ms | 16 µs and 5 ms | 37 µs and 36 ms |
//! | 20 sweeps over 53,789 expired records | 1.7 s | 1.7 s | 2.0 s |
//! | opening after `kill -9` | 2 ms | 427 ms | 156 ms |
//! | resident after writing, after mixed use | 46 and 38 MB | 46 and 38 MB | 112 and 78 MB |
//! | on the disk | 205 MB | 205 MB | 285 MB, 142 MB once compacted |
//! | crates | 1 | 1 | 25 and more, two of them with locks and threads |
//!
//! Without quick repair, opening after a crash reads the whole file, which a slow disk cannot do in 2 s. Durable groups
//! make up for the slower commit.

mod backend;
mod cache;
mod config;
mod database;
mod disk;
mod error;
#[cfg(any(test, feature = "testing"))]
mod faults;
mod group;
mod queue;
mod reader;
mod row;
mod seed;
mod shared;
mod tables;
mod writer;

pub use config::DiskStoreConfig;
#[cfg(feature = "testing")]
pub use database::open_database;
pub use disk::DiskStore;
pub use error::OpenError;
#[cfg(any(test, feature = "testing"))]
pub use faults::DiskFaults;

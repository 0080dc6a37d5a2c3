//! What tests of one's own need: the checks that every store must pass, and a store that takes its time when the test says
//! so. Feature `testing`.
//!
//! Knows: the contract of stores. Must not know: any store of this crate.

pub mod conformance;
pub mod deferred;

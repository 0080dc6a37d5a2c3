//! Help for tests of your own: the checks that every store must pass, and a store that answers later, when the test
//! says so. Feature `testing`.
//!
//! Knows: the contract of stores. Must not know: any store of this crate.

pub mod conformance;
pub mod deferred;

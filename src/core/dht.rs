//! The composer: skeleton, to be filled.
use std::sync::Arc;
use std::task::Waker;

use super::config::Config;
use super::contact::Contact;
use super::error::ConfigError;
use super::io::{Input, Mode, Operation, Output, QueryId, QueryOptions, Wake};
use super::query::QuerySnapshot;
use super::record::RecordKey;
use super::routing::RoutingSnapshot;
use super::stats::Stats;
use super::store::{Store, StoreError};
use super::time::Timestamp;

/// One node of the DHT.
#[derive(Debug)]
pub struct Dht;

impl Dht {
    /// Builds a node.
    pub fn new(
        now: Timestamp,
        local: Arc<Contact>,
        store: Box<dyn Store>,
        seed: [u8; 32],
        config: Arc<Config>,
    ) -> Result<Dht, ConfigError> {
        todo!()
    }
    /// Starts an operation; its result is a later `Event::Query`. `Err(Busy)` as a unit error.
    pub fn start(&mut self, now: Timestamp, operation: Operation, options: QueryOptions) -> Result<QueryId, Busy> {
        todo!()
    }
    /// Ends an operation early; idempotent.
    pub fn cancel(&mut self, id: QueryId) {
        todo!()
    }
    /// Tells the node what happened.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) {
        todo!()
    }
    /// Hands out the next effect.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }
    /// The earliest time at which `Input::Timeout` is worth sending.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        todo!()
    }
    /// Why `poll_timeout` says what it says.
    pub fn next_wake(&self) -> Option<(Timestamp, Wake)> {
        todo!()
    }
    /// Lets the store finish what was pending; registers `waker`.
    pub fn poll_store(&mut self, now: Timestamp, waker: &Waker) {
        todo!()
    }
    /// Stops announcing that this node provides `key`.
    pub fn stop_providing(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        todo!()
    }
    /// Forgets an own value.
    pub fn remove_value(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        todo!()
    }
    /// Whether this node serves.
    pub fn mode(&self) -> Mode {
        todo!()
    }
    /// The node itself, with the addresses it has now.
    pub fn local(&self) -> &Arc<Contact> {
        todo!()
    }
    /// What the routing table holds now, for people.
    pub fn routing_snapshot(&self) -> RoutingSnapshot {
        todo!()
    }
    /// The queries that run now, for people.
    pub fn query_snapshots(&self) -> Vec<QuerySnapshot> {
        todo!()
    }
    /// Counters.
    pub fn stats(&self) -> &Stats {
        todo!()
    }
    /// What is kept.
    pub fn store(&mut self) -> &mut dyn Store {
        todo!()
    }
}

/// As many queries run as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many queries at once")]
#[non_exhaustive]
pub struct Busy;

//! Nodes that work against the others.
//!
//! Knows: what each attack answers. Must not know: how honest nodes defend themselves.

use std::sync::Arc;

use super::directory::{Directory, NodeIndex, SortedPeers, key_position};
use libp2p_kad_dht::core::{Contact, Key, RecordKey, Refusal, Reply, Request, Response};

/// The behaviour of an adversary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attack {
    /// Accepts requests and never answers.
    Silent,
    /// Names only colluders, the closest to the target first, including Sybils near it.
    Misrouting,
    /// Like `Misrouting`; it also sends requests to as many nodes as it can, to enter their tables.
    Poisoning,
    /// Names honest peers and acknowledges values, but never returns them.
    Sybil,
    /// Names providers that do not provide the key.
    FalseProvider,
}

/// An adversary. It answers at once and has no timers of its own.
pub struct Adversary {
    attack: Attack,
    /// All adversaries that work together, this one included.
    colluders: Arc<SortedPeers>,
    /// The peers that it names where it answers honestly.
    everyone: Arc<SortedPeers>,
}

/// The number of peers in an answer.
const NAMED: usize = 20;

/// The interval between two requests of a poisoning adversary, in microseconds.
pub(crate) const POISON_INTERVAL: u64 = 10_000_000;

impl Adversary {
    /// An adversary that works together with `colluders`; where it answers honestly, it names peers out of `everyone`.
    pub fn new(attack: Attack, colluders: Arc<SortedPeers>, everyone: Arc<SortedPeers>) -> Adversary {
        Adversary { attack, colluders, everyone }
    }

    pub(crate) fn poisons(&self) -> bool {
        self.attack == Attack::Poisoning
    }

    /// Its reply; `None` if it stays silent.
    pub(crate) fn handle_request(&self, directory: &Directory, from: NodeIndex, request: Request) -> Option<Reply> {
        if self.attack == Attack::Silent {
            return None;
        }
        let response = match request {
            Request::Ping => Response::Ping,
            Request::FindNode { key } => Response::FindNode { closer: self.closer(directory, from, &key) },
            Request::GetValue { key } => {
                let closer = self.closer(directory, from, key.as_bytes());
                Response::GetValue { key, value: None, closer }
            }
            Request::PutValue { value } if self.attack == Attack::Sybil => Response::PutValue { value },
            Request::PutValue { .. } => return Some(Reply::Reset(Refusal::NotServing)),
            Request::GetProviders { key } => self.providers(directory, from, key),
            Request::AddProvider { .. } => return Some(Reply::Nothing),
            _ => return Some(Reply::Reset(Refusal::NotServing)),
        };
        Some(Reply::Answer(response))
    }

    fn providers(&self, directory: &Directory, from: NodeIndex, key: RecordKey) -> Response {
        let closer = self.closer(directory, from, key.as_bytes());
        let providers = if self.attack == Attack::FalseProvider { closer.clone() } else { Vec::new() };
        Response::GetProviders { key, providers, closer }
    }

    fn closer(&self, directory: &Directory, from: NodeIndex, key: &[u8]) -> Vec<Arc<Contact>> {
        let honest = matches!(self.attack, Attack::Sybil | Attack::FalseProvider);
        let sorted = if honest { &self.everyone } else { &self.colluders };
        let named = sorted.closest(key_position(&Key::hash(key)), NAMED + 1);
        let named = named.into_iter().filter(|peer| *peer != from).take(NAMED);
        named.map(|peer| Arc::clone(directory.contact(peer))).collect()
    }
}

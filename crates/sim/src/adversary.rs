//! Nodes that work against the others.
//!
//! Knows: what each kind answers. Must not know: how the honest ones defend themselves.

use std::sync::Arc;

use super::directory::{Directory, Index, Ranking, place};
use libp2p_kad_dht::core::{Contact, Key, RecordKey, Refusal, Reply, Request, Response};

/// What an adversary does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Takes requests and never answers.
    Silent,
    /// Names only colluders, the closest to the target first, Sybils near it included.
    Misrouting,
    /// As `Misrouting`, and asks everyone it can, so that it enters their tables.
    Poisoning,
    /// Answers like an honest peer, acknowledges what it is to keep, and never serves it.
    Sybil,
    /// Names providers that are none.
    FalseProvider,
}

/// One adversary.
pub(crate) struct Adversary {
    kind: Kind,
    /// All who work together, this one included, in order of their keys.
    colluders: Arc<Ranking>,
    /// Whom it names when it behaves: everyone alive.
    everyone: Arc<Ranking>,
}

/// How many peers an adversary names.
const NAMED: usize = 20;

/// How often a poisoning adversary asks someone, in microseconds.
pub(crate) const POISON_INTERVAL: u64 = 10_000_000;

impl Adversary {
    pub(crate) fn new(kind: Kind, colluders: Arc<Ranking>, everyone: Arc<Ranking>) -> Adversary {
        Adversary { kind, colluders, everyone }
    }

    pub(crate) fn poisons(&self) -> bool {
        self.kind == Kind::Poisoning
    }

    /// Its answer; `None` where it says nothing at all.
    pub(crate) fn reply(&self, directory: &Directory, from: Index, request: Request) -> Option<Reply> {
        if self.kind == Kind::Silent {
            return None;
        }
        let response = match request {
            Request::Ping => Response::Ping,
            Request::FindNode { key } => Response::FindNode { closer: self.closer(directory, from, &key) },
            Request::GetValue { key } => {
                let closer = self.closer(directory, from, key.as_bytes());
                Response::GetValue { key, value: None, closer }
            }
            Request::PutValue { value } if self.kind == Kind::Sybil => Response::PutValue { value },
            Request::PutValue { .. } => return Some(Reply::Reset(Refusal::NotServing)),
            Request::GetProviders { key } => self.providers(directory, from, key),
            Request::AddProvider { .. } => return Some(Reply::Nothing),
            _ => return Some(Reply::Reset(Refusal::NotServing)),
        };
        Some(Reply::Answer(response))
    }

    fn providers(&self, directory: &Directory, from: Index, key: RecordKey) -> Response {
        let closer = self.closer(directory, from, key.as_bytes());
        let providers = if self.kind == Kind::FalseProvider { closer.clone() } else { Vec::new() };
        Response::GetProviders { key, providers, closer }
    }

    fn closer(&self, directory: &Directory, from: Index, key: &[u8]) -> Vec<Arc<Contact>> {
        let honest = matches!(self.kind, Kind::Sybil | Kind::FalseProvider);
        let ranking = if honest { &self.everyone } else { &self.colluders };
        let named = ranking.closest(place(&Key::hash(key)), NAMED + 1);
        let named = named.into_iter().filter(|peer| *peer != from).take(NAMED);
        named.map(|peer| Arc::clone(directory.contact(peer))).collect()
    }
}

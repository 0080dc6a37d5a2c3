//! Find the closest peers to a key, or one peer.
//!
//! A peer is found once it has been reached at an address that someone named, whether it serves the DHT or not: what
//! others say of its addresses may be wrong or a lie. If nobody could be reached there, the addresses that were named
//! are the answer all the same, as hearsay: the peer may be behind a relay or reachable for others.

use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{Context, Heard, Step, find_node, take, unanswered, walk_on, wanted};
use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::io::{Answer, Evidence, QueryOptions};
use crate::core::key::Key;
use crate::core::lookup::{Lookup, Tardy};
use crate::core::message::RequestError;
use crate::core::requests::Tag;
use crate::core::stats::QueryKind;

#[derive(Debug)]
pub(crate) struct Find {
    lookup: Lookup,
    preimage: Bytes,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    Closest,
    Peer { key: Key, found: Option<(Arc<Contact>, Evidence)> },
}

impl Find {
    pub(crate) fn closest(cx: &Context<'_>, key: Bytes, options: &QueryOptions) -> Find {
        let lookup = cx.walk(Key::hash(&key), wanted(cx, options), options.paths);
        Find { lookup, preimage: key, wanted: Wanted::Closest }
    }

    /// Looks for a peer; one that is connected, or has answered and not failed since, is found at once, and so is this
    /// node itself.
    pub(crate) fn peer(cx: &Context<'_>, peer: PeerId, options: &QueryOptions) -> Find {
        let key = Key::from(&peer);
        let known = cx.peers.contact(&peer).filter(|contact| contact.has_addrs());
        let evidence = if cx.peers.is_connected(&key) {
            Some(Evidence::Reached)
        } else {
            cx.peers.table.get(&key).filter(|entry| entry.failures() == 0).map(|_| Evidence::Remembered)
        };
        let itself = (peer == *cx.peers.local.peer()).then(|| Arc::clone(&cx.peers.local));
        let itself = itself.filter(|local| local.has_addrs()).map(|local| (local, Evidence::Reached));
        let found = known.zip(evidence).or(itself);
        let lookup = cx.walk(key, cx.replication(), options.paths);
        Find { lookup, preimage: peer.to_bytes().into(), wanted: Wanted::Peer { key, found } }
    }

    pub(crate) fn kind(&self) -> QueryKind {
        match self.wanted {
            Wanted::Closest => QueryKind::ClosestPeers,
            Wanted::Peer { .. } => QueryKind::FindPeer,
        }
    }

    pub(crate) fn lookup(&self) -> &Lookup {
        &self.lookup
    }

    pub(crate) fn next(&mut self, _: &Context<'_>, report: &mut Report) -> Step {
        if let Wanted::Peer { found: Some((peer, evidence)), .. } = &self.wanted {
            let (peer, evidence) = (Arc::clone(peer), *evidence);
            return Step::Finish(Ok(Answer::Peer { peer, evidence, report: std::mem::take(report) }));
        }
        let preimage = &self.preimage;
        match walk_on(&mut self.lookup, Tag::default(), || find_node(preimage)) {
            Some(step) => step,
            None => Step::Finish(self.finish(report)),
        }
    }

    pub(crate) fn on_answer(&mut self, heard: Heard<'_>) -> usize {
        let news = self.lookup.on_answer(heard.from.key(), heard.closer);
        self.reached(heard.from);
        news
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, why: RequestError) {
        self.lookup.on_failure(from.key());
        // It was reached, and is who it should be; it only does not serve.
        if matches!(why, RequestError::Unsupported | RequestError::Refused | RequestError::Misbehaved(_)) {
            self.reached(from);
        }
    }

    pub(crate) fn on_tardy(&mut self, from: &Arc<Contact>, how: Tardy) {
        self.lookup.on_tardy(from.key(), how);
    }

    fn reached(&mut self, peer: &Arc<Contact>) {
        if let Wanted::Peer { key, found } = &mut self.wanted
            && peer.key() == key
        {
            let known = self.lookup.contact(key).filter(|contact| contact.has_addrs());
            *found = known.map(|contact| (Arc::clone(contact), Evidence::Reached));
        }
    }

    fn finish(&mut self, report: &mut Report) -> Result<Answer, QueryError> {
        match &self.wanted {
            Wanted::Closest => {
                let peers = self.lookup.closest();
                if peers.is_empty() {
                    return Err(unanswered(report));
                }
                Ok(Answer::ClosestPeers { peers, report: std::mem::take(report) })
            }
            Wanted::Peer { key, .. } => match self.lookup.contact(key).filter(|contact| contact.has_addrs()) {
                Some(peer) if report.answers > 0 => {
                    let (peer, evidence) = (Arc::clone(peer), Evidence::Hearsay);
                    Ok(Answer::Peer { peer, evidence, report: std::mem::take(report) })
                }
                _ if report.answers > 0 => Err(QueryError::NotFound(take(report))),
                _ => Err(unanswered(report)),
            },
        }
    }
}

//! Find the closest peers to a key, or one peer.
//!
//! A peer is found once it has been reached at an address that someone named, whether it serves the DHT or not: what
//! others say of its addresses may be wrong or a lie. If nobody could be reached there, the addresses that were named
//! are the answer all the same, as hearsay: the peer may be behind a relay or reachable for others.
//!
//! Peers name the k closest to what they are asked for, so nobody names those farther away than these. Where more than k
//! are wanted, further lookups go into the nearest part of the keyspace that is not known yet, until as many as wanted
//! are known to be the closest.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::coverage::Coverage;
use super::{Context, Step, find_node, take, unanswered, walk_on};
use crate::core::contact::Contact;
use crate::core::error::{QueryError, Report};
use crate::core::io::{Answer, ClosestPeers, Evidence, FoundPeer, QueryOptions};
use crate::core::key::Key;
use crate::core::lookup::Lookup;
use crate::core::message::RequestError;
use crate::core::preimage;
use crate::core::requests::Tag;

#[derive(Debug)]
pub(crate) struct Find {
    pub(super) lookup: Lookup,
    target: Key,
    preimage: Bytes,
    /// Of the lookup; those before it had lower ones.
    tag: Tag,
    wanted: Wanted,
}

#[derive(Debug)]
enum Wanted {
    /// Of more than k, what the lookups so far found out.
    Closest(Option<Box<Beyond>>),
    Peer {
        found: Option<(Arc<Contact>, Evidence)>,
    },
}

/// The closest of all, when more are wanted than one lookup finds.
#[derive(Debug)]
struct Beyond {
    key: Key,
    limit: usize,
    coverage: Coverage,
    rng: ChaCha8Rng,
    /// So many lookups may follow.
    left: usize,
}

/// So many times k closest peers may be asked for. Source: as many as a page for people shows.
const MAX_TIMES_K: usize = 10;
/// So many lookups at most for each k peers. Source: two are usual; a part of the keyspace whose peers all fail must not be
/// looked into forever.
const LOOKUPS: usize = 8;

impl Find {
    /// The k closest peers to the key of these bytes, or as many as the options say.
    ///
    /// # Errors
    ///
    /// [`QueryError::LimitTooHigh`] for more than ten times k.
    pub(crate) fn closest(
        cx: &Context<'_>,
        preimage: Bytes,
        options: &QueryOptions,
        rng: &mut impl Rng,
    ) -> Result<Find, QueryError> {
        let (key, k) = (Key::hash(&preimage), cx.replication());
        let limit = options.limit.map_or(k, NonZeroUsize::get);
        let max = k.saturating_mul(MAX_TIMES_K);
        if limit > max {
            return Err(QueryError::LimitTooHigh { limit, max });
        }
        let lookup = cx.walk(key, limit.min(k), options.paths);
        let beyond = (limit > k).then(|| {
            let (rng, left) = (ChaCha8Rng::from_rng(rng), LOOKUPS * limit / k);
            Box::new(Beyond { key, limit, coverage: Coverage::default(), rng, left })
        });
        Ok(Find { lookup, target: key, preimage, tag: Tag::default(), wanted: Wanted::Closest(beyond) })
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
        let preimage = peer.to_bytes().into();
        Find { lookup, target: key, preimage, tag: Tag::default(), wanted: Wanted::Peer { found } }
    }

    /// The lookup that this request is part of, unless that is over.
    pub(crate) fn lookup(&mut self, tag: Tag) -> Option<&mut Lookup> {
        (tag == self.tag).then_some(&mut self.lookup)
    }

    pub(crate) fn next(&mut self, cx: &Context<'_>, report: &mut Report) -> Step {
        if let Wanted::Peer { found: Some((peer, evidence)) } = &self.wanted {
            let (peer, evidence) = (Arc::clone(peer), *evidence);
            return Step::Finish(Ok(found_peer(cx, &peer, evidence, report)));
        }
        loop {
            match walk_on(&mut self.lookup, self.tag, || find_node(&self.preimage)) {
                Some(step) => return step,
                None if self.go_beyond(cx) => {}
                None => return Step::Finish(self.finish(cx, report)),
            }
        }
    }

    /// A lookup is over. Begins the next one, if more are wanted than are known to be the closest.
    fn go_beyond(&mut self, cx: &Context<'_>) -> bool {
        let Wanted::Closest(Some(beyond)) = &mut self.wanted else { return false };
        let (k, found) = (cx.replication(), self.lookup.closest());
        beyond.coverage.add(&self.target, cx.reach(&self.lookup), &found);
        if found.is_empty() || beyond.left == 0 {
            return false;
        }
        let gap = beyond.coverage.next_gap(&beyond.key, beyond.limit);
        let next = gap.and_then(|gap| preimage::with_prefix(&gap.key, gap.bits.min(preimage::DEPTH), &mut beyond.rng));
        let Some((target, preimage)) = next else { return false };
        beyond.left -= 1;
        self.lookup = cx.walk_from(target, k, &beyond.coverage.nearest(&target, k));
        (self.target, self.preimage, self.tag) = (target, preimage, Tag(self.tag.0.wrapping_add(1)));
        true
    }

    pub(crate) fn on_failure(&mut self, from: &Arc<Contact>, why: RequestError) {
        // It was reached, and is who it should be; it only does not serve.
        if matches!(why, RequestError::Unsupported | RequestError::Refused | RequestError::Misbehaved(_)) {
            self.reached(from);
        }
    }

    /// This peer is there.
    pub(crate) fn reached(&mut self, peer: &Arc<Contact>) {
        if let Wanted::Peer { found } = &mut self.wanted
            && *peer.key() == self.target
        {
            let known = self.lookup.contact(&self.target).filter(|contact| contact.has_addrs());
            *found = known.map(|contact| (Arc::clone(contact), Evidence::Reached));
        }
    }

    fn finish(&mut self, cx: &Context<'_>, report: &mut Report) -> Result<Answer, QueryError> {
        match &self.wanted {
            Wanted::Closest(beyond) => {
                let peers = match beyond {
                    Some(beyond) => beyond.coverage.nearest(&beyond.key, beyond.limit),
                    None => self.lookup.closest(),
                };
                if peers.is_empty() {
                    return Err(unanswered(report));
                }
                let peers = peers.iter().map(|peer| cx.record_of(peer)).collect();
                Ok(Answer::ClosestPeers(ClosestPeers { peers, report: std::mem::take(report) }))
            }
            Wanted::Peer { .. } => match self.lookup.contact(&self.target).filter(|contact| contact.has_addrs()) {
                Some(peer) if report.answers > 0 => Ok(found_peer(cx, peer, Evidence::Hearsay, report)),
                _ if report.answers > 0 => Err(QueryError::NotFound(take(report))),
                _ => Err(unanswered(report)),
            },
        }
    }
}

fn found_peer(cx: &Context<'_>, peer: &Arc<Contact>, evidence: Evidence, report: &mut Report) -> Answer {
    Answer::Peer(FoundPeer { peer: cx.record_of(peer), evidence, report: std::mem::take(report) })
}

//! Which peers are not dialled again for a while.
//!
//! Knows: when dials failed, and at which addresses. Must not know: requests or connections.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;

use super::config::DialConfig;
use crate::core::{Contact, DialCause, Timestamp};

/// Bounded in number; the one that is over soonest is forgotten first.
#[derive(Debug)]
pub(super) struct BackOffs {
    base: Duration,
    max: Duration,
    limit: usize,
    /// How often anyone was reached.
    reached: u64,
    peers: BTreeMap<PeerId, BackOff>,
    /// The same in order of their end.
    ends: BTreeSet<(Timestamp, PeerId)>,
}

#[derive(Debug)]
struct BackOff {
    /// Not dialled before this.
    until: Timestamp,
    /// Forgotten at this: long enough after `until` that the next failure still counts as one in a row.
    end: Timestamp,
    /// Failed dials in a row, at least one.
    failures: u32,
    /// What `reached` was at the last failure.
    reached: u64,
    /// The addresses that failed.
    tried: Arc<Contact>,
    /// Why the last dial failed.
    cause: DialCause,
}

impl BackOffs {
    pub(super) fn new(config: &DialConfig) -> BackOffs {
        BackOffs {
            base: config.backoff_base,
            max: config.backoff_max,
            limit: config.backoff_peers,
            reached: 0,
            peers: BTreeMap::new(),
            ends: BTreeSet::new(),
        }
    }

    /// Why this peer is not to be dialled now, if it is not. An address that did not fail yet is worth a dial at once.
    pub(super) fn held(&self, now: Timestamp, contact: &Contact) -> Option<DialCause> {
        let backoff = self.peers.get(contact.peer()).filter(|backoff| now < backoff.until)?;
        let tried = backoff.tried.raw_addrs();
        contact.raw_addrs().iter().all(|addr| tried.contains(addr)).then_some(backoff.cause)
    }

    /// A dial at these addresses failed, for this reason.
    ///
    /// Where nobody at all was reached since the last one failed, it is this node's own network that is out, as far as
    /// anyone can tell. Such a failure is not counted, and the peer is tried again after half the shortest time: whoever
    /// doubles through an outage of five minutes finds nobody for five minutes more.
    pub(super) fn on_failure(&mut self, now: Timestamp, contact: &Arc<Contact>, cause: DialCause) {
        self.expire(now);
        let (failures, hold, tried) = match self.forget(contact.peer()) {
            Some(backoff) if backoff.reached == self.reached => {
                (backoff.failures, self.base / 2, backoff.tried.merged(contact))
            }
            Some(backoff) => {
                (backoff.failures.saturating_add(1), self.hold(backoff.failures), backoff.tried.merged(contact))
            }
            None => (1, self.hold(0), Arc::clone(contact)),
        };
        while self.peers.len() >= self.limit {
            let Some((_, soonest)) = self.ends.pop_first() else { break };
            self.peers.remove(&soonest);
        }
        let until = now + hold;
        let end = until + self.max;
        self.ends.insert((end, *contact.peer()));
        let backoff = BackOff { until, end, failures, reached: self.reached, tried, cause };
        self.peers.insert(*contact.peer(), backoff);
    }

    /// How long a peer is left alone that failed once more than this often.
    fn hold(&self, before: u32) -> Duration {
        let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }

    /// Somebody was reached: the network is there.
    pub(super) fn on_reached(&mut self) {
        self.reached = self.reached.wrapping_add(1);
    }

    /// The peer can be reached after all, or might be.
    pub(super) fn on_hope(&mut self, peer: &PeerId) {
        self.forget(peer);
    }

    fn forget(&mut self, peer: &PeerId) -> Option<BackOff> {
        let backoff = self.peers.remove(peer)?;
        self.ends.remove(&(backoff.end, *peer));
        Some(backoff)
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some((end, peer)) = self.ends.first().copied()
            && end <= now
        {
            self.ends.pop_first();
            self.peers.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contact(peer: PeerId, ports: &[u16]) -> Arc<Contact> {
        Contact::new(peer, ports.iter().map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()))
    }

    fn backoffs(limit: usize) -> BackOffs {
        BackOffs::new(&DialConfig { backoff_peers: limit, ..DialConfig::default() })
    }

    impl BackOffs {
        fn holds(&self, now: Timestamp, contact: &Contact) -> bool {
            self.held(now, contact).is_some()
        }
    }

    #[test]
    fn it_doubles_up_to_the_longest_and_is_forgotten() {
        let (peer, mut backoffs) = (contact(PeerId::random(), &[1]), backoffs(10));
        let mut now = Timestamp::from_secs(1_000);
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            backoffs.on_reached();
            backoffs.on_failure(now, &peer, DialCause::Refused);
            assert!(backoffs.holds(now + Duration::from_secs(seconds - 1), &peer));
            now += Duration::from_secs(seconds);
            assert!(!backoffs.holds(now, &peer), "after {seconds} s");
        }
        now += Duration::from_secs(300);
        backoffs.on_failure(now, &peer, DialCause::Refused);
        assert!(!backoffs.holds(now + Duration::from_secs(5), &peer), "an old failure does not count");
        for _ in 0..100 {
            backoffs.on_reached();
            backoffs.on_failure(now, &peer, DialCause::Refused);
        }
        assert!(backoffs.holds(now, &peer));
    }

    #[test]
    fn an_outage_doubles_nothing() {
        let (peer, other, mut backoffs) =
            (contact(PeerId::random(), &[1]), contact(PeerId::random(), &[2]), backoffs(10));
        let mut now = Timestamp::from_secs(1_000);
        backoffs.on_failure(now, &peer, DialCause::Refused);
        assert!(backoffs.holds(now + Duration::from_secs(4), &peer));
        for _ in 0..100 {
            now += Duration::from_secs(5);
            backoffs.on_failure(now, &peer, DialCause::Refused);
            backoffs.on_failure(now, &other, DialCause::Refused);
            assert!(backoffs.holds(now + Duration::from_secs(2), &peer));
            assert!(!backoffs.holds(now + Duration::from_millis(2_500), &peer));
        }
        backoffs.on_reached();
        backoffs.on_failure(now, &peer, DialCause::Refused);
        assert!(backoffs.holds(now + Duration::from_secs(9), &peer), "the second that counts");
        assert!(!backoffs.holds(now + Duration::from_secs(10), &peer));
    }

    #[test]
    fn a_new_address_is_worth_a_dial_but_forgives_nothing() {
        let (peer, mut backoffs) = (PeerId::random(), backoffs(10));
        let now = Timestamp::from_secs(1_000);
        backoffs.on_failure(now, &contact(peer, &[1]), DialCause::Refused);
        assert!(backoffs.holds(now, &contact(peer, &[1])));
        assert!(backoffs.holds(now, &contact(peer, &[])));
        assert!(!backoffs.holds(now, &contact(peer, &[1, 2])));
        backoffs.on_reached();
        backoffs.on_failure(now, &contact(peer, &[2]), DialCause::Refused);
        assert!(backoffs.holds(now + Duration::from_secs(9), &contact(peer, &[1, 2])), "the second in a row");
        backoffs.on_hope(&peer);
        assert!(!backoffs.holds(now, &contact(peer, &[1])));
    }

    #[test]
    fn the_last_reason_is_told_while_it_holds() {
        let (peer, mut backoffs) = (contact(PeerId::random(), &[1]), backoffs(10));
        let now = Timestamp::from_secs(1_000);
        for cause in [DialCause::TimedOut, DialCause::Refused] {
            backoffs.on_failure(now, &peer, cause);
            assert_eq!(backoffs.held(now, &peer), Some(cause));
        }
        assert_eq!(backoffs.held(now + Duration::from_secs(300), &peer), None);
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        let mut backoffs = backoffs(10);
        for second in 0..100 {
            backoffs.on_failure(Timestamp::from_secs(second), &contact(PeerId::random(), &[1]), DialCause::Refused);
            assert!(backoffs.peers.len() <= 10);
            assert_eq!(backoffs.peers.len(), backoffs.ends.len());
        }
        backoffs.on_failure(Timestamp::from_secs(10_000), &contact(PeerId::random(), &[1]), DialCause::Refused);
        assert_eq!((backoffs.peers.len(), backoffs.ends.len()), (1, 1), "the others are over");
    }
}

//! The peers that are left alone for a while since they failed, and why. Other modules hold no peers back.
//!
//! Knows: failures in a row, at which addresses, and whether another peer gave a sign of life in between. Must not
//! know: the routing table, or why a peer would be asked.
//!
//! A peer is held back if its dial failed, or if it failed repeatedly without an answer in between. One failed request
//! alone does not hold a peer back: packets are lost, connections close, and the next lookup may well be answered.
//!
//! A failure counts only if the peer was asked after the back-off of its last one, so one restart of a peer is one
//! failure. An outage ends at the first sign of life after eight entries (or all, if there are fewer) failed in a row;
//! that ends the back-offs of those that failed in it. Other ends of a back-off: an answer, a connection after a failed
//! dial, an untried address, and when the application adds the peer again. Lookups towards the node itself try the boot
//! nodes in spite of their back-off: while few peers are known, these lookups come at growing intervals of their own: 5
//! s, 10 s and so on.
//!
//! Of two nodes that dial each other at once both may fail. After any broken handshake the node with the lower key
//! sends the request again, once, and the other is found by that connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use crate::core::config::BackOffConfig;
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::message::RequestError;
use crate::core::time::Timestamp;

/// Number of failures of table entries, with no answer from any peer in between, that are taken for an outage of this
/// node's own network; fewer if the table has fewer entries. Source: if one entry in four were dead, more than in any
/// table, this many in a row would happen once in 65,000 times.
const OUTAGE: usize = 8;

/// The back-offs of all peers, bounded in number: the one that ends soonest makes room.
#[derive(Debug)]
pub(crate) struct BackOffs {
    config: BackOffConfig,
    limit: usize,
    /// Number of signs of life of any peer so far.
    signs: u64,
    /// Failures of entries of the table since the last of them.
    silence: usize,
    /// Whether an outage ended that was not acted upon yet.
    outage_ended: bool,
    peers: BTreeMap<Key, BackOff>,
}

/// A request that failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailedRequest<'a> {
    pub(crate) now: Timestamp,
    /// When the peer was asked.
    pub(crate) asked: Timestamp,
    pub(crate) to: &'a Arc<Contact>,
    pub(crate) why: RequestError,
    /// Whether a query reports it.
    pub(crate) reported: bool,
}

#[derive(Debug)]
struct BackOff {
    /// When it ends; failures of requests sent before then belong to the same trouble.
    until: Timestamp,
    /// Failures in a row, at least one.
    failures: u32,
    /// [`BackOffs::signs`] at the last failure that counted.
    signs: u64,
    /// The addresses at which it failed.
    tried: Arc<Contact>,
    /// How it failed last.
    why: RequestError,
    /// Whether a query reported that.
    reported: bool,
}

impl BackOffs {
    /// Remembers at most `limit` peers.
    pub(crate) fn new(config: BackOffConfig, limit: usize) -> BackOffs {
        BackOffs { config, limit, signs: 0, silence: 0, outage_ended: false, peers: BTreeMap::new() }
    }

    /// Whether this peer is not to be asked now. An address at which it did not fail yet is always worth a try.
    pub(crate) fn is_held_back(&self, now: Timestamp, contact: &Contact) -> bool {
        self.peers.get(contact.key()).is_some_and(|known| known.holds(now, contact))
    }

    /// Why a peer is held back, for the report of a query that would ask it. The first query that comes across a failed
    /// dial reports that failure, later ones that the peer is held back. If the node itself asks (`asked` is false),
    /// the failure is left for a query to report.
    pub(crate) fn reason(&mut self, key: &Key, asked: bool) -> Option<RequestError> {
        let known = self.peers.get_mut(key)?;
        let first = !known.reported;
        known.reported |= asked;
        Some(if first && known.why.is_failed_dial() { known.why } else { known.why.held_back() })
    }

    /// The time from which a peer that failed is worth another request; `None` if no failure of it is remembered.
    pub(crate) fn until(&self, key: &Key) -> Option<Timestamp> {
        self.peers.get(key).map(|known| known.until)
    }

    /// A peer failed; `is_entry` if it is in the table. Returns whether that counts as a further failure.
    ///
    /// It counts if the peer was asked after the back-off of the failure before: a restart or a lost packet may spoil
    /// many requests in flight, and is one failure. There must also have been a sign of life of any peer since: without
    /// one this node's own network may be down. In that case the peer is tried again after half the shortest back-off:
    /// if the back-off doubled through an outage of five minutes, no peer would be tried for five minutes more.
    pub(crate) fn on_failure(&mut self, failure: FailedRequest<'_>, is_entry: bool, rng: &mut ChaCha8Rng) -> bool {
        let FailedRequest { now, asked, to, why, reported } = failure;
        self.silence += usize::from(is_entry);
        let mut known = self.peers.remove(to.key()).filter(|known| now < known.until + self.config.max);
        if let Some(same) = known.take_if(|known| asked < known.until) {
            self.peers.insert(*to.key(), same.with(to, why, reported));
            return false;
        }
        let before = known.as_ref().map_or(0, |known| known.failures);
        let outage = known.as_ref().is_some_and(|known| known.signs == self.signs);
        let (failures, hold) = match outage {
            true => (before, self.config.base / 2),
            false => {
                let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
                (before.saturating_add(1), self.config.base.saturating_mul(factor).min(self.config.max))
            }
        };
        // Up to a quarter longer: two nodes that dialled each other at the same time must not do so again.
        let until = now + hold + hold.mul_f64(0.25 * f64::from(rng.next_u32()) / f64::from(u32::MAX));
        let tried = known.map_or_else(|| Arc::clone(to), |known| known.tried.merged(to));
        self.make_room(now);
        self.peers.insert(*to.key(), BackOff { until, failures, signs: self.signs, tried, why, reported });
        !outage
    }

    /// If there is no room for one more, forgets peers whose failures are too old to count, or else the one whose
    /// back-off ends soonest.
    fn make_room(&mut self, now: Timestamp) {
        if self.peers.len() < self.limit {
            return;
        }
        let max = self.config.max;
        self.peers.retain(|_, known| now < known.until + max);
        if self.peers.len() >= self.limit
            && let Some(soonest) = self.peers.iter().min_by_key(|(_, known)| known.until).map(|(key, _)| *key)
        {
            self.peers.remove(&soonest);
        }
    }

    /// A peer answered: it may be asked again at once. `entries` is the number of entries of the table.
    pub(crate) fn on_answer(&mut self, now: Timestamp, key: &Key, entries: usize) {
        self.peers.remove(key);
        self.on_sign_of_life(now, entries);
    }

    /// A connection to a peer is up, whichever side dialled: a failed dial no longer holds it back.
    pub(crate) fn on_connected(&mut self, now: Timestamp, key: &Key, entries: usize) {
        if self.peers.get(key).is_some_and(|known| known.why.is_failed_dial()) {
            self.release(now, key);
        }
        self.on_sign_of_life(now, entries);
    }

    /// The application named a peer: it may be asked at once, whatever happened before.
    pub(crate) fn clear(&mut self, key: &Key) {
        self.peers.remove(key);
    }

    /// A peer may be asked now; its failures still count.
    pub(crate) fn release(&mut self, now: Timestamp, key: &Key) {
        if let Some(known) = self.peers.get_mut(key) {
            known.until = known.until.min(now);
        }
    }

    /// Whether an outage has ended since the last call.
    pub(crate) fn take_outage_ended(&mut self) -> bool {
        std::mem::take(&mut self.outage_ended)
    }

    /// A peer is alive. If that ends an outage, failures during it say nothing of the peers that failed.
    fn on_sign_of_life(&mut self, now: Timestamp, entries: usize) {
        if self.silence > 0 && self.silence >= OUTAGE.min(entries) {
            for known in self.peers.values_mut().filter(|known| known.signs == self.signs) {
                known.until = known.until.min(now);
            }
            self.outage_ended = true;
        }
        self.silence = 0;
        self.signs = self.signs.wrapping_add(1);
    }
}

impl BackOff {
    /// The same with one more request spoilt by the same trouble. Once the peer counts as unreachable, other failures
    /// add nothing.
    fn with(self, to: &Arc<Contact>, why: RequestError, reported: bool) -> BackOff {
        let why = if self.why.is_failed_dial() && !why.is_failed_dial() { self.why } else { why };
        BackOff { why, reported: self.reported || reported, tried: self.tried.merged(to), ..self }
    }

    fn holds(&self, now: Timestamp, contact: &Contact) -> bool {
        let holds = now < self.until && (self.failures > 1 || self.why.is_failed_dial());
        holds && contact.adds_nothing_to(&self.tried)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p_identity::PeerId;
    use rand_core::SeedableRng as _;

    use super::*;
    use crate::core::message::{DialCause, Unreachable};

    const REFUSED: RequestError = RequestError::Unreachable(Unreachable::DialFailed(DialCause::Refused));

    fn contact(peer: PeerId, ports: &[u16]) -> Arc<Contact> {
        Contact::new(peer, ports.iter().map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()))
    }

    fn someone() -> Arc<Contact> {
        contact(PeerId::random(), &[1])
    }

    struct Rig(BackOffs, ChaCha8Rng);

    impl Rig {
        fn new(limit: usize) -> Rig {
            Rig(BackOffs::new(BackOffConfig::default(), limit), ChaCha8Rng::seed_from_u64(1))
        }

        /// A request fails that was sent a moment ago.
        fn fail(&mut self, now: Timestamp, to: &Arc<Contact>, why: RequestError) -> bool {
            self.0.on_failure(FailedRequest { now, asked: now, to, why, reported: true }, false, &mut self.1)
        }

        fn fail_entry(&mut self, now: Timestamp, to: &Arc<Contact>) -> bool {
            self.0.on_failure(FailedRequest { now, asked: now, to, why: REFUSED, reported: true }, true, &mut self.1)
        }

        fn someone_answers(&mut self, now: Timestamp) {
            self.0.on_answer(now, someone().key(), 20);
        }
    }

    #[test]
    fn it_doubles_up_to_the_longest_and_is_forgotten() {
        let (peer, mut rig) = (someone(), Rig::new(10));
        let mut now = Timestamp::from_secs(1_000);
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            rig.someone_answers(now);
            assert!(rig.fail(now, &peer, REFUSED));
            assert!(rig.0.is_held_back(now + Duration::from_secs(seconds), &peer));
            now += Duration::from_secs(seconds) * 5 / 4;
            assert!(!rig.0.is_held_back(now, &peer), "after {seconds} s and a quarter more at most");
        }
        now += Duration::from_secs(300);
        assert!(rig.fail(now, &peer, REFUSED));
        assert!(!rig.0.is_held_back(now + Duration::from_secs(7), &peer), "an old failure does not count");
    }

    #[test]
    fn those_who_fail_together_are_not_tried_together() {
        let (now, mut rig) = (Timestamp::from_secs(1_000), Rig::new(100));
        let peers: Vec<_> = (0..100).map(|_| someone()).collect();
        peers.iter().for_each(|peer| _ = rig.fail(now, peer, REFUSED));
        let ends: std::collections::BTreeSet<_> = peers.iter().filter_map(|peer| rig.0.until(peer.key())).collect();
        assert!(ends.len() > 90, "{}", ends.len());
    }

    #[test]
    fn one_failed_request_holds_nobody_back_and_repeated_ones_do() {
        let (peer, mut rig) = (someone(), Rig::new(10));
        let at = Timestamp::from_secs;
        for why in [RequestError::Timeout, RequestError::ConnectionClosed, RequestError::Refused] {
            assert!(rig.fail(at(100), &peer, why));
            assert!(!rig.0.is_held_back(at(100), &peer));
            assert!(!rig.fail(at(101), &peer, why), "the same trouble");
            rig.someone_answers(at(102));
            let late = FailedRequest { now: at(109), asked: at(102), to: &peer, why, reported: true };
            let late = rig.0.on_failure(late, false, &mut rig.1);
            assert!(!late, "it was asked within the same trouble");
            assert!(rig.fail(at(110), &peer, why) && rig.0.is_held_back(at(119), &peer), "nothing answered between");
            let last = why.reason();
            assert_eq!(rig.0.reason(peer.key(), true), Some(RequestError::HeldBack { last }));
            rig.0.on_connected(at(112), peer.key(), 20);
            assert!(rig.0.is_held_back(at(112), &peer), "a connection is no answer");
            rig.0.on_answer(at(112), peer.key(), 20);
            assert!(!rig.0.is_held_back(at(112), &peer));
        }
    }

    #[test]
    fn an_outage_doubles_nothing() {
        let (peer, other, mut rig) = (someone(), someone(), Rig::new(10));
        let mut now = Timestamp::from_secs(1_000);
        rig.fail(now, &peer, REFUSED);
        rig.fail(now, &other, REFUSED);
        for _ in 0..100 {
            now += Duration::from_secs(7);
            assert!(!rig.fail(now, &peer, REFUSED));
            assert!(!rig.fail(now, &other, REFUSED));
            assert!(rig.0.is_held_back(now + Duration::from_secs(2), &peer));
            assert!(!rig.0.is_held_back(now + Duration::from_millis(3_125), &peer));
        }
        now += Duration::from_secs(7);
        rig.someone_answers(now);
        assert!(rig.fail(now, &peer, REFUSED));
        assert!(rig.0.is_held_back(now + Duration::from_secs(9), &peer), "the second that counts");
    }

    #[test]
    fn at_the_end_of_an_outage_everyone_may_be_asked() {
        let (mut rig, now) = (Rig::new(100), Timestamp::from_secs(10));
        let peers: Vec<_> = (0..20).map(|_| someone()).collect();
        let held = |rig: &Rig| peers.iter().filter(|peer| rig.0.is_held_back(now, peer)).count();
        peers[..3].iter().for_each(|peer| _ = rig.fail_entry(now, peer));
        rig.someone_answers(now);
        assert_eq!(held(&rig), 3, "three dead peers are no outage");
        peers[5..13].iter().for_each(|peer| _ = rig.fail_entry(now, peer));
        assert_eq!(held(&rig), 11);
        rig.someone_answers(now);
        assert_eq!(held(&rig), 3, "those that failed while somebody answered");
        let mut rig = Rig::new(100);
        peers[..2].iter().for_each(|peer| _ = rig.fail_entry(now, peer));
        rig.0.on_answer(now, peers[2].key(), 2);
        assert_eq!(held(&rig), 0, "as many as the table has entries");
    }

    #[test]
    fn a_new_address_is_worth_a_try_but_forgives_nothing() {
        let (peer, mut rig) = (PeerId::random(), Rig::new(10));
        let now = Timestamp::from_secs(1_000);
        rig.fail(now, &contact(peer, &[1]), REFUSED);
        assert!(rig.0.is_held_back(now, &contact(peer, &[1])));
        assert!(rig.0.is_held_back(now, &contact(peer, &[])));
        assert!(!rig.0.is_held_back(now, &contact(peer, &[1, 2])));
        rig.someone_answers(now);
        assert!(!rig.fail(now, &contact(peer, &[2]), REFUSED), "it may never have been there");
        assert!(rig.0.is_held_back(now, &contact(peer, &[1, 2])));
        let now = now + Duration::from_secs(7);
        assert!(rig.fail(now, &contact(peer, &[2]), REFUSED));
        assert!(rig.0.is_held_back(now + Duration::from_secs(9), &contact(peer, &[1, 2])), "the second in a row");
        rig.0.clear(contact(peer, &[]).key());
        assert!(!rig.0.is_held_back(now, &contact(peer, &[1])));
    }

    #[test]
    fn a_connection_ends_what_a_failed_dial_began() {
        let (peer, mut rig) = (someone(), Rig::new(10));
        let now = Timestamp::from_secs(1_000);
        rig.fail(now, &peer, RequestError::ConnectionClosed);
        assert!(!rig.fail(now, &peer, REFUSED) && rig.0.is_held_back(now, &peer), "nor can it be reached again");
        rig.0.on_connected(now, peer.key(), 20);
        assert!(!rig.0.is_held_back(now, &peer));
    }

    #[test]
    fn the_first_query_is_told_what_happened_and_the_others_that_it_is_held_back() {
        let (peer, mut rig, now) = (someone(), Rig::new(10), Timestamp::from_secs(1_000));
        let held = RequestError::Unreachable(Unreachable::BackingOff(DialCause::Refused));
        let by_trial = FailedRequest { now, asked: now, to: &peer, why: REFUSED, reported: false };
        rig.0.on_failure(by_trial, false, &mut rig.1);
        assert_eq!(
            rig.0.reason(peer.key(), false),
            Some(REFUSED),
            "by the node, which is not to take it from the application"
        );
        assert_eq!([(); 3].map(|()| rig.0.reason(peer.key(), true)), [Some(REFUSED), Some(held), Some(held)]);
        rig.someone_answers(now);
        rig.fail(now + Duration::from_secs(7), &peer, REFUSED);
        assert_eq!(rig.0.reason(peer.key(), true), Some(held), "a query dialled it itself");
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        let mut rig = Rig::new(10);
        for second in 0..100 {
            rig.fail(Timestamp::from_secs(second), &someone(), REFUSED);
            assert!(rig.0.peers.len() <= 10);
        }
        rig.fail(Timestamp::from_secs(10_000), &someone(), REFUSED);
        assert_eq!(rig.0.peers.len(), 1, "the others are over");
    }
}

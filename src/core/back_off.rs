//! Which peers are left alone for a while since they failed, and why. No other part of the node keeps such a clock.
//!
//! Knows: failures in a row, at which addresses, and whether anyone was heard of in between. Must not know: the routing
//! table, or who wants to ask a peer.
//!
//! A peer whose dial failed is held back, so is one that failed repeatedly with nothing answered in between. One failed
//! request alone holds nobody back: packets are lost, connections close, and the next lookup may well be answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng as _;

use super::config::BackOffConfig;
use super::contact::Contact;
use super::key::Key;
use super::message::RequestError;
use super::time::Timestamp;

/// After so many failures of entries of the routing table with no answer in between, or after as many as it has entries,
/// nobody answers: an outage. Source: where one entry in four is dead, which no table is, that many in a row happen once
/// in 65,000 times.
const OUTAGE: usize = 8;

/// Bounded in number; the one that is forgotten soonest anyway makes room.
#[derive(Debug)]
pub(crate) struct BackOffs {
    config: BackOffConfig,
    limit: usize,
    /// How often anyone answered or was reached.
    heard: u64,
    /// Failures of entries of the table since then.
    silence: usize,
    /// Whether an outage ended that nobody has taken note of.
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
    /// Whether a query is told of it.
    pub(crate) told: bool,
}

#[derive(Debug)]
struct BackOff {
    /// Until then it is held back, if it is, and further failures are the same trouble.
    until: Timestamp,
    /// In a row, at least one.
    failures: u32,
    /// What `heard` was at the last failure that was looked at.
    heard: u64,
    /// The addresses at which it failed.
    tried: Arc<Contact>,
    /// How it failed last.
    why: RequestError,
    /// Whether any query was told so.
    told: bool,
}

impl BackOffs {
    /// Remembers at most `limit` peers.
    pub(crate) fn new(config: BackOffConfig, limit: usize) -> BackOffs {
        BackOffs { config, limit, heard: 0, silence: 0, outage_ended: false, peers: BTreeMap::new() }
    }

    /// Whether this peer is not to be asked now. An address at which it did not fail yet is worth a try at once.
    pub(crate) fn is_held_back(&self, now: Timestamp, contact: &Contact) -> bool {
        self.peers.get(contact.key()).is_some_and(|known| known.is_held_back(now, contact))
    }

    /// Why a peer is held back, for the report of a query that would ask it. The first query that comes across a failed dial
    /// is told what happened, those after it that the peer is held back for it.
    /// What is told to the node alone (`asked` is false) leaves it to be told to the application.
    pub(crate) fn reason(&mut self, key: &Key, asked: bool) -> Option<RequestError> {
        let known = self.peers.get_mut(key)?;
        let first = !known.told;
        known.told |= asked;
        Some(if first && known.why.is_failed_dial() { known.why } else { known.why.held_back() })
    }

    /// When a peer that failed is worth another question, if it is remembered.
    pub(crate) fn until(&self, key: &Key) -> Option<Timestamp> {
        self.peers.get(key).map(|known| known.until)
    }

    /// A peer failed, an entry of the table or not. Returns whether that counts as a further failure.
    ///
    /// It does if the peer was asked after the back-off of the one before: a restart or a lost packet may spoil many
    /// requests that are under way, and is one failure. And it does if anyone was heard of since: where nobody was, it is
    /// this node's own network that is out, as far as anyone can tell. The peer is tried again after half the shortest
    /// time then: whoever doubles through an outage of five minutes finds nobody for five minutes more.
    pub(crate) fn on_failure(&mut self, failure: FailedRequest<'_>, is_entry: bool, rng: &mut ChaCha8Rng) -> bool {
        let FailedRequest { now, asked, to, why, told } = failure;
        self.silence += usize::from(is_entry);
        let mut known = self.peers.remove(to.key()).filter(|known| now < known.until + self.config.max);
        if let Some(same) = known.take_if(|known| asked < known.until) {
            self.peers.insert(*to.key(), same.with(to, why, told));
            return false;
        }
        let before = known.as_ref().map_or(0, |known| known.failures);
        let outage = known.as_ref().is_some_and(|known| known.heard == self.heard);
        let (failures, hold) = match outage {
            true => (before, self.config.base / 2),
            false => (before.saturating_add(1), self.hold(before)),
        };
        // Not all at the same time: two nodes that dialled each other at once would do so again.
        let until = now + hold + hold.mul_f64(0.25 * f64::from(rng.next_u32()) / f64::from(u32::MAX));
        let tried = known.map_or_else(|| Arc::clone(to), |known| known.tried.merged(to));
        self.make_room(now);
        self.peers.insert(*to.key(), BackOff { until, failures, heard: self.heard, tried, why, told });
        !outage
    }

    /// Where there is no room for one more, forgets whose failures are too old to count, or else the one whose back-off is over
    /// soonest.
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

    /// How long a peer is left alone that failed once more than this often.
    fn hold(&self, before: u32) -> Duration {
        let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
        self.config.base.saturating_mul(factor).min(self.config.max)
    }

    /// A peer answered: it may be asked again at once. The table has so many `entries`.
    pub(crate) fn on_answer(&mut self, now: Timestamp, key: &Key, entries: usize) {
        self.peers.remove(key);
        self.on_sign_of_life(now, entries);
    }

    /// A connection to a peer is up, whoever dialled: that a dial failed holds nobody back any more.
    pub(crate) fn on_connected(&mut self, now: Timestamp, key: &Key, entries: usize) {
        if self.peers.get(key).is_some_and(|known| known.why.is_failed_dial()) {
            self.release(now, key);
        }
        self.on_sign_of_life(now, entries);
    }

    /// The application names a peer: it is tried at once, whatever happened before.
    pub(crate) fn clear(&mut self, key: &Key) {
        self.peers.remove(key);
    }

    /// A peer is worth a try now; what it failed before counts.
    pub(crate) fn release(&mut self, now: Timestamp, key: &Key) {
        if let Some(known) = self.peers.get_mut(key) {
            known.until = known.until.min(now);
        }
    }

    /// Whether somebody answered, for the first time since nobody did; once.
    pub(crate) fn take_outage_ended(&mut self) -> bool {
        std::mem::take(&mut self.outage_ended)
    }

    /// Someone is there. Where nobody was, the failures until now tell nothing of those who failed.
    fn on_sign_of_life(&mut self, now: Timestamp, entries: usize) {
        if self.silence > 0 && self.silence >= OUTAGE.min(entries) {
            let since = self.peers.values_mut().filter(|known| known.heard == self.heard);
            since.for_each(|known| known.until = known.until.min(now));
            self.outage_ended = true;
        }
        self.silence = 0;
        self.heard = self.heard.wrapping_add(1);
    }
}

impl BackOff {
    /// The same with one more request that the same trouble spoilt. What it met is no news where there is no way to the
    /// peer.
    fn with(self, to: &Arc<Contact>, why: RequestError, told: bool) -> BackOff {
        let why = if self.why.is_failed_dial() && !why.is_failed_dial() { self.why } else { why };
        BackOff { why, told: self.told || told, tried: self.tried.merged(to), ..self }
    }

    fn is_held_back(&self, now: Timestamp, contact: &Contact) -> bool {
        let tried = self.tried.raw_addrs();
        now < self.until
            && (self.failures > 1 || self.why.is_failed_dial())
            && contact.raw_addrs().iter().all(|addr| tried.contains(addr))
    }
}

#[cfg(test)]
mod tests {
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

    struct Bench(BackOffs, ChaCha8Rng);

    impl Bench {
        fn new(limit: usize) -> Bench {
            Bench(BackOffs::new(BackOffConfig::default(), limit), ChaCha8Rng::seed_from_u64(1))
        }

        /// A request fails that was sent a moment ago.
        fn fail(&mut self, now: Timestamp, to: &Arc<Contact>, why: RequestError) -> bool {
            self.0.on_failure(FailedRequest { now, asked: now, to, why, told: true }, false, &mut self.1)
        }

        fn fail_entry(&mut self, now: Timestamp, to: &Arc<Contact>) -> bool {
            self.0.on_failure(FailedRequest { now, asked: now, to, why: REFUSED, told: true }, true, &mut self.1)
        }

        fn someone_answers(&mut self, now: Timestamp) {
            self.0.on_answer(now, someone().key(), 20);
        }
    }

    #[test]
    fn it_doubles_up_to_the_longest_and_is_forgotten() {
        let (peer, mut bench) = (someone(), Bench::new(10));
        let mut now = Timestamp::from_secs(1_000);
        for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
            bench.someone_answers(now);
            assert!(bench.fail(now, &peer, REFUSED));
            assert!(bench.0.is_held_back(now + Duration::from_secs(seconds), &peer));
            now += Duration::from_secs(seconds) * 5 / 4;
            assert!(!bench.0.is_held_back(now, &peer), "after {seconds} s and a quarter more at most");
        }
        now += Duration::from_secs(300);
        assert!(bench.fail(now, &peer, REFUSED));
        assert!(!bench.0.is_held_back(now + Duration::from_secs(7), &peer), "an old failure does not count");
    }

    #[test]
    fn those_who_fail_together_are_not_tried_together() {
        let (now, mut bench) = (Timestamp::from_secs(1_000), Bench::new(100));
        let peers: Vec<_> = (0..100).map(|_| someone()).collect();
        peers.iter().for_each(|peer| _ = bench.fail(now, peer, REFUSED));
        let ends: std::collections::BTreeSet<_> = peers.iter().filter_map(|peer| bench.0.until(peer.key())).collect();
        assert!(ends.len() > 90, "{}", ends.len());
    }

    #[test]
    fn one_failed_request_holds_nobody_back_and_repeated_ones_do() {
        let (peer, mut bench) = (someone(), Bench::new(10));
        let at = Timestamp::from_secs;
        for why in [RequestError::Timeout, RequestError::ConnectionClosed, RequestError::Refused] {
            assert!(bench.fail(at(100), &peer, why));
            assert!(!bench.0.is_held_back(at(100), &peer));
            assert!(!bench.fail(at(101), &peer, why), "the same trouble");
            bench.someone_answers(at(102));
            let late = FailedRequest { now: at(109), asked: at(102), to: &peer, why, told: true };
            let late = bench.0.on_failure(late, false, &mut bench.1);
            assert!(!late, "it was asked within the same trouble");
            assert!(
                bench.fail(at(110), &peer, why) && bench.0.is_held_back(at(119), &peer),
                "nothing answered between"
            );
            let last = why.reason();
            assert_eq!(bench.0.reason(peer.key(), true), Some(RequestError::HeldBack { last }));
            bench.0.on_connected(at(112), peer.key(), 20);
            assert!(bench.0.is_held_back(at(112), &peer), "a connection is no answer");
            bench.0.on_answer(at(112), peer.key(), 20);
            assert!(!bench.0.is_held_back(at(112), &peer));
        }
    }

    #[test]
    fn an_outage_doubles_nothing() {
        let (peer, other, mut bench) = (someone(), someone(), Bench::new(10));
        let mut now = Timestamp::from_secs(1_000);
        bench.fail(now, &peer, REFUSED);
        bench.fail(now, &other, REFUSED);
        for _ in 0..100 {
            now += Duration::from_secs(7);
            assert!(!bench.fail(now, &peer, REFUSED));
            assert!(!bench.fail(now, &other, REFUSED));
            assert!(bench.0.is_held_back(now + Duration::from_secs(2), &peer));
            assert!(!bench.0.is_held_back(now + Duration::from_millis(3_125), &peer));
        }
        now += Duration::from_secs(7);
        bench.someone_answers(now);
        assert!(bench.fail(now, &peer, REFUSED));
        assert!(bench.0.is_held_back(now + Duration::from_secs(9), &peer), "the second that counts");
    }

    #[test]
    fn at_the_end_of_an_outage_everyone_may_be_asked() {
        let (mut bench, now) = (Bench::new(100), Timestamp::from_secs(10));
        let peers: Vec<_> = (0..20).map(|_| someone()).collect();
        let held = |bench: &Bench| peers.iter().filter(|peer| bench.0.is_held_back(now, peer)).count();
        peers[..3].iter().for_each(|peer| _ = bench.fail_entry(now, peer));
        bench.someone_answers(now);
        assert_eq!(held(&bench), 3, "three dead peers are no outage");
        peers[5..13].iter().for_each(|peer| _ = bench.fail_entry(now, peer));
        assert_eq!(held(&bench), 11);
        bench.someone_answers(now);
        assert_eq!(held(&bench), 3, "those that failed while somebody answered");
        let mut bench = Bench::new(100);
        peers[..2].iter().for_each(|peer| _ = bench.fail_entry(now, peer));
        bench.0.on_answer(now, peers[2].key(), 2);
        assert_eq!(held(&bench), 0, "as many as the table has entries");
    }

    #[test]
    fn a_new_address_is_worth_a_try_but_forgives_nothing() {
        let (peer, mut bench) = (PeerId::random(), Bench::new(10));
        let now = Timestamp::from_secs(1_000);
        bench.fail(now, &contact(peer, &[1]), REFUSED);
        assert!(bench.0.is_held_back(now, &contact(peer, &[1])));
        assert!(bench.0.is_held_back(now, &contact(peer, &[])));
        assert!(!bench.0.is_held_back(now, &contact(peer, &[1, 2])));
        bench.someone_answers(now);
        assert!(!bench.fail(now, &contact(peer, &[2]), REFUSED), "it may never have been there");
        assert!(bench.0.is_held_back(now, &contact(peer, &[1, 2])));
        let now = now + Duration::from_secs(7);
        assert!(bench.fail(now, &contact(peer, &[2]), REFUSED));
        assert!(bench.0.is_held_back(now + Duration::from_secs(9), &contact(peer, &[1, 2])), "the second in a row");
        bench.0.clear(contact(peer, &[]).key());
        assert!(!bench.0.is_held_back(now, &contact(peer, &[1])));
    }

    #[test]
    fn a_connection_ends_what_a_failed_dial_began() {
        let (peer, mut bench) = (someone(), Bench::new(10));
        let now = Timestamp::from_secs(1_000);
        bench.fail(now, &peer, RequestError::ConnectionClosed);
        assert!(!bench.fail(now, &peer, REFUSED) && bench.0.is_held_back(now, &peer), "nor can it be reached again");
        bench.0.on_connected(now, peer.key(), 20);
        assert!(!bench.0.is_held_back(now, &peer));
    }

    #[test]
    fn the_first_query_is_told_what_happened_and_the_others_that_it_is_held_back() {
        let (peer, mut bench, now) = (someone(), Bench::new(10), Timestamp::from_secs(1_000));
        let held = RequestError::Unreachable(Unreachable::BackingOff(DialCause::Refused));
        let by_trial = FailedRequest { now, asked: now, to: &peer, why: REFUSED, told: false };
        bench.0.on_failure(by_trial, false, &mut bench.1);
        assert_eq!(
            bench.0.reason(peer.key(), false),
            Some(REFUSED),
            "by the node, which is not to take it from the application"
        );
        assert_eq!([(); 3].map(|()| bench.0.reason(peer.key(), true)), [Some(REFUSED), Some(held), Some(held)]);
        bench.someone_answers(now);
        bench.fail(now + Duration::from_secs(7), &peer, REFUSED);
        assert_eq!(bench.0.reason(peer.key(), true), Some(held), "a query dialled it itself");
    }

    #[test]
    fn the_number_of_peers_is_bounded() {
        let mut bench = Bench::new(10);
        for second in 0..100 {
            bench.fail(Timestamp::from_secs(second), &someone(), REFUSED);
            assert!(bench.0.peers.len() <= 10);
        }
        bench.fail(Timestamp::from_secs(10_000), &someone(), REFUSED);
        assert_eq!(bench.0.peers.len(), 1, "the others are over");
    }
}

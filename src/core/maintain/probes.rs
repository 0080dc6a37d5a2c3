//! Probes: single requests by which the routing table learns whether a candidate may enter it, and whether an entry
//! that is silent or failed is still there (rule A20).
//!
//! Knows: when to look through the table, which peers wait for a probe, and how many may be probed at a time. Must not
//! know: what an answer means.
//!
//! Each probe is a FIND_NODE for the peer's own id (rule A65). A trial ends with its answer, which admits the
//! candidate, or with its failure, which forgets it until it is offered again. An entry that was silent for the
//! interval is checked (rule A24), unless it asks something of this node in the meantime. An entry that failed is
//! checked when its back-off ends, so that a dead one is gone in minutes though no lookup asks it. Checks are spread
//! over the interval: they never come in a burst, whatever came in one before.
//!
//! Candidates wait in a bounded queue, entries to be checked in another, bounded by the table; neither holds up the
//! other. Candidates that do not answer keep their places until their time is over; so that those of one origin (an IP
//! group or, where groups do not count, a host) do not keep all, a candidate of another origin is tried beside them.
//!
//! While a peer waits for a full bucket, the entry without a connection that was silent for longest is checked at once:
//! one at a time in each bucket, the next 10 s after the first answer and then every 300 s; a failure in the bucket
//! ends the pause. If a check finds no connection, the next silent entry of the table is checked, and so on until one
//! answers, because peers that leave often leave together. When 44 peers were replaced by 44 others (10 seeds), after
//! 10 s all or all but one of those that fit were known and no dead one was named; without these checks 30 and 22,
//! after 86 and 145 s. A join of 300 nodes costs 4.7 % more requests, the hour after it none more. *Dropped:* a pause
//! per entry, by which each of 20 is asked six times in the first ten minutes; and a longest pause of 60 s, with which
//! the join cost 6 % more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::core::config::DhtConfig;
use crate::core::contact::Contact;
use crate::core::ip_group::IpGroup;
use crate::core::peers::{Host, Origin, Peers};
use crate::core::routing::{AdmissionQueue, RoutingTable};
use crate::core::time::Timestamp;

/// Minimum pause between two looks through the table. Source: a restart takes as long, and three failures in a row
/// forget a peer.
const PERIOD: Duration = Duration::from_secs(15);

/// The reason why a peer is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is a candidate for the table.
    Trial,
    /// It is in the table.
    Check,
}

/// A probe that is being made, with the origin of the candidate.
#[derive(Clone, Copy, Debug)]
enum Running {
    Trial(Origin),
    Check,
}

#[derive(Debug)]
pub(crate) struct Probes {
    candidates: AdmissionQueue<IpGroup, Host>,
    checks: VecDeque<Arc<Contact>>,
    /// The peers in these queues.
    waiting: BTreeMap<PeerId, Purpose>,
    /// The peers that are being probed.
    running: BTreeMap<PeerId, Running>,
    /// Maximum number of peers that are probed for each purpose.
    at_once: usize,
    /// Time without a sign of life after which an entry is checked; `None` for never, whatever happens to it.
    interval: Option<Duration>,
    /// When to look through the table next; has no meaning while the table is empty.
    next: Timestamp,
    /// When it was last looked through.
    last: Option<Timestamp>,
}

impl Probes {
    pub(crate) fn new(config: &DhtConfig) -> Probes {
        Probes {
            candidates: AdmissionQueue::new(config.limit.candidates),
            checks: VecDeque::new(),
            waiting: BTreeMap::new(),
            running: BTreeMap::new(),
            at_once: config.maintenance.probes,
            interval: config.maintenance.check_interval,
            next: Timestamp::ZERO,
            last: None,
        }
    }

    /// Offers a candidate for a trial. Origins take turns.
    pub(crate) fn offer(&mut self, contact: Arc<Contact>, origin: Origin) {
        let peer = contact.peer();
        if self.waiting.contains_key(peer) || self.running.contains_key(peer) {
            return;
        }
        self.waiting.insert(*peer, Purpose::Trial);
        if let Some(displaced) = self.candidates.push(contact, origin.group, origin.host) {
            self.waiting.remove(displaced.peer());
        }
    }

    /// Has an entry of the table checked; it may still wait for a trial, if a lookup's answer made it an entry.
    pub(crate) fn check(&mut self, contact: Arc<Contact>) {
        self.forget(contact.peer());
        if !self.waiting.contains_key(contact.peer()) && !self.running.contains_key(contact.peer()) {
            self.waiting.insert(*contact.peer(), Purpose::Check);
            self.checks.push_back(contact);
        }
    }

    /// The next peer that may be probed; it counts as being probed from now on.
    pub(crate) fn start_next(&mut self) -> Option<(Arc<Contact>, Purpose)> {
        let checks = self.running.values().filter(|of| matches!(of, Running::Check)).count();
        let check = if checks < self.at_once { self.checks.pop_front() } else { None };
        let (next, purpose, running) = match check {
            Some(contact) => (contact, Purpose::Check, Running::Check),
            None => {
                let (contact, origin) = self.next_candidate()?;
                (contact, Purpose::Trial, Running::Trial(origin))
            }
        };
        self.waiting.remove(next.peer());
        self.running.insert(*next.peer(), running);
        Some((next, purpose))
    }

    /// The next candidate. If as many are tried as may be at once, but they are of fewer origins, it is one of another
    /// origin.
    fn next_candidate(&mut self) -> Option<(Arc<Contact>, Origin)> {
        let tried = self.running.values().filter_map(|of| match of {
            Running::Trial(origin) => Some(origin.share()),
            Running::Check => None,
        });
        let mut tried: Vec<_> = tried.collect();
        let free = tried.len() < self.at_once;
        tried.sort_unstable();
        tried.dedup();
        if tried.len() >= self.at_once {
            return None;
        }
        let open = |group, host| free || !tried.contains(&Origin { group, host }.share());
        let (contact, group, host) = self.candidates.pop_next(open)?;
        Some((contact, Origin { group, host }))
    }

    /// A probe has ended, with or without an answer. Returns what it was for.
    pub(crate) fn finished(&mut self, peer: &PeerId) -> Option<Purpose> {
        self.running.remove(peer).map(|running| match running {
            Running::Trial(_) => Purpose::Trial,
            Running::Check => Purpose::Check,
        })
    }

    /// A peer is no longer a candidate. A running trial continues.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        if self.waiting.get(peer) == Some(&Purpose::Trial) {
            self.waiting.remove(peer);
            self.candidates.forget(peer);
        }
    }

    /// When to look through the table for entries to check; `None` while there is no need to.
    pub(crate) fn checks_due(&self, table: &RoutingTable) -> Option<Timestamp> {
        if table.len() > 0 && self.checks_entries() { Some(self.next) } else { None }
    }

    /// Whether entries are checked at all.
    pub(crate) fn checks_entries(&self) -> bool {
        self.interval.is_some()
    }

    /// An entry failed: it is to be checked after its back-off.
    pub(crate) fn on_entry_failed(&mut self, retry_at: Timestamp) {
        let soonest = self.last.map_or(retry_at, |last| (last + PERIOD).max(retry_at));
        self.next = self.next.min(soonest);
    }

    /// Looks through the table and queues the entries to check: at most twice as many as it takes to check every entry
    /// of a table in which all are silent.
    pub(crate) fn queue_checks(&mut self, now: Timestamp, peers: &Peers) {
        let Some(interval) = self.interval else { return };
        let table = &peers.table;
        let rounds = (interval.as_micros() / PERIOD.as_micros()).max(1);
        let quota = table.len() * 2 / usize::try_from(rounds).unwrap_or(usize::MAX) + 1;
        let due = table.due(now, quota, |entry| peers.check_at(entry, interval));
        let next = table.entries().map(|entry| peers.check_at(entry, interval)).min().unwrap_or(now + interval);
        self.last = Some(now);
        self.next = next.max(now + PERIOD);
        due.into_iter().for_each(|contact| self.check(contact));
    }

    /// Whether an entry that waited for its check is still to be checked: it may have answered or asked in the
    /// meantime.
    pub(crate) fn is_check_due(&self, now: Timestamp, contact: &Contact, peers: &Peers) -> bool {
        let (quiet, key) = (self.interval.unwrap_or(Duration::MAX), contact.key());
        let due = peers.table.get(key).is_some_and(|entry| peers.check_at(entry, quiet) <= now);
        due || peers.table.is_challenged(key)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng as _;

    use super::*;
    use crate::core::message::{DialCause, Unreachable};
    use crate::core::peers::FailedRequest;

    fn probes(at_once: usize, candidates: usize, check_interval: Option<Duration>) -> Probes {
        let mut config = DhtConfig::default();
        (config.maintenance.probes, config.limit.candidates) = (at_once, candidates);
        config.maintenance.check_interval = check_interval;
        Probes::new(&config)
    }

    fn contacts(count: usize) -> Vec<Arc<Contact>> {
        (0..count).map(|_| Contact::new(PeerId::random(), [])).collect()
    }

    #[test]
    fn few_are_probed_at_a_time_each_once_and_the_queue_is_bounded() {
        let mut probes = probes(2, 5, None);
        let contacts = contacts(50);
        for contact in contacts.iter().chain(&contacts) {
            probes.offer(Arc::clone(contact), Origin::default());
        }
        assert_eq!((probes.candidates.len(), probes.waiting.len()), (5, 5));
        let (first, purpose) = probes.start_next().unwrap();
        assert_eq!(purpose, Purpose::Trial);
        assert!(probes.start_next().is_some());
        assert!(probes.start_next().is_none());
        probes.offer(Arc::clone(&first), Origin::default());
        assert_eq!(probes.candidates.len(), 3, "it is on trial already");
        assert_eq!(probes.finished(first.peer()), Some(Purpose::Trial));
        assert_eq!(probes.finished(first.peer()), None);
        assert!(probes.start_next().is_some());
        assert!(probes.start_next().is_none());
        probes.offer(first, Origin::default());
        assert_eq!(probes.candidates.len(), 3);
    }

    #[test]
    fn of_candidates_that_do_not_answer_those_of_one_origin_do_not_hold_up_others() {
        let mut probes = probes(2, 128, None);
        let from = |ip: u32| Origin { group: None, host: Some(Host::V4(ip)) };
        let (silent, honest) = (contacts(140), contacts(3));
        silent.iter().for_each(|peer| probes.offer(Arc::clone(peer), from(1)));
        let next = |probes: &mut Probes| probes.start_next().map(|(peer, _)| peer);
        assert!(next(&mut probes).is_some() && next(&mut probes).is_some());
        assert_eq!(next(&mut probes), None);
        honest.iter().for_each(|peer| probes.offer(Arc::clone(peer), from(2)));
        assert_eq!(next(&mut probes).as_ref(), Some(&honest[0]), "at once");
        assert_eq!(next(&mut probes), None, "not another one, or few addresses would be many trials");
        probes.finished(honest[0].peer());
        assert_eq!(next(&mut probes).as_ref(), Some(&honest[1]));
        probes.finished(silent[0].peer());
        probes.finished(silent[1].peer());
        assert_eq!(next(&mut probes).as_ref(), Some(&silent[2]), "they take turns");
    }

    #[test]
    fn checks_and_trials_do_not_hold_up_each_other() {
        let mut probes = probes(1, 5, None);
        let peers = contacts(4);
        peers[..2].iter().for_each(|peer| probes.offer(Arc::clone(peer), Origin::default()));
        peers[2..].iter().for_each(|peer| probes.check(Arc::clone(peer)));
        probes.check(Arc::clone(&peers[2]));
        let started: Vec<_> = std::iter::from_fn(|| probes.start_next()).collect();
        assert_eq!(started, [(Arc::clone(&peers[2]), Purpose::Check), (Arc::clone(&peers[0]), Purpose::Trial)]);
        assert_eq!(probes.finished(peers[2].peer()), Some(Purpose::Check));
        assert_eq!(probes.start_next(), Some((Arc::clone(&peers[3]), Purpose::Check)));
        assert_eq!(probes.start_next(), None);
    }

    /// A lookup's answer made it an entry meanwhile, and another peer wants its place.
    #[test]
    fn a_peer_that_waits_for_a_trial_may_be_checked_instead() {
        let mut probes = probes(1, 5, None);
        let peer = contacts(1).remove(0);
        probes.offer(Arc::clone(&peer), Origin::default());
        probes.check(Arc::clone(&peer));
        assert_eq!(probes.start_next(), Some((Arc::clone(&peer), Purpose::Check)));
        assert_eq!(probes.start_next(), None, "only once");
    }

    #[test]
    fn a_peer_that_is_no_longer_a_candidate_is_not_tried() {
        let mut probes = probes(1, 5, None);
        let peers = contacts(3);
        peers.iter().for_each(|peer| probes.offer(Arc::clone(peer), Origin::default()));
        assert!(probes.start_next().is_some());
        peers.iter().for_each(|peer| probes.forget(peer.peer()));
        assert_eq!(probes.finished(peers[0].peer()), Some(Purpose::Trial), "a trial goes on");
        assert!(probes.start_next().is_none());
        assert!(probes.waiting.is_empty() && probes.running.is_empty());
    }

    fn peers() -> Peers {
        Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default())
    }

    /// Looks through the table at this time, and has every check answered.
    fn check_all(probes: &mut Probes, now: Timestamp, peers: &Peers) -> Vec<Arc<Contact>> {
        probes.queue_checks(now, peers);
        let checked: Vec<_> = std::iter::from_fn(|| probes.start_next()).map(|(peer, _)| peer).collect();
        checked.iter().for_each(|peer| assert_eq!(probes.finished(peer.peer()), Some(Purpose::Check)));
        checked
    }

    #[test]
    fn a_silent_entry_is_checked_once_an_interval_and_never_in_a_burst() {
        let mut peers = peers();
        let interval = Duration::from_secs(600);
        let mut probes = probes(usize::MAX, 5, Some(interval));
        assert_eq!(probes.checks_due(&peers.table), None, "the table is empty");
        for _ in 0..100 {
            peers.table.offer(Timestamp::ZERO, &Contact::new(PeerId::random(), []));
        }
        let (mut asked, mut most, mut wakes) = (0, 0, 0);
        while let Some(at) = probes.checks_due(&peers.table).filter(|at| *at < Timestamp::from_secs(6_000)) {
            let due = check_all(&mut probes, at, &peers);
            (asked, most, wakes) = (asked + due.len(), most.max(due.len()), wakes + 1);
            for peer in &due {
                peers.table.offer(at, peer);
            }
        }
        let each = asked as f64 / peers.table.len() as f64;
        assert!((8.0..=9.5).contains(&each), "{each} times each in nine intervals");
        assert!(most <= peers.table.len() / 10, "{most} at once");
        assert!(wakes < 450, "{wakes}");
    }

    #[test]
    fn an_entry_that_failed_is_checked_when_its_back_off_ends() {
        let (mut peers, peer, at) = (peers(), Contact::new(PeerId::random(), []), Timestamp::from_secs(100));
        peers.table.offer(Timestamp::ZERO, &peer);
        let mut probes = probes(usize::MAX, 5, Some(Duration::from_secs(600)));
        assert!(check_all(&mut probes, Timestamp::ZERO, &peers).is_empty());
        assert_eq!(probes.checks_due(&peers.table), Some(Timestamp::from_secs(600)));
        let why = Unreachable::DialFailed(DialCause::Refused).into();
        let failure = FailedRequest { now: at, asked: at, to: &peer, why, reported: false };
        assert_eq!(peers.on_failure(failure, &mut ChaCha8Rng::seed_from_u64(1)), None);
        let retry_at = peers.check_at(peers.table.get(peer.key()).unwrap(), Duration::MAX);
        assert!((105..=107).contains(&(retry_at.as_micros() / 1_000_000)), "{retry_at:?}");
        probes.on_entry_failed(retry_at);
        assert_eq!(probes.checks_due(&peers.table), Some(retry_at));
        assert!(probes.is_check_due(retry_at, &peer, &peers));
        assert_eq!(check_all(&mut probes, retry_at, &peers), [peer]);
    }
}

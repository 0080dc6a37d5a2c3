//! Asks the entries of the table from which nothing was heard for a while, and those that failed, whether they are there.
//!
//! Knows: when to look through the table, and how many to ask at a time. Must not know: what an answer means.
//!
//! An entry that is silent for the interval is asked (rule A24); whoever asks something of this node in the meantime need
//! not be. One that failed is asked again once its back-off is over, so that a dead one is gone in minutes though no
//! lookup meets it. Checks are spread over the interval: they never come in a burst, whatever came in one before.

use std::sync::Arc;
use std::time::Duration;

use crate::core::contact::Contact;
use crate::core::peers::Peers;
use crate::core::routing::RoutingTable;
use crate::core::time::Timestamp;

/// The table is looked through this often at most. Source: a restart takes as long, and three failures in a row forget a
/// peer.
const PERIOD: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(crate) struct Checks {
    /// Without a sign of life for so long an entry is asked; `None` for never, and then nobody is.
    interval: Option<Duration>,
    /// When to look through the table next, if anyone is in it.
    next: Timestamp,
    /// When it was last looked through.
    last: Option<Timestamp>,
}

impl Checks {
    pub(crate) fn new(interval: Option<Duration>) -> Checks {
        Checks { interval, next: Timestamp::ZERO, last: None }
    }

    /// When to look through the table; `None` for never, as it is.
    pub(crate) fn due(&self, table: &RoutingTable) -> Option<Timestamp> {
        self.interval.filter(|_| table.len() > 0).map(|_| self.next)
    }

    /// An entry failed: it is to be asked again after its back-off.
    pub(crate) fn on_failure(&mut self, retry_at: Timestamp) {
        let soonest = self.last.map_or(retry_at, |last| (last + PERIOD).max(retry_at));
        self.next = self.next.min(soonest);
    }

    /// Looks through the table: whom to ask now. At most twice as many as keep pace with a table in which everyone is
    /// silent.
    pub(crate) fn run(&mut self, now: Timestamp, peers: &Peers) -> Vec<Arc<Contact>> {
        let Some(interval) = self.interval else { return Vec::new() };
        let table = &peers.table;
        let rounds = (interval.as_micros() / PERIOD.as_micros()).max(1);
        let quota = table.len() * 2 / usize::try_from(rounds).unwrap_or(usize::MAX) + 1;
        let due = table.due(now, quota, |entry| peers.check_at(entry, interval));
        let next = table.entries().map(|entry| peers.check_at(entry, interval)).min().unwrap_or(now + interval);
        self.last = Some(now);
        self.next = next.max(now + PERIOD);
        due
    }

    /// Whether anyone is asked at all.
    pub(crate) fn are_on(&self) -> bool {
        self.interval.is_some()
    }

    /// Whether an entry that was to be asked is to be asked still: it may have answered, or asked, in the meantime.
    pub(crate) fn wants(&self, now: Timestamp, contact: &Contact, peers: &Peers) -> bool {
        let (quiet, key) = (self.interval.unwrap_or(Duration::MAX), contact.key());
        let due = peers.table.get(key).is_some_and(|entry| peers.check_at(entry, quiet) <= now);
        due || peers.table.is_challenged(key)
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng as _;

    use super::*;
    use crate::core::back_off::FailedRequest;
    use crate::core::config::DhtConfig;
    use crate::core::message::{DialCause, Unreachable};

    fn peers() -> Peers {
        Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default())
    }

    #[test]
    fn everyone_silent_is_asked_once_an_interval_and_never_in_a_burst() {
        let mut peers = peers();
        let interval = Duration::from_secs(600);
        let mut checks = Checks::new(Some(interval));
        assert_eq!(checks.due(&peers.table), None, "nobody is there");
        for _ in 0..100 {
            peers.table.offer(Timestamp::ZERO, &Contact::new(PeerId::random(), []));
        }
        let (mut asked, mut most, mut wakes) = (0, 0, 0);
        while let Some(at) = checks.due(&peers.table).filter(|at| *at < Timestamp::from_secs(6_000)) {
            let due = checks.run(at, &peers);
            (asked, most, wakes) = (asked + due.len(), most.max(due.len()), wakes + 1);
            due.iter().for_each(|peer| _ = peers.table.offer(at, peer));
        }
        let each = asked as f64 / peers.table.len() as f64;
        assert!((8.0..=9.5).contains(&each), "{each} times each in nine intervals");
        assert!(most <= peers.table.len() / 10, "{most} at once");
        assert!(wakes < 450, "{wakes}");
    }

    #[test]
    fn a_failure_is_followed_up_when_its_back_off_is_over() {
        let (mut peers, peer, at) = (peers(), Contact::new(PeerId::random(), []), Timestamp::from_secs(100));
        peers.table.offer(Timestamp::ZERO, &peer);
        let mut checks = Checks::new(Some(Duration::from_secs(600)));
        assert!(checks.run(Timestamp::ZERO, &peers).is_empty());
        assert_eq!(checks.due(&peers.table), Some(Timestamp::from_secs(600)));
        let why = Unreachable::DialFailed(DialCause::Refused).into();
        let failure = FailedRequest { now: at, asked: at, to: &peer, why, told: false };
        assert_eq!(peers.on_failure(failure, &mut ChaCha8Rng::seed_from_u64(1)), None);
        let retry_at = peers.check_at(peers.table.get(peer.key()).unwrap(), Duration::MAX);
        assert!((105..=107).contains(&(retry_at.as_micros() / 1_000_000)), "{retry_at:?}");
        checks.on_failure(retry_at);
        assert_eq!(checks.due(&peers.table), Some(retry_at));
        assert!(checks.wants(retry_at, &peer, &peers));
        assert_eq!(checks.run(retry_at, &peers), [peer]);
    }
}

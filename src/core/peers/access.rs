//! The peers that take part: the filter of the application, what it was told of peers, and bans.
//!
//! Knows: peers, times, and how often each broke a rule. Must not know: the routing table, queries or connections.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use crate::core::config::LimitConfig;
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::message::Request;
use crate::core::time::Timestamp;

/// Maximum length of a peer's agent and of each of its protocols, in bytes; the rest is cut off. Source: those of real
/// implementations have up to 60.
const MAX_AGENT_LEN: usize = 256;
/// Maximum number of protocols that are kept of a peer. Source: the Go implementation of IPFS has 20.
const MAX_PROTOCOLS: usize = 64;

/// Decides which peers take part, by an allow list, a version, or whatever else the application knows.
///
/// It is asked often, also in the middle of a lookup: it must be quick, and answer from memory. When its mind changes,
/// [set it again](crate::core::Dht::set_filter). Both methods accept everything unless they are written.
///
/// ```
/// # use std::collections::BTreeSet;
/// # use libp2p_identity::PeerId;
/// # use multiaddr::Multiaddr;
/// use libp2p_kad_dht::PeerFilter;
///
/// #[derive(Debug)]
/// struct Validators(BTreeSet<PeerId>);
///
/// impl PeerFilter for Validators {
///     fn admit(&self, peer: &PeerId, agent: Option<&str>, _: &[String], _: &[Multiaddr]) -> bool {
///         self.0.contains(peer) && agent.is_none_or(|agent| agent.starts_with("my-app/2."))
///     }
/// }
/// ```
pub trait PeerFilter: fmt::Debug + Send + Sync {
    /// Whether a peer may enter the routing table, and be asked. `agent` and `protocols` are what the application told
    /// of the peer by [`set_agent`](crate::core::Dht::set_agent), for as long as it is connected; before that `None`
    /// and none. The peer is judged again when that comes.
    fn admit(&self, peer: &PeerId, agent: Option<&str>, protocols: &[String], addrs: &[Multiaddr]) -> bool {
        let _ = (peer, agent, protocols, addrs);
        true
    }

    /// Whether to answer a request of a peer. One that is not is reset.
    fn accept(&self, peer: &PeerId, request: &Request) -> bool {
        let _ = (peer, request);
        true
    }
}

/// What the application told of a connected peer.
#[derive(Clone, Debug, Default)]
struct Agent {
    name: String,
    protocols: Vec<String>,
}

/// The rules that a peer broke within one period.
#[derive(Clone, Copy, Debug)]
struct Breaches {
    since: Timestamp,
    all: usize,
    /// Those that only a peer can commit that does not follow the protocol.
    grave: usize,
}

/// What a breach leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether the application hears of it: of so many in a period, and no more.
    pub(crate) reported: bool,
    /// Whether the peer is to be banned.
    pub(crate) banned: bool,
}

#[derive(Debug)]
pub(crate) struct Access {
    filter: Option<Arc<dyn PeerFilter>>,
    /// Bounded by the connections that the driver allows.
    agents: BTreeMap<Key, Agent>,
    bans: BTreeMap<Key, Timestamp>,
    /// The same in the order in which they end.
    ends: BTreeSet<(Timestamp, Key)>,
    breaches: BTreeMap<Key, Breaches>,
    max_bans: usize,
    max_breaches: usize,
}

/// Time after which breaches are forgotten. Source: a peer that breaks a rule twice a minute is no accident.
const PERIOD: Duration = Duration::from_secs(300);

impl Access {
    pub(crate) fn new(limit: &LimitConfig) -> Access {
        Access {
            filter: None,
            agents: BTreeMap::new(),
            bans: BTreeMap::new(),
            ends: BTreeSet::new(),
            breaches: BTreeMap::new(),
            max_bans: limit.bans,
            max_breaches: limit.breaches,
        }
    }

    /// Ends the bans whose time is over.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        while let Some((at, key)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.ends.remove(&(at, key));
            self.bans.remove(&key);
        }
    }

    /// Whether a peer may be in the table and be asked.
    pub(crate) fn admits(&self, contact: &Contact) -> bool {
        if self.bans.is_empty() && self.filter.is_none() {
            return true; // without hashing the peer's id
        }
        if self.is_banned(contact.key()) {
            return false;
        }
        let Some(filter) = &self.filter else { return true };
        let agent = self.agents.get(contact.key());
        let (name, protocols) = (agent.map(|agent| &*agent.name), agent.map_or(&[][..], |agent| &agent.protocols));
        filter.admit(contact.peer(), name, protocols, &contact.addrs().collect::<Vec<_>>())
    }

    /// Whether a request of a peer is answered.
    pub(crate) fn accepts(&self, peer: &PeerId, key: &Key, request: &Request) -> bool {
        !self.is_banned(key) && self.filter.as_ref().is_none_or(|filter| filter.accept(peer, request))
    }

    pub(crate) fn is_banned(&self, key: &Key) -> bool {
        self.bans.contains_key(key)
    }

    pub(crate) fn set_filter(&mut self, filter: Option<Arc<dyn PeerFilter>>) {
        self.filter = filter;
    }

    pub(crate) fn set_agent(&mut self, key: Key, name: &str, protocols: impl IntoIterator<Item = String>) {
        let short = |mut text: String| {
            let ends = text.char_indices().map(|(at, of)| at + of.len_utf8());
            let end = ends.take_while(|end| *end <= MAX_AGENT_LEN).last().unwrap_or(0);
            text.truncate(end);
            text
        };
        let protocols = protocols.into_iter().take(MAX_PROTOCOLS).map(short).collect();
        self.agents.insert(key, Agent { name: short(name.to_owned()), protocols });
    }

    pub(crate) fn on_disconnected(&mut self, key: &Key) {
        self.agents.remove(key);
    }

    /// Bans a peer until this time. At the limit, the ban that ends first gives way.
    pub(crate) fn ban(&mut self, key: Key, until: Timestamp) {
        self.unban(&key);
        while self.bans.len() >= self.max_bans.max(1)
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.bans.remove(&first);
        }
        self.bans.insert(key, until);
        self.ends.insert((until, key));
    }

    /// Returns whether the peer was banned.
    pub(crate) fn unban(&mut self, key: &Key) -> bool {
        self.breaches.remove(key);
        let until = self.bans.remove(key);
        until.is_some_and(|until| self.ends.remove(&(until, *key)))
    }

    /// A peer broke a rule.
    pub(crate) fn on_breach(&mut self, now: Timestamp, key: Key, grave: bool) -> Verdict {
        if self.breaches.len() >= self.max_bans && !self.breaches.contains_key(&key) {
            self.breaches.retain(|_, breaches| now < breaches.since + PERIOD);
            if self.breaches.len() >= self.max_bans {
                self.breaches.clear(); // however many peers share in it, the memory is bounded
            }
        }
        let breaches = self.breaches.entry(key).or_insert(Breaches { since: now, all: 0, grave: 0 });
        if now >= breaches.since + PERIOD || now < breaches.since {
            *breaches = Breaches { since: now, all: 0, grave: 0 };
        }
        breaches.all += 1;
        breaches.grave += usize::from(grave);
        Verdict { reported: breaches.all <= self.max_breaches, banned: breaches.grave >= self.max_breaches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(bans: usize) -> Access {
        let mut limit = LimitConfig::default();
        (limit.bans, limit.breaches) = (bans, 3);
        Access::new(&limit)
    }

    fn key(n: u8) -> Key {
        Key::from_bytes([n; 32])
    }

    #[test]
    fn a_ban_ends_in_its_time_and_the_first_to_end_gives_way() {
        let mut access = access(2);
        let at = Timestamp::from_secs;
        access.ban(key(1), at(30));
        access.ban(key(2), at(20));
        access.ban(key(1), at(40));
        access.ban(key(3), at(30));
        assert_eq!([1, 2, 3].map(|n| access.is_banned(&key(n))), [true, false, true]);
        access.advance(at(29));
        assert!(access.is_banned(&key(3)));
        access.advance(at(30));
        assert_eq!([1, 3].map(|n| access.is_banned(&key(n))), [true, false]);
        assert!(access.unban(&key(1)) && !access.unban(&key(1)));
        access.advance(Timestamp::MAX);
    }

    #[test]
    fn breaches_are_reported_up_to_a_limit_and_grave_ones_lead_to_a_ban() {
        let mut access = access(100);
        let mut breach = |at, grave| {
            let verdict = access.on_breach(Timestamp::from_secs(at), key(1), grave);
            (verdict.reported, verdict.banned)
        };
        assert_eq!(
            [1, 2, 3, 4].map(|at| breach(at, false)),
            [(true, false), (true, false), (true, false), (false, false)]
        );
        assert_eq!([301, 302, 303].map(|at| breach(at, true)), [(true, false), (true, false), (true, true)]);
    }

    #[test]
    fn breaches_of_any_number_of_peers_are_bounded() {
        let mut access = access(10);
        for n in 0..1_000u64 {
            access.on_breach(Timestamp::from_secs(n), Key::hash(&n.to_be_bytes()), true);
            assert!(access.breaches.len() <= 10);
        }
    }
}

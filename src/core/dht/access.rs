//! Carries out what the application decides about peers: its filter, bans and removals.
//!
//! Knows: what else a peer that is shut out leaves. Must not know: the reason for it.

use super::*;
use crate::core::peers::PeerFilter;

/// Time for which a peer is banned that broke the protocol too often. Source: twice the time in which breaches count.
const BAN: Duration = Duration::from_secs(600);

impl Dht {
    /// Sets the filter that decides which peers take part, or none. Peers of the routing table that it does not admit
    /// leave at once.
    pub fn set_filter(&mut self, now: Timestamp, filter: Option<Arc<dyn PeerFilter>>) {
        let now = self.follow(now);
        self.peers.access.set_filter(filter);
        let entries = self.peers.table.entries().map(|entry| &entry.contact);
        let refused: Vec<_> = entries.filter(|peer| !self.peers.access.admits(peer)).map(|peer| *peer.key()).collect();
        for key in refused {
            self.leave(now, &key);
        }
        self.end_refused(now);
    }

    /// Tells what a connected peer runs, as identify reports it: the filter judges the peer again. Forgotten with the
    /// connection. Of the agent and of each protocol 256 bytes are kept, and 64 protocols.
    pub fn set_agent(
        &mut self,
        now: Timestamp,
        peer: PeerId,
        agent: &str,
        protocols: impl IntoIterator<Item = String>,
    ) {
        let (now, key) = (self.follow(now), Key::from(&peer));
        if !self.peers.is_connected(&key) {
            return;
        }
        self.peers.access.set_agent(key, agent, protocols);
        match self.peers.contact_at(&key) {
            Some(contact) if !self.peers.access.admits(&contact) => self.leave(now, &key),
            Some(contact) if self.peers.may_serve(&key) => self.offer(now, contact),
            _ => {}
        }
        self.end_refused(now);
    }

    /// Bans a peer for this time: it is neither asked nor answered, dialled or named to others, and leaves the routing
    /// table. Its connections stay: closing them is the driver's. A later ban of the same peer replaces this one;
    /// beyond [`LimitConfig::bans`](crate::core::config::LimitConfig::bans) the ban that ends first gives way.
    pub fn ban(&mut self, now: Timestamp, peer: PeerId, time: Duration) {
        let now = self.follow(now);
        self.shut_out(now, peer, time);
        self.end_refused(now);
    }

    fn shut_out(&mut self, now: Timestamp, peer: PeerId, time: Duration) {
        let key = Key::from(&peer);
        self.peers.access.ban(key, now + time);
        self.probes.forget(&peer);
        self.leave(now, &key);
    }

    /// Ends the ban of a peer; `false` if it is not banned. The peer comes back when it is met again.
    pub fn unban(&mut self, peer: &PeerId) -> bool {
        self.peers.access.unban(&Key::from(peer))
    }

    /// Removes a peer from the routing table and forgets its addresses. It comes back when it is met again; see
    /// [`Dht::ban`]. Returns whether the peer was known.
    pub fn remove_peer(&mut self, now: Timestamp, peer: &PeerId) -> bool {
        let (now, key) = (self.follow(now), Key::from(peer));
        let known = self.peers.contact_at(&key);
        if let Some(known) = &known {
            self.peers.book.forget(&key, known);
        }
        self.probes.forget(peer);
        self.leave(now, &key);
        self.end_refused(now);
        known.is_some()
    }

    /// A peer broke a rule on its own connection. If it does so too often it is banned for a while.
    pub(super) fn misbehaved(&mut self, now: Timestamp, peer: PeerId, what: Misbehaviour) {
        self.stats.misbehaved += 1;
        tracing::debug!(%peer, %what, "peer misbehaved");
        let verdict = self.peers.access.on_breach(now, Key::from(&peer), what.is_grave());
        if verdict.reported {
            self.outputs.push_back(Output::Event(Event::PeerMisbehaved { peer, what }));
        }
        if verdict.banned {
            tracing::debug!(%peer, "banned for a while");
            self.shut_out(now, peer, BAN);
        }
    }
}

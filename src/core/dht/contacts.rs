//! What the node learns of other peers, and how they come into the routing table.
//!
//! Knows: whom to offer to the table. Must not know: how the table judges.

use super::*;

impl Dht {
    /// Someone told of a peer.
    pub(super) fn on_contact(&mut self, now: Timestamp, contact: &Arc<Contact>, source: Source) {
        if contact.key() == self.peers.local.key() {
            return;
        }
        let contact = self.peers.note(now, contact, source);
        if source == Source::Application || self.peers.serves(contact.key()) {
            self.offer(now, contact);
        }
    }

    pub(super) fn on_connected(&mut self, now: Timestamp, peer: PeerId, outbound_addr: Option<multiaddr::Multiaddr>) {
        let key = Key::from(&peer);
        self.peers.connected(&key);
        if let Some(addr) = outbound_addr {
            let contact = match self.peers.contact_at(&key) {
                // The usual case, for which nothing is made anew: where it was dialled is all that was known.
                Some(known) if known.raw_addrs() == [addr.as_ref()] => known,
                Some(known) => known.with_multiaddrs([addr]),
                None => Contact::new(peer, [addr]),
            };
            self.on_contact(now, &contact, Source::Reached);
        }
    }

    pub(super) fn on_serves(&mut self, now: Timestamp, peer: PeerId, yes: bool) {
        let key = Key::from(&peer);
        self.peers.set_serves(&key, yes);
        if yes {
            if let Some(contact) = self.peers.contact_at(&key) {
                self.offer(now, contact);
            }
        } else if let Some(gone) = self.peers.table.remove(&key) {
            self.left_table(now, gone);
            self.offer_waiting(now, &key);
        }
    }

    /// Asks the store for the peers that were in the table when the process ended.
    pub(super) fn restore(&mut self, now: Timestamp) {
        if let Some(outcome) = self.storage.saved_peers(Asker::Restore) {
            self.on_restored(now, outcome);
        }
    }

    /// The peers that were in the table are first contacts, no more: each is tried before it is in the table again. The
    /// node looks for its place among them at once.
    pub(super) fn on_restored(&mut self, now: Timestamp, outcome: Outcome) {
        let peers = match outcome {
            Outcome::Peers(Ok(peers)) => peers,
            Outcome::Peers(Err(why)) => return tracing::warn!(%why, "the peers that were known are lost"),
            _ => return,
        };
        if peers.is_empty() {
            return;
        }
        tracing::debug!(peers = peers.len(), "tries the peers that were known");
        for contact in peers.iter().take(MAX_SAVED_PEERS) {
            self.on_contact(now, &self.peers.admissible(contact), Source::Application);
        }
        self.refresh.hasten(now);
    }

    /// Has the peers of the table kept for the next start, the longest known first.
    pub(super) fn save_peers(&mut self) {
        if let Err(why) = self.storage.save_peers(self.peers.table.lasting(MAX_SAVED_PEERS)) {
            tracing::warn!(%why, "the peers of the table are not kept for the next start");
        }
    }

    /// Offers a peer for a trial, if the table has a place for it.
    pub(super) fn offer(&mut self, now: Timestamp, contact: Arc<Contact>) {
        if self.peers.wants(now, &contact) {
            self.probes.offer(contact);
            self.start_probes(now);
        }
    }

    pub(super) fn start_probes(&mut self, now: Timestamp) {
        while let Some(contact) = self.probes.start_next() {
            if self.peers.wants(now, &contact) {
                let key = Bytes::from(contact.peer().to_bytes());
                self.send(now, Owner::Probe, Pace::Steady, contact, Request::FindNode { key });
            } else {
                self.probes.finished(contact.peer());
            }
        }
    }

    pub(super) fn on_probed(&mut self, now: Timestamp, peer: &PeerId) {
        self.probes.finished(peer);
        self.start_probes(now);
    }

    /// A peer answered: it belongs into the table if there is a place.
    pub(super) fn admit(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let contact = &self.peers.as_answered(contact);
        if !self.peers.is_routable(contact) {
            return;
        }
        let peer = *contact.peer();
        match self.peers.table.offer(now, contact) {
            Offer::Added => self.entered_table(now, peer),
            Offer::Replaced(old) => {
                self.left_table(now, old);
                self.entered_table(now, peer);
            }
            Offer::Known | Offer::Full | Offer::Crowded => return,
        }
        self.upkeep.on_newcomer(now, contact, &self.peers, self.config.lookup.replication.get());
    }

    pub(super) fn entered_table(&mut self, now: Timestamp, peer: PeerId) {
        self.snapshots.on_change(now);
        self.stats.admitted += 1;
        self.stats.table = self.peers.table.len();
        self.outputs.push_back(Output::Event(Event::RoutingChanged { peer, present: true }));
    }

    pub(super) fn left_table(&mut self, now: Timestamp, peer: PeerId) {
        self.snapshots.on_change(now);
        self.stats.evicted += 1;
        self.stats.table = self.peers.table.len();
        self.outputs.push_back(Output::Event(Event::RoutingChanged { peer, present: false }));
    }

    pub(super) fn misbehaved(&mut self, peer: PeerId, what: Misbehaviour) {
        self.stats.misbehaved += 1;
        tracing::debug!(%peer, %what, "peer misbehaved");
        self.outputs.push_back(Output::Event(Event::PeerMisbehaved { peer, what }));
    }
}

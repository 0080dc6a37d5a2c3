//! What the node learns of other peers, and how they come into the routing table.
//!
//! Knows: whom to offer to the table. Must not know: how the table judges.

use super::queries::named;
use super::*;
use crate::core::back_off::FailedRequest;
use crate::core::message::DialCause;

impl Dht {
    /// Someone told of a peer.
    pub(super) fn on_contact(&mut self, now: Timestamp, contact: &Arc<Contact>, source: AddrSource) {
        if contact.key() == self.peers.local.key() {
            return;
        }
        if source == AddrSource::Application {
            self.peers.back_offs.clear(contact.key());
        }
        let contact = self.peers.learn_addrs(now, contact, source);
        if source == AddrSource::Hearsay {
            return self.on_reported(now, contact);
        }
        if source == AddrSource::Application || self.peers.may_serve(contact.key()) {
            self.offer(now, contact);
        }
        if source == AddrSource::Application {
            self.want_more(now);
        }
    }

    /// The driver says that a peer is there which is not connected, as mDNS does. It is tried; while few are known it
    /// counts as named until it fails, k such peers at most, since nobody may report it again.
    fn on_reported(&mut self, now: Timestamp, contact: Arc<Contact>) {
        let (k, book) = (self.config.lookup.replication.get(), &mut self.peers.book);
        let first: Vec<_> = book.boot_nodes().take(k).map(|named| *named.key()).collect();
        if first.contains(contact.key()) {
            return; // lookups try it
        }
        if first.len() < k && self.peers.table.len() < k {
            book.keep_as_boot_node(contact.key());
        }
        self.offer(now, contact);
        self.want_more(now);
    }

    /// A peer asks. Where there is no identify it is dialled back: if that works, it can be tried like any other.
    pub(super) fn on_asked(&mut self, now: Timestamp, peer: PeerId, key: &Key) {
        let Some(from) = self.peers.on_request_without_identify(now, &peer, key) else { return };
        if !std::mem::replace(&mut self.no_identify, true) {
            tracing::warn!(%peer, "peers ask without saying whether they serve or where they listen: add identify::Behaviour to all swarms");
            self.outputs.push_back(Output::Event(Event::NoIdentify));
        }
        let Some(contact) = from else { return };
        // Until it answers: whoever dials from elsewhere each time is not dialled back each time.
        let (to, why) = (&contact.with_addrs([]), RequestError::Timeout);
        self.peers.back_offs.on_failure(FailedRequest { now, asked: now, to, why, told: true }, false, &mut self.rng);
        self.outputs.extend(contact.addrs().next().map(|addr| Output::DialBack { peer, addr }));
    }

    pub(super) fn on_connected(
        &mut self,
        now: Timestamp,
        peer: PeerId,
        outbound_addr: Option<multiaddr::Multiaddr>,
        inbound_addr: Option<multiaddr::Multiaddr>,
    ) {
        let key = Key::from(&peer);
        let end = inbound_addr.as_ref().or(outbound_addr.as_ref());
        self.peers.table.on_connected(peer, end);
        self.peers.on_connected(now, &key, end, inbound_addr.is_some());
        self.on_sign_of_life(now, &key);
        self.peers.dials.on_connected(&key, end.map(AsRef::as_ref), inbound_addr.is_none());
        if let Some(addr) = outbound_addr {
            let contact = match self.peers.contact_at(&key) {
                // The usual case, for which nothing is made anew: where it was dialled is all that was known.
                Some(known) if known.raw_addrs() == [addr.as_ref()] => known,
                Some(known) => known.with_multiaddrs([addr]),
                None => Contact::new(peer, [addr]),
            };
            self.on_contact(now, &contact, AddrSource::Connection);
        }
    }

    /// Whoever has no address left at which it could be reached again, since others turned out to be there, leaves the table.
    pub(super) fn on_disconnected(&mut self, now: Timestamp, peer: PeerId) {
        let key = Key::from(&peer);
        self.peers.table.on_disconnected(&peer);
        self.peers.on_disconnected(&key);
        let lost =
            self.peers.dials.has_wrong(&key) && self.peers.contact_at(&key).is_none_or(|known| !known.has_addrs());
        if lost {
            self.leave(now, &key);
        }
        self.contest(now, &key, true);
    }

    /// An entry, if it is one, leaves the table.
    fn leave(&mut self, now: Timestamp, key: &Key) {
        if let Some(gone) = self.peers.table.remove(key) {
            self.left_table(now, gone);
            self.offer_waiting(now, key);
        }
    }

    /// An entry that has addresses, none of them without a relay, leaves the table (rule A19). Not called when other
    /// behaviours report addresses: they come one by one, and the one without a relay may be the last.
    pub(super) fn leave_if_relayed(&mut self, now: Timestamp, key: &Key) {
        let relayed = |contact: &Contact| contact.has_addrs() && !self.peers.is_routable(contact);
        if self.peers.table.get(key).is_some_and(|entry| relayed(&entry.contact)) {
            self.leave(now, key);
        }
    }

    pub(super) fn on_dial_failed(&mut self, now: Timestamp, peer: PeerId, addrs: &[(multiaddr::Multiaddr, DialCause)]) {
        if let Some(gone) = self.peers.on_dial_failed(now, peer, addrs) {
            self.left_table(now, gone);
            self.offer_waiting(now, &Key::from(&gone));
        }
    }

    pub(super) fn on_serves(&mut self, now: Timestamp, peer: PeerId, yes: bool) {
        let key = Key::from(&peer);
        self.peers.set_serves(&key, yes);
        if yes {
            if let Some(contact) = self.peers.contact_at(&key) {
                self.offer(now, contact);
            }
        } else {
            self.probes.forget(&peer);
            self.leave(now, &key);
        }
    }

    /// Asks the store for the peers that were in the table when the process ended.
    pub(super) fn restore_saved(&mut self, now: Timestamp) {
        if let Some(done) = self.storage.run(self.time.date, Asker::Restore, Op::SavedPeers) {
            self.on_restored(now, done);
        }
    }

    /// The peers that were in the table are first contacts, no more: each is tried before it is in the table again. The
    /// node looks for its place among them at once.
    pub(super) fn on_restored(&mut self, now: Timestamp, done: Done) {
        match done {
            Ok(Found::Peers(peers)) => self.try_known(now, &peers),
            Ok(_) => {}
            Err(why) => tracing::warn!(%why, "the peers that were known are lost"),
        }
    }

    pub(super) fn try_known(&mut self, now: Timestamp, peers: &[Arc<Contact>]) {
        if peers.is_empty() {
            return;
        }
        tracing::debug!(peers = peers.len(), "tries the peers that were known");
        self.snapshots.on_restored(now);
        for contact in peers.iter().take(MAX_SAVED_PEERS) {
            let contact = self.peers.filtered(contact);
            if contact.key() == self.peers.local.key() {
                continue;
            }
            let contact = self.peers.learn_addrs(now, &contact, AddrSource::Hearsay);
            self.peers.book.keep_as_boot_node(contact.key());
            self.queue(now, contact);
        }
        self.start_probes(now);
        self.refresh.hasten(now);
    }

    /// Has the peers of the table kept for the next start, the longest known first.
    pub(super) fn save_peers(&mut self) {
        let peers = self.peers.table.longest_known(MAX_SAVED_PEERS);
        if let Some(Err(why)) = self.storage.run(self.time.date, Asker::Nobody, Op::SavePeers(peers)) {
            tracing::warn!(%why, "the peers of the table are not kept for the next start");
        }
    }

    /// Offers a peer for a trial, if the table has a place for it.
    pub(super) fn offer(&mut self, now: Timestamp, contact: Arc<Contact>) {
        if self.queue(now, Arc::clone(&contact)) {
            self.start_probes(now);
        } else if self.hold(now, &contact) {
            self.contest(now, contact.key(), false);
        }
    }

    /// Has a peer wait for its trial, if the table has a place for it. Candidates of one group of addresses take turns
    /// with those of others; a peer of several groups counts for one.
    pub(super) fn queue(&mut self, now: Timestamp, contact: Arc<Contact>) -> bool {
        let wanted = self.peers.has_place_for(now, &contact);
        if wanted {
            let group = self.peers.table.group(&contact);
            self.probes.offer(contact, group);
        }
        wanted
    }

    /// Has a peer that is there, and says that it serves, wait for a place.
    fn hold(&mut self, now: Timestamp, contact: &Arc<Contact>) -> bool {
        let waits = self.peers.may_serve(contact.key()) && self.peers.would_accept(now, contact);
        if waits {
            self.peers.table.add_waiting(now, contact);
        }
        waits
    }

    pub(super) fn start_probes(&mut self, now: Timestamp) {
        let mut crowded = None;
        loop {
            while let Some((contact, purpose)) = self.probes.start_next() {
                let (wanted, held) = match purpose {
                    Purpose::Trial => (self.peers.has_place_for(now, &contact), self.peers.is_held_back(now, &contact)),
                    Purpose::Check => (self.probes.is_check_due(now, &contact, &self.peers), false),
                };
                if wanted && !held {
                    let key = Bytes::from(contact.peer().to_bytes());
                    self.send(now, Owner::Probe, Urgency::Normal, &contact, Request::FindNode { key });
                    continue;
                }
                self.probes.finished(contact.peer());
                if !held && self.hold(now, &contact) {
                    crowded = Some(contact);
                }
            }
            // Others took the place that this one was to have.
            let Some(contact) = crowded.take() else { return };
            self.queue_contest(now, contact.key(), false);
        }
    }

    /// A peer was asked for the table's sake, and answered or failed. Whom a neighbour names may be a neighbour too, whom
    /// no lookup of this node comes across.
    pub(super) fn on_probed(&mut self, now: Timestamp, peer: &PeerId, response: Option<&Response>) {
        let purpose = self.probes.finished(peer);
        if let (Some(Purpose::Check), Some(response)) = (purpose, response) {
            let place = Key::from(peer);
            for contact in named(&self.peers, &self.config, &place, response) {
                if self.peers.table.is_neighbour(contact.key()) {
                    self.queue(now, contact);
                }
            }
        }
        // Its answer may have counted for nothing, since it has no address: the next may be asked.
        self.peers.table.end_challenge(&Key::from(peer));
        if purpose == Some(Purpose::Check) && response.is_none() {
            self.on_check_failed(now, &Key::from(peer));
        }
        self.start_probes(now);
    }

    /// A peer was not reached for the table's sake. If other addresses of it were reported meanwhile it is tried there: mDNS
    /// reports each address on its own.
    pub(super) fn on_probe_failed(&mut self, now: Timestamp, asked: &Arc<Contact>, why: RequestError) {
        self.on_probed(now, asked.peer(), None);
        let known = self.peers.contact(asked.peer()).filter(|_| why.is_failed_dial());
        if let Some(more) = known.filter(|known| !known.adds_nothing_to(asked) && !self.peers.is_held_back(now, known))
        {
            self.offer(now, more);
        }
    }

    /// An entry did not answer. Where it could not be reached others may be gone with it: the next is asked, and so on until
    /// one answers.
    fn on_check_failed(&mut self, now: Timestamp, key: &Key) {
        if self.peers.table.get(key).is_none_or(|entry| entry.is_unreachable()) {
            let next = self.peers.challenge_next(now);
            next.into_iter().for_each(|next| self.probes.check(next));
        }
    }

    /// Asks those entries whether they are there from which nothing was heard for a while.
    pub(super) fn run_checks(&mut self, now: Timestamp) {
        if self.probes.checks_due(&self.peers.table).is_some_and(|at| at <= now) {
            self.probes.queue_checks(now, &self.peers);
            self.start_probes(now);
        }
    }

    /// A peer is there, whether it answers or not.
    pub(super) fn on_sign_of_life(&mut self, now: Timestamp, key: &Key) {
        if let Some(entry) = self.peers.table.get_mut(key) {
            entry.on_sign_of_life(now);
        }
    }

    /// Where someone waits for a place in the full bucket of `key`, asks an entry whether it is there: this one, if it is to
    /// be `first`, or the one that was silent for longest.
    pub(super) fn contest(&mut self, now: Timestamp, key: &Key, first: bool) {
        self.queue_contest(now, key, first);
        self.start_probes(now);
    }

    fn queue_contest(&mut self, now: Timestamp, key: &Key, first: bool) {
        if self.peers.table.demote_unreachable(key) {
            self.queue_waiting(now, key);
        }
        let entry = if self.probes.checks_entries() { self.peers.challenge(now, key, first) } else { None };
        if let Some(entry) = entry {
            self.probes.check(entry);
        }
    }

    /// A peer answered: it belongs into the table if there is a place.
    pub(super) fn admit(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let contact = &self.peers.contact_for_table(contact);
        if !self.peers.is_routable(contact) {
            self.on_sign_of_life(now, contact.key());
            return self.leave_if_relayed(now, contact.key());
        }
        let peer = *contact.peer();
        let mut offer = self.peers.table.offer(now, contact);
        if offer == Admission::Full && self.peers.table.demote_unreachable(contact.key()) {
            offer = self.peers.table.offer(now, contact);
        }
        let gone = match offer {
            Admission::Added(gone) => gone,
            Admission::Known | Admission::Crowded => return,
            Admission::Full => return self.contest(now, contact.key(), false),
        };
        // It answered what it was asked before it said that it serves no longer.
        let declines = self.peers.declines(contact.key());
        if declines {
            self.peers.table.remove(contact.key());
        }
        gone.into_iter().for_each(|old| self.left_table(now, old));
        if declines {
            return self.offer_waiting(now, contact.key());
        }
        self.entered_table(now, peer);
        self.contest(now, contact.key(), false);
        self.upkeep.newcomers.offer(now, contact, &self.peers.table, self.config.lookup.replication.get());
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
        self.want_more(now);
        self.outputs.push_back(Output::Event(Event::RoutingChanged { peer, present: false }));
    }

    pub(super) fn misbehaved(&mut self, peer: PeerId, what: Misbehaviour) {
        self.stats.misbehaved += 1;
        tracing::debug!(%peer, %what, "peer misbehaved");
        self.outputs.push_back(Output::Event(Event::PeerMisbehaved { peer, what }));
    }
}

//! Learns of other peers, and gets them into the routing table.
//!
//! Knows: which peers to offer to the table. Must not know: how the table chooses.

use super::drive_queries::named;
use super::*;
use crate::core::message::DialCause;
use crate::core::peers::FailedRequest;

impl Dht {
    /// This node learns a peer's addresses.
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

    /// The driver reports a peer that is not connected, as mDNS does. This node probes it. While fewer than k peers are
    /// known, it also becomes a boot node until it fails, since it may not be reported again; at most k peers do.
    fn on_reported(&mut self, now: Timestamp, contact: Arc<Contact>) {
        let (k, book) = (self.k(), &mut self.peers.book);
        let first: Vec<_> = book.boot_nodes().take(k).copied().collect();
        if first.contains(contact.key()) {
            return; // Lookups try it.
        }
        if first.len() < k && self.peers.table.len() < k {
            book.keep_as_boot_node(contact.key());
        }
        self.offer(now, contact);
        self.want_more(now);
    }

    /// A peer sends a request. If this network has no identify, the peer is dialled back; if that works, it can be
    /// probed like any other.
    pub(super) fn on_request_from(&mut self, now: Timestamp, peer: PeerId, key: &Key) {
        let Some(from) = self.peers.on_request_without_identify(now, &peer, key) else { return };
        if !std::mem::replace(&mut self.no_identify, true) {
            tracing::warn!(%peer, "peers ask without saying whether they serve or where they listen: add identify::Behaviour to all swarms");
            self.outputs.push_back(Output::Event(Event::NoIdentify));
        }
        let Some(contact) = from else { return };
        // It counts as failed until it answers: a peer that dials from new addresses each time is not dialled back each
        // time.
        let (to, why) = (&contact.with_addrs([]), RequestError::Timeout);
        let failure = FailedRequest { now, asked: now, to, why, reported: true };
        self.peers.back_offs.on_failure(failure, false, &mut self.rng);
        if let Some(addr) = contact.addrs().next() {
            self.outputs.push_back(Output::DialBack { peer, addr });
        }
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
                // The usual case, without an allocation: it was dialled at its only known address.
                Some(known) if known.raw_addrs().eq([addr.as_ref()]) => known,
                Some(known) => known.with_multiaddrs([addr]),
                None => Contact::new(peer, [addr]),
            };
            self.on_contact(now, &contact, AddrSource::Connection);
        }
    }

    /// A peer leaves the table if it has no address left at which it could be reached again, because other peers
    /// answered at all of them.
    pub(super) fn on_disconnected(&mut self, now: Timestamp, peer: PeerId) {
        let key = Key::from(&peer);
        self.peers.table.on_disconnected(&peer);
        self.peers.on_disconnected(&key);
        if self.peers.dials.has_wrong(&key) && self.peers.contact_at(&key).is_none_or(|known| !known.has_addrs()) {
            self.leave(now, &key);
        }
        self.challenge(now, &key, true);
    }

    /// Removes a peer from the table, if it is there.
    pub(super) fn leave(&mut self, now: Timestamp, key: &Key) {
        if let Some(gone) = self.peers.table.remove(key) {
            self.left_table(now, gone);
            self.offer_waiting(now, key);
        }
    }

    /// Removes an entry that has addresses, but only relayed ones (rule A19). Not called when other behaviours report
    /// addresses: they come one by one, and the one without a relay may be the last.
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

    /// Asks the store for the saved peers.
    pub(super) fn restore_saved(&mut self, now: Timestamp) {
        if let Some(done) = self.store_ops.run(self.time.date, Waiter::Restore, Op::SavedPeers) {
            self.on_restored(now, done);
        }
    }

    /// The store returns the saved peers. Each must answer before it enters the table again.
    pub(super) fn on_restored(&mut self, now: Timestamp, done: Done) {
        match done {
            Ok(OpOutput::Peers(peers)) => self.try_known(now, &peers),
            Ok(_) => {}
            Err(why) => tracing::warn!(%why, "the saved peers could not be read"),
        }
    }

    /// Probes saved peers, keeps them as boot nodes, and looks up this node's own key among them at once.
    pub(super) fn try_known(&mut self, now: Timestamp, peers: &[Arc<Contact>]) {
        if peers.is_empty() {
            return;
        }
        tracing::debug!(peers = peers.len(), "trying the saved peers");
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

    /// Saves the peers of the table for the next start, the longest known first.
    pub(super) fn save_peers(&mut self) {
        let peers = self.peers.table.longest_known(MAX_SAVED_PEERS);
        if let Some(Err(why)) = self.store_ops.run(self.time.date, Waiter::Nobody, Op::SavePeers(peers)) {
            tracing::warn!(%why, "the peers of the table were not saved");
        }
    }

    /// Probes a peer, if the table has a place for it. If not, the peer waits for one.
    pub(super) fn offer(&mut self, now: Timestamp, contact: Arc<Contact>) {
        if self.queue(now, Arc::clone(&contact)) {
            self.start_probes(now);
        } else if self.add_waiting(now, &contact) {
            self.challenge(now, contact.key(), false);
        }
    }

    /// Queues a peer for a probe, if the table has a place for it. Candidates of one IP group take turns with those of
    /// other groups, and of one host with those of others; a peer of several groups counts for one of them.
    pub(super) fn queue(&mut self, now: Timestamp, contact: Arc<Contact>) -> bool {
        let wanted = self.peers.has_place_for(now, &contact);
        if wanted {
            let origin = self.peers.origin(&contact);
            self.probes.offer(contact, origin);
        }
        wanted
    }

    /// Makes a peer that is connected and says that it serves wait for a place in the table. Returns whether it does.
    fn add_waiting(&mut self, now: Timestamp, contact: &Arc<Contact>) -> bool {
        let waits = self.peers.may_serve(contact.key()) && self.peers.would_accept(now, contact);
        if waits {
            self.peers.table.add_waiting(now, contact);
        }
        waits
    }

    pub(super) fn start_probes(&mut self, now: Timestamp) {
        if self.suspended {
            return;
        }
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
                if !held && self.add_waiting(now, &contact) {
                    crowded = Some(contact);
                }
            }
            // Another peer took the place that this one was to have. The challenge may queue a check: start that too.
            let Some(contact) = crowded.take() else { return };
            self.queue_challenge(now, contact.key(), false);
        }
    }

    /// A probe or a check has ended, with an answer or without. A neighbour may name another neighbour that no lookup
    /// of this node comes across.
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
        // An answer of a peer without an address does not end the challenge: this does.
        self.peers.table.end_challenge(&Key::from(peer));
        if purpose == Some(Purpose::Check) && response.is_none() {
            self.on_check_failed(now, &Key::from(peer));
        }
        self.start_probes(now);
    }

    /// A probe or a check has failed. If other addresses of the peer were reported meanwhile it is probed there: mDNS
    /// reports each address on its own.
    pub(super) fn on_probe_failed(&mut self, now: Timestamp, asked: &Arc<Contact>, why: RequestError) {
        self.on_probed(now, asked.peer(), None);
        if why.is_failed_dial()
            && let Some(known) = self.peers.contact(asked.peer())
            && !known.adds_nothing_to(asked)
            && !self.peers.is_held_back(now, &known)
        {
            self.offer(now, known);
        }
    }

    /// An entry did not answer. If it could not be reached, others may be gone with it: this node checks the next, and
    /// so on until one answers.
    fn on_check_failed(&mut self, now: Timestamp, key: &Key) {
        if self.peers.table.get(key).is_none_or(|entry| entry.is_unreachable())
            && let Some(next) = self.peers.challenge_next(now)
        {
            self.probes.check(next);
        }
    }

    /// Checks the entries that are due: they have been silent for the check interval.
    pub(super) fn run_checks(&mut self, now: Timestamp) {
        if self.probes.checks_due(&self.peers.table).is_some_and(|at| at <= now) {
            self.probes.queue_checks(now, &self.peers);
            self.start_probes(now);
        }
    }

    /// A peer has shown that it is alive, by an answer or otherwise.
    pub(super) fn on_sign_of_life(&mut self, now: Timestamp, key: &Key) {
        if let Some(entry) = self.peers.table.get_mut(key) {
            entry.on_sign_of_life(now);
        }
    }

    /// If a peer waits for a place in the full bucket of `key`, checks one of the entries: the entry `key` itself if it
    /// is to be `first`, or else the one that has been silent the longest.
    pub(super) fn challenge(&mut self, now: Timestamp, key: &Key, first: bool) {
        self.queue_challenge(now, key, first);
        self.start_probes(now);
    }

    fn queue_challenge(&mut self, now: Timestamp, key: &Key, first: bool) {
        if self.peers.table.demote_unreachable(key) {
            self.queue_waiting(now, key);
        }
        if self.probes.checks_entries()
            && let Some(entry) = self.peers.challenge(now, key, first)
        {
            self.probes.check(entry);
        }
    }

    /// A peer answered: it enters the table if there is a place.
    pub(super) fn admit(&mut self, now: Timestamp, contact: &Arc<Contact>) {
        let contact = &self.peers.contact_for_table(contact);
        if !self.peers.access.admits(contact) {
            return self.leave(now, contact.key());
        }
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
            Admission::Full => return self.challenge(now, contact.key(), false),
        };
        // It may have stopped serving after it was asked: then its place is free for another, and nothing is reported
        // of it.
        let declines = self.peers.declines(contact.key());
        if declines {
            self.peers.table.remove(contact.key());
        }
        gone.into_iter().for_each(|old| self.left_table(now, old));
        if declines {
            return self.offer_waiting(now, contact.key());
        }
        self.entered_table(now, peer);
        self.challenge(now, contact.key(), false);
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
}

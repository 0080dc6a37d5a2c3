//! Selects the addresses of a peer to believe, keep, hand out and dial.
//!
//! Knows: the address policy, the address book, the table, and past dials. Must not know: queries.

use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

use super::Peers;
use super::addresses::{AddrSource, MAX_FIRST_HAND, MAX_HEARSAY};
use super::dials::Referrer;
use super::host::{Host, Transport, is_open_ended};
use crate::core::address_policy::{AddressPolicy, is_relayed};
use crate::core::contact::{Contact, MAX_RUMOURED_ADDR_LEN, MAX_RUMOURED_ADDRS};
use crate::core::key::Key;
use crate::core::message::{DialCause, Unreachable};
use crate::core::time::Timestamp;

/// Maximum number of addresses at which a peer is dialled at once. Source: most dials are answered in a round trip or
/// not at all; four are IPv4 and IPv6 by two transports, and what one wrong list costs others. The same number in
/// addition of transports by which no peer was reached yet: this node may lack them, which the DNS transport does not
/// report.
const DIALLED_AT_ONCE: usize = 4;
/// Maximum number of those with the same host and transport, which differ only by their ports. Source: the one before a
/// restart and the one after it.
const DIALLED_OF_A_KIND: usize = 2;
impl Peers {
    /// The peer with only those of its addresses that the policy admits and that are not this node's own, unless it is
    /// this node. Returns the same contact if that is all of them.
    pub(crate) fn filtered(&self, contact: &Arc<Contact>) -> Arc<Contact> {
        contact.filtered(|addr| self.policy.admits(addr) && !self.is_own(contact, addr))
    }

    /// Whether an address of another peer is one of this node's. Peers that share a relay share its address.
    fn is_own(&self, contact: &Contact, addr: &[u8]) -> bool {
        self.local.has_addr(addr) && contact.key() != self.local.key() && !is_relayed(addr)
    }

    /// Whether a peer may be in the table, and take part in lookups: others can reach it without a relay (rule A19).
    pub(crate) fn is_routable(&self, contact: &Contact) -> bool {
        self.policy == AddressPolicy::Any || contact.raw_addrs().any(|addr| self.policy.routes(addr))
    }

    /// Filters all that is known again after this node's own addresses changed. Returns the peers that were removed
    /// from the table.
    pub(crate) fn refilter(&mut self, now: Timestamp) -> Vec<PeerId> {
        let changed = |contact: &Arc<Contact>| {
            let filtered = self.filtered(contact);
            (!Arc::ptr_eq(&filtered, contact)).then_some(filtered)
        };
        let entries: Vec<_> = self.table.entries().filter_map(|entry| changed(&entry.contact)).collect();
        let notes: Vec<_> = self.book.contacts().filter_map(|contact| changed(&contact)).collect();
        let mut removed = Vec::new();
        for contact in entries {
            if self.is_routable(&contact) {
                self.table.readdress(now, &contact);
            } else {
                removed.extend(self.table.remove(contact.key()));
            }
        }
        notes.iter().for_each(|contact| self.book.keep(contact));
        removed
    }

    /// Takes a peer's addresses into the book, and into its entry of the table. Returns all that are known.
    pub(crate) fn learn_addrs(&mut self, now: Timestamp, contact: &Arc<Contact>, source: AddrSource) -> Arc<Contact> {
        let key = contact.key();
        let link = self.links.get(key).map(|link| link.state).unwrap_or_default();
        let contact = &match source {
            AddrSource::Hearsay => self.without_wrong_addrs(contact),
            _ => Arc::clone(contact),
        };
        if source > AddrSource::Hearsay {
            self.dials.set_right(contact);
        }
        self.book.note(contact, source, &link, self.table.get(key).map(|entry| &entry.contact));
        if self.table.get(key).is_some() {
            self.table.readdress(now, &self.best_known(key, contact));
        }
        self.contact_at(key).unwrap_or_else(|| Arc::clone(contact))
    }

    /// The source of addresses that another behaviour reports of a peer: the peer itself if it is connected.
    pub(crate) fn addr_source_of(&self, key: &Key) -> AddrSource {
        if self.is_connected(key) { AddrSource::Peer } else { AddrSource::Hearsay }
    }

    /// A peer that answered, as it enters the table. An entry keeps its addresses: the connection reveals where it
    /// answered.
    pub(crate) fn contact_for_table(&self, asked: &Arc<Contact>) -> Arc<Contact> {
        match self.table.get(asked.key()).filter(|entry| entry.contact.has_addrs()) {
            Some(entry) => Arc::clone(&entry.contact),
            // Filtered, since this node's own addresses may have changed after it was asked.
            None => self.best_known(asked.key(), &self.filtered(asked)),
        }
    }

    /// A peer with its first-hand addresses or, if there are none, with those of the book and those it was asked at:
    /// what the table has of it, and hands out. Hearsay is left out since it counts for IP groups that the peer may
    /// have nothing to do with, and would keep the peer out if these are crowded.
    fn best_known(&self, key: &Key, asked: &Arc<Contact>) -> Arc<Contact> {
        self.first_hand(key).unwrap_or_else(|| {
            let known = self.book.get(key).map(|known| self.with_hearsay(&known, asked));
            known.as_ref().unwrap_or(asked).at_most(MAX_FIRST_HAND)
        })
    }

    /// A peer with the addresses that are not hearsay, if there are any.
    fn first_hand(&self, key: &Key) -> Option<Arc<Contact>> {
        let contact = match self.book.addrs(key) {
            Some(addrs) => addrs.contact().at_most(addrs.first_hand()),
            None => Arc::clone(&self.table.get(key)?.contact),
        };
        contact.has_addrs().then_some(contact)
    }

    /// A peer that was said to have these addresses, perhaps a while ago: what is known of it now comes first.
    pub(crate) fn with_current_addrs(&self, said: &Arc<Contact>) -> Arc<Contact> {
        if said.has_addrs() && self.book.is_known_first_hand_as(said) {
            return Arc::clone(said);
        }
        match self.first_hand(said.key()) {
            Some(known) => known.joined(said, MAX_FIRST_HAND.saturating_sub(known.raw_addrs().count())),
            None if said.has_addrs() => said.at_most(MAX_FIRST_HAND),
            None => self.contact_at(said.key()).unwrap_or_else(|| Arc::clone(said)),
        }
    }

    /// The peer without the addresses at which it is known not to be.
    fn without_wrong_addrs(&self, said: &Arc<Contact>) -> Arc<Contact> {
        said.filtered(|addr| !self.dials.is_wrong(said.key(), addr))
    }

    /// A peer with what else others say of it, as far as there is room for hearsay.
    fn with_hearsay(&self, known: &Arc<Contact>, said: &Arc<Contact>) -> Arc<Contact> {
        if said.adds_nothing_to(known) {
            return Arc::clone(known);
        }
        let addrs = known.raw_addrs().count();
        let first_hand = self.book.addrs(known.key()).map_or(addrs, |addrs| addrs.first_hand());
        let hearsay = addrs.saturating_sub(first_hand);
        known.joined(&self.without_wrong_addrs(said), MAX_HEARSAY.saturating_sub(hearsay))
    }

    /// A peer with what is known of it before what it is named with.
    pub(crate) fn with_known(&self, named: &Arc<Contact>) -> Arc<Contact> {
        if self.book.is_known_as(named) {
            return Arc::clone(named);
        }
        self.contact_at(named.key()).map_or_else(|| Arc::clone(named), |known| self.with_hearsay(&known, named))
    }

    /// Everything known of a peer other than this node.
    pub(crate) fn contact(&self, peer: &PeerId) -> Option<Arc<Contact>> {
        self.contact_at(&Key::from(peer))
    }

    /// Everything known of the peer with this key.
    pub(crate) fn contact_at(&self, key: &Key) -> Option<Arc<Contact>> {
        self.book.get(key).or_else(|| self.table.get(key).map(|entry| Arc::clone(&entry.contact)))
    }

    /// A peer that another one named, as it is to be asked; `None` for this node, and for a peer without a known
    /// address.
    ///
    /// Known addresses come before those it was named with: a peer that names another one with wrong addresses must not
    /// make it look dead, nor have it dialled at more than a few of them.
    pub(crate) fn contact_to_ask(&self, named: &Arc<Contact>) -> Option<Arc<Contact>> {
        let key = named.key();
        if key == self.local.key() || !self.access.admits(named) {
            return None;
        }
        if named.has_addrs() && self.book.is_known_as(named) {
            return Some(Arc::clone(named));
        }
        match self.contact_at(key) {
            Some(known) => Some(self.with_hearsay(&known, named)),
            None => Some(self.rumour(named)).filter(|rumour| rumour.has_addrs() || self.is_connected(key)),
        }
    }

    /// A peer as an answer named it, with at most [`MAX_RUMOURED_ADDRS`] short addresses, those of transports first by which
    /// others were reached: thousands of lookups may each remember hundreds of such peers.
    fn rumour(&self, named: &Arc<Contact>) -> Arc<Contact> {
        let short = named.filtered(|addr| addr.len() <= MAX_RUMOURED_ADDR_LEN);
        if short.raw_addrs().nth(MAX_RUMOURED_ADDRS).is_none() {
            return short;
        }
        let mut addrs: Vec<&[u8]> = short.raw_addrs().collect();
        addrs.sort_by_cached_key(|addr| !self.dials.is_transport_proven(addr));
        addrs.truncate(MAX_RUMOURED_ADDRS);
        short.readdressed(addrs.into_iter())
    }

    /// A peer with the addresses at which to dial it now: at most [`DIALLED_AT_ONCE`], and few of one host and
    /// transport, so that useless ones of one kind leave room for others. Hearsay has a budget in which the
    /// `referrers`, which named the peer, have shares ([`DialHistory`](super::dials::DialHistory)); names that stand
    /// for any number of addresses are not dialled on hearsay at all. On `trial` a peer is not dialled at an address
    /// that only it claims: a peer that connects, tells another's addresses and hangs up must not choose what this node
    /// dials. A peer that is connected costs nothing.
    pub(crate) fn choose_dial_addrs(
        &mut self,
        now: Timestamp,
        to: &Arc<Contact>,
        trial: bool,
        referrers: &[Key],
    ) -> Result<Arc<Contact>, Unreachable> {
        if !self.access.admits(to) {
            return Err(Unreachable::Denied);
        }
        let connected = self.is_connected(to.key());
        if !connected && let Some(under_way) = self.dials.join(now, to.key()) {
            // Filtered, since this node's own addresses may have changed after it began.
            return Ok(self.filtered(&under_way));
        }
        let hosts = referrers.iter().filter_map(|key| self.links.get(key)?.state.host);
        let mut referrers: Vec<Referrer> = hosts.map(Some).collect();
        if referrers.is_empty() {
            referrers.push(None);
        }
        let addrs = self.book.addrs(to.key());
        // If the book has forgotten an entry of the table, the entry's addresses are trusted: it answered there.
        let entry = if addrs.is_none() { self.table.get(to.key()) } else { None };
        let (mut chosen, mut kinds, mut spent) = (Vec::new(), Vec::new(), Vec::new());
        let mut why = Unreachable::DialFailed(DialCause::NoTransport);
        for addr in to.raw_addrs() {
            let (host, proven) = (Host::of(addr), self.dials.is_transport_proven(addr));
            let kind = (host, Transport::of(addr));
            let alike = kinds.iter().filter(|(other, _)| *other == kind).count();
            // Two lists of their own, so that addresses of a transport that this node may lack displace no others.
            let equally_proven = kinds.iter().filter(|(_, other)| *other == proven).count();
            if alike == DIALLED_OF_A_KIND || equally_proven == DIALLED_AT_ONCE || self.dials.lacks_transport(addr) {
                continue;
            }
            if self.dials.is_wrong(to.key(), addr) {
                why = Unreachable::WrongPeer;
                continue;
            }
            let trusted = connected
                || addrs.as_ref().is_some_and(|addrs| addrs.is_trusted(addr))
                || entry.is_some_and(|entry| entry.contact.has_addr(addr));
            if let Some(host) = host
                && !trusted
            {
                let refused =
                    is_open_ended(addr) || trial && addrs.as_ref().is_some_and(|addrs| addrs.is_only_claimed(addr));
                let referrer = if refused { None } else { self.dials.take_attempt(now, host, &referrers) };
                let Some(referrer) = referrer else {
                    why = Unreachable::HostBackingOff;
                    continue;
                };
                spent.push((host, referrer));
            }
            kinds.push((kind, proven));
            chosen.push(addr);
        }
        if chosen.is_empty() && to.has_addrs() && !connected {
            return Err(why);
        }
        let chosen = to.readdressed(chosen.into_iter());
        if !connected {
            self.dials.begin(now, &chosen, spent);
        }
        Ok(chosen)
    }

    /// Whether an attempt to dial a peer that was refused now may be made soon.
    pub(crate) fn may_dial_soon(&self, now: Timestamp, to: &Contact) -> bool {
        to.raw_addrs().filter_map(Host::of).any(|host| self.dials.may_have_attempt_soon(now, host))
    }

    /// A dial of a peer failed at these addresses, perhaps while it was reached at another one: then it is at none of
    /// those that this node could have reached. Returns the peer if it is removed from the table, since it is not
    /// connected and no address is left that it claimed itself or answered at.
    pub(crate) fn on_dial_failed(
        &mut self,
        now: Timestamp,
        peer: PeerId,
        addrs: &[(Multiaddr, DialCause)],
    ) -> Option<PeerId> {
        let failed = Contact::new(peer, addrs.iter().map(|(addr, _)| addr.clone()));
        let (key, connected) = (failed.key(), self.is_connected(failed.key()));
        self.dials.end(key);
        for (addr, cause) in addrs {
            self.dials.on_failed(now, key, addr.as_ref(), *cause, self.local.key() < key);
        }
        let others = addrs.iter().filter(|(_, cause)| *cause == DialCause::WrongPeer).map(|(addr, _)| addr.clone());
        let others = failed.with_multiaddrs(others);
        let is_wrong = |addr: &[u8]| others.has_addr(addr) || connected && self.dials.is_transport_proven(addr);
        let wrong = failed.filtered(is_wrong);
        self.book.on_dial_failed(key, &failed);
        if !wrong.has_addrs() {
            return None;
        }
        self.dials.set_wrong(&wrong);
        self.book.forget(key, &wrong);
        let left = self.table.get(key)?.contact.filtered(|addr| !wrong.has_addr(addr));
        let dialable = left.has_addrs() && self.is_routable(&left);
        if !connected && !dialable {
            return self.table.remove(key);
        }
        self.table.readdress(now, &left);
        None
    }
}

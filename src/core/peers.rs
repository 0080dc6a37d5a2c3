//! All that a node knows about other peers: the routing table, the address book, who is connected, who serves, who failed.
//!
//! Knows: which of these to ask for what. Must not know: queries, records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use rand_chacha::ChaCha8Rng;

use super::address_book::{AddressBook, LinkState};
use super::address_policy::{AddressPolicy, is_relayed};
use super::addresses::{AddrSource, Addresses, MAX_FIRST_HAND, MAX_HEARSAY};
use super::back_off::{BackOffs, FailedRequest};
use super::config::DhtConfig;
use super::contact::Contact;
use super::dials::{DialHistory, Referrer};
use super::host::{Host, Transport, is_open_ended};
use super::ip_group::IpGroup;
use super::key::Key;
use super::message::{DialCause, RequestError, Unreachable};
use super::routing::{RoutingTable, TableEntry};
use super::store::Sender;
use super::time::Timestamp;

/// A peer is dialled at so many addresses at once. Source: a dial is answered in a round trip or not at all, mostly; four
/// are IPv4 and IPv6 by two transports, and what one wrong list costs others. At as many beside, by transports by which
/// nobody was reached yet: this node may not have them, which the DNS transport does not tell.
const DIALLED_AT_ONCE: usize = 4;
/// At so many of them of one host and transport, which differ by their ports alone. Source: the one before a restart and
/// the one after it.
const DIALLED_OF_A_KIND: usize = 2;

#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) local: Arc<Contact>,
    pub(crate) table: RoutingTable,
    pub(crate) book: AddressBook,
    pub(crate) back_offs: BackOffs,
    pub(crate) dials: DialHistory,
    pub(crate) policy: AddressPolicy,
    /// Bounded by the connections that the driver allows.
    links: BTreeMap<Key, Link>,
    /// Whether anyone ever said that it serves: where nobody does, there is no identify.
    identified: bool,
}

/// What the driver says of a peer, kept by its place, which is shorter than its id.
#[derive(Clone, Debug, Default)]
struct Link {
    seen: LinkState,
    /// Whether it serves our protocol, once it has said so.
    serves: Option<bool>,
    /// From where it dialled, until that was dialled back.
    from: Option<Multiaddr>,
    /// When it first asked something, if it had not said by then whether it serves.
    asked: Option<Timestamp>,
}

/// A peer that asks, and has said nothing of itself this long after it first asked, has no identify. Source: identify
/// takes two round trips.
const SILENT: Duration = Duration::from_secs(2);

impl Peers {
    pub(crate) fn new(local: Arc<Contact>, config: &DhtConfig) -> Peers {
        let policy = config.address_policy;
        let local = local.filtered(|addr| policy.admits(addr));
        Peers {
            table: RoutingTable::new(*local.key(), config.routing.clone()),
            book: AddressBook::new(config.limit.address_book, policy == AddressPolicy::Public),
            back_offs: BackOffs::new(config.back_off.clone(), config.limit.back_offs),
            dials: DialHistory::new(config.limit.address_book),
            local,
            policy,
            links: BTreeMap::new(),
            identified: false,
        }
    }

    pub(crate) fn is_connected(&self, key: &Key) -> bool {
        self.links.get(key).is_some_and(|link| link.seen.connected)
    }

    /// A connection to a peer is up, with its other end there, as far as that is known, from where it `came` or not.
    pub(crate) fn on_connected(&mut self, now: Timestamp, key: &Key, end: Option<&Multiaddr>, came: bool) {
        let host = end.and_then(|addr| Host::of(addr.as_ref()));
        let link = self.links.entry(*key).or_default();
        link.seen = LinkState { connected: true, host };
        link.from = end.filter(|_| came).cloned();
        self.book.set_connected(key, true);
        self.back_offs.on_connected(now, key, self.table.len());
    }

    /// Whoever sends a record over a connection, to be charged for it. `place` is that of its id, `key` that of the record, which
    /// `k` peers are to hold.
    pub(crate) fn sender(&self, peer: &PeerId, place: &Key, key: &Key, k: usize) -> Sender {
        let mut sender = Sender::new(*peer);
        sender.group = self.table.seen_group(peer).map(IpGroup::id);
        let closest = self.table.closest(key, k, |_, _| true);
        sender.holder = closest.iter().any(|near| near.key() == place);
        let last = closest.last().filter(|_| closest.len() >= k).map(|last| last.key().distance(key));
        sender.near = last.is_none_or(|last| self.local.key().distance(key) < last);
        sender
    }

    pub(crate) fn on_disconnected(&mut self, key: &Key) {
        self.links.remove(key);
        self.book.set_connected(key, false);
    }

    /// Whether a connected peer is one to try: it says to serve our protocol, or, in a network without identify, nothing.
    pub(crate) fn may_serve(&self, key: &Key) -> bool {
        let unknown = !self.identified && self.policy != AddressPolicy::Public;
        self.links.get(key).is_some_and(|link| link.serves.unwrap_or(unknown))
    }

    /// A peer asks something. If it is plain that there is no identify: the address from which it dialled, if that is worth
    /// a dial, which it is once a connection and not in the public network.
    pub(crate) fn on_request_without_identify(
        &mut self,
        now: Timestamp,
        peer: &PeerId,
        key: &Key,
    ) -> Option<Option<Arc<Contact>>> {
        let link = self.links.get_mut(key).filter(|link| !self.identified && link.serves.is_none())?;
        if now.since(*link.asked.get_or_insert(now)) < SILENT {
            return None;
        }
        let from = link.from.take().filter(|_| self.policy != AddressPolicy::Public);
        let from = from.map(|from| self.filtered(&Contact::new(*peer, [from])));
        let held = self.back_offs.until(key).is_some_and(|until| now < until);
        Some(from.filter(|from| from.has_addrs() && self.has_place_for(now, from) && !held))
    }

    /// Whether a peer says not to serve our protocol.
    pub(crate) fn declines(&self, key: &Key) -> bool {
        self.links.get(key).is_some_and(|link| link.serves == Some(false))
    }

    pub(crate) fn set_serves(&mut self, key: &Key, yes: bool) {
        self.identified |= yes;
        if yes {
            self.links.entry(*key).or_default().serves = Some(true);
        } else if let Some(link) = self.links.get_mut(key) {
            link.serves = Some(false);
        }
    }

    /// The peer with the addresses alone that this node deals with: those that its policy admits, and not its own unless
    /// the peer is the node itself. The very same where that is all of them.
    pub(crate) fn filtered(&self, contact: &Arc<Contact>) -> Arc<Contact> {
        let admitted = |addr: &Bytes| self.policy.admits(addr) && !self.is_own(contact, addr);
        contact.filtered(admitted)
    }

    /// Whether an address of another peer is one of this node. Those who share a relay share its address.
    fn is_own(&self, contact: &Contact, addr: &Bytes) -> bool {
        contact.key() != self.local.key() && self.local.raw_addrs().contains(addr) && !is_relayed(addr)
    }

    /// Whether a peer may be in the table, and lead a lookup on: one that others can reach without a relay (rule A19).
    pub(crate) fn is_routable(&self, contact: &Contact) -> bool {
        self.policy == AddressPolicy::Any || contact.raw_addrs().iter().any(|addr| self.policy.routes(addr))
    }

    /// Looks through all that is known after the own addresses changed. Returns who had to leave the table.
    pub(crate) fn refilter(&mut self, now: Timestamp) -> Vec<PeerId> {
        let changed = |contact: &Arc<Contact>| {
            let filtered = self.filtered(contact);
            (!Arc::ptr_eq(&filtered, contact)).then_some(filtered)
        };
        let entries: Vec<_> = self.table.entries().filter_map(|entry| changed(&entry.contact)).collect();
        let notes: Vec<_> = self.book.contacts().filter_map(changed).collect();
        let mut gone = Vec::new();
        for contact in entries {
            if !self.is_routable(&contact) {
                gone.extend(self.table.remove(contact.key()));
            } else {
                self.table.readdress(now, &contact);
            }
        }
        notes.iter().for_each(|contact| self.book.keep(contact));
        gone
    }

    /// Whether a peer could enter the table now, and is not in it.
    pub(crate) fn has_place_for(&self, now: Timestamp, contact: &Contact) -> bool {
        self.table.has_room(contact.key()) && self.would_accept(now, contact)
    }

    /// The same if there were room.
    pub(crate) fn would_accept(&self, now: Timestamp, contact: &Contact) -> bool {
        let key = contact.key();
        self.table.get(key).is_none()
            && !self.declines(key)
            && self.is_routable(contact)
            && self.table.admits(now, contact)
    }

    /// The entry to ask since someone waits for a place in the bucket of `key`: it itself where it is `first`.
    pub(crate) fn challenge(&mut self, now: Timestamp, key: &Key, first: bool) -> Option<Arc<Contact>> {
        let links = &self.links;
        self.table.challenge(now, key, first, |key| links.get(key).is_some_and(|link| link.seen.connected))
    }

    /// The entry to ask since another could not be reached.
    pub(crate) fn challenge_next(&mut self, now: Timestamp) -> Option<Arc<Contact>> {
        let links = &self.links;
        self.table.challenge_next(now, |key| links.get(key).is_some_and(|link| link.seen.connected))
    }

    /// Takes a peer's addresses into the book, and into its entry of the table; returns all that are known.
    pub(crate) fn learn_addrs(&mut self, now: Timestamp, contact: &Arc<Contact>, source: AddrSource) -> Arc<Contact> {
        let key = contact.key();
        let seen = self.links.get(key).map(|link| link.seen).unwrap_or_default();
        let contact = &match source {
            AddrSource::Hearsay => self.without_wrong_addrs(contact),
            _ => Arc::clone(contact),
        };
        if source > AddrSource::Hearsay {
            self.dials.set_right(contact);
        }
        self.book.note(contact, source, &seen, self.table.get(key).map(|entry| &entry.contact));
        if self.table.get(key).is_some() {
            self.table.readdress(now, &self.best_known(key, contact));
        }
        self.contact_at(key).unwrap_or_else(|| Arc::clone(contact))
    }

    /// What someone says of a peer: the peer itself, if it is connected, since other behaviours tell of it what it said.
    pub(crate) fn addr_source_of(&self, key: &Key) -> AddrSource {
        if self.is_connected(key) { AddrSource::Peer } else { AddrSource::Hearsay }
    }

    /// A peer that answered, as it comes into the table. One that is in the table keeps its addresses: where it answered is
    /// told by the connection.
    pub(crate) fn contact_for_table(&self, asked: &Arc<Contact>) -> Arc<Contact> {
        match self.table.get(asked.key()).filter(|entry| entry.contact.has_addrs()) {
            Some(entry) => Arc::clone(&entry.contact),
            // The own addresses may have changed while it was asked.
            None => self.best_known(asked.key(), &self.filtered(asked)),
        }
    }

    /// A peer with the addresses that are no rumours, or, where there are none, with those that the book has and those it
    /// was asked at: what the table has of it, and hands on. Hearsay counts for groups that the peer may have nothing to do
    /// with, and would keep it out where they are crowded.
    fn best_known(&self, key: &Key, asked: &Arc<Contact>) -> Arc<Contact> {
        let rumoured = || self.book.get(key).map_or_else(|| Arc::clone(asked), |known| self.with_hearsay(known, asked));
        self.first_hand(key).unwrap_or_else(|| rumoured().at_most(MAX_FIRST_HAND))
    }

    /// What is known of a peer by more than hearsay.
    fn first_hand(&self, key: &Key) -> Option<Arc<Contact>> {
        match self.book.addrs(key) {
            Some(addrs) => Some(addrs.contact().at_most(addrs.first_hand())),
            None => self.table.get(key).map(|entry| Arc::clone(&entry.contact)),
        }
        .filter(|contact| contact.has_addrs())
    }

    /// A peer that was said to have these addresses, which may be a while ago: what is known of it now comes first.
    pub(crate) fn with_current_addrs(&self, said: &Arc<Contact>) -> Arc<Contact> {
        match self.first_hand(said.key()) {
            Some(told) => told.joined(said, MAX_FIRST_HAND.saturating_sub(told.raw_addrs().len())),
            None if said.has_addrs() => said.at_most(MAX_FIRST_HAND),
            None => self.contact_at(said.key()).unwrap_or_else(|| Arc::clone(said)),
        }
    }

    /// What someone says of a peer without the addresses at which it is known not to be.
    fn without_wrong_addrs(&self, said: &Arc<Contact>) -> Arc<Contact> {
        said.filtered(|addr| !self.dials.is_wrong(said.key(), addr))
    }

    /// A dial of a peer failed at these addresses, or did while it was reached at another one: then it is at none of them
    /// that this node could have got to. Returns the peer if it had to leave the table, since nothing is left that it said
    /// itself or answered at, and nobody is connected to it.
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
        let strangers = addrs.iter().filter(|(_, cause)| *cause == DialCause::WrongPeer).map(|(addr, _)| addr.clone());
        let strangers = failed.with_multiaddrs(strangers);
        let wrong = failed
            .filtered(|addr| strangers.raw_addrs().contains(addr) || connected && self.dials.is_transport_proven(addr));
        self.book.failed(key, failed.raw_addrs());
        if !wrong.has_addrs() {
            return None;
        }
        self.dials.set_wrong(&wrong);
        self.book.forget(key, wrong.raw_addrs());
        let left = self.table.get(key)?.contact.filtered(|addr| !wrong.raw_addrs().contains(addr));
        let dialable = left.has_addrs() && self.is_routable(&left);
        if !connected && !dialable {
            return self.table.remove(key);
        }
        self.table.readdress(now, &left);
        None
    }

    /// A peer with what else is said of it, as far as it may have rumours.
    fn with_hearsay(&self, known: &Arc<Contact>, said: &Arc<Contact>) -> Arc<Contact> {
        if said.adds_nothing_to(known) {
            return Arc::clone(known);
        }
        let told = self.book.addrs(known.key()).map_or(known.raw_addrs().len(), Addresses::first_hand);
        let rumours = known.raw_addrs().len().saturating_sub(told);
        known.joined(&self.without_wrong_addrs(said), MAX_HEARSAY.saturating_sub(rumours))
    }

    /// A peer with what is known of it before what it is named with.
    pub(crate) fn with_known(&self, named: &Arc<Contact>) -> Arc<Contact> {
        self.contact_at(named.key()).map_or_else(|| Arc::clone(named), |known| self.with_hearsay(&known, named))
    }

    /// A peer with those of its addresses to dial it at now: at most [`DIALLED_AT_ONCE`], and few of one host and transport,
    /// so that those of one kind that lead nowhere leave room for others. Hearsay has a budget, in which those who named the
    /// peer have shares ([`DialHistory`]); names that stand for any number of addresses are not dialled on hearsay at all. A peer
    /// that is on `trial` is not dialled at its own word alone: whoever connects, tells another's addresses and hangs up must
    /// not choose what this node dials. A peer that is connected need not be dialled, and costs nothing.
    pub(crate) fn choose_dial_addrs(
        &mut self,
        now: Timestamp,
        to: &Arc<Contact>,
        trial: bool,
        referrers: &[Key],
    ) -> Result<Arc<Contact>, Unreachable> {
        let connected = self.is_connected(to.key());
        if !connected && let Some(under_way) = self.dials.join(now, to.key()) {
            // This node's own addresses may be others by now.
            return Ok(self.filtered(&under_way));
        }
        let seen = referrers.iter().filter_map(|key| self.links.get(key)?.seen.host);
        let mut referrers: Vec<Referrer> = seen.map(Some).collect();
        if referrers.is_empty() {
            referrers.push(None);
        }
        let addrs = self.book.addrs(to.key());
        // An entry of the table of which the book has forgotten all was reached, or seen, there.
        let entry = self.table.get(to.key()).filter(|_| addrs.is_none()).map(|entry| Arc::clone(&entry.contact));
        let (mut round, mut kinds, mut spent) = (Vec::new(), Vec::new(), Vec::new());
        let mut why = Unreachable::DialFailed(DialCause::NoTransport);
        for addr in to.raw_addrs() {
            let (kind, works) = ((Host::of(addr), Transport::of(addr)), self.dials.is_transport_proven(addr));
            let alike = kinds.iter().filter(|(other, _)| *other == kind).count();
            let places = kinds.iter().filter(|(_, other)| *other == works).count();
            if alike == DIALLED_OF_A_KIND || places == DIALLED_AT_ONCE || self.dials.lacks_transport(addr) {
                continue;
            }
            if self.dials.is_wrong(to.key(), addr) {
                why = Unreachable::WrongPeer;
                continue;
            }
            let sure = connected
                || kind.0.is_none()
                || addrs.is_some_and(|addrs| addrs.is_trusted(addr))
                || entry.as_ref().is_some_and(|entry| entry.raw_addrs().contains(addr));
            if let Some(host) = kind.0.filter(|_| !sure) {
                let word = trial && addrs.is_some_and(|addrs| addrs.is_only_claimed(addr));
                let may = !word && !is_open_ended(addr);
                let Some(referrer) = may.then(|| self.dials.take_attempt(now, host, &referrers)).flatten() else {
                    why = Unreachable::HostBackingOff;
                    continue;
                };
                spent.push((host, referrer));
            }
            kinds.push((kind, works));
            round.push(addr.clone());
        }
        if round.is_empty() && to.has_addrs() && !connected {
            return Err(why);
        }
        let round = if round == to.raw_addrs() { Arc::clone(to) } else { to.with_addrs(round) };
        if !connected {
            self.dials.begin(now, &round, spent);
        }
        Ok(round)
    }

    /// What is known of a peer that is not this node.
    pub(crate) fn contact(&self, peer: &PeerId) -> Option<Arc<Contact>> {
        self.contact_at(&Key::from(peer))
    }

    /// What is known of the peer at this place.
    pub(crate) fn contact_at(&self, key: &Key) -> Option<Arc<Contact>> {
        self.book.get(key).or_else(|| self.table.get(key).map(|entry| &entry.contact)).cloned()
    }

    /// A peer answered: it may be asked again at once.
    pub(crate) fn on_answer(&mut self, now: Timestamp, key: &Key) {
        self.back_offs.on_answer(now, key, self.table.len());
        self.dials.on_answer(key);
    }

    /// A peer failed a request. Returns who left the table for it.
    pub(crate) fn on_failure(&mut self, failure: FailedRequest<'_>, rng: &mut ChaCha8Rng) -> Option<PeerId> {
        let key = failure.to.key();
        if !failure.why.is_the_peers() {
            return None;
        }
        if self.table.len() > 0 {
            self.book.on_failure(key);
        }
        let counts = self.back_offs.on_failure(failure, self.table.get(key).is_some(), rng);
        match failure.why {
            RequestError::Unsupported => self.table.remove(key),
            why => self.table.on_failure(key, counts, why.is_failed_dial()),
        }
    }

    /// Whether a peer is not to be asked now, where it would be dialled.
    pub(crate) fn is_held_back(&self, now: Timestamp, contact: &Arc<Contact>) -> bool {
        self.back_offs.until(contact.key()).is_some_and(|until| now < until)
            && self.back_offs.is_held_back(now, &self.with_known(contact))
    }

    /// Why a peer is not to be asked now, for the report of the query that would ([`BackOffs::reason`]).
    pub(crate) fn held_back_reason(
        &mut self,
        now: Timestamp,
        contact: &Arc<Contact>,
        asked: bool,
    ) -> Option<RequestError> {
        if self.is_held_back(now, contact) { self.back_offs.reason(contact.key(), asked) } else { None }
    }

    /// When an entry is worth a question whether it is there: after so long without a sign of life, or, where it failed,
    /// once its back-off is over.
    pub(crate) fn check_at(&self, entry: &TableEntry, quiet: Duration) -> Timestamp {
        match entry.failures() {
            0 => entry.last_seen + quiet,
            _ => self.back_offs.until(entry.contact.key()).unwrap_or(Timestamp::ZERO),
        }
    }

    /// Peers that the application named and that are not in the table are worth a try now. Between the lookups that begin so
    /// there are ever longer pauses where too few are known.
    pub(crate) fn release_boot_nodes(&mut self, now: Timestamp) {
        for contact in self.book.boot_nodes().filter(|contact| self.table.get(contact.key()).is_none()) {
            self.back_offs.release(now, contact.key());
        }
    }

    /// The peers to begin a lookup with: the `count` closest of the table, and while it holds fewer, those that the
    /// application named. Those that are held back come beside as many others: the lookup asks none of them, and says so.
    pub(crate) fn seeds(&self, now: Timestamp, target: &Key, count: usize) -> Vec<Arc<Contact>> {
        let mut held = Vec::new();
        let mut seeds = self.table.closest_of_all(target, count, |_, entry| {
            let open = entry.failures() == 0 || !self.is_held_back(now, &entry.contact);
            held.extend((!open).then(|| Arc::clone(&entry.contact)));
            open
        });
        let room = count - seeds.len();
        seeds.append(&mut held);
        if room > 0 {
            let named = self.book.boot_nodes().filter(|contact| contact.peer() != self.local.peer());
            let mut named: Vec<_> = named.filter(|contact| !contact.is_among(&seeds)).collect();
            named.sort_by_key(|contact| self.is_held_back(now, contact));
            seeds.extend(named.into_iter().take(room).cloned());
        }
        seeds
    }

    /// A peer that someone named, as it is to be asked; `None` for this node itself, and for one that could not be asked
    /// since nobody knows where it is.
    ///
    /// What is known of its addresses comes before those that it was named with: whoever names a peer with wrong ones must
    /// not make it look dead, nor have it dialled at more than a few.
    pub(crate) fn contact_to_ask(&self, named: &Arc<Contact>) -> Option<Arc<Contact>> {
        let key = named.key();
        if key == self.local.key() {
            return None;
        }
        match self.contact_at(key) {
            Some(known) => Some(self.with_hearsay(&known, named)),
            None if named.has_addrs() => Some(named.at_most(MAX_HEARSAY)),
            None => self.is_connected(key).then(|| Arc::clone(named)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::contact::MAX_ADDRS;
    use crate::core::message::{DialCause, Unreachable};

    fn contact(peer: PeerId, ports: std::ops::Range<usize>) -> Arc<Contact> {
        Contact::new(peer, ports.map(|port| format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()))
    }

    #[test]
    fn a_sender_is_a_holder_and_this_node_is_near_where_they_are_among_the_closest() {
        let mut peers = Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default());
        let others: Vec<_> = (1..30).map(|port| contact(PeerId::random(), port..port + 1)).collect();
        let local = *peers.local.key();
        let sender = |peers: &Peers, of: &Contact, key: &Key| peers.sender(of.peer(), of.key(), key, 5);
        assert!(sender(&peers, &others[0], others[1].key()).near, "fewer than k are known");
        others.iter().for_each(|peer| _ = peers.table.offer(Timestamp::ZERO, peer));
        for key in others.iter().map(|peer| *peer.key()).chain([local]) {
            let mut known: Vec<_> = others.iter().filter(|peer| peers.contact(peer.peer()).is_some()).collect();
            known.sort_by_key(|peer| peer.key().distance(&key));
            for (at, peer) in known.iter().enumerate() {
                assert_eq!(sender(&peers, peer, &key).holder, at < 5);
            }
            let nearer = known.iter().filter(|peer| peer.key().distance(&key) < local.distance(&key)).count();
            assert_eq!(sender(&peers, &others[0], &key).near, nearer < 5);
        }
    }

    #[test]
    fn an_address_at_which_a_peer_answered_is_never_displaced_by_hearsay() {
        let mut peers = Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default());
        let good = contact(PeerId::random(), 1..2);
        peers.learn_addrs(Timestamp::ZERO, &good, AddrSource::Connection);
        peers.table.offer(Timestamp::ZERO, &good);
        let asked = peers.contact_to_ask(&contact(*good.peer(), 100..100 + MAX_ADDRS)).unwrap();
        assert_eq!(asked.raw_addrs()[0], good.raw_addrs()[0], "asked where it is known to be");
        assert_eq!(asked.raw_addrs().len(), 1 + MAX_HEARSAY, "and at some of the others: it may have moved");
        let answered = peers.contact_for_table(&asked); // on whatever connection
        peers.table.offer(Timestamp::ZERO, &answered);
        assert_eq!(peers.contact(good.peer()), Some(Arc::clone(&good)), "hearsay stays out of the table");
        let again = peers.contact_to_ask(&good).unwrap();
        assert_eq!(again, good);
    }

    #[test]
    fn addresses_of_a_transport_that_never_worked_take_no_place_of_others() {
        let mut peers = Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default());
        let now = Timestamp::ZERO;
        let by_quic = (1..6).map(|host| format!("/ip4/127.0.0.{host}/udp/1/quic-v1/webtransport"));
        let by_tcp = (1..6).map(|host| format!("/ip4/127.0.1.{host}/tcp/1"));
        let to = Contact::new(PeerId::random(), by_quic.chain(by_tcp).map(|addr| addr.parse().unwrap()));
        peers.learn_addrs(now, &to, AddrSource::Application);
        let dialled = |peers: &mut Peers| {
            let round = peers.choose_dial_addrs(now, &to, false, &[]).unwrap();
            peers.dials.end(to.key());
            (round.raw_addrs().len(), round.addrs().filter(|addr| addr.to_string().ends_with("/tcp/1")).count())
        };
        assert_eq!(dialled(&mut peers), (4, 0), "nobody knows what works");
        let other = contact(PeerId::random(), 1..2);
        peers.dials.on_connected(other.key(), Some(&other.raw_addrs()[0][..]), true);
        assert_eq!(dialled(&mut peers), (8, 4), "beside as many");
    }

    #[test]
    fn peers_that_are_held_back_take_the_place_of_no_other_seed() {
        use rand_core::SeedableRng as _;

        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut peers = Peers::new(Contact::new(PeerId::random(), []), &DhtConfig::default());
        let at = Timestamp::from_secs;
        let [good, dead, boot, gone] = [1, 2, 3, 4].map(|port| contact(PeerId::random(), port..port + 1));
        for peer in [&good, &dead] {
            peers.table.offer(at(0), peer);
        }
        for peer in [&gone, &boot] {
            peers.learn_addrs(at(0), peer, AddrSource::Application);
        }
        let why = Unreachable::DialFailed(DialCause::Refused).into();
        for to in [&dead, &gone] {
            peers.on_failure(FailedRequest { now: at(10), asked: at(9), to, why, told: true }, &mut rng);
        }
        let seeds = |at, count| peers.seeds(at, dead.key(), count);
        assert_eq!(seeds(at(11), 1), [&dead, &good].map(Arc::clone).into_iter().rev().collect::<Vec<_>>());
        assert_eq!(seeds(at(11), 2)[..], [&good, &dead, &boot].map(Arc::clone));
        assert_eq!(seeds(at(11), 3)[..], [&good, &dead, &boot, &gone].map(Arc::clone));
        assert_eq!(seeds(at(17), 1)[..], [Arc::clone(&dead)], "the back-off is over");
    }

    #[test]
    fn an_address_that_an_entry_loses_leaves_its_place_to_others_of_its_group() {
        use std::num::NonZeroUsize;

        use crate::core::config::DiversityConfig;

        let one = NonZeroUsize::MIN;
        let mut config = DhtConfig { address_policy: AddressPolicy::Public, ..DhtConfig::default() };
        config.routing.diversity =
            Some(DiversityConfig { per_bucket: one, per_table: one, ..DiversityConfig::default() });
        let mut peers = Peers::new(Contact::new(PeerId::random(), []), &config);
        let at = |groups: &[usize]| {
            let addr = |group: &usize| format!("/ip4/20.{group}.0.1/tcp/1").parse().unwrap();
            Contact::new(PeerId::random(), groups.iter().map(addr))
        };
        let now = Timestamp::ZERO;
        let (entry, second, third) = (at(&[1, 2, 3]), at(&[2]), at(&[3]));
        peers.table.offer(now, &entry);
        assert!(!peers.has_place_for(now, &second) && !peers.has_place_for(now, &third));
        let wrong: Vec<_> = second.addrs().map(|addr| (addr, DialCause::WrongPeer)).collect();
        peers.on_dial_failed(now, *entry.peer(), &wrong);
        assert!(peers.has_place_for(now, &second) && !peers.has_place_for(now, &third));
        peers.local = peers.local.with_addrs(third.raw_addrs().to_vec());
        assert!(peers.refilter(now).is_empty());
        assert!(peers.table.admits(now, &third));
        assert!(!peers.has_place_for(now, &at(&[1])));
    }
}

//! Everything that a node knows about other peers: the routing table, the address book, connections, dials and
//! back-offs.
//!
//! Knows: which of these to ask for what. Must not know: queries, records.

mod access;
mod addr_choice;
mod address_book;
mod addresses;
mod back_off;
mod dials;
mod host;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;
use rand_chacha::ChaCha8Rng;

use super::address_policy::AddressPolicy;
use super::config::DhtConfig;
use super::contact::Contact;
use super::ip_group::IpGroup;
use super::key::Key;
use super::message::RequestError;
use super::routing::{RoutingTable, TableEntry};
use super::store::Sender;
use super::time::Timestamp;
use access::Access;
pub use access::PeerFilter;
use address_book::{AddressBook, LinkState};
pub(crate) use addresses::{AddrSource, MAX_FIRST_HAND};
use back_off::BackOffs;
pub(crate) use back_off::FailedRequest;
use dials::DialHistory;
#[cfg(feature = "libp2p")]
pub(crate) use host::Share;
pub(crate) use host::{Host, Origin};

#[derive(Debug)]
pub(crate) struct Peers {
    pub(crate) local: Arc<Contact>,
    pub(crate) table: RoutingTable,
    pub(crate) book: AddressBook,
    pub(crate) back_offs: BackOffs,
    pub(crate) dials: DialHistory,
    pub(crate) access: Access,
    pub(crate) policy: AddressPolicy,
    /// Bounded by the connections that the driver allows.
    links: BTreeMap<Key, Link>,
    /// Whether any peer ever said that it serves: if none does, there is no identify.
    identified: bool,
}

/// The driver's information about a connected peer, by the peer's key, which is shorter than its id.
#[derive(Clone, Debug, Default)]
struct Link {
    state: LinkState,
    /// Whether the peer serves our protocol, once it has said so.
    serves: Option<bool>,
    /// The address from which it dialled, until that was dialled back.
    from: Option<Multiaddr>,
    /// When the peer sent its first request, if it had not said by then whether it serves.
    asked: Option<Timestamp>,
}

/// A peer that sends requests but has said nothing of itself for this long since the first of them has no identify.
/// Source: identify takes two round trips.
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
            access: Access::new(&config.limit),
            local,
            policy,
            links: BTreeMap::new(),
            identified: false,
        }
    }

    pub(crate) fn is_connected(&self, key: &Key) -> bool {
        is_connected(&self.links, key)
    }

    /// A connection to a peer is up, with its other `end` at this address, as far as that is known; `inbound` if the
    /// peer dialled.
    pub(crate) fn on_connected(&mut self, now: Timestamp, key: &Key, end: Option<&Multiaddr>, inbound: bool) {
        let host = end.and_then(|addr| Host::of(addr.as_ref()));
        let link = self.links.entry(*key).or_default();
        link.state = LinkState { connected: true, host };
        link.from = if inbound { end.cloned() } else { None };
        self.book.set_connected(key, true);
        self.back_offs.on_connected(now, key, self.table.len());
    }

    pub(crate) fn on_disconnected(&mut self, key: &Key) {
        self.links.remove(key);
        self.access.on_disconnected(key);
        self.book.set_connected(key, false);
    }

    /// The peer that sends a record over a connection, for the store to charge it. `place` is its own key, `key` that
    /// of the record, which the `k` closest peers are to hold.
    pub(crate) fn sender(&self, peer: &PeerId, place: &Key, key: &Key, k: usize) -> Sender {
        let mut sender = Sender::new(*peer);
        sender.group = self.table.seen_group(peer).map(IpGroup::id);
        let closest = self.table.closest(key, k, |_, _| true);
        sender.holder = closest.iter().any(|near| near.key() == place);
        sender.near = self.is_among(&closest, key, k);
        sender
    }

    /// Whether this node is one of the k closest to a key.
    pub(crate) fn is_near(&self, key: &Key, k: usize) -> bool {
        self.is_among(&self.table.closest(key, k, |_, _| true), key, k)
    }

    /// Whether this node is nearer to a key than the last of the k closest peers, if there are k.
    fn is_among(&self, closest: &[Arc<Contact>], key: &Key, k: usize) -> bool {
        let farthest = if closest.len() < k { None } else { closest.last() };
        let distance = self.local.key().distance(key);
        farthest.is_none_or(|farthest| distance < farthest.key().distance(key))
    }

    /// Where a candidate for the table is: the host at which it is seen, or else that of its first address, and its IP
    /// group where groups are limited. Elsewhere the group is only what it claims to be.
    pub(crate) fn origin(&self, contact: &Contact) -> Origin {
        let seen = self.links.get(contact.key()).and_then(|link| link.state.host);
        let host = seen.or_else(|| contact.raw_addrs().find_map(Host::of));
        let group = if self.table.limits_groups() { self.table.group(contact) } else { None };
        Origin { group, host }
    }

    /// Whether a connected peer is worth a try: it says that it serves our protocol or, in a network without identify,
    /// says nothing.
    pub(crate) fn may_serve(&self, key: &Key) -> bool {
        let unknown = !self.identified && self.policy != AddressPolicy::Public;
        self.links.get(key).is_some_and(|link| link.serves.unwrap_or(unknown))
    }

    /// A peer sends a request. `Some` if it is plain by now that there is no identify: with the address from which it
    /// dialled if that is worth a dial, which it is once a connection, and not in the public network.
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
        let Some(from) = link.from.take() else { return Some(None) };
        let from = self.filtered(&Contact::new(*peer, [from]));
        let held = self.back_offs.until(key).is_some_and(|until| now < until);
        let worth = self.policy != AddressPolicy::Public && !held && from.has_addrs() && self.has_place_for(now, &from);
        Some(worth.then_some(from))
    }

    /// Whether a peer says that it does not serve our protocol.
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
            && self.access.admits(contact)
            && self.table.admits(now, contact)
    }

    /// The entry to ask whether it is alive if peers wait for a place in the bucket of `key`
    /// ([`RoutingTable::challenge`]).
    pub(crate) fn challenge(&mut self, now: Timestamp, key: &Key, first: bool) -> Option<Arc<Contact>> {
        self.table.challenge(now, key, first, |key| is_connected(&self.links, key))
    }

    /// The entry to ask after another turned out to be unreachable ([`RoutingTable::challenge_next`]).
    pub(crate) fn challenge_next(&mut self, now: Timestamp) -> Option<Arc<Contact>> {
        self.table.challenge_next(now, |key| is_connected(&self.links, key))
    }

    /// A peer answered: it may be asked again at once.
    pub(crate) fn on_answer(&mut self, now: Timestamp, key: &Key) {
        self.back_offs.on_answer(now, key, self.table.len());
        self.dials.on_answer(key);
    }

    /// A peer failed a request. Returns the peer if it is removed from the table for that.
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

    /// Whether a peer is in its back-off, so that it is not to be asked now.
    pub(crate) fn is_held_back(&self, now: Timestamp, contact: &Arc<Contact>) -> bool {
        self.back_offs.until(contact.key()).is_some_and(|until| now < until)
            && self.back_offs.is_held_back(now, &self.with_known(contact))
    }

    /// The same of a peer of the address book.
    fn is_noted_held_back(&self, now: Timestamp, key: &Key) -> bool {
        self.back_offs.until(key).is_some_and(|until| now < until)
            && self.book.get(key).is_some_and(|contact| self.back_offs.is_held_back(now, &contact))
    }

    /// Why a peer is not to be asked now, for the report of a query that would ask it ([`BackOffs::reason`]).
    pub(crate) fn held_back_reason(
        &mut self,
        now: Timestamp,
        contact: &Arc<Contact>,
        asked: bool,
    ) -> Option<RequestError> {
        if self.is_held_back(now, contact) { self.back_offs.reason(contact.key(), asked) } else { None }
    }

    /// The time at which to check whether an entry is alive: after `quiet` without a sign of life or, if it failed, at
    /// the end of its back-off.
    pub(crate) fn check_at(&self, entry: &TableEntry, quiet: Duration) -> Timestamp {
        match entry.failures() {
            0 => entry.last_seen + quiet,
            _ => self.back_offs.until(entry.contact.key()).unwrap_or(Timestamp::ZERO),
        }
    }

    /// Lets boot nodes that are not in the table be asked now. The lookups that this makes worthwhile come at growing
    /// intervals while too few peers are known.
    pub(crate) fn release_boot_nodes(&mut self, now: Timestamp) {
        for key in self.book.boot_nodes().filter(|key| self.table.get(key).is_none()) {
            self.back_offs.release(now, key);
        }
    }

    /// The peers to begin a lookup with: the `count` closest of the table and, if it holds fewer, boot nodes (rule
    /// L10). Peers that are held back come in addition: the lookup does not ask them, but reports them.
    pub(crate) fn seeds(&self, now: Timestamp, target: &Key, count: usize) -> Vec<Arc<Contact>> {
        let mut held = Vec::new();
        let mut seeds = self.table.closest_of_all(target, count, |_, entry| {
            let open = entry.failures() == 0 || !self.is_held_back(now, &entry.contact);
            if !open {
                held.push(Arc::clone(&entry.contact));
            }
            open
        });
        let room = count - seeds.len();
        seeds.append(&mut held);
        if room > 0 {
            let others = |key: &&Key| *key != self.local.key() && !seeds.iter().any(|seed| seed.key() == *key);
            let mut boot_nodes: Vec<_> = self.book.boot_nodes().filter(others).collect();
            boot_nodes.sort_by_cached_key(|key| self.is_noted_held_back(now, key));
            let boot_nodes: Vec<_> = boot_nodes.into_iter().filter_map(|key| self.book.get(key)).take(room).collect();
            seeds.extend(boot_nodes);
        }
        seeds.retain(|seed| self.access.admits(seed));
        seeds
    }
}

fn is_connected(links: &BTreeMap<Key, Link>, key: &Key) -> bool {
    links.get(key).is_some_and(|link| link.state.connected)
}

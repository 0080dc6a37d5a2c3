//! Limits on how many entries of the table one operator may have.
//!
//! Knows: the IP groups of each entry, and since when a group is known. Must not know: buckets, beyond which peers are
//! in one.
//!
//! Two limits always hold. Few entries of one group are in a bucket, and few in the table (rule A22). In addition, once
//! the table has settled, groups that appeared at about the same time have few entries together: an attacker who comes
//! with ten networks at once does not get ten times as much as with one. Both are checked before a peer enters the
//! table and before an entry gets another address (rule A23); they never remove an entry.
//!
//! A peer's public addresses count, private ones only if it has no others, so that an announced 192.168.1.2 does not
//! put everyone into one group. Peers known by names alone are one group, since names are as free as ids; so are those
//! that are seen behind names or relays. An IPv4 address within an IPv6 one counts as what it is. A peer that a full
//! group keeps out does not wait for a place either, or a flood would fill the waiting list. The address from which a
//! peer dials counts too, because an announced address is a claim that anyone can make: with one machine, all networks
//! of the world. Loopback and private networks (a gateway may stand for everyone behind it) have no such group. An
//! entry keeps counting for where it was seen, or an attacker could have a stranger answer at that address, leave its
//! group, and send the next one.
//!
//! *Measured* (`flood --nodes 60 --samples 1`, medians of five seeds): the attacker has 9.5 % of a warm table's first
//! hops, 22.7 % without the share for newcomers, which is also what it has if it sends one well-behaved node per
//! network a day ahead; at most 9 entries of the table and 5 of a bucket, without the share 27 and 12. Without the hour
//! of settling 6.4 instead of 20 of the true 20 are known before the flood.

mod history;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use libp2p_identity::PeerId;

use crate::core::config::DiversityConfig;
use crate::core::contact::Contact;
use crate::core::ip_group::{IpGroup, IpGroups, insert};
use crate::core::time::Timestamp;
use history::History;

/// The groups of the entries of a table.
#[derive(Debug, Default)]
pub(super) struct Diversity {
    config: DiversityConfig,
    k: usize,
    members: BTreeMap<PeerId, Member>,
    /// The group in which each connected peer was seen.
    seen: BTreeMap<PeerId, IpGroup>,
    history: History,
    /// When the table is settled; `None` while it is too small for that.
    settled: Option<Timestamp>,
}

/// The groups that one entry counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    groups: IpGroups,
    /// The group in which it was seen when it entered. It counts for that one for as long as it is an entry, since
    /// others can make its addresses change.
    seen: Option<IpGroup>,
    /// When the newest of its groups was first seen, if the table was settled then.
    appeared: Option<Timestamp>,
}

impl Diversity {
    pub(super) fn new(config: DiversityConfig, k: usize) -> Diversity {
        Diversity { config, k, ..Diversity::default() }
    }

    /// All groups that a peer counts for: those of the addresses that it claims, and the one in which it was seen,
    /// which may be another.
    fn groups(&self, contact: &Contact) -> IpGroups {
        let mut groups = IpGroup::of(contact, self.config.asns.as_deref());
        if let Some(seen) = self.seen(contact.peer()) {
            insert(&mut groups, seen);
        }
        groups
    }

    /// The group in which a peer was seen; of an entry, the one in which it was seen when it entered.
    fn seen(&self, peer: &PeerId) -> Option<IpGroup> {
        self.members.get(peer).map_or_else(|| self.seen.get(peer).copied(), |member| member.seen)
    }

    /// A peer of these groups answered.
    fn see(&mut self, now: Timestamp, groups: &[IpGroup]) {
        let settled = self.is_settled(now);
        let in_use = || self.members.values().flat_map(|member| member.groups.iter().copied()).collect();
        groups.iter().for_each(|group| self.history.see(now, *group, settled, in_use));
    }

    fn is_settled(&self, now: Timestamp) -> bool {
        self.settled.is_some_and(|at| at <= now)
    }

    /// Whether one more entry of these groups may be in the table, and in a bucket that holds these peers. `own` is the
    /// peer in question: if it is an entry already, it does not count.
    fn admits<'a>(
        &self,
        now: Timestamp,
        groups: &[IpGroup],
        bucket: impl Iterator<Item = &'a PeerId>,
        own: &PeerId,
    ) -> bool {
        let all = || self.members.iter().filter(|(peer, _)| *peer != own).map(|(_, member)| member);
        let near: Vec<&Member> = bucket.filter(|peer| *peer != own).filter_map(|peer| self.members.get(peer)).collect();
        // One full group is enough to refuse it: otherwise an address in a second network would lead past the limit of
        // the first.
        let crowded = |group: &IpGroup| {
            let of = |member: &&Member| member.groups.contains(group);
            near.iter().copied().filter(of).count() >= self.config.per_bucket.get()
                || all().filter(of).count() >= self.config.per_table.get()
        };
        if groups.iter().any(crowded) {
            return false;
        }
        // Groups that were there before the table settled are not limited further. The newest group decides, so that it
        // does not help to claim an address in an old network as well.
        let Some(appeared) = self.appeared(now, groups) else { return true };
        // Peers that appeared shortly before or after it count as one attacker's: at most a quarter of the bucket.
        let together = |member: &Member| {
            let apart = member.appeared.map(|at| at.since(appeared).max(appeared.since(at)));
            apart.is_some_and(|apart| apart < self.config.newcomers_within)
        };
        near.iter().filter(|member| together(member)).count() < (self.k / 4).max(1)
            && all().filter(|member| together(member)).count() < self.config.newcomers.get()
    }

    /// When the newest of these groups was first seen; `None` if all are old.
    fn appeared(&self, now: Timestamp, groups: &[IpGroup]) -> Option<Timestamp> {
        let settled = self.is_settled(now);
        groups.iter().filter_map(|group| self.history.first_seen(now, group, settled)).max()
    }

    /// Gives an entry as many of the `wanted` addresses as its groups allow: all of them, or those that are allowed one
    /// by one, or none, in which case it keeps what it has. Returns what it has from now on.
    fn extend<'a>(
        &mut self,
        now: Timestamp,
        known: &Arc<Contact>,
        wanted: &Arc<Contact>,
        bucket: impl Iterator<Item = &'a PeerId> + Clone,
    ) -> Arc<Contact> {
        if Arc::ptr_eq(known, wanted) {
            return Arc::clone(known);
        }
        let own = known.peer();
        let fits = |diversity: &Diversity, groups: &[IpGroup]| {
            let member = diversity.members.get(own);
            let has = |group: &IpGroup| member.is_some_and(|member| member.groups.contains(group));
            groups.iter().all(has) || diversity.admits(now, groups, bucket.clone(), own)
        };
        let mut allowed = Arc::clone(wanted);
        if !fits(self, &self.groups(&allowed)) {
            let asns = self.config.asns.as_deref();
            let fits_alone = |addr: &[u8]| IpGroup::of_addr(addr, asns).is_none_or(|group| fits(self, &[group]));
            allowed = wanted.filtered(fits_alone);
            if !allowed.has_addrs() || !fits(self, &self.groups(&allowed)) {
                return Arc::clone(known);
            }
        }
        self.add(now, &allowed);
        allowed
    }

    /// A peer is an entry with these addresses now.
    pub(super) fn add(&mut self, now: Timestamp, contact: &Contact) {
        let groups = self.groups(contact);
        self.see(now, &groups);
        let member = Member { appeared: self.appeared(now, &groups), groups, seen: self.seen(contact.peer()) };
        self.members.insert(*contact.peer(), member);
        if self.settled.is_none() && self.members.len() >= self.k {
            self.settled = Some(now + self.config.settling);
        }
    }

    /// A peer is no longer an entry.
    pub(super) fn remove(&mut self, peer: &PeerId) {
        self.members.remove(peer);
        if self.members.len() < self.k / 2 {
            self.settled = None;
        }
    }
}

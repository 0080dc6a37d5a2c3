//! How many entries of the table may be one operator's.
//!
//! Knows: the IP groups of each entry, and since when a group is known. Must not know: buckets, beyond who is in one.
//!
//! Two limits hold whatever is offered. Of one group there are few entries in a bucket and few in the table. And once the
//! table has settled, groups that appeared together have few places together: an attacker who comes with ten networks
//! at once does not get ten times as much as with one. Both are asked before a peer comes in, or an address into an
//! entry; nobody is expelled.

mod history;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
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
    /// k.
    size: usize,
    members: BTreeMap<PeerId, Member>,
    /// The group in which each peer was seen that is connected.
    seen: BTreeMap<PeerId, IpGroup>,
    history: History,
    /// When the table is settled; `None` while it is too small to say.
    settled: Option<Timestamp>,
}

/// What one entry counts for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    groups: IpGroups,
    /// The group in which it was seen when it came in. It counts for that for as long as it is an entry: its addresses can
    /// be made to change.
    seen: Option<IpGroup>,
    /// When the newest of its groups was first seen, if the table was settled then.
    appeared: Option<Timestamp>,
}

impl Diversity {
    pub(super) fn new(config: DiversityConfig, size: usize) -> Diversity {
        Diversity { config, size, ..Diversity::default() }
    }

    /// All that a peer counts for: the groups of what it says of itself, and the one in which it was seen. It need not be
    /// where it says.
    fn groups(&self, contact: &Contact) -> IpGroups {
        let mut groups = IpGroup::of(contact, self.config.asns.as_deref());
        self.seen(contact.peer()).into_iter().for_each(|seen| insert(&mut groups, seen));
        groups
    }

    /// The group in which a peer was seen. One that was in the table before is where it was known to be.
    fn seen(&self, peer: &PeerId) -> Option<IpGroup> {
        self.members.get(peer).map_or_else(|| self.seen.get(peer).copied(), |member| member.seen)
    }

    /// A peer of these groups was there, or heard of.
    fn see(&mut self, now: Timestamp, groups: &[IpGroup]) {
        let settled = self.is_settled(now);
        let in_use = || self.members.values().flat_map(|member| member.groups.iter().copied()).collect();
        groups.iter().for_each(|group| self.history.see(now, *group, settled, in_use));
    }

    fn is_settled(&self, now: Timestamp) -> bool {
        self.settled.is_some_and(|at| at <= now)
    }

    /// Whether one more entry of these groups fits, into a bucket with these peers. `own` is the peer in question, which
    /// does not count if it is an entry already.
    fn admits<'a>(
        &self,
        now: Timestamp,
        groups: &[IpGroup],
        bucket: impl Iterator<Item = &'a PeerId>,
        own: &PeerId,
    ) -> bool {
        let all = || self.members.iter().filter(|(peer, _)| *peer != own).map(|(_, member)| member);
        let near: Vec<&Member> = bucket.filter(|peer| *peer != own).filter_map(|peer| self.members.get(peer)).collect();
        let crowded = |group: &IpGroup| {
            let of = |member: &&Member| member.groups.contains(group);
            near.iter().copied().filter(of).count() >= self.config.per_bucket.get()
                || all().filter(of).count() >= self.config.per_table.get()
        };
        if groups.iter().any(crowded) {
            return false;
        }
        let Some(appeared) = self.appeared(now, groups) else { return true };
        let together = |member: &Member| {
            let apart = member.appeared.map(|at| at.since(appeared).max(appeared.since(at)));
            apart.is_some_and(|apart| apart < self.config.newcomers_within)
        };
        near.iter().filter(|member| together(member)).count() < (self.size / 4).max(1)
            && all().filter(|member| together(member)).count() < self.config.newcomers.get()
    }

    /// When the newest of these groups was first seen; `None` if all are old.
    fn appeared(&self, now: Timestamp, groups: &[IpGroup]) -> Option<Timestamp> {
        let settled = self.is_settled(now);
        groups.iter().filter_map(|group| self.history.first_seen(now, group, settled)).max()
    }

    /// What an entry's contact becomes: `wanted`, where its groups fit; or with as many of these addresses as do; or what it
    /// is, where none does. It counts as that from now on.
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
        let mut whole = Arc::clone(wanted);
        if !fits(self, &self.groups(&whole)) {
            let asns = self.config.asns.as_deref();
            let may_come = |addr: &&Bytes| IpGroup::of_addr(addr, asns).is_none_or(|group| fits(self, &[group]));
            whole = wanted.with_addrs(wanted.raw_addrs().iter().filter(may_come).cloned());
            if !whole.has_addrs() || !fits(self, &self.groups(&whole)) {
                return Arc::clone(known);
            }
        }
        self.count(now, &whole);
        whole
    }

    /// A peer is an entry with these addresses now.
    fn count(&mut self, now: Timestamp, contact: &Contact) {
        let groups = self.groups(contact);
        self.see(now, &groups);
        let member = Member { appeared: self.appeared(now, &groups), groups, seen: self.seen(contact.peer()) };
        self.members.insert(*contact.peer(), member);
        if self.settled.is_none() && self.members.len() >= self.size {
            self.settled = Some(now + self.config.settling);
        }
    }

    /// A peer is no entry any more.
    pub(super) fn left(&mut self, peer: &PeerId) {
        self.members.remove(peer);
        if self.members.len() < self.size / 2 {
            self.settled = None;
        }
    }
}

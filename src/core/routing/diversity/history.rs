//! The times since which IP groups are known.
//!
//! Knows: when each group was first and last seen. Must not know: what follows from it. Bounded: when full, the newest
//! groups are forgotten first, so that naming many groups pushes out none that was known before.
//!
//! Groups count as new together if they were first seen within 24 h of each other, not if they were first seen less
//! than 24 h ago: otherwise a flood would only have to last a day. *Dropped:* forgetting the groups that were unseen
//! for longest first, by which 125 answers that name 32 networks each made all idle groups new again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::ip_group::IpGroup;
use crate::core::time::Timestamp;

/// Maximum number of groups remembered. Source: the servers of the public network are in fewer networks of 16 bits.
pub(super) const MAX_GROUPS: usize = 4_096;
/// Time until the next search when hardly any group could be forgotten. Source: a search takes a fraction of a
/// millisecond, and a peer that names many groups must not cause one for each.
const PAUSE: Duration = Duration::from_secs(60);
/// A group that was not seen for this long is forgotten first. Source: peers that leave a public network for good do so
/// within weeks; an attacker would have to come back to a group for that long.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) groups: BTreeMap<IpGroup, Sightings>,
    /// No search for groups to forget before this time.
    full_until: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sightings {
    /// `None`: before the table was settled.
    first: Option<Timestamp>,
    last: Timestamp,
}

impl History {
    /// A group was seen. Any group seen before the table is `settled` counts as old.
    pub(super) fn see(
        &mut self,
        now: Timestamp,
        group: IpGroup,
        settled: bool,
        in_use: impl Fn() -> BTreeSet<IpGroup>,
    ) {
        if let Some(known) = self.groups.get_mut(&group) {
            let first = if settled { known.first } else { None };
            *known = Sightings { first, last: now };
            return;
        }
        if self.groups.len() >= MAX_GROUPS && self.full_until <= now {
            self.forget(now, &in_use());
        }
        if self.groups.len() < MAX_GROUPS {
            self.groups.insert(group, Sightings { first: settled.then_some(now), last: now });
        }
    }

    /// When a group was first seen, which is now if it is not known; `None` if that was before the table was `settled`.
    pub(super) fn first_seen(&self, now: Timestamp, group: &IpGroup, settled: bool) -> Option<Timestamp> {
        if !settled {
            return None;
        }
        self.groups.get(group).map_or(Some(now), |known| known.first)
    }

    /// Forgets a quarter of all groups, so that it is seldom necessary: those not seen for long, then those first seen
    /// last.
    fn forget(&mut self, now: Timestamp, in_use: &BTreeSet<IpGroup>) {
        let gone = |known: &Sightings| now.since(known.last) >= FORGOTTEN;
        let idle = self.groups.iter().filter(|(group, _)| !in_use.contains(group));
        let mut idle: Vec<_> =
            idle.map(|(group, known)| (gone(known), known.first, Reverse(known.last), *group)).collect();
        idle.sort_unstable();
        for (.., group) in idle.iter().rev().take(MAX_GROUPS / 4) {
            self.groups.remove(group);
        }
        if idle.len() < MAX_GROUPS / 4 {
            self.full_until = now + PAUSE;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn where_all_are_in_use_not_every_new_one_costs_a_look_at_all() {
        let (mut history, looks, at) = (History::default(), Cell::new(0), Timestamp::from_secs);
        let in_use = || {
            looks.set(looks.get() + 1);
            (0..MAX_GROUPS as u32 + 1_000).map(IpGroup::V6).collect()
        };
        for group in 0..MAX_GROUPS as u32 + 1_000 {
            history.see(at(0), IpGroup::V6(group), true, in_use);
        }
        assert_eq!((history.groups.len(), looks.get()), (MAX_GROUPS, 1), "one look");
        history.see(at(60), IpGroup::V6(1 << 20), true, BTreeSet::new);
        assert!(history.groups.len() < MAX_GROUPS, "and another when something may be idle");
    }
}

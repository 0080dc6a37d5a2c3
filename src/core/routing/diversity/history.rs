//! Since when groups are known.
//!
//! Knows: first and last sight of each group. Must not know: what follows from it. Bounded: where there is no room, those
//! that came last go first, so that nobody can push out what was there before by naming many groups.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::ip_group::IpGroup;
use crate::core::time::Timestamp;

/// So many groups are remembered. Source: the servers of the public network are in fewer networks of 16 bits.
pub(super) const MAX_GROUPS: usize = 4_096;
/// Where hardly any could be forgotten, the next look is so much later. Source: a look at all of them takes a fraction of
/// a millisecond, and whoever names many groups must not have it done for each.
const PAUSE: Duration = Duration::from_secs(60);
/// A group that was not seen for so long is no longer known, if there is no room. Source: peers of a public network that
/// leave it for good do so within weeks; an attacker would have to come back to it for that long.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) groups: BTreeMap<IpGroup, GroupHistory>,
    /// Until then there is nothing worth another look for what to forget.
    full_until: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct GroupHistory {
    /// `None`: before the table was settled.
    first: Option<Timestamp>,
    last: Timestamp,
}

impl History {
    /// A group is there. What is seen before the table is settled is old, whatever it was.
    pub(super) fn see(
        &mut self,
        now: Timestamp,
        group: IpGroup,
        settled: bool,
        in_use: impl Fn() -> BTreeSet<IpGroup>,
    ) {
        if let Some(sight) = self.groups.get_mut(&group) {
            sight.last = now;
            sight.first = sight.first.filter(|_| settled);
            return;
        }
        if self.groups.len() >= MAX_GROUPS && self.full_until <= now {
            self.forget(now, &in_use());
        }
        if self.groups.len() < MAX_GROUPS {
            self.groups.insert(group, GroupHistory { first: settled.then_some(now), last: now });
        }
    }

    /// When a group was first seen, which is now if it was not; `None` if that was before the table was settled.
    pub(super) fn first_seen(&self, now: Timestamp, group: &IpGroup, settled: bool) -> Option<Timestamp> {
        self.groups.get(group).map_or(settled.then_some(now), |sight| sight.first.filter(|_| settled))
    }

    /// Forgets a quarter, so that it has to be done rarely: groups that nobody saw for long, then those that were first
    /// seen last.
    fn forget(&mut self, now: Timestamp, in_use: &BTreeSet<IpGroup>) {
        let idle = self.groups.iter().filter(|(group, _)| !in_use.contains(group));
        let gone = |sight: &GroupHistory| now.since(sight.last) >= FORGOTTEN;
        let mut idle: Vec<_> =
            idle.map(|(group, sight)| (gone(sight), sight.first, Reverse(sight.last), *group)).collect();
        idle.sort_unstable();
        idle.iter().rev().take(MAX_GROUPS / 4).for_each(|(.., group)| _ = self.groups.remove(group));
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

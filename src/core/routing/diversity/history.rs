//! Since when groups are known.
//!
//! Knows: first and last sight of each group. Must not know: what follows from it. Bounded: those seen last the longest
//! ago are forgotten first, but for those in use.

use std::collections::BTreeMap;

use crate::core::ip_group::IpGroup;
use crate::core::time::Timestamp;

/// So many groups are remembered. Source: the servers of the public network are in fewer networks of 16 bits.
pub(super) const MAX_GROUPS: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct History {
    groups: BTreeMap<IpGroup, Sight>,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    /// `None`: before the table was settled.
    first: Option<Timestamp>,
    last: Timestamp,
}

impl History {
    /// A group is there. What is seen before the table is settled is old, whatever it was.
    pub(super) fn see(&mut self, now: Timestamp, group: IpGroup, settled: bool, in_use: impl Fn(&IpGroup) -> bool) {
        if let Some(sight) = self.groups.get_mut(&group) {
            sight.last = now;
            sight.first = sight.first.filter(|_| settled);
            return;
        }
        if self.groups.len() >= MAX_GROUPS {
            self.forget(in_use);
        }
        if self.groups.len() < MAX_GROUPS {
            self.groups.insert(group, Sight { first: settled.then_some(now), last: now });
        }
    }

    /// When a group was first seen, which is now if it was not; `None` if that was before the table was settled.
    pub(super) fn first_seen(&self, now: Timestamp, group: &IpGroup, settled: bool) -> Option<Timestamp> {
        self.groups.get(group).map_or(settled.then_some(now), |sight| sight.first.filter(|_| settled))
    }

    /// Forgets a quarter, so that it has to be done rarely.
    fn forget(&mut self, in_use: impl Fn(&IpGroup) -> bool) {
        let idle = self.groups.iter().filter(|(group, _)| !in_use(group));
        let mut idle: Vec<_> = idle.map(|(group, sight)| (sight.last, *group)).collect();
        idle.sort_unstable();
        idle.iter().take(MAX_GROUPS / 4).for_each(|(_, group)| _ = self.groups.remove(group));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }
}

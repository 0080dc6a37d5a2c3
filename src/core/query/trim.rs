//! Limits how many peers of one operator's network a lookup takes from one answer.
//!
//! Knows: groups and distances. Must not know: which peer answered. An answer that names twenty peers of one network
//! would put the lookup in the hands of that network; of each group the closest few are accepted. The others are left
//! out of this answer only.
//!
//! *Dropped:* discarding all peers of an over-represented group (go-libp2p-kad-dht), by which one liar excludes a
//! network when it names more peers of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::config::DiversityConfig;
use crate::core::contact::Contact;
use crate::core::ip_group::IpGroup;
use crate::core::key::Key;

/// Removes the peers of groups of which there are enough nearer ones. A peer whose key is the target is never removed.
pub(crate) fn trim(named: &mut Vec<Arc<Contact>>, target: &Key, diversity: &DiversityConfig) {
    if named.len() <= diversity.per_answer.get() {
        return;
    }
    let mut nearest: Vec<usize> = (0..named.len()).collect();
    nearest.sort_by_key(|at| named[*at].key().distance(target));
    let mut counts: BTreeMap<IpGroup, usize> = BTreeMap::new();
    let mut kept = vec![false; named.len()];
    for at in nearest {
        let groups = IpGroup::of(&named[at], diversity.asns.as_deref());
        let crowded = |group| counts.get(group).is_some_and(|count| *count >= diversity.per_answer.get());
        if named[at].key() == target || !groups.iter().any(crowded) {
            kept[at] = true;
            groups.into_iter().for_each(|group| *counts.entry(group).or_default() += 1);
        }
    }
    let mut kept = kept.into_iter();
    named.retain(|_| kept.next().unwrap_or(false));
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    fn contact(place: u8, addrs: &[&str]) -> Arc<Contact> {
        let addrs = addrs.iter().map(|addr| addr.parse().unwrap());
        Contact::with_key(PeerId::random(), Key::from_bits(&format!("{place:08b}")), addrs)
    }

    fn places(named: &[Arc<Contact>]) -> Vec<u8> {
        named.iter().map(|contact| contact.key().to_bytes()[0]).collect()
    }

    #[test]
    fn of_each_group_the_nearest_stay_in_their_order() {
        let (one, other) = ("/ip4/5.6.7.8/tcp/1", "/ip4/9.9.9.9/tcp/1");
        let mut named: Vec<_> = [9, 3, 7, 1, 8].into_iter().map(|place| contact(place, &[one])).collect();
        named.extend([contact(6, &[other]), contact(10, &[other, one]), contact(11, &[]), contact(12, &["/memory/1"])]);
        let target = Key::from_bits("00000000");
        trim(&mut named, &target, &DiversityConfig::default());
        assert_eq!(places(&named), [3, 7, 1, 6, 11, 12], "the one at 10 is in a full group with one of its addresses");
    }

    #[test]
    fn the_target_itself_stays() {
        let mut named: Vec<_> = (1..20).map(|place| contact(place, &["/ip4/5.6.7.8/tcp/1"])).collect();
        let target = *named[18].key();
        let mut diversity = DiversityConfig::default();
        (diversity.per_answer, diversity.per_bucket) = (std::num::NonZeroUsize::MIN, std::num::NonZeroUsize::MIN);
        trim(&mut named, &target, &diversity);
        assert_eq!(places(&named), [19]);
    }
}

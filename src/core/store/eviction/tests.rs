//! The rule, sentence by sentence, on a store that keeps only costs.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn later(hours: u64) -> Timestamp {
    NOW + Duration::from_secs(hours * 3600)
}

/// A hash, as a store makes one under its seed.
fn hash(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 32)
}

fn peer(number: u64) -> Account {
    Account::of_peer(hash(number), None, Account::PUBLISHED)
}

fn grouped(number: u64, group: u64) -> Account {
    Account::of_peer(hash(number), Some(hash(group + 1_000_000)), Account::PUBLISHED)
}

fn holder(number: u64) -> Account {
    Account::of_peer(hash(number), None, Account::REPLICATED)
}

#[derive(Default)]
struct Store {
    kept: BTreeMap<u64, Cost>,
    weights: BTreeMap<Account, u64>,
    bound: Size,
    bytes: u64,
}

impl Accounts for Store {
    type Id = u64;
    type Error = Infallible;

    fn weight(&self, account: Account) -> Result<u64, Infallible> {
        Ok(self.weights.get(&account).copied().unwrap_or_default())
    }

    fn change_weight(&mut self, account: Account, less: u64, more: u64) -> Result<(), Infallible> {
        let weight = self.weights.entry(account).or_default();
        *weight = *weight - less + more;
        self.weights.retain(|_, weight| *weight > 0);
        Ok(())
    }

    fn heaviest(
        &mut self,
        parent: Account,
        before: Option<(u64, Account)>,
    ) -> Result<Option<(u64, Account)>, Infallible> {
        let of_parent = self.weights.iter().filter(|(account, _)| account.parent() == Some(parent));
        let all = of_parent.map(|(account, weight)| (*weight, *account));
        Ok(all.filter(|entry| before.is_none_or(|before| *entry < before)).max())
    }

    fn next(&mut self, account: Account, after: Option<&Ranked<u64>>) -> Result<Option<Ranked<u64>>, Infallible> {
        let order = |record: &Ranked<u64>| (record.cost.tier(), Reverse(record.rank), record.id);
        let mine = self.kept.iter().filter(|(_, cost)| cost.account == account);
        let mine = mine.map(|(id, cost)| Ranked { id: *id, rank: hash(*id), cost: *cost });
        let rest = mine.filter(|record| after.is_none_or(|after| order(record) > order(after)));
        Ok(rest.min_by_key(order))
    }

    fn set_cost(&mut self, id: u64, before: Option<&Cost>, after: Option<&Cost>) -> Result<(), Infallible> {
        assert_eq!(self.kept.get(&id), before);
        self.kept.remove(&id);
        self.kept.extend(after.map(|cost| (id, *cost)));
        self.bytes = self.bytes + after.map_or(0, |c| c.bytes.into()) - before.map_or(0, |c| u64::from(c.bytes));
        Ok(())
    }

    fn has_room(&self, more: Size, less: Size) -> bool {
        self.kept.len() as u64 + more.records - less.records <= self.bound.records
            && self.bytes + more.bytes - less.bytes <= self.bound.bytes
    }
}

impl Store {
    fn with_room(records: u64) -> Store {
        Store { bound: Size { records, bytes: records * SHARE }, ..Store::default() }
    }

    fn goes(&mut self, ids: &[u64]) {
        for id in ids {
            let kept = self.kept[id];
            let Ok(()) = update_accounts(self, *id, Some(&kept), None);
        }
    }

    fn put_cost(&mut self, now: Timestamp, id: u64, new: &Cost) -> bool {
        let before: Vec<_> = self.kept.keys().copied().collect();
        let Ok(room) = victims(self, now, Wanted::New(hash(id), new));
        let Some(victims) = room else {
            assert!(self.kept.keys().copied().eq(before), "a refusal evicts no record");
            return false;
        };
        self.goes(&victims);
        assert!(self.has_room(new.size(), Size::default()));
        let Ok(()) = update_accounts(self, id, None, Some(new));
        true
    }

    /// A record of 100 bytes, sent by this account.
    fn put(&mut self, now: Timestamp, id: u64, by: Account) -> bool {
        let Some(known) = self.kept.get(&id).copied() else {
            return self.put_cost(now, id, &Cost::new(by, 100, now, false));
        };
        let Ok(again) = known.sent_again(self, by);
        let Ok(()) = update_accounts(self, id, Some(&known), Some(&again));
        true
    }

    /// Number of these ids that are kept.
    fn left(&self, mut ids: std::ops::Range<u64>) -> usize {
        let kept: BTreeSet<_> = self.kept.keys().copied().collect();
        ids.by_ref().filter(|id| kept.contains(id)).count()
    }
}

fn gives_way(store: &mut Store, wanted: Wanted<'_, u64>) -> Vec<u64> {
    let Ok(found) = victims(store, NOW, wanted);
    found.expect("what is kept already is always taken")
}

/// A store with room for a hundredth of the default, and so with a hundredth of the figures of the issue.
fn flooded(flood: impl Fn(u64) -> Account) -> usize {
    let mut store = Store::with_room(327);
    for id in 0..5 {
        assert!(store.put(NOW, id, peer(1)));
    }
    for id in 1_000..4_000 {
        store.put(NOW, id, flood(id));
    }
    assert_eq!(store.kept.len(), 327);
    store.left(0..5)
}

#[test]
fn a_flood_from_one_peer_or_group_or_many_groups_takes_no_more_than_its_shares() {
    assert_eq!(flooded(|_| peer(2)), 5);
    assert_eq!(flooded(|id| grouped(id % 50, 7)), 5);
    assert_eq!(flooded(|id| grouped(id % 50, id % 50)), 5);
}

#[test]
fn within_a_group_the_peer_with_most_gives_way() {
    let mut store = Store::with_room(100);
    for id in 0..20 {
        assert!(store.put(NOW, id, grouped(1, 7)));
    }
    for id in 1_000..2_000 {
        store.put(NOW, id, grouped(2, 7));
    }
    assert_eq!((store.left(0..20), store.kept.len()), (20, 100));
}

/// Among records of one account those that are an hour old, had two senders, or lie near are evicted after new ones;
/// otherwise by rank.
#[test]
fn of_one_account_new_far_and_singly_sent_records_go_first() {
    let mut store = Store::with_room(100);
    for id in 0..20 {
        assert!(store.put(NOW, id, peer(1)));
    }
    for id in 20..40 {
        assert!(store.put(later(1), id, peer(1)) && store.put(later(1), id, peer(2)));
    }
    for id in 40..60 {
        assert!(store.put_cost(later(1), id, &Cost::new(peer(1), 100, later(1), true)));
    }
    for id in 100..1_000 {
        store.put(later(1), id, peer(1));
    }
    assert_eq!((store.left(0..20), store.left(20..40), store.left(40..60)), (20, 20, 20));
    let ranks: Vec<_> = (100..1_000).filter(|id| store.kept.contains_key(id)).map(hash).collect();
    let mut all: Vec<_> = (100..1_000).map(hash).collect();
    all.sort();
    assert_eq!(ranks.len(), 40);
    assert!(ranks.iter().all(|rank| *rank <= all[39]), "those with the lowest ranks stay, whenever they came");
    // Near records are evicted last, even when all others are settled.
    for id in 2_000..2_200 {
        store.put_cost(later(3), id, &Cost::new(peer(1), 100, later(3), true));
    }
    assert_eq!(store.left(40..60), 20, "settled and near outranks near and new");
    assert_eq!(store.left(2_000..2_200), 60, "near outranks far");
    assert_eq!(store.left(20..40), 20, "half of these are charged to the other peer, and half went back to it");
}

/// More accounts than there is room for, with one record each: early and late ones have the same chance, settled ones a
/// better one.
#[test]
fn between_equal_accounts_the_settled_one_stays_and_chance_decides_among_the_rest() {
    let mut store = Store::with_room(200);
    for id in 0..400 {
        store.put(NOW, id, peer(id));
    }
    let (early, late) = (store.left(0..200), store.left(200..400));
    assert_eq!(early + late, 200);
    assert!((60..140).contains(&early), "{early}");
    for id in 400..2_000 {
        assert!(!store.put(later(2), id, peer(id)), "all others are settled");
    }
    // Half of them are removed, and newcomers take their place; the settled ones stay.
    let half: Vec<_> = store.kept.keys().copied().take(100).collect();
    store.goes(&half);
    let taken = (2_000..3_000).filter(|id| store.put(later(2), *id, peer(*id))).count();
    assert!(taken > 120, "late ones find those that are no more settled than they are: {taken}");
    assert_eq!(store.left(0..400), 100);
}

#[test]
fn what_holders_replicate_gives_way_first_where_it_is_more_than_half() {
    let mut store = Store::with_room(100);
    for id in 0..30 {
        assert!(store.put(NOW, id, holder(1)), "a store with room takes all");
    }
    for id in 100..1_000 {
        store.put(NOW, id, holder(2));
    }
    assert_eq!((store.left(0..30), store.kept.len()), (30, 100));
    // One publisher with more than any holder: it takes half.
    for id in 1_000..2_000 {
        store.put(later(2), id, peer(1));
    }
    assert_eq!(store.left(1_000..2_000), 50);
    assert_eq!(store.left(0..30), 25, "the two holders share the other half");
    // Records that a holder publishes itself are not charged to its replicated ones.
    let own = Account::of_peer(hash(2), None, Account::PUBLISHED);
    assert!((2_000..2_005).all(|id| store.put(later(2), id, own)));
}

/// A flood of a holder, which makes it replicate junk, does not harm the records that it or others replicated before.
#[test]
fn replication_makes_nothing_give_way_that_is_older_than_an_hour() {
    for by in [peer(9), holder(1), holder(9)] {
        let mut store = Store::with_room(100);
        for id in 0..60 {
            store.put(NOW, id, by);
        }
        for id in 100..1_000 {
            store.put(later(1), id, holder(1));
        }
        assert_eq!((store.left(0..60), store.kept.len()), (60, 100));
        for id in 1_000..1_010 {
            assert!(store.put(later(1), id, peer(3)), "a publisher still finds room");
        }
    }
}

#[test]
fn a_record_of_several_is_charged_to_the_one_with_fewest() {
    let mut store = Store::with_room(1_000);
    for id in 0..100 {
        store.put(NOW, id, peer(1));
    }
    for id in 0..100 {
        store.put(NOW, id, peer(2));
    }
    let weight = |store: &Store, account| store.weight(account).unwrap();
    assert_eq!((weight(&store, peer(1)), weight(&store, peer(2))), (50, 50));
    for id in 0..100 {
        store.put(NOW, id, peer(1));
    }
    assert_eq!((weight(&store, peer(1)), weight(&store, peer(2))), (50, 50), "to send again changes nothing");
}

/// A fresh account takes over half of the records of another, and then floods the store.
#[test]
fn nobody_takes_over_records_to_let_them_give_way() {
    let mut store = Store::with_room(300);
    for id in 0..100 {
        store.put(NOW, id, peer(1));
    }
    for id in 0..100 {
        store.put(NOW, id, peer(2));
    }
    for id in 1_000..3_000 {
        store.put(NOW, id, peer(2));
        store.put(NOW, id, peer(3));
    }
    assert_eq!((store.left(0..100), store.kept.len()), (100, 300));
}

#[test]
fn a_large_record_pays_by_its_shares() {
    let mut store = Store::with_room(100);
    let large = |by, kib: u32| Cost::new(by, kib * 1_024, NOW, false);
    for id in 0..40 {
        assert!(store.put(NOW, id, peer(1)));
    }
    assert!(store.put_cost(NOW, 100, &large(peer(2), 50)));
    assert!(store.put_cost(NOW, 101, &large(peer(3), 48)), "the heaviest gives way");
    assert_eq!((store.left(0..40), store.left(100..102)), (40, 1));
    assert!(!store.put_cost(NOW, 102, &large(peer(4), 70)), "it would weigh most itself");
    assert!(!store.put_cost(NOW, 103, &large(peer(4), 101)), "larger than the store");
    assert_eq!((store.left(0..40), store.kept.len()), (40, 41));
}

#[test]
fn a_new_version_of_what_is_kept_is_always_taken() {
    let mut store = Store::with_room(100);
    for id in 0..100 {
        assert!(store.put_cost(NOW, id, &Cost::new(peer(id % 10), 1_024, NOW, false)));
    }
    let before = store.kept[&7];
    let after = before.replaced(peer(7), 10 * 1_024, later(2));
    assert_eq!((after.since, after.account), (NOW, peer(7)), "who sends a new version keeps its tier");
    let victims = gives_way(&mut store, Wanted::Update(7, &before, &after));
    assert_eq!(victims.len(), 9);
    assert!(!victims.contains(&7));
    store.goes(&victims);
    let Ok(()) = update_accounts(&mut store, 7, Some(&before), Some(&after));
    assert!(store.has_room(Size::default(), Size::default()));
    // Another sender of another version pays for it, and it is new.
    let strange = after.replaced(peer(1_000), 100, later(2));
    assert_eq!((strange.account, strange.first, strange.since), (peer(1_000), peer(1_000), later(2)));
}

/// A peer with many near records does not lose them to peers that have one far record each.
#[test]
fn records_of_the_neighbourhood_are_the_last_to_go() {
    for near_by in [peer(1), holder(1)] {
        let mut store = Store::with_room(100);
        let near = |by| Cost::new(by, 100, NOW, true);
        for id in 0..60 {
            assert!(store.put_cost(NOW, id, &near(near_by)));
        }
        for id in 100..140 {
            assert!(store.put(NOW, id, peer(id)));
        }
        for id in 1_000..2_000 {
            store.put(NOW, id, peer(id));
            store.put(NOW, id + 1_000, peer(2));
        }
        assert_eq!((store.left(0..60), store.kept.len()), (60, 100), "far ones make only far ones give way");
        for id in 3_000..3_040 {
            assert!(store.put_cost(NOW, id, &near(peer(id))), "there are far ones");
        }
        assert_eq!((store.left(0..60), store.left(3_000..3_040)), (60, 40));
        assert!(!store.put(NOW, 4_000, peer(4_000)), "nothing far is left");
        for id in 5_000..5_010 {
            assert!(store.put_cost(NOW, id, &near(peer(id))));
        }
        assert_eq!((store.left(0..60), store.left(3_000..5_010)), (50, 50), "then the heaviest gives way");
    }
}

/// A peer that makes keys near this node displaces only itself.
#[test]
fn a_flood_of_near_records_takes_no_more_than_its_share() {
    let mut store = Store::with_room(100);
    for id in 0..40 {
        assert!(store.put(NOW, id, peer(1)));
    }
    for id in 1_000..3_000 {
        store.put_cost(NOW, id, &Cost::new(peer(2), 100, NOW, true));
    }
    assert_eq!((store.left(0..40), store.kept.len()), (40, 100));
}

/// All of an account's records settle in the same minute: more than one write may move.
#[test]
fn an_honest_write_is_not_refused_since_many_records_settle() {
    let mut store = Store::with_room(3 * MAX_STEPS as u64);
    for id in 0..3 * MAX_STEPS as u64 {
        assert!(store.put(NOW, id, peer(1)));
    }
    for id in 10_000..10_005 {
        assert!(store.put(later(1), id, peer(id)));
    }
    assert_eq!(store.left(10_000..10_005), 5);
    assert_eq!(store.kept.len(), 3 * MAX_STEPS);
}

#[test]
fn a_holders_larger_version_displaces_no_settled_record_while_others_are_there() {
    let mut store = Store::with_room(100);
    for id in 0..60 {
        assert!(store.put_cost(NOW, id, &Cost::new(peer(1), 1_024, NOW, false)));
    }
    for id in 100..140 {
        assert!(store.put_cost(later(1), id, &Cost::new(peer(id), 1_024, later(1), false)));
    }
    let before = store.kept[&100];
    let after = |kib: u32| before.replaced(holder(1), kib * 1_024, later(1));
    let of_settled = |victims: &[u64]| victims.iter().filter(|id| **id < 60).count();
    let Ok(Some(found)) = victims(&mut store, later(1), Wanted::Update(100, &before, &after(40))) else { panic!() };
    assert_eq!((found.len(), of_settled(&found)), (39, 0));
    let Ok(Some(found)) = victims(&mut store, later(1), Wanted::Update(100, &before, &after(50))) else { panic!() };
    assert_eq!((found.len(), of_settled(&found)), (49, 10), "it is always taken");
}

/// Replicated records are evicted first, and others if those are not enough.
#[test]
fn an_update_takes_its_room_wherever_it_is() {
    let mut store = Store::with_room(100);
    for id in 0..100 {
        let by = if id < 60 { holder(1) } else { peer(id) };
        assert!(store.put_cost(NOW, id, &Cost::new(by, 1_024, NOW, false)));
    }
    let before = store.kept[&0];
    let after = before.replaced(holder(1), 80 * 1_024, NOW);
    let victims = gives_way(&mut store, Wanted::Update(0, &before, &after));
    assert_eq!((victims.len(), victims.iter().filter(|id| **id < 60).count()), (79, 59));
}

#[test]
fn a_store_with_lowered_bounds_shrinks_by_the_same_rule_and_takes_updates_meanwhile() {
    let mut store = Store::with_room(6_000);
    for id in 0..10 {
        store.put(NOW, id, peer(1));
    }
    for id in 100..6_000 {
        store.put(NOW, id, peer(2));
    }
    store.bound = Size { records: 100, bytes: 100 * SHARE };
    let before = store.kept[&3];
    let victims = gives_way(&mut store, Wanted::Update(3, &before, &before));
    assert_eq!(victims.len(), MAX_STEPS, "not all at once");
    assert!(!store.put(NOW, 50, peer(2)), "what is new finds no room before");
    for _ in 0..8 {
        let victims = gives_way(&mut store, Wanted::Less);
        store.goes(&victims);
    }
    assert_eq!((store.kept.len(), store.left(0..10)), (100, 10));
}

#[test]
fn of_too_many_providers_the_one_of_the_largest_group_goes() {
    let providers = |of: &[(u64, u64)]| one_too_many(of.iter().map(|(group, rank)| (grouped(*rank, *group), *rank)));
    assert_eq!(providers(&[(1, 5), (1, 3), (2, 9), (3, 4)]), Some(0));
    assert_eq!(providers(&[(1, 5), (2, 9), (3, 4)]), Some(1));
    assert_eq!(providers(&[]), None);
}

#[test]
fn an_account_tells_its_group_and_its_kind() {
    for (account, kind) in [
        (peer(1), Account::PUBLISHED),
        (grouped(1, 2), Account::PUBLISHED),
        (holder(3), Account::REPLICATED),
        (Account::of_peer(0, Some(0), Account::PUBLISHED), Account::PUBLISHED),
        (Account::of_peer(u64::MAX, Some(0), Account::REPLICATED), Account::REPLICATED),
    ] {
        assert_eq!(Account::from_bits(account.to_bits()), account);
        let group = account.parent().unwrap();
        assert!(group != kind && group != account);
        assert_eq!((group.parent(), kind.parent()), (Some(kind), None));
    }
    assert_eq!(grouped(1, 2).parent(), grouped(3, 2).parent());
    assert_ne!(peer(1).parent(), holder(1).parent());
}

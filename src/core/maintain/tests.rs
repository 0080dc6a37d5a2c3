//! The schedules, with pages made by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::budget::{Budget, bytes};
use super::sweep::{PAGE, Sweep};
use super::{Newcomers, Replicate, Republish, Upkeep};
use crate::core::config::{DiversityConfig, MaintenanceConfig, RoutingConfig};
use crate::core::contact::Contact;
use crate::core::errand::{Ended, Errand, Name, To};
use crate::core::key::Key;
use crate::core::peers::Peers;
use crate::core::record::Record;
use crate::core::routing::RoutingTable;
use crate::core::storage::Duty;
use crate::core::store::Item;
use crate::core::time::{NodeTime, Timestamp};
use libp2p_identity::PeerId;

const HOUR: Duration = Duration::from_secs(3_600);
const BEGIN: Timestamp = Timestamp::from_secs(1_000_000);

fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(11)
}

fn values(count: usize, own: bool) -> BTreeMap<Key, Item> {
    let value = |i: usize| {
        let mut record = Record::new(format!("/value/{i}"), "v", BEGIN);
        record.own = own;
        (record.key.key(), Item::Value(record))
    };
    (0..count).map(value).collect()
}

fn page(all: &BTreeMap<Key, Item>, after: Option<Key>) -> Vec<Item> {
    let behind = |key: &&Key| after.is_none_or(|after| **key > after);
    all.iter().filter(|(key, _)| behind(key)).map(|(_, item)| item.clone()).take(PAGE).collect()
}

/// Lets the hand go round until `end`; who was visited when.
fn sweep(sweep: &mut Sweep, all: &BTreeMap<Key, Item>, end: Timestamp) -> Vec<(Timestamp, Key)> {
    let mut visits = Vec::new();
    let mut last = Timestamp::ZERO;
    while let Some(now) = sweep.due().filter(|due| *due < end) {
        assert!(now > last, "it goes on");
        last = now;
        let page = page(all, sweep.begin(now));
        let visited = sweep.on_page(now, &page, 0);
        visits.extend(page.iter().take(visited).map(|item| (now, item.key().key())));
    }
    visits
}

#[test]
fn a_turn_visits_everyone_once_and_takes_its_time() {
    for count in [1, 5, 2_000] {
        let all = values(count, true);
        let mut hand = Sweep::new(BEGIN, HOUR, &mut rng());
        let visits = sweep(&mut hand, &all, BEGIN + 10 * HOUR);
        let mut times: BTreeMap<Key, Vec<Timestamp>> = BTreeMap::new();
        visits.iter().for_each(|(at, key)| times.entry(*key).or_default().push(*at));
        assert_eq!(times.len(), count);
        for times in times.values() {
            assert!((9..=11).contains(&times.len()), "{} visits in ten turns", times.len());
            let steady = |pair: &[Timestamp]| (54..=66).contains(&((pair[1] - pair[0]).as_secs() / 60));
            assert!(times.windows(2).all(steady), "{times:?}");
        }
        let most = (0..60).map(|tenth| {
            let begin = BEGIN + HOUR * tenth / 6;
            visits.iter().filter(|(at, _)| *at >= begin && *at < begin + HOUR / 6).count()
        });
        assert!(most.max().unwrap() <= count / 6 + count / 10 + 5, "spread over the turn");
    }
}

#[test]
fn after_a_long_sleep_nothing_is_made_up_for_in_haste() {
    let all = values(2_000, true);
    let mut hand = Sweep::new(BEGIN, HOUR, &mut rng());
    sweep(&mut hand, &all, BEGIN + HOUR / 3);
    let wake = BEGIN + 10 * HOUR;
    hand.begin(wake);
    hand.failed(wake); // The store was asleep too; it is asked again a minute later.
    let visits = sweep(&mut hand, &all, wake + HOUR / 4);
    assert!((300..700).contains(&visits.len()), "{} of 2,000 in a quarter of a turn", visits.len());
}

#[test]
fn a_page_of_a_region_ends_with_it() {
    let all = values(500, true);
    let mut hand = Sweep::new(BEGIN, HOUR, &mut rng());
    let mut regions = 0;
    while let Some(now) = hand.due().filter(|due| *due < BEGIN + HOUR) {
        let page = page(&all, hand.begin(now));
        let visited = hand.on_page(now, &page, 7);
        let shared = |a: &Item, b: &Item| a.key().key().common_prefix_len(&b.key().key());
        assert!(page.iter().take(visited).all(|item| shared(item, &page[0]) >= 7));
        regions += usize::from(visited > 0);
    }
    assert!((100..=130).contains(&regions), "{regions} of 128 regions");
}

fn ended(item: Item, to_all: bool, reached: &[u64], closest: Option<&[u64]>) -> Ended {
    Ended { item, to_all, reached: reached.to_vec(), closest: closest.map(<[u64]>::to_vec), newer: None }
}

/// Lets the hand go round for an hour; everything wanted meanwhile.
fn hour(republish: &mut Republish, now: &mut Timestamp, all: &BTreeMap<Key, Item>) -> Vec<Errand> {
    let mut errands = Vec::new();
    let end = *now + HOUR;
    let mut store = crate::core::MemoryStore::new(crate::core::MemoryStoreConfig::default(), [0; 32]);
    for item in all.values() {
        if let Item::Value(record) = item {
            crate::core::store::StoreExt::put(&mut store, *now, record.clone()).unwrap();
        }
    }
    while let Some(at) = republish.sweep.as_ref().and_then(Sweep::due).filter(|at| *at < end) {
        *now = at;
        let after = republish.sweep.as_mut().and_then(|sweep| sweep.begin(at));
        errands.extend(republish.on_swept(&NodeTime::new(at), &Key::from_bits("01"), 0, Some(page(all, after))));
    }
    *now = end;
    errands
}

#[test]
fn all_are_told_after_22_hours_and_newcomers_within_one() {
    let all = values(1, true);
    let item = all.values().next().unwrap().clone();
    let name = Name::of(&item);
    let mut now = BEGIN;
    let mut republish = Republish::new(now, &MaintenanceConfig::default(), false, &mut rng());
    let first = hour(&mut republish, &mut now, &all);
    assert!(matches!(first[..], [Errand { to: To::Closest, .. }]), "announced in an earlier life, or never: {first:?}");
    republish.on_ended(&NodeTime::new(now), name, &ended(item.clone(), true, &[1, 2, 3], None));
    for passed in 1..25 {
        let errands = hour(&mut republish, &mut now, &all);
        match &errands[..] {
            [Errand { to: To::NewOfClosest(told), .. }] => {
                assert!(passed < 23, "{passed} h");
                assert_eq!(told.contains(&9), passed > 1, "who took it is told no more: {told:?}");
                assert_eq!(told.contains(&3), passed == 1, "who was gone is told again: {told:?}");
                let reached: &[u64] = if passed == 1 { &[9] } else { &[] };
                republish.on_ended(&NodeTime::new(now), name, &ended(item.clone(), false, reached, Some(&[1, 2, 9])));
            }
            [Errand { to: To::Closest, .. }] => return assert!((20..=23).contains(&passed), "after {passed} h"),
            other => panic!("{other:?}"),
        }
    }
    panic!("never announced again");
}

/// Tries again what failed until `end`; who was tried when. `fails` tells whose attempts fail.
fn retry(
    republish: &mut Republish,
    all: &BTreeMap<Key, Item>,
    end: Timestamp,
    fails: impl Fn(&Name) -> bool,
) -> BTreeMap<Name, Vec<Timestamp>> {
    let (mut tried, mut last) = (BTreeMap::<Name, Vec<Timestamp>>::new(), Timestamp::ZERO);
    while let Some(now) = republish.retry_due().filter(|due| *due < end) {
        assert!(now >= last + Duration::from_secs(1), "a page a second at most");
        last = now;
        let after = republish.begin_retry(now);
        assert_eq!(republish.retry_due(), None, "one page at a time");
        let errands = republish.on_retry(now, Some(page(all, after)));
        assert!(errands.len() <= PAGE);
        for Errand { item, .. } in errands {
            let name = Name::of(&item);
            tried.entry(name).or_default().push(now);
            let reached: &[u64] = if fails(&name) { &[] } else { &[1] };
            republish.on_ended(&NodeTime::new(now), name, &ended(item, true, reached, None));
        }
    }
    tried
}

#[test]
fn whom_nobody_hears_tries_again_each_record_with_a_pause_of_its_own_that_grows() {
    let all = values(3_000, true);
    let mut republish = Republish::new(BEGIN, &MaintenanceConfig::default(), false, &mut rng());
    assert_eq!(republish.retry_due(), None);
    let names: Vec<_> = all.values().map(Name::of).collect();
    for (name, item) in names.iter().zip(all.values()) {
        republish.on_ended(&NodeTime::new(BEGIN), *name, &ended(item.clone(), true, &[], None));
    }
    let minute = Duration::from_secs(60);
    assert_eq!(republish.retry_due(), Some(BEGIN + minute));
    // Every tenth record is refused for ever, all others are taken the third time.
    let bad = |name: &Name| names.iter().position(|other| other == name).unwrap() % 10 == 0;
    let third = BEGIN + 5 * minute;
    let mut tried = retry(&mut republish, &all, third, |_| true);
    assert_eq!(tried.len(), 1_024, "the rest is left to the hand");
    for (name, more) in retry(&mut republish, &all, BEGIN + 10 * HOUR, bad) {
        tried.entry(name).or_default().extend(more);
    }
    for (name, times) in &tried {
        let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        let expected = [2u64, 4, 8, 16, 32, 64, 64, 64, 64, 64, 64].iter().map(|minutes| minutes * 60);
        assert!(bad(name) || times.len() == 3, "taken is taken: {times:?}");
        assert!(!bad(name) || (12..15).contains(&times.len()), "{} attempts in 10 h", times.len());
        assert!(pauses.iter().zip(expected).all(|(pause, expected)| pause.abs_diff(expected) < 20), "{pauses:?}");
    }
    names.iter().for_each(|name| republish.forget(name));
    assert_eq!(republish.retry_due(), None);
}

#[test]
fn what_fails_is_left_to_its_own_time_by_the_hand_and_what_is_gone_holds_nothing_up() {
    let all = values(2, true);
    let mut now = BEGIN;
    let mut republish = Republish::new(now, &MaintenanceConfig::default(), false, &mut rng());
    let items: Vec<_> = all.values().collect();
    let names: Vec<_> = all.values().map(Name::of).collect();
    republish.on_ended(&NodeTime::new(now), names[0], &ended(items[0].clone(), true, &[], None));
    let first = hour(&mut republish, &mut now, &all);
    assert_eq!(first.iter().map(|errand| Name::of(&errand.item)).collect::<Vec<_>>(), [names[1]]);
    // It was due long ago. Its page cannot be read, then it is no longer there, while the other is.
    republish.on_ended(&NodeTime::new(now), names[1], &ended(items[1].clone(), true, &[], None));
    republish.begin_retry(now);
    assert!(republish.on_retry(now, None).is_empty());
    assert_eq!(republish.retry_due(), Some(now + Duration::from_secs(60)));
    let left = BTreeMap::from([(names[1].place, items[1].clone())]);
    let tried = retry(&mut republish, &left, now + HOUR / 30, |_| false);
    assert_eq!(tried.into_keys().collect::<Vec<_>>(), [names[1]]);
    assert_eq!(republish.retry_due(), None);
}

#[test]
fn what_was_never_announced_is_looked_for_once_a_minute_after_the_start() {
    let mut all = values(600, true);
    let mut never = Vec::new();
    for (i, item) in all.values_mut().enumerate() {
        let Item::Value(record) = item else { continue };
        record.announced = Some(BEGIN).filter(|_| i % 60 != 0);
        never.extend(record.announced.is_none().then(|| Name { place: record.key.key(), provider: false }));
    }
    let mut republish = Republish::new(BEGIN, &MaintenanceConfig::default(), true, &mut rng());
    assert_eq!(republish.retry_due(), Some(BEGIN + Duration::from_secs(60)));
    let tried = retry(&mut republish, &all, BEGIN + Duration::from_secs(90), |_| false);
    assert_eq!(tried.into_keys().collect::<Vec<_>>(), never);
    assert_eq!(republish.retry_due(), None, "once");
}

#[test]
fn without_intervals_nothing_is_ever_due() {
    let mut config = MaintenanceConfig::default();
    (config.announce_interval, config.region_interval, config.replicate_interval) = (None, None, None);
    let all = values(10, true);
    let mut now = BEGIN;
    let mut republish = Republish::new(now, &config, false, &mut rng());
    let item = all.values().next().unwrap();
    republish.on_ended(&NodeTime::new(now), Name::of(item), &ended(item.clone(), true, &[], None));
    assert_eq!(republish.retry_due(), None);
    assert!(hour(&mut republish, &mut now, &all).is_empty());
}

#[test]
fn a_value_is_replicated_after_an_hour_without_a_store_by_who_is_close_and_while_it_lives() {
    let value = |received: Timestamp, expires: Option<Timestamp>, own: bool, close: bool| {
        let mut record = Record::new("/a/b", "v", received);
        (record.expires, record.own) = (expires, own);
        let begin = BEGIN + 10 * HOUR;
        let mut replicate = Replicate::new(begin, Some(HOUR), &mut rng());
        let mut store = crate::core::MemoryStore::new(crate::core::MemoryStoreConfig::default(), [0; 32]);
        crate::core::store::StoreExt::put(&mut store, BEGIN, record.clone()).unwrap();
        let mut errands = 0;
        while let Some(now) = replicate.sweep.as_ref().and_then(Sweep::due).filter(|at| *at < begin + 3 * HOUR) {
            // A store that came comes again and again.
            record.received = if received > BEGIN { now } else { received };
            let all = BTreeMap::from([(record.key.key(), Item::Value(record.clone()))]);
            let page = page(&all, replicate.sweep.as_mut().and_then(|sweep| sweep.begin(now)));
            errands += replicate.on_page(&NodeTime::new(now), 0, Some(page), |_| close).len();
        }
        errands
    };
    let (old, late) = (BEGIN, Some(BEGIN + 100 * HOUR));
    assert_eq!(value(old, late, false, true), 3);
    assert_eq!(value(BEGIN + 10 * HOUR, late, false, true), 0, "a store came");
    assert_eq!(value(old, Some(BEGIN + 10 * HOUR), false, true), 0, "it is all but over");
    assert_eq!(value(old, None, true, true), 0, "its own");
    assert_eq!(value(old, late, false, false), 0, "a copy on the path");
}

#[test]
fn a_newcomer_gets_what_lies_nearest_to_this_node_of_all_holders() {
    let mut rng = rng();
    let all = values(4_000, false);
    let local = Key::random(&mut rng);
    let mut table = RoutingTable::new(local, RoutingConfig::default());
    let others: Vec<_> = (0..300).map(|_| Contact::with_key(PeerId::random(), Key::random(&mut rng), [])).collect();
    others.iter().for_each(|peer| _ = table.offer(BEGIN, peer));
    let now = BEGIN + HOUR;
    let mut newcomers = Newcomers::new(BEGIN, Some(HOUR));
    let mut first = RoutingTable::new(local, RoutingConfig::default());
    for peer in &others[..5] {
        first.offer(BEGIN, peer);
        newcomers.offer(BEGIN, peer, &first, 20);
    }
    assert!(newcomers.due.is_none(), "to a node that has just joined everyone is new");
    let mut nearest = table.closest(&local, 1, |_, _| true);
    let neighbour = nearest.pop().unwrap();
    let bits = neighbour.key().common_prefix_len(&local);
    let new = Contact::with_key(PeerId::random(), local.flipped(bits + 3), []);
    table.offer(now, &new);
    newcomers.offer(now, &new, &table, 20);
    let mut budget = Budget::new(now, 1 << 20);
    let mut brought = BTreeMap::new();
    let mut pages = 0;
    while newcomers.due.is_some_and(|at| at <= now + Duration::from_secs(60)) {
        let after = newcomers.begin(now, &table, 20, &mut budget);
        pages += 1;
        for errand in newcomers.on_page(&NodeTime::new(now), Some(page(&all, after)), (&table, 20), &mut budget) {
            assert!(matches!(&errand.to, To::Peers(to) if to.len() == 1 && to[0].peer() == new.peer()));
            brought.insert(errand.item.key().key(), ());
        }
    }
    let nearer = |key: &Key| {
        others
            .iter()
            .filter(|peer| table.get(peer.key()).is_some())
            .any(|peer| peer.key().distance(key) < local.distance(key))
    };
    let expected: Vec<_> = all.keys().filter(|key| !nearer(key)).copied().collect();
    assert!(!expected.is_empty() && expected.len() < 100, "{}", expected.len());
    assert_eq!(brought.keys().copied().collect::<Vec<_>>(), expected);
    assert!(pages <= 2, "{pages} pages of {} values", all.len());
}

/// A node that keeps many values in a network of 300, and what it brings to each of these ids, which come one after the other
/// right beside it and stay for so long: bytes.
fn drawn(
    diversity: Option<DiversityConfig>,
    budget: usize,
    ids: usize,
    group: impl Fn(usize) -> usize,
    stay: u64,
) -> u64 {
    let mut rng = rng();
    let local = Key::random(&mut rng);
    let all: BTreeMap<_, _> = (0u32..)
        .map(|i| Item::Value(Record::new(format!("/value/{i}"), vec![0; 10_000], BEGIN)))
        .map(|item| (item.key().key(), item))
        .filter(|(key, _)| key.common_prefix_len(&local) >= 7)
        .take(64)
        .collect();
    let mut table = RoutingTable::new(local, RoutingConfig { diversity, ..RoutingConfig::default() });
    let at = |key, net: usize| {
        let addr = format!("/ip4/{}.{}.0.1/tcp/1", 80 + net / 250, net % 250);
        Contact::with_key(PeerId::random(), key, [addr.parse().unwrap()])
    };
    (0..300).for_each(|i| _ = table.offer(BEGIN, &at(Key::random(&mut rng), i)));
    let (mut now, mut brought) = (BEGIN + 2 * HOUR, 0);
    let (mut newcomers, mut budget) = (Newcomers::new(BEGIN, Some(HOUR)), Budget::new(now, budget));
    for i in 0..ids {
        let new = at(local.random_with_prefix(12, &mut rng), 400 + group(i));
        table.offer(now, &new);
        if table.get(new.key()).is_some() {
            newcomers.offer(now, &new, &table, 20);
        }
        let end = now + Duration::from_secs(stay);
        while let Some(due) = newcomers.due.filter(|due| *due < end) {
            now = due;
            let after = newcomers.begin(now, &table, 20, &mut budget);
            for errand in newcomers.on_page(&NodeTime::new(now), Some(page(&all, after)), (&table, 20), &mut budget) {
                let To::Peers(to) = &errand.to else { unreachable!() };
                brought += to.len() as u64 * bytes(&errand.item);
            }
        }
        now = end;
        table.remove(new.key());
    }
    brought
}

#[test]
fn ids_that_come_and_go_draw_no_more_than_the_budget() {
    let groups = || Some(DiversityConfig::default());
    let one = drawn(None, usize::MAX >> 8, 1, |_| 0, 20);
    assert!(one > 100_000, "{one}");
    let all = drawn(None, usize::MAX >> 8, 60, |i| i, 20);
    assert!(all >= 50 * one, "{all}: without a bound each has all");
    let bounded = drawn(None, 1 << 20, 60, |i| i, 20);
    assert!((1 << 18..=3 << 19).contains(&bounded), "{bounded} of 1 MiB an hour, in 20 minutes");
    assert_eq!(drawn(groups(), usize::MAX >> 8, 60, |i| i, 20), 0, "where groups count nobody stays long enough");
    let same = drawn(groups(), usize::MAX >> 8, 4, |_| 0, 700);
    assert!((one / 2..=one).contains(&same), "{same}: one an hour, {one} each");
    let other = drawn(groups(), usize::MAX >> 8, 4, |i| i, 700);
    assert!(other > 3 * one, "{other}");
}

/// What is withdrawn, put anew or stored by a peer while a page is read is left out of it, and where so much is that it
/// cannot be remembered, the page.
#[test]
fn a_page_knows_nothing_of_what_was_changed_while_it_was_read() {
    let config = crate::core::Config::default();
    let peers = Peers::new(Contact::with_key(PeerId::random(), Key::from_bits("01"), []), &config);
    // Whose errands a page leads to during two turns, if this happens while each page is read.
    let errands = |duty: Duty, all: &BTreeMap<Key, Item>, change: &dyn Fn(&mut Upkeep)| {
        let mut upkeep = Upkeep::new(BEGIN, &config.maintenance, false, &mut rng());
        let mut names = std::collections::BTreeSet::new();
        for minutes in 60..180 {
            let now = BEGIN + minutes * Duration::from_secs(60);
            let (_, after) = upkeep.begin(now, duty, &peers, 20);
            change(&mut upkeep);
            let errands = upkeep.on_page(&NodeTime::new(now), duty, Some(page(all, after)), &peers, 20);
            names.extend(errands.iter().map(|errand| Name::of(&errand.item)));
        }
        Vec::from_iter(names)
    };
    let (own, others) = (values(1, true), values(1, false));
    let name = Name::of(own.values().next().unwrap());
    let other = Name { provider: true, ..name };
    assert_eq!(errands(Duty::Republish, &own, &|upkeep| upkeep.on_changed(other)), [name]);
    assert_eq!(errands(Duty::Republish, &own, &|upkeep| upkeep.on_changed(name)), []);
    let many_of = |upkeep: &mut Upkeep, of: fn(&mut Upkeep, Name)| {
        (0u32..2_000).for_each(|i| of(upkeep, Name { place: Key::hash(&i.to_be_bytes()), provider: false }));
    };
    assert_eq!(errands(Duty::Republish, &own, &|upkeep| many_of(upkeep, Upkeep::on_changed)), []);
    assert_eq!(errands(Duty::Replicate, &others, &|upkeep| upkeep.on_stored(name)), []);
    assert_eq!(errands(Duty::Replicate, &others, &|upkeep| many_of(upkeep, Upkeep::on_stored)), [name]);
}

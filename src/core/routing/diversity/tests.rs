use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use multiaddr::Multiaddr;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::super::{Admission, RoutingTable};
use super::*;
use crate::core::config::RoutingConfig;
use crate::core::key::Key;

const HOUR: u64 = 3_600;
const K: usize = 20;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn table_with(diversity: DiversityConfig, size: usize) -> RoutingTable {
    let bucket_size = NonZeroUsize::new(size).unwrap();
    let config = RoutingConfig { bucket_size, diversity: Some(diversity), ..RoutingConfig::default() };
    RoutingTable::new(Key::from_bits("0"), config)
}

fn table() -> RoutingTable {
    table_with(DiversityConfig::default(), K)
}

fn ip(group: u16, host: u16) -> Multiaddr {
    // From 20.0 upwards, where there are neither private networks nor blocks of one owner.
    format!("/ip4/20.{group}.{}.{}/tcp/1", host >> 8, host & 0xff).parse().unwrap()
}

fn at_key(bits: &str, addrs: &[Multiaddr]) -> Arc<Contact> {
    Contact::with_key(PeerId::random(), Key::from_bits(bits), addrs.iter().cloned())
}

fn random(rng: &mut ChaCha8Rng, addrs: &[Multiaddr]) -> Arc<Contact> {
    Contact::with_key(PeerId::random(), Key::random(rng), addrs.iter().cloned())
}

/// A peer in the bucket that fills first, since it shares no bit with the node.
fn far(rng: &mut ChaCha8Rng, addrs: &[Multiaddr]) -> Arc<Contact> {
    loop {
        let contact = random(rng, addrs);
        if contact.key().to_bytes()[0] & 0x80 != 0 {
            return contact;
        }
    }
}

/// A table that holds 100 peers, each of its own group, and has settled.
fn settled(rng: &mut ChaCha8Rng) -> RoutingTable {
    let mut table = table();
    for group in 0..100 {
        table.offer(at(0), &random(rng, &[ip(group, 1)]));
    }
    assert!(table.len() > 50);
    table
}

/// Checks the limits.
#[track_caller]
fn check(table: &RoutingTable) {
    let diversity = table.diversity.as_ref().unwrap();
    let config = &diversity.config;
    let mut counts: BTreeMap<IpGroup, usize> = BTreeMap::new();
    for bucket in &table.buckets {
        let mut near: BTreeMap<IpGroup, usize> = BTreeMap::new();
        for entry in bucket.entries() {
            let groups = IpGroup::of(&entry.contact, None);
            let groups = match diversity.members[entry.contact.peer()].seen {
                Some(seen) if !groups.contains(&seen) => {
                    let mut groups = groups;
                    groups.push(seen);
                    groups.sort_unstable();
                    groups
                }
                _ => groups,
            };
            assert_eq!(diversity.members[entry.contact.peer()].groups, groups, "what it counts for");
            for group in groups {
                *near.entry(group).or_default() += 1;
                *counts.entry(group).or_default() += 1;
            }
        }
        assert!(near.values().all(|count| *count <= config.per_bucket.get()), "{near:?}");
        let members = bucket.entries().iter().map(|entry| &diversity.members[entry.contact.peer()]);
        check_newcomers(members, (diversity.k / 4).max(1), config);
    }
    assert!(counts.values().all(|count| *count <= config.per_table.get()), "{counts:?}");
    assert_eq!(diversity.members.len(), table.len());
    check_newcomers(diversity.members.values(), config.newcomers.get(), config);
}

/// Checks that no period has more new entries than allowed.
#[track_caller]
fn check_newcomers<'a>(members: impl Iterator<Item = &'a Member>, limit: usize, config: &DiversityConfig) {
    let mut appeared: Vec<_> = members.filter_map(|member| member.appeared).collect();
    appeared.sort_unstable();
    for (i, first) in appeared.iter().enumerate() {
        let within = appeared[i..].iter().take_while(|at| at.since(*first) < config.newcomers_within);
        assert!(within.count() <= limit, "{appeared:?}");
    }
}

#[test]
fn two_of_a_group_in_a_bucket_and_three_in_the_table() {
    let mut table = table();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // Enough peers for the last bucket to split.
    (10..60).for_each(|group| _ = table.offer(at(0), &random(&mut rng, &[ip(group, 1)])));
    let offer = |table: &mut RoutingTable, bits: &str| table.offer(at(0), &at_key(bits, &[ip(7, 9)]));
    // Each bucket has room.
    for bits in ["1", "01"] {
        let index = table.index(&Key::from_bits(bits));
        let old: Vec<_> = table.buckets[index].entries().iter().map(|entry| *entry.contact.key()).collect();
        old.iter().take(5).for_each(|key| _ = table.remove(key));
    }
    assert_eq!(offer(&mut table, "1000"), Admission::Added(vec![]));
    assert_eq!(offer(&mut table, "1001"), Admission::Added(vec![]));
    assert_eq!(offer(&mut table, "1010"), Admission::Crowded, "of the bucket");
    assert!(!table.admits(at(0), &at_key("1010", &[ip(7, 1)])));
    assert!(table.admits(at(0), &at_key("1010", &[ip(8, 1)])));
    assert_eq!(offer(&mut table, "0100"), Admission::Added(vec![]));
    assert_eq!(offer(&mut table, "0110"), Admission::Crowded, "of the table");
    check(&table);
    table.remove(&Key::from_bits("1000"));
    assert_eq!(offer(&mut table, "0110"), Admission::Added(vec![]), "a place is free again");
    check(&table);
}

#[test]
fn one_address_too_many_keeps_a_peer_out() {
    let mut table = table();
    for bits in ["1000", "1001"] {
        table.offer(at(0), &at_key(bits, &[ip(7, 1)]));
    }
    assert_eq!(table.offer(at(0), &at_key("1010", &[ip(8, 1), ip(9, 1), ip(7, 2)])), Admission::Crowded);
    assert_eq!(table.offer(at(0), &at_key("1010", &[ip(8, 1), ip(9, 1)])), Admission::Added(vec![]));
    check(&table);
}

#[test]
fn who_dials_counts_for_where_it_dials_from() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut table = table();
    // Each says to be in another network, and all dial from one.
    let liars: Vec<_> = (0..50).map(|group| random(&mut rng, &[ip(group, 1)])).collect();
    liars.iter().for_each(|liar| table.on_connected(*liar.peer(), Some(&ip(200, 1))));
    let came = liars.iter().filter(|liar| table.offer(at(0), liar) == Admission::Added(vec![])).count();
    assert_eq!(came, 2, "what fits a bucket");
    assert_eq!(table.group(&liars[9]), Some(IpGroup::V4(20 << 8 | 200)), "among those who wait too");
    check(&table);
    // An entry that later connects from elsewhere counts for the address at which it entered.
    let honest = random(&mut rng, &[ip(60, 1)]);
    assert_eq!(table.offer(at(0), &honest), Admission::Added(vec![]));
    table.on_connected(*honest.peer(), Some(&ip(200, 1)));
    assert_eq!(table.offer(at(0), &honest.with_multiaddrs([ip(61, 1)])), Admission::Known);
    check(&table);
    liars.iter().for_each(|liar| table.on_disconnected(liar.peer()));
    assert_eq!(table.offer(at(0), &liars[9]), Admission::Added(vec![]), "reached where it says to be");
    assert!(table.diversity.as_ref().unwrap().seen.len() == 1);
    check(&table);
}

#[test]
fn who_has_no_group_is_not_limited() {
    let mut table = table();
    for bits in ["1000", "1001", "1010", "1011"] {
        let addrs = ["/ip4/127.0.0.1/tcp/1".parse().unwrap(), "/memory/5".parse().unwrap()];
        assert_eq!(table.offer(at(0), &at_key(bits, &addrs)), Admission::Added(vec![]));
    }
    check(&table);
}

#[test]
fn an_entry_does_not_take_addresses_that_would_be_too_many() {
    let mut table = table();
    for bits in ["1000", "1001"] {
        table.offer(at(0), &at_key(bits, &[ip(7, 1)]));
    }
    let entry = at_key("1010", &[ip(8, 1)]);
    table.offer(at(0), &entry);
    let addrs = |table: &RoutingTable| table.get(entry.key()).unwrap().contact.addrs().collect::<Vec<_>>();
    let told = entry.with_multiaddrs([ip(7, 3), ip(9, 1)]);
    table.readdress(at(0), &told.merged(&entry));
    assert_eq!(addrs(&table), [ip(8, 1), ip(9, 1)], "what was told, but for one");
    assert_eq!(table.offer(at(0), &entry.with_multiaddrs([ip(7, 4), ip(10, 1)])), Admission::Known, "it stays");
    assert_eq!(addrs(&table), [ip(10, 1), ip(8, 1), ip(9, 1)]);
    check(&table);
    table.remove(&Key::from_bits("1000"));
    assert_eq!(table.offer(at(0), &entry.with_multiaddrs([ip(7, 4)])), Admission::Known);
    assert_eq!(addrs(&table)[0], ip(7, 4), "now there is a place");
    check(&table);
}

#[test]
fn groups_that_appear_together_share_few_places() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut table = settled(&mut rng);
    let full: Vec<_> = table.buckets[0].entries().iter().map(|entry| *entry.contact.key()).collect();
    full.iter().for_each(|key| _ = table.remove(key));
    let before = table.len();
    // Two of each of ten groups would be a whole bucket, and thirty of the table.
    let flood = |table: &mut RoutingTable, rng: &mut ChaCha8Rng, groups: std::ops::Range<u16>, secs: u64| {
        for host in 0..2_000 {
            let group = groups.start + host % (groups.end - groups.start);
            let addr = [ip(group, host)];
            table.offer(at(secs), &if host % 2 == 0 { far(rng, &addr) } else { random(rng, &addr) });
        }
        check(table);
    };
    flood(&mut table, &mut rng, 200..210, 2 * HOUR);
    assert_eq!(table.buckets[0].entries().len(), K / 4);
    assert_eq!(table.len(), before + 10);
    flood(&mut table, &mut rng, 200..210, 20 * HOUR);
    flood(&mut table, &mut rng, 210..220, 25 * HOUR);
    flood(&mut table, &mut rng, 200..210, 90 * HOUR);
    assert_eq!(table.len(), before + 10, "waiting does not help those who came together, nor a second wave in a day");
    let old = (0..100)
        .filter(|group| table.offer(at(90 * HOUR), &far(&mut rng, &[ip(*group, 5)])) == Admission::Added(vec![]));
    assert_eq!(old.count(), K - K / 4, "the others have the rest");
    check(&table);
}

#[test]
fn a_cold_start_keeps_nobody_out_for_being_new() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut table = table();
    // Fewer than k peers for days: no group is old.
    (0..10).for_each(|group| _ = table.offer(at(0), &random(&mut rng, &[ip(group, 1)])));
    let came = (10..110).filter(|group| {
        let secs = 100 * HOUR + u64::from(*group);
        table.offer(at(secs), &random(&mut rng, &[ip(*group, 1)])) == Admission::Added(vec![])
    });
    assert!(came.count() > 40, "the table fills with all peers that come");
    check(&table);
    // A peer that answered while the table settled makes its group old, although there was no place for it.
    let tried: Vec<_> = (150..160).map(|group| far(&mut rng, &[ip(group, 1)])).collect();
    tried.iter().for_each(|peer| assert_eq!(table.offer(at(100 * HOUR + 500), peer), Admission::Full));
    let full: Vec<_> = table.buckets[0].entries().iter().map(|entry| *entry.contact.key()).collect();
    full.iter().for_each(|key| _ = table.remove(key));
    let came = tried.iter().filter(|peer| table.offer(at(103 * HOUR), peer) == Admission::Added(vec![]));
    assert_eq!(came.count(), 10);
    assert!(table.diversity.as_ref().unwrap().appeared(at(104 * HOUR), &[IpGroup::V4(20 << 8 | 250)]).is_some());
    check(&table);
}

#[test]
fn a_table_that_lost_nearly_all_settles_anew() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut table = settled(&mut rng);
    let all: Vec<_> = table.entries().map(|entry| *entry.contact.key()).collect();
    all.iter().skip(5).for_each(|key| _ = table.remove(key));
    let came = (100..200)
        .filter(|group| table.offer(at(9 * HOUR), &random(&mut rng, &[ip(*group, 1)])) == Admission::Added(vec![]));
    assert!(came.count() > 40);
    check(&table);
}

#[test]
fn the_history_is_bounded_and_keeps_what_is_in_use() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut table = settled(&mut rng);
    for i in 0..3 * history::MAX_GROUPS as u32 {
        let [_, _, a, b] = i.to_be_bytes();
        let addr = format!("/ip4/{}.{b}.1.1/tcp/1", 100 + a).parse().unwrap();
        table.offer(at(2 * HOUR + u64::from(i)), &far(&mut rng, &[addr]));
    }
    let diversity = table.diversity.as_ref().unwrap();
    assert!(diversity.history.groups.len() <= history::MAX_GROUPS);
    let used: BTreeSet<_> = diversity.members.values().flat_map(|member| &member.groups).collect();
    let old = used.into_iter().filter(|group| diversity.appeared(at(9 * HOUR), &[**group]).is_none());
    assert!(old.count() > 50, "the groups of the table are still old");
}

#[test]
fn groups_that_were_there_before_are_not_pushed_out_by_naming_many() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut table = settled(&mut rng);
    // Of 100 groups that it has known since it settled, some are in no entry, since buckets are full.
    let old: Vec<_> = (0..100).map(|group| IpGroup::V4(20 << 8 | group)).collect();
    let idle = |table: &RoutingTable| {
        let diversity = table.diversity.as_ref().unwrap();
        old.iter().filter(|group| !diversity.members.values().any(|member| member.groups.contains(group))).count()
    };
    assert!(idle(&table) > 20);
    let flood = |table: &mut RoutingTable, rng: &mut ChaCha8Rng, hour: u64| {
        for answer in 0..1_000u32 {
            let addrs: Vec<Multiaddr> = (0..32)
                .map(|i| {
                    let [_, a, b, _] = ((answer * 32 + i) << 8).to_be_bytes();
                    format!("/ip4/{}.{b}.1.1/tcp/1", 100 + a).parse().unwrap()
                })
                .collect();
            table.offer(at(hour * HOUR + u64::from(answer)), &random(rng, &addrs));
        }
    };
    flood(&mut table, &mut rng, 2);
    flood(&mut table, &mut rng, 40);
    let diversity = table.diversity.as_ref().unwrap();
    assert!(diversity.history.groups.len() > history::MAX_GROUPS / 2, "there were more than it remembers");
    assert!(old.iter().all(|group| diversity.appeared(at(50 * HOUR), &[*group]).is_none()), "they are still old");
    // They are forgotten only after a month out of sight.
    flood(&mut table, &mut rng, 40 * 24);
    let diversity = table.diversity.as_ref().unwrap();
    let known = old.iter().filter(|group| diversity.appeared(at(961 * HOUR), &[**group]).is_none());
    assert_eq!(known.count(), 100 - idle(&table), "those of entries");
}

/// Peers are offered, get new addresses, fail and leave in any order.
#[test]
fn the_limits_hold_whatever_happens() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = DiversityConfig {
            newcomers: NonZeroUsize::new(4).unwrap(),
            newcomers_within: Duration::from_secs(500),
            settling: Duration::from_secs(50),
            ..DiversityConfig::default()
        };
        let mut table = table_with(config, 8);
        let mut contacts: Vec<Arc<Contact>> = Vec::new();
        let below = |rng: &mut ChaCha8Rng, n: u32| rng.next_u32() % n;
        for step in 0..3_000 {
            let now = at(step);
            let addrs: Vec<_> =
                (0..below(&mut rng, 4)).map(|_| ip(below(&mut rng, 60) as u16, below(&mut rng, 9) as u16)).collect();
            let known = contacts.get(below(&mut rng, contacts.len().max(1) as u32) as usize).cloned();
            match (below(&mut rng, 10), known) {
                (8, Some(known)) => table.on_connected(*known.peer(), addrs.first()),
                (9, Some(known)) => table.on_disconnected(known.peer()),
                (0..=2, _) | (_, None) => {
                    let contact = random(&mut rng, &addrs);
                    table.offer(now, &contact);
                    contacts.push(contact);
                }
                (3, Some(known)) => _ = table.offer(now, &known.with_multiaddrs(addrs)),
                (4, Some(known)) => table.readdress(now, &known.with_multiaddrs(addrs)),
                (5, Some(known)) => (0..6).for_each(|_| _ = table.on_failure(known.key(), true, false)),
                (6, Some(known)) => _ = table.remove(known.key()),
                (_, Some(known)) => _ = table.offer(now, &known),
            }
            if step % 10 == 0 {
                check(&table);
            }
        }
        assert!(table.len() > 20, "seed {seed}: {}", table.len());
    }
}

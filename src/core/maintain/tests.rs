//! The schedules, with pages that the tests make.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::budget::{Budget, bytes};
use super::sweep::{PAGE, Sweep};
use super::upkeep::is_due;
use super::{Newcomers, OwnRecords, Upkeep};
use crate::core::announcement::{Announcement, AnnouncementOutcome, Recipients, RecordId};
use crate::core::config::{DhtConfig, DiversityConfig, Interval, RoutingConfig};
use crate::core::contact::Contact;
use crate::core::key::Key;
use crate::core::peers::Peers;
use crate::core::record::Record;
use crate::core::routing::RoutingTable;
use crate::core::store::Item;
use crate::core::store_ops::Duty;
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

/// Runs the sweep until `end`. Returns each key that was handled, with the time.
fn sweep(sweep: &mut Sweep, all: &BTreeMap<Key, Item>, end: Timestamp) -> Vec<(Timestamp, Key)> {
    let mut handled = Vec::new();
    let mut last = Timestamp::ZERO;
    while let Some(now) = sweep.due().filter(|due| *due < end) {
        assert!(now > last, "it goes on");
        last = now;
        let page = page(all, sweep.begin(now));
        handled.extend(sweep.take_page(now, Some(page), 0).iter().map(|item| (now, item.key().key())));
    }
    handled
}

#[test]
fn a_cycle_handles_each_key_once_and_takes_its_time() {
    for count in [1, 5, 2_000] {
        let all = values(count, true);
        let mut schedule = Sweep::new(BEGIN, HOUR, &mut rng());
        let handled = sweep(&mut schedule, &all, BEGIN + 10 * HOUR);
        let mut times: BTreeMap<Key, Vec<Timestamp>> = BTreeMap::new();
        handled.iter().for_each(|(at, key)| times.entry(*key).or_default().push(*at));
        assert_eq!(times.len(), count);
        for times in times.values() {
            assert!((9..=11).contains(&times.len()), "{} times in ten cycles", times.len());
            let steady = |pair: &[Timestamp]| (54..=66).contains(&((pair[1] - pair[0]).as_secs() / 60));
            assert!(times.windows(2).all(steady), "{times:?}");
        }
        let most = (0..60).map(|tenth| {
            let begin = BEGIN + HOUR * tenth / 6;
            handled.iter().filter(|(at, _)| *at >= begin && *at < begin + HOUR / 6).count()
        });
        assert!(most.max().unwrap() <= count / 6 + count / 10 + 5, "spread over the cycle");
    }
}

#[test]
fn after_a_long_sleep_the_sweep_does_not_hurry() {
    let all = values(2_000, true);
    let mut schedule = Sweep::new(BEGIN, HOUR, &mut rng());
    sweep(&mut schedule, &all, BEGIN + HOUR / 3);
    let wake = BEGIN + 10 * HOUR;
    schedule.begin(wake);
    assert!(schedule.take_page(wake, None, 0).is_empty()); // The store was asleep too; it is asked again a minute later.
    let handled = sweep(&mut schedule, &all, wake + HOUR / 4);
    assert!((300..700).contains(&handled.len()), "{} of 2,000 in a quarter of a cycle", handled.len());
}

#[test]
fn a_late_page_delays_the_following_ones_and_leaves_no_key_out() {
    let all = values(2_000, true);
    let mut schedule = Sweep::new(BEGIN, HOUR, &mut rng());
    let (mut now, mut seen) = (BEGIN, BTreeMap::<Key, u32>::new());
    while now < BEGIN + 10 * HOUR {
        // Each page takes five minutes, a twelfth of a cycle, and has at most a 32nd of the keyspace.
        now = now.max(schedule.due().unwrap()) + HOUR / 12;
        let page = page(&all, schedule.begin(now));
        schedule.take_page(now, Some(page), 0).iter().for_each(|item| *seen.entry(item.key().key()).or_default() += 1);
    }
    assert_eq!(seen.len(), all.len());
    let (most, fewest) = (seen.values().max().unwrap(), seen.values().min().unwrap());
    assert!(most - fewest <= 1, "{fewest} to {most} times");
}

#[test]
fn a_page_of_a_region_ends_with_it() {
    let all = values(500, true);
    let mut schedule = Sweep::new(BEGIN, HOUR, &mut rng());
    let mut regions = 0;
    while let Some(now) = schedule.due().filter(|due| *due < BEGIN + HOUR) {
        let taken = {
            let page = page(&all, schedule.begin(now));
            schedule.take_page(now, Some(page), 7)
        };
        let shared = |a: &Item, b: &Item| a.key().key().common_prefix_len(&b.key().key());
        assert!(taken.iter().all(|item| shared(item, &taken[0]) >= 7));
        regions += usize::from(!taken.is_empty());
    }
    assert!((100..=130).contains(&regions), "{regions} of 128 regions");
}

fn ended(item: Item, to_all: bool, reached: &[u64], closest: Option<&[u64]>) -> AnnouncementOutcome {
    let (reached, closest) = (reached.to_vec(), closest.map(<[u64]>::to_vec));
    AnnouncementOutcome { item, to_all, reached, took: Vec::new(), closest, newer: None }
}

fn own(config: &DhtConfig, kept: bool) -> OwnRecords {
    OwnRecords::new(config, kept, &mut rng())
}

/// Runs the schedule until `end`. Returns each announcement, with the time. `reached` are the peers that an
/// announcement reaches.
fn pass(
    own: &mut OwnRecords,
    all: &BTreeMap<Key, Item>,
    (begin, end): (Timestamp, Timestamp),
    mut reached: impl FnMut(Timestamp, &Announcement) -> Vec<u64>,
) -> Vec<(Timestamp, Announcement)> {
    let (mut wanted, mut now) = (Vec::new(), begin);
    while let Some(at) = own.due().filter(|due| *due < end) {
        now = now.max(at);
        let time = NodeTime::new(now);
        let after = own.begin(now);
        assert_eq!(own.due(), None, "one page at a time");
        for announcement in own.on_page(&time, &Key::from_bits("01"), 0, Some(page(all, after))) {
            let (name, reached) = (RecordId::of(&announcement.item), reached(now, &announcement));
            let to_all = matches!(announcement.to, Recipients::Closest);
            own.on_outcome(&time, name, &ended(announcement.item.clone(), to_all, &reached, Some(&[1, 2, 9])));
            wanted.push((now, announcement));
        }
        assert!(own.due().is_none_or(|due| due > now), "it goes on");
    }
    wanted
}

/// The times of each record.
fn times(wanted: &[(Timestamp, Announcement)]) -> BTreeMap<RecordId, Vec<Timestamp>> {
    let mut times = BTreeMap::<RecordId, Vec<Timestamp>>::new();
    wanted.iter().for_each(|(at, announcement)| times.entry(RecordId::of(&announcement.item)).or_default().push(*at));
    times
}

#[test]
fn all_of_the_closest_get_a_record_after_22_hours_and_new_ones_within_one() {
    let all = values(1, true);
    let item = all.values().next().unwrap().clone();
    let mut own = own(&DhtConfig::default(), false);
    own.on_outcome(&NodeTime::new(BEGIN), RecordId::of(&item), &ended(item, true, &[1, 2, 3], None));
    let mut looks = 0;
    let wanted = pass(&mut own, &all, (BEGIN, BEGIN + 25 * HOUR), |_, announcement| {
        let Recipients::NewOfClosest(holders) = &announcement.to else { return vec![1, 2, 9] };
        looks += 1;
        assert_eq!(holders.contains(&9), looks > 1, "a peer that took it gets it only once: {holders:?}");
        assert_eq!(holders.contains(&3), looks == 1, "a peer that left gets it again: {holders:?}");
        if looks == 1 { vec![9] } else { vec![] }
    });
    let again = wanted
        .iter()
        .find(|(_, announcement)| matches!(announcement.to, Recipients::Closest))
        .expect("announced again")
        .0;
    assert!((19..=23).contains(&((again - BEGIN).as_secs() / 3_600)), "{again}");
    assert!((22..=25).contains(&wanted.len()), "{} looks in 25 h", wanted.len());
    let apart = |pair: &[(Timestamp, Announcement)]| (pair[1].0 - pair[0].0).as_secs();
    assert!(wanted.windows(2).all(|pair| (3_300..=3_900).contains(&apart(pair))), "once a cycle");
}

#[test]
fn a_record_that_no_peer_takes_is_tried_again_after_a_pause_of_its_own_that_grows() {
    let all = values(3_000, true);
    let mut own = own(&DhtConfig::default(), false);
    let names: Vec<_> = all.values().map(RecordId::of).collect();
    for (name, item) in names.iter().zip(all.values()) {
        own.on_outcome(&NodeTime::new(BEGIN), *name, &ended(item.clone(), true, &[], None));
    }
    let minute = Duration::from_secs(60);
    assert_eq!(own.due(), Some(BEGIN + minute));
    // Every tenth record is refused forever, all others are taken the third time.
    let bad: BTreeSet<_> = names.iter().step_by(10).copied().collect();
    let third = BEGIN + 5 * minute;
    let wanted = pass(&mut own, &all, (BEGIN, BEGIN + 10 * HOUR), |now, announcement| {
        let refused = now < third || bad.contains(&RecordId::of(&announcement.item));
        if refused { vec![] } else { vec![1] }
    });
    let pages: BTreeSet<_> = wanted.iter().map(|(at, _)| *at).collect();
    assert!(pages.iter().all(|page| wanted.iter().filter(|(at, _)| at == page).count() <= PAGE));
    for (name, times) in times(&wanted) {
        let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
        let expected = [2u64, 4, 8, 16, 32, 64, 64, 64, 64, 64, 64].iter().map(|minutes| minutes * 60);
        let bad = bad.contains(&name);
        assert!(bad || pauses[2] <= 75, "a node that was alone looks again after a minute: {pauses:?}");
        assert!(bad || pauses[3..].iter().all(|pause| *pause >= 1_800), "then once a cycle: {pauses:?}");
        assert!(!bad || (12..15).contains(&times.len()), "{} attempts in 10 h", times.len());
        let as_expected = pauses.iter().zip(expected).all(|(pause, expected)| pause.abs_diff(expected) < 20);
        assert!(!bad || as_expected, "{pauses:?}");
    }
    names.iter().for_each(|name| own.forget(name));
    assert_eq!(own.due(), None);
}

#[test]
fn the_first_peer_ends_every_pause() {
    let all = values(3_000, true);
    let mut own = own(&DhtConfig::default(), false);
    all.values().for_each(|item| own.on_changed(BEGIN, RecordId::of(item)));
    pass(&mut own, &all, (BEGIN, BEGIN + 3 * HOUR), |_, _| vec![]);
    let first = BEGIN + 3 * HOUR;
    own.make_unannounced_due(first);
    let announced = pass(&mut own, &all, (first, first + Duration::from_secs(15)), |_, _| vec![1]);
    assert_eq!(times(&announced).len(), 3_000);
    own.make_unannounced_due(first + HOUR / 30);
    let again = pass(&mut own, &all, (first + HOUR / 30, first + HOUR / 20), |_, _| vec![1]);
    assert!(
        again.iter().all(|(_, announcement)| matches!(announcement.to, Recipients::NewOfClosest(_))),
        "a record that has been announced goes only to new peers"
    );
}

#[test]
fn a_record_that_is_gone_delays_no_other_and_a_page_is_read_again_after_a_failure() {
    let all = values(2, true);
    let mut own = own(&DhtConfig::default(), false);
    let names: Vec<_> = all.values().map(RecordId::of).collect();
    names.iter().for_each(|name| own.on_changed(BEGIN, *name));
    let now = BEGIN + Duration::from_secs(60);
    own.begin(now);
    assert!(own.on_page(&NodeTime::new(now), &Key::from_bits("01"), 0, None).is_empty());
    assert_eq!(own.due(), Some(now + Duration::from_secs(60)));
    let left = BTreeMap::from([(names[1].place, all[&names[1].place].clone())]);
    let tried = pass(&mut own, &left, (now, now + HOUR / 30), |_, _| vec![1]);
    assert_eq!(times(&tried).into_keys().collect::<Vec<_>>(), [names[1]]);
    own.forget(&names[1]);
    assert_eq!(own.due(), None);
}

#[test]
fn after_a_restart_records_that_were_never_announced_are_due_soon_and_all_others_at_their_time() {
    let mut all = values(1_200, true);
    let (mut soon, begin) = (BTreeSet::new(), BEGIN + 100 * HOUR);
    for (i, item) in all.values_mut().enumerate() {
        let name = RecordId::of(item);
        let Item::Value(record) = item else { continue };
        // Some were never announced, some when the host's clock was a year ahead, most of them 30 h ago.
        record.announced = match i % 60 {
            0 => None,
            1 => Some(begin + 365 * 24 * HOUR),
            _ => Some(BEGIN + 70 * HOUR),
        };
        soon.extend((i % 60 < 2).then_some(name));
    }
    let mut own = own(&DhtConfig::default(), true);
    let minute = Duration::from_secs(60);
    let first = pass(&mut own, &all, (begin, begin + 2 * minute), |_, _| vec![1]);
    let first = times(&first);
    assert!(soon.iter().all(|name| first[name][0] >= begin + minute), "with the peers that are met within a minute");
    assert!((soon.len()..soon.len() + 200).contains(&first.len()), "{} in two minutes", first.len());
    let hour = pass(&mut own, &all, (begin + 2 * minute, begin + HOUR + 3 * minute), |_, announcement| {
        assert!(
            matches!(announcement.to, Recipients::Closest | Recipients::NewOfClosest(_)),
            "all are overdue: {announcement:?}"
        );
        vec![1]
    });
    let hour = times(&hour);
    assert_eq!(hour.keys().chain(first.keys()).collect::<BTreeSet<_>>().len(), all.len());
    for sixth in 0..6 {
        let (from, to) = (begin + 2 * minute + HOUR / 6 * sixth, begin + 2 * minute + HOUR / 6 * (sixth + 1));
        let count = hour.values().filter(|times| (from..to).contains(&times[0])).count();
        assert!(count < all.len() / 4, "spread over a cycle: {count}");
    }
}

#[test]
fn after_a_long_sleep_own_records_wait_for_their_time() {
    let all = values(1_000, true);
    let mut own = own(&DhtConfig::default(), false);
    for item in all.values() {
        own.on_outcome(&NodeTime::new(BEGIN), RecordId::of(item), &ended(item.clone(), true, &[1], None));
    }
    let wake = BEGIN + 50 * HOUR;
    let quarter = times(&pass(&mut own, &all, (wake, wake + HOUR / 4), |_, _| vec![1]));
    assert!((200..300).contains(&quarter.len()), "{} of 1,000 in a quarter of a cycle", quarter.len());
}

#[test]
fn without_intervals_nothing_is_ever_due() {
    let mut config = DhtConfig::default();
    let maintenance = &mut config.maintenance;
    (maintenance.announce_interval, maintenance.region_interval) = (Interval::Never, Interval::Never);
    let (all, mut own) = (values(10, true), own(&config, true));
    let item = all.values().next().unwrap();
    own.on_changed(BEGIN, RecordId::of(item));
    assert!(!own.on_outcome(&NodeTime::new(BEGIN), RecordId::of(item), &ended(item.clone(), true, &[], None)));
    own.make_unannounced_due(BEGIN);
    assert_eq!(own.due(), None);
}

#[test]
fn a_value_is_stored_again_after_an_hour_without_a_store_and_while_it_lives() {
    let now = BEGIN + 10 * HOUR;
    let due = |received: Timestamp, expires: Option<Timestamp>, own: bool| {
        let mut record = Record::new("/a/b", "v", received);
        (record.expires, record.own) = (expires, own);
        is_due(&Item::Value(record), now, HOUR)
    };
    let late = Some(BEGIN + 100 * HOUR);
    assert!(due(BEGIN, late, false) && due(BEGIN + 9 * HOUR, late, false));
    assert!(!due(BEGIN + 9 * HOUR + HOUR / 2, late, false), "it was stored");
    assert!(due(BEGIN + 11 * HOUR, late, false), "the host's clock was wrong then");
    assert!(!due(BEGIN, Some(BEGIN + 11 * HOUR), false), "it has all but expired");
    assert!(!due(BEGIN, None, true), "its own");
}

#[test]
fn a_newcomer_gets_the_values_to_which_this_node_is_the_closest_holder() {
    let mut rng = rng();
    let all = values(4_000, false);
    let local = Key::random(&mut rng);
    let mut table = RoutingTable::new(local, RoutingConfig::default());
    let others: Vec<_> = (0..300).map(|_| Contact::with_key(PeerId::random(), Key::random(&mut rng), [])).collect();
    for peer in &others {
        table.offer(BEGIN, peer);
    }
    let now = BEGIN + HOUR;
    let mut newcomers = Newcomers::new(BEGIN, true);
    let mut first = RoutingTable::new(local, RoutingConfig::default());
    for peer in &others[..5] {
        first.offer(BEGIN, peer);
        newcomers.offer(BEGIN, peer, &first, 20);
    }
    assert!(newcomers.due.is_none(), "to a node that has just joined every peer is new");
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
        for announcement in newcomers.on_page(&NodeTime::new(now), Some(page(&all, after)), (&table, 20), &mut budget) {
            assert!(matches!(&announcement.to, Recipients::Peers(to) if to.len() == 1 && to[0].peer() == new.peer()));
            brought.insert(announcement.item.key().key(), ());
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

/// The bytes that a node with many values in a network of 300 sends to these ids, which come one after the other right
/// next to it and stay for `stay` seconds.
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
    for i in 0..300 {
        table.offer(BEGIN, &at(Key::random(&mut rng), i));
    }
    let (mut now, mut brought) = (BEGIN + 2 * HOUR, 0);
    let (mut newcomers, mut budget) = (Newcomers::new(BEGIN, true), Budget::new(now, budget));
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
            for announcement in
                newcomers.on_page(&NodeTime::new(now), Some(page(&all, after)), (&table, 20), &mut budget)
            {
                let Recipients::Peers(to) = &announcement.to else { unreachable!() };
                brought += to.len() as u64 * bytes(&announcement.item);
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
    assert!(all >= 50 * one, "{all}: without a bound each gets all");
    let bounded = drawn(None, 1 << 20, 60, |i| i, 20);
    assert!((1 << 18..=3 << 19).contains(&bounded), "{bounded} of 1 MiB an hour, in 20 minutes");
    assert_eq!(
        drawn(groups(), usize::MAX >> 8, 60, |i| i, 20),
        0,
        "where groups are limited no peer stays long enough"
    );
    let same = drawn(groups(), usize::MAX >> 8, 4, |_| 0, 700);
    assert!((one / 2..=one).contains(&same), "{same}: one an hour, {one} each");
    let other = drawn(groups(), usize::MAX >> 8, 4, |i| i, 700);
    assert!(other > 3 * one, "{other}");
}

/// Records that are withdrawn, put again or stored by a peer while a page is read are left out of it. If there are too
/// many to remember, the page is not used.
#[test]
fn records_that_change_while_a_page_is_read_are_left_out_of_it() {
    let config = DhtConfig::default();
    let peers = Peers::new(Contact::with_key(PeerId::random(), Key::from_bits("01"), []), &config);
    // The records announced during two cycles, if `change` happens while each page is read.
    let announcements = |duty: Duty, all: &BTreeMap<Key, Item>, change: &dyn Fn(&mut Upkeep)| {
        let mut upkeep = Upkeep::new(BEGIN, &config, false, &mut rng());
        all.values().for_each(|item| upkeep.on_changed(BEGIN, RecordId::of(item)));
        let mut names = BTreeSet::new();
        for minutes in 60..180 {
            let now = BEGIN + minutes * Duration::from_secs(60);
            let (_, after) = upkeep.begin(now, duty, &peers, 20);
            change(&mut upkeep);
            let announcements = upkeep.on_page(&NodeTime::new(now), duty, Some(page(all, after)), &peers, 20);
            names.extend(announcements.iter().map(|announcement| RecordId::of(&announcement.item)));
        }
        Vec::from_iter(names)
    };
    let (own, others) = (values(1, true), values(1, false));
    let name = RecordId::of(own.values().next().unwrap());
    let other = RecordId { provider: true, ..name };
    assert_eq!(announcements(Duty::Republish, &own, &|upkeep| upkeep.on_changed(BEGIN + HOUR, other)), [name]);
    assert_eq!(announcements(Duty::Republish, &own, &|upkeep| upkeep.on_changed(BEGIN + HOUR, name)), []);
    let many_of = |upkeep: &mut Upkeep, of: &dyn Fn(&mut Upkeep, RecordId)| {
        (0u32..2_000).for_each(|i| of(upkeep, RecordId { place: Key::hash(&i.to_be_bytes()), provider: false }));
    };
    assert_eq!(
        announcements(Duty::Republish, &own, &|upkeep| many_of(upkeep, &|upkeep, name| upkeep
            .on_changed(BEGIN + HOUR, name))),
        []
    );
    assert_eq!(announcements(Duty::Replicate, &others, &|upkeep| upkeep.on_stored(name)), []);
    assert_eq!(announcements(Duty::Replicate, &others, &|upkeep| many_of(upkeep, &Upkeep::on_stored)), [name]);
}

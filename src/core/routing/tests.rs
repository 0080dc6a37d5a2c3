use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::entry::{FORGOTTEN_AFTER, QUESTIONABLE_AFTER};
use super::*;

fn contact(bits: &str) -> Arc<Contact> {
    Contact::with_key(PeerId::random(), Key::from_bits(bits), [])
}

fn table(local: &str, bucket_size: usize) -> RoutingTable {
    let config = RoutingConfig { bucket_size: bucket_size.try_into().unwrap(), ..RoutingConfig::default() };
    RoutingTable::new(Key::from_bits(local), config)
}

/// A peer fails once more.
fn fail(table: &mut RoutingTable, key: &Key) -> Option<PeerId> {
    table.on_failure(key, true, false)
}

fn random_contacts(count: usize, seed: u64) -> Vec<Arc<Contact>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| Contact::with_key(PeerId::random(), Key::random(&mut rng), [])).collect()
}

#[test]
fn only_the_last_bucket_splits() {
    let mut table = table("0000", 2);
    for bits in ["1000", "1100"] {
        assert_eq!(table.offer(Timestamp::ZERO, &contact(bits)), Admission::Added(vec![]));
    }
    assert_eq!(table.buckets.len(), 1);
    assert_eq!(table.offer(Timestamp::ZERO, &contact("0001")), Admission::Added(vec![]), "the full last bucket splits");
    assert_eq!(table.buckets.len(), 2);
    assert_eq!(table.offer(Timestamp::ZERO, &contact("1110")), Admission::Full, "the far bucket cannot");
    assert_eq!(table.buckets.len(), 2);
    assert_eq!(table.len(), 3);
    assert!(!table.has_room(&Key::from_bits("1111")));
    assert!(table.has_room(&Key::from_bits("0111")));
}

#[test]
fn the_node_itself_never_enters() {
    let mut table = table("0000", 2);
    assert_eq!(table.offer(Timestamp::ZERO, &contact("0000")), Admission::Full);
    assert_eq!(table.len(), 0);
    assert!(!table.has_room(&Key::from_bits("0000")));
}

#[test]
fn a_live_entry_is_never_displaced_and_a_questionable_one_is() {
    let mut table = table("0000", 1);
    let (old, new) = (contact("1000"), contact("1001"));
    table.offer(Timestamp::ZERO, &old);
    table.offer(Timestamp::ZERO, &contact("0000 1"));
    assert_eq!(table.offer(Timestamp::ZERO, &new), Admission::Full);
    assert!(table.next_waiting(Timestamp::ZERO, new.key()).is_none(), "no place to wait for yet");
    for _ in 0..QUESTIONABLE_AFTER {
        assert_eq!(fail(&mut table, old.key()), None);
    }
    assert_eq!(table.next_waiting(Timestamp::ZERO, new.key()).as_deref(), Some(&*new));
    assert_eq!(table.offer(Timestamp::ZERO, &new), Admission::Added(vec![*old.peer()]));
    assert!(table.get(old.key()).is_none());
    assert_eq!(table.len(), 2);
}

#[test]
fn an_answer_clears_failures_and_the_third_in_a_row_is_the_end() {
    let mut table = table("0000", 1);
    let peer = contact("1000");
    table.offer(Timestamp::ZERO, &peer);
    for _ in 0..FORGOTTEN_AFTER - 1 {
        assert_eq!(fail(&mut table, peer.key()), None);
    }
    assert_eq!(table.closest(peer.key(), 1, |_, _| true).len(), 0, "questionable entries are not handed out");
    assert_eq!(table.offer(Timestamp::from_secs(1), &peer), Admission::Known);
    assert_eq!(table.closest(peer.key(), 1, |_, _| true).len(), 1);
    for _ in 0..FORGOTTEN_AFTER - 1 {
        assert_eq!(fail(&mut table, peer.key()), None);
    }
    assert_eq!(fail(&mut table, peer.key()), Some(*peer.peer()));
    assert_eq!(table.len(), 0);
}

#[test]
fn what_does_not_count_forgets_nobody() {
    let mut table = table("0000", 20);
    let peers = random_contacts(10, 5);
    for peer in &peers {
        assert_eq!(table.offer(Timestamp::ZERO, peer), Admission::Added(vec![]));
    }
    for _ in 0..100 {
        assert!(peers.iter().all(|peer| table.on_failure(peer.key(), false, true).is_none()));
    }
    assert_eq!(table.closest(&Key::from_bits("0"), 20, |_, _| true).len(), 10, "nor questionable");
    for _ in 1..FORGOTTEN_AFTER {
        peers[1..].iter().for_each(|peer| _ = fail(&mut table, peer.key()));
    }
    assert_eq!(table.len(), 1);
}

#[test]
fn closest_agrees_with_sorting_everything() {
    for seed in 0..20 {
        let mut rng = ChaCha8Rng::seed_from_u64(1_000 + seed);
        let mut table = RoutingTable::new(Key::random(&mut rng), RoutingConfig::default());
        for contact in random_contacts(800, seed) {
            table.offer(Timestamp::ZERO, &contact);
        }
        for count in [0, 1, 20, 1_000] {
            let target = Key::random(&mut rng);
            let mut all: Vec<_> = table.entries().map(|entry| *entry.contact.key()).collect();
            all.sort_by_key(|key| key.distance(&target));
            all.truncate(count);
            let found: Vec<_> = table.closest(&target, count, |_, _| true).iter().map(|c| *c.key()).collect();
            assert_eq!(found, all, "seed {seed}");
        }
    }
}

#[test]
fn wide_low_buckets_hold_more_and_deep_ones_k() {
    let config = RoutingConfig { wide_low_buckets: 64, ..RoutingConfig::default() };
    let mut table = RoutingTable::new(Key::from_bits("0"), config);
    for contact in random_contacts(2_000, 3) {
        table.offer(Timestamp::ZERO, &contact);
    }
    let sizes: Vec<_> =
        table.snapshot(PeerId::random(), |_| false).buckets.iter().map(|bucket| bucket.entries.len()).collect();
    assert_eq!(&sizes[..4], [64, 32, 20, 20]);
}

#[test]
fn wide_buckets_keep_their_capacity_however_the_peers_lie() {
    let config = RoutingConfig { wide_low_buckets: 64, bucket_size: 4.try_into().unwrap(), diversity: None };
    let mut table = RoutingTable::new(Key::from_bits("0"), config);
    for i in 0..64 {
        table.offer(Timestamp::ZERO, &contact(&format!("01{i:08b}")));
        table.offer(Timestamp::ZERO, &contact(&format!("001{i:08b}")));
    }
    table.offer(Timestamp::ZERO, &contact("1"));
    let snapshot = table.snapshot(PeerId::random(), |_| false);
    assert!(snapshot.buckets.iter().all(|bucket| bucket.entries.len() <= bucket.capacity), "{snapshot:?}");
    let sizes: Vec<_> = snapshot.buckets.iter().map(|bucket| bucket.entries.len()).collect();
    assert_eq!(sizes, [1, 32, 16, 0]);
}

#[test]
fn those_who_wait_are_bounded() {
    let mut table = table("0000", 3);
    for contact in random_contacts(500, 4) {
        table.offer(Timestamp::ZERO, &contact);
    }
    let snapshot = table.snapshot(PeerId::random(), |_| true);
    assert!(snapshot.buckets.iter().all(|bucket| bucket.waiting <= 3 && bucket.entries.len() <= 3));
    assert_eq!(snapshot.entries().count(), table.len());
}

/// The `count` nearest to zero.
fn nearest<'a>(keys: impl IntoIterator<Item = &'a Key>, count: usize) -> Vec<Key> {
    let mut keys: Vec<_> = keys.into_iter().copied().collect();
    keys.sort_by_key(|key| key.distance(&Key::from_bits("0")));
    keys.truncate(count);
    keys
}

#[test]
fn the_k_closest_of_all_that_answered_are_known_whatever_the_room() {
    for seed in 0..20 {
        let mut table = table("0", 5);
        // Many in the second half of the nearby keyspace, so that a bucket is full where the neighbours are.
        let contacts: Vec<_> = random_contacts(300, seed)
            .into_iter()
            .enumerate()
            .map(|(i, contact)| {
                let prefix = [1, 2, 3, 3, 3][i % 5];
                let key = Key::from_bits("0")
                    .random_with_prefix(prefix, &mut ChaCha8Rng::seed_from_u64(seed * 1_000 + i as u64));
                Contact::with_key(*contact.peer(), key, [])
            })
            .collect();
        for (i, contact) in contacts.iter().enumerate() {
            let before: Vec<_> = table.entries().map(|entry| *entry.contact.key()).collect();
            table.offer(Timestamp::ZERO, contact);
            let known: Vec<_> = nearest(table.entries().map(|entry| entry.contact.key()), 5);
            assert_eq!(known, nearest(before.iter().chain([contact.key()]), 5), "seed {seed}, after {i}");
            if i % 7 == 6 {
                // The nearest dies; peers that wait are tried for its place.
                while table.get(&known[0]).is_some() {
                    fail(&mut table, &known[0]);
                }
                while let Some(next) = table.next_waiting(Timestamp::ZERO, &known[0]) {
                    table.offer(Timestamp::ZERO, &next);
                }
            }
            let known: Vec<_> = nearest(table.entries().map(|entry| entry.contact.key()), 5);
            let waiting = table.buckets.iter().flat_map(|bucket| bucket.waiting.keys());
            assert_eq!(known, nearest(known.iter().chain(waiting), 5), "seed {seed}, after {i}");
            for (index, bucket) in table.buckets.iter().enumerate() {
                let beyond = bucket.keys().iter().skip(table.capacity(index));
                assert!(beyond.into_iter().all(|key| known.contains(key)), "seed {seed}, after {i}");
            }
            assert_eq!(table.len(), table.entries().count());
        }
    }
}

#[test]
fn a_dead_neighbour_does_not_keep_out_the_next_closest() {
    let mut table = table("0", 1);
    let (far, near, next) = (contact("1"), contact("01001"), contact("01010"));
    for peer in [&far, &contact("011"), &near] {
        table.offer(Timestamp::ZERO, peer);
    }
    assert!(table.get(near.key()).is_some(), "though its bucket is full");
    assert_eq!(table.offer(Timestamp::ZERO, &next), Admission::Full);
    (0..QUESTIONABLE_AFTER).for_each(|_| _ = fail(&mut table, near.key()));
    assert!(table.get(near.key()).is_some_and(TableEntry::is_questionable));
    assert!(table.has_room(next.key()));
    assert_eq!(table.offer(Timestamp::ZERO, &next), Admission::Added(vec![*near.peer()]), "nor is it kept beside it");
}

#[test]
fn who_is_no_longer_a_neighbour_waits_and_the_senior_stay() {
    let mut table = table("0", 2);
    let senior = ["0110", "0111"].map(contact);
    let far = ["1000", "1001"].map(contact);
    let beyond = contact("0101");
    for peer in far.iter().chain(&senior).chain([&beyond]) {
        assert_eq!(table.offer(Timestamp::ZERO, peer), Admission::Added(vec![]));
    }
    assert_eq!(table.offer(Timestamp::ZERO, &contact("0001")), Admission::Added(vec![]));
    assert_eq!(table.offer(Timestamp::ZERO, &contact("0010")), Admission::Added(vec![*beyond.peer()]));
    assert!(senior.iter().all(|peer| table.get(peer.key()).is_some()));
    assert_eq!(table.len(), 6);
    // A senior entry leaves: its place is for the peer that waits.
    table.remove(senior[0].key());
    assert_eq!(table.next_waiting(Timestamp::ZERO, senior[0].key()), Some(beyond));
}

#[test]
fn of_those_who_wait_the_fastest_is_tried_first() {
    let mut table = table("0", 3);
    for bits in ["000", "1000", "1001", "1010"] {
        table.offer(Timestamp::ZERO, &contact(bits));
    }
    let peers = ["1011", "1100", "1101"].map(contact);
    for (peer, millis) in peers.iter().zip([200, 50, 90]) {
        assert_eq!(table.offer(Timestamp::ZERO, peer), Admission::Full);
        table.record(peer.key(), Duration::from_millis(millis));
    }
    table.remove(&Key::from_bits("1000"));
    let order: Vec<_> = (0..3).filter_map(|_| table.next_waiting(Timestamp::ZERO, peers[0].key())).collect();
    assert_eq!(order, [1, 2, 0].map(|i: usize| Arc::clone(&peers[i])));
}

#[test]
fn those_to_be_checked_are_the_failing_then_the_longest_silent() {
    let mut table = table("0", 20);
    let (at, quiet) = (Timestamp::from_secs, Duration::from_secs(600));
    let peers = ["100", "101", "110", "111"].map(contact);
    for (peer, second) in peers.iter().zip([300, 100, 200, 400]) {
        table.offer(at(second), peer);
    }
    table.on_failure(peers[3].key(), true, false);
    let check_at = |entry: &TableEntry| if entry.failures() > 0 { at(530) } else { entry.last_seen + quiet };
    assert_eq!(table.due(at(530), 9, check_at), [Arc::clone(&peers[3])]);
    let order = [3, 1, 2].map(|i: usize| Arc::clone(&peers[i]));
    assert_eq!(table.due(at(800), 9, check_at), order);
    assert_eq!(table.due(at(800), 2, check_at), order[..2]);
}

/// A table whose farthest bucket is full of entries that were last seen a second apart, the first of them at 0 s, with
/// a peer that has waited for a place there since 100 s.
fn challenged() -> (RoutingTable, Vec<Arc<Contact>>) {
    let mut table = table("0", 4);
    let entries: Vec<_> = (0..4).map(|i| contact(&format!("1{i:03b}"))).collect();
    entries.iter().zip(0..).for_each(|(entry, second)| _ = table.offer(Timestamp::from_secs(second), entry));
    for bits in ["0100", "0110", "0010", "0001"] {
        table.offer(Timestamp::ZERO, &contact(bits));
    }
    assert_eq!(table.offer(Timestamp::from_secs(100), &contact("1111 1")), Admission::Full);
    (table, entries)
}

#[test]
fn where_a_peer_waits_one_entry_at_a_time_is_asked_and_ever_more_rarely_while_they_answer() {
    let (mut table, entries) = challenged();
    let far = Key::from_bits("1");
    let connected = |key: &Key| key == entries[0].key();
    let (mut asked, mut busy) = (Vec::new(), None);
    // A peer that comes and goes all the time causes no more requests than this.
    for second in 100..1_000 {
        let now = Timestamp::from_secs(second);
        table.add_waiting(now, &contact("1111 1"));
        let next = table.challenge(now, &far, false, connected);
        assert!(busy.is_none() || next.is_none(), "one at a time");
        if let Some(entry) = next {
            asked.push((second, entry.clone()));
            busy = Some(entry);
        } else if let Some(entry) = busy.take() {
            table.offer(now, &entry);
        }
    }
    let seconds: Vec<_> = asked.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [100, 111, 412, 713], "10 s after the first answer, 300 s after each other");
    let order: Vec<_> = asked[..3].iter().map(|(_, entry)| entry.clone()).collect();
    assert_eq!(order, entries[1..], "the longest silent first, and no connected peer");
    // A failure shows that things have changed.
    let now = Timestamp::from_secs(800);
    assert_eq!(table.challenge(now, &far, false, connected), None);
    table.on_failure(entries[1].key(), true, false);
    assert!(table.challenge(now, &far, false, connected).is_some());
}

#[test]
fn one_whose_connection_closed_is_asked_first_and_nobody_where_nobody_waits() {
    let (mut table, entries) = challenged();
    let (now, nobody) = (Timestamp::from_secs(100), |_: &Key| false);
    table.offer(now, &entries[2]);
    assert_eq!(table.challenge(now, entries[2].key(), true, nobody), Some(entries[2].clone()), "though just heard of");
    let mut table = table_without_waiting(&entries);
    assert_eq!(table.challenge(now, entries[2].key(), true, nobody), None);
}

fn table_without_waiting(entries: &[Arc<Contact>]) -> RoutingTable {
    let mut table = table("0", 4);
    entries.iter().for_each(|entry| _ = table.offer(Timestamp::ZERO, entry));
    table
}

#[test]
fn a_refused_dial_gives_the_place_to_who_was_there_later_and_to_nobody_else() {
    let (mut table, entries) = challenged();
    let late = Timestamp::from_secs(200);
    table.on_failure(entries[3].key(), true, true);
    assert!(table.demote_unreachable(&Key::from_bits("1")), "the one that waits was there at 100 s, the entry at 3 s");
    assert!(!table.demote_unreachable(&Key::from_bits("1")), "one place is enough");
    assert_eq!(table.offer(late, &contact("1111 1")), Admission::Added(vec![*entries[3].peer()]));
    entries[..3].iter().for_each(|entry| _ = table.offer(late, entry));
    table.on_failure(entries[0].key(), true, true);
    assert!(!table.demote_unreachable(&Key::from_bits("1")), "no peer was seen later");
}

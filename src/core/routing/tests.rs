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

/// A peer fails while another one answers.
fn fail(table: &mut RoutingTable, key: &Key) -> Option<PeerId> {
    let alive = contact("0000 1111");
    table.offer(Timestamp::ZERO, &alive);
    let gone = table.fail(key);
    table.remove(alive.key());
    gone
}

fn random_contacts(count: usize, seed: u64) -> Vec<Arc<Contact>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| Contact::with_key(PeerId::random(), Key::random(&mut rng), [])).collect()
}

#[test]
fn only_the_last_bucket_splits() {
    let mut table = table("0000", 2);
    for bits in ["1000", "1100"] {
        assert_eq!(table.offer(Timestamp::ZERO, &contact(bits)), Offer::Added);
    }
    assert_eq!(table.depth(), 1);
    assert_eq!(table.offer(Timestamp::ZERO, &contact("0001")), Offer::Added, "the full last bucket splits");
    assert_eq!(table.depth(), 2);
    assert_eq!(table.offer(Timestamp::ZERO, &contact("1110")), Offer::Full, "the far bucket cannot");
    assert_eq!(table.depth(), 2);
    assert_eq!(table.len(), 3);
    assert!(!table.has_room(&Key::from_bits("1111")));
    assert!(table.has_room(&Key::from_bits("0111")));
}

#[test]
fn the_node_itself_never_enters() {
    let mut table = table("0000", 2);
    assert_eq!(table.offer(Timestamp::ZERO, &contact("0000")), Offer::Full);
    assert_eq!(table.len(), 0);
    assert!(!table.has_room(&Key::from_bits("0000")));
}

#[test]
fn a_live_entry_is_never_displaced_and_a_questionable_one_is() {
    let mut table = table("0000", 1);
    let (old, new) = (contact("1000"), contact("1001"));
    table.offer(Timestamp::ZERO, &old);
    table.offer(Timestamp::ZERO, &contact("0000 1"));
    assert_eq!(table.offer(Timestamp::ZERO, &new), Offer::Full);
    assert!(table.next_waiting(new.key()).is_none(), "no place to wait for yet");
    for _ in 0..QUESTIONABLE_AFTER {
        assert_eq!(fail(&mut table, old.key()), None);
    }
    assert_eq!(table.next_waiting(new.key()).as_deref(), Some(&*new));
    assert_eq!(table.offer(Timestamp::ZERO, &new), Offer::Replaced(*old.peer()));
    assert!(table.get(old.key()).is_none());
    assert_eq!(table.len(), 2);
}

#[test]
fn an_answer_clears_failures_and_the_fifth_in_a_row_is_the_end() {
    let mut table = table("0000", 1);
    let peer = contact("1000");
    table.offer(Timestamp::ZERO, &peer);
    for _ in 0..FORGOTTEN_AFTER - 1 {
        assert_eq!(fail(&mut table, peer.key()), None);
    }
    assert_eq!(table.closest(peer.key(), 1, |_, _| true).len(), 0, "questionable entries are not handed out");
    assert_eq!(table.offer(Timestamp::from_secs(1), &peer), Offer::Known);
    assert_eq!(table.closest(peer.key(), 1, |_, _| true).len(), 1);
    for _ in 0..FORGOTTEN_AFTER - 1 {
        assert_eq!(fail(&mut table, peer.key()), None);
    }
    assert_eq!(fail(&mut table, peer.key()), Some(*peer.peer()));
    assert_eq!(table.len(), 0);
}

#[test]
fn in_an_outage_nobody_is_forgotten() {
    let mut table = table("0000", 20);
    let peers = random_contacts(10, 5);
    for peer in &peers {
        assert_eq!(table.offer(Timestamp::ZERO, peer), Offer::Added);
    }
    for _ in 0..100 {
        assert!(peers.iter().all(|peer| table.fail(peer.key()).is_none()));
    }
    assert_eq!(table.closest(&Key::from_bits("0"), 20, |_, _| true).len(), 10, "nor questionable");
    for _ in 1..FORGOTTEN_AFTER {
        table.offer(Timestamp::ZERO, &peers[0]);
        for peer in &peers[1..] {
            table.fail(peer.key());
        }
    }
    assert_eq!(table.len(), 1, "it is over for one, so the others are dead");
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

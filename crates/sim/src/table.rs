//! Routing tables of stock nodes, and tables made from global knowledge.
//!
//! Knows: buckets of peers. Must not know: whether a peer answers.

use super::directory::{Directory, NodeIndex, SortedPeers};
use super::random::Random;

/// The routing table of a stock node: buckets by the length of the prefix shared with the owner, the farthest first.
#[derive(Clone, Debug, Default)]
pub struct StockTable {
    own: u64,
    buckets: Vec<Vec<NodeIndex>>,
}

impl StockTable {
    /// An empty table for the peer at this position.
    pub fn new(own: u64) -> StockTable {
        StockTable { own, buckets: Vec::new() }
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(Vec::is_empty)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = NodeIndex> + '_ {
        self.buckets.iter().flatten().copied()
    }

    /// Adds a peer if its bucket has fewer than `capacity` entries. Returns whether the table contains it.
    pub fn insert(&mut self, directory: &Directory, peer: NodeIndex, capacity: usize) -> bool {
        let bucket = (directory.position(peer) ^ self.own).leading_zeros() as usize;
        if bucket >= 64 {
            return false;
        }
        if self.buckets.len() <= bucket {
            self.buckets.resize_with(bucket + 1, Vec::new);
        }
        let entries = &mut self.buckets[bucket];
        if entries.contains(&peer) {
            return true;
        }
        if entries.len() < capacity {
            entries.push(peer);
        }
        entries.last() == Some(&peer)
    }

    /// Removes a peer.
    pub fn remove(&mut self, directory: &Directory, peer: NodeIndex) {
        let bucket = (directory.position(peer) ^ self.own).leading_zeros() as usize;
        if let Some(entries) = self.buckets.get_mut(bucket) {
            entries.retain(|entry| *entry != peer);
        }
    }

    /// The `n` closest entries to `target`, the closest first.
    pub fn closest(&self, directory: &Directory, target: u64, n: usize) -> Vec<NodeIndex> {
        let mut found: Vec<(u64, NodeIndex)> = Vec::with_capacity(n + 20);
        let shared = ((target ^ self.own).leading_zeros() as usize).min(self.buckets.len());
        let take = |found: &mut Vec<(u64, NodeIndex)>, buckets: &[Vec<NodeIndex>]| {
            let from = found.len();
            found.extend(buckets.iter().flatten().map(|peer| (directory.position(*peer) ^ target, *peer)));
            found[from..].sort_unstable();
        };
        // The entries of the target's own bucket share one bit more with it than the owner does, those of all later
        // buckets as many as the owner, and those of each earlier bucket one bit less than those of the next.
        take(&mut found, self.buckets.get(shared..=shared).unwrap_or_default());
        if found.len() < n {
            take(&mut found, self.buckets.get(shared + 1..).unwrap_or_default());
        }
        for bucket in (0..shared).rev() {
            if found.len() >= n {
                break;
            }
            take(&mut found, &self.buckets[bucket..=bucket]);
        }
        found.into_iter().take(n).map(|(_, peer)| peer).collect()
    }
}

/// A model of full routing tables, made from global knowledge.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct TableModel {
    /// The number of entries of a full bucket.
    pub bucket_size: usize,
    /// Bucket `i` holds `wide >> i` entries if that is more; 0 for plain buckets.
    pub wide: usize,
    /// The share of dead entries in full buckets.
    pub stale_full: f64,
    /// The share of dead entries in buckets that are not full.
    pub stale_open: f64,
}

impl TableModel {
    /// Buckets of `bucket_size` entries, without dead ones.
    pub fn plain(bucket_size: usize) -> TableModel {
        TableModel { bucket_size, wide: 0, stale_full: 0.0, stale_open: 0.0 }
    }

    /// The number of entries of a full bucket for this prefix length.
    pub fn capacity(&self, prefix: u32) -> usize {
        self.bucket_size.max(self.wide.checked_shr(prefix).unwrap_or(0))
    }

    /// The entries of the table of `owner`: for each bucket, the farthest first, as many as fit of the peers that
    /// belong there, chosen at random.
    pub fn candidates(
        &self,
        directory: &Directory,
        (live, dead): (&SortedPeers, &SortedPeers),
        owner: NodeIndex,
        random: &mut Random,
    ) -> Vec<NodeIndex> {
        let own = directory.position(owner);
        let mut chosen = Vec::new();
        for prefix in 0..64u32 {
            let sibling = own ^ (1 << (63 - prefix));
            let alive = live.sharing(sibling, prefix + 1);
            let gone = dead.sharing(sibling, prefix + 1);
            let capacity = self.capacity(prefix);
            let stale = if alive.len() >= capacity {
                (0..capacity).filter(|_| random.chance(self.stale_full)).count()
            } else {
                // All live peers, and as many dead ones as make the wanted share.
                let ratio = alive.len() as f64 * self.stale_open / (1.0 - self.stale_open);
                ratio as usize + usize::from(random.chance(ratio - ratio as usize as f64))
            };
            let stale = stale.min(gone.len()).min(capacity);
            let fresh = alive.len().min(capacity - stale);
            let from = |sorted: &SortedPeers, start: usize, picks: Vec<u32>, chosen: &mut Vec<NodeIndex>| {
                chosen.extend(picks.into_iter().map(|pick| sorted.at(start + pick as usize)));
            };
            from(live, alive.start, random.sample(alive.len() as u32, fresh as u32), &mut chosen);
            from(dead, gone.start, random.sample(gone.len() as u32, stale as u32), &mut chosen);
            if live.sharing(own, prefix + 1).len() + dead.sharing(own, prefix + 1).len() <= 1 {
                break;
            }
        }
        chosen.retain(|peer| *peer != owner);
        chosen
    }

    /// A stock node's table of these candidates.
    pub(crate) fn table(
        &self,
        directory: &Directory,
        peers: (&SortedPeers, &SortedPeers),
        owner: NodeIndex,
        random: &mut Random,
    ) -> StockTable {
        let mut table = StockTable::new(directory.position(owner));
        for peer in self.candidates(directory, peers, owner, random) {
            table.insert(directory, peer, usize::MAX);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closest_agrees_with_sorting_the_whole_table() {
        let directory = Directory::new(1, 2_000);
        let everyone = directory.sorted(0..2_000);
        let mut random = Random::new(1, "test", 0);
        for owner in 0..40 {
            let table =
                TableModel::plain(20).table(&directory, (&everyone, &SortedPeers::default()), owner, &mut random);
            let target = random.bits();
            let mut all: Vec<_> = table.iter().map(|peer| (directory.position(peer) ^ target, peer)).collect();
            all.sort_unstable();
            let expected: Vec<_> = all.into_iter().take(20).map(|(_, peer)| peer).collect();
            assert_eq!(table.closest(&directory, target, 20), expected);
        }
    }

    #[test]
    fn global_knowledge_fills_each_bucket_as_far_as_peers_exist() {
        let directory = Directory::new(2, 1_000);
        let everyone = directory.sorted(0..1_000);
        let model = TableModel { wide: 128, ..TableModel::plain(20) };
        let none_dead = SortedPeers::default();
        for owner in [0, 500, 999] {
            let table = model.table(&directory, (&everyone, &none_dead), owner, &mut Random::new(2, "test", 0));
            assert!(table.iter().all(|peer| peer != owner));
            for (prefix, bucket) in table.buckets.iter().enumerate() {
                let own = directory.position(owner);
                let exist = (0..1_000)
                    .filter(|i| (directory.position(*i) ^ own).leading_zeros() as usize == prefix && *i != owner)
                    .count();
                assert_eq!(bucket.len(), exist.min(model.capacity(prefix as u32)), "bucket {prefix}");
            }
        }
    }

    #[test]
    fn stale_shares_are_as_ordered() {
        let directory = Directory::new(3, 4_000);
        let (live, dead) = (directory.sorted(0..3_000), directory.sorted(3_000..4_000));
        let model = TableModel { stale_full: 0.10, stale_open: 0.20, ..TableModel::plain(20) };
        let (mut full, mut open) = ([0, 0], [0, 0]);
        for owner in 0..300 {
            let table = model.table(&directory, (&live, &dead), owner, &mut Random::new(3, "test", owner.into()));
            for (prefix, bucket) in table.buckets.iter().enumerate() {
                // 47 live peers share 5 bits on average, 12 share 7, and too few to choose from share 10.
                let count = match prefix {
                    0..=4 => &mut full,
                    7..=9 => &mut open,
                    _ => continue,
                };
                let stale = bucket.iter().filter(|peer| **peer >= 3_000).count();
                *count = [count[0] + stale, count[1] + bucket.len()];
            }
        }
        let share = |count: [usize; 2]| count[0] as f64 / count[1] as f64;
        assert!((share(full) - 0.10).abs() < 0.01, "{}", share(full));
        assert!((share(open) - 0.20).abs() < 0.04, "{}", share(open));
    }
}

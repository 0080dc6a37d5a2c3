//! Routing tables of stock players, and tables made from global knowledge.
//!
//! Knows: buckets of peer numbers. Must not know: whether anyone answers.

use super::directory::{Directory, Index, Ranking};
use super::random::Random;

/// Buckets by the length of the prefix shared with the owner, the farthest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    own: u64,
    buckets: Vec<Vec<Index>>,
}

impl Table {
    /// An empty table for the peer at this place.
    pub(crate) fn new(own: u64) -> Table {
        Table { own, buckets: Vec::new() }
    }

    /// How many peers it holds.
    pub(crate) fn len(&self) -> usize {
        self.buckets.iter().map(Vec::len).sum()
    }

    /// Everyone in it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Index> + '_ {
        self.buckets.iter().flatten().copied()
    }

    /// Adds a peer where its bucket holds fewer than `size`; says whether it is in the table now.
    pub(crate) fn insert(&mut self, directory: &Directory, peer: Index, size: usize) -> bool {
        let bucket = (directory.place(peer) ^ self.own).leading_zeros() as usize;
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
        if entries.len() < size {
            entries.push(peer);
        }
        entries.last() == Some(&peer)
    }

    /// Takes a peer out.
    pub(crate) fn remove(&mut self, directory: &Directory, peer: Index) {
        let bucket = (directory.place(peer) ^ self.own).leading_zeros() as usize;
        if let Some(entries) = self.buckets.get_mut(bucket) {
            entries.retain(|entry| *entry != peer);
        }
    }

    /// The `n` entries closest to `target`, nearest first.
    pub(crate) fn closest(&self, directory: &Directory, target: u64, n: usize) -> Vec<Index> {
        let mut found: Vec<(u64, Index)> = Vec::with_capacity(n + 20);
        let shared = ((target ^ self.own).leading_zeros() as usize).min(self.buckets.len());
        let take = |found: &mut Vec<(u64, Index)>, buckets: &[Vec<Index>]| {
            let from = found.len();
            found.extend(buckets.iter().flatten().map(|peer| (directory.place(*peer) ^ target, *peer)));
            found[from..].sort_unstable();
        };
        // The target's own bucket shares one bit more with it than the owner does, all buckets beyond share as many
        // as the owner, and each one before shares one less than the next.
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

/// How tables are filled from global knowledge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    /// How many entries a bucket holds.
    pub(crate) size: usize,
    /// Bucket `i` holds `wide >> i` entries where that is more; 0 for plain buckets.
    pub(crate) wide: usize,
    /// The share of dead entries in full buckets.
    pub(crate) stale_full: f64,
    /// The share of dead entries in buckets that are not full.
    pub(crate) stale_open: f64,
}

impl Filling {
    /// Buckets of `size`, all entries alive.
    pub(crate) fn plain(size: usize) -> Filling {
        Filling { size, wide: 0, stale_full: 0.0, stale_open: 0.0 }
    }

    /// How many entries the bucket of this prefix length holds.
    pub(crate) fn capacity(&self, prefix: u32) -> usize {
        self.size.max(self.wide.checked_shr(prefix).unwrap_or(0))
    }

    /// Whom the peer `owner` knows: for each prefix length as many as fit of those who share it, chosen at random;
    /// the farthest bucket first.
    pub(crate) fn candidates(
        &self,
        directory: &Directory,
        (live, dead): (&Ranking, &Ranking),
        owner: Index,
        random: &mut Random,
    ) -> Vec<Index> {
        let own = directory.place(owner);
        let mut chosen = Vec::new();
        for prefix in 0..64u32 {
            let sibling = own ^ (1 << (63 - prefix));
            let alive = live.sharing(sibling, prefix + 1);
            let gone = dead.sharing(sibling, prefix + 1);
            let capacity = self.capacity(prefix);
            let stale = if alive.len() >= capacity {
                (0..capacity).filter(|_| random.chance(self.stale_full)).count()
            } else {
                // As many dead beside all the living as make the wanted share.
                let ratio = alive.len() as f64 * self.stale_open / (1.0 - self.stale_open);
                ratio as usize + usize::from(random.chance(ratio - ratio as usize as f64))
            };
            let stale = stale.min(gone.len()).min(capacity);
            let fresh = alive.len().min(capacity - stale);
            let from = |ranking: &Ranking, start: usize, picks: Vec<u32>, chosen: &mut Vec<Index>| {
                chosen.extend(picks.into_iter().map(|pick| ranking.at(start + pick as usize)));
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

    /// A stock player's table of these candidates.
    pub(crate) fn table(
        &self,
        directory: &Directory,
        peers: (&Ranking, &Ranking),
        owner: Index,
        random: &mut Random,
    ) -> Table {
        let mut table = Table::new(directory.place(owner));
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
        let everyone = directory.ranking(0..2_000);
        let mut random = Random::new(1, "test", 0);
        for owner in 0..40 {
            let table = Filling::plain(20).table(&directory, (&everyone, &Ranking::default()), owner, &mut random);
            let target = random.bits();
            let mut all: Vec<_> = table.iter().map(|peer| (directory.place(peer) ^ target, peer)).collect();
            all.sort_unstable();
            let expected: Vec<_> = all.into_iter().take(20).map(|(_, peer)| peer).collect();
            assert_eq!(table.closest(&directory, target, 20), expected);
        }
    }

    #[test]
    fn global_knowledge_fills_each_bucket_as_far_as_peers_exist() {
        let directory = Directory::new(2, 1_000);
        let everyone = directory.ranking(0..1_000);
        let filling = Filling { wide: 128, ..Filling::plain(20) };
        let nobody = Ranking::default();
        for owner in [0, 500, 999] {
            let table = filling.table(&directory, (&everyone, &nobody), owner, &mut Random::new(2, "test", 0));
            assert!(table.iter().all(|peer| peer != owner));
            for (prefix, bucket) in table.buckets.iter().enumerate() {
                let own = directory.place(owner);
                let exist = (0..1_000)
                    .filter(|i| (directory.place(*i) ^ own).leading_zeros() as usize == prefix && *i != owner)
                    .count();
                assert_eq!(bucket.len(), exist.min(filling.capacity(prefix as u32)), "bucket {prefix}");
            }
        }
    }

    #[test]
    fn stale_shares_are_as_ordered() {
        let directory = Directory::new(3, 4_000);
        let (live, dead) = (directory.ranking(0..3_000), directory.ranking(3_000..4_000));
        let filling = Filling { stale_full: 0.10, stale_open: 0.20, ..Filling::plain(20) };
        let (mut full, mut open) = ([0, 0], [0, 0]);
        for owner in 0..300 {
            let table = filling.table(&directory, (&live, &dead), owner, &mut Random::new(3, "test", owner.into()));
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

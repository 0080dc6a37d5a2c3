//! The estimated size of the network.
//!
//! Knows: distances of the closest neighbours. Must not know: what the estimate is for.

use super::RoutingTable;

/// Number of neighbours that the estimate is made from. Source: k; the error is about one in the root of it.
const NEIGHBOURS: usize = 20;

impl RoutingTable {
    /// Estimated number of nodes of the network, this one included: the closest neighbours are as close as random ids
    /// would be. With fewer than [`NEIGHBOURS`] it is the number of entries.
    pub(crate) fn estimated_nodes(&self) -> f64 {
        let (closest, len) = (self.closest(&self.local, NEIGHBOURS, |_, _| true), self.len() as f64);
        let Some(farthest) = closest.get(NEIGHBOURS - 1) else { return len + 1.0 };
        let reach = farthest.key().distance(&self.local).as_fraction();
        ((NEIGHBOURS - 1) as f64 / reach.max(f64::MIN_POSITIVE)).max(len) + 1.0
    }
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::core::config::RoutingConfig;
    use crate::core::contact::Contact;
    use crate::core::key::Key;
    use crate::core::time::Timestamp;

    #[test]
    fn a_table_of_a_network_tells_its_size() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut ratios = Vec::new();
        for _ in 0..50 {
            let mut table = RoutingTable::new(Key::random(&mut rng), RoutingConfig::default());
            for _ in 0..2_000 {
                table.offer(Timestamp::ZERO, &Contact::with_key(PeerId::random(), Key::random(&mut rng), []));
            }
            ratios.push(table.estimated_nodes() / 2_001.0);
        }
        let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
        assert!((0.85..1.15).contains(&mean), "{mean}");
        assert!(ratios.iter().all(|ratio| (0.3..3.0).contains(ratio)), "{ratios:?}");
    }

    #[test]
    fn few_neighbours_are_counted() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut table = RoutingTable::new(Key::random(&mut rng), RoutingConfig::default());
        assert_eq!(table.estimated_nodes(), 1.0);
        for _ in 0..5 {
            table.offer(Timestamp::ZERO, &Contact::with_key(PeerId::random(), Key::random(&mut rng), []));
        }
        assert_eq!(table.estimated_nodes(), 6.0);
    }
}

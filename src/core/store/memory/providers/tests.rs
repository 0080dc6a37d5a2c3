//! Checks that all counts agree with the items.

use std::collections::BTreeMap;

use super::*;

impl ProviderTable {
    pub(in super::super) fn assert_sound(&self) {
        self.keys.assert_sound();
        let mut of_peers = BTreeMap::<Slot, (u32, u32)>::new();
        for (_, provided) in self.keys.iter() {
            assert!((1..=self.max_per_key).contains(&provided.entries.len()));
            for entry in &provided.entries {
                let (records, paid) = of_peers.entry(entry.peer).or_default();
                (*records, *paid) = (*records + 1, *paid + entry.bytes);
            }
        }
        self.peers.assert_sound(&of_peers);
        self.ledger.assert_sound(&self.all());
        let shared = self.keys.len() * KEY_OVERHEAD + self.peers.len() * PEER_OVERHEAD;
        let records = self.all().into_iter().map(|record| PROVIDER_OVERHEAD as u64 + u64::from(record.cost.bytes));
        assert_eq!(self.used(), shared as u64 + records.sum::<u64>());
    }

    pub(in super::super) fn assert_empty(&self) {
        assert_eq!(self.keys.len(), 0);
        self.ledger.assert_empty();
    }
}

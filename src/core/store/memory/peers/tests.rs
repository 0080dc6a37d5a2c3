//! Checks that all counts agree with the items.

use std::collections::BTreeMap;

use super::*;

impl ProviderPeers {
    /// Given the number of records that name each peer, and the costs that these records pay for.
    pub(in super::super) fn assert_sound(&self, of_peers: &BTreeMap<Slot, (u32, u32)>) {
        self.0.assert_sound();
        let counted: BTreeMap<_, _> = self.0.iter().map(|(slot, peer)| (slot, (peer.records, peer.paid))).collect();
        assert_eq!(counted, *of_peers);
        for (_, peer) in self.0.iter() {
            assert_eq!(affordable(peer.contact.raw_addrs(), usize::MAX).1, peer.cost);
            assert!(peer.cost <= peer.paid, "addresses are paid for");
        }
    }
}

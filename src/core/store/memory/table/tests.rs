//! Sees that each order has what the rows say.

use super::*;

impl<R: Row> Table<R> {
    pub(in super::super) fn assert_sound(&self) {
        assert_eq!(self.index.len(), self.slab.len());
        let places: BTreeSet<_> = self.iter().filter_map(|(slot, row)| Some((row.head()?, slot))).collect();
        let ends: BTreeSet<_> = self.iter().filter_map(|(slot, row)| Some((row.expires()?, slot))).collect();
        assert!(places == self.places && ends == self.ends);
        for (slot, row) in self.iter() {
            assert_eq!(self.index.find(row.hash(), |other| *other == slot), Some(&slot));
        }
    }
}

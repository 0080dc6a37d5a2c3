//! Checks that each order agrees with the rows.

use super::*;

impl<R: Row> Table<R> {
    pub(in super::super) fn assert_sound(&self) {
        assert_eq!(self.index.len(), self.slab.len());
        let places: BTreeSet<_> = self.iter().filter_map(|(slot, row)| Some((row.head()?, slot))).collect();
        let ends: BTreeSet<_> = self.iter().filter_map(|(slot, row)| Some((row.expires()?, slot))).collect();
        let mut placed = self.places.clone();
        placed.extend(self.unplaced.iter().filter_map(|slot| Some((self.get(*slot)?.head()?, *slot))));
        assert!(places == placed && ends == self.ends);
        assert!(self.places.is_subset(&places));
        for (slot, row) in self.iter() {
            let entry = (row.hash() as u32, slot);
            assert_eq!(self.index.find(spread(entry.0), |other| *other == entry), Some(&entry));
        }
    }
}

//! Checks that the sums and the orders are those of the records.

use std::fmt::Debug;

use super::*;

impl<Id: Copy + Ord + Default + Debug> Ledger<Id> {
    pub(in super::super) fn assert_sound(&self, records: &[Ranked<Id>]) {
        let mut weights = std::collections::BTreeMap::<Account, u64>::new();
        let mut total = Size::default();
        for record in records {
            total += Size { records: 1, bytes: record.cost.bytes.into() };
            let mut account = Some(record.cost.account);
            while let Some(of) = account {
                *weights.entry(of).or_default() += record.cost.shares();
                account = of.parent();
            }
        }
        assert_eq!((self.total, self.weights.iter().copied().collect()), (total, weights));
        assert!(self.total.records <= self.max_records && self.used() <= self.room);
        if let Some(order) = &self.order {
            let sound = self.order(records.to_vec());
            assert_eq!((&order.accounts, &order.records), (&sound.accounts, &sound.records));
        }
    }

    pub(in super::super) fn assert_empty(&self) {
        assert_eq!((self.total, self.weights.len(), self.order.is_none()), (Size::default(), 0, true));
    }
}

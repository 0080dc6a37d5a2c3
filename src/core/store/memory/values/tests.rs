//! Checks that all counts agree with the items.

use super::*;

impl ValueTable {
    pub(in super::super) fn assert_sound(&self) {
        self.table.assert_sound();
        self.ledger.assert_sound(&self.all());
    }

    pub(in super::super) fn assert_empty(&self) {
        assert_eq!(self.table.len(), 0);
        self.ledger.assert_empty();
    }
}

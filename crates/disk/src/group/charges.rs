//! To which of its providers a key is charged, so that no peer has many keys where another has to do with few.
//!
//! Knows: how many keys are charged to whom, and the way from the peer with the most to one of them. Must not know: what
//! for. Peers are tags, hashes under the store's seed that begin with the peer's lot.

use redb::{ReadableTable as _, StorageError};

use super::super::tables::{Place, Tag, charge_key, charge_of, charged_key, charged_of};
use super::Group;

impl Group<'_, '_> {
    pub(super) fn charged(&self, tag: &Tag) -> Result<u32, StorageError> {
        Ok(self.tables.charges.get(tag)?.map_or(0, |found| found.value()))
    }

    /// The peer with the most keys to its charge, that with the worst lot among several, and one of these keys.
    pub(super) fn most_charged(&mut self) -> Result<Option<(u32, Tag, Place)>, StorageError> {
        loop {
            let Some((most, tag)) = self.tables.charge_order.last()?.map(|(key, _)| charge_of(&key.value())) else {
                return Ok(None);
            };
            let all = charged_key(&tag, &[0; 32])..=charged_key(&tag, &[u8::MAX; 32]);
            let last = self.tables.charged_keys.range(all)?.next_back().transpose()?;
            if let Some(place) = last.map(|(key, _)| charged_of(&key.value())) {
                return Ok(Some((most, tag, place)));
            }
            // A count of nothing.
            self.tables.charge_order.remove(charge_key(most, &tag))?;
            self.tables.charges.remove(tag)?;
        }
    }

    /// Charges a key to one peer instead of another, or to nobody.
    pub(super) fn charge(&mut self, place: &Place, from: Option<Tag>, to: Option<Tag>) -> Result<(), StorageError> {
        if from == to {
            return Ok(());
        }
        if let Some(tag) = from
            && self.tables.charged_keys.remove(charged_key(&tag, place))?.is_some()
        {
            self.count_charges(&tag, |count| count.saturating_sub(1))?;
        }
        if let Some(tag) = to
            && self.tables.charged_keys.insert(charged_key(&tag, place), ())?.is_none()
        {
            self.count_charges(&tag, |count| count.saturating_add(1))?;
        }
        Ok(())
    }

    fn count_charges(&mut self, tag: &Tag, change: impl FnOnce(u32) -> u32) -> Result<(), StorageError> {
        let before = self.charged(tag)?;
        let after = change(before);
        if before > 0 {
            self.tables.charge_order.remove(charge_key(before, tag))?;
        }
        if after > 0 {
            self.tables.charge_order.insert(charge_key(after, tag), ())?;
            self.tables.charges.insert(tag, after)?;
        } else {
            self.tables.charges.remove(tag)?;
        }
        Ok(())
    }
}

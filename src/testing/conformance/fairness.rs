//! Fairness of a full store: late records have the same chance to stay as early ones.
//!
//! Knows: the contract. Must not know: how a store chooses; the checks only count which records are left.

use super::driven::announced;
use super::fixtures::{NOW, all, ok, peer, provider, provider_ids, refused, value};
use super::{Conformance, Driven};
use crate::core::ProviderRecord;
use crate::core::Timestamp;
use crate::core::store::{Item, Judge, Op, Put, Sender};

const LATER: Timestamp = Timestamp::from_secs(2_000);
/// Number of writes pending at once.
const BATCH: usize = 64;
/// Number of the first late provider.
const LATE: u64 = 1 << 32;
/// Number of addresses, each of 25 bytes, of a peer with many.
const MANY: usize = 24;

impl Conformance<'_> {
    /// "each sender pays for its records": records of other peers stay while one peer floods the store.
    pub fn a_flood_leaves_what_others_sent(&mut self) {
        let mut store = self.fresh();
        let sent = |name: &str, n: usize, by: u64| {
            let mut record = value(&format!("/{name}/{n}"), b"theirs", false);
            record.expires = Some(LATER);
            Op::Put(Box::new(Put::new(record, Judge::of_the_last()).from(Sender::new(peer(by)))))
        };
        write_all(&mut store, (0..32).map(|n| sent("honest", n, 1)));
        write_all(&mut store, (0..self.flood).map(|n| sent("flood", n, 2)));
        for n in 0..32 {
            let found = ok(store.get(NOW, &format!("/honest/{n}").as_str().into()), "a value can be read");
            assert!(found.is_some(), "a flood from one peer leaves what another sent: /honest/{n}");
        }
    }

    /// Late values have the same chance to stay as early ones.
    pub fn late_values_have_their_chance(&mut self) {
        let mut store = self.fresh();
        for when in ["early", "late"] {
            let records = (0..self.flood).map(|n| {
                let mut record = value(&format!("/{when}/{n}"), b"theirs", false);
                record.expires = Some(LATER);
                record
            });
            write_all(&mut store, records.map(|record| Op::Put(Box::new(Put::new(record, Judge::of_the_last())))));
        }
        self.share_of_late(&mut store, "values", b"/early", 128);
    }

    /// The same for keys, each of which has one provider, and each provider one key.
    pub fn late_keys_have_their_chance(&mut self) {
        let mut store = self.fresh();
        for (when, first) in [("early", 0), ("late", LATE)] {
            let records = (0..self.flood as u64).map(|n| provider(format!("{when} {n}"), first + n, LATER, false));
            write_all(&mut store, records.map(announced));
        }
        self.share_of_late(&mut store, "keys with providers", b"early", 16);
    }

    /// The same for the providers of one key. With room for 20, one in a million fair stores fails.
    pub fn late_providers_of_a_key_have_their_chance(&mut self) {
        let mut store = self.fresh();
        for first in [0, LATE] {
            let records = (0..self.flood as u64).map(|n| provider("content", first + n, LATER, false));
            write_all(&mut store, records.map(announced));
        }
        let kept = provider_ids(&mut store, NOW, "content");
        let late = (0..self.flood as u64).map(|n| provider("content", LATE + n, LATER, false));
        let late = late.filter(|record| kept.contains(record.provider.peer())).count();
        let (all, early) = (kept.len(), kept.len() - late);
        assert!(all >= 8.min(2 * self.flood), "a full store keeps as many as it has room for: {all} of one key");
        assert!(
            all < 16 || (early > 0 && late > 0),
            "late providers of a key have the chance of early ones: {early} early and {late} late ones are kept"
        );
    }

    /// The same for addresses: as many providers as each store has room for, with more addresses than it may have room
    /// for. One in a million fair stores fails.
    pub fn late_addresses_have_their_chance(&mut self) {
        let mut store = self.fresh();
        for first in [0, LATE] {
            let records = (first..first + 64).map(|n| well_known(format!("content {}", n / 8), n));
            write_all(&mut store, records.map(announced));
        }
        let (mut peers, mut early, mut late) = (0, 0, 0_usize);
        for n in (0..64).chain(LATE..LATE + 64) {
            let found =
                ok(store.providers(NOW, &format!("content {}", n / 8).as_str().into()), "providers can be read");
            let found = found.iter().find(|record| *record.provider.peer() == peer(n));
            let count = found.map_or(0, |record| record.provider.raw_addrs().count());
            peers += u32::from(count > 0);
            *(if n < LATE { &mut early } else { &mut late }) += count;
        }
        assert!(early + late > 0, "a store keeps as many addresses as it has room for: none");
        // Five standard deviations of as many throws of a coin, if all or none of each provider's addresses are kept.
        let most_apart = 5.0 * f64::from(peers).sqrt() * MANY as f64;
        assert!(
            (early.abs_diff(late) as f64) <= most_apart,
            "late addresses have the chance of early ones: {early} early and {late} late ones are kept"
        );
    }

    /// The share of late records. As many early as late records were written, so about half of those that are kept are
    /// late; and as many are kept as each store has room for.
    fn share_of_late(&self, store: &mut Driven<'_>, what: &str, early_begins: &[u8], room: usize) {
        let kept: Vec<Item> = all(store);
        let least = room.min(2 * self.flood);
        assert!(kept.len() >= least, "a full store keeps as many as it has room for: {} {what}", kept.len());
        let early = kept.iter().filter(|item| item.key().as_bytes().starts_with(early_begins)).count();
        let late = kept.len() - early;
        // Five standard deviations of as many throws of a coin.
        let most_apart = 5.0 * (kept.len() as f64).sqrt();
        assert!(
            kept.len() == 2 * self.flood || (early.abs_diff(late) as f64) <= most_apart,
            "late {what} have the chance of early ones: {early} early and {late} late ones are kept"
        );
    }
}

/// A record of a peer with many addresses.
fn well_known(key: impl AsRef<[u8]>, n: u64) -> ProviderRecord {
    let mut record = provider(key, n, LATER, false);
    let name = "a".repeat(20);
    let addrs = (0..MANY).filter_map(|port| format!("/dns4/{name}/tcp/{port}").parse::<multiaddr::Multiaddr>().ok());
    record.provider = crate::core::Contact::new(peer(n), addrs);
    record
}

/// Writes many records, some at a time; each write may be refused.
fn write_all(store: &mut Driven<'_>, ops: impl Iterator<Item = Op>) {
    let mut ops = ops.peekable();
    while ops.peek().is_some() {
        let under_way: Vec<_> = ops.by_ref().take(BATCH).map(|op| store.begin(NOW, op)).collect();
        for ticket in under_way {
            refused(store.ended(ticket).map(drop));
        }
    }
}

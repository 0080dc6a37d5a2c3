//! The checks of reopening, on a store that pretends to outlive its process, and on such stores with faults.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::task::Waker;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::conformance::Conformance;
use libp2p_kad_dht::core::store::deferred::DeferredStore;
use libp2p_kad_dht::core::store::{Done, Item, Read, Scan, Usage, Write};
use libp2p_kad_dht::core::{
    Contact, Key, MemoryStore, MemoryStoreConfig, ProviderRecord, Record, RecordKey, Store, StoreError, Timestamp,
};

/// What outlives the process.
struct Disk {
    records: MemoryStore,
    peers: Vec<Arc<Contact>>,
}

/// A store whose disk stays when it is dropped.
struct Durable(Arc<Mutex<Disk>>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    Everything,
    OneValue,
    OneProvider,
    Own,
    Announced,
    Publisher,
    Sequences,
    Peers,
    AddressExpiry,
    Addresses,
    SomePeers,
}

impl Loss {
    const ALL: [Loss; 11] = [
        Loss::Everything,
        Loss::OneValue,
        Loss::OneProvider,
        Loss::Own,
        Loss::Announced,
        Loss::Publisher,
        Loss::Sequences,
        Loss::Peers,
        Loss::AddressExpiry,
        Loss::Addresses,
        Loss::SomePeers,
    ];
}

fn empty() -> MemoryStore {
    MemoryStore::new(MemoryStoreConfig::default(), [5; 32])
}

impl Disk {
    fn new() -> Arc<Mutex<Disk>> {
        Arc::new(Mutex::new(Disk { records: empty(), peers: Vec::new() }))
    }

    /// Loses something between closing and opening.
    fn lose(&mut self, loss: Loss) {
        match loss {
            Loss::Peers => self.peers.clear(),
            Loss::SomePeers => self.peers.truncate(10),
            _ => {}
        }
        let Ok(Read::Ready(items)) = self.records.scan(Scan::All, None, usize::MAX) else { unreachable!() };
        if !matches!(loss, Loss::Peers | Loss::SomePeers) {
            // The rest is written anew; what is over is not remembered then, which only one of these is to show.
            self.records = empty();
        }
        let (mut values, mut providers) = (0, 0);
        for item in items {
            match item {
                Item::Value(mut record) => {
                    values += 1;
                    match loss {
                        Loss::OneValue if values == 3 => continue,
                        Loss::Everything => continue,
                        Loss::Own => record.own = false,
                        Loss::Announced => record.announced = None,
                        Loss::Publisher => record.publisher = None,
                        _ => {}
                    }
                    self.records.put(Timestamp::ZERO, record).unwrap();
                }
                Item::Provider(mut record) => {
                    providers += 1;
                    match loss {
                        Loss::OneProvider if providers == 3 => continue,
                        Loss::Everything => continue,
                        Loss::Own => record.own = false,
                        Loss::Announced => record.announced = None,
                        Loss::AddressExpiry => record.addrs_expire = record.expires,
                        Loss::Addresses => record.provider = record.provider.with_addrs([]),
                        _ => {}
                    }
                    self.records.add_provider(Timestamp::ZERO, record).unwrap();
                }
                _ => unreachable!("no third kind"),
            }
        }
    }
}

impl Durable {
    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }
}

impl Store for Durable {
    fn get(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<Record>>, StoreError> {
        self.disk().records.get(now, key)
    }

    fn put(&mut self, now: Timestamp, record: Record) -> Result<Write, StoreError> {
        self.disk().records.put(now, record)
    }

    fn remove(&mut self, key: &RecordKey) -> Result<Write, StoreError> {
        self.disk().records.remove(key)
    }

    fn providers(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Vec<ProviderRecord>>, StoreError> {
        self.disk().records.providers(now, key)
    }

    fn add_provider(&mut self, now: Timestamp, record: ProviderRecord) -> Result<Write, StoreError> {
        self.disk().records.add_provider(now, record)
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) -> Result<Write, StoreError> {
        self.disk().records.remove_provider(key, provider)
    }

    fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Read<Vec<Item>>, StoreError> {
        self.disk().records.scan(what, after, limit)
    }

    fn sequence(&mut self, now: Timestamp, key: &RecordKey) -> Result<Read<Option<u64>>, StoreError> {
        self.disk().records.sequence(now, key)
    }

    fn keeps_peers(&self) -> bool {
        true
    }

    fn save_peers(&mut self, peers: Vec<Arc<Contact>>) -> Result<Write, StoreError> {
        self.disk().peers = peers;
        Ok(Write::Kept)
    }

    fn saved_peers(&mut self) -> Result<Read<Vec<Arc<Contact>>>, StoreError> {
        Ok(Read::Ready(self.disk().peers.clone()))
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<Read<usize>, StoreError> {
        self.disk().records.expire(now, limit)
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.disk().records.next_expiry()
    }

    fn usage(&self) -> Usage {
        self.disk().records.usage()
    }

    fn poll_done(&mut self, _: &Waker) -> Option<Done> {
        None
    }
}

/// Runs all checks on durable stores, each of them answering after so many polls, with a loss at each reopening.
fn check(polls: Option<usize>, loss: Option<Loss>) {
    let disk = RefCell::new(Disk::new());
    let open = || -> Box<dyn Store> {
        let store = Durable(Arc::clone(&disk.borrow()));
        match polls {
            Some(polls) => Box::new(DeferredStore::automatic(store, polls).0),
            None => Box::new(store),
        }
    };
    let make = || {
        *disk.borrow_mut() = Disk::new();
        open()
    };
    let reopen = |store: Box<dyn Store>| {
        drop(store);
        if let Some(loss) = loss {
            disk.borrow().lock().unwrap().lose(loss);
        }
        open()
    };
    Conformance::new(make).with_reopen(reopen).check_all();
}

#[test]
fn a_store_that_outlives_its_process_conforms() {
    check(None, None);
}

#[test]
fn a_durable_store_that_answers_later_conforms() {
    for polls in [1, 3] {
        check(Some(polls), None);
    }
}

#[test]
fn the_checks_of_reopening_catch_each_loss() {
    for loss in Loss::ALL {
        let run = || check(None, Some(loss));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        let why = caught.expect_err(&format!("{loss:?} passes"));
        let why = why.downcast_ref::<String>().cloned().unwrap_or_default();
        let sentence = match loss {
            Loss::Sequences => "remembers sequences",
            Loss::Peers | Loss::SomePeers => "has the peers that were saved last",
            _ => "has every record",
        };
        assert!(why.contains(sentence), "{loss:?} is caught by the check that is meant for it: {why}");
    }
}

//! The checks of reopening, on a store that pretends to outlive its process, and on such stores with faults.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use libp2p_kad_dht::core::store::{Done, Item, Op, OpOutput, Scan, StoreExt as _, Ticket, Usage};
use libp2p_kad_dht::core::{Contact, MemoryStore, MemoryStoreConfig, Store, Timestamp};
use libp2p_kad_dht::testing::conformance::Conformance;
use libp2p_kad_dht::testing::deferred::DeferredStore;

/// The state that outlives the process.
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
        let items = self.records.scan(Scan::All, None, usize::MAX).unwrap();
        if !matches!(loss, Loss::Peers | Loss::SomePeers) {
            // The rest is written again; expired sequence numbers are not remembered then, which only one of the faults
            // should show.
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
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
        Some(match op {
            Op::SavePeers(peers) => {
                self.disk().peers = peers;
                Ok(OpOutput::Nothing)
            }
            Op::SavedPeers => Ok(OpOutput::Peers(self.disk().peers.clone())),
            op => return self.disk().records.run(now, ticket, op),
        })
    }

    fn keeps_peers(&self) -> bool {
        true
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.disk().records.next_expiry()
    }

    fn usage(&self) -> Usage {
        self.disk().records.usage()
    }
}

/// Runs all checks on durable stores, each of which answers after `polls` polls, with a loss at each reopening.
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
            Loss::Sequences => "remembers sequence numbers",
            Loss::Peers | Loss::SomePeers => "has the peers that were saved last",
            _ => "has every record",
        };
        assert!(why.contains(sentence), "{loss:?} is caught by the check that is meant for it: {why}");
    }
}

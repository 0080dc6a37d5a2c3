//! Stores from the outside: the conformance tests on each of them, any order of operations against a naive model, and
//! floods that reach each bound of the memory store.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "stores/durable.rs"]
mod durable;
#[path = "stores/fair.rs"]
mod fair;
#[path = "stores/flood.rs"]
mod flood;
#[path = "stores/model.rs"]
mod model;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use libp2p_kad_dht::core::store::{Done, Item, Judge, Op, OpOutput, Put, Scan, Sender, StoreExt as _, Ticket, Usage};
use libp2p_kad_dht::core::{
    Contact, Key, MemoryStore, MemoryStoreConfig, ProviderRecord, Record, RecordKey, Store, StoreError, Timestamp,
};
use libp2p_kad_dht::testing::conformance::{self, Conformance};
use libp2p_kad_dht::testing::deferred::DeferredStore;
use libp2p_kad_dht::{AskingStore, Verdict, VerdictConfig};

const NOW: Timestamp = Timestamp::from_secs(1_000);

/// Small enough for a flood to reach each bound.
fn small() -> MemoryStore {
    let mut config = MemoryStoreConfig::default();
    config.max_values = 200;
    config.max_providers = 400;
    config.max_bytes = 400_000;
    MemoryStore::new(config, [7; 32])
}

#[test]
fn the_memory_store_conforms() {
    conformance::check(|| Box::new(small()));
}

#[test]
fn the_default_memory_store_conforms() {
    conformance::check(|| Box::new(MemoryStore::new(MemoryStoreConfig::default(), [0; 32])));
}

#[test]
fn a_deferred_store_conforms_by_itself() {
    for polls in [0, 1, 3] {
        conformance::check(|| Box::new(DeferredStore::automatic(small(), polls).0));
    }
}

#[test]
fn a_deferred_store_conforms_when_released_one_by_one() {
    let control = Rc::new(RefCell::new(None));
    let make = || {
        let (store, its_control) = DeferredStore::new(small());
        *control.borrow_mut() = Some(its_control);
        Box::new(store) as Box<dyn Store>
    };
    let pump = || {
        if let Some(control) = control.borrow_mut().as_mut() {
            control.release(1);
        }
    };
    Conformance::new(make).with_pump(pump).check_all();
}

#[test]
fn a_store_that_asks_conforms_once_all_is_accepted() {
    for polls in [0, 3] {
        conformance::check(|| {
            let mut config = VerdictConfig::default();
            config.otherwise = Verdict::Accept;
            // The offers are dropped, so no reader decides them.
            Box::new(AskingStore::new(DeferredStore::automatic(small(), polls).0, config).0)
        });
    }
}

#[test]
fn a_deferred_store_can_wrap_another() {
    conformance::check(|| Box::new(DeferredStore::automatic(DeferredStore::automatic(small(), 2).0, 3).0));
}

/// The suite is worth nothing if a broken store passes it.
#[test]
fn the_conformance_tests_catch_broken_stores() {
    for fault in Fault::ALL {
        let run = || conformance::check(|| Box::new(Broken::new(fault)));
        let quiet = std::panic::AssertUnwindSafe(run);
        let Err(panic) = std::panic::catch_unwind(quiet) else { panic!("{fault:?} passes") };
        let text = panic.downcast::<String>().map_or_else(|_| String::new(), |text| *text);
        let unfair = matches!(
            fault,
            Fault::FirstValuesStay
                | Fault::FirstKeysStay
                | Fault::FirstProvidersStay
                | Fault::LastValuesStay
                | Fault::FirstAddressesStay
        );

        assert!(!unfair || text.contains("have the chance of early ones"), "{fault:?} is caught by accident: {text}");
    }
}

/// A store that keeps no records treats late ones like early ones, and still is not fair.
#[test]
fn a_store_that_gives_up_when_it_is_full_is_not_fair() {
    let fair: [fn(&mut Conformance<'_>); 3] = [
        |c| c.late_values_have_their_chance(),
        |c| c.late_keys_have_their_chance(),
        |c| c.late_providers_of_a_key_have_their_chance(),
    ];
    for check in fair {
        let mut suite = Conformance::new(|| Box::new(Broken::new(Fault::GivesUpWhenFull)));
        let run = std::panic::AssertUnwindSafe(|| check(&mut suite));
        let Err(panic) = std::panic::catch_unwind(run) else { panic!("a store that keeps nothing passes") };
        let text = panic.downcast::<String>().map_or_else(|_| String::new(), |text| *text);
        assert!(text.contains("keeps as many as it has room for"), "it is caught by accident: {text}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    ForgetsWrites,
    ReturnsExpired,
    EvictsOwn,
    SplitsPages,
    SkipsAfter,
    ReportsTwice,
    NeverReports,
    ForgetsAnOldValueOnFailure,
    LeaksExpiry,
    NeverWakes,
    ServesOldAddresses,
    TakesOwnForRemote,
    ScansEverything,
    ScansRemoteValuesAlone,
    ScansOwnValuesAlone,
    EndsPagesEarly,
    ForgetsAnnouncementsOfValues,
    ForgetsAnnouncementsOfProviders,
    ForgetsSequences,
    NeverKnewSequences,
    ForgetsSequencesTooSoon,
    RemembersTheLastSequence,
    ForgetsRemovedSequences,
    KeepsTheFirstPeers,
    AddsUpPeers,
    KeepsFewPeers,
    DeniesItsPeers,
    PromisesPeers,
    FirstValuesStay,
    FirstKeysStay,
    FirstProvidersStay,
    LastValuesStay,
    FirstAddressesStay,
    GivesUpWhenFull,
    IgnoresTheJudge,
    NeverTouches,
    TouchesWhatIsGone,
}

impl Fault {
    const ALL: [Fault; 36] = [
        Fault::ForgetsWrites,
        Fault::ReturnsExpired,
        Fault::EvictsOwn,
        Fault::SplitsPages,
        Fault::SkipsAfter,
        Fault::ReportsTwice,
        Fault::NeverReports,
        Fault::ForgetsAnOldValueOnFailure,
        Fault::LeaksExpiry,
        Fault::NeverWakes,
        Fault::ServesOldAddresses,
        Fault::TakesOwnForRemote,
        Fault::ScansEverything,
        Fault::ScansRemoteValuesAlone,
        Fault::ScansOwnValuesAlone,
        Fault::EndsPagesEarly,
        Fault::ForgetsAnnouncementsOfValues,
        Fault::ForgetsAnnouncementsOfProviders,
        Fault::ForgetsSequences,
        Fault::NeverKnewSequences,
        Fault::ForgetsSequencesTooSoon,
        Fault::RemembersTheLastSequence,
        Fault::ForgetsRemovedSequences,
        Fault::KeepsTheFirstPeers,
        Fault::AddsUpPeers,
        Fault::KeepsFewPeers,
        Fault::DeniesItsPeers,
        Fault::PromisesPeers,
        Fault::FirstValuesStay,
        Fault::FirstKeysStay,
        Fault::FirstProvidersStay,
        Fault::LastValuesStay,
        Fault::FirstAddressesStay,
        Fault::IgnoresTheJudge,
        Fault::NeverTouches,
        Fault::TouchesWhatIsGone,
    ];
}

/// A memory store with one fault.
struct Broken {
    inner: MemoryStore,
    fault: Fault,
    done: Vec<(Ticket, Done)>,
    /// Number of polls without a result.
    dry: usize,
    peers: Vec<Arc<Contact>>,
    /// The sequence number written last under each key.
    last: BTreeMap<RecordKey, Option<u64>>,
    removed: BTreeSet<RecordKey>,
    /// The keys of remote values in the order in which they came.
    queue: VecDeque<RecordKey>,
    /// The bytes of all addresses that came.
    addr_bytes: usize,
    gave_up: bool,
}

impl Broken {
    fn new(fault: Fault) -> Broken {
        let (done, peers, last, removed) = (Vec::new(), Vec::new(), BTreeMap::new(), BTreeSet::new());
        let (queue, addr_bytes, gave_up) = (VecDeque::new(), 0, false);
        Broken { inner: small(), fault, done, dry: 0, peers, last, removed, queue, addr_bytes, gave_up }
    }

    /// Whether a store that keeps the first to come refuses this value, and one that keeps the last to come has made
    /// room.
    fn goes_by_arrival(&mut self, now: Timestamp, record: &Record) -> bool {
        let known = matches!(self.inner.get(now, &record.key), Ok(Some(_)));
        let full = !record.own && !known && self.inner.usage().values >= 200;
        if full && self.fault == Fault::LastValuesStay {
            while self.inner.usage().values >= 200
                && let Some(first) = self.queue.pop_front()
            {
                let _ = self.inner.remove(&first);
            }
        }
        if !record.own && !known {
            self.queue.push_back(record.key.clone());
        }
        full && self.fault == Fault::FirstValuesStay
    }

    /// Whether a store that forgets all remote records when it is full, and accepts no more, refuses this one.
    fn gives_up(&mut self, full: bool) -> bool {
        if full && self.fault == Fault::GivesUpWhenFull {
            let items = self.inner.scan(Scan::All, None, usize::MAX).unwrap();
            for item in items.into_iter().filter(|item| !item.is_own()) {
                let _ = match item {
                    Item::Provider(record) => self.inner.remove_provider(&record.key, record.provider.peer()),
                    item => self.inner.remove(item.key()),
                };
            }
            self.gave_up = true;
        }
        self.gave_up
    }

    fn refuses_the_late(&mut self, now: Timestamp, record: &ProviderRecord) -> bool {
        if !matches!(self.fault, Fault::FirstKeysStay | Fault::FirstProvidersStay) {
            return false;
        }
        let Ok(known) = self.inner.providers(now, &record.key) else { return false };
        let remote = known.iter().filter(|known| !known.own);
        let again = remote.clone().any(|known| known.provider.peer() == record.provider.peer());
        !record.own
            && match self.fault {
                Fault::FirstKeysStay => known.is_empty() && self.inner.usage().providers >= 300,
                Fault::FirstProvidersStay => !again && remote.count() >= 20,
                _ => false,
            }
    }
}

impl Store for Broken {
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
        Some(match op {
            Op::Get(key) => {
                let now = if self.fault == Fault::ReturnsExpired { Timestamp::ZERO } else { now };
                self.inner.get(now, &key).map(OpOutput::Value)
            }
            Op::Put(put) => return self.put(now, ticket, *put),
            Op::Touch(item, at) => self.touch(now, item, at),
            Op::Remove(key) => {
                self.removed.insert(key.clone());
                self.inner.remove(&key).map(|()| OpOutput::Nothing)
            }
            Op::AddProvider(record, from) => self.add_provider(now, ticket, *record, from),
            Op::Scan { what, after, limit } => self.scan(what, after.as_ref(), limit).map(OpOutput::Items),
            Op::SavePeers(peers) => {
                self.save_peers(peers);
                Ok(OpOutput::Nothing)
            }
            Op::SavedPeers => Ok(OpOutput::Peers(self.peers.clone())),
            Op::Expire { .. } if self.fault == Fault::LeaksExpiry => Ok(OpOutput::Expired(0)),
            op => return self.inner.run(now, ticket, op),
        })
    }

    fn keeps_peers(&self) -> bool {
        use Fault::{AddsUpPeers, DeniesItsPeers, KeepsFewPeers, KeepsTheFirstPeers, PromisesPeers};
        match self.fault {
            DeniesItsPeers => false,
            fault => matches!(fault, KeepsTheFirstPeers | AddsUpPeers | KeepsFewPeers | PromisesPeers),
        }
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        self.inner.next_expiry()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn poll_done(&mut self, _: &Waker) -> Option<(Ticket, Done)> {
        if self.dry > 0 {
            self.dry -= 1;
            return None;
        }
        self.done.pop()
    }
}

impl Broken {
    fn put(&mut self, now: Timestamp, ticket: Ticket, mut put: Put) -> Option<Done> {
        let record = &mut put.record;
        record.own &= self.fault != Fault::EvictsOwn;
        if !record.own && self.gives_up(self.inner.usage().values >= 200) {
            return Some(Err(StoreError::Full));
        }
        let by_arrival = matches!(self.fault, Fault::FirstValuesStay | Fault::LastValuesStay);
        if by_arrival && self.goes_by_arrival(now, &put.record.clone()) {
            return Some(Err(StoreError::Full));
        }
        let record = &mut put.record;
        match self.fault {
            Fault::ForgetsAnnouncementsOfValues => record.announced = None,
            Fault::NeverKnewSequences => record.sequence = None,
            Fault::IgnoresTheJudge => put.judge = Judge::of_the_last(),
            _ => {}
        }
        let (key, sequence) = (put.record.key.clone(), put.record.sequence);
        let done = match self.fault {
            Fault::ForgetsWrites => Ok(OpOutput::Kept { superseded: false }),
            _ => self.judged(now, ticket, put),
        };
        self.last.insert(key.clone(), sequence);
        self.removed.remove(&key);
        match self.fault {
            Fault::ForgetsAnOldValueOnFailure if done.is_err() => drop(self.inner.remove(&key)),
            Fault::NeverReports => return None,
            Fault::NeverWakes => {
                (self.done, self.dry) = (vec![(ticket, done)], 1);
                return None;
            }
            Fault::ReportsTwice => {
                self.done = vec![(ticket, done.clone()), (ticket, done)];
                return None;
            }
            _ => {}
        }
        Some(done)
    }

    /// Lets the inner store judge; some faults keep a value that it refuses as older than a removed one.
    fn judged(&mut self, now: Timestamp, ticket: Ticket, mut put: Put) -> Done {
        let soon = self.fault == Fault::ForgetsSequencesTooSoon;
        let judged_at = if soon { now + std::time::Duration::from_micros(1) } else { now };
        let (key, sequence) = (put.record.key.clone(), put.record.sequence);
        let done = self.inner.run(judged_at, ticket, Op::Put(Box::new(put.clone()))).unwrap();
        let gone = matches!(self.inner.get(now, &key), Ok(None));
        let forgets = match self.fault {
            Fault::ForgetsSequences => true,
            Fault::RemembersTheLastSequence => self.last.get(&key).copied().flatten() <= sequence,
            Fault::ForgetsRemovedSequences => self.removed.contains(&key),
            _ => false,
        };
        if gone && forgets && matches!(done, Err(StoreError::Old)) {
            put.record.sequence = None;
            return self.inner.run(now, ticket, Op::Put(Box::new(put))).unwrap();
        }
        done
    }

    fn touch(&mut self, now: Timestamp, item: Item, at: Timestamp) -> Done {
        match (self.fault, item) {
            (Fault::NeverTouches, _) => Ok(OpOutput::Nothing),
            (Fault::TouchesWhatIsGone, Item::Value(mut record)) => {
                (record.announced, record.received) = (record.own.then_some(at), record.received.max(at));
                self.inner.put(now, record).map(|()| OpOutput::Nothing)
            }
            (_, item) => self.inner.run(now, Ticket::new(0), Op::Touch(item, at)).unwrap(),
        }
    }

    fn add_provider(
        &mut self,
        now: Timestamp,
        ticket: Ticket,
        mut record: ProviderRecord,
        from: Option<Sender>,
    ) -> Done {
        if self.refuses_the_late(now, &record) || (!record.own && self.gives_up(self.inner.usage().providers >= 20)) {
            return Err(StoreError::Full);
        }
        self.addr_bytes += record.provider.raw_addrs().map(|addr| 2 * addr.len() + 48).sum::<usize>();
        if self.fault == Fault::FirstAddressesStay && self.addr_bytes > 150_000 {
            record.provider = record.provider.with_addrs([]);
        }
        match self.fault {
            Fault::ServesOldAddresses => record.addrs_expire = Timestamp::MAX,
            Fault::TakesOwnForRemote => record.own = false,
            Fault::ForgetsAnnouncementsOfProviders => record.announced = None,
            _ => {}
        }
        self.inner.run(now, ticket, Op::AddProvider(Box::new(record), from)).unwrap()
    }

    fn save_peers(&mut self, peers: Vec<Arc<Contact>>) {
        match self.fault {
            Fault::KeepsTheFirstPeers if self.peers.is_empty() => self.peers = peers,
            Fault::AddsUpPeers => self.peers.extend(peers),
            Fault::KeepsFewPeers => self.peers = peers.into_iter().take(20).collect(),
            Fault::DeniesItsPeers => self.peers = peers,
            _ => {}
        }
    }

    fn scan(&mut self, what: Scan, after: Option<&Key>, limit: usize) -> Result<Vec<Item>, StoreError> {
        let after = after.filter(|_| self.fault != Fault::SkipsAfter);
        let kind = |item: &Item| match self.fault {
            Fault::ScansEverything => true,
            Fault::ScansRemoteValuesAlone => what.wants(item) && (what == Scan::Own || !item.is_own()),
            Fault::ScansOwnValuesAlone => what.wants(item) && (what == Scan::Values || matches!(item, Item::Value(_))),
            _ => what.wants(item),
        };
        match self.fault {
            // A filter over pages of everything: a page with little of this kind looks like the last one.
            Fault::EndsPagesEarly if what != Scan::All => {
                let items = self.inner.scan(Scan::All, after, limit)?;
                Ok(items.into_iter().filter(|item| what.wants(item)).collect())
            }
            Fault::ScansEverything | Fault::ScansRemoteValuesAlone | Fault::ScansOwnValuesAlone
                if what != Scan::All =>
            {
                let items = self.inner.scan(Scan::All, after, usize::MAX)?;
                Ok(items.into_iter().filter(kind).take(limit).collect())
            }
            Fault::SplitsPages => {
                let mut items = self.inner.scan(what, after, limit)?;
                items.truncate(limit);
                Ok(items)
            }
            _ => self.inner.scan(what, after, limit),
        }
    }
}

/// Counts how many times it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Begins an operation of a store that answers later.
fn begin(store: &mut impl Store, ticket: u64, op: Op) -> Ticket {
    let ticket = Ticket::new(ticket);
    assert!(store.run(NOW, ticket, op).is_none(), "it takes its time");
    ticket
}

fn put(key: &str, value: &'static str) -> Op {
    Op::Put(Box::new(Put::new(Record::new(key, value, NOW), Judge::of_the_last())))
}

#[test]
fn the_control_decides_when_in_which_order_and_how_operations_end() {
    let (mut store, mut control) = DeferredStore::new(small());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let key = RecordKey::from("/a/b");
    let first = begin(&mut store, 1, put("/a/b", "1"));
    let second = begin(&mut store, 2, put("/a/b", "2"));
    let read = begin(&mut store, 3, Op::Get("/a/c".into()));
    let last = begin(&mut store, 4, Op::Get(key.clone()));
    assert_eq!(control.waiting(), 4);
    assert!(store.poll_done(&waker).is_none(), "nothing ends before it is released");
    assert_eq!(store.usage().values, 0, "nothing is performed before it is released");

    control.release_at(2);
    assert_eq!(woken.0.load(Ordering::SeqCst), 1, "a release wakes");
    let Some((ticket, Ok(OpOutput::Value(None)))) = store.poll_done(&waker) else { panic!("it overtakes the writes") };
    assert_eq!(ticket, read);
    control.fail_next(StoreError::Failed);
    control.release_at(2);
    control.release(5);
    let ends: Vec<_> = std::iter::from_fn(|| store.poll_done(&waker)).collect();
    let [(a, Err(StoreError::Failed)), (b, Ok(OpOutput::Kept { .. })), (c, Ok(OpOutput::Value(Some(_))))] = &ends[..]
    else {
        panic!("one fails, one is kept: {ends:?}")
    };
    assert_eq!((*a, *b, *c), (first, second, last), "what concerns one key keeps its order");
    assert_eq!(store.inner().usage().values, 1);
    assert!(store.poll_done(&waker).is_none(), "each ticket once");

    control.refuse_next(StoreError::Full);
    assert_eq!(store.remove(&key).err(), Some(StoreError::Full));
    assert_eq!(control.waiting(), 0);
}

#[test]
fn an_automatic_store_counts_polls_and_wakes_until_it_is_done() {
    let (mut store, _control) = DeferredStore::automatic(small(), 3);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let ticket = begin(&mut store, 1, put("/a/b", "1"));
    assert!(store.poll_done(&waker).is_none() && store.poll_done(&waker).is_none());
    assert_eq!(woken.0.load(Ordering::SeqCst), 2, "it asks to be polled again");
    assert!(matches!(store.poll_done(&waker), Some((t, Ok(OpOutput::Kept { .. }))) if t == ticket));
    assert!(store.poll_done(&waker).is_none());
    assert_eq!(woken.0.load(Ordering::SeqCst), 2, "it rests when nothing waits");
}

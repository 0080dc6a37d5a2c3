//! The tests that every [`Store`] must pass, to be called from a store's own tests.
//!
//! Knows: the contract of the trait, sentence by sentence. Must not know: how a store keeps its promises. Each check
//! makes a fresh store and panics with the sentence that is broken.

mod checks;
mod driven;
mod fairness;
mod fixtures;
mod remembering;
mod reopening;

pub use driven::Driven;

use crate::core::store::Store;

/// Default of [`Conformance::with_polls`]: number of times that a pending operation is polled before it counts as lost.
/// Source: 10 s for a store that takes 1 ms between two polls.
pub const DEFAULT_POLLS: usize = 10_000;
/// Default of [`Conformance::with_flood`]: number of remote records written to fill a store. Source: enough to fill a
/// store made small for the purpose, and quick even if each record is a write to a disk.
pub const DEFAULT_FLOOD: usize = 2_000;

/// Runs all checks on the stores that `make` makes, each of them empty.
///
/// A store with threads needs [`Conformance::with_pump`].
///
/// # Panics
///
/// If a sentence of the contract is broken; the message names it.
pub fn check(make: impl FnMut() -> Box<dyn Store>) {
    Conformance::new(make).check_all();
}

/// Closes a store and opens it again.
type Reopen<'a> = dyn FnMut(Box<dyn Store>) -> Box<dyn Store> + 'a;

/// The checks one by one, and the way to drive a store that answers later.
pub struct Conformance<'a> {
    make: Box<dyn FnMut() -> Box<dyn Store> + 'a>,
    pump: std::rc::Rc<std::cell::RefCell<dyn FnMut() + 'a>>,
    reopen: Option<Box<Reopen<'a>>>,
    polls: usize,
    flood: usize,
    without: Vec<&'static str>,
}

impl<'a> Conformance<'a> {
    /// Checks for the stores that `make` makes. It is called once or several times a check; each store is empty and
    /// has room for at least 128 remote values and as many remote provider records, 8 a key.
    pub fn new(make: impl FnMut() -> Box<dyn Store> + 'a) -> Conformance<'a> {
        Conformance {
            make: Box::new(make),
            pump: std::rc::Rc::new(std::cell::RefCell::new(|| {})),
            reopen: None,
            polls: DEFAULT_POLLS,
            flood: DEFAULT_FLOOD,
            without: Vec::new(),
        }
    }

    /// Sets what to do between two polls of a pending operation: sleep for a millisecond if the store has a thread,
    /// release an operation if the store waits for the test.
    #[must_use]
    pub fn with_pump(mut self, pump: impl FnMut() + 'a) -> Conformance<'a> {
        self.pump = std::rc::Rc::new(std::cell::RefCell::new(pump));
        self
    }

    /// Sets how to close a store that outlives its process, and how to open it again from where it kept everything. The
    /// function gets the store that was made last; every operation of it has ended. Without it the checks of reopening
    /// pass without a check.
    #[must_use]
    pub fn with_reopen(mut self, reopen: impl FnMut(Box<dyn Store>) -> Box<dyn Store> + 'a) -> Conformance<'a> {
        self.reopen = Some(Box::new(reopen));
        self
    }

    /// Sets how many times a pending operation is polled before it counts as lost. Default: [`DEFAULT_POLLS`].
    #[must_use]
    pub fn with_polls(mut self, polls: usize) -> Conformance<'a> {
        self.polls = polls;
        self
    }

    /// Sets how many remote records are written, unless the store is full before, to check that own ones still find
    /// room; and how many early and late ones each, to check which of them stay. Default: [`DEFAULT_FLOOD`]. Use more
    /// than the store's bounds for a meaningful check.
    #[must_use]
    pub fn with_flood(mut self, records: usize) -> Conformance<'a> {
        self.flood = records;
        self
    }

    /// Leaves a check out, by its name in [`Conformance::CHECKS`]. A store decides itself which records a full store
    /// evicts, so the checks that begin with `late_` and `a_flood_leaves_what_others_sent` are for those that keep to
    /// [the rule of eviction](crate::core::store::eviction).
    #[must_use]
    pub fn without(mut self, check: &'static str) -> Conformance<'a> {
        self.without.push(check);
        self
    }

    /// Runs all checks except those that are left out.
    ///
    /// # Panics
    ///
    /// If a sentence of the contract is broken; the message names it.
    pub fn check_all(&mut self) {
        for (name, check) in Conformance::CHECKS {
            if !self.without.contains(name) {
                check(self);
            }
        }
    }

    /// The same store closed and opened again; `None` if no way to do so was set.
    pub fn reopened(&mut self, store: Driven<'a>) -> Option<Driven<'a>> {
        let reopen = self.reopen.as_mut()?;
        Some(Driven::new(reopen(store.into_store()), std::rc::Rc::clone(&self.pump), self.polls))
    }

    /// A fresh store, driven to the end of each operation.
    pub fn fresh(&mut self) -> Driven<'a> {
        Driven::new((self.make)(), std::rc::Rc::clone(&self.pump), self.polls)
    }
}

impl std::fmt::Debug for Conformance<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conformance").field("polls", &self.polls).field("flood", &self.flood).finish_non_exhaustive()
    }
}

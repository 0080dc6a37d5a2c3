//! A store that asks the application before it keeps a record of a peer.
//!
//! Knows: which writes wait for a verdict. Must not know: how the wrapped store keeps records.
//!
//! It reads no clock: `now` comes with each operation, and the node asks it to expire what is due when the time of the
//! next verdict is over.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_channel::{Receiver, Sender};
use futures::stream::StreamExt as _;
use libp2p_identity::PeerId;

use super::{Answered, Offer, OfferSender, Offers, SharedOfferSender, Verdict, VerdictConfig, channel};
use crate::core::Timestamp;
use crate::core::store::{Done, Item, Op, OpOutput, Store, StoreError, Ticket, Usage};

/// Wraps a store and asks the application before it keeps what a peer sent; what this node puts, provides or reads goes
/// straight to the wrapped store. [`DhtHandle::offers`](crate::DhtHandle::offers) does the same for a running node.
///
/// A value that is invalid, or no better than the one that is held, is refused without asking. While a record waits,
/// another one for its place, which is a key or a provider of a key, is refused as [`StoreError::Busy`].
///
/// ```
/// # use futures::StreamExt;
/// # use libp2p_kad_dht::{AskingStore, MemoryStore, MemoryStoreConfig, VerdictConfig};
/// # async fn paid(_: libp2p_identity::PeerId) -> bool { true }
/// # async fn example() {
/// let store = MemoryStore::new(MemoryStoreConfig::default(), [7; 32]);
/// let (store, mut offers) = AskingStore::new(store, VerdictConfig::default());
/// // … Behaviour::with_store(local, config, Box::new(store)), and in a task:
/// while let Some(offer) = offers.next().await {
///     if paid(offer.from).await { offer.accept() } else { offer.refuse() }
/// }
/// # }
/// ```
pub struct AskingStore<S> {
    inner: S,
    sender: SharedOfferSender,
    next: u64,
    /// At most [`VerdictConfig::waiting`].
    asked: BTreeMap<u64, Asked>,
    /// Writes for which the wrapped store looks up what it holds.
    reading: BTreeMap<Ticket, u64>,
    verdicts: Pin<Box<Receiver<Answered>>>,
    answers: Sender<Answered>,
}

/// A write that waits.
struct Asked {
    ticket: Ticket,
    op: Op,
    from: PeerId,
    came: Timestamp,
    /// When its time is over; `None` before the application is asked, and once it is over.
    until: Option<Timestamp>,
}

impl<S: Store> AskingStore<S> {
    /// Wraps a store; the application reads the records from the stream.
    pub fn new(inner: S, config: VerdictConfig) -> (AskingStore<S>, Offers) {
        let (sender, offers) = channel(config);
        (AskingStore::asking(inner, sender), offers)
    }

    pub(in crate::handle) fn asking(inner: S, sender: OfferSender) -> AskingStore<S> {
        // Unbounded, but each offer sends two answers at most, and they are taken at every poll.
        let (answers, verdicts) = async_channel::unbounded();
        let sender = SharedOfferSender(Arc::new(Mutex::new(sender)));
        let (asked, reading) = (BTreeMap::new(), BTreeMap::new());
        AskingStore { inner, sender, next: 0, asked, reading, verdicts: Box::pin(verdicts), answers }
    }

    pub(in crate::handle) fn sender(&self) -> SharedOfferSender {
        self.sender.clone()
    }

    /// Begins to ask about a write: first comes what is held in its place.
    fn ask(&mut self, came: Timestamp, ticket: Ticket, from: PeerId, op: Op) -> Option<Done> {
        let full = self.asked.len() >= self.sender.config().waiting.get();
        if full || self.asked.values().any(|asked| place(&asked.op) == place(&op)) {
            return Some(Err(StoreError::Busy));
        }
        let read = match &op {
            Op::AddProvider(record, _) => Op::Providers(record.key.clone()),
            op => Op::Get(op.key()?.clone()),
        };
        let number = self.next;
        self.next += 1;
        self.asked.insert(number, Asked { ticket, op, from, came, until: None });
        match self.inner.run(came, ticket, read) {
            Some(found) => self.on_found(number, found),
            None => {
                self.reading.insert(ticket, number);
                None
            }
        }
    }

    /// Asks the application, now that it is known what is held. Returns the end of a write that needs no verdict.
    fn on_found(&mut self, number: u64, found: Done) -> Option<Done> {
        let config = self.sender.config();
        let asked = self.asked.get_mut(&number)?;
        match offered(asked, found) {
            Ok((item, held)) => {
                asked.until = Some(asked.came + config.time);
                let (from, answers) = (asked.from, self.answers.clone());
                self.sender.ask(Offer { from, item, held, number, answers });
                None
            }
            Err(why) => {
                self.asked.remove(&number);
                Some(Err(why))
            }
        }
    }

    /// Carries out a verdict, unless it comes too late.
    fn decide(&mut self, number: u64, verdict: Option<Verdict>) -> Option<(Ticket, Done)> {
        let Asked { ticket, op, came, .. } = self.asked.remove(&number)?;
        let done = match verdict.unwrap_or(self.sender.config().otherwise) {
            Verdict::Accept => self.inner.run(came, ticket, op)?,
            Verdict::Refuse => Err(StoreError::Refused),
        };
        Some((ticket, done))
    }

    /// Decides by the default what is out of time, and returns how much that is. Where the host's clock was set back,
    /// the time that remains is cut to that of a new record.
    fn end_overdue(&mut self, now: Timestamp) -> usize {
        if self.asked.is_empty() {
            return 0;
        }
        let latest = now + self.sender.config().time;
        let mut ended = 0;
        for (number, asked) in &mut self.asked {
            asked.until = asked.until.map(|until| until.min(latest));
            if asked.until.take_if(|until| *until <= now).is_some() {
                _ = self.answers.try_send((*number, None));
                ended += 1;
            }
        }
        ended
    }
}

impl<S: Store> Store for AskingStore<S> {
    fn run(&mut self, now: Timestamp, ticket: Ticket, op: Op) -> Option<Done> {
        let ended = self.end_overdue(now);
        if matches!(op, Op::Expire { .. }) && ended > 0 {
            // What has expired in the wrapped store is due at once again.
            return Some(Ok(OpOutput::Expired(ended)));
        }
        match sender(&op) {
            Some(from) => self.ask(now, ticket, from, op),
            None => self.inner.run(now, ticket, op),
        }
    }

    fn poll_done(&mut self, waker: &Waker) -> Option<(Ticket, Done)> {
        loop {
            if let Some((ticket, done)) = self.inner.poll_done(waker) {
                let end = match self.reading.remove(&ticket) {
                    Some(number) => self.on_found(number, done),
                    None => Some(done),
                };
                if let Some(done) = end {
                    return Some((ticket, done));
                }
                continue;
            }
            let Poll::Ready(Some((number, verdict))) = self.verdicts.poll_next_unpin(&mut Context::from_waker(waker))
            else {
                return None;
            };
            if let Some(end) = self.decide(number, verdict) {
                return Some(end);
            }
        }
    }

    fn keeps_peers(&self) -> bool {
        self.inner.keeps_peers()
    }

    fn next_expiry(&self) -> Option<Timestamp> {
        let overdue = self.asked.values().filter_map(|asked| asked.until);
        overdue.chain(self.inner.next_expiry()).min()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }
}

impl<S> fmt::Debug for AskingStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskingStore").field("asked", &self.asked.len()).finish_non_exhaustive()
    }
}

/// The peer whose record an operation writes.
fn sender(op: &Op) -> Option<PeerId> {
    match op {
        Op::Put(put) => put.from.map(|sender| sender.peer),
        Op::AddProvider(_, sender) => sender.map(|sender| sender.peer),
        _ => None,
    }
}

/// What the writes to one place have in common.
fn place(op: &Op) -> (Option<&[u8]>, Option<&PeerId>) {
    let provider = if let Op::AddProvider(record, _) = op { Some(record.provider.peer()) } else { None };
    (op.key().map(|key| key.as_bytes()), provider)
}

/// The record that is written and the one that is held in its place, or why it cannot be kept whatever the application
/// says.
fn offered(asked: &Asked, found: Done) -> Result<(Item, Option<Item>), StoreError> {
    match (&asked.op, found) {
        (Op::Put(put), Ok(OpOutput::Value(held))) => {
            put.judge.decide(asked.came, held.as_ref(), None, put.record.clone())?;
            Ok((Item::Value(put.record.clone()), held.map(Item::Value)))
        }
        (Op::Put(put), Err(StoreError::Damaged)) => Ok((Item::Value(put.record.clone()), None)),
        (Op::AddProvider(record, _), Ok(OpOutput::Providers(held))) => {
            let held = held.into_iter().find(|held| held.provider.peer() == record.provider.peer());
            Ok((Item::Provider((**record).clone()), held.map(Item::Provider)))
        }
        (_, Err(why)) => Err(why),
        // The result of another operation: no store returns it.
        _ => Err(StoreError::Failed),
    }
}

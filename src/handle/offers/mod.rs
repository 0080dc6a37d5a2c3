//! Records that peers bring, for the application to accept or refuse before they are kept.
//!
//! Knows: who waits for a verdict, and how long. Must not know: what is kept, or why the application decides as it does.

mod store;

use std::fmt;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use futures::stream::{Stream, StreamExt as _};
use libp2p_identity::PeerId;

use crate::core::store::Item;
pub use store::AskingStore;

/// How long the application may take for a verdict, and what holds without one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerdictConfig {
    /// Time for a verdict, from when the record came. The peer waits for its acknowledgement meanwhile, and may give up
    /// and go on to another peer; a record that is accepted later is kept all the same.
    /// Default: [`DEFAULT_TIME`](Self::DEFAULT_TIME).
    pub time: Duration,
    /// What holds without a verdict: when the time is over, when an [`Offer`] is dropped, and when nobody reads the
    /// [`Offers`]. Default: [`Verdict::Refuse`].
    pub otherwise: Verdict,
    /// Maximum number of records that wait for a verdict; one more is refused, and a later attempt of its peer may
    /// succeed. One peer has no more of them than
    /// [`LimitConfig::inbound_per_peer`](crate::core::config::LimitConfig::inbound_per_peer). Default:
    /// [`DEFAULT_WAITING`](Self::DEFAULT_WAITING).
    pub waiting: NonZeroUsize,
}

impl VerdictConfig {
    /// 1 s. Source: half of the time for which a node of this crate waits for an acknowledgement at least.
    pub const DEFAULT_TIME: Duration = Duration::from_secs(1);
    /// 256. Source: a sixteenth of the requests that may wait for the store, so that the others are served meanwhile.
    pub const DEFAULT_WAITING: NonZeroUsize = NonZeroUsize::new(256).unwrap();
}

impl Default for VerdictConfig {
    fn default() -> VerdictConfig {
        VerdictConfig { time: Self::DEFAULT_TIME, otherwise: Verdict::Refuse, waiting: Self::DEFAULT_WAITING }
    }
}

/// Whether a record may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum Verdict {
    /// The store keeps the record and the peer gets its acknowledgement, if no better record has come meanwhile.
    Accept,
    /// The record is not kept, and its request ends as every refused one: the stream is reset.
    Refuse,
}

/// A record that a peer brought. It is neither kept nor acknowledged before [`accept`](Offer::accept). Dropping it
/// leaves the decision to [`VerdictConfig::otherwise`].
#[must_use = "dropping it decides by the default"]
pub struct Offer {
    /// The peer that sent it, as the connection proves.
    pub from: PeerId,
    /// The record: a valid value that would replace the one that is held, or a provider record of the peer for itself.
    pub item: Item,
    /// What this node held in its place when it came: the value under the same key, or the peer's earlier announcement.
    pub held: Option<Item>,
    number: u64,
    answers: Sender<Answered>,
}

/// The verdict on the record of this number; `None` for the default.
type Answered = (u64, Option<Verdict>);

impl Offer {
    /// Lets the store keep it. Too late, after [`VerdictConfig::time`], this changes nothing.
    ///
    /// ```
    /// # async fn paid(_: libp2p_identity::PeerId) -> bool { true }
    /// # async fn example(offer: libp2p_kad_dht::Offer) {
    /// if paid(offer.from).await { offer.accept() } else { offer.refuse() }
    /// # }
    /// ```
    pub fn accept(self) {
        self.decide(Verdict::Accept);
    }

    /// Refuses it. Too late, after [`VerdictConfig::time`], this changes nothing. For an example see
    /// [`accept`](Offer::accept).
    pub fn refuse(self) {
        self.decide(Verdict::Refuse);
    }

    /// Accepts or refuses it.
    ///
    /// ```
    /// # use libp2p_kad_dht::Verdict;
    /// # fn example(offer: libp2p_kad_dht::Offer) {
    /// let first = offer.held.is_none();
    /// offer.decide(if first { Verdict::Accept } else { Verdict::Refuse });
    /// # }
    /// ```
    pub fn decide(self, verdict: Verdict) {
        // The default that `drop` sends next comes too late. Fails if the node is gone.
        _ = self.answers.try_send((self.number, Some(verdict)));
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        _ = self.answers.try_send((self.number, None));
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("from", &self.from)
            .field("item", &self.item)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// The records that peers bring, as a stream. Each waits for its verdict by itself, so a task may hold any of them while
/// others are decided. Ends when the node is gone, or when another stream takes its place.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct Offers {
    offers: Pin<Box<Receiver<Offer>>>,
}

impl Stream for Offers {
    type Item = Offer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Offer>> {
        self.offers.poll_next_unpin(cx)
    }
}

/// The sending end of a stream of offers, with the verdict that holds without an answer.
#[derive(Debug)]
pub(super) struct OfferSender {
    config: VerdictConfig,
    /// With a place for each record that may wait. The oldest gives way: it has run out of time.
    offers: Sender<Offer>,
}

/// The sender of a store, which another one may replace.
#[derive(Clone, Debug)]
pub(super) struct SharedOfferSender(Arc<Mutex<OfferSender>>);

impl SharedOfferSender {
    pub(super) fn replace(&self, sender: OfferSender) {
        let old = std::mem::replace(&mut *self.lock(), sender);
        // The lock is free again: a waker may run anything.
        drop(old);
    }

    /// A panic elsewhere leaves the sender whole: it is only ever replaced.
    fn lock(&self) -> MutexGuard<'_, OfferSender> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn config(&self) -> VerdictConfig {
        self.lock().config.clone()
    }

    /// Asks; without a reader the offer is dropped, which decides it.
    fn ask(&self, offer: Offer) {
        let offers = self.lock().offers.clone();
        drop(offers.force_send(offer));
    }
}

pub(super) fn channel(config: VerdictConfig) -> (OfferSender, Offers) {
    let (sender, offers) = async_channel::bounded(config.waiting.get());
    (OfferSender { config, offers: sender }, Offers { offers: Box::pin(offers) })
}

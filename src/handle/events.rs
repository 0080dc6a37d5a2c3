//! The events of a node, as a stream for each part of the application that reads them.
//!
//! Knows: how many unread events are kept. Must not know: what they mean.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_channel::{Receiver, Sender};
use futures::stream::{Stream, StreamExt as _};

use crate::core::Event;

/// Maximum number of unread events that are kept for a slow reader; the oldest are dropped first.
pub const MAX_UNREAD_EVENTS: usize = 256;

/// What happens to a node, from when the stream was asked for: all its [events](Event) but those of queries. Ends when
/// the node is gone.
///
/// A slow reader misses the oldest ([`MAX_UNREAD_EVENTS`] are kept), and [`Events::missed`] counts them.
#[derive(Debug)]
#[must_use = "a stream does nothing until it is polled"]
pub struct Events {
    events: Pin<Box<Receiver<Event>>>,
    missed: Arc<AtomicU64>,
}

impl Events {
    /// The number of events that were dropped, since they were not read in time.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next_unpin(cx)
    }
}

/// The node's end of one stream.
#[derive(Debug)]
pub(super) struct EventSender {
    events: Sender<Event>,
    missed: Arc<AtomicU64>,
}

impl EventSender {
    pub(super) fn is_dropped(&self) -> bool {
        self.events.is_closed()
    }

    /// Passes an event on; `false` if the stream was dropped.
    pub(super) fn send(&self, event: &Event) -> bool {
        match self.events.force_send(event.clone()) {
            Ok(None) => true,
            Ok(Some(_oldest)) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(_) => false,
        }
    }
}

pub(super) fn channel() -> (EventSender, Events) {
    let (sender, receiver) = async_channel::bounded(MAX_UNREAD_EVENTS);
    let missed = Arc::<AtomicU64>::default();
    (EventSender { events: sender, missed: Arc::clone(&missed) }, Events { events: Box::pin(receiver), missed })
}

//! The driver's side of the handles: runs their commands on a [`Dht`], and routes the events of their queries back.
//!
//! Knows: which query of the core belongs to which call. Must not know: swarms, clocks or sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::oneshot;

use super::DhtHandle;
use super::channel::{
    CallId, Command, CommandReceiver, CommandSender, MAX_COMMANDS, Reports, ResultSender, StatsReply, channel,
};
use super::events::EventSender;
use super::offers::{AskingStore, SharedOfferSender};
use crate::core::{Answer, Contact, Dht, Event, Mode, QueryError, QueryEvent, QueryId, Timestamp};

/// Serves the [`DhtHandle`]s of a driver's node: poll it with the rest of the node, and pass every event through it.
///
/// When it is dropped, all calls of handles that still wait end with [`QueryError::Closed`].
///
/// A driver of your own needs these lines, before it drains [`Dht::poll_output`]:
///
/// ```
/// # use libp2p_kad_dht::{core::{Dht, Input, Output, Timestamp}, handle::{Commands, DriverRequest}};
/// # use std::task::{Context, Poll};
/// # fn poll(cx: &mut Context<'_>, now: Timestamp, dht: &mut Dht, commands: &mut Commands) {
/// while let Poll::Ready(request) = commands.poll(cx, now, dht) {
///     match request {
///         DriverRequest::AddPeer(contact) => dht.handle_input(now, Input::AddPeer(contact)),
///         DriverRequest::SetMode(Some(mode)) => dht.handle_input(now, Input::Mode(mode)),
///         DriverRequest::Stats(reply) => reply.send(Default::default()), // what you count
///         _ => {} // choose a mode yourself
///     }
/// }
/// while let Some(output) = dht.poll_output() {
///     match output {
///         Output::Event(event) => if let Some(event) = commands.handle_event(event) {
///             println!("for the application: {event:?}");
///         },
///         _ => {} // send, cancel, reply
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Commands {
    sender: CommandSender,
    receiver: CommandReceiver,
    running: BTreeMap<QueryId, Running>,
    queries: BTreeMap<CallId, QueryId>,
    /// One for each stream of events that the application holds.
    listeners: Vec<EventSender>,
    /// Once a handle has asked for the records that peers bring.
    offer_sender: Option<SharedOfferSender>,
    /// The calls that wait for the first peer of the routing table: one for each that the application holds.
    not_ready: Vec<oneshot::Sender<()>>,
}

/// A request of a handle that only the driver can fulfil.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DriverRequest {
    /// The application names a peer. The driver passes it on by [`Input::AddPeer`](crate::core::Input::AddPeer), and
    /// may note how the peer is reached.
    AddPeer(Arc<Contact>),
    /// The application chooses this mode; `None` leaves the choice to the driver.
    SetMode(Option<Mode>),
    /// The application asks for the driver's counters.
    Stats(StatsReply),
}

#[derive(Debug)]
struct Running {
    call: CallId,
    reports: Reports,
    end: ResultSender,
}

impl Default for Commands {
    fn default() -> Commands {
        let (sender, receiver) = channel();
        Commands {
            sender,
            receiver,
            running: BTreeMap::new(),
            queries: BTreeMap::new(),
            listeners: Vec::new(),
            offer_sender: None,
            not_ready: Vec::new(),
        }
    }
}

impl Commands {
    /// The commands of a new node, which has no handles yet.
    pub fn new() -> Commands {
        Commands::default()
    }

    /// A handle on this node, one of any number.
    pub fn handle(&self) -> DhtHandle {
        DhtHandle::new(self.sender.clone())
    }

    /// Runs the commands of the handles, until one asks for something that only the driver can do. Pending when no
    /// command is left; the task is woken for the next one. However fast the handles ask, the driver gets control after
    /// [`MAX_COMMANDS`] commands.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Timestamp, dht: &mut Dht) -> Poll<DriverRequest> {
        for _ in 0..MAX_COMMANDS {
            if let Poll::Ready(call) = self.receiver.poll_cancelled(cx) {
                // The query stays here until its last event, which would otherwise go to the application.
                if let Some(id) = self.queries.get(&call) {
                    dht.cancel(*id);
                }
                continue;
            }
            let Poll::Ready(Some(command)) = self.receiver.poll_command(cx) else {
                self.end_waiting(dht);
                return Poll::Pending;
            };
            match command {
                Command::Start(call) => self.start(now, dht, call),
                Command::Inspect(read) => read(dht),
                Command::Change(change) => change(dht, now),
                Command::Restore(table) => _ = dht.restore(now, &table),
                Command::AddPeer(contact) => return Poll::Ready(DriverRequest::AddPeer(contact)),
                Command::Listen(listener) => {
                    self.listeners.retain(|listener| !listener.is_dropped());
                    self.listeners.push(listener);
                }
                Command::Ask(sender) => match &self.offer_sender {
                    Some(shared) => shared.replace(sender),
                    None => dht.wrap_store(|store| {
                        let store = AskingStore::asking(store, sender);
                        self.offer_sender = Some(store.sender());
                        Box::new(store)
                    }),
                },
                Command::Ready(end) => {
                    self.not_ready.retain(|end| !end.is_canceled());
                    self.not_ready.push(end);
                }
                Command::DriverStats(reply) => return Poll::Ready(DriverRequest::Stats(reply)),
                Command::SetMode(mode) => return Poll::Ready(DriverRequest::SetMode(mode)),
            }
        }
        self.receiver.offer_places();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes the events of the handles' queries on to them, and returns every other event. The streams of
    /// events that handles have get the others too, those that a driver makes itself included.
    pub fn handle_event(&mut self, event: Event) -> Option<Event> {
        let Event::QueryProgressed { id, event } = event else {
            self.listeners.retain(|listener| listener.send(&event));
            return Some(event);
        };
        match (event, self.running.get(&id)) {
            (event, None) => return Some(Event::QueryProgressed { id, event }),
            (QueryEvent::Finished(result), Some(_)) => self.finish(id, *result),
            (event, Some(running)) => running.reports.send(event),
        }
        None
    }

    /// The number of queries of handles that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Ends the calls that wait for the first peer, if the table holds one.
    fn end_waiting(&mut self, dht: &Dht) {
        if !self.not_ready.is_empty() && dht.knows_a_peer() {
            self.not_ready.drain(..).for_each(|end| _ = end.send(()));
        }
    }

    fn start(&mut self, now: Timestamp, dht: &mut Dht, call: CallId) {
        let Some((start, end)) = self.receiver.take(call) else { return };
        match dht.start(now, start.operation, start.options) {
            Ok(id) => {
                self.queries.insert(call, id);
                self.running.insert(id, Running { call, reports: start.reports, end });
            }
            Err(_) => drop(end.send(Err(QueryError::Busy))),
        }
    }

    fn finish(&mut self, id: QueryId, result: Result<Answer, QueryError>) {
        if let Some(Running { call, end, .. }) = self.running.remove(&id) {
            self.queries.remove(&call);
            drop(end.send(result)); // fails if the call was dropped
        }
    }
}

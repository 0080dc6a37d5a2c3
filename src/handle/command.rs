//! The driver's side of the handles: serves what they ask for on a [`Dht`], and routes what comes of it back.
//!
//! Knows: which query of the core belongs to which reader. Must not know: swarms, clocks or sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::DhtHandle;
use super::mailbox::{Command, Mailbox, Read, Taken, Ticket};
use super::slot::{Reply, Writer};
use crate::core::{Contact, Dht, Event, Mode, Operation, QueryError, QueryEvent, QueryId, QueryOptions, Timestamp};

/// So many commands are served before the driver gets its turn. Source: as many as wait at most.
const COMMANDS_AT_ONCE: usize = super::MAX_COMMANDS;

/// What a driver needs in order to serve [`DhtHandle`]s: poll it with the rest of the node, and show it every event.
///
/// When it is dropped, everything that handles still wait for ends with [`QueryError::Closed`].
///
/// A driver of your own needs these lines, before it drains [`Dht::poll_output`]:
///
/// ```no_run
/// # use libp2p_kad_dht::{core::{Dht, Input, Output, Timestamp}, handle::{Commands, DriverRequest}};
/// # use std::task::{Context, Poll};
/// # fn poll(cx: &mut Context<'_>, now: Timestamp, dht: &mut Dht, commands: &mut Commands) {
/// while let Poll::Ready(wish) = commands.poll(cx, now, dht) {
///     match wish {
///         DriverRequest::AddPeer(contact) => dht.handle_input(now, Input::AddPeer(contact)),
///         DriverRequest::SetMode(Some(mode)) => dht.handle_input(now, Input::Mode(mode)),
///         _ => {} // choose a mode yourself
///     }
/// }
/// while let Some(output) = dht.poll_output() {
///     match output {
///         Output::Event(event) => if let Some(event) = commands.handle_event(dht, event) {
///             println!("for the application: {event:?}");
///         },
///         _ => {} // send, cancel, reply
///     }
/// }
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Commands {
    mailbox: Arc<Mailbox>,
    running: BTreeMap<QueryId, Running>,
    queries: BTreeMap<Ticket, QueryId>,
}

/// What a handle asks for that only the driver can decide.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DriverRequest {
    /// The application names a peer: for [`Input::AddPeer`](crate::core::Input::AddPeer), and for whatever the driver
    /// knows about reaching it.
    AddPeer(Arc<Contact>),
    /// The application wants this mode; `None` leaves it to the driver to choose.
    SetMode(Option<Mode>),
}

#[derive(Debug)]
struct Running {
    ticket: Ticket,
    writer: Writer,
}

impl Commands {
    /// Of a new node, with no handles yet.
    pub fn new() -> Commands {
        Commands::default()
    }

    /// Another handle on this node.
    pub fn handle(&self) -> DhtHandle {
        DhtHandle::new(Arc::clone(&self.mailbox))
    }

    /// Serves what the handles ask for, until one asks for something that only the driver can do, or until there is
    /// nothing left; then the task is woken when there is. However fast they ask, the driver gets its turn.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Timestamp, dht: &mut Dht) -> Poll<DriverRequest> {
        for _ in 0..COMMANDS_AT_ONCE {
            let wish = match self.mailbox.poll_take(cx) {
                Poll::Ready(Taken::Command(ticket, command)) => self.serve(ticket, command, now, dht),
                Poll::Ready(Taken::Cancel(ticket)) => self.cancel(ticket, dht),
                Poll::Pending => return Poll::Pending,
            };
            if let Some(wish) = wish {
                return Poll::Ready(wish);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Passes news of the handles' own queries on to them, and returns every other event.
    pub fn handle_event(&mut self, dht: &mut Dht, event: Event) -> Option<Event> {
        let Event::Query { id, event } = event else { return Some(event) };
        let Some(running) = self.running.get(&id) else { return Some(Event::Query { id, event }) };
        match event {
            QueryEvent::Progress(step) => running.writer.step(step),
            QueryEvent::Value(value) => running.writer.value(value),
            QueryEvent::Provider(provider) => running.writer.provider(provider),
            QueryEvent::Finished(result) => {
                self.finish(id, (*result).map(|answer| Reply::Answer(Box::new(answer))));
                return None;
            }
        }
        if running.writer.is_closed() {
            dht.cancel(id);
        }
        None
    }

    /// How many queries of handles run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    fn serve(&mut self, ticket: Ticket, command: Command, now: Timestamp, dht: &mut Dht) -> Option<DriverRequest> {
        match command {
            Command::Start { operation, options, writer } => self.start(ticket, now, dht, operation, options, writer),
            Command::Read { what, writer } => writer.finish(Ok(read(what, dht))),
            Command::Restore(table) => {
                dht.restore(now, &table);
            }
            Command::AddPeer(contact) => return Some(DriverRequest::AddPeer(contact)),
            Command::SetMode(mode) => return Some(DriverRequest::SetMode(mode)),
        }
        None
    }

    fn start(
        &mut self,
        ticket: Ticket,
        now: Timestamp,
        dht: &mut Dht,
        operation: Operation,
        options: QueryOptions,
        writer: Writer,
    ) {
        if writer.is_closed() {
            return;
        }
        match dht.start(now, operation, options) {
            Ok(id) => {
                self.queries.insert(ticket, id);
                self.running.insert(id, Running { ticket, writer });
            }
            Err(_) => writer.finish(Err(QueryError::Busy)),
        }
    }

    /// Keeps the query until the core says that it ended, so that its last event is not taken for someone else's.
    fn cancel(&mut self, ticket: Ticket, dht: &mut Dht) -> Option<DriverRequest> {
        if let Some(id) = self.queries.get(&ticket) {
            dht.cancel(*id);
        }
        None
    }

    fn finish(&mut self, id: QueryId, end: Result<Reply, QueryError>) {
        if let Some(Running { ticket, writer }) = self.running.remove(&id) {
            self.queries.remove(&ticket);
            writer.finish(end);
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

fn read(what: Read, dht: &Dht) -> Reply {
    match what {
        Read::Routing => Reply::Routing(dht.routing_snapshot()),
        Read::Queries => Reply::Queries(dht.query_snapshots()),
        Read::Stats => Reply::Stats(Box::new(dht.stats().clone())),
        Read::Local => Reply::Local(Arc::clone(dht.local())),
    }
}

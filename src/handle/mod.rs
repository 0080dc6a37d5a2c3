//! The application's side: typed futures and streams over any driver.
//!
//! Knows: what can be asked of a node. Must not know: swarms, clocks, sockets or tasks. [`DhtHandle`] asks,
//! [`Commands`] serves it; `net::Behaviour` holds one, and so can a driver of your own.

mod command;
mod dual;
mod mailbox;
mod outcome;
mod query;
mod slot;

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

pub use command::{Commands, DriverRequest};
pub use dual::{DualError, DualHandle, DualProviders, DualValues, FirstOf, JoinBoth, Network, PerNetwork};
pub use mailbox::{HandleError, MAX_COMMANDS};
pub use outcome::{Bootstrapped, ClosestPeers, Found, FoundPeer, Outcome, PeerRecord, ProvidersFound, Published, Walk};
pub use query::{ProviderUpdate, Providers, Query, Values, Watched, WatchedProviders};
pub use slot::MAX_UNREAD_STEPS;

use crate::core::store::Item;
use crate::core::{Contact, Key, Mode, Operation, QueryOptions, QuerySnapshot, RecordKey, RoutingSnapshot, Stats};
use mailbox::{Command, Mailbox, Read};
use query::Call;
use slot::{Wants, Writer, slot};

/// A node of the DHT, as an application uses it.
///
/// Cheap to clone, free to move between threads, and ignorant of the swarm's type. The swarm must be polled for
/// anything to happen; once it is dropped everything ends with [`QueryError::Closed`](crate::core::QueryError::Closed).
/// What it gives back starts when it is polled and is cancelled when it is dropped.
#[derive(Clone, Debug)]
pub struct DhtHandle {
    mailbox: Arc<Mailbox>,
}

impl DhtHandle {
    fn new(mailbox: Arc<Mailbox>) -> DhtHandle {
        DhtHandle { mailbox }
    }

    /// Wants the best value under a key: here first, then at the peers closest to the key. Ends as soon as a
    /// [quorum](Query::quorum) of them was found to hold one.
    pub fn get(&self, key: impl Into<RecordKey>) -> Query<Found> {
        Query::new(self.start(Operation::Get { key: key.into() }, Wants::None))
    }

    /// The same as a stream of ever better values, which goes on to all of the k closest peers unless its
    /// [quorum](Values::quorum) says otherwise.
    pub fn values(&self, key: impl Into<RecordKey>) -> Values {
        Values::new(self.start(Operation::Get { key: key.into() }, Wants::Values))
    }

    /// Keeps a value here, where it stays whatever becomes of the rest, and at the k peers closest to its key. Ends once all of those have answered or failed.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn f(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// // For an hour, at others alone.
    /// dht.put("/my-app/offer", "tea").expires_in(Duration::from_secs(3600)).keep(false).await?;
    /// # Ok(()) }
    /// ```
    pub fn put(&self, key: impl Into<RecordKey>, value: impl AsRef<[u8]>) -> Query<Published> {
        let value = Bytes::copy_from_slice(value.as_ref());
        Query::new(self.start(Operation::Put { key: key.into(), value }, Wants::None))
    }

    /// Forgets a value that this node keeps; ends once the store has forgotten it. The copies that other peers hold expire in their time.
    pub fn remove(&self, key: impl Into<RecordKey>) -> Query<()> {
        Query::new(self.start(Operation::Remove { key: key.into() }, Wants::None))
    }

    /// Tells the k peers closest to a key that this node provides its content, and everyone who asks here, until
    /// [stopped](DhtHandle::stop_providing). The key is a multihash, never a whole CID.
    pub fn provide(&self, key: impl Into<RecordKey>) -> Query<Published> {
        Query::new(self.start(Operation::Provide { key: key.into() }, Wants::None))
    }

    /// Stops telling that this node provides some content; ends once the store has forgotten it. What other peers were told expires in its time.
    pub fn stop_providing(&self, key: impl Into<RecordKey>) -> Query<()> {
        Query::new(self.start(Operation::StopProviding { key: key.into() }, Wants::None))
    }

    /// Wants who provides some content. The first arrive before the lookup ends.
    pub fn providers(&self, key: impl Into<RecordKey>) -> Providers {
        Providers::new(self.start(Operation::Providers { key: key.into() }, Wants::Providers))
    }

    /// Wants a peer's addresses. [`FoundPeer::evidence`] says whether it was reached there: a peer that is connected, or
    /// has answered and not failed since, is told at once, without asking; another one is looked for and tried.
    pub fn find_peer(&self, peer: PeerId) -> Query<FoundPeer> {
        Query::new(self.start(Operation::FindPeer { peer }, Wants::None))
    }

    /// Wants the k peers closest to a key: to that of any bytes, a peer id's (`peer.to_bytes()`) as well.
    pub fn closest_peers(&self, key: impl Into<RecordKey>) -> Query<ClosestPeers> {
        let key = key.into().to_shared();
        Query::new(self.start(Operation::ClosestPeers { key }, Wants::None))
    }

    /// Joins the network through the peers that are known, or finds this node's place in it anew.
    pub fn bootstrap(&self) -> Query<Bootstrapped> {
        Query::new(self.start(Operation::Bootstrap, Wants::None))
    }

    /// Lists what is kept on this node, from just after a place in the keyspace (from its start without one), about
    /// `limit` items at a time; fewer mean that the end is reached. The place of the last item, from which to go on, is
    /// `item.key().key()`.
    pub fn records(&self, after: Option<Key>, limit: NonZeroUsize) -> Query<Vec<Item>> {
        Query::new(self.start(Operation::Records { after, limit }, Wants::None))
    }

    /// Names a peer that serves the DHT, for a first contact, with its addresses (a `/p2p` ending is cut off).
    ///
    /// Sent at once, with nothing to await; what is asked for afterwards finds it done. Look at what it returns if the
    /// node may be gone, or if more than [`MAX_COMMANDS`] peers are named in one go.
    pub fn add_peer(&self, peer: PeerId, addrs: impl IntoIterator<Item = Multiaddr>) -> Sent {
        Sent(self.mailbox.post(Command::AddPeer(Contact::new(peer, addrs))))
    }

    /// Tries the peers of a routing table that was kept, for example of this node's earlier life: each enters the table once
    /// it has answered, none before. A store that outlives the process does so by itself. Sent at once, as
    /// [`DhtHandle::add_peer`].
    pub fn restore(&self, table: RoutingSnapshot) -> Sent {
        Sent(self.mailbox.post(Command::Restore(Box::new(table))))
    }

    /// Chooses whether this node serves others; `None` leaves that to the node, which then serves while it has a
    /// confirmed external address. Sent at once, as [`DhtHandle::add_peer`].
    pub fn set_mode(&self, mode: Option<Mode>) -> Sent {
        Sent(self.mailbox.post(Command::SetMode(mode)))
    }

    /// What the routing table holds now.
    pub fn routing_table(&self) -> Query<RoutingSnapshot> {
        self.read(Read::Routing)
    }

    /// The queries that run now, those of the node itself included.
    pub fn queries(&self) -> Query<Vec<QuerySnapshot>> {
        self.read(Read::Queries)
    }

    /// What the node has done since it started.
    pub fn stats(&self) -> Query<Stats> {
        self.read(Read::Stats)
    }

    /// The node itself: its peer id, and the addresses at which it says to be reached.
    pub fn local(&self) -> Query<PeerRecord> {
        self.read(Read::Local)
    }

    fn start(&self, operation: Operation, finds: Wants) -> Call {
        self.call(finds, |writer| Command::Start { operation, options: QueryOptions::default(), writer })
    }

    fn read<T: Outcome>(&self, what: Read) -> Query<T> {
        Query::new(self.call(Wants::None, |writer| Command::Read { what, writer }))
    }

    fn call(&self, finds: Wants, command: impl FnOnce(Writer) -> Command) -> Call {
        let (writer, reader) = slot(finds);
        Call::new(Arc::clone(&self.mailbox), command(writer), reader)
    }
}

/// Whether a command that has no result of its own was taken. It may be dropped: it was sent already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent(Result<(), HandleError>);

impl Sent {
    /// Whether the node will see the command.
    ///
    /// # Errors
    ///
    /// [`HandleError::Busy`] if [`MAX_COMMANDS`] commands wait already, [`HandleError::Closed`] if the node is gone.
    pub fn check(self) -> Result<(), HandleError> {
        self.0
    }

    fn all(posted: impl IntoIterator<Item = Sent>) -> Sent {
        Sent(posted.into_iter().try_for_each(Sent::check))
    }
}

//! The application's side: typed futures and streams over any driver.
//!
//! Knows: what can be asked of a node. Must not know: swarms, clocks, sockets or tasks. A [`DhtHandle`] asks, and
//! [`Commands`] serves it; the libp2p behaviour holds one, and so can a driver of your own.

mod channel;
mod command;
mod dual;
mod query;

use std::num::NonZeroUsize;

use bytes::Bytes;
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

pub use channel::{HandleError, MAX_COMMANDS};
pub use command::{Commands, DriverRequest};
pub use dual::{DualError, DualHandle, DualNetwork, DualProviders, DualValues, FirstOf, JoinBoth, PerNetwork};
pub use query::{MAX_UNREAD_STEPS, ProviderUpdate, Providers, Query, Values, Watched, WatchedProviders};

use crate::core::store::Item;
pub use crate::core::{
    Answer, Bootstrapped, ClosestPeers, Evidence, Found, FoundPeer, NetworkResult, PeerRecord, Progress,
    ProvidersFound, Published, QueryEvent,
};
use crate::core::{Contact, Dht, Key, Mode, Operation, QuerySnapshot, RecordKey, RoutingSnapshot, Stats};
use channel::{Command, CommandSender};

/// A node of the DHT, as an application uses it.
///
/// Each operation returns a future or a stream, which starts when it is first polled and is cancelled when it is
/// dropped. Only [`add_peer`](DhtHandle::add_peer), [`restore`](DhtHandle::restore) and
/// [`set_mode`](DhtHandle::set_mode) act at once.
///
/// A handle is cheap to clone, free to move between threads, and independent of the swarm's type. The swarm must be
/// polled for anything to happen; once it is dropped, all operations end with
/// [`QueryError::Closed`](crate::core::QueryError::Closed).
///
/// ```no_run
/// # async fn example(swarm: libp2p_swarm::Swarm<libp2p_kad_dht::Behaviour>) -> Result<(), libp2p_kad_dht::QueryError> {
/// let dht = swarm.behaviour().handle(); // and a task polls the swarm
/// dht.bootstrap().await?;
/// dht.put("/my-app/greeting", "hello").await?;
/// println!("{:?}", dht.get("/my-app/greeting").await?.record.value);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DhtHandle {
    sender: CommandSender,
}

impl DhtHandle {
    fn new(sender: CommandSender) -> DhtHandle {
        DhtHandle { sender }
    }

    /// Finds the best value under a key: here first, then at the peers closest to the key. Ends as soon as a
    /// [quorum](Query::quorum) of peers holds a value. This node counts as one: with the default quorum of one, a value
    /// that it holds itself is returned without asking a peer.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let found = dht.get("/my-app/greeting").await?;
    /// println!("{:?} from {:?}, held by {} peers", found.record.value, found.from, found.holders.len());
    /// # Ok(()) }
    /// ```
    pub fn get(&self, key: impl Into<RecordKey>) -> Query<Found> {
        self.query(Operation::Get { key: key.into() })
    }

    /// The values under a key as a stream of ever better ones, which asks all of the k closest peers unless its
    /// [quorum](Values::quorum) ends it earlier.
    ///
    /// ```no_run
    /// # use futures::StreamExt;
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let mut values = dht.values("/my-app/greeting");
    /// while let Some(better) = values.next().await {
    ///     println!("{:?}", better.value);
    /// }
    /// println!("{} peers hold the best one", values.await?.holders.len());
    /// # Ok(()) }
    /// ```
    pub fn values(&self, key: impl Into<RecordKey>) -> Values {
        let (sender, values) = async_channel::bounded(1);
        let query = self.query(Operation::Get { key: key.into() }).set(|start| start.options.thorough = true);
        query.watched(values, |reports| reports.values = Some(sender))
    }

    /// Keeps a value here, whether or not it reaches other peers, and at the k peers closest to its key. Ends once all
    /// of those have answered or failed.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// // For an hour, at other peers alone.
    /// dht.put("/my-app/offer", "tea").expires_in(Duration::from_secs(3600)).keep(false).await?;
    /// # Ok(()) }
    /// ```
    pub fn put(&self, key: impl Into<RecordKey>, value: impl AsRef<[u8]>) -> Query<Published> {
        let value = Bytes::copy_from_slice(value.as_ref());
        self.query(Operation::Put { key: key.into(), value })
    }

    /// Removes a value that this node keeps; ends once the store has removed it. The copies that other peers hold
    /// expire in their time.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// dht.remove("/my-app/offer").await?;
    /// # Ok(()) }
    /// ```
    pub fn remove(&self, key: impl Into<RecordKey>) -> Query<()> {
        self.query(Operation::Remove { key: key.into() })
    }

    /// Announces to the k peers closest to a key that this node provides its content, and to all that ask this node,
    /// until [stopped](DhtHandle::stop_providing). The key is a multihash, never a whole CID.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle, multihash: &[u8]) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let announced = dht.provide(multihash).await?;
    /// println!("{} peers acknowledged it", announced.report.acknowledged.len());
    /// # Ok(()) }
    /// ```
    pub fn provide(&self, key: impl Into<RecordKey>) -> Query<Published> {
        self.query(Operation::Provide { key: key.into() })
    }

    /// Stops announcing that this node provides some content; ends once the store has removed the record. The records
    /// that other peers hold expire in their time.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle, multihash: &[u8]) -> Result<(), libp2p_kad_dht::QueryError> {
    /// dht.stop_providing(multihash).await?;
    /// # Ok(()) }
    /// ```
    pub fn stop_providing(&self, key: impl Into<RecordKey>) -> Query<()> {
        self.query(Operation::StopProviding { key: key.into() })
    }

    /// Finds the providers of some content. The first arrive before the lookup ends.
    ///
    /// ```no_run
    /// # use futures::StreamExt;
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle, multihash: &[u8]) {
    /// let mut providers = dht.providers(multihash);
    /// while let Some(provider) = providers.next().await {
    ///     println!("{} at {:?}", provider.id, provider.addrs);
    /// }
    /// # }
    /// ```
    pub fn providers(&self, key: impl Into<RecordKey>) -> Providers {
        let (sender, providers) = async_channel::unbounded();
        self.query(Operation::Providers { key: key.into() })
            .watched(providers, |reports| reports.providers = Some(sender))
    }

    /// Finds a peer's addresses. [`FoundPeer::evidence`] says whether it was reached there: a peer that is connected,
    /// or has answered and not failed since, is returned at once, without asking; another one is looked for and tried.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle, peer: libp2p_identity::PeerId) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let found = dht.find_peer(peer).await?;
    /// println!("{:?} ({})", found.peer.addrs, found.evidence);
    /// # Ok(()) }
    /// ```
    pub fn find_peer(&self, peer: PeerId) -> Query<FoundPeer> {
        self.query(Operation::FindPeer { peer })
    }

    /// Finds the k peers closest to a key: any bytes, or a peer id's (`peer.to_bytes()`).
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// for peer in dht.closest_peers("/my-app/greeting").await?.peers {
    ///     println!("{}", peer.id);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn closest_peers(&self, key: impl Into<RecordKey>) -> Query<ClosestPeers> {
        self.query(Operation::ClosestPeers { key: key.into().to_shared() })
    }

    /// Joins the network through the peers that are known, or looks again for this node's place in it.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// dht.add_peer("12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8".parse()?, ["/dns/boot.example/tcp/4001".parse()?]);
    /// println!("the table holds {} peers", dht.bootstrap().await?.peers);
    /// # Ok(()) }
    /// ```
    pub fn bootstrap(&self) -> Query<Bootstrapped> {
        self.query(Operation::Bootstrap)
    }

    /// Lists what is kept on this node, from just after a place in the keyspace (from its start without one), about
    /// `limit` items at a time; fewer mean that the end is reached.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let limit = std::num::NonZeroUsize::MIN.saturating_add(99);
    /// let first = dht.records(None, limit).await?;
    /// let after = first.last().map(|item| item.key().key());
    /// let second = dht.records(after, limit).await?;
    /// # Ok(()) }
    /// ```
    pub fn records(&self, after: Option<Key>, limit: NonZeroUsize) -> Query<Vec<Item>> {
        self.query(Operation::Records { after, limit })
    }

    /// Names a peer that serves the DHT, for a first contact, with its addresses (a `/p2p` ending is cut off).
    ///
    /// ```no_run
    /// # use libp2p_kad_dht::DhtHandle;
    /// # fn example(dht: DhtHandle, peer: libp2p_identity::PeerId) -> Result<(), Box<dyn std::error::Error>> {
    /// dht.add_peer(peer, ["/dns/boot.example/tcp/4001".parse()?]).check()?;
    /// # Ok(()) }
    /// ```
    ///
    /// Sent at once, with nothing to await; calls that follow find it done. Look at what it returns if the node may be
    /// gone, or if more than [`MAX_COMMANDS`] peers are named in one go.
    pub fn add_peer(&self, peer: PeerId, addrs: impl IntoIterator<Item = Multiaddr>) -> Sent {
        self.send(Command::AddPeer(Contact::new(peer, addrs)))
    }

    /// Tries the peers of a saved routing table, for example of an earlier run of this node: each enters the table once
    /// it has answered. A store that outlives the process does this by itself. Sent at once, as
    /// [`DhtHandle::add_peer`].
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let table = dht.routing_table().await?; // serialises with the feature `serde`
    /// dht.restore(table).check()?; // after a restart
    /// # Ok(()) }
    /// ```
    pub fn restore(&self, table: RoutingSnapshot) -> Sent {
        self.send(Command::Restore(Box::new(table)))
    }

    /// Chooses whether this node serves others. `None` leaves that to the driver: on libp2p the node serves while it
    /// has a confirmed external address, and for two minutes (`Config::with_server_hold`) after the last one. Sent at
    /// once, as [`DhtHandle::add_peer`].
    ///
    /// ```no_run
    /// # fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::HandleError> {
    /// dht.set_mode(Some(libp2p_kad_dht::Mode::Client)).check()?;
    /// # Ok(()) }
    /// ```
    pub fn set_mode(&self, mode: Option<Mode>) -> Sent {
        self.send(Command::SetMode(mode))
    }

    /// The routing table as it is now.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// for entry in dht.routing_table().await?.entries() {
    ///     println!("{} answers in {:?}", entry.peer, entry.rtt);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn routing_table(&self) -> Query<RoutingSnapshot> {
        self.inspect(Dht::routing_snapshot)
    }

    /// The queries that run now, those of the node itself included.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// for query in dht.queries().await? {
    ///     println!("{:?}: {} of {} requests answered", query.kind, query.answers, query.requests);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn queries(&self) -> Query<Vec<QuerySnapshot>> {
        self.inspect(Dht::query_snapshots)
    }

    /// The counters of what the node has done since it started.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let stats = dht.stats().await?;
    /// println!("{} of {} queries succeeded", stats.queries_succeeded, stats.queries_started);
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Query<Stats> {
        self.inspect(|dht| dht.stats().clone())
    }

    /// The node itself: its peer id, and the addresses at which it says that it can be reached.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let local = dht.local().await?;
    /// println!("{} at {:?}", local.id, local.addrs);
    /// # Ok(()) }
    /// ```
    pub fn local(&self) -> Query<PeerRecord> {
        self.inspect(|dht| PeerRecord::from(&**dht.local()))
    }

    fn query<T: TryFrom<Answer, Error = Answer> + 'static>(&self, operation: Operation) -> Query<T> {
        Query::new(self.sender.clone(), operation)
    }

    fn inspect<T: Send + 'static>(&self, read: impl FnOnce(&Dht) -> T + Send + Sync + 'static) -> Query<T> {
        Query::of(self.sender.clone().inspect(read))
    }

    fn send(&self, command: Command) -> Sent {
        Sent(self.sender.try_send(command))
    }
}

/// The outcome of sending a command without a result. It may be ignored: the command was sent already.
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

    fn all(sent: impl IntoIterator<Item = Sent>) -> Sent {
        Sent(sent.into_iter().try_for_each(Sent::check))
    }
}

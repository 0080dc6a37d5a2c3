//! The application's side: typed futures and streams over any driver.
//!
//! Knows: what can be asked of a node. Must not know: swarms, clocks, sockets or tasks. A [`DhtHandle`] asks, and
//! [`Commands`] serves it; the libp2p behaviour holds one, and so can a driver of your own.

mod channel;
mod command;
mod dual;
mod events;
mod offers;
mod query;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

pub use channel::{HandleError, MAX_COMMANDS, StatsReply};
pub use command::{Commands, DriverRequest};
pub use dual::{DualError, DualHandle, DualNetwork, DualProviders, DualValues, FirstOf, JoinBoth, PerNetwork};
pub use events::{Events, MAX_UNREAD_EVENTS};
pub use offers::{AskingStore, Offer, Offers, Verdict, VerdictConfig};
pub use query::{MAX_UNREAD_STEPS, ProviderUpdate, Providers, Query, Values, Watched, WatchedProviders};

use crate::core::stats::DriverStats;
use crate::core::store::Item;
pub use crate::core::{
    Answer, Bootstrapped, ClosestPeers, Evidence, Found, FoundPeer, NetworkResult, PeerRecord, Progress,
    ProvidersFound, Published, QueryError, QueryEvent,
};
use crate::core::{
    Contact, Dht, Distance, Key, Mode, Operation, PeerFilter, QuerySnapshot, RecordKey, RoutingSnapshot, Stats,
    Timestamp,
};
use channel::{Command, CommandSender};

/// Maximum number of records of [`DhtHandle::put_many`] and [`DhtHandle::provide_many`] that are under way. Source: four
/// pages of the upkeep, so that one is gathered while others go out.
pub const MAX_BATCH: usize = 1_024;

/// A node of the DHT, as an application uses it.
///
/// Each operation returns a future or a stream, which starts when it is first polled and is cancelled when it is
/// dropped. Only [`add_peer`](DhtHandle::add_peer), [`restore`](DhtHandle::restore) and
/// [`set_mode`](DhtHandle::set_mode) act at once.
///
/// A handle is cheap to clone, free to move between threads, and independent of the swarm's type. The swarm must be
/// polled for anything to happen; once it is dropped, all operations end with
/// [`QueryError::Closed`].
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

    /// Finds the best value that these peers hold under a key, without a lookup: asks each of them once, at the addresses
    /// that the node knows, and no other. [`Found`] says which of them hold it, hold an older one or hold none. What
    /// this node keeps is left out, and nothing is corrected. With a [quorum](Query::quorum), it ends as soon as so many
    /// hold a value.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle, peers: Vec<libp2p_identity::PeerId>) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let found = dht.get_from(peers, "/my-app/greeting").await?;
    /// println!("{} hold {:?}, {} hold an older value", found.holders.len(), found.record.value, found.outdated.len());
    /// # Ok(()) }
    /// ```
    pub fn get_from(&self, peers: impl IntoIterator<Item = PeerId>, key: impl Into<RecordKey>) -> Query<Found> {
        let query = self.query(Operation::Get { key: key.into() }).set(|start| start.options.thorough = true);
        query.only(peers)
    }

    /// Brings a value to these peers alone, without a lookup, at the addresses that the node knows. The report says
    /// which of them took it. This node does not keep the value unless it is told [to](Query::keep), and so does not
    /// announce it again.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle, peers: Vec<libp2p_identity::PeerId>) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let stored = dht.put_to(peers, "/my-app/greeting", "hello").await?;
    /// println!("{:?} took it, {:?} did not", stored.report.acknowledged, stored.report.failed);
    /// # Ok(()) }
    /// ```
    pub fn put_to(
        &self,
        peers: impl IntoIterator<Item = PeerId>,
        key: impl Into<RecordKey>,
        value: impl AsRef<[u8]>,
    ) -> Query<Published> {
        self.put(key, value).keep(false).only(peers)
    }

    /// Announces to these peers alone, without a lookup, that this node provides some content. This node does not keep
    /// the record unless it is told [to](Query::keep), and so does not announce it again.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle, peer: libp2p_identity::PeerId, multihash: &[u8]) -> Result<(), libp2p_kad_dht::QueryError> {
    /// dht.provide_to([peer], multihash).await?;
    /// # Ok(()) }
    /// ```
    pub fn provide_to(&self, peers: impl IntoIterator<Item = PeerId>, key: impl Into<RecordKey>) -> Query<Published> {
        self.provide(key).keep(false).only(peers)
    }

    /// Puts many values, which share the search for their closest peers: for thousands of values that takes a small part
    /// of the requests. A stream of the outcome of each, in the order in which they end.
    ///
    /// Takes the next values as earlier ones end, [`MAX_BATCH`] at a time. Each is put as [`put`](DhtHandle::put) does
    /// it, is kept here and announced again. For values that come as a stream, run `dht.put(key, value).batched()` for
    /// each, many at a time.
    ///
    /// ```no_run
    /// # use futures::StreamExt;
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) {
    /// let values = (0..10_000).map(|i| (format!("/my-app/{i}"), format!("value {i}")));
    /// let mut outcomes = dht.put_many(values);
    /// while let Some((key, outcome)) = outcomes.next().await {
    ///     if let Err(error) = outcome {
    ///         println!("{key:?}: {error}");
    ///     }
    /// }
    /// # }
    /// ```
    pub fn put_many<K: Into<RecordKey>, V: AsRef<[u8]>>(
        &self,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> impl Stream<Item = (RecordKey, Result<Published, QueryError>)> {
        self.many(values.into_iter().map(|(key, value)| (key.into(), value)), |dht, (key, value)| {
            (key.clone(), dht.put(key, value))
        })
    }

    /// Announces that this node provides the content of many keys, as [`put_many`](DhtHandle::put_many) puts values.
    ///
    /// ```no_run
    /// # use futures::StreamExt;
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle, multihashes: Vec<Vec<u8>>) {
    /// let announced = dht.provide_many(multihashes).filter(|(_, outcome)| std::future::ready(outcome.is_ok()));
    /// println!("{} were announced", announced.count().await);
    /// # }
    /// ```
    pub fn provide_many<K: Into<RecordKey>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> impl Stream<Item = (RecordKey, Result<Published, QueryError>)> {
        self.many(keys.into_iter().map(Into::into), |dht, key: RecordKey| (key.clone(), dht.provide(key)))
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

    /// Finds the k peers closest to a key: any bytes, or a peer id.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// for peer in dht.closest_peers("/my-app/greeting").await?.peers {
    ///     println!("{}", peer.id);
    /// }
    /// let around_us = dht.closest_peers(dht.local().await?.id).await?;
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

    /// Sets the filter that decides which peers enter the routing table, are asked, and are answered; `None` admits all.
    /// Peers of the table that it does not admit leave at once. Sent at once, as [`DhtHandle::add_peer`].
    ///
    /// ```no_run
    /// # use libp2p_kad_dht::{DhtHandle, PeerFilter};
    /// # fn example(dht: DhtHandle, allowed: std::sync::Arc<dyn PeerFilter>) -> Result<(), Box<dyn std::error::Error>> {
    /// dht.set_filter(Some(allowed)).check()?;
    /// # Ok(()) }
    /// ```
    pub fn set_filter(&self, filter: Option<Arc<dyn PeerFilter>>) -> Sent {
        self.change(move |dht, now| dht.set_filter(now, filter))
    }

    /// Tells what a connected peer runs, as identify reports it, for the [filter](DhtHandle::set_filter), which judges
    /// the peer again. Forgotten with the connection. Sent at once, as [`DhtHandle::add_peer`].
    ///
    /// ```no_run
    /// # use libp2p_kad_dht::DhtHandle;
    /// # fn example(dht: DhtHandle, peer: libp2p_identity::PeerId) {
    /// dht.set_agent(peer, "my-app/2.1.0", ["/my-app/blocks/2"].map(String::from));
    /// # }
    /// ```
    pub fn set_agent(&self, peer: PeerId, agent: &str, protocols: impl IntoIterator<Item = String>) -> Sent {
        let (agent, protocols) = (agent.to_owned(), Vec::from_iter(protocols));
        self.change(move |dht, now| dht.set_agent(now, peer, &agent, protocols))
    }

    /// Bans a peer for this time: it is neither asked nor answered, dialled or named to others, and leaves the routing
    /// table. The application closes its connections itself. Sent at once, as [`DhtHandle::add_peer`].
    ///
    /// ```no_run
    /// # use libp2p_kad_dht::DhtHandle;
    /// # fn example(dht: DhtHandle, peer: libp2p_identity::PeerId) {
    /// dht.ban(peer, std::time::Duration::from_secs(3_600));
    /// # }
    /// ```
    pub fn ban(&self, peer: PeerId, time: Duration) -> Sent {
        self.change(move |dht, now| dht.ban(now, peer, time))
    }

    /// Ends the ban of a peer, which comes back when it is met again. Sent at once, as [`DhtHandle::add_peer`].
    ///
    /// ```no_run
    /// # use libp2p_kad_dht::DhtHandle;
    /// # fn example(dht: DhtHandle, peer: libp2p_identity::PeerId) {
    /// dht.unban(peer);
    /// # }
    /// ```
    pub fn unban(&self, peer: PeerId) -> Sent {
        self.change(move |dht, _| _ = dht.unban(&peer))
    }

    /// Removes a peer from the routing table and forgets its addresses. It comes back when it is met again; see
    /// [`DhtHandle::ban`]. Sent at once, as [`DhtHandle::add_peer`].
    ///
    /// ```no_run
    /// # use libp2p_kad_dht::DhtHandle;
    /// # fn example(dht: DhtHandle, peer: libp2p_identity::PeerId) {
    /// dht.remove_peer(peer);
    /// # }
    /// ```
    pub fn remove_peer(&self, peer: PeerId) -> Sent {
        self.change(move |dht, now| _ = dht.remove_peer(now, &peer))
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

    /// Suspends the node until it is [resumed](DhtHandle::resume): it asks, answers and announces nothing, and sets no
    /// timer. Running operations, and those started meanwhile, end with [`QueryError::Suspended`]. The routing table and
    /// the records stay; so do connections, unless the swarm closes them. Sent at once, as [`DhtHandle::add_peer`].
    ///
    /// ```no_run
    /// # fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::HandleError> {
    /// dht.suspend().check()?; // the application goes into the background
    /// dht.resume().check()?; // and is back
    /// # Ok(()) }
    /// ```
    pub fn suspend(&self) -> Sent {
        self.change(Dht::suspend)
    }

    /// Resumes a suspended node, which looks at once who is still there, and takes up what fell due. No peer is blamed
    /// for the pause. Sent at once, as [`DhtHandle::add_peer`]. For an example see [`suspend`](DhtHandle::suspend).
    pub fn resume(&self) -> Sent {
        self.change(Dht::resume)
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

    /// The peers of the routing table closest to a key, nearest first, at most `count`. Asks nobody: see
    /// [`closest_peers`](DhtHandle::closest_peers) for those that the table does not hold.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// for peer in dht.nearest("/my-app/greeting", 3).await? {
    ///     println!("{} at {:?}", peer.id, peer.addrs);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn nearest(&self, key: impl Into<RecordKey>, count: usize) -> Query<Vec<PeerRecord>> {
        let key = key.into().key();
        self.inspect(move |dht| dht.nearest(&key, count))
    }

    /// Whether this node is among the k nodes closest to a key, as far as it knows, and so should hold the records under
    /// it. True while fewer than k peers are known.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// if dht.is_near("/my-app/greeting").await? {
    ///     println!("this node should hold it");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn is_near(&self, key: impl Into<RecordKey>) -> Query<bool> {
        let key = key.into().key();
        self.inspect(move |dht| dht.is_near(&key))
    }

    /// The distance from its own key within which this node is among the k nodes closest to every key, as far as it
    /// knows. Farther away [`is_near`](DhtHandle::is_near) decides key by key.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// println!("{:.4} % of the keyspace", 100.0 * dht.responsibility().await?.as_fraction());
    /// # Ok(()) }
    /// ```
    pub fn responsibility(&self) -> Query<Distance> {
        self.inspect(Dht::responsibility)
    }

    /// Whether this node serves others now.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// println!("a {}", dht.mode().await?);
    /// # Ok(()) }
    /// ```
    pub fn mode(&self) -> Query<Mode> {
        self.inspect(Dht::mode)
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

    /// The counters of dials and streams since the node started, as its driver keeps them.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let stats = dht.driver_stats().await?;
    /// println!("{} peers, {} of {} dials succeeded", stats.connected_peers, stats.dials_succeeded, stats.dials_started);
    /// # Ok(()) }
    /// ```
    pub fn driver_stats(&self) -> Query<DriverStats> {
        Query::of(self.sender.clone().driver_stats())
    }

    /// Waits until the routing table holds a peer, so that operations have someone to ask. Does not join the network by
    /// itself: [`bootstrap`](DhtHandle::bootstrap) does, and so does a node that was told of peers.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// dht.ready().await?;
    /// # Ok(()) }
    /// ```
    pub fn ready(&self) -> Query<()> {
        Query::of(self.sender.clone().ready())
    }

    /// The events of this node from now on: addresses that were refused, values that were stored here, peers that broke
    /// a rule, and more. Each call has a stream of its own; the driver's own events, as those of a swarm, stay as they
    /// are.
    ///
    /// ```no_run
    /// # use futures::StreamExt;
    /// # use libp2p_kad_dht::core::Event;
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let mut events = dht.events().await?;
    /// while let Some(event) = events.next().await {
    ///     if let Event::AddrsRefused { peer, addrs } = event {
    ///         println!("{peer} is not dialled at {addrs:?}");
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn events(&self) -> Query<Events> {
        Query::of(self.sender.clone().listen())
    }

    /// The records that peers bring from now on, for the application to accept or refuse before they are kept and
    /// acknowledged: values and provider records, with their senders and what is held in their place. The verdict may
    /// come later, from any task, within [a time](VerdictConfig::time). The next call takes the place of this one.
    ///
    /// Without a verdict, and once the stream is dropped, [`VerdictConfig::otherwise`] decides: by default nothing of
    /// other peers is kept any more. For a node that asks from its start on, see [`AskingStore`].
    ///
    /// ```no_run
    /// # use futures::StreamExt;
    /// # use libp2p_kad_dht::{Offer, VerdictConfig};
    /// # async fn paid(_: &Offer) -> bool { true }
    /// # async fn example(dht: libp2p_kad_dht::DhtHandle) -> Result<(), libp2p_kad_dht::QueryError> {
    /// let offers = dht.offers(VerdictConfig::default()).await?;
    /// offers
    ///     .for_each_concurrent(None, async |offer| {
    ///         if paid(&offer).await { offer.accept() } else { offer.refuse() }
    ///     })
    ///     .await;
    /// # Ok(()) }
    /// ```
    pub fn offers(&self, config: VerdictConfig) -> Query<Offers> {
        Query::of(self.sender.clone().offers(config))
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

    fn many<I>(
        &self,
        items: impl Iterator<Item = I>,
        publish: impl Fn(&DhtHandle, I) -> (RecordKey, Query<Published>),
    ) -> impl Stream<Item = (RecordKey, Result<Published, QueryError>)> {
        let dht = self.clone();
        let queries = items.map(move |item| {
            let (key, query) = publish(&dht, item);
            async move { (key, query.batched().await) }
        });
        stream::iter(queries).buffer_unordered(MAX_BATCH)
    }

    fn query<T: TryFrom<Answer, Error = Answer> + 'static>(&self, operation: Operation) -> Query<T> {
        Query::new(self.sender.clone(), operation)
    }

    fn inspect<T: Send + 'static>(&self, read: impl FnOnce(&Dht) -> T + Send + Sync + 'static) -> Query<T> {
        Query::of(self.sender.clone().inspect(read))
    }

    fn change(&self, change: impl FnOnce(&mut Dht, Timestamp) + Send + Sync + 'static) -> Sent {
        self.send(Command::Change(Box::new(change)))
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

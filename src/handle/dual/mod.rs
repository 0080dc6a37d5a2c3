//! One handle on two networks: the public one, and the local one beside it.
//!
//! Knows: two handles, and how their results are combined. Must not know: what is asked of either network.

mod pair;
mod streams;

use std::fmt;
use std::sync::Arc;

use libp2p_identity::PeerId;
use multiaddr::Multiaddr;

pub use pair::{FirstOf, JoinBoth};
pub use streams::{DualProviders, DualValues};

use super::{DhtHandle, Query, Sent};
use crate::core::{
    AddressPolicy, Bootstrapped, ClosestPeers, Found, FoundPeer, Published, QueryError, RecordKey, Validator,
};

/// One of the two networks of a [`DualHandle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum DualNetwork {
    /// The wide one: public.
    Wan,
    /// The local one.
    Lan,
}

impl fmt::Display for DualNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DualNetwork::Wan => "wan",
            DualNetwork::Lan => "lan",
        })
    }
}

/// A value for each network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "there are two")]
pub struct PerNetwork<T> {
    /// In the wide one.
    pub wan: T,
    /// In the local one.
    pub lan: T,
}

impl<T> PerNetwork<T> {
    /// The value for this network.
    pub fn get(&self, network: DualNetwork) -> &T {
        match network {
            DualNetwork::Wan => &self.wan,
            DualNetwork::Lan => &self.lan,
        }
    }

    fn map<U>(self, mut change: impl FnMut(T) -> U) -> PerNetwork<U> {
        PerNetwork { wan: change(self.wan), lan: change(self.lan) }
    }
}

/// An operation that worked in neither network, or, where both had to, not in both.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DualError {
    /// The error in the wide one; `None` if it worked there.
    pub wan: Option<QueryError>,
    /// The error in the local one; `None` if it worked there.
    pub lan: Option<QueryError>,
}

impl fmt::Display for DualError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.wan, &self.lan) {
            (Some(wan), Some(lan)) => write!(f, "wan: {wan}; lan: {lan}"),
            (Some(wan), None) => write!(f, "wan: {wan}"),
            (None, Some(lan)) => write!(f, "lan: {lan}"),
            (None, None) => f.write_str("nothing failed"),
        }
    }
}

impl std::error::Error for DualError {}

/// A node of two networks, as an application uses it (rules A3 and A64).
///
/// * **Reads race**: the first network with a good result wins, and the query in the other one is cancelled.
/// * **Writes go to both**, and report on each. A network without peers keeps the record on this node alone, and
///   announces it to other peers once there are any.
/// * **The networks stay apart**: records and addresses of one network are neither requested nor passed on in the
///   other.
///
/// As cheap to clone as a [`DhtHandle`], and as independent of the swarm. The futures and streams that it returns start
/// when they are polled, and are cancelled in both networks when they are dropped. An operation that concerns one
/// network alone goes to [`DualHandle::wan`] or [`DualHandle::lan`].
///
/// ```no_run
/// # async fn example(dht: libp2p_kad_dht::DualHandle) -> Result<(), libp2p_kad_dht::handle::DualError> {
/// let (network, found) = dht.get("/my-app/greeting").await?;
/// println!("the {network} has {:?}", found.record.value);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DualHandle {
    handles: PerNetwork<DhtHandle>,
    validator: Arc<dyn Validator>,
    policies: PerNetwork<AddressPolicy>,
}

impl DualHandle {
    /// A handle on two networks, out of a handle on each. Where both have a value at the same time, `validator` decides
    /// which is better.
    pub fn new(wan: DhtHandle, lan: DhtHandle, validator: Arc<dyn Validator>) -> DualHandle {
        DualHandle { handles: PerNetwork { wan, lan }, validator, policies: PerNetwork::default() }
    }

    /// Divides the addresses of named peers between the networks by these policies, which should be those of the nodes.
    /// Without it each network gets all of them.
    #[must_use]
    pub fn with_policies(mut self, policies: PerNetwork<AddressPolicy>) -> DualHandle {
        self.policies = policies;
        self
    }

    /// The handle on the wide network.
    pub fn wan(&self) -> &DhtHandle {
        &self.handles.wan
    }

    /// The handle on the local network.
    pub fn lan(&self) -> &DhtHandle {
        &self.handles.lan
    }

    /// Runs any operation of [`DhtHandle`] in both networks. Works if it does in one of them.
    ///
    /// ```no_run
    /// # async fn example(dht: libp2p_kad_dht::DualHandle) -> Result<(), libp2p_kad_dht::handle::DualError> {
    /// let tables = dht.both(|dht| dht.routing_table()).await?;
    /// println!("{:?} and {:?}", tables.wan, tables.lan);
    /// # Ok(()) }
    /// ```
    pub fn both<T: 'static>(&self, query: impl FnMut(&DhtHandle) -> Query<T>) -> JoinBoth<T> {
        JoinBoth::new(self.each(query), false)
    }

    /// Finds a value under a key, in the network that has it first. As with any get that ends with the first value
    /// found, there may be a better one in the other network: [`DualHandle::values`] looks for the best of both
    /// networks.
    pub fn get(&self, key: impl Into<RecordKey>) -> FirstOf<Found> {
        let key = key.into();
        FirstOf::new(self.each(|dht| dht.get(key.clone())), Arc::clone(&self.validator))
    }

    /// The values of both networks as a stream of ever better ones, which ends when neither network has a better one.
    pub fn values(&self, key: impl Into<RecordKey>) -> DualValues {
        let key = key.into();
        DualValues::new(self.each(|dht| dht.values(key.clone())), Arc::clone(&self.validator), key)
    }

    /// Keeps a value here and at the k closest peers of each network. Works if it does in one of them.
    pub fn put(&self, key: impl Into<RecordKey>, value: impl AsRef<[u8]>) -> JoinBoth<Published> {
        let key = key.into();
        self.both(|dht| dht.put(key.clone(), &value))
    }

    /// Removes a value that this node keeps for either network. Works if it does for both.
    pub fn remove(&self, key: impl Into<RecordKey>) -> JoinBoth<()> {
        let key = key.into();
        JoinBoth::new(self.each(|dht| dht.remove(key.clone())), true)
    }

    /// Announces to each network that this node provides some content, at the addresses that it has there. Works if it
    /// does in one of them.
    pub fn provide(&self, key: impl Into<RecordKey>) -> JoinBoth<Published> {
        let key = key.into();
        self.both(|dht| dht.provide(key.clone()))
    }

    /// Stops announcing to either network that this node provides some content. Works if it does for both.
    pub fn stop_providing(&self, key: impl Into<RecordKey>) -> JoinBoth<()> {
        let key = key.into();
        JoinBoth::new(self.each(|dht| dht.stop_providing(key.clone())), true)
    }

    /// Finds the providers of some content in either network, each as soon as it is found.
    pub fn providers(&self, key: impl Into<RecordKey>) -> DualProviders {
        let key = key.into();
        DualProviders::new(self.each(|dht| dht.providers(key.clone())))
    }

    /// Finds a peer's addresses, in the network that has them first; if both have them at the same time, the local
    /// ones.
    pub fn find_peer(&self, peer: PeerId) -> FirstOf<FoundPeer> {
        FirstOf::new(self.each(|dht| dht.find_peer(peer)), Arc::clone(&self.validator))
    }

    /// Finds the k peers closest to a key in each network, since closeness is a matter of one network. Works if it does
    /// in one of them.
    pub fn closest_peers(&self, key: impl Into<RecordKey>) -> JoinBoth<ClosestPeers> {
        let key = key.into();
        self.both(|dht| dht.closest_peers(key.clone()))
    }

    /// Joins both networks through the peers that are known. Works if it does in one of them.
    pub fn bootstrap(&self) -> JoinBoth<Bootstrapped> {
        self.both(DhtHandle::bootstrap)
    }

    /// Names a peer that serves the DHT, for a first contact, to each network whose policy admits an address of it; to
    /// the wide one if none does, which then reports that. Sent at once, as [`DhtHandle::add_peer`].
    pub fn add_peer(&self, peer: PeerId, addrs: impl IntoIterator<Item = Multiaddr>) -> Sent {
        let PerNetwork { wan, lan } = self.divided(addrs);
        let wan = wan.map(|addrs| self.wan().add_peer(peer, addrs));
        let lan = lan.map(|addrs| self.lan().add_peer(peer, addrs));
        Sent::all([wan, lan].into_iter().flatten())
    }

    fn each<T>(&self, mut query: impl FnMut(&DhtHandle) -> T) -> PerNetwork<T> {
        PerNetwork { wan: query(self.wan()), lan: query(self.lan()) }
    }

    /// The addresses of a peer that go to each network; `None` where the peer is not named at all.
    pub(crate) fn divided(&self, addrs: impl IntoIterator<Item = Multiaddr>) -> PerNetwork<Option<Vec<Multiaddr>>> {
        let addrs: Vec<_> = addrs.into_iter().collect();
        let admitted = |policy: AddressPolicy| -> Vec<_> {
            addrs.iter().filter(|addr| policy.admits(addr.as_ref())).cloned().collect()
        };
        let (wan, lan) = (admitted(self.policies.wan), admitted(self.policies.lan));
        if addrs.is_empty() {
            return PerNetwork { wan: Some(wan), lan: Some(lan) };
        }
        let [wan, lan] = [wan, lan].map(|addrs| (!addrs.is_empty()).then_some(addrs));
        if wan.is_none() && lan.is_none() { PerNetwork { wan: Some(addrs), lan } } else { PerNetwork { wan, lan } }
    }
}

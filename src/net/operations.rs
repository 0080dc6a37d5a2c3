//! The operations of a handle in the event style: each returns at once, and its results come as events.
//!
//! Knows: the name of each operation. Must not know: how any of them is carried out.

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::behaviour::Behaviour;
use crate::core::{Busy, Operation, QueryId, QueryOptions, RecordKey};

/// The operations of [`DhtHandle`](crate::DhtHandle) with the configured options. [`Behaviour::start`] takes any
/// operation, and options.
impl Behaviour {
    /// Finds the best value under a key. As [`DhtHandle::get`](crate::DhtHandle::get).
    ///
    /// ```
    /// # use libp2p_kad_dht::{Behaviour, Busy, Event, Found, QueryEvent};
    /// # fn example(kad: &mut Behaviour, next_event: impl Fn() -> Event) -> Result<(), Busy> {
    /// let query = kad.get("/my-app/greeting")?;
    /// match next_event() {
    ///     Event::QueryProgressed { id, event: QueryEvent::Finished(result) } if id == query => {
    ///         let found = result.map(Found::try_from);
    ///         println!("{found:?}");
    ///     }
    ///     _ => {}
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn get(&mut self, key: impl Into<RecordKey>) -> Result<QueryId, Busy> {
        self.start(Operation::Get { key: key.into() }, QueryOptions::default())
    }

    /// Keeps a value here and at the peers closest to its key. As [`DhtHandle::put`](crate::DhtHandle::put).
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn put(&mut self, key: impl Into<RecordKey>, value: impl AsRef<[u8]>) -> Result<QueryId, Busy> {
        let value = Bytes::copy_from_slice(value.as_ref());
        self.start(Operation::Put { key: key.into(), value }, QueryOptions::default())
    }

    /// Announces to the peers closest to a key that this node provides its content. As
    /// [`DhtHandle::provide`](crate::DhtHandle::provide).
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn provide(&mut self, key: impl Into<RecordKey>) -> Result<QueryId, Busy> {
        self.start(Operation::Provide { key: key.into() }, QueryOptions::default())
    }

    /// Finds the providers of some content. As [`DhtHandle::providers`](crate::DhtHandle::providers).
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn providers(&mut self, key: impl Into<RecordKey>) -> Result<QueryId, Busy> {
        self.start(Operation::Providers { key: key.into() }, QueryOptions::default())
    }

    /// Finds a peer's addresses. As [`DhtHandle::find_peer`](crate::DhtHandle::find_peer).
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn find_peer(&mut self, peer: PeerId) -> Result<QueryId, Busy> {
        self.start(Operation::FindPeer { peer }, QueryOptions::default())
    }

    /// Finds the peers closest to a key. As [`DhtHandle::closest_peers`](crate::DhtHandle::closest_peers).
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn closest_peers(&mut self, key: impl Into<RecordKey>) -> Result<QueryId, Busy> {
        self.start(Operation::ClosestPeers { key: key.into().to_shared() }, QueryOptions::default())
    }

    /// Stops announcing that this node provides some content. As
    /// [`DhtHandle::stop_providing`](crate::DhtHandle::stop_providing).
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn stop_providing(&mut self, key: impl Into<RecordKey>) -> Result<QueryId, Busy> {
        self.start(Operation::StopProviding { key: key.into() }, QueryOptions::default())
    }

    /// Removes a value that this node keeps. As [`DhtHandle::remove`](crate::DhtHandle::remove).
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn remove(&mut self, key: impl Into<RecordKey>) -> Result<QueryId, Busy> {
        self.start(Operation::Remove { key: key.into() }, QueryOptions::default())
    }

    /// Joins the network. As [`DhtHandle::bootstrap`](crate::DhtHandle::bootstrap).
    ///
    /// # Errors
    ///
    /// As [`Behaviour::start`].
    pub fn bootstrap(&mut self) -> Result<QueryId, Busy> {
        self.start(Operation::Bootstrap, QueryOptions::default())
    }
}

//! `libp2p-kad`: its defaults, without the bootstrap that it repeats, so that nothing runs beside what is measured.

use bytes::{Bytes, BytesMut};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use libp2p_kad::store::{MemoryStore, MemoryStoreConfig, RecordStore};
use libp2p_kad::{
    Behaviour, Config, ConnectionType, Event, GetClosestPeersError, GetProvidersOk, GetRecordOk, KBucketKey, KadPeer,
    Mode, QueryId, QueryResult, Quorum, Record,
};
use serde_json::{Value, json};

use crate::node::{Adapter, Ended, PROTOCOL, Running, stranger};
use crate::parts::Table;
use crate::wire;

pub(crate) struct Theirs;

impl Adapter for Theirs {
    type Behaviour = Behaviour<MemoryStore>;
    type Query = QueryId;

    fn behaviour(keypair: &Keypair) -> Self::Behaviour {
        let local = keypair.public().to_peer_id();
        let mut config = Config::new(PROTOCOL);
        config.set_periodic_bootstrap_interval(None);
        let room = MemoryStoreConfig { max_records: 1 << 20, max_provided_keys: 1 << 20, ..Default::default() };
        let mut behaviour = Behaviour::with_config(local, MemoryStore::with_config(local, room), config);
        behaviour.set_mode(Some(Mode::Server));
        behaviour
    }

    fn settings() -> Value {
        json!({
            "k": 20, "alpha": 3, "periodic_bootstrap": "off", "put": "quorum all", "store": "2^20 records and keys",
            "get": "runs to its end, the first value is measured apart",
        })
    }

    fn learn(behaviour: &mut Self::Behaviour, peer: PeerId, addr: Multiaddr) {
        behaviour.add_address(&peer, addr);
    }

    fn fill(behaviour: &mut Self::Behaviour, peers: &[(PeerId, Vec<Multiaddr>)]) {
        for (peer, addrs) in peers {
            for addr in addrs {
                behaviour.add_address(peer, addr.clone());
            }
        }
    }

    fn has(behaviour: &mut Self::Behaviour, key: &[u8]) -> bool {
        behaviour.store_mut().get(&key.to_vec().into()).is_some()
    }

    fn bootstrap(behaviour: &mut Self::Behaviour) -> Option<QueryId> {
        behaviour.bootstrap().ok()
    }

    fn closest(behaviour: &mut Self::Behaviour, key: &[u8]) -> QueryId {
        behaviour.get_closest_peers(key.to_vec())
    }

    fn put(behaviour: &mut Self::Behaviour, key: &[u8], value: Vec<u8>) -> QueryId {
        behaviour.put_record(Record::new(key.to_vec(), value), Quorum::All).expect("stores")
    }

    fn get(behaviour: &mut Self::Behaviour, key: &[u8]) -> QueryId {
        behaviour.get_record(key.to_vec().into())
    }

    fn provide(behaviour: &mut Self::Behaviour, key: &[u8]) -> QueryId {
        behaviour.start_providing(key.to_vec().into()).expect("stores")
    }

    fn on_event(event: Event, running: &mut Running<QueryId>) -> Option<Ended> {
        let Event::OutboundQueryProgressed { id, result, stats, step } = event else { return None };
        let ended = running.get(&id)?;
        ended.requests = stats.num_requests() as usize;
        match result {
            QueryResult::GetClosestPeers(result) => {
                ended.ok = result.is_ok();
                let peers = match result {
                    Ok(found) => found.peers,
                    Err(GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                ended.peers = peers.into_iter().map(|peer| peer.peer_id).collect();
            }
            QueryResult::Bootstrap(result) => ended.ok = result.is_ok(),
            QueryResult::PutRecord(result) => ended.ok = result.is_ok(),
            QueryResult::StartProviding(result) => ended.ok = result.is_ok(),
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(_)))
            | QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { .. })) => {
                ended.ok = true;
                running.note_first(&id);
            }
            _ => {}
        }
        if step.last { running.end(&id) } else { None }
    }
}

pub(crate) struct TheirTable(Behaviour<MemoryStore>);

impl Table for TheirTable {
    fn new(local: PeerId) -> TheirTable {
        let mut config = Config::new(PROTOCOL);
        config.set_periodic_bootstrap_interval(None);
        TheirTable(Behaviour::with_config(local, MemoryStore::new(local), config))
    }

    fn add(&mut self, peer: &PeerId, addrs: &[Multiaddr]) {
        for addr in addrs {
            self.0.add_address(peer, addr.clone());
        }
    }

    /// The peers with their addresses, as its behaviour finds them for a FIND_NODE.
    fn closest(&mut self, key: &[u8]) -> usize {
        let target = KBucketKey::from(key.to_vec());
        self.0.find_closest_local_peers(&target, &stranger()).map(std::hint::black_box).count()
    }

    fn answer(&mut self, key: &[u8], out: &mut BytesMut) {
        let target = KBucketKey::from(key.to_vec());
        let peers = self.0.find_closest_local_peers(&target, &stranger()).collect();
        wire::encode(peers, out);
    }

    fn decode(body: Bytes) -> usize {
        std::hint::black_box(wire::decode(body)).len()
    }
}

/// The same peers as `libp2p-kad` names them: each address with the peer's id at its end, or without.
pub(crate) fn as_named(peers: &[(PeerId, Vec<Multiaddr>)], with_id: bool) -> Vec<KadPeer> {
    let named = |(peer, addrs): &(PeerId, Vec<Multiaddr>)| KadPeer {
        node_id: *peer,
        multiaddrs: addrs
            .iter()
            .map(|addr| if with_id { addr.clone().with_p2p(*peer).expect("no other id") } else { addr.clone() })
            .collect(),
        connection_ty: ConnectionType::Connected,
    };
    peers.iter().map(named).collect()
}

//! A node of `libp2p-kad`, with the glue that its users must write, and its queries as futures.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify};
use libp2p_kad as kad;

use crate::live::{Host, Node, PROTOCOL, until};

#[derive(NetworkBehaviour)]
pub(crate) struct App {
    pub(crate) kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
}

impl Host for App {
    fn on_event(swarm: &mut Swarm<App>, event: &SwarmEvent<AppEvent>) {
        match event {
            SwarmEvent::Behaviour(AppEvent::Identify(identify::Event::Received { peer_id, info, .. }))
                if info.protocols.contains(&PROTOCOL) =>
            {
                for addr in &info.listen_addrs {
                    swarm.behaviour_mut().kad.add_address(peer_id, addr.clone());
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => swarm.add_external_address(address.clone()),
            _ => {}
        }
    }
}

pub(crate) type Theirs = Node<App>;

/// A server with this k for records.
pub(crate) async fn start(k: NonZeroUsize) -> Theirs {
    let node = Node::start(Duration::from_secs(10), |key| {
        let peer = key.public().to_peer_id();
        let mut config = kad::Config::new(PROTOCOL);
        config.set_replication_factor(k);
        let mut kad = kad::Behaviour::with_config(peer, kad::store::MemoryStore::new(peer), config);
        kad.set_mode(Some(kad::Mode::Server));
        let identify = identify::Behaviour::new(identify::Config::new("/test/1.0.0".into(), key.public()));
        App { kad, identify }
    })
    .await;
    let addr = node.addr.clone();
    node.act(|swarm| swarm.add_external_address(addr)).await;
    node
}

impl Node<App> {
    pub(crate) async fn add_peer(&self, peer: PeerId, addrs: Vec<Multiaddr>) {
        self.act(move |swarm| {
            for addr in addrs {
                swarm.behaviour_mut().kad.add_address(&peer, addr);
            }
        })
        .await;
    }

    pub(crate) async fn table(&self) -> Vec<PeerId> {
        self.act(|swarm| {
            let buckets = swarm.behaviour_mut().kad.kbuckets();
            buckets.flat_map(|bucket| bucket.iter().map(|e| *e.node.key.preimage()).collect::<Vec<_>>()).collect()
        })
        .await
    }

    pub(crate) async fn put(&self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let record = kad::Record::new(key.to_vec(), value.to_vec());
        let start = move |kad: &mut kad::Behaviour<_>| kad.put_record(record, kad::Quorum::One).unwrap();
        match self.last(start).await {
            kad::QueryResult::PutRecord(result) => result.map(|_| ()).map_err(|why| why.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// The values found, each with the peer that had it; none for the node itself.
    pub(crate) async fn get(&self, key: &[u8]) -> Vec<(Vec<u8>, Option<PeerId>)> {
        let key = kad::RecordKey::new(&key);
        let results = self.all(move |kad| kad.get_record(key)).await;
        let found = results.into_iter().filter_map(|result| match result {
            kad::QueryResult::GetRecord(Ok(kad::GetRecordOk::FoundRecord(found))) => {
                Some((found.record.value, found.peer))
            }
            _ => None,
        });
        found.collect()
    }

    pub(crate) async fn provide(&self, key: &[u8]) -> Result<(), String> {
        let key = kad::RecordKey::new(&key);
        match self.last(move |kad| kad.start_providing(key).unwrap()).await {
            kad::QueryResult::StartProviding(result) => result.map(|_| ()).map_err(|why| why.to_string()),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn providers(&self, key: &[u8]) -> BTreeSet<PeerId> {
        let key = kad::RecordKey::new(&key);
        let results = self.all(move |kad| kad.get_providers(key)).await;
        let found = results.into_iter().filter_map(|result| match result {
            kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) => {
                Some(providers)
            }
            _ => None,
        });
        found.flatten().collect()
    }

    pub(crate) async fn closest(&self, key: &[u8], count: NonZeroUsize) -> Vec<kad::PeerInfo> {
        let key = key.to_vec();
        match self.last(move |kad| kad.get_n_closest_peers(key, count)).await {
            kad::QueryResult::GetClosestPeers(Ok(found)) => found.peers,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn bootstrap(&self) -> Result<(), String> {
        match self.last(|kad| kad.bootstrap().unwrap()).await {
            kad::QueryResult::Bootstrap(result) => result.map(|_| ()).map_err(|why| why.to_string()),
            other => panic!("{other:?}"),
        }
    }

    async fn last(
        &self,
        start: impl FnOnce(&mut kad::Behaviour<kad::store::MemoryStore>) -> kad::QueryId + Send + 'static,
    ) -> kad::QueryResult {
        self.all(start).await.pop().unwrap()
    }

    /// All results of a query in order.
    async fn all(
        &self,
        start: impl FnOnce(&mut kad::Behaviour<kad::store::MemoryStore>) -> kad::QueryId + Send + 'static,
    ) -> Vec<kad::QueryResult> {
        let query = self.act(|swarm| start(&mut swarm.behaviour_mut().kad)).await;
        until("the last result of a query of libp2p-kad", async || {
            let results = self.seen(|event| match event {
                SwarmEvent::Behaviour(AppEvent::Kad(kad::Event::OutboundQueryProgressed {
                    id, result, step, ..
                })) if *id == query => Some((result.clone(), step.last)),
                _ => None,
            });
            let over = results.last().is_some_and(|(_, last)| *last);
            over.then(|| results.into_iter().map(|(result, _)| result).collect())
        })
        .await
    }
}

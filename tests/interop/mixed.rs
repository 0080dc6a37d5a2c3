//! Every operation, in both directions: in a network of ten nodes each, and with servers of one kind only.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;
use libp2p::PeerId;
use libp2p_kad_dht as kad;
use libp2p_kad_dht::core::{Contact, Kind, Request, Response};
use libp2p_kad_dht::{Key, Mode, wire};

use crate::live::{Ours, PROTOCOL, Raw, read, soon, until, write};
use crate::table::Table;
use crate::theirs::{self, Theirs};

/// Number of nodes that store a record: few of twenty, so that most readers must ask others.
const K: NonZeroUsize = NonZeroUsize::new(5).unwrap();

fn config() -> kad::Config {
    let mut core = kad::core::DhtConfig::default();
    core.lookup.replication = K;
    core.lookup.resiliency = NonZeroUsize::new(3).unwrap();
    kad::Config::new(PROTOCOL).with_core(core)
}

async fn ours() -> Ours {
    Ours::with(config(), true, Duration::from_secs(10)).await
}

struct Network {
    ours: Vec<Ours>,
    theirs: Vec<Theirs>,
}

impl Network {
    /// Ten nodes each; all know the first of the other kind at their start, and the first know each other.
    async fn start() -> Network {
        let ours = join_all((0..10).map(|_| ours())).await;
        let theirs = join_all((0..10).map(|_| theirs::start(K))).await;
        for node in &ours {
            node.dht.add_peer(theirs[0].peer, [theirs[0].addr.clone()]);
        }
        for node in &theirs {
            node.add_peer(ours[0].peer, vec![ours[0].addr.clone()]).await;
        }
        Network { ours, theirs }
    }

    fn peers(&self) -> Vec<PeerId> {
        self.ours.iter().map(|node| node.peer).chain(self.theirs.iter().map(|node| node.peer)).collect()
    }

    /// A node's answer to a stranger's GET_PROVIDERS.
    async fn held_providers(&self, holder: PeerId, key: &[u8]) -> Vec<Arc<Contact>> {
        let stranger = Raw::mute().await;
        let ours = self.ours.iter().map(|node| (node.peer, &node.addr));
        let mut all = ours.chain(self.theirs.iter().map(|node| (node.peer, &node.addr)));
        let (_, addr) = all.find(|(peer, _)| *peer == holder).unwrap();
        assert!(stranger.reaches(holder, vec![addr.clone()]).await);
        let mut stream = stranger.open(holder).await.unwrap();
        let request = Request::GetProviders { key: key.into() };
        assert!(write(&mut stream, &wire::encode_request(&request, wire::MAX_OUT).unwrap()).await);
        let answer = soon(read(&mut stream)).await.unwrap();
        match wire::decode_response(Kind::GetProviders, answer) {
            Ok(Response::GetProviders { providers, .. }) => providers,
            other => panic!("{other:?}"),
        }
    }

    async fn bootstrap(&self, table: &mut Table) {
        for node in &self.ours {
            let joined = soon(node.dht.bootstrap()).await;
            table.note("bootstrap", "ours", joined.is_ok(), joined);
        }
        for node in &self.theirs {
            let joined = node.bootstrap().await;
            table.note("bootstrap", "theirs", joined.is_ok(), joined);
        }
    }

    /// Waits until all nodes know all: a record goes to few nodes, and an incomplete table may lead a reader elsewhere.
    async fn settle(&self) {
        let all: BTreeSet<PeerId> = self.peers().into_iter().collect();
        let lacks = |table: Vec<PeerId>, own: PeerId| {
            let known: BTreeSet<PeerId> = table.into_iter().chain([own]).collect();
            all.difference(&known).count()
        };
        until("all know all", async || {
            let mut missing = 0;
            for node in &self.ours {
                let lacking = lacks(node.table().await, node.peer);
                if lacking > 0 {
                    let _ = soon(node.dht.bootstrap()).await;
                }
                missing += lacking;
            }
            for node in &self.theirs {
                let lacking = lacks(node.table().await, node.peer);
                if lacking > 0 {
                    let _ = node.bootstrap().await;
                }
                missing += lacking;
            }
            (missing == 0).then_some(())
        })
        .await;
    }
}

/// Whether a new node can connect to a peer at these addresses.
async fn dialable(contact: &Contact) -> bool {
    Raw::mute().await.reaches(*contact.peer(), contact.addrs().collect()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_nodes_of_each_share_everything() {
    let mut table = Table::default();
    let network = Network::start().await;
    network.bootstrap(&mut table).await;
    network.settle().await;
    values(&network, &mut table).await;
    providers(&network, &mut table).await;
    peers(&network, &mut table).await;
    closest(&network, &mut table).await;
    ping(&network, &mut table).await;
    table.conclude("ten nodes of ours and ten of libp2p-kad");
}

async fn values(network: &Network, table: &mut Table) {
    let mut asked = 0;
    for (n, writer) in network.ours.iter().enumerate().take(4) {
        let (key, value) = (format!("/test/ours/{n}"), format!("value of ours {n}"));
        let put = soon(writer.dht.put(key.as_bytes(), value.as_bytes())).await;
        table.note("put", "ours", put.as_ref().is_ok_and(|put| put.report.acknowledged.len() == K.get()), put);
        for reader in &network.theirs {
            let found = reader.get(key.as_bytes()).await;
            asked += usize::from(found.iter().all(|(_, from)| from.is_some()));
            let right = !found.is_empty() && found.iter().all(|(found, _)| found == value.as_bytes());
            table.note("get", "ours put, theirs get", right, found);
        }
    }
    table.remark("get", "ours put, theirs get", format!("{asked} from another node"));
    asked = 0;
    for (n, writer) in network.theirs.iter().enumerate().take(4) {
        let (key, value) = (format!("/test/theirs/{n}"), format!("value of theirs {n}"));
        let put = writer.put(key.as_bytes(), value.as_bytes()).await;
        table.note("put", "theirs", put.is_ok(), put);
        for reader in &network.ours {
            let found = soon(reader.dht.get(key.as_bytes())).await;
            asked += usize::from(found.as_ref().is_ok_and(|found| found.from.is_some()));
            table.note(
                "get",
                "theirs put, ours get",
                found.as_ref().is_ok_and(|found| found.record.value == value.as_bytes()),
                found,
            );
        }
    }
    table.remark("get", "theirs put, ours get", format!("{asked} from another node"));
    assert!(asked >= 20, "most readers keep no copy");
}

async fn providers(network: &Network, table: &mut Table) {
    for (n, provider) in network.ours.iter().enumerate().take(4) {
        let key = format!("content of ours {n}");
        let provided = soon(provider.dht.provide(key.as_bytes())).await;
        let told = provided.as_ref().is_ok_and(|provided| provided.report.acknowledged.len() == K.get());
        table.note("provide", "ours", told, &provided);
        for seeker in &network.theirs {
            let found = seeker.providers(key.as_bytes()).await;
            table.note("providers", "ours provide, theirs find", found == BTreeSet::from([provider.peer]), &found);
        }
        // A result of libp2p-kad has no addresses, so the holders of the record are asked for theirs.
        for holder in provided.into_iter().flat_map(|provided| provided.report.acknowledged) {
            let found = network.held_providers(holder, key.as_bytes()).await;
            let reached = found.len() == 1 && found[0].peer() == &provider.peer && dialable(&found[0]).await;
            table.note("dial a provider", "ours provide, all hold", reached, found);
        }
    }
    for (n, provider) in network.theirs.iter().enumerate().take(4) {
        let key = format!("content of theirs {n}");
        let provided = provider.provide(key.as_bytes()).await;
        table.note("provide", "theirs", provided.is_ok(), provided);
        for seeker in &network.ours {
            let found: Vec<_> = soon(seeker.dht.providers(key.as_bytes()).collect::<Vec<_>>()).await;
            let right = found.len() == 1 && found[0].id == provider.peer;
            table.note("providers", "theirs provide, ours find", right, &found);
            let Some(found) = found.into_iter().next() else { continue };
            let reached = Raw::mute().await.reaches(found.id, found.addrs).await;
            table.note("dial a provider", "theirs provide, ours find", reached, found.id);
        }
    }
}

async fn peers(network: &Network, table: &mut Table) {
    for (seeker, wanted) in network.ours.iter().zip(&network.theirs) {
        let found = soon(seeker.dht.find_peer(wanted.peer)).await;
        let right = found.as_ref().is_ok_and(|found| found.peer.addrs.contains(&wanted.addr));
        table.note("find peer", "ours find theirs", right, found);
    }
    for (seeker, wanted) in network.theirs.iter().zip(&network.ours) {
        let found = seeker.closest(&wanted.peer.to_bytes(), K).await;
        let right = found.iter().any(|found| found.peer_id == wanted.peer);
        table.note("find peer", "theirs find ours", right, found);
    }
}

/// Orders peers by their distance to a key.
fn nearest_first(peers: &mut [PeerId], key: &[u8]) {
    let target = Key::hash(key);
    peers.sort_by_key(|peer| Contact::new(*peer, []).key().distance(&target));
}

/// Each lookup must find exactly the k closest of all twenty nodes, without the node itself.
async fn closest(network: &Network, table: &mut Table) {
    let truth = |own: PeerId, key: &[u8]| {
        let mut peers = network.peers();
        peers.retain(|peer| *peer != own);
        nearest_first(&mut peers, key);
        peers.truncate(K.get());
        peers
    };
    for (n, node) in network.ours.iter().enumerate() {
        let key = format!("point {n}");
        let found = soon(node.dht.closest_peers(key.as_bytes())).await;
        let peers = found.as_ref().map(|found| found.peers.iter().map(|peer| peer.id).collect::<Vec<_>>());
        let right = peers.as_ref().is_ok_and(|peers| *peers == truth(node.peer, key.as_bytes()));
        table.note("closest peers", "ours", right, &found);
        let addresses = found.is_ok_and(|found| found.peers.iter().all(|peer| !peer.addrs.is_empty()));
        table.note("their addresses", "ours", addresses, ());
    }
    for (n, node) in network.theirs.iter().enumerate() {
        let key = format!("point {n} of theirs");
        let found = node.closest(key.as_bytes(), K).await;
        let peers: Vec<_> = found.iter().map(|info| info.peer_id).collect();
        table.note("closest peers", "theirs", peers == truth(node.peer, key.as_bytes()), &found);
    }
}

/// `libp2p-kad` neither sends nor answers PING: this test sends bytes.
async fn ping(network: &Network, table: &mut Table) {
    let raw = Raw::mute().await;
    let node = &network.ours[0];
    assert!(raw.reaches(node.peer, vec![node.addr.clone()]).await);
    let mut stream = raw.open(node.peer).await.unwrap();
    for _ in 0..2 {
        let request = wire::encode_request(&Request::Ping, wire::MAX_OUT).unwrap();
        assert!(write(&mut stream, &request).await);
        let answer = soon(read(&mut stream)).await;
        let right = answer
            .as_ref()
            .is_some_and(|answer| wire::decode_response(Kind::Ping, Bytes::clone(answer)) == Ok(Response::Ping));
        table.note("ping", "ours", right, answer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_clients_use_servers_of_theirs() {
    let mut table = Table::default();
    let servers = join_all((0..6).map(|_| theirs::start(K))).await;
    for server in &servers {
        server.add_peer(servers[0].peer, vec![servers[0].addr.clone()]).await;
    }
    let config = || config().with_mode(Some(Mode::Client));
    let alice = Ours::with(config(), true, Duration::from_secs(10)).await;
    let bob = Ours::with(config(), true, Duration::from_secs(10)).await;
    for server in &servers[1..] {
        assert_eq!(server.bootstrap().await, Ok(()));
    }
    for client in [&alice, &bob] {
        client.dht.add_peer(servers[0].peer, [servers[0].addr.clone()]);
        let joined = soon(client.dht.bootstrap()).await;
        table.note("bootstrap", "ours", joined.is_ok(), joined);
    }
    let put = soon(alice.dht.put(b"/test/a", b"value")).await;
    table.note("put", "ours", put.as_ref().is_ok_and(|put| put.report.acknowledged.len() == K.get()), put);
    let found = soon(bob.dht.get(b"/test/a")).await;
    table.note("get", "ours", found.as_ref().is_ok_and(|found| &found.record.value[..] == b"value"), found);
    let provided = soon(alice.dht.provide(b"content")).await;
    table.note("provide", "ours", provided.is_ok(), provided);
    let providers: Vec<_> = soon(bob.dht.providers(b"content").collect::<Vec<_>>()).await;
    let right = providers.len() == 1 && providers[0].id == alice.peer && providers[0].addrs.contains(&alice.addr);
    table.note("providers", "ours", right, providers);
    let found = soon(bob.dht.find_peer(servers[3].peer)).await;
    table.note("find peer", "ours", found.is_ok(), found);
    for server in &servers {
        let table_of_server = server.table().await;
        let clean = !table_of_server.contains(&alice.peer) && !table_of_server.contains(&bob.peer);
        table.note("clients in no table", "theirs", clean, table_of_server);
    }
    table.conclude("our clients, their servers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_clients_use_servers_of_ours() {
    let mut table = Table::default();
    let servers = join_all((0..6).map(|_| ours())).await;
    for server in &servers[1..] {
        server.learns(&servers[0]).await;
        soon(server.dht.bootstrap()).await.unwrap();
    }
    let (alice, bob) = (theirs::start(K).await, theirs::start(K).await);
    for client in [&alice, &bob] {
        client.act(|swarm| swarm.behaviour_mut().kad.set_mode(Some(libp2p_kad::Mode::Client))).await;
        client.add_peer(servers[0].peer, vec![servers[0].addr.clone()]).await;
        let joined = client.bootstrap().await;
        table.note("bootstrap", "theirs", joined.is_ok(), joined);
    }
    let put = alice.put(b"/test/a", b"value").await;
    table.note("put", "theirs", put.is_ok(), put);
    let found = bob.get(b"/test/a").await;
    let right = !found.is_empty() && found.iter().all(|(value, from)| value == b"value" && from.is_some());
    table.note("get", "theirs", right, found);
    let provided = alice.provide(b"content").await;
    table.note("provide", "theirs", provided.is_ok(), provided);
    let providers = bob.providers(b"content").await;
    table.note("providers", "theirs", providers == BTreeSet::from([alice.peer]), providers);
    let found = bob.closest(&servers[3].peer.to_bytes(), K).await;
    table.note("find peer", "theirs", found.iter().any(|found| found.peer_id == servers[3].peer), found);
    for server in &servers {
        let table_of_server = server.table().await;
        let clean = !table_of_server.contains(&alice.peer) && !table_of_server.contains(&bob.peer);
        table.note("clients in no table", "ours", clean, table_of_server);
    }
    table.conclude("their clients, our servers");
}

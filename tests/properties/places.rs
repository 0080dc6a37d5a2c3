//! Addresses of every kind, and the invariant that a node of the public network uses only public addresses of other
//! peers.
//!
//! Knows: which of the test's addresses are good, decided by hand and not by the policy under test. Must not know: the
//! policy.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::store::{Item, Scan, StoreExt as _};
use libp2p_kad_dht::core::{
    AddressPolicy, Answer, ClosestPeers, Contact, Event, FoundPeer, Output, PeerRecord, QueryEvent, Reply, Request,
    Response, RoutingSnapshot,
};
use multiaddr::Multiaddr;

use super::actions::{PEERS, peer};
use super::lawful::Lawful;

/// Addresses that are of no use in a public network.
const BAD: &[&str] = &[
    "/ip4/127.0.0.1/tcp/1",
    "/ip4/10.1.2.3/tcp/1",
    "/ip4/172.20.0.1/udp/1/quic-v1",
    "/ip4/192.168.0.1/tcp/1",
    "/ip4/169.254.7.7/tcp/1",
    "/ip4/100.64.0.1/tcp/1",
    "/ip4/192.0.2.7/tcp/1",
    "/ip4/0.0.0.0/tcp/1",
    "/ip4/224.0.0.1/tcp/1",
    "/ip4/255.255.255.255/tcp/1",
    "/ip6/::1/tcp/1",
    "/ip6/::/tcp/1",
    "/ip6/fe80::1/tcp/1",
    "/ip6/fd00::1/tcp/1",
    "/ip6/2001:db8::1/tcp/1",
    "/ip6/ff02::1/tcp/1",
    "/ip6/::ffff:10.0.0.1/tcp/1",
    "/ip6/::ffff:127.0.0.1/tcp/1",
    "/ip6/64:ff9b::a00:1/tcp/1",
    "/dns4/localhost/tcp/1",
    "/dns/db.internal/tcp/1",
    "/dns/node.local/tcp/1",
    "/memory/1",
    "/unix/a",
    "/ip4/192.168.0.2/tcp/1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit",
];
/// The relay that some peers share.
const RELAYED: &str = "/ip4/8.9.9.9/tcp/1/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit";

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

fn is_bad(raw: &[u8]) -> bool {
    static RAW: LazyLock<BTreeSet<Vec<u8>>> = LazyLock::new(|| BAD.iter().map(|text| addr(text).to_vec()).collect());
    RAW.contains(raw)
}

fn is_relayed(raw: &[u8]) -> bool {
    static RAW: LazyLock<Vec<u8>> = LazyLock::new(|| addr(RELAYED).to_vec());
    raw == *RAW
}

/// The addresses that peer number `i` has, or is said to have: usually a good one, with others before and after it. The
/// first peer is the node itself; some of the others claim its address.
pub(crate) fn addrs(i: u32) -> Vec<Multiaddr> {
    let good = |i: u32| addr(&format!("/ip4/8.0.{}.{}/tcp/1", i >> 8 & 0xff, i & 0xff));
    let bad = |i: u32| addr(BAD[i as usize % BAD.len()]);
    match i % 8 {
        0 => vec![good(i), bad(i / 8 * 3), addr(RELAYED)],
        1 => vec![good(0), bad(i), good(i)],
        2 => vec![bad(i), bad(i + 7)],
        3 => vec![addr(RELAYED), bad(i)],
        4 => vec![bad(i), good(i)],
        5 => vec![good(0), addr(RELAYED)],
        6 => vec![good(i), bad(i), bad(i + 11)],
        _ => vec![good(i)],
    }
}

impl Lawful {
    fn is_public(&self) -> bool {
        self.config.address_policy == AddressPolicy::Public
    }

    /// Checks that no address is bad, and that none of another peer is the node's own.
    fn good(&self, contact: &Contact, whence: &str) {
        let own = self.dht.local();
        for raw in contact.raw_addrs() {
            assert!(!is_bad(raw), "{whence}: {contact:?}");
            let shared = contact.peer() == own.peer() || is_relayed(raw);
            assert!(shared || !own.has_addr(raw), "{whence}: an address of {contact:?} is its own");
        }
    }

    fn good_record(&self, peer: &PeerRecord, whence: &str) {
        self.good(&Contact::new(peer.id, peer.addrs.iter().cloned()), whence);
    }

    /// The same, and that at least one address is not through a relay.
    fn routable(&self, contact: &Contact, whence: &str) {
        self.good(contact, whence);
        assert!(contact.raw_addrs().any(|raw| !is_relayed(raw)), "{whence}: {contact:?} is out of reach");
    }

    pub(crate) fn check_places(&self, output: &Output) {
        if !self.is_public() {
            return;
        }
        match output {
            Output::Send { to, request, .. } => {
                self.good(to, "send");
                let connected = self.connected.contains(to.peer());
                assert!(to.has_addrs() || connected || self.moved, "no address of {to:?} is known: {request:?}");
                if let Request::AddProvider { providers, .. } = request {
                    providers.iter().for_each(|provider| self.good(provider, "announcement"));
                    assert!(providers.iter().all(|provider| provider.has_addrs()), "it announces no address");
                }
            }
            Output::Reply { reply: Reply::Answer(response), id, .. } => self.check_answer(response, *id),
            Output::Event(Event::QueryProgressed { event: QueryEvent::Provider(provider), .. }) => {
                self.good_record(provider, "found")
            }
            Output::Event(Event::QueryProgressed { event: QueryEvent::Finished(result), .. }) => match &**result {
                Ok(Answer::Peer(FoundPeer { peer, .. })) => self.good_record(peer, "found"),
                Ok(Answer::ClosestPeers(ClosestPeers { peers, .. })) => {
                    peers.iter().for_each(|peer| self.good_record(peer, "closest"))
                }
                _ => {}
            },
            _ => {}
        }
    }

    fn check_answer(&self, response: &Response, id: libp2p_kad_dht::core::InboundId) {
        let target = match self.inbound.get(&id) {
            Some((_, Request::FindNode { key })) => key.to_vec(),
            _ => Vec::new(),
        };
        let (closer, providers) = match response {
            Response::FindNode { closer } | Response::GetValue { closer, .. } => (closer, None),
            Response::GetProviders { closer, providers, .. } => (closer, Some(providers)),
            _ => return,
        };
        for contact in closer {
            if contact.peer().to_bytes() == target {
                self.good(contact, "target");
            } else {
                self.routable(contact, "closer");
            }
        }
        providers.into_iter().flatten().for_each(|provider| self.good(provider, "provider"));
    }

    /// Checks the addresses that the node knows whenever all outputs were taken.
    pub(crate) fn check_known(&self, table: &RoutingSnapshot) {
        if !self.is_public() {
            return;
        }
        for entry in table.entries() {
            self.routable(&Contact::new(entry.peer, entry.addrs.iter().cloned()), "table");
        }
        static PEER_IDS: LazyLock<Vec<PeerId>> = LazyLock::new(|| (1..PEERS).map(peer).collect());
        let known = PEER_IDS.iter().filter_map(|peer| self.dht.contact(peer));
        known.for_each(|contact| self.good(&contact, "book"));
        self.good(self.dht.local(), "itself");
    }

    /// Checks the stored addresses. An address of another peer that became the node's own later stays stored, but is
    /// not sent.
    pub(crate) fn check_kept(&mut self) {
        if !self.is_public() || self.answers_later() {
            return;
        }
        let limit = NonZeroUsize::new(1_000).unwrap();
        let Ok(items) = self.dht.store().scan(Scan::All, None, limit.get()) else { return };
        let providers = items.iter().filter_map(|item| match item {
            Item::Provider(record) => Some(&record.provider),
            _ => None,
        });
        for provider in providers.map(Arc::clone) {
            assert!(provider.raw_addrs().all(|raw| !is_bad(raw)), "kept: {provider:?}");
            if !self.moved {
                self.good(&provider, "kept");
            }
        }
    }
}

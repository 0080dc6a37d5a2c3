//! One handle on two networks, each driven by hand: the network that is run first answers first.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::Poll;

use libp2p_identity::PeerId;
use libp2p_kad_dht::core::{AddressPolicy, Contact, Evidence, Input, RequestError, Unreachable};
use libp2p_kad_dht::handle::{DriverRequest, DualHandle, DualNetwork, PerNetwork};
use libp2p_kad_dht::{AcceptAny, QueryError, Quorum};
use multiaddr::Multiaddr;

use super::network::{Network, addrs};
use super::{poll, poll_next};

/// The networks of one node, which is the first of each.
struct Two {
    wan: Network,
    lan: Network,
    dht: DualHandle,
}

impl Two {
    /// Networks of this many nodes, in each of which all nodes know each other.
    fn of(wan: usize, lan: usize) -> Two {
        let (mut wan, mut lan) = (Network::new(wan), Network::new(lan));
        wan.introduce();
        lan.introduce();
        let dht = DualHandle::new(wan.handle(0), lan.handle(0), Arc::new(AcceptAny));
        Two { wan, lan, dht }
    }

    /// The last node of a network puts a value; the first one stops answering, if the value should be found by asking
    /// alone.
    fn put(&mut self, which: DualNetwork, key: &str, value: &str) {
        let network = match which {
            DualNetwork::Wan => &mut self.wan,
            DualNetwork::Lan => &mut self.lan,
        };
        let put = network.handle(network.nodes.len() - 1).put(key, value);
        network.finish(put).unwrap();
        let first = network.handle(0).remove(key);
        network.finish(first).unwrap();
    }

    fn run(&mut self) {
        self.wan.run();
        self.lan.run();
    }

    fn assert_idle(&self) {
        self.wan.assert_idle();
        self.lan.assert_idle();
    }
}

fn ready<F: Future + Unpin>(future: &mut F) -> F::Output {
    match poll(future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it has not ended"),
    }
}

#[test]
fn the_first_good_answer_wins_and_the_other_query_is_cancelled() {
    let mut two = Two::of(4, 4);
    two.put(DualNetwork::Wan, "/a/b", "wan");
    two.put(DualNetwork::Lan, "/a/b", "lan");
    let started = |network: &Network| network.nodes[0].dht.stats().queries_started;
    let before = started(&two.wan);
    let mut get = two.dht.get("/a/b");
    assert!(poll(&mut get).is_pending());
    // The wide network has begun, and a peer is asked there.
    assert!(two.wan.step(0));
    assert_eq!(started(&two.wan), before + 1);
    two.lan.run();
    let (which, found) = ready(&mut get).unwrap();
    assert_eq!((which, &found.record.value[..]), (DualNetwork::Lan, &b"lan"[..]));
    two.wan.step(0);
    assert_eq!(two.wan.nodes[0].commands.running(), 0, "cancelled, with the future still there");
    two.run();
    two.assert_idle();

    let mut get = two.dht.get("/a/b");
    assert!(poll(&mut get).is_pending());
    two.wan.run();
    assert_eq!(ready(&mut get).unwrap().0, DualNetwork::Wan);
    two.run();
    two.assert_idle();
}

#[test]
fn polled_after_its_end_it_ends_again_and_never_hangs() {
    let closed = |why: Option<QueryError>| matches!(why, Some(QueryError::Closed));
    let mut two = Two::of(2, 2);
    two.put(DualNetwork::Lan, "/a/b", "lan");
    let (mut get, mut put, mut look) = (two.dht.get("/a/b"), two.dht.put("/a/c", "v"), two.dht.lan().stats());
    assert!(poll(&mut get).is_pending() && poll(&mut put).is_pending() && poll(&mut look).is_pending());
    two.run();
    assert!(ready(&mut get).is_ok() && ready(&mut put).is_ok() && ready(&mut look).is_ok());
    for _ in 0..2 {
        let (get, put) = (ready(&mut get).unwrap_err(), ready(&mut put).unwrap_err());
        assert!(closed(get.wan) && closed(get.lan) && closed(put.wan) && closed(put.lan));
        assert!(closed(ready(&mut look).err()));
    }
}

#[test]
fn one_networks_failure_waits_for_the_other() {
    let mut two = Two::of(4, 4);
    two.put(DualNetwork::Wan, "/a/b", "wan");
    let mut get = two.dht.get("/a/b");
    assert!(poll(&mut get).is_pending());
    two.lan.run();
    assert!(poll(&mut get).is_pending(), "not found there, and not over");
    two.wan.run();
    assert_eq!(ready(&mut get).unwrap().0, DualNetwork::Wan);

    let mut get = two.dht.get("/a/nothing");
    assert!(poll(&mut get).is_pending());
    two.run();
    let error = ready(&mut get).unwrap_err();
    assert!(matches!(error.wan, Some(QueryError::NotFound(_))), "{error:?}");
    assert!(matches!(error.lan, Some(QueryError::NotFound(_))), "{error:?}");
    let mut alone = Two::of(1, 1);
    let mut find = alone.dht.find_peer(PeerId::random());
    assert!(poll(&mut find).is_pending());
    alone.run();
    assert_eq!(ready(&mut find).unwrap_err().to_string(), "wan: no peers known; lan: no peers known");
}

#[test]
fn hearsay_of_one_network_waits_for_the_other() {
    for (wan, winner, evidence) in
        [(6, DualNetwork::Wan, Evidence::Remembered), (3, DualNetwork::Lan, Evidence::Hearsay)]
    {
        let mut two = Two::of(wan, 3);
        // In the local network one still names a peer that is gone; in the wide one it is there, or no peer knows it.
        let sought = Network::new(6).nodes[5].peer;
        let gone = Contact::new(sought, addrs(5));
        two.lan.nodes[1].dht.admit_verified(two.lan.now, &gone);
        let mut find = two.dht.find_peer(sought);
        assert!(poll(&mut find).is_pending());
        two.lan.run();
        let (id, _) = two.lan.mute.pop_first().unwrap();
        let result = Err(RequestError::Unreachable(Unreachable::NoAddress));
        two.lan.nodes[0].dht.handle_input(two.lan.now, Input::Response { id, result });
        two.lan.run();
        assert!(poll(&mut find).is_pending(), "the other network may reach it");
        two.wan.run();
        let (network, found) = ready(&mut find).unwrap();
        assert_eq!((network, found.evidence), (winner, evidence));
    }
}

#[test]
fn where_both_have_a_value_the_validator_decides() {
    for (wan, lan, best) in [("a", "b", DualNetwork::Lan), ("b", "a", DualNetwork::Wan), ("a", "a", DualNetwork::Wan)] {
        let mut two = Two::of(4, 4);
        two.put(DualNetwork::Wan, "/a/b", wan);
        two.put(DualNetwork::Lan, "/a/b", lan);
        let mut get = two.dht.get("/a/b");
        assert!(poll(&mut get).is_pending());
        two.run();
        let (which, found) = ready(&mut get).unwrap();
        assert_eq!((which, &found.record.value[..]), (best, wan.max(lan).as_bytes()));

        // As a stream: each value is better than all before, whichever network it comes from.
        let mut values = two.dht.values("/a/b");
        assert!(poll_next(&mut values).is_pending());
        two.lan.run();
        let mut seen = Vec::new();
        for _ in 0..2 {
            while let Poll::Ready(Some(record)) = poll_next(&mut values) {
                seen.push(record.value);
            }
            two.wan.run();
        }
        let expected: Vec<_> = if lan < wan { vec![lan, wan] } else { vec![lan] };
        assert_eq!(seen, expected);
        assert!(matches!(poll_next(&mut values), Poll::Ready(None)));
        let (which, found) = ready(&mut values.into_future()).unwrap();
        assert_eq!((which, &found.record.value[..]), (best, wan.max(lan).as_bytes()));
    }
}

#[test]
fn the_best_of_both_is_waited_for() {
    let mut two = Two::of(4, 4);
    two.put(DualNetwork::Wan, "/a/b", "b");
    two.put(DualNetwork::Lan, "/a/b", "a");
    let mut best = two.dht.values("/a/b").into_future();
    assert!(poll(&mut best).is_pending());
    two.lan.run();
    assert!(poll(&mut best).is_pending());
    two.wan.run();
    assert_eq!(ready(&mut best).unwrap().0, DualNetwork::Wan);
}

#[test]
fn writes_go_to_both_and_tell_of_each() {
    let mut two = Two::of(3, 5);
    let mut put = two.dht.put("/a/b", "value");
    assert!(poll(&mut put).is_pending());
    two.lan.run();
    assert!(poll(&mut put).is_pending());
    two.wan.run();
    let stored = ready(&mut put).unwrap();
    assert_eq!(stored.wan.unwrap().report.acknowledged.len(), 2);
    assert_eq!(stored.lan.unwrap().report.acknowledged.len(), 4);

    // To the network that has peers, if the other has none; that one keeps the record nevertheless.
    let mut two = Two::of(1, 3);
    let mut put = two.dht.put("/a/b", "value");
    let mut provide = two.dht.provide("content");
    assert!(poll(&mut put).is_pending() && poll(&mut provide).is_pending());
    two.run();
    for stored in [ready(&mut put).unwrap(), ready(&mut provide).unwrap()] {
        assert_eq!(*stored.get(DualNetwork::Wan).as_ref().unwrap_err(), QueryError::NoPeers);
        assert_eq!(stored.get(DualNetwork::Lan).as_ref().unwrap().report.acknowledged.len(), 2);
    }
    for network in [&mut two.wan, &mut two.lan] {
        let get = network.handle(0).get("/a/b");
        assert_eq!(network.finish(get).unwrap().from, None, "kept here");
    }
    let mut all = two.dht.put("/a/c", "value").quorum(Quorum::N(NonZeroUsize::new(3).unwrap()));
    assert!(poll(&mut all).is_pending());
    two.run();
    let error = ready(&mut all).unwrap_err();
    assert!(matches!(error.lan, Some(QueryError::QuorumMissed { reached: 2, .. })), "{error:?}");

    let mut remove = two.dht.remove("/a/b");
    let mut stop = two.dht.stop_providing("content");
    assert!(poll(&mut remove).is_pending() && poll(&mut stop).is_pending());
    two.run();
    ready(&mut remove).unwrap();
    ready(&mut stop).unwrap();
    for network in [&mut two.wan, &mut two.lan] {
        let get = network.handle(0).records(None, NonZeroUsize::new(10).unwrap());
        let keys: Vec<_> = network.finish(get).unwrap().iter().map(|item| item.key().clone()).collect();
        assert_eq!(keys, ["/a/c".into()]);
    }
    two.assert_idle();
}

#[test]
fn what_must_work_in_both_fails_with_one() {
    let mut two = Two::of(2, 2);
    let mut remove = two.dht.remove("/a/b");
    assert!(poll(&mut remove).is_pending());
    two.lan.run();
    two.wan.nodes.clear();
    let error = ready(&mut remove).unwrap_err();
    assert_eq!((error.wan, error.lan), (Some(QueryError::Closed), None));
    let mut closest = two.dht.closest_peers("x");
    assert!(poll(&mut closest).is_pending());
    two.lan.run();
    let closest = ready(&mut closest).unwrap();
    assert_eq!(closest.wan.unwrap_err(), QueryError::Closed);
    assert_eq!(closest.lan.unwrap().peers.len(), 1, "one network is enough where it must work in one");
    assert!(two.dht.add_peer(PeerId::random(), []).check().is_err());
}

#[test]
fn providers_of_both_networks_come_without_repeats() {
    let mut two = Two::of(4, 4);
    let elsewhere = "/memory/99".parse().unwrap();
    two.lan.nodes[2].dht.handle_input(two.lan.now, Input::LocalAddrs(vec![elsewhere]));
    // The second is reported by both networks at the same address, the third at one in each, the fourth by one alone.
    for n in [1, 2, 3] {
        let provide = two.wan.handle(n).provide("content");
        two.wan.finish(provide).unwrap();
    }
    for n in [1, 2] {
        let provide = two.lan.handle(n).provide("content");
        two.lan.finish(provide).unwrap();
    }
    let mut providers = two.dht.providers("content");
    assert!(poll_next(&mut providers).is_pending());
    let mut seen = Vec::new();
    for lan in [true, false] {
        if lan {
            two.lan.run()
        } else {
            two.wan.run()
        }
        while let Poll::Ready(Some(provider)) = poll_next(&mut providers) {
            seen.extend(provider.addrs.into_iter().map(|addr| (provider.id, addr)));
        }
    }
    assert!(matches!(poll_next(&mut providers), Poll::Ready(None)));
    let once: BTreeSet<_> = seen.iter().cloned().collect();
    assert_eq!((seen.len(), once.len()), (4, 4), "{seen:?}");
    let ends = ready(&mut providers.into_future()).unwrap();
    assert_eq!((ends.wan.unwrap().found, ends.lan.unwrap().found), (3, 2));

    let mut providers = two.dht.providers("content").limit(NonZeroUsize::new(2).unwrap());
    assert!(poll_next(&mut providers).is_pending());
    two.run();
    let mut ids = BTreeSet::new();
    while let Poll::Ready(Some(provider)) = poll_next(&mut providers) {
        ids.insert(provider.id);
    }
    assert_eq!(ids.len(), 2);
    assert!(matches!(poll_next(&mut providers), Poll::Ready(None)));
    two.assert_idle();
}

#[test]
fn dropping_cancels_in_both() {
    let mut two = Two::of(4, 4);
    let dht = two.dht.clone();
    let (mut get, mut put) = (dht.get("/a/b"), dht.put("/a/b", "value"));
    let (mut providers, mut values) = (dht.providers("content"), dht.values("/a/b"));
    let _ = (poll(&mut get), poll(&mut put), poll_next(&mut providers), poll_next(&mut values));
    for network in [&mut two.wan, &mut two.lan] {
        network.step(0);
        assert_eq!(network.nodes[0].commands.running(), 4);
    }
    drop((get, put, providers, values));
    for network in [&mut two.wan, &mut two.lan] {
        network.step(0);
        assert_eq!(network.nodes[0].commands.running(), 0);
    }
    two.run();
    two.assert_idle();
}

#[test]
fn a_peer_is_named_where_its_addresses_are_admitted() {
    let [far, near, none] =
        ["/ip4/8.8.8.8/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/0.0.0.0/tcp/1"].map(|a| a.parse().unwrap());
    let policies = PerNetwork { wan: AddressPolicy::Public, lan: AddressPolicy::Lan };
    let given = |addrs: &[&Multiaddr], policies: PerNetwork<AddressPolicy>| {
        let mut two = Two::of(1, 1);
        let dht = two.dht.clone().with_policies(policies);
        dht.add_peer(PeerId::random(), addrs.iter().map(|addr| (*addr).clone())).check().unwrap();
        two.run();
        [&two.wan, &two.lan].map(|network| {
            let named = network.nodes[0].requests.iter().map(|request| match request {
                DriverRequest::AddPeer(contact) => contact.addrs().collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            });
            named.collect::<Vec<_>>()
        })
    };
    let one = |addr: &Multiaddr| vec![vec![addr.clone()]];
    assert_eq!(given(&[&far, &near], policies), [one(&far), one(&near)]);
    assert_eq!(given(&[&far], policies), [one(&far), vec![]]);
    assert_eq!(given(&[&near], policies), [vec![], one(&near)]);
    assert_eq!(given(&[&none], policies), [one(&none), vec![]], "refused there, and reported");
    assert_eq!(given(&[], policies), [vec![vec![]], vec![vec![]]]);
    assert_eq!(given(&[&near], PerNetwork::default()), [one(&near), one(&near)]);
}

//! The invariants of the core in every order of events: one node with random events, and networks in which every other
//! node may be dead, silent or a liar.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail as tests do")]

#[path = "properties/actions.rs"]
mod actions;
#[path = "properties/lawful.rs"]
mod lawful;
#[path = "properties/life.rs"]
mod life;
#[path = "properties/network.rs"]
mod network;
#[path = "properties/places.rs"]
mod places;

use std::sync::Arc;

use actions::{action, contact};
use lawful::{Lawful, small};
use libp2p_kad_dht::core::{AddressPolicy, Input, Timestamp};
use life::{begin, live, live_with, lives, of_bytes};
use network::{Network, Plan, plan};
use proptest::prelude::*;

/// The time of the host's clock, if it is set.
fn date() -> impl Strategy<Value = Option<Timestamp>> {
    let edges = prop::sample::select(vec![0, 1, u64::MAX / 2, u64::MAX - 1, u64::MAX]);
    let near = lawful::BEGIN.as_micros()..2 * lawful::BEGIN.as_micros();
    let date = prop_oneof![edges, near, any::<u64>()].prop_map(Timestamp::from_micros);
    prop_oneof![2 => Just(None), 1 => date.prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// `Lawful` checks every output and every state.
    #[test]
    fn the_laws_hold_whatever_happens(actions in lives()) {
        live(&actions, false);
    }

    #[test]
    fn the_laws_hold_with_a_store_that_answers_later_and_fails(actions in lives()) {
        live(&actions, true);
    }

    /// Whatever happens, a node names, keeps and dials no address that is of no use in the public network, and no
    /// address of its own as another peer's: `Lawful` checks every output, and everything that the node knows and
    /// stores.
    #[test]
    fn a_public_node_deals_with_public_addresses_alone(actions in lives(), deferred: bool) {
        let mut config = small();
        config.address_policy = AddressPolicy::Public;
        live_with(&config, &actions, deferred);
    }

    /// The host's clock may show anything, in any order: the node never hangs, its timers never fire without end, and
    /// once the clock runs normally everything comes to its end.
    #[test]
    fn the_clock_may_jump_to_any_time(lives in prop::collection::vec((action(), date()), 1..150), deferred: bool) {
        let mut node = begin(&small(), deferred);
        node.clock_jumps = true;
        for (action, date) in &lives {
            node.now = date.unwrap_or(node.now);
            node.wake();
            node.act(action);
        }
        node.now = lawful::BEGIN;
        node.wake();
        node.settle();
    }

    /// The same calls give the same outputs, whenever they are taken.
    #[test]
    fn the_same_calls_give_the_same_outputs(actions in lives(), deferred: bool, draining in any::<u64>()) {
        let first = live(&actions, deferred);
        let (mut again, mut control) = lawful::node(&contact(0), &small(), deferred);
        let mut outputs = Vec::new();
        for (i, call) in first.calls.iter().enumerate() {
            call(&mut again, &mut control);
            if draining >> (i % 64) & 1 == 1 {
                outputs.extend(std::iter::from_fn(|| again.poll_output()).map(|output| format!("{output:?}")));
            }
        }
        outputs.extend(std::iter::from_fn(|| again.poll_output()).map(|output| format!("{output:?}")));
        prop_assert_eq!(first.trace, outputs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whichever nodes are dead, silent or liars: every query ends by its timeout, and every node keeps the invariants.
    #[test]
    fn no_network_is_so_bad_that_a_query_hangs(plan in plan()) {
        let Plan { nodes, .. } = &plan;
        prop_assert!((5..=30).contains(&nodes.len()));
        Network::new(&plan).run();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 50, ..ProptestConfig::default() })]

    /// What the fuzzer of `fuzz/` calls.
    #[test]
    fn the_laws_hold_whatever_bytes_decide(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        of_bytes(&bytes);
    }
}

/// A node that never gets the time does nothing, and loses nothing.
#[test]
fn a_node_without_peers_sleeps() {
    let mut node = Lawful::new(&contact(0), &small(), false);
    let mut wakes = 0;
    while let Some(at) = node.dht.poll_timeout().filter(|at| *at < lawful::BEGIN + std::time::Duration::from_secs(3600))
    {
        node.now = at;
        node.wake();
        wakes += 1;
    }
    assert!((90..170).contains(&wakes), "{wakes} times in an hour, one each half minute");
    node.call(|dht, _| dht.handle_input(lawful::BEGIN, Input::AddPeer(Arc::clone(&contact(0)))));
    assert!(node.drain().is_empty(), "nor does it ask itself");
}

//! The life of a node: it begins with a few peers, things happen to it, and it comes to rest.
//!
//! Knows: where a life begins and ends. Must not know: the invariants that are checked on the way.

use libp2p_kad_dht::core::DhtConfig;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::actions::{Action, action, contact};
use super::lawful::{self, Lawful, small};

/// A node that begins with a few peers in its table.
pub(crate) fn begin(config: &DhtConfig, deferred: bool) -> Lawful {
    let mut node = Lawful::new(&contact(0), config, deferred);
    for i in 1..6 {
        node.call(move |dht, _| dht.admit_verified(lawful::BEGIN, &contact(i)));
    }
    node.drain();
    node
}

pub(crate) fn live(actions: &[Action], deferred: bool) -> Lawful {
    live_with(&small(), actions, deferred)
}

pub(crate) fn live_with(config: &DhtConfig, actions: &[Action], deferred: bool) -> Lawful {
    let mut node = begin(config, deferred);
    actions.iter().for_each(|action| node.act(action));
    node.settle();
    node
}

pub(crate) fn lives() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 1..150)
}

/// A life of at most 200 actions. The first byte decides how the store answers, and each four more choose an action.
pub(crate) fn of_bytes(bytes: &[u8]) {
    let Some((store, actions)) = bytes.split_first() else { return };
    let choose = |four: &[u8; 4]| {
        let seed = [&four[..], &[0; 28]].concat();
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let tree = action().new_tree(&mut TestRunner::new_with_rng(ProptestConfig::default(), rng));
        tree.ok().map(|tree| tree.current())
    };
    let actions: Vec<_> = actions.as_chunks().0.iter().take(200).filter_map(choose).collect();
    live(&actions, store % 2 == 1);
}

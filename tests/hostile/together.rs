//! Two nodes that dial each other at the same moment: on TCP that may result in one connection for which both believe
//! to be the dialer, and every handshake fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join;
use libp2p::swarm::SwarmEvent;
use tokio::time::Instant;

use crate::live::{Ours, until};

/// Maximum number of pairs, until enough of them collided: one in four or one in a hundred does, depending on the
/// machine. The dialer's own tests cover the case reliably.
const PAIRS: usize = 120;
const ENOUGH: usize = 3;

fn failed_dials(node: &Ours) -> usize {
    node.seen(|event| matches!(event, SwarmEvent::OutgoingConnectionError { .. }).then_some(())).len()
}

/// Adds the other node to a node as soon as both are ready: the dials follow immediately, each in its own thread.
async fn names(one: &Ours, other: &Ours, ready: &Arc<AtomicUsize>) {
    let (peer, addr, ready) = (other.peer, other.addr.clone(), Arc::clone(ready));
    one.act(move |swarm| {
        ready.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        while ready.load(Ordering::SeqCst) < 2 && began.elapsed() < Duration::from_millis(100) {
            std::hint::spin_loop();
        }
        swarm.behaviour_mut().kad.add_peer(peer, [addr]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_dial_each_other_at_once_meet_at_once() {
    let mut both = 0;
    for pair in 0..PAIRS {
        let (alice, bob) = (Ours::start().await, Ours::start().await);
        let began = Instant::now();
        let ready = Arc::new(AtomicUsize::new(0));
        join(names(&alice, &bob, &ready), names(&bob, &alice, &ready)).await;
        let knows = async |one: &Ours, other: &Ours| {
            until("they know each other", async || one.table().await.contains(&other.peer).then_some(())).await;
        };
        join(knows(&alice, &bob), knows(&bob, &alice)).await;
        let (took, failed) = (began.elapsed(), (failed_dials(&alice), failed_dials(&bob)));
        assert!(took < Duration::from_secs(3), "pair {pair}: {took:?}, {failed:?} dials failed");
        both += usize::from(failed.0 > 0 && failed.1 > 0);
        if both == ENOUGH {
            break;
        }
    }
    println!("it happened to {both} pairs");
}

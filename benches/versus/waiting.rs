//! The cost of a behaviour while thousands of lookups wait for answers that never come; no network.

use std::task::{Context, Poll};

use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint};
use libp2p::swarm::behaviour::{ConnectionEstablished, DialFailure};
use libp2p::swarm::{ConnectionId, DialError, FromSwarm, NetworkBehaviour, THandler};
use libp2p::{Multiaddr, PeerId};

use crate::measure::{Figures, heap, thread_cpu};
use crate::node::{Adapter, keypair, peer};

pub(crate) fn run<A: Adapter>() -> Figures {
    let mut figures = Figures::default();
    for (name, connected) in [("start_connected", true), ("start_unconnected", false)] {
        let mut waiting = Waiting::<A>::new(connected);
        figures.add(name, waiting.start(5_000));
    }
    let mut waiting = Waiting::<A>::new(true);
    let before = heap();
    waiting.start(4_000);
    figures.add("lookup_bytes", (heap() - before) as f64 / 4_000.0);
    let mut cx = Context::from_waker(futures::task::noop_waker_ref());
    figures.add("poll_4000", repeated(|_| _ = std::hint::black_box(waiting.behaviour.poll(&mut cx))));
    figures.add("event_4000", repeated(|n| waiting.unrelated_event(n)));
    figures
}

/// Nanoseconds per run, measured for a tenth of a second: well below any time after which a peer counts as late.
pub(crate) fn repeated(mut run: impl FnMut(usize)) -> f64 {
    let (begun, mut runs) = (thread_cpu(), 0);
    while runs < 50_000 && (runs < 5 || thread_cpu() - begun < 0.1) {
        run(runs);
        runs += 1;
    }
    (thread_cpu() - begun) / runs as f64 * 1e9
}

pub(crate) struct Waiting<A: Adapter> {
    pub(crate) behaviour: A::Behaviour,
    stranger: PeerId,
}

impl<A: Adapter> Waiting<A> {
    /// A behaviour that knows 500 peers. If they have no connections, every request waits for a dial.
    pub(crate) fn new(connected: bool) -> Waiting<A> {
        let addr = |n: u64| format!("/ip4/10.0.{}.{}/udp/4001/quic-v1", n / 256, n % 256).parse().expect("an address");
        let peers: Vec<(PeerId, Vec<Multiaddr>)> = (0..500).map(|n| (peer(77, n), vec![addr(n)])).collect();
        let mut waiting = Waiting::with_peers(&peers);
        for (n, (peer, addrs)) in peers.iter().enumerate().filter(|_| connected) {
            waiting.connect(n, *peer, &addrs[0]);
        }
        waiting.drain();
        waiting
    }

    pub(crate) fn with_peers(peers: &[(PeerId, Vec<Multiaddr>)]) -> Waiting<A> {
        let mut waiting = Waiting { behaviour: A::behaviour(&keypair(8, 8)), stranger: peer(5, 5) };
        A::fill(&mut waiting.behaviour, peers);
        waiting
    }

    /// Makes a connection. Returns its handler.
    pub(crate) fn connect(&mut self, n: usize, peer_id: PeerId, addr: &Multiaddr) -> THandler<A::Behaviour> {
        let connection_id = ConnectionId::new_unchecked(1_000_000 + n);
        let (role_override, port_use) = (Endpoint::Dialer, PortUse::Reuse);
        let handler = self
            .behaviour
            .handle_established_outbound_connection(connection_id, peer_id, addr, role_override, port_use)
            .expect("nothing denies it");
        self.behaviour.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id,
            endpoint: &ConnectedPoint::Dialer { address: addr.clone(), role_override, port_use },
            failed_addresses: &[],
            other_established: 0,
        }));
        handler
    }

    /// A dial of another behaviour fails.
    pub(crate) fn unrelated_event(&mut self, n: usize) {
        let connection_id = ConnectionId::new_unchecked(5_000_000 + n);
        let error = DialError::Transport(Vec::new());
        let failure = DialFailure { peer_id: Some(self.stranger), error: &error, connection_id };
        self.behaviour.on_swarm_event(FromSwarm::DialFailure(failure));
        self.drain();
    }

    /// Milliseconds until this many lookups have sent their first requests.
    pub(crate) fn start(&mut self, lookups: u64) -> f64 {
        let begun = thread_cpu();
        for n in 0..lookups {
            A::closest(&mut self.behaviour, &n.to_le_bytes());
        }
        self.drain();
        (thread_cpu() - begun) * 1e3
    }

    pub(crate) fn drain(&mut self) {
        let mut cx = Context::from_waker(futures::task::noop_waker_ref());
        while let Poll::Ready(wanted) = self.behaviour.poll(&mut cx) {
            std::hint::black_box(wanted);
        }
    }
}

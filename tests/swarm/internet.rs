//! An internet in memory: a transport with public and local IPv4 addresses, which are memory ports.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, MemoryTransport, Transport, TransportError, TransportEvent, upgrade::Version,
};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{PeerId, plaintext, yamux};

/// No packet leaves this process: `/ip4/8.8.0.1/tcp/77` is `/memory/77`.
pub(super) fn transport(key: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
    Internet::default()
        .upgrade(Version::V1)
        .authenticate(plaintext::Config::new(key))
        .multiplex(yamux::Config::default())
        .boxed()
}

#[derive(Default)]
struct Internet {
    memory: MemoryTransport,
    /// The addresses that it listens on, by port.
    listening: BTreeMap<u64, Multiaddr>,
}

fn port(addr: &Multiaddr) -> Option<u64> {
    addr.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port.into()),
        Protocol::Memory(port) => Some(port),
        _ => None,
    })
}

fn memory<E>(addr: &Multiaddr) -> Result<Multiaddr, TransportError<E>> {
    let port = port(addr).ok_or_else(|| TransportError::MultiaddrNotSupported(addr.clone()))?;
    Ok(Protocol::Memory(port).into())
}

impl Internet {
    fn said(&self, addr: &Multiaddr) -> Multiaddr {
        port(addr).and_then(|port| self.listening.get(&port)).unwrap_or(addr).clone()
    }
}

impl Transport for Internet {
    type Output = <MemoryTransport as Transport>::Output;
    type Error = <MemoryTransport as Transport>::Error;
    type ListenerUpgrade = <MemoryTransport as Transport>::ListenerUpgrade;
    type Dial = <MemoryTransport as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, addr: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.memory.listen_on(id, memory(&addr)?)?;
        self.listening.extend(port(&addr).map(|port| (port, addr)));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.memory.remove_listener(id)
    }

    fn dial(&mut self, addr: Multiaddr, opts: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.memory.dial(memory(&addr)?, opts)
    }

    /// An inbound connection gets a remote address of the same kind, public or local, as the address it came in at.
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = match Pin::new(&mut self.memory).poll(cx) {
            Poll::Ready(event) => event,
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(match event {
            TransportEvent::NewAddress { listener_id, listen_addr } => {
                TransportEvent::NewAddress { listener_id, listen_addr: self.said(&listen_addr) }
            }
            TransportEvent::Incoming { listener_id, upgrade, local_addr, .. } => {
                let local_addr = self.said(&local_addr);
                let host = local_addr.iter().take(1).collect::<Multiaddr>();
                TransportEvent::Incoming {
                    listener_id,
                    upgrade,
                    local_addr,
                    send_back_addr: host.with(Protocol::Tcp(1)),
                }
            }
            other => other,
        })
    }
}

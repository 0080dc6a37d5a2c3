//! The transports: memory with plaintext, or loopback TCP with noise, and yamux on both.

use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, MemoryTransport};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Transport, noise, plaintext, tcp, yamux};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Tcp,
}

impl Kind {
    /// The address at which node `n` listens.
    pub(crate) fn listen_addr(self, n: u16) -> Multiaddr {
        match self {
            Kind::Memory => Protocol::Memory(1_000_000 + u64::from(n)).into(),
            Kind::Tcp => Multiaddr::empty().with(Protocol::Ip4([127, 0, 0, 1].into())).with(Protocol::Tcp(20_000 + n)),
        }
    }

    pub(crate) fn build(self, keypair: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
        // `SwarmBuilder` sets the same limit: without it a dial to a peer that does not answer never ends.
        TransportTimeout::new(self.upgraded(keypair), Duration::from_secs(10)).boxed()
    }

    fn upgraded(self, keypair: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
        match self {
            Kind::Memory => MemoryTransport::default()
                .upgrade(Version::V1)
                .authenticate(plaintext::Config::new(keypair))
                .multiplex(yamux::Config::default())
                .boxed(),
            Kind::Tcp => tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
                .upgrade(Version::V1)
                .authenticate(noise::Config::new(keypair).expect("a noise key"))
                .multiplex(yamux::Config::default())
                .boxed(),
        }
    }
}

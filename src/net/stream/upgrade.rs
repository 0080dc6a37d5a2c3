//! Protocol negotiation: offers the configured names in order of preference, or none.
//!
//! Knows: names. Must not know: what is sent once a name is agreed upon.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use libp2p_core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p_swarm::{Stream, StreamProtocol};
use smallvec::SmallVec;

use super::config::StreamConfig;

/// The protocol names that one side of a negotiation offers: the configured ones, or with `None` no name at all, which
/// declines every protocol.
#[derive(Clone, Debug)]
pub struct ProtocolNames(pub(crate) Option<Arc<StreamConfig>>);

impl UpgradeInfo for ProtocolNames {
    type Info = StreamProtocol;
    type InfoIter = smallvec::IntoIter<[StreamProtocol; 2]>;

    /// The swarm asks for the names at every poll of a connection: two of them take no allocation.
    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().flat_map(|config| config.protocols.iter().cloned()).collect::<SmallVec<_>>().into_iter()
    }
}

impl InboundUpgrade<Stream> for ProtocolNames {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for ProtocolNames {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

//! Agreeing on a protocol name: offers the configured names in order of preference, or none.
//!
//! Knows: names. Must not know: what is said once one is agreed upon.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use libp2p_core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p_swarm::{Stream, StreamProtocol};

use super::config::StreamConfig;

/// The protocol names that one side of a negotiation has.
#[derive(Clone, Debug)]
pub struct ProtocolNames {
    config: Arc<StreamConfig>,
    next: usize,
}

impl ProtocolNames {
    /// All configured names.
    pub(crate) fn all(config: Arc<StreamConfig>) -> ProtocolNames {
        ProtocolNames { config, next: 0 }
    }

    /// No name: whatever the peer proposes is declined.
    pub(crate) fn none(config: Arc<StreamConfig>) -> ProtocolNames {
        let next = config.protocols.len();
        ProtocolNames { config, next }
    }
}

/// Hands out the names without copying the list: the swarm asks for them at every poll.
impl Iterator for ProtocolNames {
    type Item = StreamProtocol;

    fn next(&mut self) -> Option<StreamProtocol> {
        let name = self.config.protocols.get(self.next)?.clone();
        self.next += 1;
        Some(name)
    }
}

impl UpgradeInfo for ProtocolNames {
    type Info = StreamProtocol;
    type InfoIter = ProtocolNames;

    fn protocol_info(&self) -> ProtocolNames {
        self.clone()
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

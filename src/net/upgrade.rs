//! Agreeing on a protocol name: offers the configured names in order of preference, or none.
//!
//! Knows: names. Must not know: what is said once one is agreed upon.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use libp2p_core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p_swarm::{Stream, StreamProtocol};

use super::stream_config::StreamConfig;

/// The protocol names that one side of a negotiation has.
#[derive(Clone, Debug)]
pub struct Names {
    config: Arc<StreamConfig>,
    next: usize,
}

impl Names {
    /// All configured names.
    pub(super) fn all(config: Arc<StreamConfig>) -> Names {
        Names { config, next: 0 }
    }

    /// No name: whatever the peer proposes is declined.
    pub(super) fn none(config: Arc<StreamConfig>) -> Names {
        let next = config.protocols.len();
        Names { config, next }
    }
}

/// Hands out the names without copying the list: the swarm asks for them at every poll.
impl Iterator for Names {
    type Item = StreamProtocol;

    fn next(&mut self) -> Option<StreamProtocol> {
        let name = self.config.protocols.get(self.next)?.clone();
        self.next += 1;
        Some(name)
    }
}

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = Names;

    fn protocol_info(&self) -> Names {
        self.clone()
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Names {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

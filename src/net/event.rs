//! What the swarm's owner is told.
//!
//! Knows: facts about this node. Must not know: the queries of handles, which answer their own callers.

use std::fmt;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;

use crate::core::{self, Misbehaviour, Mode, QueryEvent, QueryId, RecordKey};

/// A fact about this node, or news of a query that was started on the [`Behaviour`](super::Behaviour) itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The node serves others from now on, or no longer. Told for the first decision too.
    ModeChanged {
        /// What it does now.
        mode: Mode,
        /// Why.
        why: ModeReason,
    },
    /// A peer entered or left the routing table.
    RoutingChanged {
        /// The peer.
        peer: PeerId,
        /// Whether it is in the table now.
        present: bool,
    },
    /// A peer stored a value on this node.
    RecordStored {
        /// Its key.
        key: RecordKey,
        /// Who stored it.
        from: PeerId,
    },
    /// A value that this node had put has given way to another under its key, which is newer by the validator: a peer stored
    /// it here, or a read or an announcement met it. This node keeps the other one as if a peer had stored it, marked as
    /// [`superseded`](core::Record::superseded), and announces its own no more. Put again what is to stand.
    Superseded {
        /// The key.
        key: RecordKey,
    },
    /// A peer announced to this node that it provides some content.
    ProviderStored {
        /// The content.
        key: RecordKey,
        /// Who provides it.
        provider: PeerId,
    },
    /// Addresses of a peer that the application named are refused by the
    /// [address policy](super::Config::with_address_policy), or are this node's own: it is not dialled there.
    AddrsRefused {
        /// The peer.
        peer: PeerId,
        /// The addresses that are refused.
        addrs: Vec<Multiaddr>,
    },
    /// Peers connect and ask, but for seconds nothing said whether they serve or where they listen: this swarm, or theirs,
    /// lacks `identify::Behaviour`. Without it nodes know the peers that they were told of, and few others. Told once.
    NoIdentify,
    /// A peer broke a rule of the protocol.
    PeerMisbehaved {
        /// The peer.
        peer: PeerId,
        /// The rule.
        what: Misbehaviour,
    },
    /// News of a query that was started on the behaviour. Those of handles never appear here.
    QueryProgressed {
        /// The query, as its start returned it.
        id: QueryId,
        /// The news; [`QueryEvent::Finished`] comes once, last.
        event: QueryEvent,
    },
}

impl From<core::Event> for Event {
    fn from(event: core::Event) -> Event {
        match event {
            core::Event::Query { id, event } => Event::QueryProgressed { id, event },
            core::Event::RoutingChanged { peer, present } => Event::RoutingChanged { peer, present },
            core::Event::RecordStored { key, from } => Event::RecordStored { key, from },
            core::Event::Superseded { key } => Event::Superseded { key },
            core::Event::ProviderStored { key, provider } => Event::ProviderStored { key, provider },
            core::Event::AddrsRefused { peer, addrs } => Event::AddrsRefused { peer, addrs },
            core::Event::NoIdentify => Event::NoIdentify,
            core::Event::PeerMisbehaved { peer, what } => Event::PeerMisbehaved { peer, what },
        }
    }
}

/// Why a node serves, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModeReason {
    /// The configuration or the application says so.
    Chosen,
    /// It was left to the node, which has a confirmed external address: it can be reached.
    ExternalAddr,
    /// It was left to the node, which has no confirmed external address and does not serve by one that it lost a moment
    /// ago: it never had one, or was no server when it was left to it.
    NoExternalAddr,
    /// It was left to the node, and for as long as [`Config::with_server_hold`](super::Config::with_server_hold) says
    /// no external address of it was confirmed any more.
    ExternalAddrLost,
}

impl fmt::Display for ModeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ModeReason::Chosen => "chosen",
            ModeReason::ExternalAddr => "an external address is confirmed",
            ModeReason::NoExternalAddr => "no external address is confirmed",
            ModeReason::ExternalAddrLost => "no external address is confirmed any more",
        })
    }
}

//! Sessions: peers come online and go offline as a churn model says, and join as a new node does.
//!
//! Knows: the churn model and the configuration of nodes. Must not know: what is measured.

use std::sync::Arc;

use super::churn::{Churn, NEW_IDENTITY};
use super::directory::NodeIndex;
use super::network::Network;
use super::node::Node;
use super::random::Random;
use libp2p_kad_dht::core::{DhtConfig, Input, Mode, Operation, QueryOptions};

/// Churn in a network of our nodes: ends sessions and absences at their time.
///
/// Each is a timer of the network whose token is the peer's index. Pass every [`NetworkEvent::Timer`] whose token is
/// below [`Sessions::FIRST_FREE_TIMER`] to [`Sessions::on_timer`]; the tokens from there on are free for the scenario.
///
/// [`NetworkEvent::Timer`]: crate::NetworkEvent::Timer
pub struct Sessions {
    churn: Churn,
    config: Arc<DhtConfig>,
    /// The peers that are always online and that joining nodes contact.
    boot: Vec<NodeIndex>,
    /// The share of joining nodes that are clients.
    clients: f64,
    random: Random,
}

/// The effect of a peer's timer.
#[non_exhaustive]
pub enum SessionChange {
    /// A peer came online: it joined with an empty routing table and an empty store.
    Online,
    /// A peer went offline. The node is as it was at that moment, with its store and its counters.
    Offline(Node),
}

/// The number of boot nodes that a joining node contacts.
const FIRST_CONTACTS: usize = 3;

impl Sessions {
    /// The first timer token that is not a peer's index.
    pub const FIRST_FREE_TIMER: u32 = 1 << 31;

    /// Sessions drawn from this model and seed.
    ///
    /// The peers in `boot` never go offline and are the contacts of nodes that join. `clients` is the share of joining
    /// nodes that are clients, from 0 to 1.
    pub fn new(seed: u64, churn: Churn, config: Arc<DhtConfig>, boot: Vec<NodeIndex>, clients: f64) -> Sessions {
        Sessions { churn, config, boot, clients, random: Random::new(seed, "life", 0) }
    }

    /// Sets a timer for the end of each peer's current session or absence; boot nodes are left out.
    pub fn begin(&mut self, network: &mut Network, peers: impl Iterator<Item = NodeIndex>) {
        for peer in peers.filter(|peer| !self.boot.contains(peer)) {
            if let Some(rest) = self.churn.draw_remaining(&mut self.random) {
                network.set_timer(network.now() + rest, peer);
            }
        }
    }

    /// Ends the session or the absence of this peer. A peer that comes back has an empty table and an empty store;
    /// three in ten have a new id as well.
    pub fn on_timer(&mut self, network: &mut Network, peer: NodeIndex) -> SessionChange {
        let (next, change) = if network.node(peer).is_present() {
            (peer, SessionChange::Offline(network.leave(peer)))
        } else {
            let fresh = self.random.chance(NEW_IDENTITY);
            let peer = if fresh { network.directory.add() } else { peer };
            self.join(network, peer);
            (peer, SessionChange::Online)
        };
        if let Some(time) = self.churn.draw(&mut self.random) {
            network.set_timer(network.now() + time, next);
        }
        change
    }

    /// Brings a peer online as a new node that knows up to three boot nodes, and starts its bootstrap.
    ///
    /// # Panics
    ///
    /// When the directory has no peer with this index.
    pub fn join(&mut self, network: &mut Network, peer: NodeIndex) {
        let node = Node::ours(&network.directory, network.now(), peer, &self.config, &[]);
        network.join(peer, node);
        if self.random.chance(self.clients) {
            network.handle_input(peer, Input::Mode(Mode::Client));
        }
        let picks = self.random.sample(self.boot.len() as u32, FIRST_CONTACTS as u32);
        for boot in picks.into_iter().map(|pick| self.boot[pick as usize]).filter(|boot| *boot != peer) {
            let contact = Arc::clone(network.directory.contact(boot));
            network.handle_input(peer, Input::AddPeer(contact));
        }
        network.start(peer, Operation::Bootstrap, QueryOptions::default());
    }
}

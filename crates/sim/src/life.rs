//! Sessions: who comes online and goes offline, and how a node joins.
//!
//! Knows: the churn model and the kind of nodes. Must not know: what is measured.

use std::sync::Arc;

use super::churn::{Churn, NEW_IDENTITY};
use super::directory::{Index, Ranking};
use super::network::Network;
use super::node::{Node, ours};
use super::random::Random;
use libp2p_kad_dht::core::{DhtConfig, Input, Mode, Operation, QueryOptions};

/// The comings and goings of a network of our nodes.
///
/// Times come as marks of the network whose token is a peer's number; tokens from [`Life::FIRST_FREE`] on are the
/// scenario's own.
pub(crate) struct Life {
    churn: Churn,
    config: Arc<DhtConfig>,
    /// Always online, and known to everyone who joins.
    boot: Vec<Index>,
    clients: f64,
    random: Random,
}

/// Which way someone went.
pub(crate) enum Turn {
    /// Online.
    Came,
    /// Away; this is what was left behind.
    Went(Node),
}

/// How many of the boot nodes someone who joins tries.
const FIRST_CONTACTS: usize = 3;

impl Life {
    /// The first mark that is not a peer's.
    pub(crate) const FIRST_FREE: u32 = 1 << 31;

    pub(crate) fn new(seed: u64, churn: Churn, config: Arc<DhtConfig>, boot: Vec<Index>, clients: f64) -> Life {
        Life { churn, config, boot, clients, random: Random::new(seed, "life", 0) }
    }

    /// Lets the sessions of these peers run out, and the absence of those who are away.
    pub(crate) fn begin(&mut self, network: &mut Network, peers: impl Iterator<Item = Index>) {
        for peer in peers.filter(|peer| !self.boot.contains(peer)) {
            if let Some(rest) = self.churn.draw_remaining(&mut self.random) {
                network.mark(network.now() + rest, peer);
            }
        }
    }

    /// A session or an absence is over. Whoever comes back has forgotten everything but its id, and some that too.
    pub(crate) fn on_mark(&mut self, network: &mut Network, peer: Index) -> Turn {
        let (next, turn) = if network.node(peer).is_present() {
            (peer, Turn::Went(network.leave(peer)))
        } else {
            let fresh = self.random.chance(NEW_IDENTITY);
            let peer = if fresh { network.directory.add() } else { peer };
            self.join(network, peer);
            (peer, Turn::Came)
        };
        if let Some(time) = self.churn.draw(&mut self.random) {
            network.mark(network.now() + time, next);
        }
        turn
    }

    /// Brings a node online that knows only boot nodes, and has it bootstrap.
    pub(crate) fn join(&mut self, network: &mut Network, peer: Index) {
        let node = ours(&network.directory, network.now(), peer, &self.config, &[]);
        network.join(peer, node);
        if self.random.chance(self.clients) {
            network.tell(peer, Input::Mode(Mode::Client));
        }
        let picks = self.random.sample(self.boot.len() as u32, FIRST_CONTACTS as u32);
        for boot in picks.into_iter().map(|pick| self.boot[pick as usize]).filter(|boot| *boot != peer) {
            let contact = Arc::clone(network.directory.contact(boot));
            network.tell(peer, Input::AddPeer(contact));
        }
        network.start(peer, Operation::Bootstrap, QueryOptions::default());
    }
}

/// Everyone who serves now, in order of their keys.
pub(crate) fn serving(network: &Network) -> Ranking {
    let everyone = 0..network.directory.len() as Index;
    network.directory.ranking(everyone.filter(|peer| network.node(*peer).serves()))
}

/// How well the tables of these peers fit the network as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health {
    /// Entries in a table, on average.
    pub(crate) entries: f64,
    /// The share of dead entries in full buckets.
    pub(crate) stale_full: f64,
    /// The share of dead entries in the other buckets.
    pub(crate) stale_open: f64,
    /// How many of the 20 servers closest to it a node has in its table, on average.
    pub(crate) know20: f64,
    /// The share of nodes that know all of them.
    pub(crate) know_all: f64,
}

impl Health {
    pub(crate) fn of(network: &Network, peers: impl Iterator<Item = Index>) -> Health {
        let live = serving(network);
        let (mut health, mut count) = (Health::default(), 0.0);
        // Dead and all entries, of full buckets and of others.
        let mut tally = [[0.0f64; 2]; 2];
        for peer in peers {
            let buckets = network.node(peer).buckets(&network.directory);
            for (full, entries) in &buckets {
                let dead = entries.iter().filter(|entry| !network.node(**entry).serves()).count();
                let tally = &mut tally[usize::from(*full)];
                *tally = [tally[0] + dead as f64, tally[1] + entries.len() as f64];
                health.entries += entries.len() as f64;
            }
            let near = live.closest(network.directory.place(peer), 21).into_iter().filter(|other| *other != peer);
            let known = |other: &Index| buckets.iter().any(|(_, entries)| entries.contains(other));
            let near: Vec<Index> = near.take(20).collect();
            let knows = near.iter().filter(|other| known(other)).count();
            health.know20 += knows as f64;
            health.know_all += f64::from(u8::from(knows == near.len()));
            count += 1.0;
        }
        health.entries /= count;
        health.know20 /= count;
        health.know_all /= count;
        health.stale_full = tally[1][0] / tally[1][1].max(1.0);
        health.stale_open = tally[0][0] / tally[0][1].max(1.0);
        health
    }
}

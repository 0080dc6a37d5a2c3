//! In which networks peers have their addresses.
//!
//! Knows: how unevenly operators share a network. Must not know: who limits that. Addresses are drawn from a hash of the
//! peer's salt, so that one seed gives everyone the same.

use std::net::Ipv4Addr;

use multiaddr::{Multiaddr, Protocol};

use super::directory::Index;
use super::math::{exp, ln};
use super::random::{mix, unit};

/// So many autonomous systems. Source: Trautwein et al., SIGCOMM 2022: the peers of IPFS were in 2,715.
const SYSTEMS: u32 = 2_715;
/// The share of the system of rank r is in proportion to r to the power of minus this. Source: fitted to the same, where
/// the largest ten had 64.9 % of the addresses and the largest hundred 90.6 %; one exponent gives 65.2 and 86.9.
const EXPONENT: f64 = 1.325;
/// The largest system has so many networks of 16 bits, that of rank r one in r of them, rounded up: addresses in use
/// are spread over a system. An assumption; nothing is published.
const NETWORKS: u32 = 100;
/// The first eight bits of the first network; all are public, and none is a block of one owner.
const FIRST: u32 = 60;

/// Peers spread over networks like those of IPFS: few operators have most of them.
pub(crate) struct Networks {
    /// Up to each system: the share of peers, and how many networks there are before it.
    systems: Vec<(f64, u32)>,
}

impl Networks {
    pub(crate) fn ipfs() -> Networks {
        let (mut share, mut networks) = (0.0, 0);
        let mut systems = Vec::with_capacity(SYSTEMS as usize);
        for rank in 1..=SYSTEMS {
            share += exp(-EXPONENT * ln(f64::from(rank)));
            systems.push((share, networks));
            networks += NETWORKS.div_ceil(rank);
        }
        systems.iter_mut().for_each(|(end, _)| *end /= share);
        Networks { systems }
    }

    /// The address of a peer.
    pub(crate) fn address(&self, index: Index, salt: u64) -> Multiaddr {
        let bits = mix(salt ^ 0x1b);
        let draw = unit(bits);
        let rank = self.systems.partition_point(|(end, _)| *end < draw).min(self.systems.len() - 1);
        let within = NETWORKS.div_ceil(rank as u32 + 1);
        let network = self.systems[rank].1 + (mix(bits) % u64::from(within)) as u32;
        address_in([(FIRST + (network >> 8)) as u8, network as u8], index)
    }
}

/// An address in this network of 16 bits.
pub(crate) fn address_in([a, b]: [u8; 2], index: Index) -> Multiaddr {
    let ip = Ipv4Addr::new(a, b, (index >> 8) as u8, index as u8);
    Multiaddr::empty().with(Protocol::Ip4(ip)).with(Protocol::Tcp(4001))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn shares_are_those_published() {
        let networks = Networks::ipfs();
        assert!((networks.systems[9].0 - 0.649).abs() < 0.01, "{}", networks.systems[9].0);
        assert!((networks.systems[99].0 - 0.906).abs() < 0.04, "{}", networks.systems[99].0);
    }

    #[test]
    fn every_network_is_public_and_the_largest_have_few_peers_each() {
        let networks = Networks::ipfs();
        let mut counts: BTreeMap<[u8; 2], u32> = BTreeMap::new();
        for index in 0..20_000 {
            let addr = networks.address(index, mix(index.into()));
            let Some(Protocol::Ip4(ip)) = addr.iter().next() else { panic!("{addr}") };
            let [a, b, ..] = ip.octets();
            assert!((60..73).contains(&a), "{ip}");
            *counts.entry([a, b]).or_default() += 1;
        }
        let largest = counts.values().max().copied().unwrap_or_default();
        assert!(counts.len() > 1_500 && (20..=200).contains(&largest), "{} {largest}", counts.len());
    }
}

//! The IP addresses of peers.
//!
//! Knows: how unevenly autonomous systems share the peers of a network. Must not know: peers, or limits on operators.
//! An address is drawn from a hash, so that a peer has the same one in every run of a seed.

use std::net::Ipv4Addr;

use multiaddr::{Multiaddr, Protocol};

use super::math::{exp, ln};
use super::random::{mix, unit};

/// The number of autonomous systems. Source: Trautwein et al., SIGCOMM 2022: the peers of IPFS were in 2,715.
const SYSTEMS: u32 = 2_715;
/// The system of rank r has a share in proportion to r to the power of minus this. Source: fitted to the same, where
/// the largest ten had 64.9 % of the addresses and the largest hundred 90.6 %; one exponent gives 65.2 and 86.9.
const EXPONENT: f64 = 1.325;
/// The number of /16 networks of the largest system; the system of rank r has a part of 1/r of them, rounded up. An
/// assumption; no figures are published.
const NETWORKS: u32 = 100;
/// The first octet of the first network. All networks are public, and none belongs to one owner.
const FIRST: u32 = 60;

/// Spreads the addresses of peers over networks. A few operators have most of them, as in the public IPFS network.
pub struct AddressModel {
    /// For each system: the share of peers up to and with it, and the number of networks before it.
    systems: Vec<(f64, u32)>,
}

impl AddressModel {
    /// The shares of autonomous systems among the peers of IPFS in 2022.
    pub fn ipfs() -> AddressModel {
        let (mut share, mut networks) = (0.0, 0);
        let mut systems = Vec::with_capacity(SYSTEMS as usize);
        for rank in 1..=SYSTEMS {
            share += exp(-EXPONENT * ln(f64::from(rank)));
            systems.push((share, networks));
            networks += NETWORKS.div_ceil(rank);
        }
        systems.iter_mut().for_each(|(end, _)| *end /= share);
        AddressModel { systems }
    }

    /// The address of the peer with this index and salt.
    pub(crate) fn address(&self, index: u32, salt: u64) -> Multiaddr {
        let bits = mix(salt ^ 0x1b);
        let draw = unit(bits);
        let rank = self.systems.partition_point(|(end, _)| *end < draw).min(self.systems.len() - 1);
        let within = NETWORKS.div_ceil(rank as u32 + 1);
        let network = self.systems[rank].1 + (mix(bits) % u64::from(within)) as u32;
        address_in([(FIRST + (network >> 8)) as u8, network as u8], index)
    }
}

/// An address in this /16 network.
pub(crate) fn address_in([a, b]: [u8; 2], index: u32) -> Multiaddr {
    let ip = Ipv4Addr::new(a, b, (index >> 8) as u8, index as u8);
    Multiaddr::empty().with(Protocol::Ip4(ip)).with(Protocol::Tcp(4001))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn shares_are_those_published() {
        let networks = AddressModel::ipfs();
        assert!((networks.systems[9].0 - 0.649).abs() < 0.01, "{}", networks.systems[9].0);
        assert!((networks.systems[99].0 - 0.906).abs() < 0.04, "{}", networks.systems[99].0);
    }

    #[test]
    fn every_network_is_public_and_the_largest_have_few_peers_each() {
        let networks = AddressModel::ipfs();
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

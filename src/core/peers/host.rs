//! The host that an address leads to, and the transport.
//!
//! Knows: addresses by their bytes. Must not know: whose they are, or whether a peer answers there.

use std::net::IpAddr;

use multiaddr::Protocol;

#[cfg(feature = "libp2p")]
use crate::core::ip_group::AsnTable;
use crate::core::ip_group::{IpGroup, RawHost};
use crate::core::key::Key;

/// The machine that a dial disturbs, or the smallest range of addresses that one owner gets for the same price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// An IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address: the least that a customer gets.
    V6(u64),
    /// A registered name, hashed: the last two labels of a name. Its owner can make up any number of names below it.
    Name(u64),
}

impl Host {
    /// The host that is dialled; of an address through a relay that is the relay's. `None` for an address of no host on
    /// a network, such as memory.
    pub(crate) fn of(addr: &[u8]) -> Option<Host> {
        Some(match RawHost::parse(addr)? {
            RawHost::Ip(IpAddr::V4(ip)) => Host::V4(ip.to_bits()),
            RawHost::Ip(IpAddr::V6(ip)) => Host::V6((ip.to_bits() >> 64) as u64),
            RawHost::Name(name) => {
                let name = name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase();
                let labels: Vec<_> = name.rsplit(|byte| *byte == b'.').take(2).collect();
                Host::Name(Key::hash(&labels.join(&b'.')).head())
            }
        })
    }

    /// Its network, whose hosts one owner is likely to control: 24 bits of an IPv4 address, 48 of an IPv6 one. All
    /// names are one network, since what they stand for cannot be seen.
    pub(crate) fn network(self) -> Host {
        match self {
            Host::V4(ip) => Host::V4(ip & !0xff),
            Host::V6(ip) => Host::V6(ip & !0xffff),
            Host::Name(_) => Host::Name(0),
        }
    }
}

/// Where a peer comes from. Those of one origin take turns with those of others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) group: Option<IpGroup>,
    pub(crate) host: Option<Host>,
}

/// What counts as one origin: a group or, where groups do not count, a host.
pub(crate) type Share = (Option<IpGroup>, Option<Host>);

impl Origin {
    /// The other end of a connection. Hosts of the same machine and of private networks have no group.
    #[cfg(feature = "libp2p")]
    pub(crate) fn of_remote(addr: &[u8], asns: Option<&AsnTable>) -> Origin {
        Origin { group: IpGroup::of_remote_addr(addr, asns), host: Host::of(addr) }
    }

    /// What counts as one: the group or, where groups do not count, the host.
    pub(crate) fn share(self) -> Share {
        (self.group, if self.group.is_some() { None } else { self.host })
    }
}

/// Whether an address is a `/dnsaddr` name, whose owner decides how many addresses it stands for, ports included.
pub(crate) fn is_open_ended(addr: &[u8]) -> bool {
    matches!(Protocol::from_bytes(addr), Ok((Protocol::Dnsaddr(_), _)))
}

/// The transport of an address: a hash of the protocols that it names, without their values and without the peer at its
/// end. Port 0 and unspecified IP addresses do count: transports refuse them with the error that they have for
/// addresses of other transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transport(u64);

impl Transport {
    /// Total: what does not parse is a transport of its own.
    pub(crate) fn of(addr: &[u8]) -> Transport {
        // FNV-1a.
        let (mut hash, mut rest) = (0xcbf2_9ce4_8422_2325_u64, addr);
        while let Ok((protocol, after)) = Protocol::from_bytes(rest) {
            rest = after;
            let unusable = match protocol {
                Protocol::P2p(_) => continue,
                Protocol::Tcp(port) | Protocol::Udp(port) => port == 0,
                Protocol::Ip4(ip) => ip.is_unspecified(),
                Protocol::Ip6(ip) => ip.is_unspecified(),
                _ => false,
            };
            for byte in protocol.tag().bytes().chain([u8::from(unusable)]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
        Transport(hash)
    }
}

#[cfg(test)]
mod tests {
    use multiaddr::Multiaddr;

    use super::*;

    fn host(addr: &str) -> Option<Host> {
        Host::of(addr.parse::<Multiaddr>().unwrap().as_ref())
    }

    #[test]
    fn hosts_are_told_apart_by_what_is_dialled() {
        assert_eq!(host("/ip4/1.2.3.4/tcp/1"), host("/ip4/1.2.3.4/udp/9/quic-v1"));
        assert_eq!(host("/ip4/1.2.3.4/tcp/1"), host("/ip6/::ffff:1.2.3.4/tcp/1"));
        assert_eq!(host("/ip4/1.2.3.4/tcp/1"), host("/dns4/1.2.3.4/tcp/1"));
        assert_ne!(host("/ip4/1.2.3.4/tcp/1"), host("/ip4/1.2.3.5/tcp/1"));
        assert_eq!(host("/ip4/127.0.0.1/tcp/1"), Some(Host::V4(0x7f00_0001)));
        assert_eq!(host("/ip6/2a01:4f8::1/tcp/1"), host("/ip6/2a01:4f8::ffff:1/tcp/2"));
        assert_ne!(host("/ip6/2a01:4f8::1/tcp/1"), host("/ip6/2a01:4f8:0:1::1/tcp/1"));
        assert_eq!(host("/ip6zone/eth0/ip6/fe80::1/tcp/1"), host("/ip6/fe80::1/tcp/1"));
        assert_eq!(host("/dns4/a.b.Example.com/tcp/1"), host("/dns/example.com./tcp/9"));
        assert_ne!(host("/dns4/example.com/tcp/1"), host("/dns4/example.org/tcp/1"));
        assert_ne!(host("/dns4/com/tcp/1"), host("/dns4/example.com/tcp/1"));
        assert_eq!((host("/memory/7"), Host::of(&[4, 1]), Host::of(&[])), (None, None, None));
    }

    #[test]
    fn transports_are_told_apart_by_their_protocols() {
        let of = |addr: &str| Transport::of(addr.parse::<Multiaddr>().unwrap().as_ref());
        assert_eq!(of("/ip4/1.2.3.4/tcp/1"), of("/ip4/9.9.9.9/tcp/4001"));
        assert_ne!(of("/ip4/1.2.3.4/tcp/1"), of("/ip6/::1/tcp/1"));
        assert_ne!(of("/ip4/1.2.3.4/udp/1/quic-v1"), of("/ip4/1.2.3.4/udp/1/quic-v1/webtransport"));
        assert_eq!(Transport::of(&[0xff]), Transport::of(&[0xfe]));
    }

    #[test]
    fn what_no_transport_takes_for_its_values_is_no_transport_that_others_use() {
        let of = |addr: &str| Transport::of(addr.parse::<Multiaddr>().unwrap().as_ref());
        let (tcp, quic) = (of("/ip4/1.2.3.4/tcp/1"), of("/ip4/1.2.3.4/udp/1/quic-v1"));
        for none in
            ["/ip4/1.2.3.4/tcp/0", "/ip4/0.0.0.0/tcp/1", "/ip4/1.2.3.4/udp/0/quic-v1", "/ip4/0.0.0.0/udp/1/quic-v1"]
        {
            assert!(![tcp, quic].contains(&of(none)), "{none}");
        }
        assert_ne!(of("/ip6/::/tcp/1"), of("/ip6/::1/tcp/1"));
    }
}

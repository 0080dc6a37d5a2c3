//! Which host an address leads to, and by which transport.
//!
//! Knows: addresses by their bytes. Must not know: whose they are, or whether anyone answers there.

use multiaddr::Protocol;

use super::ip_group::RawHost;
use super::key::Key;

/// Whoever a dial disturbs: one machine, or what one owner has of the same price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// An IPv4 address.
    V4(u32),
    /// The first 64 bits of an IPv6 address: the least that anyone gets.
    V6(u64),
    /// A registered name, hashed: the last two labels of a name. Everything below it is its owner's to invent.
    Name(u64),
}

impl Host {
    /// The host that is dialled; of an address through a relay that is the relay's. `None` for what is no host on a network,
    /// such as memory.
    pub(crate) fn of(addr: &[u8]) -> Option<Host> {
        Some(match RawHost::parse(addr)? {
            RawHost::Ip(std::net::IpAddr::V4(ip)) => Host::V4(ip.to_bits()),
            RawHost::Ip(std::net::IpAddr::V6(ip)) => Host::V6((ip.to_bits() >> 64) as u64),
            RawHost::Name(name) => Host::Name(registered(name)),
        })
    }

    /// What stands for its network, whose hosts are likely to be one owner's to fill: 24 bits of an IPv4 address, 48 of an
    /// IPv6 one. All names are one network: nobody sees which they stand for.
    pub(crate) fn network(self) -> Host {
        match self {
            Host::V4(ip) => Host::V4(ip & !0xff),
            Host::V6(ip) => Host::V6(ip & !0xffff),
            Host::Name(_) => Host::Name(0),
        }
    }
}

/// The hash of the last two labels.
fn registered(name: &[u8]) -> u64 {
    let name = name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase();
    let labels: Vec<_> = name.rsplit(|byte| *byte == b'.').take(2).collect();
    Key::hash(&labels.join(&b'.')).head()
}

/// Whether whoever owns the name in an address says how many addresses it stands for, ports and all.
pub(crate) fn is_open_ended(addr: &[u8]) -> bool {
    matches!(Protocol::from_bytes(addr), Ok((Protocol::Dnsaddr(_), _)))
}

/// The transport of an address: which protocols it names, whatever their values, and whoever is at its end. Only ports and
/// IP addresses that nobody can have count: transports refuse them in the words they have for other transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Transport(u64);

impl Transport {
    /// Total: what does not parse is a transport of its own.
    pub(crate) fn of(addr: &[u8]) -> Transport {
        let (mut hash, mut rest) = (0xcbf2_9ce4_8422_2325_u64, addr);
        while let Ok((part, after)) = Protocol::from_bytes(rest) {
            rest = after;
            if !matches!(part, Protocol::P2p(_)) {
                let mix = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
                let nobodys = match part {
                    Protocol::Tcp(port) | Protocol::Udp(port) => port == 0,
                    Protocol::Ip4(ip) => ip.is_unspecified(),
                    Protocol::Ip6(ip) => ip.is_unspecified(),
                    _ => false,
                };
                hash = part.tag().bytes().chain([u8::from(nobodys)]).fold(hash, mix);
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

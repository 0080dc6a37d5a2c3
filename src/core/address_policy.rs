//! The addresses that a node uses (keeps, dials and hands out), its own and those of other peers.
//!
//! Knows: from where an address can be reached, by its bytes alone. Must not know: whose it is, or whether a peer
//! answers there. Total: an address that does not parse can be reached from nowhere.

use std::net::{Ipv4Addr, Ipv6Addr};

use multiaddr::Protocol;

/// Which addresses, of peers and of its own, a node uses. An address that the policy refuses is neither kept nor
/// dialled nor handed out, wherever it comes from.
///
/// | address | `Any` | `Public` | `Lan` |
/// | --- | --- | --- | --- |
/// | public IPv4 and IPv6; NAT64 (`64:ff9b::/96`) and 6to4 of public IPv4 | yes | yes | no |
/// | `/dns*` names, but those below | yes | yes | no |
/// | private IPv4 (`10/8`, `172.16/12`, `192.168/16`), carrier NAT (`100.64/10`), link-local (`169.254/16`) | yes | no | yes |
/// | IPv6 unique local (`fc00::/7`), link-local (`fe80::/10`, `/ip6zone`), site-local, local NAT64 (`64:ff9b:1::/48`) | yes | no | yes |
/// | names of one label, below `local`, `internal`, `private`, `lan`, `home`, `corp`, `intranet`, `localdomain`, `home.arpa` | yes | no | yes |
/// | loopback, `localhost`, `/memory`, `/unix` | yes | no | yes |
/// | unspecified, multicast, broadcast, reserved, benchmarking, documentation, Teredo, NAT64 and 6to4 of other than public IPv4 | yes | no | no |
/// | names below `test`, `example`, `invalid`, `onion`, `alt`, `arpa`; numbers that a resolver may take for IPv4 | yes | no | no |
/// | `/onion`, `/garlic`, no host at all, hosts of different kinds in one address | yes | no | no |
/// | through a relay (`/p2p-circuit`) | yes | as the relay's | as the relay's |
/// | this node's own, named as another peer's | no | no | no |
///
/// IPv4 mapped into IPv6, and IP addresses written as names, are judged as the addresses that they stand for. A name of
/// the public DNS is admitted without resolving it.
///
/// **Relays.** An address through a relay is kept, handed out and dialled, but a peer that has only such addresses is
/// not taken into the routing table (rule A19; the Go implementation does the same in its public network). Under `Any`
/// it may be in tables, but does not become a server by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AddressPolicy {
    /// All addresses: right for a private network, and without cost.
    #[default]
    Any,
    /// Addresses that can be reached from anywhere: for the public network (rules A18, A19 and A31).
    Public,
    /// Addresses that can be reached from the same network or the same machine: for the local network beside the public
    /// one (`/ipfs/lan/kad/1.0.0`). The Go implementation does not announce loopback addresses there; here a node on
    /// the same machine is as local as one in the same room.
    Lan,
}

impl AddressPolicy {
    /// Whether an address, in binary form, may be kept, dialled and handed out.
    pub fn admits(self, addr: &[u8]) -> bool {
        self == AddressPolicy::Any || self.allows(scope(addr).0)
    }

    /// Whether a peer with this address may be in the routing table: it is admitted, and needs no relay.
    pub fn routes(self, addr: &[u8]) -> bool {
        if self == AddressPolicy::Any {
            return true;
        }
        let (scope, relayed) = scope(addr);
        self.allows(scope) && !relayed
    }

    fn allows(self, scope: AddrScope) -> bool {
        match self {
            AddressPolicy::Any => true,
            AddressPolicy::Public => scope == AddrScope::Internet,
            AddressPolicy::Lan => matches!(scope, AddrScope::Network | AddrScope::Machine),
        }
    }
}

/// Whether an address goes through a relay.
pub(crate) fn is_relayed(addr: &[u8]) -> bool {
    scope(addr).1
}

/// The range from which an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddrScope {
    /// From anywhere.
    Internet,
    /// From the same network.
    Network,
    /// From the same machine.
    Machine,
    /// From nowhere, or it cannot be told.
    Nowhere,
}

/// The range from which an address can be reached, and whether it goes through a relay.
fn scope(addr: &[u8]) -> (AddrScope, bool) {
    let (mut found, mut relayed) = (None, false);
    let mut rest = addr;
    while !rest.is_empty() {
        let Ok((protocol, after)) = Protocol::from_bytes(rest) else { return (AddrScope::Nowhere, relayed) };
        rest = after;
        let here = match protocol {
            Protocol::Ip4(ip) => of_ip4(ip),
            Protocol::Ip6(ip) => of_ip6(ip),
            Protocol::Ip6zone(_) => AddrScope::Network,
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) => {
                of_name(&name)
            }
            Protocol::Memory(_) | Protocol::Unix(_) => AddrScope::Machine,
            Protocol::Onion(..) | Protocol::Onion3(_) | Protocol::Garlic32(_) | Protocol::Garlic64(_) => {
                AddrScope::Nowhere
            }
            Protocol::Ipcidr(_) => AddrScope::Nowhere,
            Protocol::P2pCircuit => {
                relayed = true;
                continue;
            }
            _ => continue,
        };
        if *found.get_or_insert(here) != here {
            return (AddrScope::Nowhere, relayed);
        }
    }
    (found.unwrap_or(AddrScope::Nowhere), relayed)
}

/// By the IANA registry of special-purpose IPv4 addresses.
fn of_ip4(ip: Ipv4Addr) -> AddrScope {
    match ip.octets() {
        [127, ..] => AddrScope::Machine,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [169, 254, ..] | [100, 64..=127, ..] => AddrScope::Network,
        // This network, protocols, documentation, the 6to4 relays that were, benchmarks.
        [0, ..] | [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] | [198, 18 | 19, ..] => {
            AddrScope::Nowhere
        }
        // Multicast, reserved, broadcast.
        [224..=255, ..] => AddrScope::Nowhere,
        _ => AddrScope::Internet,
    }
}

/// By the IANA registry of special-purpose IPv6 addresses.
fn of_ip6(ip: Ipv6Addr) -> AddrScope {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    // A translator or tunnel that leads to anything other than a public address is refused.
    let through =
        |ip: Ipv4Addr| if of_ip4(ip) == AddrScope::Internet { AddrScope::Internet } else { AddrScope::Nowhere };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => AddrScope::Machine,
        [0, 0, 0, 0, 0, 0xffff, high, low] => of_ip4(embedded(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => through(embedded(high, low)),
        [0x64, 0xff9b, 1, ..] => AddrScope::Network,
        [0x2002, high, low, ..] => through(embedded(high, low)),
        // Unique local, link-local, site-local.
        [0xfc00..=0xfdff, ..] | [0xfe80..=0xfeff, ..] => AddrScope::Network,
        // Teredo and other protocols, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => AddrScope::Nowhere,
        [0x2000..=0x3fff, ..] => AddrScope::Internet,
        _ => AddrScope::Nowhere,
    }
}

/// By the special-use names of RFC 6761, 6762, 7686, 8375 and 9476, and those that networks use for themselves.
fn of_name(name: &str) -> AddrScope {
    const NETWORK: &[&str] = &["local", "internal", "private", "lan", "home", "corp", "intranet", "localdomain"];
    const NOWHERE: &[&str] = &["test", "example", "invalid", "onion", "alt", "arpa"];
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Ok(ip) = name.parse() {
        return of_ip4(ip);
    }
    if name.contains(':') {
        return name.parse().map_or(AddrScope::Nowhere, of_ip6);
    }
    let mut labels = name.rsplit('.');
    let last = labels.next().unwrap_or_default();
    let is = |known: &&str| last.eq_ignore_ascii_case(known);
    // No name of the DNS ends in a number, but resolvers read `127.1` and `0x7f000001` as addresses.
    if name.split('.').any(str::is_empty) || is_number(last) {
        return AddrScope::Nowhere;
    }
    match labels.next() {
        _ if is(&"localhost") => AddrScope::Machine,
        Some(home) if is(&"arpa") && home.eq_ignore_ascii_case("home") => AddrScope::Network,
        _ if NOWHERE.iter().any(is) => AddrScope::Nowhere,
        None => AddrScope::Network,
        Some(_) if NETWORK.iter().any(is) => AddrScope::Network,
        Some(_) => AddrScope::Internet,
    }
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        None => label.bytes().all(|digit| digit.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use multiaddr::Multiaddr;
    use proptest::prelude::*;

    use super::*;

    const RELAY: &str = "p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit";

    fn judge(text: &str) -> (bool, bool) {
        let addr: Multiaddr = text.parse().unwrap();
        assert!(AddressPolicy::Any.admits(addr.as_ref()) && AddressPolicy::Any.routes(addr.as_ref()), "{text}");
        (AddressPolicy::Public.admits(addr.as_ref()), AddressPolicy::Lan.admits(addr.as_ref()))
    }

    fn all(texts: &[&str], public: bool, lan: bool) {
        texts.iter().for_each(|text| assert_eq!(judge(text), (public, lan), "{text}"));
    }

    #[test]
    fn what_is_public() {
        all(
            &[
                "/ip4/1.2.3.4/tcp/4001",
                "/ip4/100.63.255.255/tcp/1",
                "/ip4/100.128.0.0/tcp/1",
                "/ip4/172.15.255.255/tcp/1",
                "/ip4/172.32.0.0/tcp/1",
                "/ip4/11.0.0.1/tcp/1",
                "/ip4/223.255.255.255/udp/1/quic-v1",
                "/ip6/2a00:1450::1/udp/4001/quic-v1/webtransport",
                "/ip6/2600::1/tcp/1",
                "/ip6/::ffff:8.8.8.8/tcp/1",
                "/ip6/64:ff9b::808:808/tcp/1",
                "/ip6/2002:808:808::1/tcp/1",
                "/dns4/bootstrap.libp2p.io/tcp/443/wss",
                "/dnsaddr/bootstrap.libp2p.io",
                "/dns/Node.Example.COM./tcp/1",
                "/dns/8.8.8.8/tcp/1",
                "/dns/notlocal.net/tcp/1",
                "/dns/local.net/tcp/1",
            ],
            true,
            false,
        );
    }

    #[test]
    fn what_is_of_the_same_network_or_machine() {
        all(
            &[
                "/ip4/10.0.0.1/tcp/1",
                "/ip4/172.16.0.1/tcp/1",
                "/ip4/172.31.255.255/tcp/1",
                "/ip4/192.168.1.1/udp/1/quic-v1",
                "/ip4/169.254.1.1/tcp/1",
                "/ip4/100.64.0.1/tcp/1",
                "/ip4/100.127.255.255/tcp/1",
                "/ip6/fc00::1/tcp/1",
                "/ip6/fdff::1/tcp/1",
                "/ip6/fe80::1/tcp/1",
                "/ip6zone/eth0/ip6/fe80::1/tcp/1",
                "/ip6/fec0::1/tcp/1",
                "/ip6/64:ff9b:1::808:808/tcp/1",
                "/ip6/::ffff:10.0.0.1/tcp/1",
                "/dns4/printer.local/tcp/1",
                "/dns4/PRINTER.LOCAL./tcp/1",
                "/dns/db.internal/tcp/1",
                "/dns/nas.home.arpa/tcp/1",
                "/dns/nas/tcp/1",
                "/dns/192.168.0.1/tcp/1",
                "/ip4/127.0.0.1/tcp/1",
                "/ip4/127.255.255.255/tcp/1",
                "/ip6/::1/tcp/1",
                "/ip6/::ffff:127.0.0.1/tcp/1",
                "/dns4/localhost/tcp/1",
                "/dns4/a.localhost/tcp/1",
                "/dns6/::1/tcp/1",
                "/memory/7",
                "/unix/a",
            ],
            false,
            true,
        );
    }

    #[test]
    fn what_leads_nowhere() {
        all(
            &[
                "/ip4/0.0.0.0/tcp/1",
                "/ip4/0.1.2.3/tcp/1",
                "/ip4/192.0.0.1/tcp/1",
                "/ip4/192.0.2.1/tcp/1",
                "/ip4/198.51.100.1/tcp/1",
                "/ip4/203.0.113.1/tcp/1",
                "/ip4/192.88.99.1/tcp/1",
                "/ip4/198.19.0.1/tcp/1",
                "/ip4/224.0.0.1/udp/1",
                "/ip4/239.255.255.250/udp/1",
                "/ip4/240.0.0.1/tcp/1",
                "/ip4/255.255.255.255/udp/1",
                "/ip6/::/tcp/1",
                "/ip6/::7f00:1/tcp/1",
                "/ip6/ff02::1/udp/1",
                "/ip6/2001:db8::1/tcp/1",
                "/ip6/3fff::1/tcp/1",
                "/ip6/2001:0:4136:e378::1/udp/1",
                "/ip6/100::1/tcp/1",
                "/ip6/5f00::1/tcp/1",
                "/ip6/64:ff9b::a00:1/tcp/1",
                "/ip6/64:ff9b::7f00:1/tcp/1",
                "/ip6/2002:a00:1::1/tcp/1",
                "/ip6/2002:7f00:1::1/tcp/1",
                "/ip6/::ffff:0.0.0.0/tcp/1",
                "/ip6/::ffff:224.0.0.1/tcp/1",
                "/dns/127.1/tcp/1",
                "/dns/2130706433/tcp/1",
                "/dns/0x7f000001/tcp/1",
                "/dns/0x7f.0x1/tcp/1",
                "/dns/a..b/tcp/1",
                "/dns/./tcp/1",
                "/dns/x.onion/tcp/1",
                "/dns/1.0.0.10.in-addr.arpa/tcp/1",
                "/dns/x.test/tcp/1",
                "/tcp/1",
                "/p2p-circuit",
            ],
            false,
            false,
        );
    }

    #[test]
    fn a_relay_is_judged_by_where_it_is_and_makes_no_server() {
        for (host, public, lan) in [("/ip4/1.2.3.4/tcp/1", true, false), ("/ip4/10.0.0.1/tcp/1", false, true)] {
            let relayed: Multiaddr = format!("{host}/{RELAY}").parse().unwrap();
            assert_eq!(judge(&relayed.to_string()), (public, lan));
            assert!(!AddressPolicy::Public.routes(relayed.as_ref()) && !AddressPolicy::Lan.routes(relayed.as_ref()));
            assert!(is_relayed(relayed.as_ref()));
            let direct: Multiaddr = host.parse().unwrap();
            assert_eq!(AddressPolicy::Public.routes(direct.as_ref()), public);
            assert_eq!(AddressPolicy::Lan.routes(direct.as_ref()), lan);
        }
        all(&[&format!("/{RELAY}"), &format!("/ip4/1.2.3.4/tcp/1/{RELAY}/ip4/10.0.0.1/tcp/1")], false, false);
    }

    proptest! {
        /// Any bytes get a verdict, and no address is both public and local.
        #[test]
        fn garbage_leads_nowhere_and_harms_nobody(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let (public, lan) = (AddressPolicy::Public.admits(&bytes), AddressPolicy::Lan.admits(&bytes));
            prop_assert!(!(public && lan));
            prop_assert!(AddressPolicy::Any.admits(&bytes));
            if multiaddr::Multiaddr::try_from(bytes).is_err() {
                prop_assert!(!public && !lan);
            }
        }

        /// An address is not admitted because of what follows it.
        #[test]
        fn no_tail_makes_a_private_address_public(host: [u8; 4], tail in prop::collection::vec(any::<u8>(), 0..40)) {
            for place in [vec![4, 127, host[0], host[1], host[2]], vec![4, 10, host[0], host[1], host[2]]] {
                prop_assert!(!AddressPolicy::Public.admits(&[&place[..], &tail].concat()));
            }
        }
    }
}

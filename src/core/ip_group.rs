//! IP groups: addresses that are likely to be one operator's.
//!
//! Knows: the binary form of addresses, and which networks belong together. Must not know: how many peers of a group
//! are too many.
//!
//! A group is what an attacker has to pay for, as ids are free: an IPv4 network of 16 bits (of 8 bits for the few
//! blocks of that size with one owner), an IPv6 network of 32 bits, or an autonomous system if there is a table of
//! them.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use smallvec::SmallVec;

use super::address_policy::is_relayed;
use super::contact::Contact;

/// Addresses that are likely to be one operator's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum IpGroup {
    /// The first 16 bits of an IPv4 address.
    V4(u16),
    /// The first 8 bits of an IPv4 address, for blocks with one owner.
    V4Block(u8),
    /// The first 32 bits of an IPv6 address.
    V6(u32),
    /// The autonomous system of an IPv6 address.
    Asn(u32),
    /// DNS names and relays: the addresses behind them cannot be seen.
    Named,
}

/// The groups of one peer, in order, each once.
pub(crate) type IpGroups = SmallVec<[IpGroup; 2]>;

impl IpGroup {
    /// A number unique to the group.
    pub(crate) fn id(self) -> u64 {
        let (kind, group) = match self {
            IpGroup::V4(net) => (0, u32::from(net)),
            IpGroup::V4Block(net) => (1, u32::from(net)),
            IpGroup::V6(net) => (2, net),
            IpGroup::Asn(asn) => (3, asn),
            IpGroup::Named => (4, 0),
        };
        kind << 32 | u64::from(group)
    }

    /// The groups of a peer over all its addresses.
    ///
    /// Addresses of the public internet count. Private ones count only if a peer has no public one, and names, all of
    /// which are one group, only if it has neither. So a peer that gives its address at home beside its public one does
    /// not share a group with all other homes. Loopback and memory have no group. Only the first part of each address
    /// is parsed; behind a relay the relay's address counts, which is the one that is dialled.
    pub(crate) fn of(contact: &Contact, asns: Option<&AsnTable>) -> IpGroups {
        let (mut public, mut private, mut named) = (IpGroups::new(), IpGroups::new(), false);
        for addr in contact.raw_addrs() {
            match RawHost::of(addr) {
                Some(RawHost::Name(_)) => named = true,
                Some(RawHost::Ip(ip)) if is_private(&ip) => insert(&mut private, group(&ip, asns)),
                Some(RawHost::Ip(ip)) => insert(&mut public, group(&ip, asns)),
                None => {}
            }
        }
        match (public.is_empty(), private.is_empty()) {
            (false, _) => public,
            (true, false) => private,
            (true, true) => named.then_some(IpGroup::Named).into_iter().collect(),
        }
    }

    /// The group of the address at the other end of a connection, whatever the peer claims. All peers behind relays or
    /// names are of one group, since their addresses cannot be seen. A private address, such as that of a gateway in
    /// front of this node, may stand for many peers and has no group.
    pub(crate) fn of_remote_addr(addr: &[u8], asns: Option<&AsnTable>) -> Option<IpGroup> {
        match RawHost::of(addr) {
            _ if is_relayed(addr) => Some(IpGroup::Named),
            Some(RawHost::Ip(ip)) => (!is_private(&ip)).then(|| group(&ip, asns)),
            Some(RawHost::Name(_)) => Some(IpGroup::Named),
            None => addr.starts_with(&P2P).then_some(IpGroup::Named),
        }
    }

    /// The group of a single address.
    pub(crate) fn of_addr(addr: &[u8], asns: Option<&AsnTable>) -> Option<IpGroup> {
        match RawHost::of(addr)? {
            RawHost::Ip(ip) => Some(group(&ip, asns)),
            RawHost::Name(_) => Some(IpGroup::Named),
        }
    }
}

/// The host at the beginning of an address.
pub(crate) enum RawHost<'a> {
    Ip(IpAddr),
    Name(&'a [u8]),
}

/// Codes of protocols in addresses. Source: the table of multicodec.
const P2P: [u8; 2] = [0xa5, 0x03];
const IP4: u8 = 4;
const IP6: u8 = 41;
const IP6ZONE: u8 = 42;
const DNS: RangeInclusive<u8> = 53..=56;

impl RawHost<'_> {
    /// `None` for addresses of the same machine, and for those without a host.
    fn of(addr: &[u8]) -> Option<RawHost<'_>> {
        RawHost::parse(addr).filter(|place| match place {
            RawHost::Ip(ip) => !ip.is_loopback() && !ip.is_unspecified(),
            RawHost::Name(_) => true,
        })
    }

    /// `None` for an address without a host on a network.
    pub(crate) fn parse(addr: &[u8]) -> Option<RawHost<'_>> {
        let ip = match addr {
            [IP6ZONE, rest @ ..] => return RawHost::parse(text(rest)?.1),
            [IP4, a, b, c, d, ..] => IpAddr::from([*a, *b, *c, *d]),
            [IP6, rest @ ..] => IpAddr::from(*rest.first_chunk::<16>()?),
            // An IP address written as a name is dialled as that address.
            [code, rest @ ..] if DNS.contains(code) => {
                let name = text(rest)?.0;
                match str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
                    Some(ip) => ip,
                    None => return Some(RawHost::Name(name)),
                }
            }
            _ => return None,
        };
        let ip = match ip {
            IpAddr::V6(v6) => embedded(&v6).map_or(ip, IpAddr::V4),
            IpAddr::V4(_) => ip,
        };
        Some(RawHost::Ip(ip))
    }
}

/// A text that comes after its length, and the rest. A length takes at most two bytes: longer addresses are not kept.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match bytes {
        [low, high, rest @ ..] if *low >= 0x80 => {
            rest.split_at_checked(usize::from(low & 0x7f) | usize::from(*high) << 7)
        }
        [len, rest @ ..] => rest.split_at_checked(usize::from(*len)),
        [] => None,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, 6to4, or NAT64 by its well-known prefix.
fn embedded(ip: &Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    match octets {
        [0x20, 0x02, a, b, c, d, ..] | [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] => {
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => ip.to_ipv4_mapped(),
    }
}

/// IPv4 blocks of 8 bits with one owner. Source: rule A22.
const BLOCKS: [u8; 8] = [12, 17, 19, 38, 48, 53, 56, 73];

fn group(ip: &IpAddr, asns: Option<&AsnTable>) -> IpGroup {
    match ip {
        IpAddr::V4(v4) => match v4.octets() {
            [a, ..] if BLOCKS.contains(&a) => IpGroup::V4Block(a),
            [a, b, ..] => IpGroup::V4(u16::from_be_bytes([a, b])),
        },
        IpAddr::V6(v6) => match asns.and_then(|asns| asns.lookup(v6)) {
            Some(asn) => IpGroup::Asn(asn),
            None => IpGroup::V6((v6.to_bits() >> 96) as u32),
        },
    }
}

/// Whether an address means different machines in different networks.
fn is_private(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let shared = matches!(v4.octets(), [100, b, ..] if b & 0xc0 == 64);
            v4.is_private() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Adds a group if it is not there yet.
pub(crate) fn insert(groups: &mut IpGroups, group: IpGroup) {
    if let Err(at) = groups.binary_search(&group) {
        groups.insert(at, group);
    }
}

/// A table of autonomous systems by IPv6 address.
///
/// IPv4 networks of 16 bits are expensive enough to tell operators apart; an IPv6 network of 32 bits is given to any
/// provider on request, and large ones have many (rule A22). An address in no range is grouped by its first 32 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AsnTable {
    /// First address, last address, system: in order, without overlap.
    ranges: Vec<Range>,
}

type Range = (u128, u128, u32);

impl AsnTable {
    /// A table of these ranges, 48 bytes each. If two overlap, the one that begins later applies, or of two that begin
    /// together the shorter one; empty ranges are dropped.
    pub fn new(ranges: impl IntoIterator<Item = (RangeInclusive<Ipv6Addr>, u32)>) -> AsnTable {
        let ranges = ranges.into_iter().map(|(range, asn)| (range.start().to_bits(), range.end().to_bits(), asn));
        let mut ranges: Vec<Range> = ranges.filter(|(first, last, _)| first <= last).collect();
        ranges.sort_unstable_by_key(|(first, last, asn)| (*first, Reverse(*last), *asn));
        AsnTable { ranges: without_overlap(&ranges) }
    }

    /// The system that an address belongs to.
    pub fn lookup(&self, ip: &Ipv6Addr) -> Option<u32> {
        let ip = ip.to_bits();
        let after = self.ranges.partition_point(|(first, ..)| *first <= ip);
        let (_, last, asn) = self.ranges.get(after.checked_sub(1)?)?;
        (ip <= *last).then_some(*asn)
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the table has no ranges.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// The parts of ranges that apply, of ranges ordered by their first address.
fn without_overlap(ranges: &[Range]) -> Vec<Range> {
    let mut apart = Vec::<Range>::new();
    for (first, last, asn) in ranges {
        let mut behind = Vec::new();
        while let Some((from, to, other)) = apart.pop_if(|(_, to, _)| *to >= *first) {
            if to > *last {
                behind.push((from.max(*last + 1), to, other));
            }
            if from < *first {
                apart.push((from, *first - 1, other));
            }
        }
        apart.push((*first, *last, *asn));
        apart.extend(behind.into_iter().rev());
    }
    apart
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    fn groups(addrs: &[&str]) -> Vec<IpGroup> {
        groups_by(None, addrs)
    }

    fn groups_by(asns: Option<&AsnTable>, addrs: &[&str]) -> Vec<IpGroup> {
        let contact = Contact::new(PeerId::random(), addrs.iter().map(|addr| addr.parse().unwrap()));
        IpGroup::of(&contact, asns).into_vec()
    }

    #[test]
    fn networks_are_groups_whatever_follows() {
        let of = [IpGroup::V4(0x0506), IpGroup::V6(0x2a01_04f8)];
        let addrs = ["/ip6/2a01:4f8::1/tcp/1", "/ip4/5.6.7.8/udp/1/quic-v1", "/ip4/5.6.99.8/tcp/2", "/dns4/a.b/tcp/1"];
        assert_eq!(groups(&addrs), of);
        assert_eq!(groups(&["/ip6/2a01:4f8:ffff::9/tcp/7"]), of[1..]);
        assert_ne!(groups(&["/ip6/2a01:4f9::1/tcp/1"]), of[1..]);
        assert_eq!(groups(&["/ip4/38.1.2.3/tcp/1", "/ip4/38.200.2.3/tcp/1"]), [IpGroup::V4Block(38)]);
        let relay = format!("/ip4/5.6.7.8/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        assert_eq!(groups(&[&relay]), of[..1]);
    }

    #[test]
    fn ipv4_in_ipv6_is_the_same_group() {
        for addr in ["/ip6/::ffff:5.6.7.8/tcp/1", "/ip6/2002:0506:0708::1/tcp/1", "/ip6/64:ff9b::506:708/tcp/1"] {
            assert_eq!(groups(&[addr]), [IpGroup::V4(0x0506)], "{addr}");
        }
        assert_eq!(groups(&["/ip6/::ffff:127.0.0.1/tcp/1"]), []);
    }

    #[test]
    fn what_is_on_this_machine_has_no_group() {
        for addr in ["/ip4/127.1.2.3/tcp/1", "/ip6/::1/tcp/1", "/memory/7", "/ip4/0.0.0.0/tcp/1", "/unix/a"] {
            assert_eq!(groups(&[addr]), [], "{addr}");
        }
        assert_eq!(groups(&[]), []);
    }

    #[test]
    fn private_networks_and_names_count_only_where_there_is_nothing_better() {
        let (home, public, name) = ("/ip4/192.168.1.2/tcp/1", "/ip4/5.6.7.8/tcp/1", "/dns/example.com/tcp/1");
        assert_eq!(groups(&[home, public, name]), [IpGroup::V4(0x0506)]);
        assert_eq!(groups(&[home, name]), [IpGroup::V4(0xc0a8)]);
        assert_eq!(groups(&["/ip6/fe80::1/tcp/1", name]), [IpGroup::V6(0xfe80_0000)]);
        assert_eq!(groups(&[name, "/dnsaddr/example.org"]), [IpGroup::Named]);
        assert_eq!(
            groups(&["/dns/5.6.7.8/tcp/1", "/dns6/2a01:4f8::1/tcp/1"]),
            groups(&[public, "/ip6/2a01:4f8::1/tcp/1"])
        );
        assert_eq!(groups(&["/ip4/100.64.0.1/tcp/1", public]), [IpGroup::V4(0x0506)]);
    }

    #[test]
    fn a_table_groups_ipv6_by_system_and_the_rest_stays() {
        let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let table = AsnTable::new([
            (ip("2a01:4f8::")..=ip("2a01:4f9:ffff:ffff:ffff:ffff:ffff:ffff"), 24940),
            (ip("2001:db8::")..=ip("2001:db8::ff"), 1),
            (ip("2001:db8::9")..=ip("2001:db8::1"), 2),
        ]);
        assert_eq!(table.len(), 2);
        let by = |addrs: &[&str]| groups_by(Some(&table), addrs);
        assert_eq!(by(&["/ip6/2a01:4f8::1/tcp/1", "/ip6/2a01:4f9:1::1/tcp/1"]), [IpGroup::Asn(24940)]);
        assert_eq!(by(&["/ip6/2a01:500::1/tcp/1"]), [IpGroup::V6(0x2a01_0500)]);
        assert_eq!(by(&["/ip6/2001:db8::ff/tcp/1"]), [IpGroup::Asn(1)]);
        assert_eq!(by(&["/ip6/2001:db8::100/tcp/1"]), [IpGroup::V6(0x2001_0db8)]);
        assert_eq!(by(&["/ip4/5.6.7.8/tcp/1"]), [IpGroup::V4(0x0506)]);
    }

    #[test]
    fn who_is_connected_is_of_the_group_at_the_other_end() {
        let of = |addr: &str| IpGroup::of_remote_addr(addr.parse::<multiaddr::Multiaddr>().unwrap().as_ref(), None);
        assert_eq!(of("/ip4/5.6.7.8/tcp/50123"), Some(IpGroup::V4(0x0506)));
        assert_eq!(of("/ip4/172.17.0.1/tcp/50123"), None, "a gateway, behind which may be anyone");
        assert_eq!(of("/ip4/127.0.0.1/tcp/50123"), None);
        assert_eq!(of("/memory/7"), None);
        let (relay, peer) = (PeerId::random(), PeerId::random());
        assert_eq!(of(&format!("/p2p/{peer}")), Some(IpGroup::Named), "through a relay");
        assert_eq!(of(&format!("/ip4/5.6.7.8/tcp/1/p2p/{relay}/p2p-circuit/p2p/{peer}")), Some(IpGroup::Named));
        assert_eq!(of("/dns4/example.com/tcp/1"), Some(IpGroup::Named), "wherever that is");
        assert_eq!(IpGroup::of_remote_addr(&[IP4, 1], None), None);
    }

    #[test]
    fn of_ranges_that_overlap_the_later_holds_and_the_outer_goes_on_behind_it() {
        let ip = |bits: u128| Ipv6Addr::from_bits(bits);
        let range = |first: u128, last: u128, asn: u32| (ip(first)..=ip(last), asn);
        let ranges = [
            range(10, 100, 1),
            range(20, 40, 2),
            range(25, 30, 3),
            range(35, 50, 4),
            range(10, 12, 5),
            range(100, 100, 6),
        ];
        let table = AsnTable::new(ranges.clone());
        for bits in 0..120 {
            let holds = ranges.iter().filter(|(range, _)| range.contains(&ip(bits)));
            let holds = holds.max_by_key(|(range, _)| (range.start().to_bits(), Reverse(range.end().to_bits())));
            assert_eq!(table.lookup(&ip(bits)), holds.map(|(_, asn)| *asn), "{bits}");
        }
        let whole = AsnTable::new([range(0, u128::MAX, 1), range(u128::MAX - 1, u128::MAX, 2)]);
        assert_eq!([0, 9, u128::MAX].map(|bits| whole.lookup(&ip(bits))), [Some(1), Some(1), Some(2)]);
        assert_eq!(whole.len(), 2);
    }

    #[test]
    fn broken_bytes_have_no_group() {
        for raw in [&[IP4, 1, 2][..], &[IP6; 16], &[], &[0xff]] {
            assert_eq!(IpGroup::of_addr(raw, None), None);
        }
    }
}

//! Cuts the peer's own id from the end of an address, in one walk over its bytes.
//!
//! Knows: the binary form of addresses. Must not know: how many of them there are, or who named them.
//!
//! The protocols of nearly all addresses are recognised by their codes, and have values of fixed length. `multiaddr`
//! parses all others: it decides what an address is.

use libp2p_identity::PeerId;
use multiaddr::Protocol;

/// `/p2p`, without the length of the id.
const P2P: [u8; 2] = [0xa5, 0x03];

/// The address without a trailing `/p2p/<peer>`; `None` if these bytes are no address, or end in another peer's id.
/// `id` is the peer's id in binary form.
pub(super) fn without_peer<'a>(addr: &'a [u8], peer: &PeerId, id: &[u8]) -> Option<&'a [u8]> {
    let (mut rest, mut without_id, mut last) = (addr, addr, Part::Other);
    while !rest.is_empty() {
        let (part, after) = next(rest, id)?;
        // A relay's id in the middle belongs to the address: `/p2p-circuit` follows it.
        (without_id, last) = (&addr[..addr.len() - rest.len()], part);
        rest = after;
    }
    match last {
        Part::Other => Some(addr),
        Part::Peer => Some(without_id),
        Part::Id(id) => (id == *peer).then_some(without_id),
    }
}

/// One part of an address.
enum Part {
    /// `/p2p` with the id of the peer, byte for byte.
    Peer,
    /// `/p2p` with any id.
    Id(PeerId),
    Other,
}

/// The first part of an address, and what follows it.
fn next<'a>(rest: &'a [u8], id: &[u8]) -> Option<(Part, &'a [u8])> {
    let after = match rest {
        // /ip4, /ip6
        [4, after @ ..] => after.get(4..)?,
        [41, after @ ..] => after.get(16..)?,
        // /tcp, /udp
        [6, after @ ..] | [0x91, 0x02, after @ ..] => after.get(2..)?,
        // /quic, /quic-v1, /webtransport
        [0xcc | 0xcd | 0xd1, 0x03, after @ ..] => after,
        [a, b, len, after @ ..] if [*a, *b] == P2P && usize::from(*len) == id.len() && after.starts_with(id) => {
            return Some((Part::Peer, after.get(id.len()..)?));
        }
        _ => {
            return match Protocol::from_bytes(rest).ok()? {
                (Protocol::P2p(id), after) => Some((Part::Id(id), after)),
                (_, after) => Some((Part::Other, after)),
            };
        }
    };
    Some((Part::Other, after))
}

#[cfg(test)]
mod tests {
    use multiaddr::Multiaddr;
    use proptest::prelude::*;

    use super::*;

    const OTHER: &str = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    /// The same by the parser of `multiaddr` alone.
    fn parsed<'a>(addr: &'a [u8], peer: &PeerId) -> Option<&'a [u8]> {
        let parts = Multiaddr::try_from(addr.to_vec()).ok()?;
        match parts.iter().last() {
            Some(Protocol::P2p(id)) if id != *peer => None,
            Some(Protocol::P2p(id)) => Some(&addr[..addr.len() - 3 - id.to_bytes().len()]),
            _ => Some(addr),
        }
    }

    fn peer() -> PeerId {
        PeerId::from_bytes(&[0, 3, 1, 2, 3]).unwrap()
    }

    fn check(addr: &[u8]) {
        assert_eq!(without_peer(addr, &peer(), &peer().to_bytes()), parsed(addr, &peer()), "{addr:02x?}");
    }

    #[test]
    fn every_form_of_address_and_each_of_its_beginnings_means_what_the_parser_says() {
        let hosts = ["ip4/1.2.3.4", "ip6/::1", "dns4/a.example", "memory/7", "unix/a"];
        let transports =
            ["tcp/1", "udp/1/quic", "udp/1/quic-v1", "udp/9/quic-v1/webtransport", "tcp/443/tls/ws", "sctp/1"];
        let relay = format!("p2p/{OTHER}/p2p-circuit");
        let tails =
            ["".to_owned(), format!("/p2p/{}", peer()), format!("/p2p/{OTHER}"), format!("/{relay}/p2p/{}", peer())];
        for host in hosts {
            for transport in transports {
                for tail in &tails {
                    let addr: Multiaddr = format!("/{host}/{transport}{tail}").parse().unwrap();
                    (0..=addr.len()).for_each(|len| check(&addr.as_ref()[..len]));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn so_do_any_bytes(
            parts in prop::collection::vec(prop_oneof![
                prop::sample::select(vec![
                    vec![4, 1, 2, 3, 4], vec![6, 0, 1], vec![0x91, 2, 0, 1], vec![0xcc, 3], vec![0xcd, 3], vec![0xd1, 3],
                    vec![0xa5, 3, 5, 0, 3, 1, 2, 3], vec![0xa5, 3, 5, 0, 3, 1, 2, 4], vec![0xa2, 2], vec![41], vec![0x84, 0],
                ]),
                prop::collection::vec(any::<u8>(), 0..20),
            ], 0..6),
        ) {
            check(&parts.concat());
        }
    }
}

//! The causes of failed dials: for the requests that waited, for the counters, and for each address.
//!
//! Knows: the swarm's and the transports' errors. Must not know: the peer, or the consequences.

use std::error::Error;
use std::io;

use libp2p_core::Multiaddr;
use libp2p_core::multiaddr::Protocol::{Dns, Dns4, Dns6, Dnsaddr};
use libp2p_core::transport::TransportError;
use libp2p_core::transport::memory::MemoryTransportError;
use libp2p_core::upgrade::NegotiationError;
use libp2p_swarm::DialError;

use crate::core::{DialCause, Unreachable};

/// Maximum number of errors that are followed in a chain of sources.
const MAX_DEPTH: usize = 16;

/// Why the peer is unreachable, for the requests that waited for the dial.
pub(super) fn why_unreachable(error: &DialError) -> Unreachable {
    match error {
        DialError::NoAddresses => Unreachable::NoAddress,
        DialError::WrongPeerId { .. } | DialError::LocalPeerId { .. } => Unreachable::WrongPeer,
        DialError::Denied { .. } => Unreachable::Denied,
        // Of several addresses, the one at which the dial came farthest says most.
        DialError::DialPeerConditionFalse(_) | DialError::Aborted | DialError::Transport(_) => {
            Unreachable::DialFailed(failed_addrs(error).into_iter().map(|(_, cause)| cause).max().unwrap_or_default())
        }
    }
}

/// The index of the failure in `DIAL_FAILURES`.
pub(super) fn index(error: &DialError) -> usize {
    match error {
        DialError::NoAddresses => 0,
        DialError::Aborted | DialError::Transport(_) => 1,
        DialError::WrongPeerId { .. } | DialError::LocalPeerId { .. } => 2,
        DialError::Denied { .. } => 3,
        DialError::DialPeerConditionFalse(_) => 4,
    }
}

/// The addresses at which the dial failed, as far as the swarm reports them, and why.
pub(in crate::net) fn failed_addrs(error: &DialError) -> Vec<(Multiaddr, DialCause)> {
    match error {
        DialError::Transport(errors) => {
            errors.iter().map(|(addr, error)| (addr.clone(), of_transport(addr, error))).collect()
        }
        DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address } => {
            vec![(address.clone(), DialCause::WrongPeer)]
        }
        _ => Vec::new(),
    }
}

/// Why the dial failed at one address. An unknown error at an address with a host name means that the name did not
/// resolve: that error is of a type which only the resolver has.
fn of_transport(addr: &Multiaddr, error: &TransportError<io::Error>) -> DialCause {
    let named = || matches!(addr.iter().next(), Some(Dns(_) | Dns4(_) | Dns6(_) | Dnsaddr(_)));
    match error {
        TransportError::MultiaddrNotSupported(_) => DialCause::NoTransport,
        TransportError::Other(error) => match of_chain(error) {
            DialCause::Unknown if named() => DialCause::Unresolved,
            cause => cause,
        },
    }
}

/// The first error of the chain with a known cause. Transports wrap the system's errors in errors of their own.
fn of_chain(error: &io::Error) -> DialCause {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    for _ in 0..MAX_DEPTH {
        let Some(error) = next else { break };
        let cause = of_one(error);
        if cause != DialCause::Unknown {
            return cause;
        }
        // `source` of an I/O error is the source of the error that it wraps, and would skip that error itself.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as &(dyn Error + 'static)).or_else(|| error.source());
    }
    DialCause::Unknown
}

fn of_one(error: &(dyn Error + 'static)) -> DialCause {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return of_kind(error.kind());
    }
    if let Some(error) = error.downcast_ref::<NegotiationError>() {
        return match error {
            NegotiationError::Failed => DialCause::Handshake,
            NegotiationError::ProtocolError(_) => DialCause::Unknown,
        };
    }
    match error.downcast_ref::<MemoryTransportError>() {
        Some(MemoryTransportError::Unreachable) => DialCause::Refused,
        Some(MemoryTransportError::AlreadyInUse) => DialCause::NotPermitted,
        // The error of two joined transports hides the system's error, but prints its number: see `os_code`.
        None if error.source().is_none() => os_code(&error.to_string())
            .map_or(DialCause::Unknown, |code| of_kind(io::Error::from_raw_os_error(code).kind())),
        None => DialCause::Unknown,
    }
}

fn of_kind(kind: io::ErrorKind) -> DialCause {
    use io::ErrorKind as Kind;
    match kind {
        Kind::ConnectionRefused => DialCause::Refused,
        Kind::TimedOut => DialCause::TimedOut,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown | Kind::AddrNotAvailable => {
            DialCause::NoRoute
        }
        Kind::PermissionDenied => DialCause::NotPermitted,
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => DialCause::Closed,
        Kind::InvalidData => DialCause::Handshake,
        _ => DialCause::Unknown,
    }
}

/// The number in `Connection refused (os error 111)`, which is the standard library's text for a system error. The
/// texts of other libraries are not read, since they change: a transport's own time limit and the handshake errors of
/// QUIC, TLS and noise are [`DialCause::Unknown`]. The core knows its own time limit.
fn os_code(text: &str) -> Option<i32> {
    let (_, rest) = text.split_once("(os error ")?;
    rest.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use either::Either;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("wrapped: {0}")]
    struct Wrapped<E: Error + 'static>(#[source] E);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Text(&'static str);

    /// The number that this system has for a refused connection.
    fn refused_code() -> i32 {
        (1..20_000)
            .find(|code| io::Error::from_raw_os_error(*code).kind() == io::ErrorKind::ConnectionRefused)
            .unwrap_or(0)
    }

    fn transport(error: io::Error) -> TransportError<io::Error> {
        TransportError::Other(error)
    }

    #[test]
    fn what_the_system_said_is_found_below_what_wraps_it() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(of_chain(&refused()), DialCause::Refused);
        assert_eq!(of_chain(&io::Error::other(refused())), DialCause::Refused);
        assert_eq!(of_chain(&io::Error::other(Wrapped(Wrapped(refused())))), DialCause::Refused);
        assert_eq!(of_chain(&io::Error::other(Wrapped(io::Error::other(Wrapped(refused()))))), DialCause::Refused);
        assert_eq!(of_chain(&io::Error::other(Wrapped(Text("Handshake timed out.")))), DialCause::Unknown);
        assert_eq!(of_chain(&io::Error::other(Wrapped(NegotiationError::Failed))), DialCause::Handshake);
        assert_eq!(of_chain(&io::Error::other(Text("?"))), DialCause::Unknown);
        // The source of `Either` is that of what is in it.
        let joined = |error| Wrapped(Either::<Either<io::Error, Text>, Text>::Left(Either::Left(error)));
        let system = io::Error::from_raw_os_error(refused_code());
        assert_eq!(of_chain(&io::Error::other(joined(system))), DialCause::Refused);
        assert_eq!(of_chain(&io::Error::other(joined(refused()))), DialCause::Unknown, "hidden, and without a number");
        assert_eq!(of_chain(&io::Error::other(Text("gone (os error 99999999999)"))), DialCause::Unknown);
        assert_eq!(of_chain(&io::Error::other(MemoryTransportError::Unreachable)), DialCause::Refused);
    }

    #[test]
    fn an_endless_chain_is_not_followed_forever() {
        #[derive(Debug)]
        struct Endless;
        impl std::fmt::Display for Endless {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("endless")
            }
        }
        impl Error for Endless {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&Endless)
            }
        }
        assert_eq!(of_chain(&io::Error::other(Endless)), DialCause::Unknown);
    }

    #[test]
    fn a_name_without_another_cause_did_not_resolve() {
        let of = |addr: &str, error| of_transport(&addr.parse().unwrap(), &transport(error));
        let not_found = || io::Error::other(Text("no record found"));
        for addr in ["/dns/a.invalid/tcp/1", "/dns4/a.invalid/tcp/1", "/dns6/a.invalid/tcp/1", "/dnsaddr/a.invalid"] {
            assert_eq!(of(addr, not_found()), DialCause::Unresolved);
        }
        assert_eq!(of("/ip4/127.0.0.1/tcp/1", not_found()), DialCause::Unknown);
        assert_eq!(of("/dns4/localhost/tcp/1", io::ErrorKind::ConnectionRefused.into()), DialCause::Refused);
    }

    #[test]
    fn the_address_where_the_dial_came_farthest_decides() {
        let addr: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
        let errors = [
            TransportError::MultiaddrNotSupported(addr.clone()),
            transport(io::ErrorKind::ConnectionRefused.into()),
            transport(io::ErrorKind::TimedOut.into()),
            transport(io::Error::other(Text("?"))),
        ];
        let error = DialError::Transport(errors.into_iter().map(|error| (addr.clone(), error)).collect());
        assert_eq!(why_unreachable(&error), Unreachable::DialFailed(DialCause::Refused));
        let none = why_unreachable(&DialError::Transport(Vec::new()));
        assert_eq!(none, Unreachable::DialFailed(DialCause::Unknown));
    }
}

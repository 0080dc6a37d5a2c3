//! Whether this node serves others: by the application's choice, or by its reachability (rules L6 and A6).
//!
//! Knows: the confirmed external addresses, and since when there are none. Must not know: peers.
//!
//! *Dropped:* following each change at once (libp2p-kad), and waiting in both directions, which helps no one.

use std::time::Duration;

use libp2p_core::Multiaddr;

use crate::core::ModeReason;
use crate::core::{AddressPolicy, Mode, Timestamp, is_relayed};

/// Decides the mode. Pure: methods report events, and return decisions.
///
/// In automatic mode the first confirmed address makes a server at once: a peer that can be reached does no harm. A
/// server becomes a client only when no address was confirmed for a while: at each change all peers that know this node
/// update their tables, and an address that is confirmed again every few minutes must not cause that each time. An
/// address that would keep the node out of other nodes' tables makes no server, and neither does one through a relay,
/// which would have to carry all requests.
#[derive(Debug)]
pub(crate) struct ModeSwitch {
    /// The application's choice; `None` for automatic mode.
    chosen: Option<Mode>,
    /// The time for which a server without a confirmed address continues to serve.
    hold: Duration,
    /// The addresses that count.
    policy: AddressPolicy,
    /// The confirmed external addresses, the longest confirmed first.
    external: Vec<Multiaddr>,
    /// When the last address that counts expired; `None` while there is one, and before the first.
    unreachable_since: Option<Timestamp>,
    /// The last decision; `None` before the first.
    current: Option<Mode>,
}

impl ModeSwitch {
    pub(crate) fn new(chosen: Option<Mode>, hold: Duration, policy: AddressPolicy) -> ModeSwitch {
        ModeSwitch { chosen, hold, policy, external: Vec::new(), unreachable_since: None, current: None }
    }

    pub(crate) fn set(&mut self, chosen: Option<Mode>) {
        self.chosen = chosen;
    }

    /// Returns whether the address is new.
    pub(crate) fn on_confirmed(&mut self, addr: &Multiaddr) -> bool {
        let new = !self.external.contains(addr);
        if new {
            self.external.push(addr.clone());
            if self.is_reachable() {
                self.unreachable_since = None;
            }
        }
        new
    }

    /// Returns whether the address was known.
    pub(crate) fn on_expired(&mut self, now: Timestamp, addr: &Multiaddr) -> bool {
        let (before, reachable) = (self.external.len(), self.is_reachable());
        self.external.retain(|known| known != addr);
        if reachable && !self.is_reachable() {
            self.unreachable_since = Some(now);
        }
        self.external.len() < before
    }

    pub(crate) fn external(&self) -> &[Multiaddr] {
        &self.external
    }

    /// The mode as it was last decided.
    pub(crate) fn current(&self) -> Mode {
        self.current.unwrap_or(match self.chosen {
            Some(mode) => mode,
            None if self.is_reachable() => Mode::Server,
            None => Mode::Client,
        })
    }

    /// After the clock was set back, the last address must not have expired in the future.
    pub(crate) fn follow(&mut self, now: Timestamp) {
        self.unreachable_since = self.unreachable_since.map(|since| since.min(now));
    }

    /// When the mode changes unless an address is confirmed before.
    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        let waits = self.chosen.is_none() && self.current == Some(Mode::Server) && !self.is_reachable();
        if waits { self.unreachable_since.map(|since| since + self.hold) } else { None }
    }

    /// The mode to change to, and why; `None` if it stays. The first decision counts as a change.
    pub(crate) fn next_change(&mut self, now: Timestamp) -> Option<(Mode, ModeReason)> {
        let (mode, why) = self.target(now)?;
        if self.current == Some(mode) {
            return None;
        }
        self.current = Some(mode);
        Some((mode, why))
    }

    fn is_reachable(&self) -> bool {
        self.external.iter().any(|addr| self.policy.routes(addr.as_ref()) && !is_relayed(addr.as_ref()))
    }

    /// `None` while a server without an address waits for the next one.
    fn target(&self, now: Timestamp) -> Option<(Mode, ModeReason)> {
        match (self.chosen, self.poll_timeout()) {
            (Some(mode), _) => Some((mode, ModeReason::Chosen)),
            (None, _) if self.is_reachable() => Some((Mode::Server, ModeReason::ExternalAddr)),
            (None, Some(end)) if now < end => None,
            (None, Some(_)) => Some((Mode::Client, ModeReason::ExternalAddrLost)),
            (None, None) => Some((Mode::Client, ModeReason::NoExternalAddr)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(100);

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// A server since the second 0, by its one address.
    fn server() -> ModeSwitch {
        let mut mode = ModeSwitch::new(None, HOLD, AddressPolicy::Any);
        mode.on_confirmed(&addr(1));
        assert_eq!(mode.next_change(at(0)), Some((Mode::Server, ModeReason::ExternalAddr)));
        mode
    }

    #[test]
    fn automatic_follows_the_confirmed_addresses() {
        let mut mode = ModeSwitch::new(None, HOLD, AddressPolicy::Any);
        assert_eq!(
            mode.next_change(at(0)),
            Some((Mode::Client, ModeReason::NoExternalAddr)),
            "the first is reported too"
        );
        assert_eq!((mode.next_change(at(1)), mode.poll_timeout()), (None, None));
        assert!(mode.on_confirmed(&addr(1)));
        assert_eq!(mode.next_change(at(1)), Some((Mode::Server, ModeReason::ExternalAddr)), "at once");
        assert!(mode.on_confirmed(&addr(2)));
        assert!(!mode.on_confirmed(&addr(2)));
        assert!(mode.on_expired(at(2), &addr(1)));
        assert!(!mode.on_expired(at(3), &addr(1)));
        assert_eq!((mode.next_change(at(500)), mode.poll_timeout()), (None, None), "one is left");
        assert!(mode.on_expired(at(500), &addr(2)));
        assert_eq!((mode.next_change(at(599)), mode.poll_timeout()), (None, Some(at(600))));
        assert!(!mode.on_expired(at(599), &addr(2)), "and that it expires again puts nothing off");
        assert_eq!(mode.next_change(at(600)), Some((Mode::Client, ModeReason::ExternalAddrLost)));
        assert_eq!((mode.next_change(at(601)), mode.poll_timeout()), (None, None));
    }

    #[test]
    fn an_address_that_comes_and_goes_changes_nothing() {
        let mut mode = server();
        for second in 1..1_000 {
            // Confirmed for one second of every 99 s.
            match second % 99 {
                0 => drop(mode.on_confirmed(&addr(second as u16))),
                1 => drop(mode.on_expired(at(second), &addr(if second == 1 { 1 } else { second as u16 - 1 }))),
                _ => {}
            }
            assert_eq!(mode.next_change(at(second)), None, "second {second}");
            assert_eq!(mode.current(), Mode::Server);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let mut mode = server();
        mode.on_expired(at(1_000_000), &addr(1));
        mode.follow(at(10));
        assert_eq!((mode.next_change(at(109)), mode.poll_timeout()), (None, Some(at(110))));
        assert_eq!(mode.next_change(at(110)), Some((Mode::Client, ModeReason::ExternalAddrLost)));
    }

    #[test]
    fn without_a_hold_it_changes_at_once() {
        let mut mode = ModeSwitch::new(None, Duration::ZERO, AddressPolicy::Any);
        mode.on_confirmed(&addr(1));
        mode.next_change(at(0));
        mode.on_expired(at(1), &addr(1));
        assert_eq!(mode.next_change(at(1)), Some((Mode::Client, ModeReason::ExternalAddrLost)));
    }

    #[test]
    fn a_chosen_mode_overrides_until_it_is_unset() {
        let mut mode = ModeSwitch::new(Some(Mode::Server), HOLD, AddressPolicy::Any);
        assert_eq!(mode.current(), Mode::Server);
        assert_eq!(mode.next_change(at(0)), Some((Mode::Server, ModeReason::Chosen)));
        mode.on_confirmed(&addr(1));
        mode.on_expired(at(1), &addr(1));
        assert_eq!((mode.next_change(at(500)), mode.poll_timeout()), (None, None));
        mode.set(Some(Mode::Client));
        mode.on_confirmed(&addr(1));
        assert_eq!(mode.next_change(at(500)), Some((Mode::Client, ModeReason::Chosen)));
        mode.set(None);
        assert_eq!(mode.next_change(at(500)), Some((Mode::Server, ModeReason::ExternalAddr)));
        mode.set(Some(Mode::Server));
        assert_eq!(mode.next_change(at(500)), None, "the same for another reason is no change");
    }

    #[test]
    fn the_wait_is_for_servers_that_had_an_address() {
        let mut mode = server();
        mode.on_expired(at(1), &addr(1));
        mode.set(Some(Mode::Client));
        assert_eq!(mode.next_change(at(2)), Some((Mode::Client, ModeReason::Chosen)));
        mode.set(None);
        assert_eq!((mode.next_change(at(3)), mode.poll_timeout()), (None, None), "it does not begin to serve again");
        let mut mode = ModeSwitch::new(Some(Mode::Server), HOLD, AddressPolicy::Any);
        mode.next_change(at(0));
        mode.set(None);
        assert_eq!(mode.next_change(at(1)), Some((Mode::Client, ModeReason::NoExternalAddr)), "it never had one");
    }

    #[test]
    fn a_relay_alone_makes_no_server() {
        let relay = "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWHdiAxVd8uMQR1hGWXccidmfCwLqcMpGwR6QcTP6QRMuD/p2p-circuit";
        let relay: Multiaddr = relay.parse().unwrap();
        let [any, lan] = [AddressPolicy::Any, AddressPolicy::Lan];
        for (policy, direct) in [(any, addr(1)), (lan, addr(1)), (any, "/ip4/8.8.8.8/tcp/1".parse().unwrap())] {
            let mut mode = ModeSwitch::new(None, HOLD, policy);
            assert!(mode.on_confirmed(&relay), "it is sent to others all the same");
            assert_eq!(mode.next_change(at(0)), Some((Mode::Client, ModeReason::NoExternalAddr)));
            mode.on_confirmed(&direct);
            assert_eq!(mode.next_change(at(1)), Some((Mode::Server, ModeReason::ExternalAddr)));
            mode.on_expired(at(2), &direct);
            assert_eq!(mode.poll_timeout(), Some(at(2) + HOLD), "the relay does not hold it");
            let mut chosen = ModeSwitch::new(Some(Mode::Server), HOLD, policy);
            chosen.on_confirmed(&relay);
            assert_eq!(chosen.current(), Mode::Server, "the application may choose it");
        }
    }

    #[test]
    fn in_the_public_network_neither_a_relay_nor_a_private_address_makes_a_server() {
        let mut mode = ModeSwitch::new(None, HOLD, AddressPolicy::Public);
        let relay = "/ip4/8.8.8.8/tcp/1/p2p/12D3KooWHdiAxVd8uMQR1hGWXccidmfCwLqcMpGwR6QcTP6QRMuD/p2p-circuit";
        for addr in [addr(1), relay.parse().unwrap()] {
            assert!(mode.on_confirmed(&addr), "kept, since it may be sent");
        }
        assert_eq!(mode.next_change(at(0)), Some((Mode::Client, ModeReason::NoExternalAddr)));
        let public = "/ip4/8.8.8.8/tcp/2".parse().unwrap();
        mode.on_confirmed(&public);
        assert_eq!(mode.next_change(at(1)), Some((Mode::Server, ModeReason::ExternalAddr)));
        mode.on_expired(at(2), &public);
        assert_eq!(mode.poll_timeout(), Some(at(2) + HOLD), "the others do not hold it");
    }
}

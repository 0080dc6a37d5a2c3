//! Whether this node serves others: as it was told, or by what is known of its reachability.
//!
//! Knows: its confirmed external addresses and what the application wants. Must not know: peers.

use libp2p_core::Multiaddr;

use super::event::ModeReason;
use crate::core::Mode;

/// Decides the mode. Pure: told of facts, asked for the decision.
#[derive(Debug)]
pub(crate) struct ModeSwitch {
    /// What the application wants; `None` leaves it to the addresses.
    wanted: Option<Mode>,
    /// The confirmed external addresses, the longest confirmed first.
    external: Vec<Multiaddr>,
    /// What was decided last; `None` before the first decision.
    current: Option<Mode>,
}

impl ModeSwitch {
    pub(crate) fn new(wanted: Option<Mode>) -> ModeSwitch {
        ModeSwitch { wanted, external: Vec::new(), current: None }
    }

    pub(crate) fn set(&mut self, wanted: Option<Mode>) {
        self.wanted = wanted;
    }

    /// Returns whether the address is news.
    pub(crate) fn on_confirmed(&mut self, addr: &Multiaddr) -> bool {
        let news = !self.external.contains(addr);
        if news {
            self.external.push(addr.clone());
        }
        news
    }

    /// Returns whether the address was known.
    pub(crate) fn on_expired(&mut self, addr: &Multiaddr) -> bool {
        let before = self.external.len();
        self.external.retain(|known| known != addr);
        self.external.len() < before
    }

    pub(crate) fn external(&self) -> &[Multiaddr] {
        &self.external
    }

    /// The mode as it was last decided.
    pub(crate) fn current(&self) -> Mode {
        self.current.unwrap_or(self.target().0)
    }

    /// The mode to change to, and why; `None` if it stays. The first decision is a change.
    pub(crate) fn next_change(&mut self) -> Option<(Mode, ModeReason)> {
        let (mode, why) = self.target();
        if self.current == Some(mode) {
            return None;
        }
        self.current = Some(mode);
        Some((mode, why))
    }

    fn target(&self) -> (Mode, ModeReason) {
        match self.wanted {
            Some(mode) => (mode, ModeReason::Chosen),
            None if self.external.is_empty() => (Mode::Client, ModeReason::NoExternalAddr),
            None => (Mode::Server, ModeReason::ExternalAddr),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn automatic_follows_the_confirmed_addresses() {
        let mut mode = ModeSwitch::new(None);
        assert_eq!(mode.next_change(), Some((Mode::Client, ModeReason::NoExternalAddr)), "the first is told too");
        assert_eq!(mode.next_change(), None);
        assert!(mode.on_confirmed(&addr(1)));
        assert_eq!(mode.next_change(), Some((Mode::Server, ModeReason::ExternalAddr)));
        assert!(mode.on_confirmed(&addr(2)));
        assert!(!mode.on_confirmed(&addr(2)));
        assert!(mode.on_expired(&addr(1)));
        assert!(!mode.on_expired(&addr(1)));
        assert_eq!(mode.next_change(), None, "one is left");
        assert!(mode.on_expired(&addr(2)));
        assert_eq!(mode.next_change(), Some((Mode::Client, ModeReason::NoExternalAddr)));
    }

    #[test]
    fn what_is_chosen_overrides_until_it_is_taken_back() {
        let mut mode = ModeSwitch::new(Some(Mode::Server));
        assert_eq!(mode.current(), Mode::Server);
        assert_eq!(mode.next_change(), Some((Mode::Server, ModeReason::Chosen)));
        mode.on_confirmed(&addr(1));
        mode.on_expired(&addr(1));
        assert_eq!(mode.next_change(), None);
        mode.set(Some(Mode::Client));
        mode.on_confirmed(&addr(1));
        assert_eq!(mode.next_change(), Some((Mode::Client, ModeReason::Chosen)));
        mode.set(None);
        assert_eq!(mode.next_change(), Some((Mode::Server, ModeReason::ExternalAddr)));
        mode.set(Some(Mode::Server));
        assert_eq!(mode.next_change(), None, "the same for another reason is no change");
    }
}

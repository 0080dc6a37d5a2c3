//! Providers that this node keeps and of which no address is known any more: who of them is looked for, and how often.
//!
//! Knows: whom it looked for when. Must not know: how a peer is found.

use std::collections::VecDeque;
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::core::time::Timestamp;

/// A provider is looked for once in this time.
const PAUSE: Duration = Duration::from_secs(3_600);
/// So many are looked for in that time at most. Source: each costs about 20 requests, and whoever asks for providers draws
/// them with one: 20 requests a minute at most.
const AT_MOST: usize = 60;

#[derive(Debug, Default)]
pub(crate) struct ProviderSearches {
    /// The first first.
    begun: VecDeque<(Timestamp, PeerId)>,
}

impl ProviderSearches {
    /// Whether to look for this provider, now that someone asked for it. Then it counts as looked for.
    pub(crate) fn begin(&mut self, now: Timestamp, provider: PeerId) -> bool {
        while self.begun.front().is_some_and(|(at, _)| *at + PAUSE <= now) {
            self.begun.pop_front();
        }
        let begins = self.begun.len() < AT_MOST && self.begun.iter().all(|(_, peer)| *peer != provider);
        if begins {
            self.begun.push_back((now, provider));
        }
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_looked_for_once_an_hour_and_sixty_in_all() {
        let mut lost = ProviderSearches::default();
        let peers: Vec<_> = (0..100).map(|_| PeerId::random()).collect();
        let begun = |lost: &mut ProviderSearches, now| peers.iter().filter(|peer| lost.begin(now, **peer)).count();
        assert_eq!(begun(&mut lost, Timestamp::ZERO), AT_MOST);
        assert_eq!(begun(&mut lost, Timestamp::ZERO + PAUSE / 2), 0);
        assert_eq!(begun(&mut lost, Timestamp::ZERO + PAUSE), AT_MOST);
    }
}

//! Limits how often a node looks for providers that it stores without any address.
//!
//! Knows: which provider it looked for, and when. Must not know: how a peer is found.
//!
//! A server refuses the announcement of a peer of which it knows no address that it may hand out. A provider whose
//! addresses expired later is kept, is not handed out, and is looked up when a peer asks for it: at most once an hour,
//! sixty such searches in all, one lookup for all peers that ask.

use std::collections::VecDeque;
use std::time::Duration;

use libp2p_identity::PeerId;

use crate::core::time::Timestamp;

/// A provider is looked for once in this time.
const PAUSE: Duration = Duration::from_secs(3_600);
/// Maximum number of searches in that time. Source: a search costs about 20 requests, and one request for providers
/// causes it: 20 requests a minute at most.
const AT_MOST: usize = 60;

#[derive(Debug, Default)]
pub(crate) struct ProviderSearches {
    /// The searches of the last hour, oldest first.
    begun: VecDeque<(Timestamp, PeerId)>,
}

impl ProviderSearches {
    /// Whether to look for this provider, for which a peer asked. If so, the search counts from now on.
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
        let mut searches = ProviderSearches::default();
        let peers: Vec<_> = (0..100).map(|_| PeerId::random()).collect();
        let begun =
            |searches: &mut ProviderSearches, now| peers.iter().filter(|peer| searches.begin(now, **peer)).count();
        assert_eq!(begun(&mut searches, Timestamp::ZERO), AT_MOST);
        assert_eq!(begun(&mut searches, Timestamp::ZERO + PAUSE / 2), 0);
        assert_eq!(begun(&mut searches, Timestamp::ZERO + PAUSE), AT_MOST);
    }
}
